"""Second factors: codes of an authenticator app, and recovery codes for when it is lost."""

import base64
import hashlib
import secrets
import time
import uuid
from typing import Final

from luntrex_proxy.control import acts
from luntrex_proxy.control.services import Services
from luntrex_proxy.control.sessions import SignedIn
from luntrex_proxy.core import totp as codes
from luntrex_proxy.store import mail
from luntrex_proxy.store import totp as table
from luntrex_proxy.store.database import Connection, store_errors
from luntrex_proxy.store.errors import RefusedError

RECOVERY_CODES: Final = 10
_RECOVERY_BYTES: Final = 16
_ISSUER: Final = "luntrex-proxy"


async def is_right(services: Services, person_id: uuid.UUID, code: str, now: float) -> bool:
    """Whether it is a code that works now, or a recovery code that is left; neither works again."""
    plain = "".join(character for character in code if character.isalnum()).lower()
    if len(plain) != codes.DIGITS:
        return await table.use_recovery_code(services.pool, person_id, _hash(plain))
    factor = await table.find(services.pool, await services.sealer(), person_id)
    if factor is None or not factor.confirmed:
        return False
    step = codes.step_of(codes.from_text(factor.seed), plain, now, factor.last_step)
    return step is not None and await table.use_step(services.pool, person_id, step)


async def begin(services: Services, who: SignedIn) -> tuple[str, str]:
    """A new seed, as people type it and as apps read it; it counts once `confirm` was right. RefusedError."""
    seed = secrets.token_bytes(codes.SEED_BYTES)
    await table.begin(services.pool, await services.sealer(), who.person_id, codes.as_text(seed))
    return codes.as_text(seed), codes.app_url(seed, _ISSUER, who.email)


async def begun(services: Services, who: SignedIn) -> tuple[str, str] | None:
    """The seed that was begun and not confirmed; None: there is none."""
    factor = await table.find(services.pool, await services.sealer(), who.person_id)
    if factor is None or factor.confirmed:
        return None
    return factor.seed, codes.app_url(codes.from_text(factor.seed), _ISSUER, who.email)


async def confirm(services: Services, who: SignedIn, code: str, now: float | None = None) -> list[str]:
    """The app makes the right codes: from now on they are asked for. Returns recovery codes, shown this once."""
    factor = await table.find(services.pool, await services.sealer(), who.person_id)
    if factor is None or factor.confirmed:
        raise RefusedError("Begin again: no second factor waits for its first code.", "no_second_factor")
    plain = "".join(character for character in code if character.isdigit())
    step = codes.step_of(codes.from_text(factor.seed), plain, time.time() if now is None else now, factor.last_step)
    if step is None:
        raise RefusedError("This code is not right; look at the app, and whether the clocks agree.", "wrong")
    made = _make_codes()
    with store_errors("take the second factor"), acts.acting_as(f"console:{who.person_id}"):
        async with services.pool.acquire() as connection, connection.transaction():
            if not await table.confirm(connection, who.person_id, step, _hashes(made), but=who.session_id):
                raise RefusedError("Begin again: no second factor waits for its first code.", "no_second_factor")
            await _tell(services, connection, who)
    return made


async def renew_codes(services: Services, who: SignedIn) -> list[str]:
    """Other recovery codes, shown this once."""
    made = _make_codes()
    with acts.acting_as(f"console:{who.person_id}"):
        await table.renew_codes(services.pool, who.person_id, _hashes(made))
    return made


async def remove(services: Services, who: SignedIn) -> None:
    """Without it the password is the only factor; signin.py has seen that it is good enough for that."""
    with store_errors("remove the second factor"), acts.acting_as(f"console:{who.person_id}"):
        async with services.pool.acquire() as connection, connection.transaction():
            await table.remove(connection, who.person_id, but=who.session_id)
            await _tell(services, connection, who)


async def _tell(services: Services, connection: Connection, who: SignedIn) -> None:
    """Whoever changed it, the person hears of it."""
    if services.sends_mail:
        await mail.enqueue(connection, "factor_changed", who.person_id)


def _make_codes() -> list[str]:
    made = []
    for _ in range(RECOVERY_CODES):
        text = base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode().rstrip("=").lower()
        made.append("-".join(text[at : at + 5] for at in range(0, len(text), 5)))
    return made


def _hashes(made: list[str]) -> list[bytes]:
    return [_hash(code.replace("-", "")) for code in made]


def _hash(code: str) -> bytes:
    """128 random bits need no salt and no slow hash."""
    return hashlib.sha256(code.encode(errors="replace")).digest()
