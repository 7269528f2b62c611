"""What the SDKs raise, caught and checked for the form that both dialects promise."""

import re
from typing import Any

import anthropic
import openai
import pytest

from tests.whole.scene import Scene

REQUEST_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def chat_error(scene: Scene, model: str = "plain", **more: Any) -> openai.APIError:
    """The exception a chat completion raises."""
    with pytest.raises(openai.APIError) as caught:
        scene.openai().chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], **more)
    return caught.value


def message_error(scene: Scene, model: str = "claude", **more: Any) -> anthropic.APIError:
    """The exception a message raises."""
    with pytest.raises(anthropic.APIError) as caught:
        scene.anthropic().messages.create(
            model=model, max_tokens=9, messages=[{"role": "user", "content": "hi"}], **more
        )
    return caught.value


def check_forms(chat: openai.APIError, message: anthropic.APIError) -> None:
    """The bodies are each dialect's own error object, and both ids are there."""
    assert isinstance(chat, openai.APIStatusError)
    assert isinstance(message, anthropic.APIStatusError)
    assert isinstance(chat.body, dict)
    assert set(chat.body) >= {"message", "type", "param", "code"}
    assert chat.body["message"]
    assert isinstance(message.body, dict)
    assert message.body["type"] == "error"
    assert set(message.body["error"]) >= {"type", "message"}
    for raised in (chat, message):
        assert raised.response.headers["x-request-id"] == raised.response.headers["request-id"] == raised.request_id
        assert REQUEST_ID.fullmatch(raised.request_id or "")


def check_nothing_lost(scene: Scene) -> None:
    """The ledger has lost nothing and the daemon has met no bug of its own."""
    assert scene.daemon.metric("luntrex_ledger_lost_total") == 0
    said = scene.daemon.stderr.read_bytes()
    assert b"luntrex.bug" not in said
    assert b"Traceback" not in said
