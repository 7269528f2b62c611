"""/consents: owners give and withdraw, others read or do not know of them; a wider policy needs a consent first."""

from luntrex_proxy.core.roles import Role
from tests.console.conftest import Api


async def test_only_an_owner_agrees(api: Api) -> None:
    """To the words that were shown; privacy and admins read; what another account agreed to is nobody's business."""
    account_id = await api.account("acme")
    path = f"/accounts/{account_id}/consents"
    owner = await api.person({account_id: Role.OWNER})
    tokens = {role: await api.token(await api.person({account_id: role})) for role in Role}
    tokens["operator"] = await api.token(await api.person(operator=True))
    tokens["stranger"] = await api.token(await api.person())
    body = {"text_version": 1}
    for who, token in tokens.items():
        given = await api.ask("PUT", f"{path}/training", token=token, json=body)
        assert given.status == {Role.OWNER: 200, "stranger": 404}.get(who, 403), who
        read = await api.ask("GET", path, token=token)
        may_read = who in (Role.OWNER, Role.ADMIN, Role.PRIVACY, "operator")
        assert read.status == (200 if may_read else 404 if who == "stranger" else 403), who
    session = await api.session(owner)
    assert (await api.ask("DELETE", f"{path}/training", session=session)).body["withdrawn_by"] == f"console:{owner}"
    assert (await api.ask("DELETE", f"{path}/training", session=session)).code == "no_consent"
    assert (await api.ask("PUT", f"{path}/training", session=session, json={"text_version": 2})).code == "other_text"
    assert (await api.ask("PUT", f"{path}/anything", session=session, json=body)).status == 404
    shown = (await api.ask("GET", path, session=session)).body
    assert [(one["purpose"], one["withdrawn_at"] is None) for one in shown["consents"]] == [("training", False)]
    assert shown["consents"][0]["text"] == shown["texts"][0]["text"]


async def test_a_member_widens_the_policy_by_a_consent_only(api: Api) -> None:
    """The owner agrees to training, and then the account's policy may allow it; not what nobody agreed to."""
    account_id = await api.account("acme")
    session = await api.session(await api.person({account_id: Role.OWNER}))

    async def change(policy: str) -> str:
        answer = await api.ask("PATCH", f"/accounts/{account_id}", session=session, json={"policy": policy})
        return answer.code or str(answer.status)

    trained = "retention=none; training=yes"
    assert await change(trained) == "wider_policy"
    await api.ask("PUT", f"/accounts/{account_id}/consents/training", session=session, json={"text_version": 1})
    assert await change(trained) == "200"
    assert await change("retention=application_state:90; training=yes") == "wider_policy"
