"""What a debug capture holds of one request, until it is encrypted; and the bounds of a capture."""

from dataclasses import dataclass, field
from typing import Final

REQUESTS_MAX: Final = 100
MINUTES_MAX: Final = 60
KEPT_HOURS: Final = 24
PART_BYTES_MAX: Final = 1_048_576  # of a request's body, and of its answer; what is more is not kept


@dataclass(slots=True, eq=False)
class Captured:
    """A request's body and the answer as it was sent."""

    request_id: str
    started_us: int
    route: str
    request: bytes = field(repr=False)
    request_bytes: int
    answer: list[bytes] = field(default_factory=list, repr=False)
    answer_bytes: int = 0

    def add(self, piece: bytes) -> None:
        """One more piece of the answer."""
        room = PART_BYTES_MAX - self.answer_bytes
        self.answer_bytes += len(piece)
        if room > 0:
            self.answer.append(piece[:room])
