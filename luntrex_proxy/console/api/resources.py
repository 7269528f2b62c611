"""The list of all operations, one resource per line."""

from typing import Final

from luntrex_proxy.console.api import (
    accounts,
    attempts,
    audit,
    billing,
    childreports,
    consents,
    debugcapture,
    incidents,
    keys,
    me,
    members,
    notices,
    people,
    privacy,
    registry,
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
    *billing.OPERATIONS,
    *childreports.OPERATIONS,
    *consents.OPERATIONS,
    *debugcapture.OPERATIONS,
    *incidents.OPERATIONS,
    *keys.OPERATIONS,
    *me.OPERATIONS,
    *members.OPERATIONS,
    *notices.OPERATIONS,
    *people.OPERATIONS,
    *privacy.OPERATIONS,
    *registry.OPERATIONS,
    *rights.OPERATIONS,
    *subprocessors.OPERATIONS,
    *tokens.OPERATIONS,
    *upstreams.OPERATIONS,
    *usage.OPERATIONS,
)
