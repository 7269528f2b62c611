"""/accounts/{account_id}/limits, and those of its keys: how much may be asked for in a time."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from luntrex_proxy.console.api.operations import Body, Call, Operation, Shown, Who
from luntrex_proxy.control import limits
from luntrex_proxy.control.limits import Limited, Terms
from luntrex_proxy.core.limits import AMOUNT_MAX, WHATS
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.settings.scopes import Model

_Amount = Annotated[int, Field(ge=1, le=AMOUNT_MAX)]
_NAMES: Final = {word: word.replace("/", "_per_") for word in WHATS}


class LimitsBody(Body):
    """All limits of an account or key for a model; what is left out is not limited."""

    model: Model | None = Field(None, description="By name, or by beginning and `*`; null: all models together.")
    requests_per_minute: _Amount | None = None
    requests_per_hour: _Amount | None = None
    requests_per_day: _Amount | None = None
    tokens_per_minute: _Amount | None = Field(None, description="Input and output together.")
    tokens_per_hour: _Amount | None = None
    tokens_per_day: _Amount | None = None
    streams: _Amount | None = Field(None, description="Streamed answers at once.")
    when_away: Literal["open", "closed"] | None = Field(
        None,
        description="Whether requests are let in while nobody can say what other processes let in; of all limits of "
        "the account or key. null: as it is, `open` at first.",
    )

    @property
    def amounts(self) -> dict[str, int]:
        """By the words of core/limits.py."""
        given = {word: getattr(self, name) for word, name in _NAMES.items()}
        return {word: amount for word, amount in given.items() if amount is not None}


class AmountsShown(Shown):
    """The limits for a model; null: not limited."""

    model: str | None = Field(description="A name, or a beginning and `*`; null: all models together.")
    requests_per_minute: int | None
    requests_per_hour: int | None
    requests_per_day: int | None
    tokens_per_minute: int | None
    tokens_per_hour: int | None
    tokens_per_day: int | None
    streams: int | None


class LimitedShown(Shown):
    """Limits of the account, or of one of its keys."""

    key_id: str | None = Field(description="null: of the account, all of its keys together.")
    changed_at: datetime
    when_away: Literal["open", "closed"]
    models: list[AmountsShown]


class UsedShown(Shown):
    """What of a limit is used now."""

    key_id: str | None = Field(description="null: of the account.")
    model: str | None = Field(description="null: all models together.")
    limit: str = Field(description="Such as requests_per_minute.")
    used: int


class LimitsShown(Shown):
    """All limits in an account, its own first, and what of them is used now."""

    limits: list[LimitedShown]
    used: list[UsedShown]


class TermsShown(Shown):
    """All limits there are now, of what was changed."""

    models: list[AmountsShown]


async def _list(call: Call) -> LimitsShown:
    found = await limits.list_all(call.services.pool, call.account_id)
    used = [
        UsedShown(key_id=key_id, model=model or None, limit=_NAMES[word], used=count)
        for (key_id, model, word), count in (await limits.used(call.services.pool, call.account_id)).items()
    ]
    return LimitsShown(limits=[_limited(each) for each in found], used=used)


async def _set_of_account(call: Call) -> TermsShown:
    body: LimitsBody = call.body
    terms = await limits.set_of_account(
        call.services.pool, call.account_id, body.model or "", body.amounts, body.when_away
    )
    return TermsShown(models=_models(terms))


async def _set_of_key(call: Call) -> TermsShown:
    body: LimitsBody = call.body
    key_id = call.place["key_id"]
    terms = await limits.set_of_key(
        call.services.pool, call.account_id, key_id, body.model or "", body.amounts, body.when_away
    )
    return TermsShown(models=_models(terms))


def _limited(each: Limited) -> LimitedShown:
    models = _models(each.limits)
    return LimitedShown(key_id=each.key_id, changed_at=each.changed_at, when_away=each.when_away, models=models)


def _models(terms: Terms) -> list[AmountsShown]:
    return [
        AmountsShown(model=model or None, **{name: terms[model].get(word) for word, name in _NAMES.items()})
        for model in sorted(terms)
    ]


OPERATIONS: Final = (
    Operation(
        name="limits.list", method="GET", path="/accounts/{account_id}/limits",
        summary="Show how much an account and its keys may ask for.",
        access=(Permission.KEYS_READ, Permission.KEYS_WRITE), handler=_list, answer=LimitsShown,
    ),
    Operation(
        name="limits.set_of_account", method="PUT", path="/accounts/{account_id}/limits",
        summary="Have exactly these limits of an account for a model, everywhere within a second; operators only.",
        access=Who.OPERATOR, scopes=(Permission.ACCOUNT_WRITE,), handler=_set_of_account, body=LimitsBody,
        answer=TermsShown, problems=("bad_limits",),
    ),
    Operation(
        name="limits.set_of_key", method="PUT", path="/accounts/{account_id}/keys/{key_id}/limits",
        summary="Have exactly these limits of a key for a model, everywhere within a second.",
        access=(Permission.KEYS_WRITE,), handler=_set_of_key, body=LimitsBody, answer=TermsShown,
        problems=("bad_limits", "key_ended"),
    ),
)  # fmt: skip
