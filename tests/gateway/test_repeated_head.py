"""A head that comes again is known; anything but its length that differs takes the strict way."""

import random

import pytest

from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.gateway.http.head import RequestHead, parse_head, remember_head
from luntrex_proxy.settings.model import GatewayLimits
from tests.fakes import both_dialects, serving
from tests.gateway.wire import BODY, connected, post, upstream_server

LIMITS = GatewayLimits()
_ODD_LENGTHS = (b"", b" 5", b"5 ", b"05", b"+5", b"-5", b"5_0", b"5, 5", b"0x5", b"1" * 17, b"\xb2")


def test_a_repeated_head_reads_as_if_it_were_parsed() -> None:
    """What is known again from a head before gives what a fresh parse gives, with its own length."""
    first = b"POST /v1/x?a=1 HTTP/1.1\r\nHost: h\r\nContent-Length:\t12\r\nAuthorization: Bearer k\r\n\r\n"
    known = remember_head(first, parse_head(first, 100)[0], LIMITS)
    assert known is not None
    for length in (b"0", b"7", b"12", b"9000000", b"1234567890123456"):
        data = first.replace(b"\t12", b"\t" + length)
        found, parsed = known.read(data + b"rest\r\n\r\n"), parse_head(data, 100)[0]
        assert found is not None
        head, rest = found
        assert rest == b"rest\r\n\r\n"
        assert {name: getattr(head, name) for name in RequestHead.__slots__ if name != "headers"} == {
            name: getattr(parsed, name) for name in RequestHead.__slots__ if name != "headers"
        }
        assert head.headers == parsed.headers == {b"host": b"h", b"authorization": b"Bearer k"}


@pytest.mark.parametrize(
    "changed",
    [
        *(b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: %b\r\nX: y\r\n\r\n" % length for length in _ODD_LENGTHS),
        b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nX: z\r\n\r\n",
        b"POST /v1/y HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nX: y\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\nX: y\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n",
    ],
)
def test_a_changed_head_is_parsed_again(changed: bytes) -> None:
    """Nothing but a plain length may differ: everything else takes the strict way."""
    first = b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nX: y\r\n\r\n"
    known = remember_head(first, parse_head(first, 100)[0], LIMITS)
    assert known is not None
    assert known.read(changed) is None


@pytest.mark.parametrize(
    "more",
    [
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b"X: %b\r\n" % (b"y" * 2048),
        b"".join(b"X%d: y\r\n" % number for number in range(40)),
    ],
)
def test_a_head_that_will_hardly_come_again_is_not_kept(more: bytes) -> None:
    """Heads of a last request, of one that asks first, and large ones or ones of many lines are parsed each time."""
    data = b"POST /v1/x HTTP/1.1\r\nHost: h\r\n" + more + b"Content-Length: 5\r\n\r\n"
    assert remember_head(data, parse_head(data, 100)[0], LIMITS) is None


def test_no_mutation_is_taken_for_a_head_that_it_is_not() -> None:
    """Whatever is known again, in any cut and with any bytes changed, reads the same way when it is parsed."""
    first = b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\nX: y\r\n\r\n"
    rng = random.Random(5)
    known = remember_head(first, parse_head(first, 100)[0], LIMITS)
    assert known is not None
    taken = 0
    for _ in range(3000):
        data = bytearray(first + rng.choice((b"", b"{}", first, b"\r\n\r\n", b"X: y\r\n\r\n")))
        for _ in range(rng.choice((0, 1, 1, 2))):
            at = rng.randrange(len(data))
            data[at : at + rng.choice((0, 1, 1, 3))] = rng.choice((b"", b"1", b"\r\n", b"\0", b": ", b"0", b"x"))
        cut = bytes(data[: rng.choice((len(data), len(data), rng.randrange(len(data) + 1)))])
        found = known.read(cut)
        if found is None:
            continue
        taken += 1
        end = cut.find(b"\r\n\r\n") + 4
        try:
            parsed = parse_head(cut[:end], 100)[0]
        except Refusal:
            pytest.fail(f"{cut!r} is refused when it is parsed")
        assert (found[0].content_length, found[0].headers, found[1]) == (
            parsed.content_length,
            parsed.headers,
            cut[end:],
        )
    assert taken > 300


@pytest.mark.parametrize("lowered", [{"header_count": 3}, {"header_bytes": 120}])
async def test_a_lower_limit_holds_for_a_head_that_is_known(lowered: dict[str, int]) -> None:
    """A reload counts from the next request on, also for a client that stays and sends the same head again."""
    request = post(BODY, "X-Filler: " + "x" * 100)
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url)) as gateway,
        connected(gateway.port) as client,
    ):
        for _ in range(2):
            await client.send(request)
            assert (await client.reply()).status == 200
        gateway.pipeline.set_limits(gateway.pipeline.limits.model_copy(update=lowered))
        await client.send(request)
        assert (await client.reply()).status == 431
        assert len(up.requests) == 2
