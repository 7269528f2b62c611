"""What is kept about people, why, and for how long."""

from luntrex_proxy.store.inventory import Item, inventory
from luntrex_proxy.store.retention import Kept, kept

__all__ = ["Item", "Kept", "inventory", "kept"]
