"""OpenAI's small endpoints: embeddings, moderations and the list of models."""

import base64
import math
import secrets
import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from luntrex_proxy.simulator.answers import Ask, count_input

DEFAULT_DIMENSIONS = 256
MAX_DIMENSIONS = 4096
MODELS_CREATED_AT = 1_767_225_600  # any fixed moment: a list of models does not change with the clock
_CATEGORIES = ("harassment", "hate", "illicit", "self-harm", "sexual", "violence")


def embeddings(ask: Ask) -> dict[str, Any]:
    """An embedding per input, as floats or base64 (which the SDK asks for by default)."""
    count = _count(msgspec.json.decode(ask.input, type=str | list[Any]))
    dimensions = min(ask.dimensions or DEFAULT_DIMENSIONS, MAX_DIMENSIONS)
    total = count_input(ask)
    encode = _base64 if ask.encoding_format == "base64" else list
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(_vector(total + index, dimensions))}
            for index in range(count)
        ],
        "model": ask.model,
        "usage": {"prompt_tokens": total, "total_tokens": total},
    }


def moderation(ask: Ask) -> dict[str, Any]:
    """A moderation that finds nothing."""
    said = msgspec.json.decode(ask.input, type=str | list[Any])
    result = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.0001),
        "category_applied_input_types": {category: ["text"] for category in _CATEGORIES},
    }
    return {"id": f"modr-{secrets.token_hex(8)}", "model": ask.model, "results": [result] * _count(said)}


def model(name: str) -> dict[str, Any]:
    """One entry of the list of models."""
    return {"id": name, "object": "model", "created": MODELS_CREATED_AT, "owned_by": "luntrex-simulator"}


def models(names: Sequence[str]) -> dict[str, Any]:
    """The list of models."""
    return {"object": "list", "data": [model(name) for name in names]}


def _count(said: str | list[Any]) -> int:
    """How many inputs there are; a list of numbers is one input, already cut into tokens."""
    if isinstance(said, str) or not said or isinstance(said[0], int):
        return 1
    return len(said)


def _vector(seed: int, dimensions: int) -> list[float]:
    """A unit vector; the values go through float32, so both encodings say the same."""
    raw = [math.sin(seed + 1.7 * index) for index in range(dimensions)]
    length = math.sqrt(sum(value * value for value in raw)) or 1.0
    packed = struct.pack(f"<{dimensions}f", *(value / length for value in raw))
    return list(struct.unpack(f"<{dimensions}f", packed))


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
