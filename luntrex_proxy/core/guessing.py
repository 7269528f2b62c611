"""How long guessing at passwords and codes has to wait: growing pauses and no lock, as pure arithmetic.

Three counts are kept of what is guessed at, be it there or not:

    pair       subject and network    a few failures are free, then the wait doubles
    network    all subjects           so that one network cannot try one password at every address
    subject    all networks           for attacks from many networks; each of them adds no more than its free failures,
                                      so that one alone never makes others wait

The person itself is not locked out: networks it signed in from before are not held up by the third count.
"""

from typing import Final

PAIR_FREE: Final = 5
NETWORK_FREE: Final = 20
SUBJECT_FREE: Final = 50  # ten networks; below the hundred in a row of NIST SP 800-63B-4
WAIT_MAX_S: Final = 900.0
FORGOTTEN_AFTER_S: Final = 86_400.0
_DOUBLINGS_MAX: Final = 10


def wait_s(failures: int, free: int, age_s: float) -> float:
    """Seconds until the next try after so many failures, the last of them `age_s` ago; 0: now."""
    if failures < free or age_s > FORGOTTEN_AFTER_S:
        return 0.0
    pause_s = min(2.0 ** min(failures - free, _DOUBLINGS_MAX), WAIT_MAX_S)
    return max(pause_s - max(age_s, 0.0), 0.0)
