"""Debug capture by the command line against a running daemon: on, seen, read by its owner alone, off; and no trace."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from luntrex_proxy.core.roles import Permission
from luntrex_proxy.store import accounts, apikeys, tokens
from luntrex_proxy.store.database import open_pool
from luntrex_proxy.store.pepper import lookup_of
from tests.whole.canaries import Canaries
from tests.whole.daemon import Daemon
from tests.whole.raw import ask, post
from tests.whole.scene import Scene, chat_request


async def make_owner(daemon: Daemon) -> tuple[str, str, str]:
    """A developer with a key of their own: token, key, and the token of the account's owner."""
    lines = (daemon.state / "postgres" / "postmaster.pid").read_text().splitlines()
    pool = await open_pool(f"postgresql://luntrex@/postgres?host={lines[4].strip()}")
    until = datetime.fromtimestamp(time.time(), UTC) + timedelta(days=1)
    made = []
    account = await accounts.find(pool, daemon.account)
    assert account is not None
    for role in ("developer", "owner"):
        person = await pool.fetchval(
            "INSERT INTO person (email, affirmed_16_at) VALUES ($1, now()) RETURNING person_id::text",
            f"{role}@example.test",
        )
        await pool.execute(
            "INSERT INTO membership (person_id, account_id, role) VALUES ($1, $2, $3)",
            person, account.account_id, role,
        )  # fmt: skip
        made.append((person, (await tokens.create(pool, person, "t", sorted(Permission), until)).token))
    lookup = await lookup_of(pool, daemon.state)
    key = await apikeys.create(pool, lookup, daemon.account, "own", person_id=made[0][0], bcrypt_cost=4)
    await pool.close()
    return made[0][1], key.key, made[1][1]


def header(daemon: Daemon, key: str, body: bytes) -> str:
    answer = ask(daemon, post(daemon, "/v1/chat/completions", body, key=key))
    assert answer.status in (200, 401)
    return answer.headers.get("x-luntrex-debug-capture", "") if answer.status == 200 else "401"


def test_captured_read_by_the_owner_and_ended(scene: Scene) -> None:
    """Only the key's owner may; two requests, a header in each, decrypted here; nobody else's, and nothing readable."""
    daemon, canary = scene.daemon, Canaries()
    developer, key, owner = asyncio.run(make_owner(daemon))
    private = daemon.directory / "capture.key"
    public = daemon.cli("debug-capture", "keygen", str(private)).stdout.strip()
    assert private.stat().st_mode & 0o777 == 0o600
    reach = ("--url", f"http://127.0.0.1:{daemon.control_port}", "--json")
    key_id = key.split("_")[1]

    def capture(*arguments: str, token: str = developer, status: int = 0) -> str:
        done = daemon.cli("debug-capture", *arguments, *reach, check=False, stdin=token)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout or done.stderr

    begin = ("start", key_id, "--public-key", public, "--requests", "2", "--minutes", "5")
    assert "not allowed" in capture(*begin, token=owner, status=1), "an owner of the account does not own the key"
    service = daemon.key.split("_")[1]
    refused = capture("start", service, "--public-key", public, token=owner, status=1)
    assert "did not consent" in refused
    body = chat_request(user=canary("said"), messages=[{"role": "user", "content": canary("prompt")}])
    deadline = time.monotonic() + 20
    while header(daemon, key, body) == "401":
        assert time.monotonic() < deadline
    assert header(daemon, key, body) == ""
    started = json.loads(capture(*begin))
    while header(daemon, key, body) != "on":
        assert time.monotonic() < deadline
    while json.loads(capture("list"))[0]["records"] < 2:
        header(daemon, key, body)
        assert time.monotonic() < deadline
    assert header(daemon, key, body) == ""
    assert header(daemon, daemon.key, body) == ""
    assert canary.search_tables(daemon) == []
    records = json.loads(capture("read", started["id"], "--key-file", str(private)))
    assert len(records) == 2
    for record in records:
        assert record["status"] == 200
        assert json.loads(record["request"]) == json.loads(body)
        assert json.loads(record["answer"])["choices"]
        assert record["request_whole"]
        assert record["answer_whole"]
    assert "not allowed" in capture("read", started["id"], "--key-file", str(private), token=owner, status=1)
    other = daemon.directory / "other.key"
    daemon.cli("debug-capture", "keygen", str(other))
    assert "for another key" in capture("read", started["id"], "--key-file", str(other), status=1)
    assert json.loads(capture("stop", started["id"]))["live"] is False
    acts = [entry["act"] for entry in json.loads(daemon.cli("audit", "list", "--json").stdout)]
    assert {"debug_capture.started", "debug_capture.read", "debug_capture.stopped"} <= set(acts)
    daemon.query("CHECKPOINT")
    private.unlink()
    assert canary.search_files(daemon.directory) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("list", "--url", "http://proxy.example"), "must start with https://"),
        (("list", "--url", "http://127.0.0.1:1"), "cannot be reached"),
        (("keygen", "/nowhere/x"), "cannot be made"),
        (("start", "x", "--public-key", "x", "--requests", "101", "--url", "http://127.0.0.1:1"), "not in the range"),
    ],
)
def test_wrong_use(scene: Scene, arguments: tuple[str, ...], sentence: str) -> None:
    """One sentence each, and the token in none."""
    done = scene.daemon.cli("debug-capture", *arguments, check=False, stdin="lxp_canary")
    assert done.returncode in (1, 2)
    assert sentence in done.stderr
    assert "canary" not in done.stderr
