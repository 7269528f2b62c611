"""Signing in: password, then code; proving it again; another password. Every way in that asks for a secret is here."""

import time
from dataclasses import dataclass, field

from luntrex_proxy.control import acts, secondfactor
from luntrex_proxy.control.guessing import ThrottledError, trying
from luntrex_proxy.control.lane import BusyError
from luntrex_proxy.control.services import Services
from luntrex_proxy.control.sessions import SignedIn, new_token, renew, token_hash
from luntrex_proxy.core.people import read_address
from luntrex_proxy.store import mail, people, sessions
from luntrex_proxy.store.database import store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.people import Credentials

__all__ = ["BusyError", "ThrottledError", "WrongError", "change_password", "confirm", "give_code", "sign_in"]


class WrongError(RefusedError):
    """What was given lets nobody in; it does not say which part of it."""

    def __init__(self, sentence: str = "This address and this password do not belong together.") -> None:
        super().__init__(sentence, "wrong")


@dataclass(frozen=True, slots=True)
class Begun:
    """A session that began, and whether a code is still asked for."""

    cookie: str = field(repr=False)
    awaits_code: bool


async def sign_in(services: Services, address: str, password: str, network: str) -> Begun:
    """Begin a session. WrongError, ThrottledError, BusyError: the same for an address that nobody has."""
    known = read_address(address) or ""
    person = await _checked(services, known, password, network)
    token = new_token()
    with store_errors("begin a session"), acts.acting_as(f"console:{person.person_id}"):
        async with services.pool.acquire() as connection, connection.transaction():
            if not await people.is_still(connection, person):  # changed while the password was looked at
                raise WrongError
            await sessions.start(connection, person.person_id, token_hash(token), network, awaits_code=person.has_totp)
    await _renew_hash(services, person, password, network)
    return Begun(token, person.has_totp)


async def give_code(services: Services, who: SignedIn, code: str, network: str, now: float | None = None) -> str:
    """The second factor of a session that awaits it; returns its new cookie. WrongError, ThrottledError."""
    async with trying(services, "code", who.email, network) as one:
        if not await secondfactor.is_right(services, who.person_id, code, time.time() if now is None else now):
            raise WrongError("This code is not right, or was used already.")
        one.was_right = True
    token = new_token()
    with store_errors("begin a session"), acts.acting_as(f"console:{who.person_id}"):
        async with services.pool.acquire() as connection, connection.transaction():
            if not await sessions.complete(connection, who.person_id, who.session_id, token_hash(token)):
                raise WrongError("This took too long; sign in again.")
    return token


async def confirm(services: Services, who: SignedIn, password: str, network: str) -> str:
    """Prove it again before a dangerous act; returns the session's new cookie. Errors as of `sign_in`."""
    await _prove(services, who, password, network)
    return await renew(services, who)


async def change_password(services: Services, who: SignedIn, present: str, wanted: str, network: str) -> str:
    """Another password: other sessions end, this one gets a new cookie. WrongError; RefusedError when it is weak."""
    services.passwords.refuse_weak(wanted, who.email, who.name, has_totp=who.has_totp)
    await _prove(services, who, present, network)
    hashed, fingerprint = await services.passwords.hashed(wanted, network)
    with store_errors("set the password"), acts.acting_as(f"console:{who.person_id}"):
        async with services.pool.acquire() as connection, connection.transaction():
            await people.set_password(connection, who.person_id, hashed, fingerprint, but=who.session_id)
            if services.sends_mail:
                await mail.enqueue(connection, "password_set", who.person_id)
    return await renew(services, who)


async def remove_second_factor(services: Services, who: SignedIn, password: str, network: str) -> str:
    """The password is the only factor from now on; other sessions end. RefusedError: it is too short for that."""
    await _prove(services, who, password, network)
    services.passwords.refuse_weak(password, who.email, who.name, has_totp=False)
    await secondfactor.remove(services, who)
    return await renew(services, who)


async def _prove(services: Services, who: SignedIn, password: str, network: str) -> None:
    """Whether it is them. The cookie stays until all is done: of what is refused later nobody gets a new one."""
    try:
        person = await _checked(services, who.email, password, network)
    except WrongError:
        raise WrongError("This is not your password.") from None
    await _renew_hash(services, person, password, network)


async def _checked(services: Services, address: str, password: str, network: str) -> Credentials:
    """Who has this address and password, and may come in. Whatever is wrong, the same work is done."""
    async with trying(services, "password", address, network) as one:
        person = await people.credentials(services.pool, address)
        hashed, fingerprint = (person.password_hash, person.pepper_fingerprint) if person else (None, None)
        is_right = await services.passwords.is_right(password, hashed, fingerprint, network)
        if person is None or not is_right or not person.may_sign_in or hashed is None or fingerprint is None:
            raise WrongError
        one.was_right = True
    return person


async def _renew_hash(services: Services, person: Credentials, password: str, network: str) -> None:
    old, fingerprint = person.password_hash, person.pepper_fingerprint
    if old is None or fingerprint is None or not services.passwords.is_old(old, fingerprint):
        return
    try:
        hashed, fingerprint = await services.passwords.hashed(password, network)
    except BusyError:
        return  # the next sign-in does it
    await people.renew_hash(services.pool, person.person_id, old, hashed, fingerprint)
