"""Request ids: each is another, and nothing in them but the time and what makes a UUIDv7 can be foretold."""

import uuid

from luntrex_proxy.gateway.request_id import new_request_id

IDS = 3000  # of more than ten stocks
FIRST_RANDOM = len("xxxxxxxx-xxxx-")


def test_every_digit_but_the_times_is_drawn() -> None:
    """No two ids are the same, and each digit that the standard leaves free takes each of its values."""
    ids = [new_request_id(1_700_000_000.123) for _ in range(IDS)]
    assert len({each[FIRST_RANDOM:] for each in ids}) == IDS
    assert {(one.version, one.variant) for one in map(uuid.UUID, ids)} == {(7, uuid.RFC_4122)}
    assert {each[:FIRST_RANDOM] for each in ids} == {"018bcfe5-687b-"}
    values = [len(set(digits)) for digits in zip(*(each[FIRST_RANDOM:] for each in ids), strict=True)]
    assert values == [1, 16, 16, 16, 1, 4, 16, 16, 16, 1, *[16] * 12]
