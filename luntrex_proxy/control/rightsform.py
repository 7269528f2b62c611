"""Requests by the public form, without signing in: a letter with a link asks whether it was them, then it is done.

The form's answer is the same whether the address is known here or not. What the link lets do is done by POST only.
Of a person with a second factor the mailbox alone is not proof enough: the request waits for an answer by hand.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from luntrex_proxy.control import rights
from luntrex_proxy.control.acts import RefusedError
from luntrex_proxy.control.guessing import trying
from luntrex_proxy.control.links import DeadLinkError, console_url
from luntrex_proxy.control.services import Services
from luntrex_proxy.control.sessions import new_token, token_hash
from luntrex_proxy.core.people import ADDRESS_RULE, read_address
from luntrex_proxy.core.rights import Law, Right, State
from luntrex_proxy.store import mail, mentioned, subjects, totp
from luntrex_proxy.store import rights as table
from luntrex_proxy.store.database import Connection, store_errors
from luntrex_proxy.store.rights import Request

PATH = "/rights/confirm"
LETTER = "rights_confirm"
# To one address in a day, however many networks ask: no mailbox is filled, and whose it is has links enough.
_LETTERS_MAX = 20
# What would hand data out, stop keys or erase. An objection harms nobody, and corrections are looked at anyway.
_NEED_PROOF = frozenset({Right.ACCESS, Right.EXPORT, Right.RESTRICT, Right.ERASE})


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What became of a confirmed request. `token`: of an export's link, shown this once."""

    request: Request
    token: str = ""
    by_hand: bool = False  # the person has a second factor, so the letter alone does not carry it out


async def ask(services: Services, address: str, right: Right, law: Law, network: str) -> Request:
    """Write the request down and ask its address whether it was them. RefusedError, ThrottledError."""
    email = read_address(address)
    if email is None:
        raise RefusedError(ADDRESS_RULE, "bad_address")
    if not services.sends_mail:
        raise RefusedError("No mail is sent from here, so nobody can be asked; write to the address named above.")
    async with trying(services, "rights", email, network, free=True):
        with store_errors("note the request"):
            async with services.pool.acquire() as connection, connection.transaction():
                made = await table.insert(connection, right, law, "form", State.UNCONFIRMED, email=email)
                if await table.count_unconfirmed(connection, email) <= _LETTERS_MAX:
                    await mail.enqueue(connection, LETTER, email, {"request": str(made.request_id)})
    return made


async def link_for(services: Services, request_id: str) -> str | None:
    """The link of the letter, made when that is sent; None: the request waits for none any more."""
    token = new_token()
    if not await table.set_confirm_hash(services.pool, request_id, token_hash(token)):
        return None
    return f"{console_url(services.settings)}{PATH}?token={token}"


async def confirm(services: Services, token: str, now: datetime) -> Confirmed:
    """Do what was asked for. DeadLinkError: the link was used, is a day old, or never was one."""
    grace = timedelta(days=services.settings.privacy.erasure_grace_days)
    offered, by_hand = "", False
    with store_errors("confirm the request"):
        async with services.pool.acquire() as connection, connection.transaction():
            request = await table.confirm(connection, token_hash(token))
            if request is None:
                raise DeadLinkError
            if request.person_id is None:
                await _of_stranger(connection, request, now, services.settings.retention.audit_days)
            else:
                by_hand = request.kind in _NEED_PROOF and await totp.is_in_use(connection, request.person_id)
                if not by_hand:
                    offered = await _carry_out(connection, request, now + grace)
    return Confirmed(await table.by_reference(services.pool, request.reference), offered, by_hand)


async def _of_stranger(connection: Connection, request: Request, now: datetime, audit_days: int) -> None:
    """Who is not here can be mentioned: that is erased at once, whatever else was asked for is answered by hand."""
    if request.email is None:
        raise AssertionError
    if not await mentioned.is_mentioned(connection, request.email):
        await table.end(connection, request.request_id, State.DONE, "nothing_held")
    elif request.kind is Right.ERASE and not await mentioned.is_mentioned(connection, request.email, held=True):
        receipt = await mentioned.erase(connection, request.email, now, audit_days)
        await table.end(connection, request.request_id, State.DONE, "erased", receipt.shown())


async def _carry_out(connection: Connection, request: Request, act_at: datetime) -> str:
    if request.person_id is None:
        raise AssertionError
    done = ""
    if request.kind in (Right.ACCESS, Right.EXPORT):
        token, _ = await rights.export_link(connection, request.person_id)
        await table.end(connection, request.request_id, State.DONE, "link_given")
        return token
    if request.kind is Right.RESTRICT:
        changed = await table.set_restricted(connection, request.person_id, restricted=True)
        done = "restricted" if changed else "was_so_already"
    elif request.kind is Right.OBJECT:
        changed = await table.set_objecting(connection, request.person_id, objecting=True)
        done = "objected" if changed else "was_so_already"
    elif request.kind is Right.ERASE and not await subjects.last_owner_of(connection, request.person_id):
        await table.wait_until(connection, request.request_id, act_at)
    # Else somebody has to answer: what is to be corrected, or who is to own an account.
    if done:
        await table.end(connection, request.request_id, State.DONE, done)
    return ""
