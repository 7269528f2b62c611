"""The quick ways for usual bodies say what the slow ones say: on random objects, and with bytes of them changed."""

import random
from collections.abc import Iterator

import pytest

from luntrex_proxy.core.call import RESPONSES, ROUTES
from luntrex_proxy.core.policy import NO_TRAINING, Policy
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.wire import jsonbody
from luntrex_proxy.core.wire.endusers import EndUserIds
from luntrex_proxy.core.wire.forbidden import forbidden_field
from luntrex_proxy.core.wire.members import are_compact, find_spans, read_members
from luntrex_proxy.core.wire.splice import CHANGEABLE, Changes, refused_field, rewrite
from luntrex_proxy.core.wire.usage import read_tokens
from luntrex_proxy.gateway.body import decode

CASES = 4000
COUNTS = (b"0", b"1", b"10", b"-1", b"1.0", b"1.5", b"null", b"true", b'"5"', b"[]", b"{}", b"1000000001", b"1" * 20)
USAGE = (
    b"prompt_tokens", b"completion_tokens", b"prompt_tokens_details", b"completion_tokens_details", b"cached_tokens",
    b"cache_write_tokens", b"audio_tokens", b"reasoning_tokens", b"prompt\\u005ftokens", b"total_tokens",
)  # fmt: skip
KEYS = (
    b"model", b"messages", b"stream", b"stream_options", b"tools", b"input", b"provider", b"modalities",
    b"m\\u006fdel", b'a\\"b', b"a\\\\b", b"\xc3\xa9", b"a-b", b"", b"\x7f", b"a\\/b",
)  # fmt: skip
VALUES = (
    b'"m"', b"true", b"null", b"1", b"[]", b"{}", b'[{"role":"user","content":"hi"}]', b'[{"content":null}]',
    b'[{"content":[{"type":"text","text":"x"}]}]', b'[{"content":1}]', b'[{"file_id":"x"}]', b'["a"]',
    b'[{"type":"mcp"}]', b'{"include_usage":true}', b'["audio"]', b'"caf\xc3\xa9"', b'"\xff"',
)  # fmt: skip


def an_object(rng: random.Random, names: tuple[bytes, ...], values: tuple[bytes, ...], depth: int = 0) -> bytes:
    """Members at random, some of them twice, some with white space, of `..._details` some as objects."""
    members = []
    for _ in range(rng.randrange(5)):
        name = rng.choice(names)
        deeper = name.endswith(b"details") and depth < 2 and rng.random() < 0.7
        value = an_object(rng, names, values, depth + 1) if deeper else rng.choice(values)
        members.append(b'"%b"%b:%b' % (name, rng.choice((b"", b"", b" ")), value))
    return b"{%b}" % rng.choice((b",", b",", b", ")).join(members)


def with_a_byte_changed(rng: random.Random, data: bytes) -> bytes:
    """One time in eight, another byte somewhere."""
    changed = bytearray(data)
    if rng.random() < 0.125:
        changed[rng.randrange(len(changed))] = rng.choice(b'{}",:0x[]\\ \xff')
    return bytes(changed)


def bodies(seed: int) -> Iterator[bytes]:
    """Request bodies."""
    rng = random.Random(seed)
    for _ in range(CASES):
        yield with_a_byte_changed(rng, an_object(rng, KEYS, VALUES))


def test_counts_are_the_same_however_they_are_read() -> None:
    """A usage of the usual form is decoded into its counts; what it says is what the table of names says."""
    rng = random.Random(1)
    quick = 0
    for _ in range(CASES):
        body = with_a_byte_changed(rng, b'{"usage":%b}' % an_object(rng, USAGE, COUNTS))
        for route in ROUTES[:3]:
            verdict, tokens = jsonbody.read_answer(body, route)
            try:
                said = jsonbody._read_value(jsonbody._decode_keys(body).usage)
                body.decode()
            except jsonbody.UNREADABLE:
                assert verdict == "upstream_invalid"
                continue
            assert (verdict, tokens) == ("", read_tokens(route.grammar, said))
            quick += tokens is not None
    assert quick > CASES // 8


@pytest.mark.parametrize("seed", [1, 2])
def test_a_proof_by_writing_again_lets_no_repeated_or_escaped_key_pass(seed: int) -> None:
    """Whatever is called compact has each of its members once, where the spans say."""
    proven = 0
    for body in bodies(seed):
        members = read_members(body)
        if members is not None and are_compact(body, members):
            proven += 1
            assert find_spans(body, members) is not None, body
    assert proven > CASES // 20


@pytest.mark.parametrize("seed", [3, 4])
def test_a_dull_body_has_nothing_that_could_be_refused(seed: int) -> None:
    """Neither what is refused always nor what any policy forbids."""
    dull = 0
    for body in bodies(seed):
        for route in ROUTES[:6]:
            try:
                fields = decode(route, body)
            except Refusal:
                continue
            if fields.dull:
                dull += 1
                assert refused_field(route, fields) is None
                assert forbidden_field(route, fields, NO_TRAINING) is None
                assert forbidden_field(route, fields, Policy(regions=frozenset())) is None
    assert dull > CASES // 4


@pytest.mark.parametrize("seed", [5, 6])
def test_a_body_without_a_changeable_member_needs_no_rewriting(seed: int) -> None:
    """Where no name changes and nothing is added it is not looked at again: nothing would have been changed."""
    rng, skipped, changed = random.Random(seed), 0, 0
    names = (b"store", b"user", b"safety_identifier", b"prompt_cache_key", b"metadata", *KEYS[:8])
    values = (*VALUES[:8], b'{"user_id":"u"}', b"false")
    for _ in range(CASES):
        body = with_a_byte_changed(rng, an_object(rng, names, values))
        for route in ROUTES:
            if route.grammar is RESPONSES:  # `store` is added
                continue
            try:
                fields = decode(route, body)
            except Refusal:
                continue
            for end_users in (None, EndUserIds("a"), EndUserIds("a", b"k" * 32)):
                result = rewrite(route, body, fields, Changes(end_users=end_users), 7)
                if CHANGEABLE.isdisjoint(fields.members):
                    skipped += 1
                    assert result == body
                changed += result != body
    assert skipped > CASES // 4
    assert changed > CASES // 4
