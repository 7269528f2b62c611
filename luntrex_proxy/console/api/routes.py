"""/models and /accounts/{account_id}/routes: what all have, what an account has of its own, what would happen."""

from typing import Final, Literal

from pydantic import Field

from luntrex_proxy.console.api.operations import Body, Call, Listed, Operation, PageQuery, Shown, Who, page
from luntrex_proxy.console.api.problems import invalid
from luntrex_proxy.control import accounts, routes
from luntrex_proxy.control.upstreams import ORIGIN
from luntrex_proxy.core import accountroutes as core
from luntrex_proxy.core.accountroutes import MODELS_MAX, TARGETS_MAX
from luntrex_proxy.core.catalogue import WEIGHT_MAX, Entry
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.settings.scopes import Model


class ModelTargetShown(Shown):
    """An upstream that serves a model."""

    upstream: str
    model: str = Field(description="Its name there; `*`: what the wildcard matched.")
    weight: int = Field(description="0: only when the others have failed.")


class ModelShown(Shown):
    """A model that clients may use. It cannot be changed here."""

    name: str = Field(description="A name, or a beginning and `*`.")
    origin: Literal["file"] = Field(description="file: only the configuration file changes it.")
    choice: str = Field(description="Which target is first: weighted, least_busy or latency.")
    targets: list[ModelTargetShown]


class OwnTarget(Body):
    """An upstream that serves the model for this account."""

    upstream: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="Its name in the configuration.")
    model: str | None = Field(None, pattern=r"^[\x21-\x7e]{1,200}$", description="Its name there; null: the same.")
    weight: int = Field(1, ge=0, le=WEIGHT_MAX, description="0: only when the others have failed.")


class OwnModel(Body):
    """The targets of one model."""

    model: Model = Field(description="A name, or a beginning and `*`.")
    targets: list[OwnTarget] = Field(min_length=1, max_length=TARGETS_MAX)


class RoutesBody(Body):
    """All that an account has of its own; what is left out is as the configuration has it."""

    models: list[Model] | None = Field(
        None, min_length=1, max_length=MODELS_MAX, description="The models it may use; null: all there are."
    )
    own: list[OwnModel] = Field([], max_length=MODELS_MAX, description="Models that have targets of the account's own.")


class OwnTargetShown(Shown):
    """One of them."""

    upstream: str
    model: str
    weight: int


class OwnModelShown(Shown):
    """The targets of one model."""

    model: str
    targets: list[OwnTargetShown]


class RoutesShown(Shown):
    """All that an account has of its own."""

    models: list[str] | None
    own: list[OwnModelShown]


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
    named: str | None = Field(description="The field or attribute that the refusal names.")
    steps: tuple[StepShown, ...]
    targets: tuple[TargetShown, ...]


async def _list(call: Call) -> Listed:
    after = "" if call.after is None else call.after[0]
    found = sorted((entry for entry in call.services.models() if entry.name > after), key=lambda entry: entry.name)
    return page(call, found[: call.rows], _model, lambda entry: (entry.name,))


def _model(entry: Entry) -> ModelShown:
    targets = [ModelTargetShown.model_validate(target) for target in entry.targets]
    return ModelShown(name=entry.name, origin=ORIGIN, choice=entry.choice, targets=targets)


async def _get(call: Call) -> RoutesShown:
    return _shown(await routes.of_account(call.services.pool, call.account_id))


async def _set(call: Call) -> RoutesShown:
    body: RoutesBody = call.body
    names = [each.model for each in body.own]
    if len(set(names)) < len(names):
        raise invalid("/own", "must name each model once")
    own = {
        each.model: tuple(
            core.OwnTarget(target.upstream, target.model or ("*" if each.model.endswith("*") else each.model),
                           target.weight)
            for target in each.targets
        )
        for each in body.own
    }  # fmt: skip
    wanted = core.AccountRoutes(None if body.models is None else tuple(body.models), own)
    known = [condition.name for condition in call.services.upstreams(())]
    return _shown(await routes.set_of_account(call.services.pool, call.account_id, wanted, known))


def _shown(found: core.AccountRoutes) -> RoutesShown:
    own = [
        OwnModelShown(model=name, targets=[OwnTargetShown.model_validate(target) for target in found.targets[name]])
        for name in sorted(found.targets)
    ]
    return RoutesShown(models=None if found.models is None else list(found.models), own=own)


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
        name="models.list", method="GET", path="/models", summary="List the models of the configuration.",
        access=Who.OPERATOR, scopes=(Permission.ACCOUNT_READ,), handler=_list, query=PageQuery, answer=ModelShown,
    ),
    Operation(
        name="routes.get", method="GET", path="/accounts/{account_id}/routes",
        summary="Show which models an account may use, and its own targets for some of them.",
        access=(Permission.ACCOUNT_READ,), handler=_get, answer=RoutesShown,
    ),
    Operation(
        name="routes.set", method="PUT", path="/accounts/{account_id}/routes",
        summary="Have exactly these, everywhere within a second; operators only.",
        access=Who.OPERATOR, scopes=(Permission.ACCOUNT_WRITE,), handler=_set, body=RoutesBody, answer=RoutesShown,
        problems=("bad_routes",),
    ),
    Operation(
        name="routes.explain", method="POST", path="/accounts/{account_id}/routes/explain",
        summary="Say what would happen to a request, and why; nothing is sent.",
        access=Who.OPERATOR, scopes=(Permission.ACCOUNT_READ,), handler=_explain, body=ExplainBody,
        answer=ExplanationShown,
    ),
)  # fmt: skip
