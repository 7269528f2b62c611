"""/me: what one is asked into and has to be told; /work: what takes long; /audit: who did what, narrowed down."""

import asyncio
import time
import uuid
from datetime import UTC, datetime

import pytest

from luntrex_proxy.control import members, work
from luntrex_proxy.control.access import Person
from luntrex_proxy.core.roles import Permission, Role
from luntrex_proxy.store import incidents
from luntrex_proxy.store.audit import Actor, acting_as, newest
from luntrex_proxy.store.database import Pool
from tests.console.conftest import Api


async def test_invitations_of_ones_own(api: Api, database: Pool) -> None:
    """Listed, and turned down; without mail taken up by their link only. Another's is not there."""
    account_id = await api.account("acme")
    owner, asked = await api.person({account_id: Role.OWNER}), await api.person()
    address = await database.fetchval("SELECT email FROM person WHERE person_id = $1", uuid.UUID(asked))
    who = Person(owner, roles={account_id: Role.OWNER})
    made, _ = await members.invite(api.services, who, account_id, address, Role.VIEWER)
    session, path = await api.session(asked), f"/me/invitations/{made.invitation_id}"
    (one,) = (await api.ask("GET", "/me/invitations", session=session)).body["items"]
    assert (one["id"], one["account"], one["role"]) == (str(made.invitation_id), "acme", "viewer")
    refused = await api.ask("POST", f"{path}/accept", session=session)
    assert (refused.status, refused.code) == (409, "needs_link")
    foreign = await api.session(owner)
    assert (await api.ask("POST", f"{path}/accept", session=foreign)).status == 404
    assert (await api.ask("DELETE", path, session=foreign)).status == 404
    assert (await api.ask("DELETE", path, session=session)).status == 204
    assert (await api.ask("GET", "/me/invitations", session=session)).body["items"] == []
    assert (await newest(database, 1))[0].actor == f"console:{asked}"


async def test_notices_of_ones_own(api: Api, database: Pool) -> None:
    """Told in the words of the banner until they are said to be read; of another's nothing is there."""
    person, other = await api.person(), await api.person()
    stated = {"nature": "A leak.", "consequences": "None.", "measures": "Mended."}
    opened = await incidents.open_(database, "lost disk", datetime.fromtimestamp(time.time(), UTC), (), stated)
    await incidents.notify(database, opened.incident_id, [uuid.UUID(person)], [], by_mail=False)
    session, path = await api.session(person), f"/me/notices/{opened.incident_id}/read"
    told = (await api.ask("GET", "/me/notices", session=session)).body
    assert told["contact"] == "privacy@example.test"
    assert [(each["title"], each["measures"]) for each in told["items"]] == [("lost disk", "Mended.")]
    assert (await api.ask("POST", path, session=await api.session(other))).status == 404
    assert (await api.ask("POST", path, session=session)).status == 204
    assert (await api.ask("GET", "/me/notices", session=session)).body["items"] == []
    assert (await api.ask("POST", path, session=session)).status == 404


async def test_long_work_by_programs(api: Api, database: Pool) -> None:
    """A look at prices, which one applies; a month closed; others see neither, but copies of their own data."""
    token = await api.token(await api.person(operator=True))
    reader = await api.token(await api.person(operator=True), [Permission.BILLING_READ])
    mine = await api.person()
    days = {"since": "2026-01-01", "until": "2026-01-02"}
    for wrong in (days | {"until": "2025-12-31"}, days | {"until": "2199-01-01"}):
        assert (await api.ask("POST", "/work/repricings", token=token, json=wrong)).status == 422
    begun = (await api.ask("POST", "/work/repricings", token=reader, json=days)).body
    path = f"/work/{begun['id']}"
    seen = begun
    while seen["state"] == "running":
        await asyncio.sleep(0.01)
        seen = (await api.ask("GET", path, token=reader)).body
    assert (seen["kind"], seen["state"], seen["about"]["apply"]) == ("repricing", "done", False)
    assert (await api.ask("POST", f"{path}/apply", token=reader)).status == 403
    applied = await api.ask("POST", f"{path}/apply", token=token)
    assert (applied.status, applied.body["about"]["apply"]) == (200, True)
    await work.stop()
    assert (await api.ask("POST", f"/work/{applied.body['id']}/apply", token=token)).status == 404, "no preview"
    for month in ("2026-13", "2199-01"):
        assert (await api.ask("POST", "/work/closings", token=token, json={"month": month})).status == 422
    assert (await api.ask("POST", "/work/closings", token=token, json={"month": "2026-01"})).body["kind"] == "closing"
    await work.stop()
    async with work.told(database, await work.begin(database, "export", {}, uuid.UUID(mine))) as copy:
        under_way = await api.ask("GET", f"/work/{copy.work_id}", token=await api.token(mine))
    assert (under_way.status, under_way.body["state"]) == (200, "running")
    own = (await api.ask("GET", "/me/work", token=await api.token(mine))).body["items"]
    assert [(each["id"], each["state"]) for each in own] == [(str(copy.work_id), "done")]
    assert (await api.ask("GET", path, token=await api.token(mine))).status == 404
    assert len((await api.ask("GET", "/work", token=reader)).body["items"]) == 4


@pytest.mark.parametrize("of_account", [False, True])
async def test_the_audit_log_is_narrowed_down(api: Api, database: Pool, of_account: bool) -> None:
    """By person, by address or id; by way; by time."""
    ada = await api.person()
    address = await database.fetchval("SELECT email FROM person WHERE person_id = $1", uuid.UUID(ada))
    with acting_as(Actor(f"console:{ada}", address)):
        account_id = await api.account("acme")
    reader = await api.person({account_id: Role.OWNER} if of_account else {}, operator=not of_account)
    token, path = await api.token(reader), f"/accounts/{account_id}/audit" if of_account else "/audit"

    async def found(query: str) -> list[str]:
        answer = await api.ask("GET", f"{path}?act=account.created{query}", token=token)
        return [each["account"] for each in answer.body["items"]]

    assert await found("") == ["acme"]
    for query, there in (
        (f"&who={address}", True), (f"&who={ada}", True), ("&who=eve@example.test", False),
        ("&who=command+line", False),
        ("&since=2026-01-01T00:00:00Z", True), ("&until=2026-01-01T00:00:00Z", False),
    ):  # fmt: skip
        assert await found(query) == ["acme"] * there, query
