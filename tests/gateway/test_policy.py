"""Policies on the way of a request: recording upstreams prove what was sent, what was not, and to whom never."""

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Entry
from luntrex_proxy.core.consents import PROVIDER_RETENTION_BIT, TRAINING_BIT
from luntrex_proxy.core.outcome import Ending
from luntrex_proxy.core.policy import NO_TRAINING, Policy, RetentionKind, Training
from luntrex_proxy.core.registry import Closed
from tests.fakes import FIRST, KEY, Gateway, Target, entry, serving, upstream
from tests.gateway.wire import (
    BODY,
    CHAT,
    CLOSE,
    MESSAGES,
    RESPONSES,
    LoopUpstream,
    Reply,
    ask,
    get,
    post,
    reply,
    upstream_server,
)

ANTHROPIC = "anthropic-version: 2023-06-01"
NONE_KEPT = {"region": "eu", "retention": "none", "training": "never"}


def names(reply_: Reply) -> str:
    """The attribute or field that a refusal in OpenAI's form names."""
    return str(reply_.json()["error"]["param"])


@dataclass
class Scene:
    """A gateway before two recording upstreams: `in` keeps nothing, in the EU; what `out` does the test says."""

    gateway: Gateway
    inside: LoopUpstream
    outside: LoopUpstream

    async def ask(self, body: bytes = BODY, *headers: str, path: str = CHAT) -> Reply:
        return await ask(self.gateway.port, post(body, *headers, path=path))


@contextlib.asynccontextmanager
async def scene(
    policy: Policy = NO_TRAINING, targets: Sequence[str] = ("out", "in"), **out: Any
) -> AsyncIterator[Scene]:
    """Targets of model `m` in the order in which they would be asked without a policy."""
    weights = [FIRST, 1][: len(targets)]
    models = [
        Entry("m", tuple(Target(name, Dialect.OPENAI, "m", w) for name, w in zip(targets, weights, strict=True))),
        entry("claude", ("ant", "claude"), dialect=Dialect.ANTHROPIC),
        entry("*", ("out", "*")),
    ]
    async with upstream_server([reply(200, b'{"from":"in"}')]) as inside, upstream_server() as outside:
        configured = [
            upstream("in", inside.url, connect_s=1),
            upstream("ant", inside.url, Dialect.ANTHROPIC),
            upstream("out", outside.url, **out),
        ]
        async with serving(configured, models, policy=policy) as gateway:
            yield Scene(gateway, inside, outside)


US = {"region": "us"}
KEPT = {"retention": {"kind": "abuse_monitoring", "days": 31}}
TRAINED = {"training": "unless_opted_out"}
UNKNOWN = {"region": None, "retention": "unknown", "training": "unknown"}


@pytest.mark.parametrize(
    ("out", "header", "attribute"),
    [
        (KEPT, "", "retention"),
        (TRAINED, "", "training"),
        (UNKNOWN, "", "retention"),
        ({"training": "unknown"}, "", "training"),
        (US, "region=eu", "region"),
        ({"region": None}, "region=eu", "region"),
        ({"retention": {"kind": "abuse_monitoring", "days": 8}}, "retention=abuse_monitoring:7", "retention"),
        ({"retention": {"kind": "abuse_monitoring", "days": 1}}, "retention=none", "retention"),
    ],
)
async def test_a_target_outside_is_never_asked(out: dict[str, Any], header: str, attribute: str) -> None:
    """It has all the weight and the other one gets the request; alone, the attribute is named and nobody is asked."""
    headers = [f"x-luntrex-policy: {header}"] if header else []
    async with scene(**out) as both:
        answer = await both.ask(BODY, *headers)
        assert (answer.status, answer.json()) == (200, {"from": "in"})
        assert both.outside.connections == 0
    async with scene(targets=("out",), **out) as alone:
        answer = await alone.ask(BODY, *headers)
        assert (answer.status, names(answer)) == (403, attribute)
        assert answer.json()["error"]["code"] == "policy_excludes"
        assert alone.outside.connections == 0
        outcome = await alone.gateway.outcome()
        assert (outcome.status, outcome.code, outcome.ending) == (403, "policy_excludes", Ending.REFUSED)
        assert (outcome.upstream, outcome.attempts) == ("", 0)


@pytest.mark.parametrize("out", [US, UNKNOWN, KEPT], ids=["region", "unknown", "retention"])
async def test_fallback_never_leaves_the_set(out: dict[str, Any]) -> None:
    """When the only target inside is dead, closes or refuses, the answer is an error: never the one outside."""
    policy = Policy.of(frozenset({"eu"}), RetentionKind.ABUSE_MONITORING, 30, Training.NEVER)
    async with scene(policy, ("in", "out"), **out) as two:
        for script in ([CLOSE], [reply(503, b'{"error":{"message":"busy"}}')], [reply(429, b"{}")]):
            two.inside.script = script
            assert (await two.ask()).status >= 429
    async with upstream_server() as outside:
        dead = upstream("in", "http://127.0.0.1:9", connect_s=1)
        models = [entry("m", ("in", "m"), ("out", "m"))]
        async with serving([dead, upstream("out", outside.url, **out)], models, policy=policy) as gateway:
            assert (await ask(gateway.port, post())).status == 502
        assert (outside.connections, bytes(outside.raw)) == (0, b"")
    assert (two.outside.connections, bytes(two.outside.raw)) == (0, b"")


async def test_inside_the_set_fallback_works() -> None:
    """The policy takes targets away and changes nothing else."""
    async with upstream_server() as up:
        dead = upstream("in", "http://127.0.0.1:9", connect_s=1)
        models = [entry("m", ("in", "m"), ("out", "m"))]
        async with serving([dead, upstream("out", up.url)], models) as gateway:
            assert (await ask(gateway.port, post(BODY, "x-luntrex-policy: region=eu"))).status == 200


@pytest.mark.parametrize("header", ["region=eu; training=maybe", "zdr", "region=eu; region=us", "", "region"])
async def test_a_wish_that_is_none_is_refused(header: str) -> None:
    """400 in the caller's dialect; a wish that cannot be read must not be ignored."""
    async with scene() as running:
        answer = await running.ask(BODY, f"x-luntrex-policy: {header}")
        assert (answer.status, answer.json()["error"]["code"]) == (400, "bad_policy")
        body = b'{"model":"claude","max_tokens":1,"messages":[]}'
        answer = await running.ask(body, ANTHROPIC, f"x-luntrex-policy: {header}", path=MESSAGES)
        assert (answer.status, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert "x-luntrex-policy" in answer.json()["error"]["message"]
        assert running.inside.requests == running.outside.requests == []


async def test_two_headers_are_not_one_wish() -> None:
    """A proxy in front that adds one must not undo the client's."""
    async with scene() as running:
        answer = await running.ask(BODY, "x-luntrex-policy: region=eu", "x-luntrex-policy: region=us")
        assert answer.status == 400
        assert running.inside.requests == running.outside.requests == []


async def test_the_header_stays_here() -> None:
    """No upstream learns what was wished for, nor any tracing or baggage of the client's."""
    async with scene() as running:
        sent = ("x-luntrex-policy: region=eu", "traceparent: 00-" + "a" * 32 + "-" + "b" * 16 + "-01", "baggage: u=ada")
        assert (await running.ask(BODY, *sent, "tracestate: x=1")).status == 200
        [request] = [*running.inside.requests, *running.outside.requests]
        raw = (request.head + request.body).lower()
        assert [word for word in (b"policy", b"trace", b"baggage", b"region") if word in raw] == []


async def test_lists_of_models_are_inside_too() -> None:
    """Where only an upstream knows its models, one outside is not asked for them."""
    async with scene(**TRAINED) as running:
        answer = await ask(running.gateway.port, get("/v1/models/unlisted"))
        assert (answer.status, names(answer)) == (403, "training")
        assert running.outside.connections == 0
    async with scene() as running:
        assert (await ask(running.gateway.port, get("/v1/models/unlisted"))).status == 200
        answer = await ask(running.gateway.port, get("/v1/models/unlisted", "x-luntrex-policy: region=us"))
        assert (answer.status, names(answer)) == (403, "region")
        assert len(running.outside.requests) == 1


async def test_an_account_has_its_own_policy() -> None:
    """Wider or narrower than the default, and the header narrows it."""
    async with scene(targets=("out",), **TRAINED) as running:
        wide = Policy.of(None, RetentionKind.UNKNOWN, None, Training.YES)
        running.gateway.keys.callers[KEY.encode()] = Caller(7, "k" * 12, policy=wide, consents=3)
        assert (await running.ask()).status == 200
        assert (await running.ask(BODY, "x-luntrex-policy: training=never")).status == 403
        narrow = Policy.of(frozenset({"ch"}), RetentionKind.NONE, None, Training.YES)
        running.gateway.keys.callers[KEY.encode()] = Caller(7, "k" * 12, policy=narrow)
        assert names(await running.ask(BODY, "x-luntrex-policy: region=eu")) == "region"
        assert len(running.outside.requests) == 1


async def test_an_account_is_no_wider_than_its_owner_agreed_to() -> None:
    """Training and longer keeping need a consent each; without it the default holds, whoever set the policy."""
    for traits, name, bit in ((TRAINED, "training", TRAINING_BIT), (KEPT, "retention", PROVIDER_RETENTION_BIT)):
        async with scene(targets=("out",), **traits) as running:
            wide = Policy.of(None, RetentionKind.UNKNOWN, None, Training.UNKNOWN)
            for consents, status in ((0, 403), (3 - bit, 403), (bit, 200), (3, 200)):
                running.gateway.keys.callers[KEY.encode()] = Caller(7, "k" * 12, policy=wide, consents=consents)
                answer = await running.ask()
                assert answer.status == status
                assert status == 200 or names(answer) == name
            assert len(running.outside.requests) == 2


async def test_a_wide_configuration_is_nobodys_consent_to_training() -> None:
    """The installation's own policy may allow it: without the owner's word no byte goes there, with it all do."""
    anything = Policy()
    for traits in (TRAINED, {"training": "yes"}, UNKNOWN):
        async with scene(anything, ("out", "in"), **traits) as both:
            assert (await both.ask()).json() == {"from": "in"}
            assert both.outside.connections == 0
        async with scene(anything, ("out",), **traits) as running:
            for consents in (0, PROVIDER_RETENTION_BIT):
                running.gateway.keys.callers[KEY.encode()] = Caller(7, "k" * 12, consents=consents)
                answer = await running.ask()
                assert (answer.status, names(answer)) == (403, "training")
            assert running.outside.connections == 0
            running.gateway.keys.callers[KEY.encode()] = Caller(7, "k" * 12, consents=TRAINING_BIT)
            assert (await running.ask()).status == 200
            assert (await running.ask(BODY, "x-luntrex-policy: training=never")).status == 403
            assert len(running.outside.requests) == 1


COUNT = f"{MESSAGES}/count_tokens"
CODE = {"type": "code_execution_20250825", "name": "c"}
FORBIDDEN = [
    (CHAT, {"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
    (CHAT, {"modalities": ["text", "audio"], "audio": {"voice": "x"}}, "modalities"),
    (CHAT, {"tools": [{"type": "mcp"}]}, "tools"),
    (RESPONSES, {"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
    (RESPONSES, {"modalities": ["audio"]}, "modalities"),
    (RESPONSES, {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, "tools"),
    (RESPONSES, {"tools": [{"type": "mcp", "server_url": "https://x"}]}, "tools"),
    (MESSAGES, {"mcp_servers": [{"type": "url", "url": "https://x"}]}, "mcp_servers"),
    (MESSAGES, {"tools": [{"type": "code_execution_20250825", "name": "c"}]}, "tools"),
    (COUNT, {"mcp_servers": [{"type": "url", "url": "https://x"}]}, "mcp_servers"),
    (RESPONSES, {"prompt_cache_options": {"ttl": "12h"}}, "prompt_cache_options"),
    (RESPONSES, {"input": [{"type": "additional_tools", "tools": [{"type": "mcp"}]}]}, "tools"),
    (
        MESSAGES,
        {"messages": [{"role": "system", "content": [{"type": "tool_addition", "tool": {"definition": CODE}}]}]},
        "tools",
    ),
    (CHAT, {"provider": {"data_collection": "allow"}}, "provider"),
]
ALWAYS = [
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, "file_id"),
    (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "file_id"),
    (RESPONSES, {"previous_response_id": "resp_1"}, "previous_response_id"),
    (RESPONSES, {"conversation": "conv_1"}, "conversation"),
    (RESPONSES, {"background": True}, "background"),
    (RESPONSES, {"prompt": {"id": "pmpt_1"}}, "prompt"),
    (RESPONSES, {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, "tools"),
    (MESSAGES, {"container": "container_1"}, "container"),
    (
        MESSAGES,
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"file_id": "f"}}]}]},
        "file_id",
    ),
    (COUNT, {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]}, "file_id"),
    (MESSAGES, {"thread": {"type": "create"}}, "thread"),
    (MESSAGES, {"fallbacks": "default"}, "fallbacks"),
    (MESSAGES, {"diagnostics": {"previous_message_id": "msg_1"}}, "diagnostics"),
    (CHAT, {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}, "audio"),
    (CHAT, {"models": ["other/model"]}, "models"),
    (RESPONSES, {"input": [{"type": "image_generation_call", "id": "ig_1"}]}, "input"),
    (
        RESPONSES,
        {"input": [{"type": "tool_search_output", "tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}]},
        "tools",
    ),
]


def request_body(path: str, more: dict[str, Any]) -> bytes:
    return json.dumps({"model": "claude" if path in (MESSAGES, COUNT) else "m"} | more).encode()


@pytest.mark.parametrize(("path", "more", "field"), [*FORBIDDEN, *ALWAYS])
async def test_fields_beyond_the_policy(path: str, more: dict[str, Any], field: str) -> None:
    """Refused by name before anything is sent; with a wide policy only what could reach another account still is."""
    body = request_body(path, more)
    async with scene() as running:
        answer = await running.ask(body, path=path)
        assert answer.status == (403 if (path, more, field) in FORBIDDEN else 400)
        assert answer.json()["error"]["message"].startswith(f"{field}: ")
        assert (running.inside.connections, running.outside.connections) == (0, 0)
    async with scene(Policy(), ("in",)) as running:
        # Some of it reaches strangers, who may train on it.
        running.gateway.keys.callers[KEY.encode()] = Caller(7, "k" * 12, consents=TRAINING_BIT)
        answer = await running.ask(body, path=path)
        assert answer.status == (200 if (path, more, field) in FORBIDDEN else 400)
        assert len(running.inside.requests) == (answer.status == 200)


async def test_a_wish_forbids_fields_too() -> None:
    """What the header narrows counts for the request's own fields: another continent, state at the provider."""
    async with scene(Policy()) as running:
        body = b'{"model":"claude","max_tokens":1,"messages":[],"inference_geo":"us"}'
        assert (await running.ask(body, ANTHROPIC, path=MESSAGES)).status == 200
        answer = await running.ask(body, ANTHROPIC, "x-luntrex-policy: region=eu", path=MESSAGES)
        assert answer.status == 403
        assert answer.json()["error"]["message"].startswith("inference_geo: ")
        assert len(running.inside.requests) == 1


IDS = (
    b'{"model":"m","user":"ada","safety_identifier":"bob","prompt_cache_key":"eve",'
    b'"metadata":{"user_id":"zoe","t":"1"}}'
)


@pytest.mark.parametrize("how", ["pass", "pseudonymise", "drop"])
async def test_end_users(how: str) -> None:
    """What an upstream sees of the client's own users is as configured, and the record has nothing of it."""
    async with scene(targets=("out",), end_users=how) as running:
        assert (await running.ask(IDS)).status == 200
        assert (await running.ask(IDS)).status == 200
        first, second = (request.body for request in running.outside.requests)
        assert first == second
        if how == "pass":
            assert first == IDS
            return
        assert [name for name in (b"ada", b"bob", b"eve", b"zoe") if name in first.replace(b"metadata", b"")] == []
        sent = json.loads(first)
        assert sent["metadata"].pop("t") == "1"
        if how == "drop":
            assert sent == {"model": "m", "metadata": {}}
        else:
            values = [sent["user"], sent["safety_identifier"], sent["prompt_cache_key"], sent["metadata"]["user_id"]]
            assert len(set(values)) == 4
            assert {len(value) for value in values} == {32}


async def test_end_users_of_other_accounts_are_others() -> None:
    """The same name at two accounts is two pseudonyms: accounts share one account at the provider."""
    async with scene(targets=("out",)) as running:
        await running.ask(IDS)
        running.gateway.keys.callers[KEY.encode()] = Caller(8, "k" * 12)
        await running.ask(IDS)
        one, other = (json.loads(request.body) for request in running.outside.requests)
        assert one["user"] != other["user"]
        assert one["prompt_cache_key"] != other["prompt_cache_key"]


@pytest.mark.parametrize(
    ("path", "more", "config", "stored"),
    [
        (CHAT, {}, {}, None),
        (CHAT, {}, {"store_false": True}, False),
        (CHAT, {"store": True}, {}, False),
        (RESPONSES, {}, {}, False),
        (RESPONSES, {"store": True}, {}, False),
    ],
)
async def test_nothing_is_stored(path: str, more: dict[str, Any], config: dict[str, Any], stored: bool | None) -> None:
    """Whatever the policy allows: a stored answer could be fetched by another account."""
    async with scene(Policy(), ("out",), **config) as running:
        assert (await running.ask(request_body(path, more), path=path)).status == 200
        assert json.loads(running.outside.requests[0].body).get("store") is stored


async def test_the_register_closes_upstreams() -> None:
    """For everyone, or for the account that objected; the others go on, and what is closed is never asked."""
    async with scene() as running:
        routing = running.gateway.pipeline.routing
        routing.closed = Closed(frozenset({"out"}))
        assert (await running.ask()).json() == {"from": "in"}
        assert running.outside.connections == 0
        routing.closed = Closed(frozenset({"out", "in"}))
        answer = await running.ask()
        assert (answer.status, answer.json()["error"]["code"]) == (403, "subprocessor_unlisted")
        listing = await ask(running.gateway.port, get("/v1/models/unlisted"))
        assert (listing.status, running.outside.connections) == (403, 0)
        routing.closed = Closed(objections={7: frozenset({"out"}), 8: frozenset({"out", "in"})})
        assert (await running.ask()).json() == {"from": "in"}
        running.gateway.keys.callers[KEY.encode()] = Caller(8, "k" * 12)
        answer = await running.ask()
        assert (answer.status, answer.json()["error"]["code"]) == (403, "subprocessor_objected")
        running.gateway.keys.callers[KEY.encode()] = Caller(9, "k" * 12)
        await running.ask()
        assert running.outside.connections == 1
