"""/accounts/{account_id}/routes/explain: what would happen to a request, as this process would do it just now."""

from typing import Final

from pydantic import Field

from luntrex_proxy.console.api.operations import Body, Call, Operation, Shown, Who
from luntrex_proxy.control import accounts, routes
from luntrex_proxy.core.roles import Permission


class ExplainBody(Body):
    """Which request."""

    model: str = Field(pattern=r"^[\x21-\x7e]{1,200}$", description="As the client names it.")
    key_id: str | None = Field(
        None, pattern="^[0-9A-Za-z]{12}$", description="By this key; null: by one of the account that nothing limits."
    )
    endpoint: str | None = Field(
        None, pattern="^[a-z_.]{1,40}$", description="Such as messages; null: the first of a dialect that knows it."
    )
    region: str | None = Field(None, pattern="^[a-z0-9._,-]{1,200}$", description="The request asks for these regions.")
    policy: str | None = Field(None, pattern=r"^[\x20-\x7e]{1,200}$", description="The request's x-luntrex-policy.")


class StepShown(Shown):
    """One thing that was looked at."""

    station: str
    good: bool
    says: str


class TargetShown(Shown):
    """One target of the model, the better ones first."""

    upstream: str
    model: str = Field(description="Its name there.")
    weight: int
    share: float | None = Field(description="How often it is asked first, of 1; null: by load or speed.")
    region: str
    retention: str
    training: str
    price: str
    reason: str = Field(description="Why it is not asked, or only after the others; empty: nothing speaks against it.")
    says: str
    standing: str
    asked: bool


class ExplanationShown(Shown):
    """What would happen. `code` is empty when the request would be sent, else that of the refusal."""

    account_id: int
    key_id: str
    model: str
    endpoint: str
    code: str
    status: int
    sentence: str
    field: str | None
    steps: tuple[StepShown, ...]
    targets: tuple[TargetShown, ...]


async def _explain(call: Call) -> ExplanationShown:
    body: ExplainBody = call.body
    pool = call.services.pool
    account = (await accounts.get(pool, call.account_id)).name
    if body.key_id is not None:
        await routes.check_key(pool, call.account_id, body.key_id)
    asked = routes.Asked(body.model, body.key_id, account, body.endpoint, body.region, body.policy)
    return ExplanationShown.model_validate(call.services.explain(await routes.question(pool, asked)))


OPERATIONS: Final = (
    Operation(
        name="routes.explain", method="POST", path="/accounts/{account_id}/routes/explain",
        summary="Say what would happen to a request, and why; nothing is sent.",
        access=Who.OPERATOR, scopes=(Permission.ACCOUNT_READ,), handler=_explain, body=ExplainBody,
        answer=ExplanationShown,
    ),
)  # fmt: skip
