"""Debug capture on the way of a request: the body and the answer as sent, a header, and nothing while it is off."""

from collections.abc import Callable

from luntrex_proxy.core.capture import PART_BYTES_MAX, Captured
from tests.fakes import KEY, both_dialects, serving, until
from tests.gateway.wire import BODY, CHAT, STREAM_BODY, ask, post, upstream_server
from tests.upstreams.bodies import answer_by_path


class Book:
    """Captures of one key."""

    def __init__(self) -> None:
        self.admitted: list[str] = []
        self.captured: list[Captured] = []
        self.left = 1_000

    def admit(self, key_id: str) -> Callable[[Captured], None] | None:
        if self.left < 1:
            return None
        self.left -= 1
        self.admitted.append(key_id)
        return self.captured.append


async def test_request_and_answer_are_copied_and_the_owner_sees_it() -> None:
    """JSON and streams on a kept connection: bytes as sent, header in each; without a capture no header."""
    by_path = lambda request: answer_by_path(request.line.split()[1], request.body)  # noqa: E731 -- short
    async with upstream_server(by_path) as up, serving(both_dialects(up.url)) as gateway:
        plain = await ask(gateway.port, post(BODY))
        assert "x-luntrex-debug-capture" not in plain.headers
        gateway.pipeline.captures = book = Book()
        for body in (BODY, STREAM_BODY):
            answer = await ask(gateway.port, post(body))
            assert answer.status == 200
            assert answer.headers["x-luntrex-debug-capture"] == "on"
            await until(lambda: len(book.captured) == len(book.admitted))
            captured = book.captured[-1]
            assert captured.request == body
            raw = b"".join(captured.answer)
            assert raw.startswith(b"HTTP/1.1 200 OK\r\nx-luntrex-debug-capture: on\r\n")
            assert len(raw) == captured.answer_bytes
            assert captured.request_id == answer.headers["x-request-id"]
            assert KEY.encode() not in raw + captured.request
        book.left = 0
        assert "x-luntrex-debug-capture" not in (await ask(gateway.port, post(BODY))).headers
        assert [outcome.code for outcome in gateway.outcomes] == ["ok"] * 4


async def test_refusals_of_a_captured_request_are_copied_too() -> None:
    """What the client was answered, whoever said it; a wrong key is nobody's to capture."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        gateway.pipeline.captures = book = Book()
        refused = await ask(gateway.port, post(b'{"model": "none-such", "messages": []}', path=CHAT))
        assert refused.status == 404
        assert refused.headers["x-luntrex-debug-capture"] == "on"
        assert (await ask(gateway.port, post(BODY, key="lx_wrong"))).status == 401
        await until(lambda: len(book.captured) == 1)
        assert len(book.admitted) == 1
        assert b"model_not_found" in b"".join(book.captured[0].answer)


def test_memory_is_bounded() -> None:
    """A long answer is counted whole and kept in part."""
    captured = Captured("r", 0, "chat", b"", 0)
    for _ in range(3):
        captured.add(bytes(PART_BYTES_MAX - 10))
    assert captured.answer_bytes == 3 * (PART_BYTES_MAX - 10)
    assert sum(map(len, captured.answer)) == PART_BYTES_MAX
    assert "answer=" not in repr(captured)
