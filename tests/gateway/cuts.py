"""Every way a sample stream can be cut, asked through a running gateway, and what the client must have got then.

The judge knows nothing of the gateway's readers: it splits events at blank lines, as the samples are written.
"""

import asyncio
import collections
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import openai

from luntrex_proxy.core.call import Grammar
from luntrex_proxy.core.outcome import Ending, UsageSource
from luntrex_proxy.core.refusals import REFUSALS
from tests.core.wire.samples import SAMPLES, Sample
from tests.fakes import KEY, Gateway, both_dialects, serving
from tests.gateway.wire import (
    CHAT,
    CLOSE,
    LAST_CHUNK,
    MESSAGES,
    RESET,
    RESPONSES,
    LoopUpstream,
    Reply,
    Request,
    Step,
    chunk,
    connected,
    post,
    sse_head,
    upstream_server,
)

# How the upstream's body ends at the cut:
#   chunk    FIN between two chunks, no last one      frame  FIN inside a chunk whose length promised more
#   ended    the last chunk, as if all were well      close  FIN of a body that has no other end
#   reset    RST                                      pause  the rest follows after a moment: nothing is cut
HOWS = ("chunk", "frame", "ended", "close", "reset", "pause")
_BLANK_LINES = re.compile(rb"\n{2,}")
_CLEAN = frozenset({"ended", "close", "pause"})
_PATHS = {Grammar.CHAT: (CHAT, "/v1/completions"), Grammar.RESPONSES: (RESPONSES,), Grammar.MESSAGES: (MESSAGES,)}


@dataclass(frozen=True)
class Cut:
    """One sample that ends after `at` bytes in the manner `how`."""

    sample: Sample
    at: int
    how: str
    path: str

    @property
    def sent(self) -> bytes:
        """What the upstream sends before its end."""
        return self.sample.sent if self.how == "pause" else self.sample.sent[: self.at]

    def steps(self) -> list[Step]:
        """The upstream's script."""
        data = self.sample.sent[: self.at]
        chunks = [chunk(data)] if data else []
        if self.how == "close":
            return [sse_head(chunked=False) + data, CLOSE]
        if self.how == "frame":
            return [sse_head() + b"%x\r\n%b" % (len(data) + 1, data), CLOSE]
        if self.how == "pause":
            rest = self.sample.sent[self.at :]
            return [sse_head(), *chunks, 0.002, *([chunk(rest)] if rest else []), LAST_CHUNK]
        # A RST makes kernels forget what has not been read; the moment lets most of it be read.
        ends: dict[str, list[Step]] = {"chunk": [CLOSE], "ended": [LAST_CHUNK], "reset": [0.002, RESET]}
        return [sse_head(), *chunks, *ends[self.how]]

    def request(self, number: int) -> bytes:
        """The client's request; `number` tells the upstream which script to play."""
        fields: dict[str, Any] = {"model": "m", "stream": True, "n": number}
        if self.sample.grammar is Grammar.MESSAGES:
            fields["model"] = "claude"
        elif self.sample.grammar is Grammar.CHAT and not self.sample.withhold:
            fields["stream_options"] = {"include_usage": True}
        return post(json.dumps(fields).encode(), path=self.path)


def cuts(step: int = 1, samples: Iterable[Sample] = SAMPLES, hows: Iterable[str] = HOWS) -> Iterator[Cut]:
    """Each sample, each manner, and each `step`-th byte besides the three around every end of an event."""
    for sample in samples:
        ends = set(_event_ends(sample.sent))
        near = {end + off for end in ends for off in (-2, -1, 0, 1)} | {0, 1, len(sample.sent)}
        for how in hows:
            for at in range(len(sample.sent) + 1):
                if at % step == 0 or at in near:
                    paths = _PATHS[sample.grammar]
                    yield Cut(sample, at, how, paths[at % len(paths)])


async def judge(cases: list[Cut], workers: int = 16) -> collections.Counter[str]:
    """Ask all of them through one gateway; raises AssertionError with the case. How often each code was recorded."""

    def script(request: Request) -> list[Step]:
        return cases[json.loads(request.body)["n"]].steps()

    counted: collections.Counter[str] = collections.Counter()
    raising: dict[tuple[Grammar, bytes], bool] = {}
    todo = iter(range(len(cases)))
    async with upstream_server(script) as up, serving(both_dialects(up.url, idle_s=5, first_byte_s=5)) as gateway:
        await asyncio.gather(*(_work(gateway, cases, todo, counted, raising) for _ in range(workers)))
        assert not gateway.pipeline.inflight
        assert len(gateway.outcomes) == len(gateway.ledger.opened) == len(gateway.ledger.settled) == len(cases)
        _check_unconfused(up, len(cases))
    return counted


async def _work(
    gateway: Gateway,
    cases: list[Cut],
    todo: Iterator[int],
    counted: collections.Counter[str],
    raising: dict[tuple[Grammar, bytes], bool],
) -> None:
    async with connected(gateway.port) as client:
        for number in todo:
            case = cases[number]
            try:
                reply = await (await client.send(case.request(number))).reply()
                assert client.received == b"", "something came after the end"
                counted[_check(gateway, case, reply)] += 1
                key = (case.sample.grammar, reply.body)
                if reply.status == 200 and key not in raising:
                    raising[key] = sdk_raises(*key)
                if reply.status == 200 and not _must_be_complete(case):
                    assert raising[key], "the SDK took it for a whole answer"
            except AssertionError as error:
                error.add_note(f"{case.sample.name!r} cut at {case.at} of {len(case.sample.sent)}, {case.how}")
                raise


def _check_unconfused(up: LoopUpstream, count: int) -> None:
    assert len(up.requests) == count, "a request was sent twice, or not at all"


def _expected(sample: Sample) -> bytes:
    """All that a client may get of a sample."""
    if sample.passed is not None:
        return sample.passed + sample.held
    return b"".join(sample.events[: -1 if sample.held else None]) + sample.held


def _check(gateway: Gateway, case: Cut, reply: Reply) -> str:
    """The bytes and the record of one answer; returns the recorded code."""
    sample = case.sample
    outcome = next(one for one in reversed(gateway.outcomes) if one.request_id == reply.headers["x-request-id"])
    complete = _must_be_complete(case)
    if complete and not sample.failed:
        assert (outcome.code, outcome.ending) == ("ok", Ending.COMPLETE), outcome.code
        said = sample.tokens is not None and "useless" not in sample.name
        if said and sample.held and sample.held in case.sent:
            assert outcome.usage_source == UsageSource.REPORTED
            assert outcome.tokens == sample.tokens
    else:
        allowed = {"upstream_error"} if complete else {"upstream_cut", "upstream_closed"}
        assert outcome.code in allowed, outcome.code
        assert outcome.ending == Ending.UPSTREAM_FAILED
        assert outcome.usage_source != UsageSource.REPORTED or complete
    if reply.status != 200:
        assert reply.status == outcome.status == REFUSALS[outcome.code].status
        assert outcome.code != "ok"
        assert not _has_event(_passed_by(case)) or case.how == "reset", "events that had come were kept from the client"
        return outcome.code
    _check_body(case, reply.body, complete, outcome.code)
    return outcome.code


def _check_body(case: Cut, body: bytes, complete: bool, code: str) -> None:
    expected = _expected(case.sample)
    if complete:
        same = _BLANK_LINES.sub(b"\n\n", body) == _BLANK_LINES.sub(b"\n\n", expected)
        assert same or (case.sample.grammar is Grammar.CHAT and expected.startswith(body)), body[-200:]
        return
    passed, error = _split_error(body)
    assert expected.startswith(passed), "not what the upstream sent"
    assert _at_a_boundary(passed), f"half an event was sent: {passed[-80:]!r}"
    assert _is_error(case.sample.grammar, error, code), f"no error event: {error!r}"
    if case.how != "reset" and case.sample.passed is None:
        assert len(passed) == len(_passed_by(case)), "fewer or more events than had come whole"
    for terminator in (b"data: [DONE]", b"event: message_stop", b"event: response.completed"):
        assert terminator not in b"\n" + error


def _must_be_complete(case: Cut) -> bool:
    """Whether what was sent before the end is a whole stream in its grammar."""
    sample, sent = case.sample, case.sent
    if not sample.complete:
        return False
    whole = b"".join(sample.events)
    if len(sent) >= len(whole) and (whole.endswith(b"\n\n") or case.how in _CLEAN):
        return sample.held != b"" or case.how in _CLEAN
    if sample.grammar is not Grammar.CHAT or case.how not in _CLEAN:
        return False
    # A chat whose server sends no [DONE], or forgets its blank line, is whole when its body ends cleanly.
    last = max([0, *_event_ends(sent)])
    rest = sent[last:].strip()
    if rest.endswith((b"data: [DONE]", b"data:[DONE]")):
        return True
    return any(map(_finishes, _events(sent[:last]))) and (not rest or rest.startswith(b":"))


def _finishes(event: bytes) -> bool:
    data = b"".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))
    try:
        choices = json.loads(data).get("choices") or []
    except (ValueError, AttributeError):
        return False
    return any(choice.get("finish_reason") for choice in choices)


def _event_ends(data: bytes) -> list[int]:
    ends, at = [], data.find(b"\n\n")
    while at >= 0:
        ends.append(at + 2)
        at = data.find(b"\n\n", at + 2)
    return ends


def _events(data: bytes) -> list[bytes]:
    ends = _event_ends(data)
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def _passed_by(case: Cut) -> bytes:
    """The whole events, terminal one excepted, that a client must get of a sample that passes untouched."""
    if case.sample.passed is not None:
        return b""
    sent = case.sent[: len(_expected(case.sample)) - len(case.sample.held)]
    end = max([0, *_event_ends(sent)])
    blank = sent[end:]
    return sent if not blank.strip(b"\r\n") else sent[:end]


def _has_event(passed: bytes) -> bool:
    """Whether there is anything but comments: these alone do not make a client's answer begin."""
    return any(line and not line.startswith(b":") for line in passed.splitlines())


def _at_a_boundary(passed: bytes) -> bool:
    return not passed.strip(b"\n") or passed.endswith(b"\n\n")


def _split_error(body: bytes) -> tuple[bytes, bytes]:
    """The body before its last event, and that event."""
    assert body.endswith(b"\n\n"), body[-80:]
    starts = [0, *_event_ends(body)[:-1]]
    at = starts[-1] + len(body[starts[-1] :]) - len(body[starts[-1] :].lstrip(b"\n"))
    return body[:at], body[at:]


def _is_error(grammar: Grammar, event: bytes, code: str) -> bool:
    """Whether it is the error event of this grammar with the sentence of `code`."""
    name, _, data = event.removesuffix(b"\n\n").rpartition(b"data: ")
    said = json.loads(data)
    if grammar is Grammar.CHAT:
        return name == b"" and said["error"]["message"] == REFUSALS[code].sentence and said["error"]["code"] == code
    return name == b"event: error\n" and said["type"] == "error" and said["error"]["message"] == REFUSALS[code].sentence


def sdk_raises(grammar: Grammar, body: bytes) -> bool:
    """Whether the real SDK raises on a 200 with this stream."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    transport = httpx2.MockTransport(answer)
    try:
        with httpx2.Client(transport=transport) as http:
            for _ in _stream(grammar, http):
                pass
    except (openai.APIError, anthropic.APIError):
        return True
    except ValueError:  # events that are not JSON, which some samples have
        return True
    return False


def _stream(grammar: Grammar, http: Any) -> Any:
    said: list[Any] = [{"role": "user", "content": "hi"}]
    if grammar is Grammar.MESSAGES:
        client = anthropic.Anthropic(base_url="http://x", api_key=KEY, max_retries=0, http_client=http)
        return client.messages.create(model="claude", max_tokens=9, messages=said, stream=True)
    openais = openai.OpenAI(base_url="http://x/v1", api_key=KEY, max_retries=0, http_client=http)
    if grammar is Grammar.RESPONSES:
        return openais.responses.create(model="m", input="hi", stream=True)
    return openais.chat.completions.create(model="m", messages=said, stream=True)


for _grammar in (Grammar.CHAT, Grammar.RESPONSES, Grammar.MESSAGES):
    sdk_raises(_grammar, b"")  # the SDKs import what they need at the first call: not while a gateway's clocks run
