"""Who may do what, as a table: one row per operation of the API. It is written by hand, so that it can disagree.

An operation without a row fails test_authorization.py. `Row.place` makes what the operation is about, anew each time:
the refused calls of a row all aim at something that is there.
"""

import base64
import dataclasses
import datetime
import itertools
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from luntrex_proxy.console.api.operations import Operation, Who
from luntrex_proxy.control import consents, work
from luntrex_proxy.core.consents import Purpose
from luntrex_proxy.core.rights import Law, Right, State
from luntrex_proxy.core.roles import Permission, Role
from luntrex_proxy.gateway.request_id import new_request_id
from luntrex_proxy.store import apikeys, billing, childreports, incidents, labels, members, registry, rights
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.frames import encode_record
from luntrex_proxy.store.partitions import ensure_partitions
from luntrex_proxy.store.sealedbox import make_pair
from luntrex_proxy.store.usage_rows import insert_rows
from tests.console.conftest import Answer, Api
from tests.people import MAIL
from tests.postgres import LOOKUP
from tests.store.records import outcome

_numbers = itertools.count(1)
# Invitations are taken up without their link only where addresses are proven by letters.
BY_MAIL = {"mail": MAIL["mail"], "console": {"public_url": "http://localhost:8081"}}
PUBLIC_KEY = make_pair()[1]
_COLUMNS = (
    "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'"
    " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1"
)


def fresh() -> str:
    """A name that nothing has."""
    return f"n{next(_numbers)}"


def soon() -> str:
    """In a month."""
    return datetime.datetime.fromtimestamp(time.time() + 30 * 86_400, datetime.UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Caller:
    """Who asks: by a token or a session, what they are in `World.account`, or an operator."""

    name: str
    person_id: str = ""
    token: str | None = None
    session: str | None = None
    role: Role | None = None
    operator: bool = False
    scopes: frozenset[Permission] | None = None  # None: all
    foreign_role: Role | None = None  # in `World.foreign`


@dataclass(frozen=True)
class World:
    """Two accounts, everybody there is in the first of them, and some in both."""

    api: Api
    account: int
    foreign: int
    callers: tuple[Caller, ...]

    async def ask(self, caller: Caller, operation: Operation, place: Mapping[str, str], **more: Any) -> Answer:
        """One call of an operation."""
        path = operation.path.format_map(place)
        answer = await self.api.ask(operation.method, path, token=caller.token, session=caller.session, **more)
        await work.stop()  # what went on beside the answer writes no more
        return answer

    async def narrowed(self, caller: Caller, without: tuple[Permission, ...]) -> Caller:
        """The caller with a token that covers all but these."""
        scopes = frozenset(Permission) - set(without)
        token = await self.api.token(caller.person_id, scopes)
        await self.api.ask("GET", "/me", token=token)  # what a first use writes is written
        return dataclasses.replace(
            caller, name=f"{caller.name} without scope", token=token, session=None, scopes=scopes
        )


async def make_world(api: Api) -> World:
    """Everybody has asked once already: what a first use writes is written."""
    account, foreign = await api.account("own"), await api.account("foreign")
    callers = [Caller("nobody")]
    for role in (*Role, None):
        person = await api.person({account: role} if role else {})
        callers.append(Caller(role or "stranger", person, await api.token(person), None, role))
    for role, operator in ((Role.OWNER, False), (Role.VIEWER, False), (None, True)):
        person = await api.person({account: role} if role else {}, operator=operator)
        name = "operator" if operator else str(role)
        callers.append(Caller(f"{name} by session", person, None, await api.session(person), role, operator))
        if operator:
            callers.append(Caller(name, person, await api.token(person), None, role, operator))
    for role in (Role.OWNER, Role.VIEWER):  # in one account whoever may do everything in the other
        person = await api.person({account: role, foreign: Role.OWNER})
        token = await api.token(person)
        callers.append(Caller(f"{role}, owner there", person, token, None, role, foreign_role=Role.OWNER))
    await api.person({account: Role.OWNER})  # none of the others is the last one
    for caller in callers:
        await api.ask("GET", "/me", token=caller.token, session=caller.session)
    return World(api, account, foreign, tuple(callers))


async def contents(pool: Pool) -> dict[str, str]:
    """A hash of every table's rows, but for when tokens and sessions were used last: refused calls use them, too."""
    tables = [row[0] for row in await pool.fetch(_COLUMNS)]
    query = " UNION ALL ".join(
        f"SELECT '{table}', coalesce(md5(string_agg(r, '|' ORDER BY r)), '') FROM"
        f" (SELECT (to_jsonb(t) - ARRAY['last_used_at', 'last_used_on'])::text AS r FROM \"{table}\" t) rows"
        for table in tables
    )
    return {row[0]: row[1] for row in await pool.fetch(query)}


Place = Callable[[World, int, Caller], Awaitable[dict[str, str]]]


async def nothing(_world: World, _account: int, _caller: Caller) -> dict[str, str]:
    """The operation is about nothing in particular."""
    return {}


async def an_upstream(_world: World, _account: int, _caller: Caller) -> dict[str, str]:
    """The one that the services have."""
    return {"upstream": "up"}


async def a_key(world: World, account: int, _caller: Caller) -> dict[str, str]:
    """A key of the account's own."""
    name = await world.api.pool.fetchval("SELECT name FROM account WHERE account_id = $1", account)
    made = await apikeys.create(world.api.pool, LOOKUP, name, fresh(), bcrypt_cost=4)
    return {"key_id": made.info.key_id}


async def a_label(world: World, account: int, _caller: Caller) -> dict[str, str]:
    """A label that keys can carry."""
    return await _declared(world, account, "project", None)


async def an_unused_label(world: World, account: int, _caller: Caller) -> dict[str, str]:
    """One that no key carries and no budget is of."""
    return await _declared(world, account, "stage", None)


async def _declared(world: World, account: int, label: str, values: list[str] | None) -> dict[str, str]:
    name = await world.api.pool.fetchval("SELECT name FROM account WHERE account_id = $1", account)
    await labels.declare(world.api.pool, name, label, values)
    return {"label": label}


async def a_value(world: World, account: int, _caller: Caller) -> dict[str, str]:
    """The value of a label that has no other."""
    return {**await _declared(world, account, "team", ["search"]), "label_value": "search"}


async def a_labelled_key(world: World, account: int, caller: Caller) -> dict[str, str]:
    """A key of an account with a label."""
    return {**await a_label(world, account, caller), **await a_key(world, account, caller)}


async def a_suspended_key(world: World, account: int, caller: Caller) -> dict[str, str]:
    """A key that can be resumed."""
    place = await a_key(world, account, caller)
    await apikeys.suspend(world.api.pool, place["key_id"])
    return place


async def a_purpose(_world: World, _account: int, _caller: Caller) -> dict[str, str]:
    """Something to agree to."""
    return {"purpose": Purpose.TRAINING}


async def a_consent(world: World, account: int, _caller: Caller) -> dict[str, str]:
    """Something agreed to."""
    await consents.give(world.api.pool, account, Purpose.TRAINING)
    return {"purpose": Purpose.TRAINING}


async def a_subprocessor(world: World, account: int, _caller: Caller) -> dict[str, str]:
    """One that the package knows."""
    return {"subprocessor": "openai"}


async def an_objection(world: World, account: int, _caller: Caller) -> dict[str, str]:
    """Something objected to."""
    name = await world.api.pool.fetchval("SELECT name FROM account WHERE account_id = $1", account)
    await registry.object_to(world.api.pool, name, "openai")
    return {"subprocessor": "openai"}


async def a_member(world: World, account: int, _caller: Caller) -> dict[str, str]:
    """A member who is not the caller."""
    return {"person_id": await world.api.person({account: Role.VIEWER})}


async def a_person(world: World, _account: int, _caller: Caller) -> dict[str, str]:
    """Somebody who is in no account."""
    return {"person_id": await world.api.person()}


async def an_invitation(world: World, account: int, _caller: Caller) -> dict[str, str]:
    """Somebody who is asked in."""
    async with world.api.pool.acquire() as connection, connection.transaction():
        made = await members.invite(connection, account, f"{fresh()}@example.test", "viewer", None)
    return {"invitation_id": str(made.invitation_id)}


async def their_invitation(world: World, _account: int, caller: Caller) -> dict[str, str]:
    """The caller, whose address is proven, is asked into an account of its own."""
    owner = uuid.UUID(caller.person_id or await world.api.person())
    await world.api.pool.execute("UPDATE person SET email_verified_at = now() WHERE person_id = $1", owner)
    address = await world.api.pool.fetchval("SELECT email FROM person WHERE person_id = $1", owner)
    async with world.api.pool.acquire() as connection, connection.transaction():
        made = await members.invite(connection, await world.api.account(fresh()), address, "viewer", None)
    return {"invitation_id": str(made.invitation_id)}


async def a_notice(world: World, account: int, caller: Caller) -> dict[str, str]:
    """An incident of which the caller is to read here."""
    owner = uuid.UUID(caller.person_id or await world.api.person())
    place = await an_incident(world, account, caller)
    await incidents.notify(world.api.pool, int(place["incident_id"]), [owner], [], by_mail=False)
    return place


async def a_copy(world: World, _account: int, caller: Caller) -> dict[str, str]:
    """A copy of the caller's own data, which was fetched."""
    return await _ended_work(world, "export", {}, uuid.UUID(caller.person_id or await world.api.person()))


async def a_preview(world: World, _account: int, _caller: Caller) -> dict[str, str]:
    """A look at what prices of now would change."""
    about = {"since": "2026-01-01", "until": "2026-01-02", "account": None, "model": None, "apply": False}
    return await _ended_work(world, "repricing", about, None)


async def _ended_work(world: World, kind: str, about: dict[str, Any], person_id: uuid.UUID | None) -> dict[str, str]:
    async with work.told(world.api.pool, await work.begin(world.api.pool, kind, about, person_id)) as progress:
        return {"work_id": str(progress.work_id)}


async def a_token(world: World, _account: int, caller: Caller) -> dict[str, str]:
    """A token of the caller's own, not the one that is sent."""
    owner = caller.person_id or await world.api.person()
    return {"token_id": (await world.api.token(owner))[4:16]}


async def a_request(world: World, _account: int, caller: Caller) -> dict[str, str]:
    """An erasure that the caller asked for."""
    owner = uuid.UUID(caller.person_id or await world.api.person())
    async with world.api.pool.acquire() as connection, connection.transaction():
        made = await rights.insert(connection, Right.ERASE, Law.GDPR, "self", State.WAITING, person_id=owner)
    return {"reference": made.reference}


async def a_used_request(world: World, account: int, caller: Caller) -> dict[str, str]:
    """A request by a key of the caller's own."""
    pool, owner = world.api.pool, uuid.UUID(caller.person_id or await world.api.person())
    key_id, record = (await a_key(world, account, caller))["key_id"], outcome(next(_numbers))
    await pool.execute("UPDATE api_key SET person_id = $2 WHERE key_id = $1", key_id, owner)
    used = replace(record, request_id=new_request_id(record.started_us / 1e6), account_id=account, key_id=key_id)
    await ensure_partitions(pool, datetime.datetime.fromtimestamp(record.started_us / 1e6, datetime.UTC).date())
    async with pool.acquire() as connection, connection.transaction():
        await insert_rows(connection, [encode_record(used)])
    return {"request_id": used.request_id}


async def an_accounts_request(world: World, account: int, caller: Caller) -> dict[str, str]:
    """A request by a key that is no member's."""
    place = await a_used_request(world, account, caller)
    theirs = "(SELECT key_id FROM usage WHERE request_id = $1)"
    await world.api.pool.execute(
        f"UPDATE api_key SET person_id = NULL WHERE key_id = {theirs}",
        uuid.UUID(place["request_id"]),
    )
    return place


async def a_session(world: World, _account: int, caller: Caller) -> dict[str, str]:
    """A session of the caller's own, not the one that asks."""
    owner = uuid.UUID(caller.person_id or await world.api.person())
    session_id = await world.api.pool.fetchval(
        "INSERT INTO session (person_id, token_hash, network) VALUES ($1, $2, 'local') RETURNING session_id",
        owner,
        uuid.uuid4().bytes * 2,
    )
    return {"session_id": str(session_id)}


async def a_consenting_key(world: World, account: int, caller: Caller) -> dict[str, str]:
    """A service key of an account that agreed to debug captures."""
    await consents.give(world.api.pool, account, Purpose.DEBUG_CAPTURE)
    return await a_key(world, account, caller)


async def a_capture(world: World, account: int, _caller: Caller) -> dict[str, str]:
    """Somebody else's debug capture."""
    return await _captured(world, account, await world.api.person())


async def their_capture(world: World, account: int, caller: Caller) -> dict[str, str]:
    """A debug capture of the caller's own."""
    return await _captured(world, account, caller.person_id or await world.api.person())


async def _captured(world: World, account: int, person_id: str) -> dict[str, str]:
    key_id = (await a_key(world, account, Caller("")))["key_id"]
    capture_id = await world.api.pool.fetchval(
        "INSERT INTO debug_capture (account_id, key_id, person_id, public_key, requests_left, seconds_left, expires_at)"
        " VALUES ($1, $2, $3, $4, 1, 60, now() + interval '1 minute') RETURNING capture_id",
        account, key_id, uuid.UUID(person_id), PUBLIC_KEY,
    )  # fmt: skip
    return {"capture_id": str(capture_id)}


async def an_incident(world: World, _account: int, _caller: Caller) -> dict[str, str]:
    """An open one that reached nobody, of which everything is stated."""
    stated = {"nature": "A leak.", "consequences": "None.", "measures": "Mended."}
    now = datetime.datetime.fromtimestamp(time.time() - 60, datetime.UTC)
    made = await incidents.open_(world.api.pool, fresh(), now, (), stated)
    return {"incident_id": str(made.incident_id)}


async def a_report(world: World, _account: int, _caller: Caller) -> dict[str, str]:
    """A report about somebody who is here."""
    person_id = uuid.UUID(await world.api.person())
    address = await world.api.pool.fetchval("SELECT email FROM person WHERE person_id = $1", person_id)
    await childreports.receive(world.api.pool, address, None, "other")
    report_id = await world.api.pool.fetchval("SELECT report_id FROM child_report WHERE reported_address = $1", address)
    return {"report_id": str(report_id)}


async def a_confirmed_report(world: World, account: int, caller: Caller) -> dict[str, str]:
    """A report that somebody decided on."""
    place = await a_report(world, account, caller)
    await childreports.confirm(world.api.pool, uuid.UUID(place["report_id"]))
    return place


async def an_invoice(world: World, account: int, _caller: Caller) -> dict[str, str]:
    """An invoice of the account."""
    day = datetime.date(2026, 1, 31)
    made = await billing.issue(world.api.pool, account, fresh(), "Acme", "DE", Decimal("12.50"), "EUR", day)
    return {"invoice_id": str(made.invoice_id)}


async def a_month(_world: World, _account: int, _caller: Caller) -> dict[str, str]:
    """One that is over."""
    return {"month": "2026-01"}


async def an_entry(world: World, _account: int, _caller: Caller) -> dict[str, str]:
    """An entry of the register that counts already."""
    name = fresh()
    await registry.change(world.api.pool, name, {"hosts": (f"{name}.example",)}, in_use=True)
    return {"subprocessor": name}


def a_reach() -> dict[str, str]:
    """Something that an incident can reach."""
    return {"kind": "upstream", "object": "openai", "begins_at": "2026-01-31T00:00:00Z"}


@dataclass(frozen=True)
class Row:
    """Who may: roles in the account of the path, or a kind of person."""

    who: frozenset[Role] | Who
    operator: bool = True  # may who runs the installation, no member of the account
    hidden_from: frozenset[Role] = field(default_factory=frozenset)  # roles that are told: there is no such thing
    by_token: bool = True  # False: an operator needs a session
    place: Place = nothing
    body: Callable[[], Any] | None = None


def _roles(*roles: Role) -> frozenset[Role]:
    return frozenset(roles)


O, A, D, B, V, P = Role.OWNER, Role.ADMIN, Role.DEVELOPER, Role.BILLING, Role.VIEWER, Role.PRIVACY  # noqa: E741  # one letter a column of the table below
ROWS = {
    "members.list": Row(_roles(O, A, D, P)),
    "members.set_role": Row(_roles(O, A), place=a_member, body=lambda: {"role": "billing"}),
    "members.remove": Row(_roles(O, A), place=a_member),
    "invitations.list": Row(_roles(O, A, D, P)),
    "invitations.create": Row(_roles(O, A), body=lambda: {"email": f"{fresh()}@example.test", "role": "viewer"}),
    "invitations.withdraw": Row(_roles(O, A), place=an_invitation),
    "me.get": Row(Who.PERSON),
    "sessions.list": Row(Who.SIGNED_IN),
    "sessions.end": Row(Who.SIGNED_IN, place=a_session),
    "sessions.end_others": Row(Who.SIGNED_IN),
    "invitations.list_own": Row(Who.SIGNED_IN),
    "invitations.accept": Row(Who.SIGNED_IN, place=their_invitation),
    "invitations.turn_down": Row(Who.SIGNED_IN, place=their_invitation),
    "notices.list": Row(Who.SIGNED_IN),
    "notices.read": Row(Who.SIGNED_IN, place=a_notice),
    "work.list": Row(Who.OPERATOR),
    "work.list_own": Row(Who.PERSON),
    "work.get": Row(Who.PERSON, place=a_copy),
    "work.close_month": Row(Who.OPERATOR, body=lambda: {"month": "2026-01"}),
    "work.preview_prices": Row(Who.OPERATOR, body=lambda: {"since": "2026-01-01", "until": "2026-01-02"}),
    "work.apply_prices": Row(Who.OPERATOR, place=a_preview),
    "tokens.list": Row(Who.SIGNED_IN),
    "tokens.create": Row(
        Who.SIGNED_IN,
        body=lambda: {"name": fresh(), "scopes": ["keys:read"], "expires_at": soon()},
    ),
    "tokens.get": Row(Who.SIGNED_IN, place=a_token),
    "tokens.revoke": Row(Who.SIGNED_IN, place=a_token),
    "accounts.list": Row(Who.PERSON),
    "accounts.create": Row(Who.OPERATOR, body=lambda: {"name": fresh()}),
    "accounts.get": Row(_roles(O, A, D, B, V, P)),
    "accounts.change": Row(_roles(O, A), body=lambda: {"policy": None}),
    "accounts.suspend": Row(Who.OPERATOR),
    "accounts.resume": Row(Who.OPERATOR),
    "attempts.list": Row(Who.OPERATOR),
    "attempts.list_of_account": Row(_roles(O, A, V)),
    "audit.list": Row(Who.OPERATOR),
    "audit.list_of_account": Row(_roles(O, A, P)),
    "people.list": Row(Who.OPERATOR),
    "people.create": Row(Who.OPERATOR, body=lambda: {"email": f"{fresh()}@example.test", "affirmed_16": True}),
    "people.get": Row(Who.OPERATOR, place=a_person),
    "people.suspend": Row(Who.OPERATOR, place=a_person),
    "people.resume": Row(Who.OPERATOR, place=a_person),
    "people.reset": Row(Who.OPERATOR, place=a_person, by_token=False),
    "retention.get": Row(Who.OPERATOR),
    "privacy.inventory": Row(Who.ANYONE),
    "subprocessors.list": Row(Who.ANYONE),
    "privacy.retention": Row(Who.ANYONE),
    "privacy.policy": Row(Who.ANYONE),
    "rights.list_own": Row(Who.PERSON),
    "rights.access": Row(Who.SIGNED_IN),
    "rights.export": Row(Who.SIGNED_IN, body=dict),
    "rights.correct_name": Row(Who.SIGNED_IN, body=lambda: {"name": fresh()}),
    "rights.annotate": Row(Who.SIGNED_IN, place=a_used_request, body=lambda: {"note": "wrong"}),
    "rights.restrict": Row(Who.SIGNED_IN, body=dict),
    "rights.unrestrict": Row(Who.SIGNED_IN, body=dict),
    "rights.object": Row(Who.SIGNED_IN, body=dict),
    "rights.end_objection": Row(Who.SIGNED_IN, body=dict),
    "rights.erase": Row(Who.SIGNED_IN, body=dict),
    "rights.withdraw": Row(Who.SIGNED_IN, place=a_request),
    "rights.status": Row(Who.ANYONE, place=a_request),
    "rights.list": Row(Who.OPERATOR),
    "rights.clocks": Row(Who.OPERATOR),
    "rights.get": Row(Who.OPERATOR, place=a_request),
    "rights.answer": Row(Who.OPERATOR, place=a_request, body=lambda: {"outcome": "answered"}),
    "rights.refuse": Row(Who.OPERATOR, place=a_request, body=lambda: {"outcome": "excessive"}),
    "rights.extend": Row(Who.OPERATOR, place=a_request, body=lambda: {"reason": "complex"}),
    "incidents.list": Row(Who.OPERATOR),
    "incidents.list_of_account": Row(_roles(O, A, P)),
    "incidents.open": Row(Who.OPERATOR, body=lambda: {"title": fresh(), "reaches": [a_reach()]}),
    "incidents.drill": Row(Who.OPERATOR, body=lambda: {"reaches": [a_reach()]}),
    "incidents.get": Row(Who.OPERATOR, place=an_incident),
    "incidents.change": Row(Who.OPERATOR, place=an_incident, body=lambda: {"title": fresh()}),
    "incidents.close": Row(Who.OPERATOR, place=an_incident, body=lambda: {"conclusion": "Over."}),
    "incidents.affected": Row(Who.OPERATOR, place=an_incident),
    "incidents.affected_accounts": Row(Who.OPERATOR, place=an_incident),
    "incidents.affected_people": Row(Who.OPERATOR, place=an_incident),
    "incidents.drafts": Row(Who.OPERATOR, place=an_incident),
    "incidents.notify": Row(Who.OPERATOR, place=an_incident),
    "incidents.addresses": Row(Who.OPERATOR, place=an_incident),
    "incidents.notices": Row(Who.OPERATOR, place=an_incident),
    "child_reports.list": Row(Who.OPERATOR),
    "child_reports.get": Row(Who.OPERATOR, place=a_report),
    "child_reports.confirm": Row(Who.OPERATOR, place=a_report),
    "child_reports.dismiss": Row(Who.OPERATOR, place=a_report),
    "child_reports.take_back": Row(Who.OPERATOR, place=a_confirmed_report),
    "registry.list": Row(Who.OPERATOR),
    "registry.add": Row(Who.OPERATOR, body=lambda: {"name": fresh(), "hosts": [f"{fresh()}.example"]}),
    "registry.versions": Row(Who.OPERATOR, place=an_entry),
    "registry.set": Row(Who.OPERATOR, place=an_entry, body=lambda: {"purpose": fresh()}),
    "registry.retire": Row(Who.OPERATOR, place=an_entry),
    "invoices.list": Row(_roles(O, A, B)),
    "invoices.get": Row(_roles(O, A, B), place=an_invoice),
    "statements.list": Row(_roles(O, A, B)),
    "statements.get": Row(_roles(O, A, B), place=a_month),
    "statements.close": Row(Who.OPERATOR, place=a_month),
    "repricing.preview": Row(Who.OPERATOR),
    "upstreams.list": Row(Who.OPERATOR),
    "usage.totals": Row(_roles(O, A, D, B, V)),
    "usage.series": Row(_roles(O, A, D, B, V)),
    "usage.overview": Row(_roles(O, A, D, B, V)),
    "usage.requests": Row(_roles(O, A, D, B, V)),
    "usage.request": Row(_roles(O, A, D, B, V), place=an_accounts_request),
    "debug_captures.start": Row(
        _roles(O, A),
        operator=False,
        hidden_from=_roles(D),
        place=a_consenting_key,
        body=lambda: {"public_key": base64.b64encode(make_pair()[1]).decode()},
    ),
    "debug_captures.list": Row(_roles(O, A, D, V)),
    "debug_captures.get": Row(_roles(O, A, V), hidden_from=_roles(D), place=a_capture),
    "debug_captures.stop": Row(_roles(O, A), hidden_from=_roles(D), place=a_capture),
    "debug_captures.records": Row(_roles(O, A, D), operator=False, place=their_capture),
    "objections.list": Row(_roles(O, A, P)),
    "objections.make": Row(_roles(O, A, P), place=a_subprocessor),
    "objections.withdraw": Row(_roles(O, A, P), place=an_objection),
    "consents.list": Row(_roles(O, A, P)),
    "consents.give": Row(_roles(O), operator=False, place=a_purpose, body=lambda: {"text_version": 1}),
    "consents.withdraw": Row(_roles(O), operator=False, place=a_consent),
    "keys.list": Row(_roles(O, A, D, V)),
    "keys.create": Row(_roles(O, A), body=lambda: {"name": fresh(), "owner": "account"}),
    "keys.get": Row(_roles(O, A, V), hidden_from=_roles(D), place=a_key),
    "keys.limit": Row(_roles(O, A), hidden_from=_roles(D), place=a_key, body=lambda: {"regions": ["eu"]}),
    "keys.rotate": Row(_roles(O, A), hidden_from=_roles(D), place=a_key, body=lambda: {"overlap_s": 0}),
    "keys.suspend": Row(_roles(O, A), hidden_from=_roles(D), place=a_key),
    "keys.resume": Row(_roles(O, A), hidden_from=_roles(D), place=a_suspended_key),
    "keys.label": Row(_roles(O, A), place=a_labelled_key, body=lambda: {"labels": {"project": "x"}}),
    "labels.list": Row(_roles(O, A, D, B, V, P)),
    "labels.declare": Row(_roles(O, A), place=a_label, body=dict),
    "labels.remove": Row(_roles(O, A), place=an_unused_label),
    "limits.list": Row(_roles(O, A, V)),
    "models.list": Row(Who.OPERATOR),
    "models.list_of_account": Row(_roles(O, A, D, B, V, P)),
    "routes.get": Row(_roles(O, A, D, B, V, P)),
    "routes.set": Row(
        Who.OPERATOR,
        body=lambda: {"models": ["m*"], "own": [{"model": "m", "targets": [{"upstream": "up", "weight": 2}]}]},
    ),
    "routes.explain": Row(Who.OPERATOR, body=lambda: {"model": "m"}),
    "upstreams.begin_maintenance": Row(Who.OPERATOR, place=an_upstream, body=dict),
    "upstreams.end_maintenance": Row(Who.OPERATOR, place=an_upstream),
    "limits.set_of_account": Row(Who.OPERATOR, body=lambda: {"requests_per_minute": 5}),
    "limits.set_of_key": Row(_roles(O, A), place=a_key, body=lambda: {"requests_per_minute": 5}),
    "budgets.list": Row(_roles(O, A, B, V)),
    "budgets.set_of_account": Row(Who.OPERATOR, body=lambda: {"month": {"dollars": "5"}}),
    "budgets.set_of_key": Row(_roles(O, A), place=a_key, body=lambda: {"day": {"dollars": "0.50"}}),
    "budgets.set_of_member": Row(_roles(O, A), place=a_member, body=lambda: {"total": {"dollars": "5"}}),
    "budgets.set_of_label": Row(_roles(O, A), place=a_value, body=lambda: {"month": {"dollars": "5"}}),
    "budgets.set_time_zone": Row(Who.OPERATOR, body=lambda: {"time_zone": "Europe/Berlin"}),
    "keys.revoke": Row(_roles(O, A), hidden_from=_roles(D), place=a_key),
}
