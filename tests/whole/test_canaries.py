"""Nothing of what was said is anywhere: canaries in every part of every message, then a search of everything kept."""

import base64
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.upstreams import bodies
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import CLOSE, HANG, LAST_CHUNK, RESET, ScriptedUpstream, chunk, head, reply, sse_head
from tests.whole.canaries import Canaries, Hit
from tests.whole.daemon import Daemon, free_port, model, upstream
from tests.whole.raw import RawClient, Reply, ask, post
from tests.whole.scene import Scene

VERSION = "anthropic-version: 2026-10-21"
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"


@pytest.fixture
def canary() -> Canaries:
    return Canaries()


def make_scene(servers: LoopThread, *program: str) -> Scene:
    """A daemon, not yet started, that logs all it can and keeps its temporary files where they are searched."""
    scripted = ScriptedUpstream(servers)
    quick = {"first_byte_s": 1, "idle_s": 0.6}
    configuration = {
        "logging": {"level": "debug"},
        "upstreams": [
            upstream("oai", "openai", f"{scripted.url}/v1", timeouts=quick),
            upstream("ant", "anthropic", f"{scripted.url}/v1", timeouts=quick),
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


def chat_with(canary: Canaries, **more: Any) -> dict[str, Any]:
    """A chat request with a canary in everything a client can say."""
    image = base64.b64encode(canary("image").encode()).decode()
    tool = {"name": canary("toolname"), "description": canary("tooldescription")}
    tool["parameters"] = {"type": "object", "properties": {canary("toolproperty"): {"type": "string"}}}
    call = {"id": canary("callid"), "type": "function"}
    call["function"] = {"name": canary("calledname"), "arguments": json.dumps({"a": canary("toolargument")})}
    return {
        "model": "plain",
        "messages": [
            {"role": "system", "content": canary("system")},
            {"role": "user", "name": canary("username"), "content": [
                {"type": "text", "text": canary("prompt")},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
                {"type": "file", "file": {"filename": canary("filename") + ".pdf", "file_data": canary("filedata")}},
            ]},
            {"role": "assistant", "tool_calls": [call], "content": None},
            {"role": "tool", "tool_call_id": call["id"], "content": canary("toolresult")},
        ],
        "tools": [{"type": "function", "function": tool}],
        "user": canary("user"),
        "safety_identifier": canary("safetyid"),
        "prompt_cache_key": canary("cachekey"),
        "metadata": {canary("metakey"): canary("metavalue")},
        "stop": [canary("stop")],
        canary("unknownfield"): canary("unknownvalue"),
    } | more  # fmt: skip


def message_with(canary: Canaries, **more: Any) -> dict[str, Any]:
    """A message request with canaries."""
    return {
        "model": "claude",
        "max_tokens": 50,
        "system": [{"type": "text", "text": canary("claudesystem"), "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": canary("claudeprompt")}],
        "metadata": {"user_id": canary("claudeuser")},
        "tools": [{"name": canary("claudetool"), "input_schema": {"type": "object"}}],
    } | more


def headers_with(canary: Canaries) -> list[str]:
    """Header lines with canaries, those that cross to the upstream among them."""
    names = ["User-Agent", "Cookie", "Referer", "Origin", "X-Forwarded-For", "X-Client-Request-Id", "traceparent",
             "OpenAI-Organization", "OpenAI-Project", "OpenAI-Beta", "anthropic-beta", "Idempotency-Key",
             "X-Request-Id", "x-luntrex-policy", "X-Stainless-OS", "Accept", "Accept-Language"]  # fmt: skip
    lines = [f"{name}: {canary('header' + name.replace('-', '').lower())}" for name in names]
    return [*lines, f"{canary('headername')}: 1"]


def say_everything_well(scene: Scene, canary: Canaries) -> None:
    """Good requests and good answers, every part of both with canaries."""
    daemon = scene.daemon
    scene.answer(reply(200, _answer(canary), f"x-request-id: {canary('theirid')}", f"openai-model: {canary('h')}"))
    answer = ask(daemon, post(daemon, f"{CHAT}?q={canary('query')}", chat_with(canary), *headers_with(canary)))
    assert (answer.status, canary("answer") in answer.body.decode()) == (200, True)
    assert canary("prompt").encode() in scene.upstream.wait().body

    events = [bodies.chat_delta(canary("streamed"), usage=None), bodies.chat_usage(), bodies.DONE]
    scene.answer(*bodies.stream([b": " + canary("comment").encode() + b"\n\n", *events]))
    streamed = chat_with(canary, stream=True)
    assert canary("streamed").encode() in ask(daemon, post(daemon, CHAT, streamed, *headers_with(canary))).body
    scene.answer(*bodies.stream([bodies.chat_delta(canary("usage"), usage={"prompt_tokens": canary("count")})]))
    ask(daemon, post(daemon, CHAT, streamed))

    scene.answer(reply(200, bodies.message_body(canary("claudeanswer")), f"request-id: {canary('theirclaudeid')}"))
    assert ask(daemon, post(daemon, MESSAGES, message_with(canary), VERSION, *headers_with(canary))).status == 200
    delta = {"type": "input_json_delta", "partial_json": canary("argumentpiece")}
    events = bodies.message_events()
    events.insert(3, bodies.event("content_block_delta", index=0, delta=delta))
    events.insert(3, bodies.event(canary("eventname"), payload=canary("payload")))
    scene.answer(*bodies.stream(events))
    ask(daemon, post(daemon, MESSAGES, message_with(canary, stream=True), VERSION))

    scene.reset()
    said = {"model": "plain", "input": canary("responsesinput"), "instructions": canary("instructions")}
    ask(daemon, post(daemon, RESPONSES, said))
    ask(daemon, post(daemon, RESPONSES, said | {"stream": True}))
    ask(daemon, post(daemon, "/v1/embeddings", {"model": "plain", "input": [canary("embedded")]}))
    ask(daemon, post(daemon, "/v1/moderations", {"model": "plain", "input": canary("moderated")}))
    ask(daemon, post(daemon, "/v1/completions", {"model": "plain", "prompt": canary("legacyprompt")}))
    ask(daemon, post(daemon, "/v1/messages/count_tokens", message_with(canary), VERSION))
    ask(daemon, post(daemon, CHAT, chat_with(canary, model=f"wild/{canary('wildmodel')}")))
    assert canary("wildmodel").encode() in scene.upstream.wait().body


def say_everything_badly(scene: Scene, canary: Canaries) -> list[Reply]:
    """Requests we refuse, each with canaries; what was answered."""
    daemon = scene.daemon
    scene.reset()
    chat = json.dumps(chat_with(canary)).encode()
    padded = canary("key").ljust(43, "0")[:43]
    refused = [
        ask(daemon, post(daemon, CHAT, chat_with(canary, model=canary("model")))),
        ask(daemon, post(daemon, CHAT, chat_with(canary, model=canary("longmodel") * 40))),
        ask(daemon, post(daemon, CHAT, chat_with(canary, model={"a": canary("objectmodel")}))),
        ask(daemon, post(daemon, CHAT, chat_with(canary, stream=canary("streamvalue")))),
        ask(daemon, post(daemon, CHAT, chat_with(canary, model="unreachable"))),
        ask(daemon, post(daemon, RESPONSES, {"model": "plain", "previous_response_id": canary("previous")})),
        ask(daemon, post(daemon, CHAT, chat[:-20])),
        ask(daemon, post(daemon, CHAT, canary("notjson").encode())),
        ask(daemon, post(daemon, CHAT, b'{"model":"plain","%b":1,"%b":2}' % ((canary("twice").encode(),) * 2))),
        ask(daemon, post(daemon, CHAT, b"\xef\xbb\xbf" + chat)),
        ask(daemon, post(daemon, CHAT, b'{"model":"plain","x":"\xff%b"}' % canary("badutf8").encode())),
        ask(daemon, post(daemon, CHAT, chat, f"Content-Encoding: {canary('coding')}")),
        ask(daemon, post(daemon, CHAT, chat, "Content-Type: multipart/form-data; boundary=" + canary("boundary"))),
        ask(daemon, post(daemon, f"/v1/{canary('path')}", chat)),
        ask(daemon, post(daemon, f"/v1/models/{canary('modelpath')}", b"", method="GET")),
        ask(daemon, post(daemon, CHAT, chat, method=canary("method").upper())),
        ask(daemon, post(daemon, CHAT, chat, key="sk-" + canary("providerkey"))),
        ask(daemon, post(daemon, CHAT, chat, key=f"lx_{canary.mark[:12].ljust(12, '0')}_{padded}000000")),
        ask(daemon, post(daemon, CHAT, chat, f"x-api-key: {canary('otherkey')}")),
        ask(daemon, post(daemon, CHAT, chat, key="é" + canary("utf8key"))),
        ask(daemon, post(daemon, CHAT, chat, f"Expect: {canary('expect')}")),
        ask(daemon, post(daemon, CHAT, chat, f"X-Long: {canary('longheader') * 3000}")),
        ask(daemon, post(daemon, f"{CHAT}?{canary('longquery') * 3000}", chat)),
    ]
    multipart = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{canary("uploadname")}"\r\n\r\n'
    refused.append(
        ask(daemon, post(daemon, "/v1/files", multipart.encode() + canary("upload").encode() + b"\r\n--b--"))
    )
    return refused + [Reply(received) for received in _send_malformed(daemon.port, daemon, canary) if received]


def _send_malformed(port: int, daemon: Daemon, canary: Canaries) -> list[bytes]:
    """Bytes that are not HTTP as anyone accepts it; what came back."""
    word = canary("malformed").encode()
    key = f"Authorization: Bearer {daemon.key}\r\n".encode()
    begin = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + key
    sent = [
        word + b"\r\n\r\n",
        word + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + word + b" HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: " + word + b"\r\nHost: " + word + b"\r\n\r\n",
        begin + b"X " + word + b": 1\r\n\r\n",
        begin + b"X: \x00" + word + b"\r\n\r\n",
        begin + b"Content-Length: " + word + b"\r\n\r\n",
        begin + b"Transfer-Encoding: " + word + b"\r\n\r\n",
        begin + b"Transfer-Encoding: chunked\r\n\r\n" + word + b"\r\n" + word,
        begin + b"Transfer-Encoding: chunked\r\n\r\n5;" + word + b"\r\nhello\r\n0\r\n" + word + b": 1\r\n\r\n",
        begin + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello" + word,
        begin + b"Content-Length: 3\r\n\r\nabc" + word + b"\r\n\r\n",
        begin + b"Upgrade: " + word + b"\r\nConnection: Upgrade\r\n\r\n",
        b"\x16\x03\x01" + word * 20 + b"\r\n\r\n",
    ]
    answers = []
    for data in sent:
        with RawClient(port, timeout_seconds=3) as client, contextlib.suppress(TimeoutError, OSError):
            client.send(data)
            client._socket.shutdown(socket.SHUT_WR)
            answers.append(client.read_all())
    return answers


def upstream_speaks_badly(scene: Scene, canary: Canaries) -> None:
    """Errors, garbage and broken streams from the upstream, each with canaries."""
    daemon, word = scene.daemon, canary("upstreamerror")
    openai_error = bodies.openai_error(word, canary("errortype"), canary("errorcode"))
    answers: list[list[Any]] = [
        *[
            [reply(status, openai_error, f"retry-after: {canary('retryafter')}")]
            for status in (400, 401, 403, 429, 500)
        ],
        [reply(503, f"<html>{canary('html')}</html>".encode(), content_type="text/html")],
        [reply(200, f"<html>{canary('htmlok')}</html>".encode(), content_type=f"text/{canary('contenttype')}")],
        [reply(200, openai_error)],
        [head(500, "Content-Length: 0", reason=canary("reason"))],
        [canary("notheads").encode() + b"\r\n\r\n", CLOSE],
        [head(200, f"Content-Length: {canary('length')}"), CLOSE],
        [head(200, f"X-{canary('badheader')} : 1", "Content-Length: 2"), b"{}"],
        [head(200, "Transfer-Encoding: chunked"), canary("badchunk").encode() + b"\r\n", CLOSE],
        [head(302, f"Location: http://127.0.0.1/{canary('location')}", "Content-Length: 0")],
        [reply(200, bodies.chat_body(canary("cut"))[:-30]), CLOSE],
        [RESET],
    ]
    started = [sse_head(), chunk(bodies.chat_delta(canary("beforetheend")))]
    for end in (
        [CLOSE], [LAST_CHUNK], [HANG], [chunk(b"data: {" + canary("half").encode()), CLOSE],
        [chunk(bodies.data({"error": {"message": canary("streamerror")}})), LAST_CHUNK],
        [canary("badchunkline").encode() + b"\r\n\r\n", CLOSE],
        [chunk(b"data: " + canary("eventnotjson").encode() + b"\n\n"), chunk(bodies.DONE), LAST_CHUNK],
    ):  # fmt: skip
        answers.append([*started, *end])
    for steps in answers:
        scene.answer(*steps)
        ask(daemon, post(daemon, CHAT, chat_with(canary, stream=len(steps) > 2)))
        ask(daemon, post(daemon, MESSAGES, message_with(canary, stream=len(steps) > 2), VERSION))


def leave_and_die(scene: Scene, canary: Canaries) -> None:
    """Clients that leave in the middle, a database that hangs meanwhile, a reload, and a kill -9."""
    daemon = scene.daemon
    scene.answer(sse_head(), chunk(bodies.chat_delta(canary("unfinished"))), HANG)
    request = post(daemon, CHAT, chat_with(canary, stream=True))
    for part in (request[:100], request[:-10], request):
        client = RawClient(daemon.port)
        client.send(part)
        if part is request:
            client.read_until(b"unfinished")
        client.reset()
    for pid in (stopped := daemon.postgres_pids()):
        os.kill(pid, signal.SIGSTOP)
    try:
        say_everything_well(scene, canary)
        os.kill(daemon.pid, signal.SIGHUP)
        time.sleep(0.5)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    scene.answer(sse_head(), chunk(bodies.chat_delta(canary("underway"))), HANG)
    with RawClient(daemon.port) as client:
        client.send(request).read_until(b"underway")
        daemon.kill()
    daemon.wait_no_postgres()
    daemon.start()


def disturb_the_control_plane(daemon: Daemon, canary: Canaries) -> list[bytes]:
    """The other listener is told canaries too; what it answered."""
    lines = "\r\n".join(headers_with(canary))
    word = canary("control")
    for path in (f"/{word}", f"/metrics?{word}", f"/api/v1/{word}", "/metrics"):
        for method in ("GET", "POST", word.upper()):
            with RawClient(daemon.control_port, timeout_seconds=3) as client:
                client.send(
                    f"{method} {path} HTTP/1.1\r\nHost: {word}\r\nConnection: close\r\n{lines}\r\n\r\n".encode()
                )
                client.read_all()
    return _send_malformed(daemon.control_port, daemon, canary)


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
    canary.mark = key.split("_")[2][:43]
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


def _answer(canary: Canaries) -> bytes:
    call = {"id": canary("answercallid"), "type": "function"}
    call["function"] = {"name": canary("answertool"), "arguments": canary("answerarguments")}  # type: ignore[assignment] -- JSON
    message = {"role": "assistant", "content": canary("answer"), "tool_calls": [call], "refusal": canary("refusal")}
    choice = {"index": 0, "message": message, "finish_reason": canary("finish")}
    usage = bodies.CHAT_USAGE | {canary("usagefield"): canary("usagevalue")}
    fields = {"id": canary("answerid"), "model": canary("answermodel"), "system_fingerprint": canary("fingerprint")}
    return json.dumps(fields | {"choices": [choice], "usage": usage}).encode()


def _kind(hit: Hit, daemon: Daemon) -> tuple[str, str]:
    """Where a hit is, without its run's own paths: the first part below the state or the run's directory."""
    where = hit.where
    for root in (daemon.state, daemon.directory):
        if where.startswith(f"{root}/"):
            compressed = " (compressed)" if where.endswith(" (compressed)") else ""
            return where.removeprefix(f"{root}/").split("/")[0].removesuffix(compressed) + compressed, hit.form
    return where, hit.form
