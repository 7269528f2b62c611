"""What time it is, for pages."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Now, in UTC."""
    return datetime.fromtimestamp(time.time(), UTC)
