"""GET models in both dialects: the catalogue's own list, or the upstream's where every name passes."""

import json

import pytest

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.outcome import Ending, Tokens, UsageSource
from tests.fakes import MODELS, both_dialects, entry, serving
from tests.gateway.wire import CLOSE, Step, ask, get, head, post, reply, upstream_server

VERSION = "anthropic-version: 2026-10-21"
WILDCARDS = (entry("*", ("a", "*")), entry("claude-*", ("c", "claude-*"), dialect=Dialect.ANTHROPIC))
LISTING = json.dumps({"object": "list", "data": [{"id": "theirs"}]}).encode()


async def test_the_catalogue_in_openais_form() -> None:
    """Names a caller of the dialect can use; one of them; an unknown one."""
    async with upstream_server() as up, serving(both_dialects(up.url), MODELS) as gateway:
        listed = (await ask(gateway.port, get("/v1/models"))).json()
        assert (listed["object"], [model["id"] for model in listed["data"]]) == ("list", ["m", "alias", "nowhere"])
        assert all(model["object"] == "model" for model in listed["data"])
        one = await ask(gateway.port, get("/v1/models/alias"))
        assert (one.status, one.json()["id"]) == (200, "alias")
        unknown = await ask(gateway.port, get("/v1/models/claude"))
        assert (unknown.status, unknown.code) == (404, "model_not_found")
        assert up.connections == 0
        assert {outcome.route for outcome in gateway.outcomes} == {"models"}
        assert {outcome.usage_source for outcome in gateway.outcomes} == {UsageSource.NONE}
        assert gateway.ledger.opened == []


async def test_the_catalogue_in_anthropics_form() -> None:
    """A request with `anthropic-version` gets Anthropic's list, object and error."""
    async with upstream_server() as up, serving(both_dialects(up.url), MODELS) as gateway:
        listed = (await ask(gateway.port, get("/v1/models", VERSION))).json()
        assert [model["id"] for model in listed["data"]] == ["claude"]
        assert (listed["has_more"], listed["first_id"], listed["last_id"]) == (False, "claude", "claude")
        one = (await ask(gateway.port, get("/v1/models/claude", VERSION))).json()
        assert (one["type"], one["id"]) == ("model", "claude")
        unknown = await ask(gateway.port, get("/v1/models/m", VERSION))
        assert (unknown.status, unknown.json()["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/v1/models"])
async def test_models_need_a_key(path: str) -> None:
    """A list of models is nobody else's business."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        assert (await ask(gateway.port, get(path, key="lx_wrong"))).status == 401
        assert (await ask(gateway.port, get(path))).status == 200
        assert (await ask(gateway.port, post(path=path))).status == 405


async def test_a_wildcard_asks_the_upstream() -> None:
    """Where every name passes only the upstream knows its models; the request is built from zero and recorded."""
    async with upstream_server([reply(200, LISTING)]) as up, serving(both_dialects(up.url), WILDCARDS) as gateway:
        assert (await ask(gateway.port, get("/v1/models?limit=5&secret=x&after_id=%00", "X-A: b"))).body == LISTING
        assert (await ask(gateway.port, get("/v1/models/org%2Fmodel-1.5:free"))).body == LISTING
        assert (await ask(gateway.port, get("/v1/models/claude-9", VERSION))).body == LISTING
        lines = [request.line for request in up.requests]
        assert lines == [
            "GET /v1/models?limit=5 HTTP/1.1",
            "GET /v1/models/org/model-1.5:free HTTP/1.1",
            "GET /v1/models/claude-9 HTTP/1.1",
        ]
        assert [request.body for request in up.requests] == [b""] * 3
        assert len(gateway.ledger.opened) == 3
        outcome = await gateway.outcome(3)
        assert (outcome.tokens, outcome.usage_source, outcome.cost_pico) == (Tokens(), UsageSource.NONE, 0)
        assert (outcome.model, outcome.ending) == ("other", Ending.COMPLETE)


TRAVERSALS = (
    "..", ".", "../files", "a/../../files", "a/..", "a/./b", "./a", "a//b", "/a", "%2e%2e/files", "%2E%2E%2Ffiles",
    "a%2f..%2fb",
    "..;/files", "a%00b", "a%0d%0aX:b", "a;b", "a&b=c", "a*", "~root", "a/",
)  # fmt: skip


@pytest.mark.parametrize("model_id", TRAVERSALS)
async def test_no_model_id_reaches_another_path(model_id: str) -> None:
    """What is not plainly a name is 404, and nothing is sent."""
    async with upstream_server([reply(200, LISTING)]) as up, serving(both_dialects(up.url), WILDCARDS) as gateway:
        answer = await ask(gateway.port, get(f"/v1/models/{model_id}"))
        assert bytes(up.raw) == b""
        assert (answer.status, answer.code) == (404, "model_not_found")


async def test_a_refused_model_id_costs_no_connection() -> None:
    """A client that asks for bad ids again and again can't use up the upstream's connections."""
    async with (
        upstream_server([reply(200, LISTING)]) as up,
        serving(both_dialects(up.url, max_connections=2), WILDCARDS) as gateway,
    ):
        codes = [(await ask(gateway.port, get("/v1/models/a%00b"))).code for _ in range(4)]
        assert codes == ["model_not_found"] * 4
        assert (await ask(gateway.port, get("/v1/models"))).status == 200
        assert up.connections == 1


async def test_a_model_list_that_is_cut_is_recorded_as_cut() -> None:
    """A large list that breaks off is not a complete answer."""
    steps: list[Step] = [
        head(200, "Content-Type: application/json", "Content-Length: 300000"),
        b'{"data":["' + b"x" * 200_000,
        0.1,
        CLOSE,
    ]
    async with upstream_server(steps) as up, serving(both_dialects(up.url), WILDCARDS) as gateway:
        with pytest.raises(AssertionError, match="early"):
            await ask(gateway.port, get("/v1/models"))
        outcome = await gateway.outcome()
        assert (outcome.code, outcome.ending) == ("upstream_cut", Ending.UPSTREAM_FAILED)
