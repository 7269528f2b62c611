"""What is kept about people, why, and for how long."""

from collections.abc import Mapping
from dataclasses import dataclass

from luntrex_proxy.core.retention import BY_DATE, CLASSES, INVOICE_YEARS, UNTIMED
from luntrex_proxy.store.aging import oldest
from luntrex_proxy.store.inventory import Item, inventory
from luntrex_proxy.store.keeping import succeeded_at
from luntrex_proxy.store.retention import Kept, kept

__all__ = ["INVOICE_YEARS", "Item", "Kept", "Period", "inventory", "kept", "oldest", "periods", "succeeded_at"]


@dataclass(frozen=True, slots=True)
class Period:
    """How long a class of the inventory is kept, and why. `days` None: by no number of days."""

    name: str
    days: int | None
    reason: str


def periods(days: Mapping[str, int]) -> list[Period]:
    """All classes that there are, with the days that the configuration sets."""
    timed = [Period(each.name, days[each.name], each.reason) for each in CLASSES]
    return timed + [Period(name, None, reason) for name, reason in {**UNTIMED, **BY_DATE}.items()]
