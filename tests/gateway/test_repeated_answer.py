"""An answer's head that comes again is known; anything but its length that differs takes the strict way."""

import random

import pytest

from luntrex_proxy.gateway.http.answerhead import (
    END,
    AnswerHead,
    BadAnswerError,
    RepeatedAnswer,
    read_answer_head,
    remember_answer,
)

SIZED = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length:\t12 \r\nContent-Type: application/json\r\n\r\n"
UNSIZED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"
ODD_LENGTHS = (b"", b" 5", b"05", b"+5", b"-5", b"5_0", b"5, 5", b"0x5", b"1" * 17, b"\xb2", b"5\r\nX: y")


def known(data: bytes) -> RepeatedAnswer:
    """What an accepted head is known again by."""
    remembered = remember_answer(data, read_answer_head(data))
    assert remembered is not None
    return remembered


def read_anew(data: bytes) -> tuple[AnswerHead, bytes] | None:
    """The strict reading of what begins with a head; None when it is refused or not whole."""
    end = data.find(END) + 4
    try:
        return (read_answer_head(data[:end]), data[end:]) if end >= 4 else None
    except BadAnswerError:
        return None


@pytest.mark.parametrize("length", [b"0", b"7", b"12", b"9000000", b"1234567890123456"])
@pytest.mark.parametrize("body", [b"", b"{}", SIZED, b"\r\n\r\n"])
def test_a_repeated_head_reads_as_if_it_were_read_anew(length: bytes, body: bytes) -> None:
    """With its own length, and with all that follows it."""
    data = SIZED.replace(b"12", length) + body
    usual = known(SIZED)
    assert usual.read(data) == usual.read(data)
    found, anew = usual.read(data), read_anew(data)
    assert found is not None
    assert anew is not None
    assert [getattr(found[0], name) for name in AnswerHead.__struct_fields__] == [
        getattr(anew[0], name) for name in AnswerHead.__struct_fields__
    ]
    assert found[1] == anew[1] == body


@pytest.mark.parametrize("length", ODD_LENGTHS)
def test_an_odd_length_takes_the_strict_way(length: bytes) -> None:
    """It is no number that a repeated head may have."""
    assert known(SIZED).read(SIZED.replace(b"12", length) + b"{}") is None


@pytest.mark.parametrize("first", [SIZED, UNSIZED, UNTIL_CLOSE])
def test_no_mutation_is_taken_for_a_head_that_it_is_not(first: bytes) -> None:
    """Whatever is known again, in any cut and with any bytes changed, reads the same way when it is read anew."""
    rng = random.Random(7)
    usual = known(first)
    taken = 0
    for _ in range(3000):
        data = bytearray(first + rng.choice((b"", b"{}", first, b"5\r\nhello\r\n")))
        for _ in range(rng.choice((0, 1, 1, 2))):
            at = rng.randrange(len(data))
            data[at : at + rng.choice((0, 1, 1, 3))] = rng.choice((b"", b"1", b"\r\n", b"\0", b": ", b"0", b"x"))
        cut = bytes(data[: rng.choice((len(data), len(data), rng.randrange(len(data) + 1)))])
        found, anew = usual.read(cut), read_anew(cut)
        if found is not None:
            taken += 1
            assert anew is not None
            assert found[1] == anew[1]
            assert [getattr(found[0], n) for n in AnswerHead.__struct_fields__] == (
                [getattr(anew[0], n) for n in AnswerHead.__struct_fields__]
            )
    assert taken > 300


@pytest.mark.parametrize("data", [SIZED.replace(b"200 OK", b"429 No"), SIZED[:-2] + b"X: %b\r\n\r\n" % (b"y" * 4096)])
def test_errors_and_long_heads_are_not_kept(data: bytes) -> None:
    """They must not push out the usual one."""
    assert remember_answer(data, read_answer_head(data)) is None
