"""How long guessing at passwords and codes has to wait: growing pauses and no lock, as pure arithmetic.

Three counts are kept of what is guessed at, be it there or not:

    pair       subject and network    a few failures are free, then the wait doubles
    network    all subjects           so that one network cannot try one password at every address
    subject    all networks           for attacks from many networks; each of them adds no more than its free failures,
                                      so that one alone never makes others wait

Each forgives one failure after the other as time passes, so that a network of many people who mistype now and then, or
an address that somebody tries every day, does not end up waiting for ever. The person itself is not locked out:
networks it signed in from before are not held up by the third count.
"""

from dataclasses import dataclass
from typing import Final

WAIT_MAX_S: Final = 900.0
_DOUBLINGS_MAX: Final = 10
_CLOCK_WENT_BACK_S: Final = 60.0  # tries at once see each other's times, which are a few seconds ahead at most


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many failures are free, and how often one is forgiven."""

    free: int
    forgiven_every_s: float

    def left(self, failures: int, age_s: float) -> int:
        """How many of so many failures still count, the last of them `age_s` ago."""
        return max(failures - int(max(age_s, 0.0) // self.forgiven_every_s), 0)

    def wait_s(self, failures: int, age_s: float) -> float:
        """Seconds until the next try; 0: now. Failures ahead of a clock that was put back hold nobody up till then."""
        if self.left(failures, age_s) < self.free or age_s < -_CLOCK_WENT_BACK_S:
            return 0.0
        pause_s = min(2.0 ** min(failures - self.free, _DOUBLINGS_MAX), WAIT_MAX_S)
        return max(pause_s - max(age_s, 0.0), 0.0)


PAIR: Final = Allowance(free=5, forgiven_every_s=3_600.0)
NETWORK: Final = Allowance(free=20, forgiven_every_s=60.0)
# Ten networks; below the hundred in a row of NIST SP 800-63B-4.
SUBJECT: Final = Allowance(free=50, forgiven_every_s=600.0)
