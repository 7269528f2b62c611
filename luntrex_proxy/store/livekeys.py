"""Live keys in memory: packed keys by lookup hash. A million take 250 MiB, with all their terms.

A caller is put together when its key is used, of the key and of what its account and its member say at that moment;
those in use are at hand, until any of it changes. However many keys there are, no call takes longer than a few
milliseconds.
"""

import heapq
import math
from collections.abc import Iterator
from typing import Final

from luntrex_proxy.core.access import Caller
from luntrex_proxy.store.packedkeys import PackedKey
from luntrex_proxy.store.parts import Parts
from luntrex_proxy.store.standings import Standings

_AT_HAND_MAX: Final = 10_000
_HOUR_S: Final = 3600
_TICKS_PER_S: Final = 4


class LiveKeys:
    """`lookup hash -> Caller`. Ends of this hour and the next are noted by their moment, and looked for each hour."""

    def __init__(self, now: float) -> None:
        self._packed = Parts[bytes, PackedKey]()
        self.at_hand: dict[bytes, Caller] = {}  # of those in use
        self.standings = Standings(self.at_hand.clear)
        self._soon = _Calendar()
        self._noted_to_hour = self._before_hour = int(now // _HOUR_S) + 1  # the last of those in `_soon`; and before
        self._to_look_through: list[dict[bytes, PackedKey]] = []  # for the ends in between

    def __len__(self) -> int:
        return len(self._packed)

    def get(self, hashed: bytes) -> Caller | None:
        """The caller of a hash; None also while its account is suspended."""
        caller = self.at_hand.get(hashed)
        if caller is None and (packed := self._packed.get(hashed)) is not None:
            caller = self.standings.caller(packed)
            if caller is not None:
                if len(self.at_hand) >= _AT_HAND_MAX:
                    self.at_hand.clear()
                self.at_hand[hashed] = caller
        return caller

    def put(self, hashed: bytes, key: PackedKey) -> None:
        """Take a key in, or change it."""
        if 0.0 < key.ends_at < (self._noted_to_hour + 1) * _HOUR_S:
            self._note_end(hashed, key.ends_at)
        self._packed[hashed] = key
        self.at_hand.pop(hashed, None)

    def move(self, old: bytes, new: bytes) -> None:
        """Know a key by another hash from now on."""
        self.put(new, self._packed[old])
        self.drop(old)

    def drop(self, hashed: bytes) -> None:
        """Forget a key, if it is there."""
        self._packed.pop(hashed, None)
        self.at_hand.pop(hashed, None)

    def drop_ended(self, now: float, at_most: int) -> set[str]:
        """Forget some of those whose end has come, a quarter of a second late at most, and give their ids."""
        self._look_ahead(int(now // _HOUR_S) + 1)
        gone = set()
        for hashed in self._soon.take(int(now * _TICKS_PER_S), at_most):
            packed = self._packed.get(hashed)  # it may be gone, or end at another time now
            if packed is not None and 0.0 < packed.ends_at <= now:
                self.drop(hashed)
                gone.add(packed.key_id)
        return gone

    def is_behind(self, now: float) -> bool:
        """Whether `drop_ended` would find something to do."""
        return bool(
            self._to_look_through or self._noted_to_hour <= now // _HOUR_S or self._soon.first <= now * _TICKS_PER_S
        )

    def ids(self) -> Iterator[list[str]]:
        """Of all keys, in pieces. Keys may come and go between two of them."""
        for part in self._packed.parts:
            yield [packed.key_id for packed in part.values()]

    def emptied(self) -> Iterator[None]:
        """Forget all, piece by piece."""
        self.at_hand.clear()
        self._to_look_through.clear()
        yield from self._packed.emptied()
        while self._soon.take(math.inf, _AT_HAND_MAX):
            yield

    def _look_ahead(self, hour: int) -> None:
        """Note the ends that come until the end of an hour, for a part of the keys with each call."""
        if hour > self._noted_to_hour and not self._to_look_through:
            self._before_hour, self._noted_to_hour = self._noted_to_hour, hour
            self._to_look_through = list(self._packed.parts)
        if self._to_look_through:
            begin_s, end_s = (self._before_hour + 1) * _HOUR_S, (self._noted_to_hour + 1) * _HOUR_S
            for hashed, packed in self._to_look_through.pop().items():
                if begin_s <= (ends_s := packed.ends_at) < end_s and ends_s:
                    self._note_end(hashed, ends_s)

    def _note_end(self, hashed: bytes, end_s: float) -> None:
        self._soon.add(math.ceil(end_s * _TICKS_PER_S), hashed)


class _Calendar:
    """Hashes by numbers, which are taken lowest first."""

    def __init__(self) -> None:
        self._by_number: dict[int, list[bytes]] = {}
        self._order: list[int] = []  # a heap

    def __len__(self) -> int:
        return sum(map(len, self._by_number.values()))

    @property
    def first(self) -> float:
        return self._order[0] if self._order else math.inf

    def add(self, number: int, hashed: bytes) -> None:
        if number not in self._by_number:
            self._by_number[number] = []
            heapq.heappush(self._order, number)
        self._by_number[number].append(hashed)

    def take(self, up_to: float, at_most: int) -> list[bytes]:
        taken: list[bytes] = []
        while self._order and self._order[0] <= up_to and len(taken) < at_most:
            hashes = self._by_number[self._order[0]]
            room = at_most - len(taken)
            taken += hashes[-room:]
            del hashes[-room:]
            if not hashes:
                del self._by_number[heapq.heappop(self._order)]
        return taken
