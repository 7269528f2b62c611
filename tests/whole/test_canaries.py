"""Nothing of what was said is anywhere: canaries in every part of every message, then a search of everything kept."""

import base64
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.canaries import Canaries, Hit
from tests.whole.daemon import Daemon, free_port, model, upstream
from tests.whole.raw import ask, post
from tests.whole.said import (
    CHAT,
    chat_with,
    disturb_the_control_plane,
    leave_and_die,
    say_everything_badly,
    say_everything_well,
    upstream_speaks_badly,
)
from tests.whole.scene import Scene


@pytest.fixture
def canary() -> Canaries:
    return Canaries()


def make_scene(servers: LoopThread, *program: str) -> Scene:
    """A daemon, not yet started, that logs all it can and keeps its temporary files where they are searched."""
    scripted = ScriptedUpstream(servers)
    quick = {"first_byte_s": 1, "idle_s": 0.6}
    patient = {"failures": 10_000, "error_requests": 10_000}
    configuration = {
        "logging": {"level": "debug"},
        "upstreams": [
            upstream("oai", "openai", f"{scripted.url}/v1", timeouts=quick, health=patient),
            upstream("ant", "anthropic", f"{scripted.url}/v1", timeouts=quick, health=patient),
            upstream("dead", "openai", f"http://127.0.0.1:{free_port()}/v1"),
        ],
        "models": [
            model("plain", "oai"),
            model("claude", "ant"),
            model("wild/*", "oai", "*"),
            model("unreachable", "dead"),
        ],
    }
    daemon = Daemon(servers, configuration)
    temporary = daemon.directory / "tmp"
    temporary.mkdir()
    daemon.environment |= {"TMPDIR": str(temporary)}
    if program:
        daemon.program = program
    scene = Scene(daemon, scripted)
    scene.reset()
    return scene


@pytest.fixture
def quiet_scene(servers: LoopThread) -> Iterator[Scene]:
    """The product as it is."""
    scene = make_scene(servers)
    try:
        scene.daemon.start()
        yield scene
    finally:
        scene.daemon.remove()
        scene.upstream.stop()


@pytest.fixture
def leaking_scene(servers: LoopThread) -> Iterator[Scene]:
    """The same with sinks that leak."""
    scene = make_scene(servers, "-m", "tests.whole.leaking")
    try:
        scene.daemon.start()
        yield scene
    finally:
        scene.daemon.remove()
        scene.upstream.stop()


def settle(daemon: Daemon) -> None:
    """Wait until every record is in the tables and the log is written."""
    deadline = time.monotonic() + 20
    while daemon.metric("luntrex_ledger_spooled_total") > 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)


def search_all(daemon: Daemon, canary: Canaries) -> list[Hit]:
    """Tables and surfaces while it runs, then, after a checkpoint, every byte on disk; again after the stop."""
    settle(daemon)
    hits = canary.search_tables(daemon) + canary.search_surfaces(daemon)
    daemon.query("CHECKPOINT")
    hits += canary.search_files(daemon.directory)
    assert daemon.stop() == 0
    return hits + canary.search_files(daemon.directory)


def test_nothing_of_what_was_said_is_anywhere(quiet_scene: Scene, canary: Canaries) -> None:
    """Logs, spool, every table, PostgreSQL's files and its log, metrics, verbs, refusals: no canary in any form."""
    daemon = quiet_scene.daemon
    say_everything_well(quiet_scene, canary)
    refused = say_everything_badly(quiet_scene, canary)
    upstream_speaks_badly(quiet_scene, canary)
    control = disturb_the_control_plane(daemon, canary)
    leave_and_die(quiet_scene, canary)
    hits = search_all(daemon, canary)
    for number, answer in enumerate(refused):
        assert answer.status >= 400, f"request {number} was not refused"
        hits += canary.search(f"refusal {number}", answer.rest + repr(answer.headers).encode())
    for number, received in enumerate(control):
        hits += canary.search(f"control plane's answer {number}", received)
    assert len(canary.planted) > 90
    assert hits == []


def test_no_secret_is_anywhere(quiet_scene: Scene, canary: Canaries) -> None:
    """A key's secret part and the provider's key are in no file, log, table or verb."""
    daemon = quiet_scene.daemon
    key = daemon.key
    secret = Canaries()
    secret._forms = {"key": key.lower().encode(), "secret part": key.split("_")[2].lower().encode()}
    provider = Canaries()
    provider._forms = {"provider key": daemon.environment["TEST_PROVIDER_KEY"].encode()}
    say_everything_well(quiet_scene, canary)
    for wrong in (key[:-1] + "_", key + "x", key[:40], f"Bearer {key}", key.upper()):
        assert ask(daemon, post(daemon, CHAT, chat_with(canary), key=wrong)).status == 401
    settle(daemon)
    hits = []
    for who in (secret, provider):
        hits += who.search_tables(daemon) + who.search_surfaces(daemon)
    daemon.query("CHECKPOINT")
    daemon.stop()
    for who in (secret, provider):
        hits += who.search_files(daemon.directory)
    assert hits == []


def test_a_leaking_build_is_caught(leaking_scene: Scene, canary: Canaries) -> None:
    """The positive control: leaks into log, spool, table, metrics and a compressed file are each found."""
    daemon = leaking_scene.daemon
    stopped = daemon.postgres_pids()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert ask(daemon, post(daemon, CHAT, {"model": "plain", "user": canary("leaked")})).status == 200
        time.sleep(0.5)
        before_shipping = {_kind(hit, daemon) for hit in canary.search_files(daemon.state)}
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert before_shipping == {("spool", "hex")}
    hits = search_all(daemon, canary)
    found = {_kind(hit, daemon) for hit in hits}
    assert {
        ("stderr", "base64"),
        ("table public.usage", "hex"),
        ("postgres", "hex"),
        ("metrics", "percent"),
        ("tmp", "plain"),
    } <= {
        (where.removesuffix(" (compressed)"), form.split("+")[0].replace("base64url", "base64"))
        for where, form in found
    }


def test_postgres_own_log_is_searched(quiet_scene: Scene, canary: Canaries) -> None:
    """The positive control of the database's side: what PostgreSQL itself writes down is found as well."""
    daemon = quiet_scene.daemon
    daemon.query(f"DO $$ BEGIN RAISE LOG '%', '{canary('raised')}'; END $$")
    found = {_kind(hit, daemon) for hit in canary.search_files(daemon.state)}
    assert ("postgres.log", "plain") in found


@pytest.mark.parametrize("encode", [
    lambda text: text.encode(), lambda text: text.upper().encode(), lambda text: text.encode().hex().encode(),
    lambda text: text.encode("utf-16"), lambda text: base64.b64encode(text.encode()),
    lambda text: base64.b64encode(b"x" + text.encode()), lambda text: base64.urlsafe_b64encode(b"xx" + text.encode()),
    lambda text: base64.b32encode(b"abc" + text.encode()),
    lambda text: text[5:].encode(), lambda text: text[:-5].encode(),
    lambda text: "".join(f"%{ord(c):02X}" for c in text).encode(),
    lambda text: "".join(f"\\u{ord(c):04x}" for c in text).encode(),
    lambda text: text[::-1].encode(),
])  # fmt: skip
def test_the_search_finds_every_form(canary: Canaries, encode: Any, tmp_path: Path) -> None:
    """Each encoding, each alignment and either half of a canary is found; a clean file is not."""
    (tmp_path / "clean").write_bytes(os.urandom(100_000))
    assert canary.search_files(tmp_path) == []
    (tmp_path / "dirty").write_bytes(os.urandom(1000) + encode(canary("word")) + os.urandom(1000))
    assert canary.search_files(tmp_path)


def _kind(hit: Hit, daemon: Daemon) -> tuple[str, str]:
    """Where a hit is, without its run's own paths: the first part below the state or the run's directory."""
    where = hit.where
    for root in (daemon.state, daemon.directory):
        if where.startswith(f"{root}/"):
            compressed = " (compressed)" if where.endswith(" (compressed)") else ""
            return where.removeprefix(f"{root}/").split("/")[0].removesuffix(compressed) + compressed, hit.form
    return where, hit.form
