"""The list of all operations, one resource per line."""

from typing import Final

from luntrex_proxy.console.api import (
    accounts,
    consents,
    keys,
    me,
    tokens,
)

OPERATIONS: Final = (
    *accounts.OPERATIONS,
    *consents.OPERATIONS,
    *keys.OPERATIONS,
    *me.OPERATIONS,
    *tokens.OPERATIONS,
)
