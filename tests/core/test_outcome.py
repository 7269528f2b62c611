"""The documented allowlist: what is kept of a request. A new field is a privacy decision, to be made here too."""

import enum
from typing import get_args

import msgspec
import pytest

from luntrex_proxy.core.outcome import (
    Ending,
    EndingWord,
    Opening,
    Outcome,
    Record,
    Tokens,
    UsageSource,
    UsageWord,
)

TOKENS = (
    "input", "cached_input", "cache_write_5m", "cache_write_1h", "input_audio", "output", "reasoning", "output_audio",
)  # fmt: skip
OUTCOME = {
    "request_id": str, "started_us": int, "account_id": int, "key_id": str, "route": str, "model": str, "upstream": str,
    "status": int, "code": str, "ending": EndingWord, "streamed": bool, "usage_source": UsageWord,
    **{f"{name}_tokens": int for name in TOKENS},
    "cost_pico": int, "price_version": str, "request_bytes": int, "response_bytes": int, "events": int, "attempts": int,
    "duration_us": int, "first_byte_us": int, "overhead_us": int, "trail": str,
}  # fmt: skip
OPENING = {
    "request_id": str, "started_us": int, "account_id": int, "key_id": str, "route": str, "model": str, "upstream": str,
    "streamed": bool, "request_bytes": int, "input_tokens": int, "cost_pico": int, "price_version": str,
}  # fmt: skip

FULL = Outcome(
    request_id="r", started_us=1, account_id=2, key_id="k", route="messages", model="m", upstream="u", status=200,
    code="ok", ending=Ending.COMPLETE, streamed=True, usage_source=UsageSource.REPORTED,
    **Tokens(1, 2, 3, 4, 5, 6, 7, 8).columns(), cost_pico=9, price_version="p", request_bytes=10, response_bytes=11,
    events=12, attempts=13, duration_us=14, first_byte_us=15, overhead_us=16, trail="a=region",
)  # fmt: skip


def types_of(struct: type[msgspec.Struct]) -> dict[str, object]:
    """Field names and types in order."""
    return {field.name: field.type for field in msgspec.structs.fields(struct)}


def test_the_fields_are_these() -> None:
    """Names, types and order: the order is the wire format of the spool, and forward only."""
    assert list(types_of(Outcome).items()) == list(OUTCOME.items())
    assert list(types_of(Opening).items()) == list(OPENING.items())
    assert list(types_of(Tokens).items()) == [(name, int) for name in TOKENS]


def test_the_words_are_these() -> None:
    """Enums are written into tables: a word never changes its meaning."""
    assert [ending.value for ending in Ending] == [
        "complete", "refused", "upstream_failed", "client_gone", "cut", "interrupted"
    ]  # fmt: skip
    assert [source.value for source in UsageSource] == ["reported", "estimated", "unknown", "none"]
    assert issubclass(Ending, enum.StrEnum)
    assert list(get_args(EndingWord)) == [ending.value for ending in Ending]
    assert list(get_args(UsageWord)) == [source.value for source in UsageSource]


def test_no_field_can_hold_anything_else() -> None:
    """Only text, numbers, switches and our own enums; no dictionary, list or bytes in which words could travel."""
    allowed = {str, int, bool, EndingWord, UsageWord}
    assert set(OUTCOME.values()) | set(OPENING.values()) <= allowed


@pytest.mark.parametrize("struct", [FULL, FULL.tokens])
def test_records_are_frozen(struct: msgspec.Struct) -> None:
    """Nobody adds to a record on its way to the sinks."""
    with pytest.raises(AttributeError):
        struct.request_id = "x"  # type: ignore[attr-defined]  # that it fails is the point
    with pytest.raises(AttributeError):
        struct.note = "x"  # type: ignore[attr-defined]  # that it fails is the point


def test_records_survive_the_spool() -> None:
    """Both records come back as what they were, told apart by their tag."""
    opening = Opening("r", 1, 2, "k", "messages", "m", "u", True, 10, 3, 6, "v")
    decoder = msgspec.json.Decoder(Record)
    for record in (FULL, opening):
        assert decoder.decode(msgspec.json.encode(record)) == record
    before = b'["open","r",1,2,"k","messages","m","u",true,10]'  # as releases until 0.1 wrote it
    assert decoder.decode(before) == Opening("r", 1, 2, "k", "messages", "m", "u", True, 10)
