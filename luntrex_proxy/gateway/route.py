"""Station 5, route: a permit becomes the ordered targets that may serve it, each with the request it would be sent."""

import random
import re

from luntrex_proxy.core.call import Grammar, Route
from luntrex_proxy.core.catalogue import Candidate, Catalogue, choose_order
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.core.wire.headers import TO_UPSTREAM, copy_allowed
from luntrex_proxy.core.wire.splice import Changes, rewrite
from luntrex_proxy.gateway.accept import Call
from luntrex_proxy.gateway.authorise import Permit
from luntrex_proxy.gateway.http.origin import Origin
from luntrex_proxy.gateway.ports import Prices

_MODEL_PATH = re.compile(rb"[A-Za-z0-9._:@-]+(?:/[A-Za-z0-9._:@-]+)*")


class Upstream:
    """One configured upstream as the way of a request uses it."""

    __slots__ = ("_fixed_headers", "base_path", "inject_usage", "name", "origin")

    def __init__(
        self, *, name: str, origin: Origin, base_path: bytes, fixed_headers: bytes, inject_usage: bool
    ) -> None:
        self.name = name
        self.origin = origin
        self.base_path = base_path
        self.inject_usage = inject_usage
        self._fixed_headers = fixed_headers  # Host, credentials and constants, as complete lines

    def request(
        self, route: Route, headers: dict[bytes, bytes], body: bytes, model_id: str = "", page: bytes = b""
    ) -> bytes:
        """A whole request, built from zero."""
        parts = [route.method.encode(), b" ", self.base_path, route.upstream_path]
        if model_id:
            name = model_id.encode()
            if _MODEL_PATH.fullmatch(name) is None or b".." in name or b"." in name.split(b"/"):
                raise Refusal("model_not_found")
            parts += (b"/", name)
        if page:
            parts += (b"?", page)
        parts += (b" HTTP/1.1\r\n", self._fixed_headers)
        copy_allowed(TO_UPSTREAM[route.dialect], headers, parts)
        if route.method == "POST":
            parts += (b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body), body)
        else:
            parts.append(b"\r\n")
        return b"".join(parts)


class Target:
    """One upstream that may serve the request."""

    __slots__ = ("candidate", "upstream")

    def __init__(self, upstream: Upstream, candidate: Candidate) -> None:
        self.upstream = upstream
        self.candidate = candidate

    def injects_usage(self, route: Route, fields: Fields) -> bool:
        """Whether the stream's usage has to be asked for on the client's behalf."""
        return (
            route.grammar is Grammar.CHAT and fields.stream and not fields.include_usage and self.upstream.inject_usage
        )

    def request(self, call: Call, body: bytes, fields: Fields | None) -> bytes:
        """The whole request: the client's body with the permitted changes spliced in, all else made here."""
        route = call.route
        if fields is None:
            name = (self.candidate.model or call.model_id) if call.model_id else ""
            return self.upstream.request(route, call.headers, b"", name, call.page)
        changes = Changes(model=self.candidate.model, include_usage=self.injects_usage(route, fields))
        return self.upstream.request(route, call.headers, rewrite(route, body, fields, changes))


class Routing:
    """The catalogue, prices and upstreams of one configuration; never changed, only replaced."""

    __slots__ = ("catalogue", "prices", "upstreams")

    def __init__(self, catalogue: Catalogue, prices: Prices, upstreams: dict[str, Upstream]) -> None:
        self.catalogue = catalogue
        self.prices = prices
        self.upstreams = upstreams

    def close(self) -> None:
        """Close the idle upstream connections; what is under way ends by itself."""
        for upstream in self.upstreams.values():
            upstream.origin.close()


def choose(permit: Permit, upstreams: dict[str, Upstream]) -> list[Target]:
    """Targets in the order in which they are asked. Raises Refusal when there is none."""
    candidates = choose_order(permit.resolution.candidates, random.random())  # noqa: S311 -- spreads load, guards nothing
    targets = [Target(upstreams[c.upstream], c) for c in candidates if c.upstream in upstreams]
    if not targets:
        raise Refusal("no_upstream")
    return targets
