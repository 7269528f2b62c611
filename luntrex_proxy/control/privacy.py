"""What is kept about people, why, and for how long."""

from luntrex_proxy.core.retention import CLASSES, INVOICE_YEARS, Class
from luntrex_proxy.store.aging import oldest
from luntrex_proxy.store.inventory import Item, inventory
from luntrex_proxy.store.keeping import succeeded_at
from luntrex_proxy.store.retention import Kept, kept

__all__ = ["CLASSES", "INVOICE_YEARS", "Class", "Item", "Kept", "inventory", "kept", "oldest", "succeeded_at"]
