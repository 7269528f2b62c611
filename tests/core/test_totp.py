"""One-time codes: RFC 6238's own vectors, half a minute of drift, no code twice."""

import pytest

from luntrex_proxy.core.totp import app_url, as_text, code_at, from_text, step_of

SEED = b"12345678901234567890"


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_the_standard(now: int, code: str) -> None:
    """Appendix B, its last six digits."""
    assert code_at(SEED, now // 30) == code
    assert step_of(SEED, code, now, 0) == now // 30


def test_the_clock_may_be_off_by_one_step() -> None:
    """Not by two; and a step that was used, or an earlier one, is over."""
    code = code_at(SEED, 100)
    for now, step in ((2969, None), (2970, 100), (3000, 100), (3059, 100), (3060, None)):
        assert step_of(SEED, code, now, 0) == (None if step is None and now < 2970 else step), now
    assert step_of(SEED, code, 3000, 99) == 100
    assert step_of(SEED, code, 3000, 100) is None
    for wrong in ("", "000000", code + "0", "é" * 6, "\udcff"):
        assert step_of(SEED, wrong, 3000, 0) is None


def test_a_seed_is_told_as_text_and_url() -> None:
    """What apps take; nothing of the address can change the rest of it."""
    assert from_text(as_text(SEED)) == SEED
    url = app_url(SEED, "luntrex-proxy", "a&secret=x?@example.org")
    assert url.startswith("otpauth://totp/luntrex-proxy%3Aa%26secret%3Dx%3F%40example.org?secret=GEZDGNBV")
    assert url.count("secret=") == 1
