"""Who is calling and what they may: `Caller` comes from the key ring, `Permit` only from `gateway/authorise.py`."""

import msgspec

from luntrex_proxy.core.policy import Policy
from luntrex_proxy.core.scope import Scope


class KeysBusyError(Exception):
    """The key can be checked, but not now: others are being checked, or the key store is away."""


class Caller(msgspec.Struct, frozen=True, gc=False):
    """A live key as the way of a request sees it. Times are unix seconds; 0.0 means no bound."""

    account_id: int
    key_id: str
    not_before: float = 0.0
    expires_at: float = 0.0
    policy: Policy | None = None  # the account's; None: the configuration's default
    scope: Scope | None = None  # what the key is limited to; None: nothing
    consents: int = 0  # of the account's owner, those that routing asks for (core/consents.py)
    person: bytes = b""  # the member whose own key it is, the id's 16 bytes; b"": the account's

    def valid_at(self, now: float) -> bool:
        """Whether the key may be used at `now` (unix seconds)."""
        return now >= self.not_before and (self.expires_at == 0.0 or now < self.expires_at)
