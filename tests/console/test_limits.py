"""/limits: the operator limits accounts, an account its keys; what cannot be is a problem that says so."""

from typing import Any

from luntrex_proxy.core.roles import Role
from luntrex_proxy.store import apikeys
from tests.console.conftest import Answer, Api
from tests.postgres import LOOKUP

EMPTY = dict.fromkeys(
    (
        "model", "requests_per_minute", "requests_per_hour", "requests_per_day", "tokens_per_minute",
        "tokens_per_hour", "tokens_per_day", "streams",
    )
)  # fmt: skip


async def test_limits_are_set_whole_and_listed(api: Api) -> None:
    """PUT says all limits for a model, so that what is left out is not limited any more; other models stay."""
    account_id = await api.account("acme")
    made = await apikeys.create(api.pool, LOOKUP, "acme", "ci", bcrypt_cost=4)
    operator = await api.token(await api.person(operator=True))
    admin = await api.token(await api.person({account_id: Role.ADMIN}))
    viewer = await api.token(await api.person({account_id: Role.VIEWER}))
    path = f"/accounts/{account_id}"

    async def put(token: str, where: str, **body: Any) -> Answer:
        return await api.ask("PUT", f"{path}{where}/limits", token=token, json=body)

    assert (await put(admin, "", requests_per_day=5)).status == 403, "or an account would lift what it was given"
    both = await put(operator, "", requests_per_minute=5, streams=2)
    assert both.body == {"models": [EMPTY | {"requests_per_minute": 5, "streams": 2}]}
    await put(operator, "", model="gpt-4*", tokens_per_day=10)
    assert (await put(operator, "", streams=2)).body["models"] == [
        EMPTY | {"streams": 2},
        EMPTY | {"model": "gpt-4*", "tokens_per_day": 10},
    ]
    key = f"/keys/{made.info.key_id}"
    assert (await put(viewer, key, streams=1)).status == 403
    assert (await put(admin, key, streams=1)).body["models"] == [EMPTY | {"streams": 1}]
    listed = (await api.ask("GET", f"{path}/limits", token=viewer)).body["limits"]
    assert [(each["key_id"], len(each["models"])) for each in listed] == [(None, 2), (made.info.key_id, 1)]
    await put(admin, key)
    assert len((await api.ask("GET", f"{path}/limits", token=viewer)).body["limits"]) == 1


async def test_what_cannot_be_is_a_problem(api: Api) -> None:
    """Out of bounds, contradictory, no model, no key; and nothing is half applied."""
    account_id = await api.account("acme")
    token = await api.token(await api.person(operator=True))
    path = f"/accounts/{account_id}/limits"
    for body, code in (
        ({"requests_per_minute": 0}, "invalid"),
        ({"requests_per_minute": -1}, "invalid"),
        ({"tokens_per_day": 10**12 + 1}, "invalid"),
        ({"tokens_per_day": "5"}, "invalid"),
        ({"cents_per_day": 5}, "invalid"),
        ({"model": "a b", "streams": 1}, "invalid"),
        ({"streams": 1, "requests_per_minute": 6, "requests_per_day": 5}, "bad_limits"),
    ):
        answer = await api.ask("PUT", path, token=token, json=body)
        assert (answer.status, answer.code) == (422, code), body
    nowhere = await api.ask("PUT", f"/accounts/{account_id}/keys/{'A' * 12}/limits", token=token, json={"streams": 1})
    assert nowhere.status == 404
    assert (await api.ask("GET", path, token=token)).body == {"limits": [], "used": []}
