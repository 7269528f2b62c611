"""What one key may be used for: endpoints, models, regions, client networks. Read from words, asked at each request.

Scope.allows_endpoint / allows_model / allows_address    each True where nothing is said
read_scope(...)                                          the operator's words -> Scope, or BadScopeError
"""

import contextlib
import ipaddress
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from luntrex_proxy.core.call import ROUTE_NAMES
from luntrex_proxy.core.policy import REGION, Policy
from luntrex_proxy.core.refusals import Refusal

ENDPOINTS: Final = tuple(name for name in ROUTE_NAMES if name != "none")
# None begins as a key does: somebody may have put a whole one there, and limits are shown.
MODEL: Final = re.compile(r"(?!lx_)[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}\*?|\*")
ENTRIES_MAX: Final = 64  # of each kind: a scope is looked through at every request of its key
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")  # how IPv4 peers look to a dual-stack socket; here as IPv4
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def covers(names: Iterable[str], model: str) -> bool:
    """Whether a model is one of these names, or begins as one that ends in `*` does."""
    return any(model.startswith(name[:-1]) if name.endswith("*") else model == name for name in names)


class BadScopeError(Exception):
    """One sentence that says which word is no endpoint, model, region or network, and what would be one."""


class Scope(msgspec.Struct, frozen=True, gc=False):
    """What a key is limited to; None: no limit of that kind. Keys with equal scopes share one object."""

    endpoints: frozenset[str] | None = None
    models: tuple[str, ...] | None = None  # names, or beginnings that end in `*`
    regions: frozenset[str] | None = None
    networks: tuple[Network, ...] | None = None

    @property
    def is_restricted(self) -> bool:
        """Whether nothing may be done with the key, because its person asked that data only be stored."""
        return self is ONLY_STORED

    def allows_endpoint(self, name: str) -> bool:
        """Whether a route, by its name, may be asked."""
        return self.endpoints is None or name in self.endpoints

    def allows_model(self, model: str) -> bool:
        """Whether a model, by the name the client used, may be asked."""
        return self.models is None or covers(self.models, model)

    def allows_address(self, address: str) -> bool:
        """Whether a client at this address may use the key. An address nobody knows is outside every network."""
        if self.networks is None:
            return True
        try:
            read = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(read in network for network in self.networks)

    def check(self, endpoint: str, address: str) -> None:
        """What can be said of a request by its route and the client's address. Raises Refusal."""
        if self.is_restricted:
            raise Refusal("processing_restricted")
        if not self.allows_address(address):
            raise Refusal("address_not_allowed")
        if not self.allows_endpoint(endpoint):
            raise Refusal("endpoint_not_allowed")

    def narrow(self, policy: Policy) -> Policy:
        """The policy within this scope's regions."""
        return policy if self.regions is None else policy.narrowed(Policy(regions=self.regions))


ANYTHING: Final = Scope()
ONLY_STORED: Final = Scope(endpoints=frozenset())


def read_scope(
    endpoints: Iterable[str] = (),
    models: Iterable[str] = (),
    regions: Iterable[str] = (),
    networks: Iterable[str] = (),
) -> Scope:
    """The scope of these words; none of a kind: no limit of that kind. Raises BadScopeError."""
    for name in (endpoints := _bounded("endpoint", endpoints)):
        if name not in ENDPOINTS:
            raise BadScopeError(f"{name!r} is no endpoint; choose from {', '.join(ENDPOINTS)}.")
    for name in (models := _bounded("model", models)):
        if MODEL.fullmatch(name) is None:
            raise BadScopeError(f"{name!r} is no model name; give one as clients write it, or a beginning and `*`.")
    for name in (regions := _bounded("region", regions)):
        if REGION.fullmatch(name) is None:
            raise BadScopeError(f"{name!r} is no region; give a word that upstreams have as their region, such as eu.")
    return Scope(
        frozenset(endpoints) or None,
        models or None,
        frozenset(regions) or None,
        tuple(_network(text) for text in _bounded("network", networks)) or None,
    )


def _bounded(kind: str, words: Iterable[str]) -> tuple[str, ...]:
    kept = tuple(sorted(set(words)))
    if len(kept) > ENTRIES_MAX:
        raise BadScopeError(f"A key can be limited to {ENTRIES_MAX} {kind}s at most, not {len(kept)}.")
    return kept


def _network(text: str) -> Network:
    with contextlib.suppress(ValueError):
        network = ipaddress.ip_network(text)
        is_mapped = isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED)
        if "%" not in text and not is_mapped:
            return network
        raise BadScopeError(f"{text!r} names a zone or an IPv4 address in IPv6; write the plain network.")
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadScopeError(
            f"{text!r} is no network; write it as 192.0.2.0/24, 2001:db8::/32 or one address."
        ) from None
    raise BadScopeError(f"{text!r} has bits set behind its length; did you mean {meant}?")
