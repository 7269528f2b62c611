"""The menu beside every page: what there is for this person. Entries come from the routes (frame.py)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from luntrex_proxy.control.access import Person
from luntrex_proxy.core.roles import Permission

ACCOUNT: Final = "account"  # pages below /accounts/{account_id}, for whom their permissions allow
OPERATOR: Final = "operator"  # for who runs the installation
YOU: Final = "you"
_HEADINGS: Final = {ACCOUNT: "Account", OPERATOR: "Installation", YOU: "You"}
_ACCOUNT_PATH: Final = "{account_id}"


@dataclass(frozen=True, slots=True)
class Menu:
    """A page's entry. `place` orders those of a group: leave gaps, such as 10, 20, 30. `covers`: other pages' paths."""

    label: str
    group: str
    place: int
    covers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it is shown to somebody."""

    label: str
    path: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class Section:
    """Entries under a heading."""

    group: str
    heading: str
    entries: Sequence[Entry]


def sections(
    routes: Sequence[tuple[Menu, str, Collection[Permission]]], person: Person, account_id: int | None, path: str
) -> list[Section]:
    """What the person is shown on the page at `path`. `routes`: entry, path, permissions of which one is enough."""
    shown = []
    for menu, pattern, permissions in sorted(routes, key=lambda each: each[0].place):
        if menu.group == ACCOUNT and not any(person.may(account_id or 0, each) for each in permissions):
            continue
        if menu.group != OPERATOR or person.operator:
            shown.append((menu, pattern.replace(_ACCOUNT_PATH, str(account_id))))
    # Of entries above each other the deepest is the current one.
    places = [(own, own) for _, own in shown]
    places += [(each.replace(_ACCOUNT_PATH, str(account_id)), own) for menu, own in shown for each in menu.covers]
    above = [(place, own) for place, own in places if path == place or path.startswith(place + "/")]
    current = max(above, key=lambda each: len(each[0]), default=("", ""))[1]
    found = []
    for group, heading in _HEADINGS.items():
        entries = [Entry(menu.label, own, own == current) for menu, own in shown if menu.group == group]
        if entries:
            found.append(Section(group, heading, entries))
    return found
