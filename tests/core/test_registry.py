"""The register's rules: which entry counts for a host, what lacks, and which change has to be announced."""

import datetime
from dataclasses import replace

import pytest

from luntrex_proxy.core.policy import RetentionKind, Training, Traits
from luntrex_proxy.core.registry import (
    BadEntryError,
    Entry,
    Register,
    Shipped,
    State,
    checked,
    is_due_soon,
    needs_notice,
)

NOW = datetime.datetime(2026, 11, 29, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(1)
ENTRY = Entry(
    "acme", 1, ("api.acme.example", ".eu.acme.example"), "inference", "eu", "abuse_monitoring:30", "never", "DPA 7",
    datetime.date(2026, 1, 1), "confidentiality, security", "https://acme.example/dpa", datetime.date(2027, 11, 1),
    False, NOW, NOW,
)  # fmt: skip
TRAITS = Traits.of("eu", RetentionKind.ABUSE_MONITORING, 30, Training.NEVER)
SHIPPED = (Shipped("known", ("api.known.example",), datetime.date(2026, 11, 1)),)


def look_up(*entries: Entry, host: str = "api.acme.example", traits: Traits | None = TRAITS) -> State:
    return Register(entries, SHIPPED).look_up(host, NOW, traits).state


@pytest.mark.parametrize("host", ["api.acme.example", "x.eu.acme.example"])
def test_a_complete_entry_counts_for_its_hosts(host: str) -> None:
    """For these and no others, in both modes."""
    listing = Register((ENTRY,), SHIPPED).look_up(host, NOW, TRAITS)
    assert (listing.state, listing.name) == (State.COMPLETE, "acme")
    assert listing.is_usable(strict=True)
    for other in ("acme.example", "eu.acme.example", "api.acme.example.evil.example", "xapi.acme.example"):
        assert look_up(ENTRY, host=other) is State.UNLISTED


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"purpose": ""}, "purpose"), ({"region": "unknown"}, "region"), ({"kept": "unknown"}, "retention"),
        ({"training": ""}, "training"), ({"agreement": ""}, "agreement"),
        ({"agreed_on": None}, "date of the agreement"),
        ({"commitments": ""}, "commitments"), ({"evidence": ""}, "evidence"), ({"next_review": None}, "next review"),
    ],
)  # fmt: skip
def test_what_is_incomplete_gets_nothing(changes: dict[str, object], missing: str) -> None:
    """In any mode; the listing names what lacks."""
    listing = Register((replace(ENTRY, **changes),), ()).look_up("api.acme.example", NOW, TRAITS)  # type: ignore[arg-type]  # of any kind
    assert (listing.state, listing.why) == (State.INCOMPLETE, f"nothing is said about {missing}")
    assert not listing.is_usable(strict=False)


def test_what_is_overdue_gets_nothing_and_says_so_before() -> None:
    """On the day of the review; thirty days ahead it is due soon."""
    for ahead, state, soon in ((31, State.COMPLETE, False), (30, State.COMPLETE, True), (1, State.COMPLETE, True),
                               (0, State.OVERDUE, True), (-1, State.OVERDUE, True)):  # fmt: skip
        entry = replace(ENTRY, next_review=(NOW + ahead * DAY).date())
        assert (look_up(entry), is_due_soon(entry, NOW)) == (state, soon)
    assert (
        not Register((replace(ENTRY, next_review=NOW.date()),)).look_up("api.acme.example", NOW).is_usable(strict=False)
    )


@pytest.mark.parametrize(
    "traits",
    [
        Traits.of("us", RetentionKind.ABUSE_MONITORING, 30, Training.NEVER),
        Traits.of(None, RetentionKind.ABUSE_MONITORING, 30, Training.NEVER),
        Traits.of("eu", RetentionKind.ABUSE_MONITORING, 31, Training.NEVER),
        Traits.of("eu", RetentionKind.NONE, None, Training.NEVER),
        Traits.of("eu", RetentionKind.ABUSE_MONITORING, 30, Training.YES),
        Traits(),
    ],
)
def test_register_and_settings_say_the_same(traits: Traits) -> None:
    """There is one truth about a provider: where the two differ it gets nothing."""
    assert look_up(ENTRY, traits=traits) is State.CONTRADICTED
    assert look_up(replace(ENTRY, kept="none"), traits=Traits.of("eu", RetentionKind.NONE, None, Training.NEVER)) is (
        State.COMPLETE
    )
    assert look_up(ENTRY, traits=None) is State.COMPLETE, "mail and databases have no such settings"


def test_known_providers_serve_where_nobody_is_strict() -> None:
    """With the evidence's date; what is unknown is used with a warning, in strict mode neither is."""
    register = Register((), SHIPPED)
    known, unknown = (register.look_up(host, NOW) for host in ("api.known.example", "api.acme.example"))
    assert (known.state, unknown.state) == (State.SHIPPED, State.UNLISTED)
    assert [listing.is_usable(strict=strict) for listing in (known, unknown) for strict in (False, True)] == [
        True, False, True, False,
    ]  # fmt: skip
    assert register.look_up("api.known.example", NOW + 367 * DAY).state is State.UNLISTED, "old evidence is none"


def test_retired_and_announced() -> None:
    """What was retired gets nothing, unless another entry took the host over; what was announced waits."""
    retired = replace(ENTRY, entry_version=2, retired=True)
    assert look_up(ENTRY, retired) is State.RETIRED
    assert look_up(ENTRY, retired, replace(ENTRY, name="heir")) is State.COMPLETE
    later = replace(ENTRY, effective_at=NOW + DAY)
    assert look_up(later) is State.PENDING
    assert look_up(ENTRY, replace(later, entry_version=2, kept="none")) is State.COMPLETE, "the old version holds"
    assert not Register((later,)).look_up("api.acme.example", NOW).is_usable(strict=False)


@pytest.mark.parametrize(
    ("changes", "notice"),
    [
        ({"agreement": "DPA 8"}, False), ({"next_review": None}, False), ({"kept": "none"}, False),
        ({"kept": "abuse_monitoring:7"}, False), ({"hosts": ("api.acme.example",)}, False), ({"retired": True}, False),
        ({"kept": "abuse_monitoring:31"}, True), ({"kept": "application_state:1"}, True), ({"kept": ""}, True),
        ({"training": "yes"}, True), ({"region": "us"}, True), ({"purpose": "analytics"}, True),
        ({"hosts": (*ENTRY.hosts, "new.example")}, True),
    ],
)  # fmt: skip
def test_only_what_is_wider_is_announced(changes: dict[str, object], notice: bool) -> None:
    """A narrowing, and what says nothing about data, holds at once."""
    assert needs_notice(ENTRY, replace(ENTRY, **changes)) is notice  # type: ignore[arg-type]  # of any kind
    assert needs_notice(None, ENTRY)
    assert needs_notice(replace(ENTRY, retired=True), ENTRY)


@pytest.mark.parametrize("host", ["", "a b.example", "https://a.example", "a.example:443", "x" * 254, "é.example"])
def test_what_is_no_host_is_not_entered(host: str) -> None:
    """By whatever way it comes: the API and the page say it in their own words."""
    with pytest.raises(BadEntryError) as refused:
        checked({"hosts": [host]}, datetime.date(2026, 1, 1))
    assert refused.value.field == "hosts"


def test_hosts_are_entered_in_one_form() -> None:
    """Names, what is below one, and addresses of both kinds."""
    hosts = ["API.acme.example", ".acme.example", "192.0.2.1", "2001:db8::1"]
    found = checked({"hosts": hosts}, datetime.date(2026, 1, 1))["hosts"]
    assert found == tuple(sorted(host.lower() for host in hosts))
