"""Live keys in memory: packed callers by lookup hash. A million take 250 MiB, with all their terms.

However many there are, no call takes longer than a few milliseconds: one large dict would hold the loop when it grows
or is dropped, so there are many small ones.
"""

import heapq
import math
import struct
from collections.abc import Iterator, MutableMapping
from typing import Any, Final, TypeVar

import msgspec

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.policy import Policy
from luntrex_proxy.core.scope import Scope

_PARTS: Final = 256
_AT_HAND_MAX: Final = 10_000
_HOUR_S: Final = 3600
_TICKS_PER_S: Final = 4
_FIELDS: Final = struct.Struct("<qddI12s")  # account id, not before, expires at, consents, key id
_END: Final = struct.Struct("<d")

K = TypeVar("K")
V = TypeVar("V")


class Parts(MutableMapping[K, V]):
    """A dict in many parts, none of them large."""

    def __init__(self) -> None:
        self.parts: list[dict[K, V]] = [{} for _ in range(_PARTS)]

    def __getitem__(self, key: K) -> V:
        return self.parts[hash(key) % _PARTS][key]

    def __setitem__(self, key: K, value: V) -> None:
        self.parts[hash(key) % _PARTS][key] = value

    def __delitem__(self, key: K) -> None:
        del self.parts[hash(key) % _PARTS][key]

    def __iter__(self) -> Iterator[K]:
        for part in self.parts:
            yield from part

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __bool__(self) -> bool:
        return any(self.parts)

    def get(self, key: K, default: Any = None) -> Any:
        """As of a dict; the one inherited would raise and catch for each key that is not there."""
        return self.parts[hash(key) % _PARTS].get(key, default)

    def emptied(self) -> Iterator[None]:
        """Forget all, piece by piece; the last pieces are small: with them go hundreds of MiB back to the system."""
        left = len(self)
        for part in self.parts:
            while part:
                for _ in range(step := min(len(part), max(10, min(left // 100, 250)))):
                    part.popitem()
                left -= step
                yield


class _Packed(msgspec.Struct, frozen=True, gc=False):
    """A caller in half its size."""

    fields: bytes
    policy: Policy | None
    scope: Scope | None


class LiveKeys:
    """`lookup hash -> Caller`. Ends of this hour and the next are noted by their moment, and looked for each hour."""

    def __init__(self, now: float) -> None:
        self._packed = Parts[bytes, _Packed]()
        self.at_hand: dict[bytes, Caller] = {}  # of those in use
        self._soon = _Calendar()
        self._noted_to_hour = self._before_hour = int(now // _HOUR_S) + 1  # the last of those in `_soon`; and before
        self._to_look_through: list[dict[bytes, _Packed]] = []  # for the ends in between

    def __len__(self) -> int:
        return len(self._packed)

    def get(self, hashed: bytes) -> Caller | None:
        """The caller of a hash."""
        caller = self.at_hand.get(hashed)
        if caller is None and (packed := self._packed.get(hashed)) is not None:
            caller = _unpack(packed)
            if len(self.at_hand) >= _AT_HAND_MAX:
                self.at_hand.clear()
            self.at_hand[hashed] = caller
        return caller

    def put(self, hashed: bytes, caller: Caller) -> None:
        """Take a key in, or change it."""
        if 0.0 < caller.expires_at < (self._noted_to_hour + 1) * _HOUR_S:
            self._note_end(hashed, caller.expires_at)
        self._packed[hashed] = _pack(caller)
        self.at_hand.pop(hashed, None)

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
            if packed is not None and 0.0 < _end_of(packed) <= now:
                self.drop(hashed)
                gone.add(_id_of(packed))
        return gone

    def is_behind(self, now: float) -> bool:
        """Whether `drop_ended` would find something to do."""
        return bool(
            self._to_look_through or self._noted_to_hour <= now // _HOUR_S or self._soon.first <= now * _TICKS_PER_S
        )

    def ids(self) -> Iterator[list[str]]:
        """Of all keys, in pieces. Keys may come and go between two of them."""
        for part in self._packed.parts:
            yield [_id_of(packed) for packed in part.values()]

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
                if begin_s <= (ends_s := _end_of(packed)) < end_s and ends_s:
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


def _pack(caller: Caller) -> _Packed:
    fields = _FIELDS.pack(
        caller.account_id, caller.not_before, caller.expires_at, caller.consents, caller.key_id.encode()
    )
    return _Packed(fields, caller.policy, caller.scope)


def _end_of(packed: _Packed) -> float:
    end_s: float = _END.unpack_from(packed.fields, 16)[0]
    return end_s


def _id_of(packed: _Packed) -> str:
    key_id: bytes = _FIELDS.unpack(packed.fields)[-1]
    return key_id.decode()


def _unpack(packed: _Packed) -> Caller:
    account_id, not_before, expires_at, consents, key_id = _FIELDS.unpack(packed.fields)
    return Caller(account_id, key_id.decode(), not_before, expires_at, packed.policy, packed.scope, consents)
