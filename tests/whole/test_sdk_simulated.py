"""Both SDKs, sync and async, whole and streamed, through the gateway to the simulated provider: no difference seen."""

import uuid
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.simulated import SimulatedUpstream
from tests.whole import calls
from tests.whole.comparison import Pair, compare, jobs, names, pair_of, wait_for_rows
from tests.whole.daemon import Daemon, get, model, running, upstream
from tests.whole.raw import ask, post
from tests.whole.scene import chat_request, message_request
from tests.whole.tokens import Tokens

# Dollars per million tokens; a pico-dollar per token is a millionth of that.
PRICE = {"input": 1, "cached_input": 0.5, "output": 2}
NO_USAGE = Tokens(0, 0)
# What a stream costs whose client did not ask for usage: the same as when it had.
SAME_TOKENS_AS = {
    "chat_stream": "chat_stream_usage",
    "chat_tool_stream": "chat_tool",
    "completion_stream": "completion",
}


@pytest.fixture(scope="module")
def daemon(servers: LoopThread, simulator: SimulatedUpstream) -> Iterator[Daemon]:
    configuration = {
        "upstreams": [upstream("sim", "openai", simulator.url), upstream("sim-claude", "anthropic", simulator.url)],
        "models": [
            model("demo-small", "sim") | {"price": PRICE},
            model("house-model", "sim", "demo-large"),
            model("demo-claude", "sim-claude"),
            model("house-claude", "sim-claude", "demo-claude"),
        ],
    }
    with running(servers, configuration) as started:
        yield started


@pytest.fixture(scope="module")
def pairs(daemon: Daemon, simulator: SimulatedUpstream) -> dict[str, Pair | Exception]:
    work = jobs(calls.OPENAI_CALLS, calls.openai_client, "demo-small")
    work += jobs(calls.ANTHROPIC_CALLS, calls.anthropic_client, "demo-claude")
    return compare(daemon, simulator.url, simulator.secret, work)


@pytest.mark.parametrize("name", names(calls.OPENAI_CALLS, calls.ANTHROPIC_CALLS))
def test_the_application_sees_no_difference(pairs: dict[str, Pair | Exception], name: str) -> None:
    """Text, tokens, model, finish reason and order of events are those of a call without the gateway."""
    pair = pair_of(pairs, name)
    assert pair.through.text
    assert (pair.through.text, pair.through.finish, pair.through.model) == (
        pair.direct.text,
        pair.direct.finish,
        pair.direct.model,
    )
    assert pair.through.tokens == pair.direct.tokens
    assert pair.through.events == pair.direct.events


@pytest.mark.parametrize("name", names(calls.OPENAI_CALLS, calls.ANTHROPIC_CALLS))
def test_each_call_has_its_row(pairs: dict[str, Pair | Exception], name: str) -> None:
    """The row in Postgres has the upstream's own numbers by class, and the command line shows the same."""
    pair = pair_of(pairs, name)
    call, _, kind = name.rpartition("-")
    like = SAME_TOKENS_AS.get(call, call)
    expected = pair_of(pairs, f"{like}-{kind}").direct.tokens or NO_USAGE
    row, shown = pair.row, pair.shown
    assert row, "the request is not in the usage table"
    counted = Tokens(
        row["input_tokens"],
        row["output_tokens"],
        row["cached_input_tokens"],
        row["cache_write_5m_tokens"] + row["cache_write_1h_tokens"],
        row["reasoning_tokens"],
    )
    assert counted == expected
    claude = call in {calls.name_of(one) for one in calls.ANTHROPIC_CALLS}
    assert row["upstream"] == ("sim-claude" if claude else "sim")
    assert row["model"] == ("demo-claude" if claude else "demo-small")
    assert (row["status"], row["code"], row["ending"]) == (200, "ok", "complete")
    assert row["streamed"] == ("stream" in call)
    assert row["attempts"] == 1
    assert row["request_bytes"] > 0
    assert row["response_bytes"] > 0
    if expected is not NO_USAGE:
        assert row["usage_source"] == "reported"
    for field in ("status", "model", "upstream", "input_tokens", "output_tokens", "usage_source"):
        assert shown[field] == row[field], field


@pytest.mark.parametrize("name", names(calls.OPENAI_CALLS))
def test_cost_is_the_configured_price(pairs: dict[str, Pair | Exception], name: str) -> None:
    """Pico-dollars by class: cached input at its own price, the rest of the input and all output at theirs."""
    pair = pair_of(pairs, name)
    row = pair.row
    plain = row["input_tokens"] - row["cached_input_tokens"]
    expected = plain * 1_000_000 + row["cached_input_tokens"] * 500_000 + row["output_tokens"] * 2_000_000
    assert row["cost_pico"] == expected
    assert abs(pair.shown["cost_micros"] - expected / 1e6) <= 1


@pytest.mark.parametrize("name", names(calls.OPENAI_CALLS, calls.ANTHROPIC_CALLS))
def test_both_ids_are_the_rows(pairs: dict[str, Pair | Exception], name: str) -> None:
    """`x-request-id` and `request-id` are one UUID, ours and not the provider's."""
    pair = pair_of(pairs, name)
    assert pair.through.request_id == pair.through.other_request_id
    assert uuid.UUID(pair.through.request_id).version == 7
    assert pair.row["id"] == pair.through.request_id


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_usage_chunk_only_for_those_who_asked(pairs: dict[str, Pair | Exception], kind: str) -> None:
    """The gateway asks for usage on every stream; only a client that asked gets the chunk and the `usage` keys."""
    silent = pair_of(pairs, f"chat_stream-{kind}").through
    asked = pair_of(pairs, f"chat_stream_usage-{kind}").through
    legacy = pair_of(pairs, f"completion_stream-{kind}").through
    assert (silent.usage_chunks, silent.usage_on_events, silent.tokens) == (0, 0, None)
    assert (legacy.usage_chunks, legacy.usage_on_events, legacy.tokens) == (0, 0, None)
    assert asked.usage_chunks == 1
    assert asked.usage_on_events > 1
    assert asked.tokens == pair_of(pairs, f"chat_stream_usage-{kind}").direct.tokens


@pytest.mark.parametrize("client_kind", ["sync", "async"])
async def test_request_id_is_on_objects_too(daemon: Daemon, client_kind: str) -> None:
    """`_request_id` of both SDKs is the row's id."""
    client = calls.openai_client(daemon.url, daemon.key, client_kind)
    claude = calls.anthropic_client(daemon.url, daemon.key, client_kind)
    said: list[Any] = [{"role": "user", "content": "hi"}]
    chat = await calls.done(client.chat.completions.create(model="demo-small", messages=said))
    message = await calls.done(claude.messages.create(model="demo-claude", max_tokens=9, messages=said))
    await calls.close(client)
    await calls.close(claude)
    rows, _ = wait_for_rows(daemon, [chat._request_id, message._request_id])
    assert rows[chat._request_id]["route"] == "chat.completions"
    assert rows[message._request_id]["route"] == "messages"


async def test_an_alias_names_another_model(daemon: Daemon) -> None:
    """A model name of our own goes to the model it stands for; the row has our name."""
    client = calls.openai_client(daemon.url, daemon.key)
    claude = calls.anthropic_client(daemon.url, daemon.key)
    seen = [await calls.chat(client, "house-model"), await calls.chat_stream(client, "house-model")]
    seen += [await calls.message(claude, "house-claude"), await calls.message_stream(claude, "house-claude")]
    assert [one.model for one in seen] == ["demo-large", "demo-large", "demo-claude", "demo-claude"]
    rows, _ = wait_for_rows(daemon, [one.request_id for one in seen])
    assert [rows[one.request_id]["model"] for one in seen] == ["house-model"] * 2 + ["house-claude"] * 2


def test_models_are_the_catalogues(daemon: Daemon) -> None:
    """Each SDK lists and gets the models of its own dialect."""
    client = calls.openai_client(daemon.url, daemon.key)
    claude = calls.anthropic_client(daemon.url, daemon.key)
    assert {one.id for one in client.models.list()} == {"demo-small", "house-model"}
    assert {one.id for one in claude.models.list()} == {"demo-claude", "house-claude"}
    assert client.models.retrieve("house-model").object == "model"
    assert claude.models.retrieve("house-claude").type == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")
    with pytest.raises(anthropic.NotFoundError):
        claude.models.retrieve("no-such-model")


@pytest.mark.parametrize(
    "header", ["Authorization: Bearer {}", "authorization: bearer {}", "x-api-key: {}", "X-API-Key: {}"]
)
def test_the_key_fits_in_both_headers(daemon: Daemon, header: str) -> None:
    """Bearer and x-api-key, in both dialects and any case of the header's name."""
    line = header.format(daemon.key)
    chat = ask(daemon, post(daemon, "/v1/chat/completions", chat_request("demo-small"), line, key=""))
    claude = post(daemon, "/v1/messages", message_request("demo-claude"), line, "anthropic-version: 2023-06-01", key="")
    message = ask(daemon, claude)
    assert (chat.status, message.status) == (200, 200)


def test_the_same_key_in_both_headers(daemon: Daemon) -> None:
    """Older SDKs send the key twice; that is one key."""
    both = ask(daemon, post(daemon, "/v1/chat/completions", chat_request("demo-small"), f"x-api-key: {daemon.key}"))
    assert both.status == 200


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions", "/v1/v1/chat/completions"])
def test_missing_and_doubled_v1_work(daemon: Daemon, path: str) -> None:
    """A base URL with or without /v1 works for either SDK's way of joining paths."""
    assert ask(daemon, post(daemon, path, chat_request("demo-small"))).status == 200


def test_the_providers_rate_limits_stay_inside(daemon: Daemon) -> None:
    """The provider's own ids and rate limits describe the shared account and do not reach a client."""
    answer = ask(daemon, post(daemon, "/v1/chat/completions", chat_request("demo-small")))
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
    assert not answer.headers["x-request-id"].startswith("req_")
    assert "anthropic-organization-id" not in answer.headers
    assert "server" not in answer.headers


def test_probes_and_metrics(daemon: Daemon, pairs: dict[str, Pair | Exception]) -> None:
    """Both planes answer their probes; the ledger's counters agree with the table and nothing is lost."""
    assert get(daemon.port, "/livez")[0] == get(daemon.port, "/readyz")[0] == 200
    assert get(daemon.control_port, "/livez")[0] == get(daemon.control_port, "/readyz")[0] == 200
    assert len(pairs) == 2 * (len(calls.OPENAI_CALLS) + len(calls.ANTHROPIC_CALLS))
    assert daemon.metric("luntrex_requests_total") >= len(pairs)
    assert daemon.metric("luntrex_ledger_lost_total") == 0
    assert daemon.metric("luntrex_ledger_quarantined_total") == 0
    assert daemon.metric("luntrex_tokens_total") > 0
