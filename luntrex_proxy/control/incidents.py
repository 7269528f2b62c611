"""Incidents: from the register and the affected to notices. What a notice says stands in core/incidents.py."""

import datetime
from dataclasses import dataclass

from luntrex_proxy.core.incidents import Facts, Reach, gaps, to_authority, to_people
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.store import incidents as table
from luntrex_proxy.store.affected import Affected
from luntrex_proxy.store.affected import affected as find_affected
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.incidents import Incident

__all__ = ["Drafts", "Incident", "affected", "draft", "facts_of", "notify"]


@dataclass(frozen=True, slots=True)
class Drafts:
    """Both notices, in Markdown."""

    to_authority: str
    to_people: str


def contact_of(settings: Settings) -> str:
    """Whom people can ask; "" where the configuration does not say."""
    return settings.privacy.contact or ""


async def affected(pool: Pool, settings: Settings, incident_id: int, now: datetime.datetime) -> Affected:
    """Whom it reached, and an entry in the audit log that somebody looked."""
    _, reaches = await table.get(pool, incident_id)
    found = await find_affected(pool, reaches, _totals_from(settings, now))
    await table.record_reading(pool, incident_id)
    return found


async def draft(pool: Pool, settings: Settings, incident_id: int, now: datetime.datetime) -> Drafts:
    """Both notices with what is known by now."""
    incident, reaches = await table.get(pool, incident_id)
    found = await find_affected(pool, reaches, _totals_from(settings, now))
    facts = facts_of(incident, reaches, contact_of(settings), found)
    return Drafts(to_authority(facts, now), to_people(facts))


async def notify(pool: Pool, settings: Settings, incident_id: int, now: datetime.datetime) -> int:
    """Tell everybody affected who was not told before; how many. RefusedError: something is not stated yet."""
    incident, reaches = await table.get(pool, incident_id)
    missing = gaps(facts_of(incident, reaches, contact_of(settings)))
    if missing:
        raise RefusedError(f"Before people are told, state {', '.join(missing)}: `luntrex-proxy incidents change`.")
    found = await find_affected(pool, reaches, _totals_from(settings, now))
    people = [person.person_id for person in found.people]
    return await table.notify(pool, incident_id, people, by_mail=settings.mail.host is not None)


def facts_of(incident: Incident, reaches: list[Reach], contact: str, found: Affected | None = None) -> Facts:
    """What is known, for a notice."""
    counted = found or Affected()
    return Facts(
        incident_id=incident.incident_id,
        title=incident.title,
        aware_at=incident.aware_at,
        nature=incident.nature,
        consequences=incident.consequences,
        measures=incident.measures,
        contact=contact,
        drill=incident.drill,
        reaches=reaches,
        accounts=len(counted.accounts),
        people=len(counted.people),
        records=counted.records,
        categories=counted.categories,
        wider=counted.wider,
    )


def _totals_from(settings: Settings, now: datetime.datetime) -> datetime.datetime:
    return now - datetime.timedelta(days=settings.retention.totals_days)
