"""/accounts, the first resource: what it shows, changes and refuses, by whom, and with what effect on the tables."""

import asyncio

from luntrex_proxy.core.roles import Role
from tests.console.conftest import Api

POLICY = "region=eu; retention=none; training=never"


async def test_an_operator_makes_an_account_and_a_member_sees_it(api: Api) -> None:
    """Made once, named by Location, audited with the person; others do not know that it exists."""
    operator = await api.person(operator=True)
    session = await api.session(operator)
    made = await api.ask("POST", "/accounts", session=session, json={"name": "acme", "policy": POLICY})
    assert made.status == 201
    assert made.body["name"] == "acme"
    assert made.body["policy"] == POLICY
    account_id = made.body["id"]
    assert made.headers["Location"] == f"/api/v1/accounts/{account_id}"
    actor = await api.pool.fetchval("SELECT actor FROM audit_entry WHERE act = 'account.created'")
    assert actor == f"console:{operator}"
    viewer = await api.token(await api.person({account_id: Role.VIEWER}))
    seen = await api.ask("GET", f"/accounts/{account_id}", token=viewer)
    assert (seen.status, seen.body["role"]) == (200, "viewer")
    stranger = await api.token(await api.person())
    foreign = await api.ask("GET", f"/accounts/{account_id}", token=stranger)
    unknown = await api.ask("GET", "/accounts/987654321", token=stranger)
    assert (foreign.status, foreign.raw) == (404, unknown.raw)
    taken = await api.ask("POST", "/accounts", session=session, json={"name": "acme"})
    assert (taken.status, taken.code) == (409, "name_taken")


async def test_lists_have_cursors_that_inserts_do_not_disturb(api: Api) -> None:
    """Each account once, whatever is made meanwhile; a cursor of another list or a changed one is refused."""
    ids = [await api.account(f"a{number}") for number in range(5)]
    token = await api.token(await api.person(operator=True))
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        answer = await api.ask("GET", f"/accounts?limit=2{cursor}", token=token)
        seen += [account["id"] for account in answer.body["items"]]
        following, pages = answer.body["next_cursor"], pages + 1
        cursor = following and f"&cursor={following}"
        if pages == 1:
            ids.append(await api.account("late"))
            first = following
    assert (seen, pages) == (ids, 3)
    member = await api.token(await api.person({ids[1]: Role.VIEWER, ids[3]: Role.OWNER}))
    theirs = await api.ask("GET", "/accounts", token=member)
    assert [account["id"] for account in theirs.body["items"]] == [ids[1], ids[3]]
    for bad in (first[:-1], "x" + first[1:], "%00", "A" * 900):
        answer = await api.ask("GET", f"/accounts?cursor={bad}", token=token)
        assert (answer.status, answer.code) == (400, "bad_cursor")


async def test_a_policy_can_be_narrowed_by_members_and_widened_by_the_operator(api: Api) -> None:
    """An admin stays within the installation's default; two who change it at once do not overwrite each other."""
    account_id = await api.account("acme")
    admin = await api.token(await api.person({account_id: Role.ADMIN}))
    operator = await api.token(await api.person(operator=True))
    path = f"/accounts/{account_id}"
    etag = (await api.ask("GET", path, token=admin)).headers["ETag"]
    both = await asyncio.gather(
        *(
            api.ask("PATCH", path, token=admin, json={"policy": policy}, headers={"If-Match": etag})
            for policy in (POLICY, None)
        )
    )
    assert sorted(answer.status for answer in both) == [200, 412]
    wide = {"policy": "retention=unknown; training=yes"}
    refused = await api.ask("PATCH", path, token=admin, json=wide)
    assert (refused.status, refused.code) == (403, "wider_policy")
    assert (await api.ask("PATCH", path, token=operator, json=wide)).body["policy"] == wide["policy"]
    wrong = await api.ask("PATCH", path, token=operator, json={"policy": "nonsense"})
    assert (wrong.status, wrong.code) == (422, "bad_policy")


async def test_suspending_is_the_operators(api: Api) -> None:
    """An owner cannot undo it; every process hears of it."""
    account_id = await api.account("acme")
    owner = await api.token(await api.person({account_id: Role.OWNER}))
    operator = await api.token(await api.person(operator=True))
    before = await api.pool.fetchval("SELECT version FROM change_version")
    done = await api.ask("POST", f"/accounts/{account_id}/suspend", token=operator)
    assert (done.status, done.body["status"]) == (200, "suspended")
    assert await api.pool.fetchval("SELECT version FROM change_version") == before + 1
    assert (await api.ask("POST", f"/accounts/{account_id}/resume", token=owner)).status == 403
    assert await api.pool.fetchval("SELECT status FROM account") == "suspended"
