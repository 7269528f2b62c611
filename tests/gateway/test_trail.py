"""What a record says of an unusual way: who was not asked and why, who refused, what was waited for."""

import asyncio

from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.core.trail import Step, read
from tests.fakes import Gateway, entry, serving, upstream
from tests.gateway.test_fallback import chain, refusal
from tests.gateway.test_policy import UNKNOWN, US, scene
from tests.gateway.wire import BODY, ask, connected, post, reply, upstream_server


def steps(outcome: Outcome) -> list[Step]:
    """The trail, but for connections: whether one took a millisecond is the machine's matter."""
    return [step for step in read(outcome.trail) if step.name != ".connect"]


def shape(found: list[Step]) -> list[tuple[str, str]]:
    """Names and codes."""
    return [(step.name, step.code) for step in found]


async def test_the_usual_request_leaves_none() -> None:
    """Also where there are several targets, and nothing spoke against any."""
    models = [entry("m", ("a", "m"), ("b", "m"))]
    async with upstream_server() as up, serving([upstream("a", up.url), upstream("b", up.url)], models) as gateway:
        for count in (1, 2):
            assert (await ask(gateway.port, post())).status == 200
            assert steps(await gateway.outcome(count)) == []
        assert (await gateway.outcome(2)).trail == "", "its connection was there"


async def test_who_refused_is_on_record_with_its_times() -> None:
    """Unreachable, refused, then the one that answered, in the order of time."""
    async with chain(None, [refusal(429)], [reply(200, BODY)]) as (gateway, _):
        assert (await ask(gateway.port, post())).status == 200
        outcome = await gateway.outcome()
        found = steps(outcome)
        assert shape(found) == [("a", "upstream_unreachable"), ("b", "http_429"), ("c", "")]
        assert all(step.took_us is not None for step in found[:2])
        times_us = [step.start_us or 0 for step in found]
        assert 0 < times_us[0] <= times_us[1] <= times_us[2] <= outcome.duration_us
        assert outcome.attempts == 3


async def test_when_all_refuse_all_are_on_record() -> None:
    """The record's upstream is the one whose words the client got."""
    async with chain([refusal(429)], None) as (gateway, _):
        assert (await ask(gateway.port, post())).status == 429
        outcome = await gateway.outcome()
        assert shape(steps(outcome)) == [("a", "http_429"), ("b", "upstream_unreachable")]
        assert outcome.upstream == "a"


async def test_whom_a_policy_excludes_is_on_record() -> None:
    """By the attribute, whether another one served the request or none."""
    async with scene(**US) as both:
        assert (await both.ask(BODY, "x-luntrex-policy: region=eu")).status == 200
        assert shape(steps(await both.gateway.outcome())) == [("out", "region")]
    async with scene(targets=("out",), **UNKNOWN) as alone:
        assert (await alone.ask()).status == 403
        assert shape(steps(await alone.gateway.outcome())) == [("out", "retention")]


async def test_a_body_that_was_waited_for_is_on_record() -> None:
    """Its time is the client's, not ours."""
    async with upstream_server() as up, serving([upstream("a", up.url)], [entry("m", ("a", "m"))]) as gateway:
        request = post()
        async with connected(gateway.port) as client:
            await client.send(request[:-5])
            await _begun(gateway)
            await asyncio.sleep(0.005)  # longer than what is worth telling
            await client.send(request[-5:])
            assert (await client.reply()).status == 200
        outcome = await gateway.outcome()
        (waited,) = steps(outcome)
        assert waited.name == ".body"
        assert waited.took_us is not None
        assert 4_000 < waited.took_us <= outcome.overhead_us


async def _begun(gateway: Gateway) -> None:
    while not gateway.pipeline.inflight:
        await asyncio.sleep(0)
