"""Which headers cross the gateway. Both lists are short on purpose: what is not named here stays on its own side."""

import re

from luntrex_proxy.core.call import Dialect

# What of the client's headers an upstream gets to see. Nothing of the client's network, software or person. And no
# idempotency-key: all accounts share one provider account, where one tenant's key would fetch another's stored answer.
TO_UPSTREAM: dict[Dialect, tuple[bytes, ...]] = {
    Dialect.OPENAI: (b"openai-beta",),
    Dialect.ANTHROPIC: (b"anthropic-version", b"anthropic-beta"),
}
# What of an upstream's headers a client gets to see. Rate limits are the shared provider account's: not among them.
TO_CLIENT = (b"content-type", b"retry-after", b"retry-after-ms", b"x-should-retry", b"openai-processing-ms")
# What of an upstream's error answer a client gets to see: when to come back.
WAIT_HEADERS = (b"retry-after", b"retry-after-ms", b"x-should-retry")

_USUAL = frozenset((b"application/json", b"text/event-stream", b"text/event-stream; charset=utf-8"))
_is_plain = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e\t]{0,1022}[\x21-\x7e])?").fullmatch


def copy_allowed(names: tuple[bytes, ...], headers: dict[bytes, bytes], lines: list[bytes]) -> None:
    """Append the allowed headers as complete lines; a value that is not plain printable ASCII is left out."""
    for name in names:
        if name in headers:
            value = headers[name]
            if value in _USUAL or _is_plain(value):
                lines += (name, b": ", value, b"\r\n")
