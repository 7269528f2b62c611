"""Takes queued letters to the SMTP server, over verified TLS, one process at a time; each goes out twice at most.

taken          sent
not taken      certainly: tried again, after longer and longer, for a day (refused for good: not again)
nobody knows   the connection broke after the text was sent: once more, then given up (store/mail.py)
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from datetime import timedelta
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import aiosmtplib
from aiosmtplib import errors

from luntrex_proxy.control import letters, links
from luntrex_proxy.control.services import Services
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.people import Mail
from luntrex_proxy.store import mail as queue
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.mail import Queued

_ANSWER_WAIT_S: Final = 30.0
_WHOLE_WAIT_S: Final = 120.0  # less than a claim lasts
_FIRST_PAUSE_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 3_600.0
_AT_ONCE: Final = 50  # letters of one turn; others' turns come in between
_PERMANENT: Final = 500


class Delivered(NamedTuple):
    """How a try ended: sent, refused, later or unknown; and a fixed word about it."""

    outcome: str
    reason: str


class Postman:
    """Sends what is queued."""

    def __init__(self, services: Services, clock: Callable[[], float]) -> None:
        """StoreError: the authorities to trust cannot be read."""
        self._services = services
        self._clock = clock
        self._tls = None if services.settings.mail.security == "none" else _tls_of(services.settings.mail)

    async def send_due(self) -> list[Delivered]:
        """Send what is due, unless another process does; how each try ended. Raises StoreError."""
        done: list[Delivered] = []
        async with queue.turn(self._services.pool) as is_ours:
            if not is_ours:
                return done
            await queue.give_up_old(self._services.pool)
            while len(done) < _AT_ONCE and (queued := await queue.claim(self._services.pool)) is not None:
                done.append(await self._send(queued))
        return done

    async def _send(self, queued: Queued) -> Delivered:
        pool = self._services.pool
        letter = await letters.compose(self._services, queued)
        if letter is None:
            await queue.close(pool, queued.mail_id, "needless")
            return Delivered("needless", "")
        message = letters.as_message(self._services, queued, letter, self._clock())
        ended = await self._deliver(letter.to, message.as_bytes())
        if ended.outcome in ("sent", "refused"):
            await queue.close(pool, queued.mail_id, ended.outcome, ended.reason or None)
        elif ended.outcome == "later":
            pause_s = min(_FIRST_PAUSE_S * 2 ** min(queued.tries - 1, 10), _LONGEST_PAUSE_S)
            await queue.postpone(pool, queued.mail_id, timedelta(seconds=pause_s), ended.reason)
        return ended

    async def _deliver(self, to: str, message: bytes) -> Delivered:
        client = _client(self._services.settings, self._tls)
        is_text_sent = False
        try:
            async with asyncio.timeout(_WHOLE_WAIT_S):
                await client.connect()
                await client.mail(self._services.settings.mail.sender or "")
                await client.rcpt(to)
                is_text_sent = True
                await client.data(message)
            return Delivered("sent", "")
        except (errors.SMTPException, OSError, TimeoutError, ValueError) as error:
            return _ending(error, is_text_sent=is_text_sent)
        finally:
            with contextlib.suppress(errors.SMTPException, OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await client.quit()
            client.close()


async def look(settings: Settings) -> str:
    """Whether the server can be reached, trusted and signed in to; "" or a fixed word. Sends nothing. StoreError."""
    client = _client(settings, None if settings.mail.security == "none" else _tls_of(settings.mail))
    try:
        async with asyncio.timeout(_ANSWER_WAIT_S):
            await client.connect()
            await client.quit()
    except (errors.SMTPException, OSError, TimeoutError, ValueError) as error:
        return _ending(error, is_text_sent=False).reason
    finally:
        client.close()
    return ""


def _client(settings: Settings, tls: ssl.SSLContext | None) -> aiosmtplib.SMTP:
    mail = settings.mail
    return aiosmtplib.SMTP(
        hostname=mail.host,
        port=mail.port,
        username=mail.user,
        password=mail.password.reveal() if mail.password else None,
        # Not this machine's name, which it would look up and tell.
        local_hostname=urlsplit(links.console_url(settings)).hostname,
        timeout=_ANSWER_WAIT_S,
        use_tls=mail.security == "tls",
        start_tls=mail.security == "starttls",
        tls_context=tls,
    )


def _tls_of(mail: Mail) -> ssl.SSLContext:
    """Certificates are verified, always; `ca_file` replaces the system's authorities."""
    try:
        return ssl.create_default_context(cafile=mail.ca_file)
    except OSError:
        raise StoreError(f"The ca_file of mail ({mail.ca_file}) cannot be read as PEM certificates.") from None


def _ending(error: Exception, *, is_text_sent: bool) -> Delivered:
    """What an error of a try means. Its own text may quote the server and is not kept."""
    if isinstance(error, errors.SMTPAuthenticationError):
        return Delivered("later", "sign_in_refused")
    if isinstance(error, errors.SMTPRecipientRefused | errors.SMTPDataError) and error.code >= _PERMANENT:
        return Delivered("refused", "refused")
    if isinstance(error, errors.SMTPResponseException):
        return Delivered("later", "not_now")
    if is_text_sent:
        return Delivered("unknown", "broken_off")
    causes: BaseException | None = error
    while causes is not None:
        if isinstance(causes, ssl.SSLError):
            return Delivered("later", "certificate" if isinstance(causes, ssl.SSLCertVerificationError) else "tls")
        causes = causes.__cause__ or causes.__context__
    # What the library itself refuses to go without: STARTTLS, or a way to sign in.
    is_missing = isinstance(error, errors.SMTPNotSupported) or type(error) is errors.SMTPException
    return Delivered("later", "not_offered" if is_missing else "unreachable")
