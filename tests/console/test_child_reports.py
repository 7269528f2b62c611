"""/child-reports: an operator reads and decides; what is decided once is decided."""

import uuid

from luntrex_proxy.store import audit, childreports
from tests.console.conftest import Api


async def test_reports_are_read_and_decided_on(api: Api) -> None:
    """Confirmed: suspended at once, the clock runs. Dismissed: the addresses are gone. Each reading is on record."""
    session = await api.session(await api.person(operator=True))
    kid = await api.person()
    address = await api.pool.fetchval("SELECT email FROM person WHERE person_id = $1", uuid.UUID(kid))
    for reported in (address, "nobody@example.test"):
        await childreports.receive(api.pool, reported, "mum@example.test", "parent")
    first = (await api.ask("GET", "/child-reports?limit=1", session=session)).body
    rest = (await api.ask("GET", f"/child-reports?limit=1&cursor={first['next_cursor']}", session=session)).body
    unknown, known = first["items"][0], rest["items"][0]
    assert [(each["is_known"], each["stage"]) for each in (known, unknown)] == [(True, None), (False, None)]
    confirm, dismiss = f"/child-reports/{known['id']}/confirm", f"/child-reports/{unknown['id']}/dismiss"
    assert (await api.ask("POST", f"/child-reports/{unknown['id']}/confirm", session=session)).code == "decided"
    confirmed = (await api.ask("POST", confirm, session=session)).body
    assert (confirmed["decision"], confirmed["stage"]) == ("confirmed", "running")
    assert await api.pool.fetchval("SELECT status FROM person WHERE person_id = $1", uuid.UUID(kid)) == "suspended"
    assert await api.pool.fetchval("SELECT count(*) FROM rights_request WHERE kind = 'erase'") == 1
    dismissed = (await api.ask("POST", dismiss, session=session)).body
    assert (dismissed["decision"], dismissed["reported_address"]) == ("dismissed", None)
    for path in (confirm, dismiss, f"/child-reports/{known['id']}/dismiss"):
        assert (await api.ask("POST", path, session=session)).code == "decided"
    still = (await api.ask("GET", "/child-reports?which=open", session=session)).body["items"]
    assert [each["id"] for each in still] == [known["id"]]
    assert (await api.ask("GET", f"/child-reports/{unknown['id']}", session=session)).body["decision"] == "dismissed"
    reads = [entry.object_id for entry in await audit.newest(api.pool, 50, act="operator.read")]
    assert reads == ["child_reports.get", *["child_reports.list"] * 3]
