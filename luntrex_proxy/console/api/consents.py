"""/accounts/{account_id}/consents: what an account's owner agreed to. Only an owner says yes or no."""

from datetime import datetime
from typing import Final

from pydantic import Field

from luntrex_proxy.console.api.operations import Body, Call, Operation, Shown
from luntrex_proxy.console.api.problems import Problem
from luntrex_proxy.control import consents
from luntrex_proxy.control.consents import Consent, Purpose
from luntrex_proxy.core.roles import Permission


class ConsentShown(Shown):
    """One consent, in force as long as it was not withdrawn."""

    purpose: Purpose
    text_version: int
    text: str = Field(description="The words that were agreed to.")
    given_at: datetime
    given_by: str = Field(description="The way it came and the id of who gave it.")
    withdrawn_at: datetime | None
    withdrawn_by: str | None


class TextShown(Shown):
    """What can be agreed to, in its present words."""

    purpose: Purpose
    text_version: int
    text: str


class ConsentsShown(Shown):
    """The history, the newest first, and what can be agreed to."""

    consents: list[ConsentShown]
    texts: list[TextShown]


class ConsentBody(Body):
    """A yes to words that were read."""

    text_version: int = Field(description="The version of the text that was shown; the present one, else: conflict.")


async def _list(call: Call) -> ConsentsShown:
    found = await consents.history(call.services.pool, call.account_id)
    texts = [TextShown(purpose=p, text_version=consents.version_of(p), text=consents.text_of(p)) for p in Purpose]
    return ConsentsShown(consents=[_shown(each) for each in found], texts=texts)


async def _give(call: Call) -> ConsentShown:
    purpose = Purpose(call.place["purpose"])
    if call.body.text_version != consents.version_of(purpose):
        raise Problem("other_text")
    return _shown(await consents.give(call.services.pool, call.account_id, purpose))


async def _withdraw(call: Call) -> ConsentShown:
    return _shown(await consents.withdraw(call.services.pool, call.account_id, Purpose(call.place["purpose"])))


def _shown(consent: Consent) -> ConsentShown:
    purpose = Purpose(consent.purpose)
    return ConsentShown(
        purpose=purpose,
        text_version=consent.text_version,
        text=consents.text_of(purpose, consent.text_version),
        given_at=consent.given_at,
        given_by=consent.given_by,
        withdrawn_at=consent.withdrawn_at,
        withdrawn_by=consent.withdrawn_by,
    )


OPERATIONS: Final = (
    Operation(
        name="consents.list", method="GET", path="/accounts/{account_id}/consents",
        summary="Show what an account agreed to and withdrew, and the words of what it can agree to.",
        access=(Permission.CONSENTS_READ,), handler=_list, answer=ConsentsShown,
    ),
    Operation(
        name="consents.give", method="PUT", path="/accounts/{account_id}/consents/{purpose}",
        summary="Agree to a purpose, in its present words; owners only.",
        access=(Permission.CONSENTS_WRITE,), proven=True, handler=_give, body=ConsentBody, answer=ConsentShown,
        problems=("other_text",),
    ),
    Operation(
        name="consents.withdraw", method="DELETE", path="/accounts/{account_id}/consents/{purpose}",
        summary="Agree no more; it counts everywhere within a second. Owners only.",
        access=(Permission.CONSENTS_WRITE,), handler=_withdraw, answer=ConsentShown, problems=("no_consent",),
    ),
)  # fmt: skip
