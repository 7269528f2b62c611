"""Jobs that run once at a time: each has a number of its own, or one waits for another that is not its business."""

import re
from collections import Counter
from pathlib import Path

import luntrex_proxy

_NUMBER = re.compile(r"0x6C756E74_(\w\w)")


def test_no_two_jobs_share_a_lock() -> None:
    """Erasing a person must not wait until a slow mail server took its letters."""
    sources = [path.read_text() for path in Path(luntrex_proxy.__file__).parent.rglob("*.py")]
    numbers = Counter(number for source in sources for number in _NUMBER.findall(source))
    assert len(numbers) >= 6
    assert [number for number, times in numbers.items() if times > 1] == []
