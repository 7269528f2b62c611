"""Both SDKs through the gateway to a real llama.cpp server: the same text and tokens as without the gateway."""

from collections.abc import Iterator

import pytest

from tests.llama import steady
from tests.upstreams.loop_thread import LoopThread
from tests.whole import calls
from tests.whole.comparison import Pair, compare, jobs, names, pair_of
from tests.whole.daemon import Daemon, model, running, upstream

SAME_TOKENS_AS = {"chat_stream": "chat_stream_usage", "completion_stream": "completion"}


@pytest.fixture(scope="module")
def daemon(servers: LoopThread, llama_url: str) -> Iterator[Daemon]:
    configuration = {
        "upstreams": [upstream("llama", "openai", llama_url), upstream("llama-claude", "anthropic", llama_url)],
        "models": [
            {
                "name": "tiny",
                "targets": [{"upstream": "llama", "model": "tiny"}, {"upstream": "llama-claude", "model": "tiny"}],
            },
            model("other-name", "llama", "tiny"),
        ],
    }
    with running(servers, configuration) as started:
        yield started


@pytest.fixture(scope="module")
def pairs(daemon: Daemon, llama_url: str) -> dict[str, Pair | Exception]:
    work = jobs(steady.OPENAI_CALLS, calls.openai_client, "tiny")
    work += jobs(steady.ANTHROPIC_CALLS, calls.anthropic_client, "tiny")
    return compare(daemon, llama_url, "none", work)


@pytest.mark.parametrize("name", names(steady.OPENAI_CALLS, steady.ANTHROPIC_CALLS))
def test_the_application_sees_no_difference(pairs: dict[str, Pair | Exception], name: str) -> None:
    """A real model server's text, finish reason and events come through as they are."""
    pair = pair_of(pairs, name)
    assert pair.through.text
    assert (pair.through.text, pair.through.finish) == (pair.direct.text, pair.direct.finish)
    assert pair.through.events == pair.direct.events
    assert pair.through.tokens == pair.direct.tokens


@pytest.mark.parametrize("name", names(steady.OPENAI_CALLS, steady.ANTHROPIC_CALLS))
def test_each_call_has_its_row(pairs: dict[str, Pair | Exception], name: str) -> None:
    """The row has llama.cpp's own numbers, also when the client had not asked for usage."""
    pair = pair_of(pairs, name)
    call, _, kind = name.rpartition("-")
    expected = pair_of(pairs, f"{SAME_TOKENS_AS.get(call, call)}-{kind}").direct.tokens
    assert (pair.row["status"], pair.row["ending"], pair.row["model"]) == (200, "complete", "tiny")
    claude = call in ("message", "message_stream", "count_tokens")
    assert pair.row["upstream"] == ("llama-claude" if claude else "llama")
    if expected is None:  # count_tokens: nothing is generated, nothing is billed
        assert (pair.row["input_tokens"], pair.row["output_tokens"]) == (0, 0)
    else:
        assert (pair.row["input_tokens"], pair.row["output_tokens"]) == (expected.input, expected.output)
        assert pair.row["usage_source"] == "reported"
    assert pair.shown["input_tokens"] == pair.row["input_tokens"]
    assert pair.shown["output_tokens"] == pair.row["output_tokens"]


async def test_alias_reaches_the_real_model(daemon: Daemon, llama_url: str) -> None:
    """Another name for the model gives the same text."""
    call = steady.OPENAI_CALLS[0]
    direct = await call(calls.openai_client(llama_url, "none"), "tiny")
    through = await call(calls.openai_client(daemon.url, daemon.key), "other-name")
    assert through.text == direct.text
    assert daemon.row(through.request_id)["model"] == "other-name"
