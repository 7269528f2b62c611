"""Labels along a chart: no two steps are called the same."""

from datetime import UTC, datetime

import pytest

from luntrex_proxy.console.pages.charting import charted


@pytest.mark.parametrize(
    ("step", "since", "until", "zone", "first", "last"),
    [
        ("hour", "2026-10-24T22:00", "2026-10-25T23:00", "Europe/Berlin", "25 Oct 00:00 CEST", "25 Oct 23:00 CET"),
        ("hour", "2026-10-23T22:00", "2026-10-24T22:00", "Europe/Berlin", "24 Oct 00:00", "24 Oct 23:00"),
        ("day", "2025-11-30T00:00", "2026-12-01T00:00", "UTC", "Sun 30 Nov 2025", "Mon 30 Nov 2026"),
        ("day", "2026-11-29T00:00", "2026-12-01T00:00", "UTC", "Sun 29 Nov", "Mon 30 Nov"),
        ("week", "2020-11-30T00:00", "2026-12-01T00:00", "UTC", "week of 30 Nov 2020", "week of 30 Nov 2026"),
    ],
)
def test_no_two_steps_are_called_the_same(step: str, since: str, until: str, zone: str, first: str, last: str) -> None:
    """An hour that a day has twice says in which zone it is, a day or week of several years its year."""
    begin, end = (datetime.fromisoformat(at).replace(tzinfo=UTC) for at in (since, until))
    labels = [label for _, label, _ in charted([], "cost", begin, end, step, zone).rows]
    assert (labels[0], labels[-1]) == (first, last)
    assert len(set(labels)) == len(labels)
