"""Limits, pauses and moves of keys from the command line to a running daemon and the SDKs."""

import datetime
import json
import time
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.upstreams import bodies
from tests.upstreams.scripted import LAST_CHUNK, chunk, sse_head
from tests.whole import calls
from tests.whole.daemon import unique
from tests.whole.raw import RawClient, Reply, ask, post
from tests.whole.scene import Scene, chat_request, message_request
from tests.whole.test_keys import REVOKED_SECONDS, wait_for

SAID: Any = [{"role": "user", "content": "hello"}]


def create(scene: Scene, *options: str) -> dict[str, str]:
    """A key of the daemon's account with options."""
    made: dict[str, str] = json.loads(
        scene.daemon.cli(
            "keys", "create", "--account", scene.daemon.account, "--name", unique("k"), *options, "--json"
        ).stdout
    )
    return made


def status(scene: Scene, key: str, path: str = "/v1/chat/completions", body: bytes = b"") -> int:
    """What a request with this key gets."""
    return ask(scene.daemon, post(scene.daemon, path, body or chat_request(), key=key)).status


def test_a_limited_key_does_what_it_may(scene: Scene) -> None:
    """Endpoint, model and network given at creation hold for the SDK; the list of keys says them."""
    made = create(scene, "--endpoint", "chat.completions", "--endpoint", "models", "--model", "pla*",
                  "--network", "127.0.0.0/8", "--region", "eu")  # fmt: skip
    wait_for(scene, made["key"], 200)
    client = calls.openai_client(scene.daemon.url, made["key"])
    assert [one.id for one in client.models.list()] == ["plain"]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="alias", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.PermissionDeniedError, match="may not use this endpoint"):
        client.embeddings.create(model="plain", input="x")
    assert status(scene, made["key"], "/v1/messages", message_request()) == 403
    listed = {key["id"]: key for key in json.loads(scene.daemon.cli("keys", "list", "--json").stdout)}[made["id"]]
    assert (listed["endpoints"], listed["models"]) == (["chat.completions", "models"], ["pla*"])
    assert (listed["regions"], listed["networks"]) == (["eu"], ["127.0.0.0/8"])
    table = scene.daemon.cli("keys", "list").stdout
    assert "endpoints: chat.completions, models; models: pla*; regions: eu; networks: 127.0.0.0/8" in table


def test_limits_change_while_the_daemon_runs(scene: Scene) -> None:
    """`keys limit` reaches the daemon within a second, in both directions, and touches only what it names."""
    made = create(scene)
    wait_for(scene, made["key"], 200)
    scene.daemon.cli("keys", "limit", made["id"], "--network", "192.0.2.0/24")
    assert wait_for(scene, made["key"], 403) < REVOKED_SECONDS
    scene.daemon.cli("keys", "limit", made["id"], "--model", "claude")
    scene.daemon.cli("keys", "limit", made["id"], "--no-limit", "networks")
    assert wait_for(scene, made["key"], 404) < REVOKED_SECONDS
    assert status(scene, made["key"], "/v1/messages", message_request()) == 200
    shown = json.loads(scene.daemon.cli("keys", "limit", made["id"], "--no-limit", "models", "--json").stdout)
    assert (shown["models"], shown["networks"]) == (None, None)
    assert wait_for(scene, made["key"], 200) < REVOKED_SECONDS


def test_a_suspended_key_stops_and_comes_back(scene: Scene) -> None:
    """Its running stream is cut, new requests are 401, and after `keys resume` it works as before."""
    made = create(scene)
    wait_for(scene, made["key"], 200)
    many = [step for n in range(200) for step in (chunk(bodies.chat_delta(f"word{n} ")), 0.05)]
    scene.answer(sse_head(), *many, LAST_CHUNK)
    with RawClient(scene.daemon.port, timeout_seconds=20) as client:
        client.send(post(scene.daemon, "/v1/chat/completions", chat_request(stream=True), key=made["key"]))
        client.read_until(b"word0")
        scene.daemon.cli("keys", "suspend", made["id"])
        suspended_at = time.monotonic()
        answer = Reply(client.read_all())
    assert time.monotonic() - suspended_at < REVOKED_SECONDS + 0.5
    assert b"[DONE]" not in answer.body
    scene.reset()
    assert status(scene, made["key"]) == 401
    assert "suspended" in scene.daemon.cli("keys", "list").stdout
    refused = scene.daemon.cli("keys", "rotate", made["id"], check=False)
    assert (refused.returncode, "run `luntrex-proxy keys resume" in refused.stderr) == (1, True)
    scene.daemon.cli("keys", "resume", made["id"])
    assert wait_for(scene, made["key"], 200) < REVOKED_SECONDS


def test_a_key_begins_and_ends(scene: Scene) -> None:
    """Before its time and after it a key is 401, in between 200."""
    now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
    begin, end = (now + datetime.timedelta(seconds=seconds) for seconds in (8, 600))
    form = "%Y-%m-%dT%H:%M:%SZ"
    made = create(scene, "--not-before", begin.strftime(form), "--expires", end.strftime(form))
    if time.time() < begin.timestamp() - 1:
        assert status(scene, made["key"]) == 401
    wait_for(scene, made["key"], 200, seconds=20)
    assert time.time() >= begin.timestamp() - 1
    scene.daemon.query(
        "WITH changed AS (UPDATE change_version SET version = version + 1 RETURNING version)"
        " UPDATE api_key SET expires_at = now() + interval '1 second', version = changed.version FROM changed"
        " WHERE key_id = $1",
        made["id"],
    )
    wait_for(scene, made["key"], 401, seconds=20)
    assert made["id"] in scene.daemon.cli("keys", "list").stdout


def test_last_use_is_shown(scene: Scene) -> None:
    """A key that was used says when, at the latest when the daemon stops."""
    made = create(scene)
    wait_for(scene, made["key"], 200)
    scene.daemon.stop()
    scene.daemon.start()
    listed = {key["id"]: key for key in json.loads(scene.daemon.cli("keys", "list", "--json").stdout)}
    used_at = datetime.datetime.fromisoformat(listed[made["id"]]["last_used_at"])
    assert abs(used_at.timestamp() - time.time()) < 60


def test_keys_of_another_installation_work(scene: Scene, tmp_path: Path) -> None:
    """Exported there, imported here: the same key works, at first by bcrypt, and its id in the usage is the same."""
    there = {"LUNTREX_STATE__DIRECTORY": str(tmp_path / "there"), "LUNTREX_CONFIG": ""}
    daemon = scene.daemon
    mine, daemon.environment = daemon.environment, daemon.environment | there
    config, daemon.config = daemon.config, tmp_path / "none.yaml"
    daemon.config.write_text("{}")
    try:
        daemon.cli("accounts", "create", "elsewhere")
        made = json.loads(daemon.cli("keys", "create", "--account", "elsewhere", "--name", "old", "--json").stdout)
        exported = daemon.cli("keys", "export").stdout
    finally:
        daemon.environment, daemon.config = mine, config
    assert made["id"] in exported
    assert made["key"].split("_")[2] not in exported
    wrong = daemon.cli("keys", "import", "-", stdin=exported, check=False)
    assert (wrong.returncode, wrong.stderr.startswith("Line 1: There is no account 'elsewhere'")) == (1, True)
    daemon.cli("keys", "import", "-", "--account", daemon.account, stdin=exported)
    wait_for(scene, made["key"], 200)
    row = daemon.row(
        ask(daemon, post(daemon, "/v1/chat/completions", chat_request(), key=made["key"])).headers["x-request-id"]
    )
    assert row["key_id"] == made["id"]
    wait_moved = time.monotonic() + 5
    while daemon.query("SELECT 1 FROM api_key WHERE key_id = $1 AND lookup_hash IS NULL", made["id"]):
        assert time.monotonic() < wait_moved, "its lookup hash is not in the table"
        time.sleep(0.1)


def limited(scene: Scene, *words: str, models: tuple[str, ...]) -> tuple[str, str]:
    """A new key with limits for each of these models, once the daemon knows of them; the key and its id."""
    made = create(scene)
    wait_for(scene, made["key"], 200)
    for model in models:
        scene.daemon.cli("limits", "set", "--key", made["id"], "--model", model, *words)
    # The last change, and one that every answer tells of, also that of a model which takes nothing.
    scene.daemon.cli("limits", "set", "--key", made["id"], "tokens/day=1000000")
    request = post(scene.daemon, "/v1/chat/completions", chat_request("unreachable"), key=made["key"])
    deadline = time.monotonic() + REVOKED_SECONDS
    while "x-ratelimit-limit-tokens" not in ask(scene.daemon, request).headers:
        assert time.monotonic() < deadline, "the daemon does not know of the limit"
        time.sleep(0.05)
    scene.upstream.forget()
    return made["key"], made["id"]


def test_sdks_see_the_headers_and_the_limit_by_name(scene: Scene) -> None:
    """What is left comes with each answer; above it, both raise RateLimitError with the limit in the message."""
    key, _ = limited(scene, "requests/day=1", models=("plain", "claude*"))
    chat, messages = calls.openai_client(scene.daemon.url, key), calls.anthropic_client(scene.daemon.url, key)
    raw = chat.chat.completions.with_raw_response.create(model="plain", messages=SAID)
    assert raw.headers["x-ratelimit-remaining-requests"] == "0"
    assert int(raw.headers["x-ratelimit-remaining-tokens"]) < 1_000_000
    theirs = messages.messages.with_raw_response.create(model="claude", max_tokens=9, messages=SAID)
    assert theirs.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    with pytest.raises(openai.RateLimitError, match="The limit: 1 requests per day of the key for this model") as ours:
        chat.chat.completions.create(model="plain", messages=SAID)
    assert (ours.value.code, ours.value.type) == ("rate_limit_exceeded", "requests")
    with pytest.raises(anthropic.RateLimitError, match="The limit: 1 requests per day of the key for this model"):
        messages.messages.create(model="claude", max_tokens=9, messages=SAID)


def test_sdks_wait_as_long_as_it_takes(scene: Scene) -> None:
    """Thirty a minute is one in two seconds: the one above waits that long, once, and is answered."""
    key, key_id = limited(scene, "requests/minute=30", models=("plain",))
    while ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request(), key=key)).status != 429:
        pass
    scene.upstream.forget()
    client = calls.openai_client(scene.daemon.url, key, max_retries=2)
    began = time.monotonic()
    client.chat.completions.create(model="plain", messages=SAID)
    assert 0.9 < time.monotonic() - began < 9.0
    assert len(scene.upstream.exchanges) == 1
    codes = codes_of(scene, key_id, 2)
    assert codes.count("requests_limited") == 2, "it asked again before its time"


def test_sdks_stop_when_waiting_is_useless(scene: Scene) -> None:
    """A day is too long to wait: they give up at once, although they would try again ten times."""
    key, key_id = limited(scene, "requests/day=1", models=("pla*", "claude"))
    chat = calls.openai_client(scene.daemon.url, key, max_retries=10)
    messages = calls.anthropic_client(scene.daemon.url, key, max_retries=10)
    chat.chat.completions.create(model="plain", messages=SAID)
    messages.messages.create(model="claude", max_tokens=9, messages=SAID)
    began = time.monotonic()
    with pytest.raises(openai.RateLimitError):
        chat.chat.completions.create(model="plain", messages=SAID)
    with pytest.raises(anthropic.RateLimitError):
        messages.messages.create(model="claude", max_tokens=9, messages=SAID)
    assert time.monotonic() - began < 5
    assert codes_of(scene, key_id, 2).count("requests_limited") == 2


def test_what_was_used_stays_used_over_restarts(scene: Scene) -> None:
    """Two of three in one process, which is killed; the third in the next, which ends well; none in the one after."""
    made = create(scene)
    wait_for(scene, made["key"], 200)
    scene.daemon.cli("limits", "set", "--key", made["id"], "requests/day=3")
    request = post(scene.daemon, "/v1/chat/completions", chat_request(), key=made["key"])
    deadline = time.monotonic() + REVOKED_SECONDS
    while "x-ratelimit-remaining-requests" not in (headers := ask(scene.daemon, request).headers):
        assert time.monotonic() < deadline, "the daemon does not know of the limit"
    assert headers["x-ratelimit-remaining-requests"] == "2"
    assert ask(scene.daemon, request).headers["x-ratelimit-remaining-requests"] == "1"
    told = "SELECT 1 FROM limit_level JOIN usage_limit USING (limit_id) WHERE key_id = $1 AND level > 1.5"
    while not scene.daemon.query(told, made["id"]):
        assert time.monotonic() < deadline + 5, "what was used is not told"
        time.sleep(0.1)
    scene.daemon.kill()
    scene.daemon.start()
    assert ask(scene.daemon, request).headers["x-ratelimit-remaining-requests"] == "0"
    scene.daemon.stop()
    scene.daemon.start()
    assert ask(scene.daemon, request).status == 429


def codes_of(scene: Scene, key_id: str, refused: int) -> list[str]:
    """How the key's requests ended, once so many refusals are on record, and a moment later."""
    deadline = time.monotonic() + 5
    query = "SELECT code FROM usage WHERE key_id = $1 AND model <> 'unreachable'"
    while [row["code"] for row in scene.daemon.query(query, key_id)].count("requests_limited") < refused:
        assert time.monotonic() < deadline, "the refusals are not on record"
        time.sleep(0.1)
    time.sleep(0.6)  # the next round of records
    return [row["code"] for row in scene.daemon.query(query, key_id)]


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("create", "--account", "tests", "--name", "x", "--endpoint", "shell"), 2, "'shell' is no endpoint; choose"),
        (("create", "--account", "tests", "--name", "x", "--network", "10.0.0.1/8"), 2, "did you mean 10.0.0.0/8?"),
        (("create", "--account", "tests", "--name", "x", "--region", "E U"), 2, "is no region"),
        (("create", "--account", "tests", "--name", "x", "--expires", "2001-01-01"), 1, "cannot end in the past"),
        (("create", "--account", "tests", "--name", "x", "--not-before", "2098-01-01", "--expires", "2097-01-01"), 1,
         "cannot end before it begins"),
        (("limit", "A" * 12), 2, "Say what to change"),
        (("limit", "A" * 12, "--model", "x", "--no-limit", "models"), 2, "contradict each other"),
        (("limit", "A" * 12, "--model", "x"), 1, "There is no key of this id"),
        (("suspend", "A" * 12), 1, "There is no key of this id"),
        (("import", "-"), 0, ""),
    ],
)  # fmt: skip
def test_wrong_use_is_one_sentence(scene: Scene, arguments: tuple[str, ...], status: int, sentence: str) -> None:
    """Exit status and sentence; no traceback."""
    done = scene.daemon.cli("keys", *arguments, check=False)
    assert done.returncode == status, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
