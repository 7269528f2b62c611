"""The public list of sub-processors, from the register, the package and the configuration; and accounts' objections."""

import datetime
import time
from dataclasses import dataclass

from luntrex_proxy.control.accounts import get
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.registry import Entry, Register
from luntrex_proxy.settings.attributes import KNOWN
from luntrex_proxy.settings.registry import SHIPPED, judge
from luntrex_proxy.store import registry as table
from luntrex_proxy.store.errors import RefusedError

__all__ = ["Subprocessor", "object_to", "objections", "public_list", "withdraw"]


@dataclass(frozen=True, slots=True)
class Subprocessor:
    """One of the list. Empty: it is not known here."""

    name: str
    hosts: tuple[str, ...]
    purpose: str
    region: str
    retention: str
    training: str
    agreement: str
    commitments: str
    evidence: str
    next_review: datetime.date | None
    state: str  # complete and so on; pending: from `effective_on` on
    used: bool
    effective_on: datetime.date | None = None


async def public_list(services: Services) -> list[Subprocessor]:
    """Everybody who gets data now or will, as the register has them; those it lacks by their host."""
    now = _now()
    register = Register(await table.entries(services.pool), SHIPPED)
    entries = {entry.name: entry for entry in register.current(now)}
    found: dict[str, Subprocessor] = {}
    for each in judge(services.settings_now, register, now):
        name = each.listing.name or each.destination.host
        entry = entries.get(name)
        state, used = each.listing.state.value, each.usable
        found[name] = _of_entry(entry, state, used=used) if entry else _unentered(name, each.destination.host, state)
    for entry in register.pending(now):
        found[f"{entry.name} (announced)"] = _of_entry(entry, "pending", used=False)
    return sorted(found.values(), key=lambda one: (one.name, one.state))


async def objections(services: Services, account_id: int) -> list[str]:
    """What the account objected to."""
    await get(services.pool, account_id)
    return sorted((await table.objections(services.pool)).get(account_id, ()))


async def object_to(services: Services, account_id: int, name: str) -> None:
    """Nothing of the account goes there any more, within seconds. RefusedError: there is no such sub-processor."""
    await _check_known(services, name)
    await table.object_to(services.pool, (await get(services.pool, account_id)).name, name)


async def withdraw(services: Services, account_id: int, name: str) -> None:
    """The account takes its objection back."""
    await _check_known(services, name)
    await table.withdraw_objection(services.pool, (await get(services.pool, account_id)).name, name)


async def _check_known(services: Services, name: str) -> None:
    known = {known.name for known in SHIPPED} | {entry.name for entry in await table.entries(services.pool)}
    if name not in known:
        raise RefusedError("There is no sub-processor of this name.", "not_found")


def _of_entry(entry: Entry, state: str, *, used: bool) -> Subprocessor:
    agreement = f"{entry.agreement} ({entry.agreed_on})" if entry.agreement and entry.agreed_on else entry.agreement
    return Subprocessor(
        entry.name, entry.hosts, entry.purpose, entry.region, entry.kept, entry.training, agreement, entry.commitments,
        entry.evidence, entry.next_review, state, used, entry.effective_at.date() if state == "pending" else None,
    )  # fmt: skip


def _unentered(name: str, host: str, state: str) -> Subprocessor:
    known = next((one for one in KNOWN if one.provider.lower().replace(" ", "-") == name), None)
    evidence = "" if known is None else f"{known.evidence[0]} (read on {known.read})"
    return Subprocessor(name, (host,), "", "", "", "", "", "", evidence, None, state, used=True)


def _now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
