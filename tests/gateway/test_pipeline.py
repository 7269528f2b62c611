"""The way of a request as a whole: every refusal, the order of record and answer, one Outcome per request, drain."""

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.outcome import Ending, Outcome, Tokens, UsageSource
from luntrex_proxy.core.pricing import fill_rates
from luntrex_proxy.core.refusals import REFUSALS
from luntrex_proxy.core.scope import ONLY_STORED
from tests.fakes import KEY, Gateway, both_dialects, serving
from tests.gateway.wire import (
    BODY,
    CHAT,
    CLOSE,
    HANG,
    LAST_CHUNK,
    MESSAGES,
    RESPONSES,
    STREAM_BODY,
    Reply,
    Step,
    ask,
    chunk,
    connected,
    get,
    head,
    post,
    reply,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import (
    DONE,
    chat_body,
    chat_delta,
    chat_events,
    message_body,
    message_events,
    openai_error,
    response_body,
    response_events,
    stream,
)

VERSION = "anthropic-version: 2026-10-21"
ANTHROPIC_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 405: "invalid_request_error",
    413: "request_too_large", 415: "invalid_request_error", 500: "api_error", 502: "api_error",
    503: "overloaded_error", 504: "timeout_error", 408: "invalid_request_error",
    403: "permission_error",
}  # fmt: skip


@dataclass
class Case:
    """How a client meets one refusal: what it sends, what is set up before, what the upstream does."""

    request: bytes = BODY
    headers: tuple[str, ...] = ()
    key: str = KEY
    path: str = ""
    method: str = "POST"
    param: str | None = None
    prepare: Callable[[Gateway], object] = lambda gateway: None
    script: list[Step] = field(default_factory=lambda: [HANG])
    settings: dict[str, Any] = field(default_factory=dict)
    cut_bytes: int = 0  # how much of the request is never sent


def setting(name: str, value: object) -> Callable[[Gateway], object]:
    """Prepare by setting one attribute, such as `ledger.full`."""
    *path, last = name.split(".")

    def prepare(gateway: Gateway) -> None:
        target: Any = gateway
        for part in path:
            target = getattr(target, part)
        setattr(target, last, value)

    return prepare


def no_upstreams(gateway: Gateway) -> None:
    """Every upstream left the configuration."""
    gateway.pipeline.routing.upstreams.clear()


def only_priced(gateway: Gateway) -> None:
    """What has no known price is refused, and nothing has one."""
    gateway.pipeline.routing.only_priced = True
    gateway.prices.rates = None


def revoke_soon(gateway: Gateway) -> None:
    """The key is revoked while the upstream thinks."""
    asyncio.get_running_loop().call_later(0.15, gateway.pipeline.cut_keys, {"k" * 12})


def restrict(gateway: Gateway) -> None:
    """Whose key it is asked that data only be stored."""
    gateway.keys.callers[KEY.encode()] = Caller(account_id=7, key_id="k" * 12, scope=ONLY_STORED)


REFUSED: dict[str, Case] = {
    "request_timeout": Case(cut_bytes=5, settings={"timeouts": {"body_idle_s": 0.2}}),
    "unknown_url": Case(path="/v1/messages/unknown/chat"),
    "method_not_allowed": Case(method="PUT"),
    "missing_api_key": Case(key=""),
    "invalid_api_key": Case(key="lx_" + "x" * 62),
    "provider_api_key": Case(key="sk-proj-abc"),
    "conflicting_api_keys": Case(headers=("x-api-key: other",)),
    "keys_unavailable": Case(key="lx_" + "x" * 62, prepare=setting("keys.current", False)),
    "body_too_large": Case(settings={"limits": {"body_bytes": 10}}),
    "body_capacity": Case(settings={"limits": {"bodies_held_bytes": 10}}),
    "encoded_body": Case(headers=("Content-Encoding: gzip",)),
    "not_json": Case(request=b"not json"),
    "ambiguous_json": Case(request=b'{"model":"m","model":"claude"}'),
    "wrong_type": Case(request=b'{"model":5}', param="model"),
    "missing_model": Case(request=b"{}", param="model"),
    "model_not_found": Case(request=b'{"model":"unknown-name"}', param="model"),
    "price_unknown": Case(prepare=only_priced, param="model"),
    "policy_excludes": Case(headers=("x-luntrex-policy: region=mars",), param="region"),
    "policy_forbids": Case(request=b'{"model":"m","tools":[{"type":"mcp"}]}', param="tools"),
    "bad_policy": Case(headers=("x-luntrex-policy: mars",)),
    "no_upstream": Case(prepare=no_upstreams),
    "upstream_auth": Case(script=[reply(401, openai_error("no"))]),
    "upstream_unreachable": Case(settings={"dead": True}),
    "upstream_closed": Case(script=[CLOSE]),
    "upstream_invalid": Case(script=[b"junk\r\n"]),
    "upstream_error": Case(script=[reply(200, b'{"error":{"message":"no"}}')]),
    "upstream_cut": Case(script=[head(200, "Content-Type: application/json", "Content-Length: 9"), b"{", CLOSE]),
    "upstream_timeout": Case(settings={"first_byte_s": 0.2}),
    "ledger_full": Case(prepare=setting("ledger.full", True)),
    "draining": Case(prepare=setting("pipeline.draining", True)),
    "key_revoked": Case(prepare=revoke_soon),
    "processing_restricted": Case(prepare=restrict),
    "internal_error": Case(prepare=setting("prices.raises", RuntimeError("CANARYcanary"))),
}
# These meet bytes that never became a request: tests/gateway/test_head.py and the connection cap in test_client.py.
# A stateful field exists on /v1/responses alone and has a test of its own. Limits of a key: test_key_scopes.py; wrong
# keys in number: test_wrong_keys.py. Sub-processors: test_policy.py. Limits, budgets: test_limits.py, test_budgets.py.
ELSEWHERE = {
    "invalid_http", "header_too_large", "uri_too_long", "expectation_failed", "upgrade_refused", "overloaded",
    "field_not_allowed", "too_many_requests", "too_many_failures", "address_not_allowed", "endpoint_not_allowed",
    "subprocessor_unlisted", "subprocessor_objected", "requests_limited", "tokens_limited", "streams_limited",
    "limit_unknown", "budget_spent", "budget_unknown", "upstream_maintenance",
}  # fmt: skip
DEAD = "http://127.0.0.1:1"


def test_every_refusal_has_a_case() -> None:
    """A new row of the table needs a case here or a test elsewhere."""
    assert set(REFUSED) | ELSEWHERE == set(REFUSALS)
    assert not set(REFUSED) & ELSEWHERE


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("code", REFUSED)
async def test_every_refusal(code: str, path: str) -> None:
    """Status, sentence and form of each refusal in both dialects, its record, and that nothing else went upstream."""
    case, row = REFUSED[code], REFUSALS[code]
    settings = dict(case.settings)
    dead = settings.pop("dead", False)
    times = {"first_byte_s": settings.pop("first_byte_s", 5)}
    body = case.request.replace(b'"m"', b'"claude"') if path == MESSAGES else case.request
    where = case.path or path
    version = (VERSION,) if path == MESSAGES else ()
    request = post(body, *case.headers, *version, path=where, key=case.key, method=case.method)
    if case.path and path == CHAT:
        request = request.replace(case.path.encode(), b"/v1/unknown")
    async with (
        upstream_server(case.script) as up,
        serving(both_dialects(DEAD if dead else up.url, **times), **settings) as gateway,
    ):
        case.prepare(gateway)
        answer = await ask(gateway.port, request[: len(request) - case.cut_bytes])
        outcome = await gateway.outcome()
        check_form(answer, path, code, case.param)
        assert b"CANARY" not in answer.body + answer.head
        assert (outcome.status, outcome.code, outcome.request_id) == (
            row.status,
            code,
            answer.headers["request-id"],
        )
        asked = code.startswith("upstream") and not dead
        assert len(up.requests) == (asked or code == "key_revoked")
        assert len(gateway.ledger.opened) == len(up.requests)
        if code == "key_revoked":
            assert outcome.ending == Ending.CUT
        else:
            assert outcome.ending == (Ending.UPSTREAM_FAILED if code.startswith("upstream") else Ending.REFUSED)
        assert len(gateway.bugs) == (code == "internal_error")


def check_form(answer: Reply, path: str, code: str, param: str | None) -> None:
    """The error has the dialect's form and says what the table says."""
    row = REFUSALS[code]
    assert answer.status == row.status
    error = answer.json()["error"]
    sentence = f"{param}: {row.sentence}" if param else row.sentence
    assert error["message"] == sentence
    if path == MESSAGES:
        assert answer.json()["type"] == "error"
        assert error["type"] == ANTHROPIC_TYPES[row.status]
        assert answer.json()["request_id"] == answer.headers["request-id"]
    else:
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] == ("invalid_api_key" if row.status == 401 else code)
        assert error["param"] == param
    if row.status == 503:
        assert int(answer.headers["retry-after"]) >= 1
    if not row.retryable and row.status >= 500:
        assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "background", "prompt"])
async def test_fields_that_need_state_are_refused_by_name(name: str) -> None:
    """The refused field is named from our list, its value never."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        body = json.dumps({"model": "m", name: {"CANARY": 1}}).encode()
        answer = await ask(gateway.port, post(body, path=RESPONSES))
        assert (answer.status, answer.code, answer.json()["error"]["param"]) == (400, "field_not_allowed", name)
        assert b"CANARY" not in answer.body
        assert up.connections == 0


@dataclass
class Flow:
    """One kind of answer and the bytes that end it for an SDK."""

    path: str
    request: bytes
    steps: list[Step]
    terminal: bytes


IN_ONE_READ = b"".join(step for step in stream(chat_events(2)) if isinstance(step, bytes))
LARGE_HEAD = head(200, "Content-Type: application/json", "Content-Length: 200005")
FLOWS = {
    "chat stream": Flow(CHAT, STREAM_BODY, stream(chat_events(2), 0.02), DONE),
    "chat stream in one read": Flow(CHAT, STREAM_BODY, [IN_ONE_READ], DONE),
    "chat stream that leaves out [DONE]": Flow(
        CHAT, STREAM_BODY, [sse_head(), chunk(chat_delta("a", "stop")), 0.02, LAST_CHUNK], b"0\r\n\r\n"
    ),
    "messages stream": Flow(
        MESSAGES, b'{"model":"claude","stream":true}', stream(message_events(2), 0.02), b"event: message_stop"
    ),
    "responses stream": Flow(
        RESPONSES, b'{"model":"m","stream":true}', stream(response_events(2), 0.02), b"event: response.completed"
    ),
    "chat": Flow(CHAT, BODY, [reply(200, chat_body())], chat_body()[-1:]),
    "messages": Flow(MESSAGES, b'{"model":"claude"}', [reply(200, message_body())], message_body()[-1:]),
    "responses": Flow(RESPONSES, b'{"model":"m"}', [reply(200, response_body())], response_body()[-1:]),
    "large": Flow(
        CHAT, BODY, [LARGE_HEAD, b'{"a":"' + b"x" * 199_994, 0.05, b'END"}'], b'END"}'
    ),
    "error of the upstream": Flow(CHAT, BODY, [reply(429, openai_error("slow down"))], b"slow down"),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOWS)
async def test_the_record_is_written_first(name: str) -> None:
    """Opening before the upstream sees a byte, Outcome before the client sees what its SDK stops reading at."""
    flow = FLOWS[name]
    async with upstream_server(flow.steps) as up, serving(both_dialects(up.url)) as gateway:
        seen: list[tuple[int, int]] = []
        up.on_bytes = lambda: seen.append((len(gateway.ledger.opened), len(gateway.ledger.settled)))
        settled_at_end = None
        async with connected(gateway.port) as client:
            await client.send(post(flow.request, path=flow.path))
            while settled_at_end is None:
                # One loop: nothing can settle between this read and the look at the ledger.
                data = await client.read(256)
                assert data
                client.received += data
                if flow.terminal in client.received.partition(b"\r\n\r\n")[2]:
                    settled_at_end = len(gateway.ledger.settled)
        assert settled_at_end == 1
        assert seen[0] == (1, 0)
        assert gateway.timeline == ["open", "settle"]
        outcome = await gateway.outcome()
        assert outcome.request_id == gateway.ledger.opened[0].request_id
        assert outcome.ending == Ending.COMPLETE


async def test_a_full_ledger_stops_everything() -> None:
    """No room for a record: 503 before a byte goes upstream, and the connection made for it serves the next request."""
    async with upstream_server([reply(200, chat_body())]) as up, serving(both_dialects(up.url)) as gateway:
        gateway.ledger.full = True
        for _ in range(3):
            answer = await ask(gateway.port, post())
            assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "ledger_full", "1")
        assert bytes(up.raw) == b""
        gateway.ledger.full = False
        assert (await ask(gateway.port, post())).status == 200
        assert up.connections == 1
        assert gateway.timeline == ["settle"] * 3 + ["open", "settle"]


async def test_the_service_tier_of_an_answer_is_its_price() -> None:
    """As the upstream says it, in a whole answer and in a stream; asking for it changes nothing."""
    flex = chat_body()[:-1] + b',"service_tier":"flex"}'
    events = [event.replace(b'{"', b'{"service_tier":"flex","', 1) for event in chat_events(2)]
    for steps, body in (([reply(200, flex)], BODY), (stream(events, 0.01), STREAM_BODY)):
        async with upstream_server(steps) as up, serving(both_dialects(up.url)) as gateway:
            gateway.prices.rates = fill_rates({"input": 30, "output": 50}, (), (("flex", 50),))
            assert (await ask(gateway.port, post(body))).status == 200
            outcome = await gateway.outcome()
            assert outcome.price_version == "test-1/flex"
            plain = outcome.input_tokens - outcome.cached_input_tokens
            assert outcome.cost_pico == (plain + outcome.cached_input_tokens) * 15 + outcome.output_tokens * 25 > 0
    asked = BODY[:-1] + b',"service_tier":"flex"}'
    async with upstream_server([reply(200, chat_body())]) as up, serving(both_dialects(up.url)) as gateway:
        await ask(gateway.port, post(asked))
        assert (await gateway.outcome()).price_version == "test-1"


async def test_the_outcome_of_a_good_request() -> None:
    """What is recorded of a whole stream, field by field."""
    async with upstream_server(stream(chat_events(3), 0.01)) as up, serving(both_dialects(up.url)) as gateway:
        answer = await ask(gateway.port, post(STREAM_BODY.replace(b'"m"', b'"alias"')))
        outcome = await gateway.outcome()
        assert outcome.request_id == answer.headers["x-request-id"] == answer.headers["request-id"]
        assert outcome == Outcome(
            request_id=outcome.request_id, started_us=outcome.started_us, account_id=7, key_id="k" * 12,
            route="chat.completions", model="alias", upstream="a", status=200, code="ok", ending=Ending.COMPLETE,
            streamed=True, usage_source=UsageSource.REPORTED,
            **Tokens(input=21, cached_input=4, output=9, reasoning=3).columns(), cost_pico=21 * 3 + 9 * 5,
            price_version="test-1", request_bytes=len(STREAM_BODY) + 4, response_bytes=len(answer.body), events=4,
            attempts=1, duration_us=outcome.duration_us, first_byte_us=outcome.first_byte_us,
            overhead_us=outcome.overhead_us, trail=outcome.trail,
        )  # fmt: skip
        assert 0 < outcome.overhead_us <= outcome.duration_us
        assert 0 < outcome.first_byte_us <= outcome.duration_us
        opening = gateway.ledger.opened[0]
        same = (
            "request_id",
            "started_us",
            "account_id",
            "key_id",
            "route",
            "model",
            "upstream",
            "streamed",
            "request_bytes",
        )
        assert all(getattr(opening, name) == getattr(outcome, name) for name in same)


async def test_request_ids_are_uuid7_and_ascend() -> None:
    """Every response has the same id in both headers, a UUIDv7 of its own."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        requests = [post(), post(b"junk"), get("/v1/models"), get("/nowhere"), post(key="lx_wrong"), b"junk\r\n\r\n"]
        ids = []
        for request in requests:
            answer = await ask(gateway.port, request)
            assert answer.headers["x-request-id"] == answer.headers["request-id"]
            ids.append(uuid.UUID(answer.headers["x-request-id"]))
            await asyncio.sleep(0.002)
        assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}
        assert ids == sorted(set(ids))
        assert [outcome.request_id for outcome in gateway.outcomes] == [str(one) for one in ids]


# Our own bugs.


@pytest.mark.parametrize("where", ["keys.raises", "prices.raises", "ledger.open_raises", "ledger.settle_raises"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_a_bug_of_ours_is_a_500_without_words(where: str, path: str) -> None:
    """An exception inside becomes one fixed 500 and one Outcome; its text goes nowhere; the next request works."""
    body = BODY.replace(b'"m"', b'"claude"') if path == MESSAGES else BODY
    async with upstream_server() as up, serving(both_dialects(up.url, max_connections=2)) as gateway:
        for count in range(1, 5):
            setting(where, RuntimeError("CANARYcanary"))(gateway)
            answer = await ask(gateway.port, post(body, path=path))
            assert answer.status == 500
            check_form(answer, path, "internal_error", None)
            assert b"CANARY" not in answer.body
            assert len(gateway.bugs) == count
        if where != "ledger.settle_raises":
            assert [outcome.code for outcome in gateway.outcomes] == ["internal_error"] * 4
        setting(where, None)(gateway)
        assert (await ask(gateway.port, post(body, path=path))).status == 200
        assert up.connections <= 2, "connections were lost on the way"
        setting(where, RuntimeError("for the fixture: bugs were expected"))(gateway)


KINDS = {"good": post(), "refused": post(b"junk"), "stream": post(STREAM_BODY), "not HTTP": b"junk\r\n\r\n"}


@pytest.mark.parametrize("request_bytes", KINDS.values(), ids=KINDS.keys())
async def test_a_sink_that_breaks_leaves_nobody_waiting(request_bytes: bytes) -> None:
    """When a sink raises, the client still gets an answer or the end of its connection; never silence."""
    script = lambda request: stream(chat_events(1)) if b"stream" in request.body else [reply(200, chat_body())]  # noqa: E731 -- two answers in one place
    async with upstream_server(script) as up, serving(both_dialects(up.url)) as gateway:
        gateway.sink_raises = RuntimeError("CANARYcanary")
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        async with connected(gateway.port) as client:
            await client.send(request_bytes)
            data = await client.read()
            assert data == b"" or data.startswith(b"HTTP/1.1 ")
            assert b"CANARY" not in data
        await gateway.idle()


# Cut by us.


# Open paths.


async def test_open_paths_need_no_key_and_leave_no_record() -> None:
    """Probes and the front page."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        gateway.pipeline.console_url = "http://console.test"
        for path, status, said in (("/livez", 200, "alive"), ("/readyz", 200, "ready"), ("/", 200, "console.test")):
            answer = await ask(gateway.port, get(path, key="none"))
            assert (answer.status, said in answer.body.decode()) == (status, True)
        gateway.ready = False
        assert (await ask(gateway.port, get("/readyz"))).status == 503
        assert (await ask(gateway.port, get("/livez"))).status == 200
        assert gateway.outcomes == []
