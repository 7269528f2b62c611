"""What a probe of an upstream asks, made from its configuration. Who asks, and when, is not decided here."""

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probe:
    """A GET of a fixed path, with the key that requests have and nothing of any request."""

    url: str
    headers: tuple[tuple[str, str], ...]
    tls: ssl.SSLContext | None  # None: plain HTTP
    proxy: str | None
    every_s: float
    timeout_s: float
    fails: int
    passes: int

    def __repr__(self) -> str:
        return "Probe()"  # there is a key among the headers
