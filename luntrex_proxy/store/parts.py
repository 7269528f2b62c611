"""A dict of many small ones: one large dict would hold the loop when it grows or is dropped."""

from collections.abc import Iterator, MutableMapping
from typing import Any, Final, TypeVar

_PARTS: Final = 256

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

    def pop(self, key: K, default: Any = None) -> Any:
        """As of a dict, with a default always; see `get`."""
        return self.parts[hash(key) % _PARTS].pop(key, default)

    def emptied(self) -> Iterator[None]:
        """Forget all, piece by piece; the last pieces are small: with them go hundreds of MiB back to the system."""
        left = len(self)
        for part in self.parts:
            while part:
                for _ in range(step := min(len(part), max(10, min(left // 100, 250)))):
                    part.popitem()
                left -= step
                yield
