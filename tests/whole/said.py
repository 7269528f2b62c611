"""Everything that can be said to the gateway and its upstreams, well and badly, with a canary in every part of it."""

import base64
import contextlib
import json
import os
import signal
import socket
import time
from typing import Any

from tests.upstreams import bodies
from tests.upstreams.scripted import CLOSE, HANG, LAST_CHUNK, RESET, chunk, head, reply, sse_head
from tests.whole.canaries import Canaries
from tests.whole.daemon import Daemon
from tests.whole.raw import RawClient, Reply, ask, post
from tests.whole.scene import Scene

VERSION = "anthropic-version: 2026-10-21"
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"


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
             "X-Request-Id", "X-Stainless-OS", "Accept", "Accept-Language"]  # fmt: skip
    lines = [f"{name}: {canary('header' + name.replace('-', '').lower())}" for name in names]
    return [*lines, f"{canary('headername')}: 1"]


def say_everything_well(scene: Scene, canary: Canaries) -> None:
    """Good requests and good answers, every part of both with canaries."""
    daemon = scene.daemon
    scene.answer(reply(200, _answer(canary), f"x-request-id: {canary('theirid')}", f"openai-model: {canary('h')}"))
    answer = ask(daemon, post(daemon, f"{CHAT}?q={canary('query')}", chat_with(canary), *headers_with(canary)))
    assert (answer.status, canary("answer") in answer.body.decode()) == (200, True)
    assert canary("prompt").encode() in scene.upstream.wait().body
    wish = f"x-luntrex-policy: region={canary('headerpolicy')}"
    assert ask(daemon, post(daemon, CHAT, chat_with(canary), wish)).status in (400, 403)

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


def _answer(canary: Canaries) -> bytes:
    call = {"id": canary("answercallid"), "type": "function"}
    call["function"] = {"name": canary("answertool"), "arguments": canary("answerarguments")}  # type: ignore[assignment] -- JSON
    message = {"role": "assistant", "content": canary("answer"), "tool_calls": [call], "refusal": canary("refusal")}
    choice = {"index": 0, "message": message, "finish_reason": canary("finish")}
    usage = bodies.CHAT_USAGE | {canary("usagefield"): canary("usagevalue")}
    fields = {"id": canary("answerid"), "model": canary("answermodel"), "system_fingerprint": canary("fingerprint")}
    return json.dumps(fields | {"choices": [choice], "usage": usage}).encode()
