"""Keys from the command line to the gateway: made, rotated, revoked while the daemon runs."""

import concurrent.futures
import json
import re
import time
import urllib.request
from typing import Any

import openai
import pytest
import yaml

from luntrex_proxy.core.roles import Permission
from tests.upstreams import bodies
from tests.upstreams.scripted import LAST_CHUNK, chunk, sse_head
from tests.whole import calls
from tests.whole.daemon import unique
from tests.whole.raw import RawClient, Reply, ask, post
from tests.whole.scene import Scene, chat_request

REVOKED_SECONDS = 1.0
KEY = re.compile(r"lx_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")


def status(scene: Scene, key: str) -> int:
    """What a request with this key gets."""
    return ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request(), key=key)).status


def wait_for(scene: Scene, key: str, wanted: int, seconds: float = 5) -> float:
    """Seconds until a key gets this status."""
    started = time.monotonic()
    while status(scene, key) != wanted:
        assert time.monotonic() - started < seconds, f"still not {wanted}"
        time.sleep(0.02)
    return time.monotonic() - started


def test_a_new_key_works_at_once_and_is_shown_once(scene: Scene) -> None:
    """A key works moments after `keys create`; no verb ever shows it again."""
    made = scene.daemon.make_key(unique("new"))
    assert KEY.fullmatch(made["key"])
    assert made["id"] == made["key"].split("_")[1]
    wait_for(scene, made["key"], 200)
    listed = scene.daemon.cli("keys", "list", "--json").stdout
    assert made["id"] in listed
    assert made["key"] not in listed
    assert made["key"].split("_")[2] not in listed


def test_a_revoked_key_is_refused_within_a_second(scene: Scene) -> None:
    """`keys revoke` reaches the running daemon through NOTIFY."""
    made = scene.daemon.make_key(unique("revoked"))
    wait_for(scene, made["key"], 200)
    scene.daemon.cli("keys", "revoke", made["id"])
    assert wait_for(scene, made["key"], 401) < REVOKED_SECONDS


def test_a_running_stream_of_a_revoked_key_is_cut(scene: Scene) -> None:
    """A stream under way when its key is revoked ends in an error event, and the row says cut."""
    made = scene.daemon.make_key(unique("cut"))
    wait_for(scene, made["key"], 200)
    scene.upstream.forget()
    many: list[Any] = [step for n in range(200) for step in (chunk(bodies.chat_delta(f"word{n} ")), 0.05)]
    scene.answer(sse_head(), *many, LAST_CHUNK)
    request = post(scene.daemon, "/v1/chat/completions", chat_request(stream=True), key=made["key"])
    with RawClient(scene.daemon.port, timeout_seconds=20) as client:
        client.send(request).read_until(b"word0")
        scene.daemon.cli("keys", "revoke", made["id"])
        revoked_at = time.monotonic()
        answer = Reply(client.read_all())
    assert time.monotonic() - revoked_at < REVOKED_SECONDS + 0.5
    assert b"[DONE]" not in answer.body
    assert b'"error"' in answer.body.split(b"\n\n")[-2]
    assert scene.upstream.wait().closed.wait(1)
    row = scene.daemon.row(answer.headers["x-request-id"])
    assert (row["ending"], row["code"]) == ("cut", "key_revoked")


def test_rotation_overlaps_and_then_ends_the_old_key(scene: Scene) -> None:
    """After `keys rotate` both keys work for the overlap; with none the old one ends."""
    made = scene.daemon.make_key(unique("rotated"))
    wait_for(scene, made["key"], 200)
    second = json.loads(scene.daemon.cli("keys", "rotate", made["id"], "--json").stdout)
    wait_for(scene, second["key"], 200)
    assert status(scene, made["key"]) == 200
    third = json.loads(scene.daemon.cli("keys", "rotate", second["id"], "--overlap-hours", "0", "--json").stdout)
    wait_for(scene, third["key"], 200)
    wait_for(scene, second["key"], 401)


def test_a_suspended_accounts_keys_stop(scene: Scene) -> None:
    """`accounts suspend` stops every key of the account, and no other."""
    name = unique("acct")
    scene.daemon.cli("accounts", "create", name, "--json")
    made = json.loads(scene.daemon.cli("keys", "create", "--account", name, "--name", "k", "--json").stdout)
    wait_for(scene, made["key"], 200)
    scene.daemon.cli("accounts", "suspend", name)
    wait_for(scene, made["key"], 401)
    assert status(scene, scene.daemon.key) == 200


def test_what_the_api_does_reaches_the_gateway(scene: Scene) -> None:
    """A key that a program made works at once, shows in its usage, ends with its account; no token is in a log."""
    daemon, name, address = scene.daemon, unique("acct"), f"{unique('ada')}@example.org"
    daemon.cli("accounts", "create", name, "--json")
    daemon.cli("people", "create", address, "--affirm-16", "--operator", "--account", name)
    scopes = [word for scope in Permission for word in ("--scope", scope)]
    words = ("tokens", "create", "--person", address, "--name", "t", *scopes, "--json")
    token = json.loads(daemon.cli(*words).stdout)["token"]

    def api(method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(
            f"http://127.0.0.1:{daemon.control_port}/api/v1{path}", json.dumps(body).encode(), headers, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    (account,) = [each for each in api("GET", "/accounts?limit=200")["items"] if each["name"] == name]
    keys = f"/accounts/{account['id']}/keys"
    made = api("POST", keys, {"name": "k"})
    wait_for(scene, made["key"], 200)
    answer = ask(daemon, post(daemon, "/v1/chat/completions", chat_request(), key=made["key"]))
    daemon.row(answer.headers["x-request-id"])
    (request,) = [
        each for each in api("GET", f"/accounts/{account['id']}/usage/requests")["items"]
        if each["request_id"] == answer.headers["x-request-id"]
    ]  # fmt: skip
    assert (request["key_id"], request["model"], request["status"]) == (made["id"], "plain", 200)
    assert {each["name"]: each["health"] for each in api("GET", "/upstreams")["items"]}["oai"] == "good"
    api("POST", f"/accounts/{account['id']}/suspend")
    assert wait_for(scene, made["key"], 401) < REVOKED_SECONDS + 0.5
    api("POST", f"/accounts/{account['id']}/resume")
    wait_for(scene, made["key"], 200)
    api("DELETE", f"{keys}/{made['id']}")
    assert wait_for(scene, made["key"], 401) < REVOKED_SECONDS + 0.5
    assert token not in daemon.stderr.read_text() + daemon.stdout.read_text()


def test_usage_is_the_accounts_own(scene: Scene) -> None:
    """Requests are on the account and key that made them, in the table and in the totals."""
    name = unique("acct")
    scene.daemon.cli("accounts", "create", name, "--json")
    made = json.loads(scene.daemon.cli("keys", "create", "--account", name, "--name", "k", "--json").stdout)
    wait_for(scene, made["key"], 200)
    answer = ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request(), key=made["key"]))
    row = scene.daemon.row(answer.headers["x-request-id"])
    assert row["key_id"] == made["id"]
    totals = json.loads(scene.daemon.cli("usage", "--json").stdout)
    mine = [total for total in totals if total["key_id"] == made["id"]]
    assert sum(total["requests"] for total in mine) >= 1
    assert {total["model"] for total in mine} == {"plain"}


def test_usage_is_charged_by_label_and_proved(scene: Scene) -> None:
    """By the label of the key, whatever a request says; without a price it is counted as that, and priced later."""
    daemon, name = scene.daemon, unique("acct")
    daemon.cli("accounts", "create", name)
    daemon.cli("accounts", "labels", "declare", name, "project", "search", "chat")
    made = json.loads(
        daemon.cli("keys", "create", "--account", name, "--name", "k", "--label", "project=chat", "--json").stdout
    )
    wait_for(scene, made["key"], 200)
    unpriced = daemon.metric("luntrex_unpriced_requests_total")
    says = {"metadata": {"project": "search"}, "user": "project=search", "service_tier": "flex"}
    for stream in (False, True):
        request = post(daemon, "/v1/chat/completions", chat_request(stream=stream, **says), key=made["key"])
        last = ask(daemon, request).headers["x-request-id"]
    assert daemon.row(last)["price_version"] == ""
    assert daemon.metric("luntrex_unpriced_requests_total") == unpriced + 2
    by = json.loads(daemon.cli("usage", "--account", name, "--by", "label:project", "--json").stdout)
    assert [(each["label:project"], each["cost_pico"]) for each in by] == [("chat", 0)]
    # The same configuration with a price, before the daemon is told.
    priced = yaml.safe_load(daemon.config.read_text())
    priced["models"][0]["price"] = {"input": 1, "output": 2}
    (daemon.directory / "priced.yaml").write_text(yaml.safe_dump(priced))
    today = str(daemon.query("SELECT (now() AT TIME ZONE 'UTC')::date::text AS day")[0]["day"])
    span = ("--account", name, "--since", today, "--until", today, "--config", str(daemon.directory / "priced.yaml"))
    said = json.loads(daemon.cli("billing", "reprice", *span, "--apply", "--json").stdout)
    tokens = {column: by[0][column] for column in ("input_tokens", "output_tokens")}
    expected = tokens["input_tokens"] * 1_000_000 + tokens["output_tokens"] * 2_000_000
    assert [(each["before_pico"], each["after_pico"]) for each in said["totals"]] == [(0, expected)]
    statement = json.loads(daemon.cli("billing", "statement", "--account", name, "--month", today[:7], "--json").stdout)
    assert [(line["labels"], line["cost_pico"]) for line in statement["lines"]] == [({"project": "chat"}, expected)]
    proof = json.loads(daemon.cli("billing", "reconcile", "--account", name, "--json").stdout)
    assert (proof["right"], proof["accounts"][0]["records_pico"]) == (True, expected)


def test_a_flood_of_wrong_keys_hurts_nobody(scene: Scene) -> None:
    """Many wrong keys at once are all 401, and a good key between them is served."""
    wrong = [f"{scene.daemon.key[:-6]}{number:06d}" for number in range(30)]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        refused = pool.map(lambda key: status(scene, key), wrong)
        assert status(scene, scene.daemon.key) == 200
    assert set(refused) == {401}


def test_environment_lines_are_ready_to_paste(scene: Scene) -> None:
    """`keys create` prints lines for each client, with the key and the gateway's own address in them."""
    printed = scene.daemon.cli("keys", "create", "--account", scene.daemon.account, "--name", unique("env")).stdout
    key = KEY.findall(printed)[0]
    for word in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "curl", "LangChain",
                 "Claude Code", "Codex"):  # fmt: skip
        assert word in printed, word
    assert f"http://127.0.0.1:{scene.daemon.port}" in printed
    wait_for(scene, key, 200)
    url = re.findall(r"OPENAI_BASE_URL=(\S+)", printed)[0]
    with pytest.raises(openai.NotFoundError):
        calls.openai_client(url, key).models.retrieve("no-such-model")
