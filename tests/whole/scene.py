"""A daemon in front of a scripted upstream, and the questions most tests put to it."""

import json
from typing import Any

from tests.upstreams.bodies import answer_by_path
from tests.upstreams.scripted import Script, ScriptedUpstream
from tests.whole import calls
from tests.whole.daemon import Daemon


class Scene:
    """Daemon and upstream; `reset` before each test."""

    def __init__(self, daemon: Daemon, upstream: ScriptedUpstream) -> None:
        self.daemon = daemon
        self.upstream = upstream
        self._openai: Any = None
        self._anthropic: Any = None

    def reset(self) -> None:
        """Forget what was recorded; answer everything well."""
        self.upstream.forget()
        self.upstream.script = lambda exchange: answer_by_path(exchange.path, exchange.body)

    def answer(self, *steps: Any) -> None:
        """What the upstream does with each request from now on."""
        script: Script = list(steps)
        self.upstream.script = script

    def openai(self) -> Any:
        """An openai client with the daemon's key (made once: it loads every CA certificate)."""
        if self._openai is None:
            self._openai = calls.openai_client(self.daemon.url, self.daemon.key)
        return self._openai

    def anthropic(self) -> Any:
        """An anthropic client with the daemon's key."""
        if self._anthropic is None:
            self._anthropic = calls.anthropic_client(self.daemon.url, self.daemon.key)
        return self._anthropic


def chat_request(model: str = "plain", stream: bool = False, **more: Any) -> bytes:
    """A chat completion's body."""
    messages = [{"role": "user", "content": "hello"}]
    return json.dumps({"model": model, "messages": messages, "stream": stream} | more).encode()


def message_request(model: str = "claude", stream: bool = False, **more: Any) -> bytes:
    """A message's body."""
    messages = [{"role": "user", "content": "hello"}]
    return json.dumps({"model": model, "max_tokens": 64, "messages": messages, "stream": stream} | more).encode()
