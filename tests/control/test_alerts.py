"""The webhook: signed as Standard Webhooks says, tried until taken, over verified TLS, to nobody else."""

import base64
import hmac
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from luntrex_proxy.control import letters
from luntrex_proxy.control.alerts import Sender, raise_budgets, raise_due
from luntrex_proxy.settings.alerts import Alerts, Webhook
from luntrex_proxy.store import accounts, apikeys, budgets
from luntrex_proxy.store import mail as queue_of_letters
from luntrex_proxy.store.attempts import AttemptBook
from luntrex_proxy.store.database import Pool
from tests.people import make_person, services_of
from tests.postgres import LOOKUP
from tests.upstreams.certificates import Authority

KEY = bytes(range(32))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


@asynccontextmanager
async def receiving(
    answer: Callable[[web.Request], web.Response], tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A receiver: its URL, and what came."""
    came: list[tuple[dict[str, str], bytes]] = []

    async def serve(request: web.Request) -> web.Response:
        came.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{site.port}/hook", came
    finally:
        await runner.cleanup()


async def queue(pool: Pool, url: str) -> Webhook:
    """One alert about a flood, queued for this URL."""
    webhook = Webhook.model_validate({"url": url, "secret": SECRET})
    book = AttemptBook()
    for _ in range(201):
        book.note("203.0.113.0/24", "invalid_api_key")
    await book.write(pool)
    assert len(await raise_due(pool, Alerts(webhook=webhook))) == 1
    assert await raise_due(pool, Alerts(webhook=webhook)) == []
    return webhook


async def test_a_message_is_signed_and_sent_once(database: Pool) -> None:
    """Its signature holds, nothing of a client is in it, and a second sender finds nothing."""
    async with receiving(lambda _: web.Response(status=204)) as (url, came):
        webhook = await queue(database, url)
        now = time.time()
        senders = [Sender(database, webhook, dict) for _ in range(2)]
        assert [await sender.send_next(now) for sender in senders] == ["", None]
    ((headers, body),) = came
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert int(headers["webhook-timestamp"]) == int(now)
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(hmac.digest(KEY, signed, 'sha256')).decode()}"
    assert json.loads(body) == {
        "type": "attempts.many",
        "data": {
            "window_minutes": 10,
            "alerts": [{"kind": "network", "subject": "203.0.113.0/24", "account_id": None, "count": 201}],
            "more": 0,
        },
    }
    assert await database.fetchval("SELECT outcome FROM webhook_message") == "delivered"


async def make_due(pool: Pool) -> float:
    """The next try is now; how long it would have waited."""
    wait: float = await pool.fetchval(
        "SELECT extract(epoch FROM due_at - now())::float8 FROM webhook_message WHERE ended_at IS NULL"
    )
    await pool.execute("UPDATE webhook_message SET due_at = now()")
    return wait


async def test_it_is_tried_until_it_is_taken(database: Pool) -> None:
    """An error, a redirect (not followed) and silence are tried again, later each time, with one id, for a day."""
    answers: list[Any] = [
        web.Response(status=500),
        web.Response(status=302, headers={"Location": "/elsewhere"}),
        web.Response(status=200),
    ]
    async with receiving(lambda _: answers.pop(0)) as (url, came):
        webhook = await queue(database, url)
        sender = Sender(database, webhook, dict)
        assert await sender.send_next(time.time()) == "status_500"
        assert await sender.send_next(time.time()) is None
        first = await make_due(database)
        assert await sender.send_next(time.time()) == "status_302"
        second = await make_due(database)
        assert 0 < first < 8
        assert 4 < second < 16
        assert await sender.send_next(time.time()) == ""
    assert len(came) == 3
    assert len({headers["webhook-id"] for headers, _ in came}) == 1
    await database.execute("UPDATE webhook_message SET ended_at = NULL, queued_at = now() - interval '25 hours'")
    await make_due(database)
    assert await sender.send_next(time.time()) == "unreachable"
    assert await database.fetchval("SELECT outcome FROM webhook_message") == "given_up"
    assert await sender.send_next(time.time()) is None


@pytest.mark.parametrize("wrong", ["nothing", "authority", "name", "plaintext"])
async def test_it_goes_over_verified_tls_only(database: Pool, tmp_path: Path, wrong: str) -> None:
    """Another authority, another name, no TLS: nothing is said there."""
    authority = Authority(tmp_path)
    (tmp_path / "other").mkdir()
    trusted = Authority(tmp_path / "other") if wrong == "authority" else authority
    name = "elsewhere.invalid" if wrong == "name" else "127.0.0.1"
    tls = None if wrong == "plaintext" else authority.server_context(name)
    async with receiving(lambda _: web.Response(), tls) as (url, came):
        webhook = await queue(database, url)
        changed = {"url": url.replace("http://", "https://"), "secret": SECRET, "ca_file": trusted.ca_file}
        sender = Sender(database, Webhook.model_validate(changed), dict)
        reason = {"nothing": "", "plaintext": "unreachable"}.get(wrong, "certificate")
        assert await sender.send_next(time.time()) == reason
    assert len(came) == (1 if wrong == "nothing" else 0)
    assert webhook.secret is not None


async def test_a_sealed_secret_is_used_once_it_is_set(database: Pool) -> None:
    """Until then nothing is sent unsigned."""
    async with receiving(lambda _: web.Response()) as (url, came):
        await queue(database, url)
        sealed: dict[str, str] = {}
        webhook = Webhook.model_validate({"url": url, "secret": {"sealed": "hook"}})
        sender = Sender(database, webhook, lambda: sealed)
        assert await sender.send_next(time.time()) == "no_secret"
        assert came == []
        sealed["hook"] = SECRET
        await make_due(database)
        assert await sender.send_next(time.time()) == ""


async def test_letters_go_to_the_operator_and_to_whose_key_it_is(database: Pool, tmp_path: Path) -> None:
    """One to each of the operator's addresses, one to each owner and admin of the account, none to others."""
    account_id = (await accounts.create(database, "acme")).account_id
    key_id = (await apikeys.create(database, LOOKUP, "acme", "k", bcrypt_cost=4)).info.key_id
    for role in ("owner", "admin", "developer", "viewer"):
        await make_person(database, f"{role}@example.org", acme=role)
    book = AttemptBook()
    for _ in range(21):
        book.note("203.0.113.0/24", "invalid_api_key", key_id)
    await book.write(database)
    alerts = Alerts(mail_to=("ops@example.org", "soc@example.org"))
    assert [one.account_id for one in await raise_due(database, alerts, by_mail=True)] == [account_id]
    assert await raise_due(database, alerts, by_mail=True) == []
    mail = {"host": "127.0.0.1", "security": "none", "sender": "proxy@example.org"}
    console = {"public_url": "https://proxy.example.org"}
    services = services_of(database, tmp_path, mail=mail, console=console, alerts=alerts.model_dump(mode="json"))
    told = {}
    while (queued := await queue_of_letters.claim(database)) is not None:
        letter = await letters.compose(services, queued)
        assert letter is not None
        told[letter.to] = (letter.subject, "\n".join(letter.paragraphs))
    assert set(told) == {"ops@example.org", "soc@example.org", "owner@example.org", "admin@example.org"}
    assert f"key {key_id}: 21" in told["ops@example.org"][1]
    assert f"named the key {key_id}" in told["owner@example.org"][1]
    assert "203.0.113" not in told["owner@example.org"][1]


async def test_a_budget_that_is_reached_is_one_message(database: Pool) -> None:
    """Once for each part, with whose it is and how it stands; without a webhook it is told to the log alone."""
    account = await accounts.create(database, "acme")
    whose = budgets.Whose(account.account_id)
    await budgets.change(database, whose, {"total": 10**13}, budgets.Terms(alert_percents=(50, 80)))
    async with database.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO budget_window (budget_id, account_id, begins_at, spent_pico)"
            " SELECT budget_id, account_id, since, 8500000000000 FROM budget"
        )
    alerts = Alerts(webhook=Webhook.model_validate({"url": "http://127.0.0.1:1/hook", "secret": SECRET}))
    assert [each.percent for each in await raise_budgets(database, alerts)] == [80]
    assert await raise_budgets(database, alerts) == []
    (row,) = await database.fetch("SELECT body FROM webhook_message")
    body = json.loads(row["body"])
    (named,) = body["data"]["budgets"]
    assert (body["type"], body["data"]["more"]) == ("budgets.reached", 0)
    assert (named["account_id"], named["key_id"], named["period"], named["percent"]) == (1, None, "total", 80)
    assert (named["amount_dollars"], named["spent_dollars"], named["ends_at"]) == ("10", "8.50", None)
    await database.execute("UPDATE budget_window SET alerted = 0")
    assert len(await raise_budgets(database, Alerts())) == 1
    assert await database.fetchval("SELECT count(*) FROM webhook_message") == 1
