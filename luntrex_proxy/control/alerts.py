"""Alerts to who runs the installation: raised once, whichever process sees it first, and sent to a webhook, signed.

The form is Standard Webhooks': webhook-id, webhook-timestamp, and webhook-signature: v1,base64(HMAC-SHA256(secret,
id.timestamp.body)). The same id comes twice only when a first delivery was not known to be taken.
"""

import base64
import hmac
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import aiohttp

from luntrex_proxy.core.audit import Fact
from luntrex_proxy.core.budgets import dollars
from luntrex_proxy.settings.alerts import Alerts, Webhook, webhook_key
from luntrex_proxy.settings.errors import ConfigError
from luntrex_proxy.store import attempts, budgetalerts, mail, webhooks
from luntrex_proxy.store.attempts import Alert
from luntrex_proxy.store.budgetalerts import Reached
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.webhooks import Message

_NAMED_MAX: Final = 50  # in one message; a flood from everywhere is one message as well
_TRY_S: Final = 10.0


async def raise_due(pool: Pool, settings: Alerts, *, by_mail: bool = False) -> list[Alert]:
    """Raise what is over the limits and was not told within the hour, and queue one message about all of it.

    `by_mail`: letters go out here, to the operator's addresses and to who answers for an account whose key it is.
    """
    with store_errors("look for attempts to alert about"):
        async with pool.acquire() as connection, connection.transaction():
            raised = await attempts.raise_alerts(
                connection,
                settings.attempts_per_key,
                settings.attempts_per_network,
                settings.window_minutes * 60,
                settings.again_after_minutes * 60,
            )
            if raised and settings.webhook.url is not None:
                await webhooks.enqueue(connection, _body(raised, settings.window_minutes))
            if raised and by_mail:
                await _write_letters(connection, raised, settings)
    return raised


async def _write_letters(connection: Connection, raised: Sequence[Alert], settings: Alerts) -> None:
    worst = sorted(raised, key=lambda one: one.count, reverse=True)[:_NAMED_MAX]
    facts: dict[str, Fact] = {
        "minutes": settings.window_minutes,
        "alerts": tuple(f"{one.kind} {one.subject}: {one.count}" for one in worst),
        "more": len(raised) - len(worst),
    }
    for address in settings.mail_to:
        await mail.enqueue(connection, "attempts", address, facts)
    for one in worst:
        if one.account_id is not None:
            about: dict[str, Fact] = {"minutes": settings.window_minutes, "key_id": one.subject, "count": one.count}
            for person_id in await attempts.answerable(connection, one.account_id):
                await mail.enqueue(connection, "key_attempts", person_id, about)


def _body(raised: Sequence[Alert], window_minutes: int) -> dict[str, Any]:
    named = [
        {"kind": one.kind, "subject": one.subject, "account_id": one.account_id, "count": one.count}
        for one in sorted(raised, key=lambda one: one.count, reverse=True)[:_NAMED_MAX]
    ]
    data = {"window_minutes": window_minutes, "alerts": named, "more": len(raised) - len(named)}
    return {"type": "attempts.many", "data": data}


async def raise_budgets(pool: Pool, settings: Alerts) -> list[Reached]:
    """Find budgets that have reached a part of their amount since, and queue one message about all of them."""
    with store_errors("look for budgets to alert about"):
        async with pool.acquire() as connection, connection.transaction():
            reached = await budgetalerts.raise_reached(connection)
            if reached and settings.webhook.url is not None:
                await webhooks.enqueue(connection, _budgets_body(reached))
    return reached


def _budgets_body(reached: Sequence[Reached]) -> dict[str, Any]:
    named = [
        {
            "account_id": one.account_id,
            "key_id": one.key_id,
            "person_id": one.person_id,
            "label": one.label,
            "period": one.period,
            "hard": one.is_hard,
            "percent": one.percent,
            "amount_dollars": dollars(one.amount_pico),
            "spent_dollars": dollars(one.spent_pico),
            "begins_at": one.begins_at.isoformat(),
            "ends_at": None if one.ends_at is None else one.ends_at.isoformat(),
        }
        for one in reached[:_NAMED_MAX]
    ]
    return {"type": "budgets.reached", "data": {"budgets": named, "more": len(reached) - len(named)}}


class Sender:
    """Sends what is queued for the webhook, each message until it is taken."""

    def __init__(self, pool: Pool, setting: Webhook, sealed: Callable[[], Mapping[str, str]]) -> None:
        self._pool = pool
        self._setting = setting
        self._sealed = sealed

    async def send_next(self, now: float) -> str | None:
        """Try the next message that is due. None: there was none; "": it was taken; else why not."""
        message = await webhooks.claim(self._pool)
        if message is None:
            return None
        reason = await self._try(message, int(now))
        if reason:
            await webhooks.failed(self._pool, message, reason)
        else:
            await webhooks.delivered(self._pool, message)
        return reason

    async def _try(self, message: Message, now: int) -> str:
        key = self._key()
        if not key:
            return "no_secret"
        body = message.body.encode()
        signed = f"{message.message_id}.{now}.".encode() + body
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "luntrex-proxy",
            "webhook-id": str(message.message_id),
            "webhook-timestamp": str(now),
            "webhook-signature": f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}",
        }
        try:
            # One connection for one message: there are few.
            async with (
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=_TRY_S),
                    connector=aiohttp.TCPConnector(ssl=self._trusted(), force_close=True),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    auto_decompress=False,
                ) as client,
                # What redirects leads elsewhere than the configuration says.
                client.post(self._setting.url or "", data=body, headers=headers, allow_redirects=False) as answer,
            ):
                return "" if 200 <= answer.status < 300 else f"status_{answer.status}"
        except aiohttp.ClientConnectorCertificateError:
            return "certificate"
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
            return "unreachable"

    def _key(self) -> bytes:
        secret = self._setting.secret
        if secret is None:
            return b""
        if secret.sealed_name:
            return webhook_key(self._sealed().get(secret.sealed_name, ""))
        try:
            return webhook_key(secret.reveal())
        except ConfigError:
            return b""

    def _trusted(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._setting.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context
