"""What an account used, as far as who looks may see it: a member's own requests are for their own eyes.

Others than the member see totals of the member, not its single requests, keys, models or days. Where the account agreed
to it (core/consents.py, member_requests), an owner sees single requests that came after that; each look is recorded.
"""

from collections.abc import Sequence
from datetime import datetime

from luntrex_proxy.control import acts
from luntrex_proxy.control.access import Person
from luntrex_proxy.core.audit import Fact
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.core.trail import Passage, Recorded, timeline
from luntrex_proxy.store import usagepages
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.usage import UsageRequest, micros
from luntrex_proxy.store.usagepages import GroupTotal, Only, totals_page
from luntrex_proxy.store.usageseries import Asked, Group, Sums, choices, series

__all__ = [
    "Asked",
    "Group",
    "GroupTotal",
    "Only",
    "Passage",
    "Sums",
    "UsageRequest",
    "choices",
    "micros",
    "own_requests",
    "record_look",
    "request_seen",
    "requests_seen",
    "series",
    "timeline_of",
    "totals_page",
]

own_requests = usagepages.requests_page  # the account's and one's own, no other member's: nothing is recorded


async def requests_seen(
    pool: Pool,
    person: Person,
    account_id: int,
    times: tuple[datetime, datetime],
    only: Only,
    after: tuple[datetime, str] | None,
    shown: int,
) -> list[UsageRequest]:
    """Single requests that the person may see, newest first: as many as are shown, and one more that tells of more.

    A look at other members' is recorded.
    """
    others = person.may(account_id, Permission.USAGE_MEMBERS)
    found = await usagepages.requests_page(
        pool, account_id, person.person_id, times, only, after, shown + 1, others=others
    )
    with acts.acting_as(person.way):
        await record_look(pool, account_id, found[:shown], person.person_id)
    return found


async def request_seen(pool: Pool, person: Person, account_id: int, request_id: str) -> UsageRequest | None:
    """One request of the account, if the person may see it. A look at another member's is recorded."""
    others = person.may(account_id, Permission.USAGE_MEMBERS)
    found = await usagepages.one_request(pool, account_id, person.person_id, request_id, others=others)
    if found is not None:
        with acts.acting_as(person.way):
            await record_look(pool, account_id, [found], person.person_id)
    return found


async def record_look(
    pool: Pool, account_id: int | None, found: Sequence[UsageRequest], viewer: str | None = None
) -> None:
    """One entry for one look at requests of other members than `viewer`: whose, and how many. None, no entry."""
    others = [each.member_id for each in found if each.member_id not in (None, viewer)]
    if not others:
        return
    what = found[0].request_id if len(found) == 1 else "usage.requests"
    facts: dict[str, Fact] = {"members": tuple(sorted(set(map(str, others)))), "requests": len(others)}
    with store_errors("record the look"):
        async with pool.acquire() as connection, connection.transaction():
            await acts.record(connection, "member.requests_seen", what, account_id, facts)


def timeline_of(request: UsageRequest) -> list[Passage]:
    """Where its time went, and which upstreams were not asked."""
    return timeline(Recorded(**{name: getattr(request, name) for name in Recorded.__slots__}))
