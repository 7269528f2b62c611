"""What each of many accounts says of its keys, in four bytes: a number, the same for all that say the same."""

from array import array
from typing import Final

import msgspec

from luntrex_proxy.core.policy import Policy
from luntrex_proxy.store.parts import Parts

# Ids are given in turn, so that nearly all of a block is used.
_BLOCK: Final = 256
_EMPTY: Final = bytes(4 * _BLOCK)


class Said(msgspec.Struct, frozen=True, gc=False):
    """What one account says."""

    is_active: bool = True
    policy: Policy | None = None  # None: the configuration's default
    consents: int = 0  # as bits (core/consents.py)


ORDINARY: Final = Said()


class SaidByAccounts:
    """Account id -> what it says; of which nothing was put, it is ordinary."""

    def __init__(self) -> None:
        self._blocks = Parts[int, "array[int]"]()
        self._said = [ORDINARY]  # by number; one that is in use nowhere is given away again
        self._numbers = {ORDINARY: 0}
        self._uses = [1]  # of each number; that of the ordinary has always one
        self._free: list[int] = []

    def get(self, account_id: int) -> Said:
        """What it says."""
        block = self._blocks.get(account_id // _BLOCK)
        return ORDINARY if block is None else self._said[block[account_id % _BLOCK]]

    def put(self, account_id: int, said: Said) -> bool:
        """Whether it is something else than before."""
        if said == self.get(account_id):
            return False
        block = self._blocks.setdefault(account_id // _BLOCK, array("I", _EMPTY))
        self._let_go(block[account_id % _BLOCK])
        block[account_id % _BLOCK] = number = self._number(said)
        self._uses[number] += 1
        return True

    def _number(self, said: Said) -> int:
        number = self._numbers.get(said)
        if number is None:
            if not self._free:
                self._free.append(len(self._said))
                self._said.append(said)
                self._uses.append(0)
            number = self._numbers[said] = self._free.pop()
            self._said[number] = said
        return number

    def _let_go(self, number: int) -> None:
        if number:
            self._uses[number] -= 1
            if not self._uses[number]:
                del self._numbers[self._said[number]]
                self._free.append(number)
