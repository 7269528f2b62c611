"""What a record says of a request's way: written short, read again, and put in the order of time."""

from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.refusals import REFUSALS
from luntrex_proxy.core.trail import (
    LONGEST,
    SENTENCES,
    Recorded,
    Step,
    asked,
    asked_last,
    join,
    left_out,
    read,
    timeline,
    waited,
)

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
TIMES = st.integers(0, 10**9)
STEPS = st.one_of(
    st.builds(
        lambda name, why: (left_out(name, why), Step(name, None, None, why)), NAMES, st.sampled_from([*SENTENCES])
    ),
    st.builds(
        lambda name, at, took, code: (asked(name, at, at + took, code), Step(name, at, took, code)),
        NAMES, TIMES, TIMES, st.sampled_from([*REFUSALS, "http_429"]),
    ),
    st.builds(lambda name, at: (asked_last(name, at), Step(name, at, None, "")), NAMES, TIMES),
    st.builds(lambda at, took: (waited("body", at, at + took), Step(".body", at, took, "")), TIMES, TIMES),
)  # fmt: skip


@given(st.lists(STEPS, max_size=40))
def test_what_was_written_is_read_again(steps: list[tuple[str, Step]]) -> None:
    """All of it, or its beginning and how much is missing; never longer than the spool keeps room for."""
    text = join([entry for entry, _ in steps])
    assert len(text) <= LONGEST
    assert not set(text) & set('"\\\n,[]')
    found, wanted = read(text), [step for _, step in steps]
    if found and found[-1].name == ".more":
        assert int(found[-1].code) == len(wanted) - (len(found) - 1) > 0
        found.pop()
        wanted = wanted[: len(found)]
    assert found == wanted


def test_what_nobody_understands_is_left_out() -> None:
    """A later release may write more."""
    assert read("") == []
    assert read("a=region;??;b@1+2=ok!;c@5") == [Step("a", None, None, "region"), Step("c", 5, None, "")]


def of(trail: str, **more: int) -> list[tuple[object, ...]]:
    """A timeline, short."""
    times = {"duration_us": 9_000, "first_byte_us": 7_000, "overhead_us": 300, "attempts": 1} | more
    found = timeline(Recorded(upstream="b", code="ok", trail=trail, **times))
    return [(each.station, each.upstream, each.start_us, each.took_us, each.code) for each in found]


def test_the_usual_request_has_three_parts() -> None:
    """Ours, the upstream's, the rest; of one that no upstream was asked for, ours alone."""
    assert of("") == [
        ("gateway", "", 0, 300, ""),
        ("forward", "b", 300, 6_700, "ok"),
        ("relay", "b", 7_000, 2_000, "ok"),
    ]
    assert of("", attempts=0, first_byte_us=0, duration_us=40) == [("gateway", "", 0, 40, "")]


def test_waits_attempts_and_who_was_not_asked() -> None:
    """Who was not asked comes first; waits are not counted as our own work."""
    trail = "x=region;.body@50+150;a@300+2000=http_429;.connect@2310+1500;b@3900"
    assert of(trail, attempts=2) == [
        ("route", "x", None, None, "region"),
        ("gateway", "", 0, 150, ""),
        ("body", "", 50, 150, ""),
        ("forward", "a", 300, 2_000, "http_429"),
        ("connect", "", 2_310, 1_500, ""),
        ("forward", "b", 3_900, 3_100, "ok"),
        ("relay", "b", 7_000, 2_000, "ok"),
    ]
