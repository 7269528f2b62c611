"""The list of all operations, one resource per line."""

from typing import Final

from luntrex_proxy.console.api import (
    accounts,
    attempts,
    audit,
    consents,
    debugcapture,
    keys,
    me,
    members,
    people,
    privacy,
    rights,
    subprocessors,
    tokens,
    upstreams,
    usage,
)

OPERATIONS: Final = (
    *accounts.OPERATIONS,
    *attempts.OPERATIONS,
    *audit.OPERATIONS,
    *consents.OPERATIONS,
    *debugcapture.OPERATIONS,
    *keys.OPERATIONS,
    *me.OPERATIONS,
    *members.OPERATIONS,
    *people.OPERATIONS,
    *privacy.OPERATIONS,
    *rights.OPERATIONS,
    *subprocessors.OPERATIONS,
    *tokens.OPERATIONS,
    *upstreams.OPERATIONS,
    *usage.OPERATIONS,
)
