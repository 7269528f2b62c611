"""Live keys in memory: packed callers by lookup hash, and when they end. A million take 250 MiB, with all their terms.

However many there are, no call takes longer than a few milliseconds: one large dict would hold the loop when it grows
or is dropped, so there are many small ones.
"""

import heapq
import math
import struct
from collections.abc import Callable, Iterator, MutableMapping
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
        """Forget all, piece by piece."""
        for part in self.parts:
            part.clear()
            yield


class _Packed(msgspec.Struct, frozen=True, gc=False):
    """A caller in half its size."""

    fields: bytes
    policy: Policy | None
    scope: Scope | None


class LiveKeys:
    """`lookup hash -> Caller`."""

    def __init__(self) -> None:
        self._packed = Parts[bytes, _Packed]()
        self._at_hand: dict[bytes, Caller] = {}  # of those in use
        self.ends = Ends()

    def __len__(self) -> int:
        return len(self._packed)

    def get(self, hashed: bytes) -> Caller | None:
        """The caller of a hash."""
        caller = self._at_hand.get(hashed)
        if caller is None and (packed := self._packed.get(hashed)) is not None:
            caller = _unpack(packed)
            if len(self._at_hand) >= _AT_HAND_MAX:
                self._at_hand.clear()
            self._at_hand[hashed] = caller
        return caller

    def put(self, hashed: bytes, caller: Caller) -> None:
        """Take a key in, or change it."""
        if caller.expires_at and caller.expires_at != self._end_of(hashed):
            self.ends.add(caller.expires_at, hashed)
        self._packed[hashed] = _pack(caller)
        self._at_hand.pop(hashed, None)

    def drop(self, hashed: bytes) -> None:
        """Forget a key, if it is there."""
        self._packed.pop(hashed, None)
        self._at_hand.pop(hashed, None)

    def drop_ended(self, now: float, at_most: int) -> set[str]:
        """Forget keys whose end has come and give their ids; so many are looked at."""
        gone = set()
        for hashed in self.ends.take_due(now, at_most, self._end_of):
            packed = self._packed.get(hashed)
            if packed is not None and 0.0 < self._end_of(hashed) <= now:
                self.drop(hashed)
                gone.add(_id_of(packed))
        return gone

    def ids(self) -> Iterator[list[str]]:
        """Of all keys, in pieces. Keys may come and go between two of them."""
        for part in self._packed.parts:
            yield [_id_of(packed) for packed in part.values()]

    def emptied(self) -> Iterator[None]:
        """Forget all, piece by piece."""
        self._at_hand.clear()
        yield from self._packed.emptied()
        yield from self.ends.emptied()

    def _end_of(self, hashed: bytes) -> float:
        packed = self._packed.get(hashed)
        end: float = 0.0 if packed is None else _FIELDS.unpack(packed.fields)[2]
        return end


class Ends:
    """Which keys end when: 8 bytes each, by the hour, and once the hour has come by the quarter of a second.

    A key that is gone or ends at another time now is still in it, until then.
    """

    def __init__(self) -> None:
        self._hours, self._ticks = _Calendar(), _Calendar()
        self._hour = -1  # up to this one they have been told apart

    def __len__(self) -> int:
        return len(self._hours) + len(self._ticks)

    def add(self, end_s: float, hashed: bytes) -> None:
        """Note the end of a key, in unix seconds."""
        hour = int(end_s // _HOUR_S)
        if hour > self._hour:
            self._hours.add(hour, hashed)
        else:
            self._ticks.add(math.ceil(end_s * _TICKS_PER_S), hashed)

    def behind(self, now: float) -> bool:
        """Whether `take_due` would find something to do."""
        return self._hours.first <= now // _HOUR_S or self._ticks.first <= now * _TICKS_PER_S

    def take_due(self, now: float, at_most: int, end_of: Callable[[bytes], float]) -> list[bytes]:
        """Up to so many keys that had an end before `now`, a quarter of a second late at most."""
        self._hour = int(now // _HOUR_S)
        for hashed in self._hours.take(self._hour, at_most):
            end_s = end_of(hashed)
            if end_s and end_s // _HOUR_S <= self._hour:
                self._ticks.add(math.ceil(end_s * _TICKS_PER_S), hashed)
        return self._ticks.take(int(now * _TICKS_PER_S), at_most)

    def emptied(self) -> Iterator[None]:
        """Forget all, piece by piece."""
        for calendar in (self._hours, self._ticks):
            while calendar.take(math.inf, _AT_HAND_MAX):
                yield


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


def _id_of(packed: _Packed) -> str:
    key_id: bytes = _FIELDS.unpack(packed.fields)[-1]
    return key_id.decode()


def _unpack(packed: _Packed) -> Caller:
    account_id, not_before, expires_at, consents, key_id = _FIELDS.unpack(packed.fields)
    return Caller(account_id, key_id.decode(), not_before, expires_at, packed.policy, packed.scope, consents)
