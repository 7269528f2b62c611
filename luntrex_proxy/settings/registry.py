"""Where this configuration sends anything, and what the register of sub-processors says of each place."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from luntrex_proxy.core.registry import Closed, Listing, Register, Shipped, State, is_due_soon
from luntrex_proxy.settings.attributes import KNOWN
from luntrex_proxy.settings.egress import Destination, destinations
from luntrex_proxy.settings.errors import ConfigError

if TYPE_CHECKING:
    from luntrex_proxy.settings.model import Settings

SHIPPED: Final = tuple(
    Shipped(known.provider.lower().replace(" ", "-"), known.hosts, datetime.date.fromisoformat(known.read))
    for known in KNOWN
)


@dataclass(frozen=True, slots=True)
class Judged:
    """One remote place, what the register says of it, and whether anything is sent there."""

    destination: Destination
    listing: Listing
    usable: bool

    @property
    def sentence(self) -> str:
        """For people who can mend it."""
        does = "is used all the same" if self.usable else "gets nothing"
        where = f"{self.destination.purpose} ({self.destination.host})"
        return (
            f"The register of sub-processors does not cover {where}: {self.listing.why}. It {does}; "
            f"complete the entry with `luntrex-proxy registry set {self.listing.name or 'NAME'}`."
        )


def is_strict(settings: "Settings") -> bool:
    """Whether nothing may be sent to whom the register does not know."""
    return settings.security.policy == "strict"


def judge(settings: "Settings", register: Register, now: datetime.datetime) -> list[Judged]:
    """Every remote place of the configuration, in its order; what is on this machine needs no entry."""
    traits = {upstream.name: upstream.traits for upstream in settings.upstreams}
    found = []
    for destination in destinations(settings):
        if destination.host:
            is_upstream = destination.purpose == f"upstream {destination.upstream}"
            expected = traits[destination.upstream] if is_upstream else None
            listing = register.look_up(destination.host, now, expected)
            found.append(Judged(destination, listing, listing.is_usable(strict=is_strict(settings))))
    return found


def closed(
    settings: "Settings", register: Register, objections: Mapping[int, frozenset[str]], now: datetime.datetime
) -> Closed:
    """The upstreams that get nothing: because of their own place or of the proxy on the way to it."""
    judged = [each for each in judge(settings, register, now) if each.destination.upstream]
    behind: dict[str, set[str]] = {}  # sub-processor -> upstreams it sees something of
    for each in judged:
        host = each.destination.host
        for name in {each.listing.name or host} | register.seen_by(host, now):
            behind.setdefault(name, set()).add(each.destination.upstream)
    return Closed(
        frozenset(each.destination.upstream for each in judged if not each.usable),
        {
            account_id: upstreams
            for account_id, names in objections.items()
            if (upstreams := frozenset(upstream for name in names for upstream in behind.get(name, ())))
        },
    )


def warnings(judged: list[Judged]) -> list[str]:
    """A sentence for each place that nobody vouches for. What the package knows is none, where it is used."""
    return [
        each.sentence for each in judged if not each.usable or each.listing.state not in (State.COMPLETE, State.SHIPPED)
    ]


def due_soon(settings: "Settings", register: Register, now: datetime.datetime) -> list[str]:
    """A sentence for each entry in use whose review comes up, so that nothing stops by surprise."""
    used = {each.listing.name for each in judge(settings, register, now) if each.listing.state is State.COMPLETE}
    return [
        f"The review of sub-processor {entry.name} is due on {entry.next_review}; from then on it gets nothing. "
        f"Review it, then run `luntrex-proxy registry set {entry.name} --next-review DATE`."
        for entry in register.current(now)
        if entry.name in used and is_due_soon(entry, now)
    ]


def refuse_unvetted(judged: list[Judged]) -> None:
    """Raise ConfigError when something that is not an upstream may not be used: nothing works without it."""
    lines = [each.sentence for each in judged if not each.usable and not each.destination.upstream]
    if lines:
        raise ConfigError(lines)
