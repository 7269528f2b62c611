"""The mutation fuzzer, small and with a fixed seed; `tests/long/fuzz_http.py` runs it for as long as one likes."""

from tests.gateway.mutations import fuzz_answers, fuzz_requests, read_answer, read_requests
from tests.gateway.request_families import good
from tests.gateway.wire import LAST_CHUNK, chunk, head, reply


async def test_mutated_requests_have_one_reading() -> None:
    """The upstream sees the requests that h11 reads in the same bytes, or fewer; answers are whole; nothing breaks."""
    findings = await fuzz_requests(1500, seed=3)
    assert not findings, "\n".join(map(str, findings[:10]))


async def test_mutated_answers_have_one_reading() -> None:
    """The client gets the body that h11 reads in the same bytes, or a refusal; no header of theirs; nothing breaks."""
    findings = await fuzz_answers(700, seed=3)
    assert not findings, "\n".join(map(str, findings[:10]))


def test_the_judge_reads() -> None:
    """The oracle would notice: it finds requests and bodies where there are some."""
    bodies = [b'{"model":"m","n":1}', b'{"model":"m","n":2}']
    assert read_requests(good(1) + b"\r\n" + good(2) + b"BREW") == [(b"POST", body) for body in bodies]
    assert read_requests(good(1).replace(b"Host:", b"Host :")) == []
    assert read_answer(reply(200, b"{}")) == b"{}"
    assert read_answer(head(200, "Transfer-Encoding: chunked") + chunk(b"{}") + LAST_CHUNK) == b"{}"
    assert read_answer(reply(200, b"{}")[:-1]) is None
    assert read_answer(reply(500, b"{}")) is None
