"""When a key may be used."""

import pytest

from luntrex_proxy.core.access import Caller


@pytest.mark.parametrize(
    ("not_before", "expires_at", "now", "valid"),
    [
        (0.0, 0.0, 0.0, True),
        (0.0, 0.0, 1e12, True),
        (100.0, 0.0, 99.999, False),
        (100.0, 0.0, 100.0, True),
        (0.0, 200.0, 199.999, True),
        (0.0, 200.0, 200.0, False),
        (100.0, 200.0, 150.0, True),
        (100.0, 200.0, 250.0, False),
        (200.0, 100.0, 150.0, False),
    ],
)
def test_a_key_is_valid_from_and_until(not_before: float, expires_at: float, now: float, valid: bool) -> None:
    """From `not_before` on, up to but not at `expires_at`; zero means no bound."""
    assert Caller(1, "k", not_before, expires_at).valid_at(now) is valid


def test_callers_are_frozen_and_say_no_secret() -> None:
    """A caller is an account and a public key id; it can't be changed on the way."""
    caller = Caller(1, "k")
    with pytest.raises(AttributeError):
        caller.account_id = 2  # type: ignore[misc]  # that it fails is the point
    expected = {"account_id", "key_id", "not_before", "expires_at", "policy", "scope", "consents", "person"}
    assert set(Caller.__struct_fields__) == expected
