"""Rights against a running installation: keys of restricted people, objections, erasure that a restore cannot undo."""

import json
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, get, model, running, upstream
from tests.whole.raw import ask, post
from tests.whole.scene import Scene, chat_request

CANARY = "canary-person"


@pytest.fixture
def own_scene(servers: LoopThread) -> Iterator[Scene]:
    """A daemon that the test can stop."""
    scripted = ScriptedUpstream(servers)
    configuration = {"upstreams": [upstream("oai", "openai", f"{scripted.url}/v1")], "models": [model("plain", "oai")]}
    with running(servers, configuration) as daemon:
        made = Scene(daemon, scripted)
        made.reset()
        yield made
    scripted.stop()


def add_person(daemon: Daemon, key_id: str, address: str) -> str:
    """A developer of the daemon's account whose key this is, beside its owner."""
    owner, person = str(uuid.uuid4()), str(uuid.uuid4())
    for person_id, email, role in ((owner, f"{owner}@example.org", "owner"), (person, address, "developer")):
        daemon.query(f"INSERT INTO person (person_id, email, affirmed_16_at) VALUES ('{person_id}', '{email}', now())")
        daemon.query(f"INSERT INTO membership SELECT '{person_id}', account_id, '{role}' FROM account LIMIT 1")
    daemon.query(
        "WITH v AS (UPDATE change_version SET version = version + 1 RETURNING version)"
        f" UPDATE api_key k SET person_id = '{person}', version = v.version FROM v WHERE key_id = '{key_id}'"
    )
    return person


def asked(daemon: Daemon, key: str) -> tuple[int, str, str]:
    """Status, request id and body of a chat."""
    reply = ask(daemon, post(daemon, "/v1/chat/completions", chat_request(), key=key))
    return reply.status, reply.headers["x-request-id"], reply.body.decode()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_restricted_person_and_one_who_objects(scene: Scene) -> None:
    """Keys answer 403 with a sentence of ours and work again when it is lifted; objected usage has no key."""
    daemon = scene.daemon
    made = daemon.make_key("restricted")
    add_person(daemon, made["id"], "restricted@example.org")
    assert asked(daemon, made["key"])[0] == 200
    done = json.loads(daemon.cli("rights", "restrict", "restricted@example.org", "--json").stdout)
    assert (done["state"], done["outcome"]) == ("done", "restricted")
    until(lambda: asked(daemon, made["key"])[0] == 403, 3)
    assert "only be stored" in asked(daemon, made["key"])[2]
    assert asked(daemon, daemon.key)[0] == 200, "the account's own key works"
    daemon.cli("rights", "restrict", "restricted@example.org", "--lift")
    until(lambda: asked(daemon, made["key"])[0] == 200, 3)
    daemon.cli("rights", "object", "restricted@example.org")
    _, request_id, _ = asked(daemon, made["key"])
    row = daemon.row(request_id)
    assert daemon.query(f"SELECT key_id FROM usage WHERE request_id = '{request_id}'") == [{"key_id": "unlinked"}]
    assert row["status"] == 200


def test_dump_erase_restore_start(own_scene: Scene) -> None:
    """A backup from before brings nobody back: not in the tables, not by the key, not in the files of the spool."""
    daemon = own_scene.daemon
    made = daemon.make_key(CANARY)
    person = add_person(daemon, made["id"], f"{CANARY}@example.org")
    _, first, _ = asked(daemon, made["key"])
    daemon.row(first)
    total = "SELECT sum(requests)::bigint AS n, sum(output_tokens)::bigint AS o FROM usage_rollup_daily"
    before = daemon.query(total)
    file = str(daemon.directory / "backup")
    daemon.cli("db", "backup", file)
    refused = daemon.cli("rights", "erase", "nobody@example.org", check=False)
    assert (refused.returncode, "There is no person" in refused.stderr) == (1, True)
    asked_for = json.loads(daemon.cli("rights", "erase", person, "--json").stdout)
    assert asked_for["state"] == "waiting"
    assert asked(daemon, made["key"])[0] == 200, "it can still be withdrawn"
    until(lambda: b'luntrex_legal_due_seconds{clock="gdpr"}' in get(daemon.control_port, "/metrics")[1])
    daemon.query("UPDATE rights_request SET act_at = now()")
    until(lambda: asked(daemon, made["key"])[0] == 401)
    until(lambda: daemon.query("SELECT state FROM rights_request") == [{"state": "done"}])
    status = json.loads(daemon.cli("rights", "status", asked_for["reference"], "--json").stdout)
    assert (status["state"], status["receipt"]["unlinked"]["usage"] >= 1) == ("done", True)
    until(lambda: not in_files(daemon, made["id"]))
    sums = daemon.query(total)
    daemon.kill()
    daemon.wait_no_postgres()
    restored = json.loads(daemon.cli("db", "restore", file, "--replace", "--json").stdout)
    assert restored["erased_again"] == 1
    daemon.start()
    assert daemon.query(f"SELECT count(*) AS n FROM person WHERE person_id = '{person}'") == [{"n": 0}]
    assert daemon.query("SELECT count(*) AS n FROM api_key WHERE name = 'canary-person'") == [{"n": 0}]
    assert daemon.query(f"SELECT count(*) AS n FROM usage WHERE key_id = '{made['id']}'") == [{"n": 0}]
    assert daemon.query(f"SELECT count(*) AS n FROM usage_rollup WHERE key_id = '{made['id']}'") == [{"n": 0}]
    assert asked(daemon, made["key"])[0] == 401
    assert daemon.query(total)[0]["n"] >= before[0]["n"]
    assert sums[0]["n"] >= before[0]["n"]
    assert b"luntrex_ledger_lost_total 0" in get(daemon.control_port, "/metrics")[1]


def in_files(daemon: Daemon, word: str) -> bool:
    """Whether any file of the state directory but the database's own has this word."""
    files = (path for path in daemon.state.rglob("*") if path.is_file() and "postgres" not in path.parts)
    return any(word.encode() in path.read_bytes() for path in files)
