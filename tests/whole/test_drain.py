"""The end of a process: told to load balancers, refused to newcomers, finished for who waits, truthful when cut."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.upstreams import bodies
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import HANG, LAST_CHUNK, ScriptedUpstream, chunk, sse_head
from tests.whole.daemon import Daemon, model, running, upstream
from tests.whole.raw import RawClient, ask, post
from tests.whole.scene import Scene, chat_request

PATIENCE = 10.0


@contextlib.contextmanager
def scene_with(servers: LoopThread, **timeouts: float) -> Iterator[Scene]:
    """A daemon of its own, because each test ends it."""
    scripted = ScriptedUpstream(servers)
    configuration = {
        "upstreams": [
            upstream("oai", "openai", f"{scripted.url}/v1"),
            upstream("ant", "anthropic", f"{scripted.url}/v1"),
        ],
        "models": [model("plain", "oai"), model("claude", "ant")],
    }
    with running(servers, configuration) as daemon:
        text = daemon.config.read_text()
        daemon.stop()
        daemon.config.write_text(text.replace("gateway:\n", f"gateway:\n  timeouts: {timeouts}\n"))
        daemon.start()
        scene = Scene(daemon, scripted)
        scene.reset()
        yield scene
    scripted.stop()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def refused(daemon: Daemon) -> bool:
    """Whether nobody accepts connections any more."""
    try:
        RawClient(daemon.port, 2).__exit__(None, None, None)
    except OSError:
        return True
    return False


class Reader(threading.Thread):
    """An SDK that reads a stream in the background: the text it got, and what it raised."""

    def __init__(self, stream: Callable[[], Any], text: Callable[[Any], str]) -> None:
        super().__init__()
        self._stream, self._text = stream, text
        self.received, self.raised = "", None
        self.start()

    def run(self) -> None:
        try:
            for part in self._stream():
                self.received += self._text(part)
        except (openai.APIError, anthropic.APIError) as error:
            self.raised = error


def chat(scene: Scene) -> Reader:
    said: list[Any] = [{"role": "user", "content": "hi"}]
    create = scene.openai().chat.completions.create
    return Reader(
        lambda: create(model="plain", messages=said, stream=True),
        lambda part: "".join(choice.delta.content or "" for choice in part.choices),
    )


def message(scene: Scene) -> Reader:
    said: list[Any] = [{"role": "user", "content": "hi"}]
    create = scene.anthropic().messages.create
    return Reader(
        lambda: create(model="claude", max_tokens=9, messages=said, stream=True),
        lambda event: event.delta.text if event.type == "content_block_delta" else "",
    )


def test_running_streams_end_whole_and_nobody_new_is_let_in(servers: LoopThread) -> None:
    """During the grace: not ready, yet serving. Then: idle connections closed, newcomers refused, the stream whole."""
    events = [chunk(event) for event in bodies.chat_events()]
    with scene_with(servers, ready_grace_s=1.5, drain_s=20.0) as scene:
        daemon = scene.daemon
        scene.answer(sse_head(), events[0], 4.0, *events[1:], LAST_CHUNK)
        reader = chat(scene)
        until(lambda: len(scene.upstream.exchanges) == 1)
        with RawClient(daemon.port) as idle, RawClient(daemon.port) as kept:
            scene.upstream.script = lambda exchange: bodies.answer_by_path(exchange.path, exchange.body)
            whole = post(daemon, "/v1/chat/completions", chat_request()).replace(b"Connection: close\r\n", b"")
            kept.send(whole).read_until(b"Hello there")
            daemon.process.send_signal(signal.SIGTERM)
            until(lambda: daemon.probe("/readyz") == 503)
            assert ask(daemon, whole.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)).status == 200
            assert idle.read_all() == b""
            kept.received = b""
            assert kept.read_all() == b""
            assert refused(daemon)
        reader.join(20)
        assert (reader.received, reader.raised) == ("word0 word1 word2 ", None)
        assert daemon.process.wait(20) == 0


@pytest.mark.parametrize("how", ["deadline", "second signal"])
def test_a_stream_that_does_not_end_is_cut_truthfully(servers: LoopThread, how: str) -> None:
    """At drain_s, or at a second signal: both SDKs raise after the text that came; on the wire it is an error event."""
    chat_start, message_start = bodies.chat_events()[:2], bodies.message_events()[:4]
    with scene_with(servers, drain_s=1.0 if how == "deadline" else 60.0) as scene:
        daemon = scene.daemon
        scene.upstream.script = lambda exchange: [
            sse_head(),
            *[chunk(event) for event in (message_start if "messages" in exchange.path else chat_start)],
            HANG,
        ]
        readers = [chat(scene), message(scene)]
        with RawClient(daemon.port) as raw:
            raw.send(post(daemon, "/v1/chat/completions", chat_request(stream=True))).read_until(b"word0")
            until(lambda: all("word0" in reader.received for reader in readers))
            daemon.process.send_signal(signal.SIGTERM)
            if how == "second signal":
                until(lambda: refused(daemon))
                assert all(reader.is_alive() for reader in readers)
                daemon.process.send_signal(signal.SIGTERM)
            received = raw.read_all()
        for reader in readers:
            reader.join(PATIENCE)
            assert "word0" in reader.received
            assert reader.raised is not None
        assert b'"code":"draining"' in received.replace(b" ", b"")
        assert b"[DONE]" not in received
        assert received.endswith(b"0\r\n\r\n")
        assert daemon.process.wait(20) == 0
