"""An account at a glance: what it used against the time before, how fast answers began, what is left to spend."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from luntrex_proxy.control import spans
from luntrex_proxy.store import budgets, firstbytes, usageseries
from luntrex_proxy.store.budgets import BudgetInfo
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.usageseries import Asked, Group, Sums

PERIODS: Final = {"today": 1, "7d": 7, "30d": 30}  # days, the one that runs among them
_MODELS_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Overview:
    """What was used in a period and in the same span before it."""

    zone: str  # in which days begin
    since: datetime
    until: datetime
    step: str
    now: Sums
    before: Sums
    first_byte_ms: Sequence[float] | None  # p50 and p95 of streamed answers; None: there were none
    first_byte_before_ms: Sequence[float] | None
    models: Sequence[Group]


async def look(pool: Pool, account_id: int, viewer: str, zone: str, period: str, now: datetime) -> Overview:
    """The account's figures of one of PERIODS."""
    zone = spans.zone_for(zone, PERIODS[period])
    days = timedelta(days=PERIODS[period])
    today = spans.day_of(now, zone)
    since = spans.begin_of(today - days + timedelta(days=1), zone)
    before = since - days, now - days
    step = "hour" if period == "today" else "day"
    until = now if step == "hour" else spans.begin_of(today + timedelta(days=1), zone)
    asked = Asked(account_id, viewer, since, until, zone, step, "model", "requests", groups_max=_MODELS_MAX)
    return Overview(
        zone,
        since,
        now,
        step,
        await usageseries.total(pool, account_id, since, now),
        await usageseries.total(pool, account_id, *before),
        await firstbytes.percentiles_ms(pool, account_id, since, now, 50, 95),
        await firstbytes.percentiles_ms(pool, account_id, *before, 50, 95),
        await usageseries.series(pool, asked),
    )


async def budgets_of(pool: Pool, account_id: int, person_id: str) -> list[BudgetInfo]:
    """The budgets that hold who looks: the account's own, and the person's there."""
    found = await budgets.list_all(pool, account_id)
    own = (None, person_id)
    return [each for each in found if each.key_id is None and each.label is None and each.person_id in own]


async def began_at(pool: Pool, account_id: int) -> datetime | None:
    """The day of the account's first usage that is kept; None: nothing was used yet."""
    return await usageseries.began_at(pool, account_id)
