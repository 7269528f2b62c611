"""/budgets: the operator's for accounts, an account's for its keys and members; what cannot be is a problem."""

from typing import Any

from luntrex_proxy.core.roles import Role
from luntrex_proxy.store import apikeys
from tests.console.conftest import Answer, Api
from tests.postgres import LOOKUP


async def test_budgets_are_set_whole_and_listed(api: Api) -> None:
    """PUT says all of them, so that what is left out is not there any more; and how each stands."""
    account_id = await api.account("acme")
    made = await apikeys.create(api.pool, LOOKUP, "acme", "ci", bcrypt_cost=4)
    operator = await api.token(await api.person(operator=True))
    person = await api.person({account_id: Role.ADMIN})
    admin = await api.token(person)
    viewer = await api.token(await api.person({account_id: Role.VIEWER}))
    path = f"/accounts/{account_id}"

    async def put(token: str, where: str, **body: Any) -> Answer:
        return await api.ask("PUT", f"{path}{where}", token=token, json=body)

    assert (await put(admin, "/budgets", month={"dollars": "5"})).status == 403, "or an account would lift its own"
    soft = {"dollars": "2.50", "hard": False, "alert_percents": [90, 50], "when_away": "open"}
    answer = await put(operator, "/budgets", month={"dollars": "5"}, day=soft)
    day, month = answer.body["budgets"]
    assert (day["dollars"], day["hard"], day["alert_percents"], day["when_away"]) == ("2.50", False, [50, 90], "open")
    assert (month["hard"], month["alert_percents"], month["left_dollars"], month["key_id"]) == (
        True,
        [80, 100],
        "5",
        None,
    )
    assert [each["period"] for each in (await put(operator, "/budgets", day=soft)).body["budgets"]] == ["day"]
    key = f"/keys/{made.info.key_id}/budgets"
    assert (await put(viewer, key, total={"dollars": "1"})).status == 403
    assert (await put(admin, key, total={"dollars": "1"})).body["budgets"][0]["ends_at"] is None
    await put(admin, f"/members/{person}/budgets", total={"dollars": "1"})
    listed = (await api.ask("GET", f"{path}/budgets", token=viewer)).body["budgets"]
    assert [(each["key_id"], each["person_id"]) for each in listed] == [
        (None, None),
        (None, person),
        (made.info.key_id, None),
    ]
    assert (await put(operator, "/time-zone", time_zone="Asia/Kathmandu")).status == 200
    assert (await api.ask("GET", f"{path}/budgets", token=viewer)).body["budgets"][0]["begins_at"].endswith("18:15:00Z")


async def test_what_cannot_be_is_a_problem(api: Api) -> None:
    """No amount, contradictory, nobody; and nothing is half applied."""
    account_id = await api.account("acme")
    token = await api.token(await api.person(operator=True))
    path = f"/accounts/{account_id}"
    for body, code in (
        ({"month": {"dollars": "0"}}, "invalid"),
        ({"month": {"dollars": "-1"}}, "invalid"),
        ({"month": {"dollars": 5}}, "invalid"),
        ({"month": {"dollars": "1e3"}}, "invalid"),
        ({"month": {"dollars": "1.2345678"}}, "invalid"),
        ({"month": {"dollars": "1000000001"}}, "invalid"),
        ({"month": {"dollars": "5", "alert_percents": [0]}}, "invalid"),
        ({"month": {"dollars": "5", "alert_percents": list(range(1, 10))}}, "invalid"),
        ({"month": {"dollars": "5", "when_away": "ajar"}}, "invalid"),
        ({"week": {"dollars": "5"}}, "invalid"),
        ({"month": {"dollars": "5"}, "day": {"dollars": "6"}}, "bad_budgets"),
        ({"month": {"dollars": "5", "hard": False, "alert_percents": []}}, "bad_budgets"),
    ):
        answer = await api.ask("PUT", f"{path}/budgets", token=token, json=body)
        assert (answer.status, answer.code) == (422, code), body
    for nowhere in (f"/keys/{'A' * 12}/budgets", f"/members/{'0' * 8}-0000-0000-0000-{'0' * 12}/budgets"):
        assert (await api.ask("PUT", path + nowhere, token=token, json={"day": {"dollars": "1"}})).status == 404
    for zone, code in (("Mars/Olympus", "bad_time_zone"), ("", "invalid")):
        assert (await api.ask("PUT", f"{path}/time-zone", token=token, json={"time_zone": zone})).code == code
    assert (await api.ask("GET", f"{path}/budgets", token=token)).body == {"budgets": []}
