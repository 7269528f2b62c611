"""Incidents: from the register and the affected to notices. What a notice says stands in core/incidents.py."""

import datetime
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from luntrex_proxy.control.acts import record_read
from luntrex_proxy.core.incidents import Counted, Incident, Reach, gaps, to_authority, to_people
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.store import incidents as table
from luntrex_proxy.store.affected import Affected
from luntrex_proxy.store.affected import affected as find_affected
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.incidents import Notice
from luntrex_proxy.store.joined import joined

__all__ = [
    "Drafts",
    "Exercise",
    "GapsError",
    "addresses",
    "affected",
    "banners",
    "change",
    "close",
    "confirm_banner",
    "contact_of",
    "draft",
    "drill",
    "get",
    "list_all",
    "list_of_account",
    "missing",
    "notices",
    "notify",
    "open_",
]
banners, close, confirm_banner, get = table.banners, table.close, table.confirm_banner, table.get
list_all, list_of_account, open_ = table.list_all, table.list_of_account, table.open_


@dataclass(frozen=True, slots=True)
class Drafts:
    """Both notices, in Markdown."""

    to_authority: str
    to_people: str


@dataclass(frozen=True, slots=True)
class Exercise:
    """What an exercise found. `gaps`: places in the notices that are for people to fill."""

    number: int
    accounts: int
    people: int
    seconds: float
    gaps: int


class GapsError(RefusedError):
    """People cannot be told yet: `missing` has to be stated first."""

    def __init__(self, missing: Sequence[str]) -> None:
        ways = ["`luntrex-proxy incidents change`"] if set(missing) - {"contact"} else []
        ways += ["privacy.contact in the configuration"] if "contact" in missing else []
        super().__init__(f"Before people are told, state {', '.join(missing)}: {' and '.join(ways)}.", "not_stated")
        self.missing = tuple(missing)


def contact_of(settings: Settings) -> str:
    """Whom people can ask; "" where the configuration does not say."""
    return settings.privacy.contact or ""


def missing(settings: Settings, incident: Incident) -> list[str]:
    """What has to be stated before people are told: names of fields, and `contact` of the configuration."""
    return gaps(incident, contact_of(settings))


async def affected(pool: Pool, settings: Settings, incident_id: int, now: datetime.datetime) -> Affected:
    """Whom it reached, and an entry in the audit log that somebody looked."""
    _, reaches = await table.get(pool, incident_id)
    found = await find_affected(pool, reaches, _totals_from(settings, now))
    await table.record_reading(pool, incident_id)
    return found


async def draft(pool: Pool, settings: Settings, incident_id: int, now: datetime.datetime) -> Drafts:
    """Both notices with what is known by now."""
    incident, reaches = await table.get(pool, incident_id)
    found, contact = await find_affected(pool, reaches, _totals_from(settings, now)), contact_of(settings)
    counted = Counted(len(found.accounts), len(found.people), found.records, found.categories, found.wider)
    return Drafts(to_authority(incident, reaches, counted, contact, now), to_people(incident, contact))


async def notify(pool: Pool, settings: Settings, incident_id: int, now: datetime.datetime) -> int:
    """Tell everybody affected who was not told before; how many. GapsError: something is not stated yet."""
    incident, reaches = await table.get(pool, incident_id)
    unstated = missing(settings, incident)
    if unstated:
        raise GapsError(unstated)
    found = await find_affected(pool, reaches, _totals_from(settings, now))
    people = [person.person_id for person in found.people]
    accounts = [account.account_id for account in found.accounts]
    return await table.notify(pool, incident_id, people, accounts, by_mail=settings.mail.host is not None)


async def change(
    pool: Pool, incident_id: int, changes: Mapping[str, str | datetime.datetime], reaches: Sequence[Reach]
) -> tuple[Incident, list[Reach]]:
    """State more of it (keys of store/incidents.py's FIELDS), or that it reached more: all of it, or nothing."""
    with store_errors("change the incident"):
        async with pool.acquire() as connection, connection.transaction():
            whole = joined(connection)
            if changes:
                await table.change(whole, incident_id, changes)
            for reach in reaches:
                await table.add_reach(whole, incident_id, reach)
            return await table.get(whole, incident_id)


async def notices(pool: Pool, incident_id: int, after: int = 0, limit: int | None = None) -> list[Notice]:
    """Who was told and how that ended, those after the number `after`; reading is recorded. RefusedError."""
    await table.get(pool, incident_id)
    await record_read(pool, "incidents.notices")
    return await table.notices(pool, incident_id, after, limit)


async def addresses(pool: Pool) -> dict[int, list[str]]:
    """Whom to write to where no mail goes out, by incident; that an operator looked is recorded."""
    found = await table.unread(pool)
    if found:
        await record_read(pool, "incidents.addresses")
    return found


async def drill(pool: Pool, settings: Settings, reaches: Sequence[Reach], now: datetime.datetime) -> Exercise:
    """An exercise: entered, the affected found, both notices drafted, closed; nobody is told."""
    began_s = time.monotonic()
    number = (await table.open_(pool, "exercise", now, reaches, drill=True)).incident_id
    found = await affected(pool, settings, number, now)
    drafts = await draft(pool, settings, number, now)
    await table.close(pool, number, "exercise")
    places = (drafts.to_authority + drafts.to_people).count("[TO BE STATED")
    return Exercise(number, len(found.accounts), len(found.people), round(time.monotonic() - began_s, 3), places)


def _totals_from(settings: Settings, now: datetime.datetime) -> datetime.datetime:
    return now - datetime.timedelta(days=settings.retention.totals_days)
