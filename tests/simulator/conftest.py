"""SDK clients are closed at the end."""

from tests.whole.closing import close_clients

__all__ = ["close_clients"]
