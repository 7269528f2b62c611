"""Station 2, authenticate: the head's key becomes a `Caller`. Needs no body: a wrong key never gets its body read.

known_caller    nearly every request: one look into memory
Door.examine    the rest: a key that must be proven first, or a refusal that is counted by the client's network
"""

import asyncio
import math

from luntrex_proxy.core.access import Caller, KeysBusyError
from luntrex_proxy.core.apikeys import claimed_id, parse
from luntrex_proxy.core.attempts import Attempts, network_of
from luntrex_proxy.core.call import Route
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.scope import Scope
from luntrex_proxy.gateway.accept import Call
from luntrex_proxy.gateway.ports import KeyRefused, KeyRing, Prove

# How providers' own keys begin; people paste them by mistake and deserve a better answer than "not valid".
_PROVIDER_PREFIXES = (b"sk-", b"sk_", b"gsk_", b"xai-", b"AIza", b"r8_", b"hf_")


def known_caller(call: Call, keys: KeyRing, now: float) -> Caller | None:
    """The caller whose live key the head of the call carries at `now` (unix seconds), if it is in memory."""
    caller = keys.at(call.key_hash) if call.key_hash else None
    if caller is None:
        key, _ = _read_key(call.headers.get(b"authorization"), call.headers.get(b"x-api-key"))
        caller = keys.find(key)
        if caller is None:
            return None
        call.key_hash = keys.hash_of(key)
    if not (caller.not_before or caller.expires_at) or caller.valid_at(now):  # most keys have no bounds
        return caller
    return None


class Door:
    """Decides on keys that are not in memory, slows networks that try many, and tells of each refusal."""

    def __init__(self, keys: KeyRing, prove: Prove, attempts: Attempts, on_refused: KeyRefused) -> None:
        self.attempts = attempts
        self._keys = keys
        self._prove = prove
        self._on_refused = on_refused

    async def examine(self, headers: dict[bytes, bytes], now: float, address: str) -> Caller:
        """The caller of a key that had to be proven. `address` is the client's, "" if unknown. Raises Refusal."""
        network = network_of(address)
        key, refusal = _read_key(headers.get(b"authorization"), headers.get(b"x-api-key"))
        wait_s = self.attempts.wait_s(network, now)
        if wait_s:
            self._on_refused(network, "too_many_failures", claimed_id(key))
            raise Refusal("too_many_failures", retry_after_s=math.ceil(wait_s))
        self.attempts.note(network, now)  # before the look, which can take a second: many at once count as well
        if refusal is None:
            try:
                caller = await self._look_closer(key, network)
            except Refusal as busy:
                self.attempts.forgive(network)
                self._on_refused(network, busy.row.code, claimed_id(key))
                raise
            if caller is not None and caller.valid_at(now):
                self.attempts.forgive(network)
                return caller
            is_theirs = key.startswith(_PROVIDER_PREFIXES)
            refusal = Refusal("provider_api_key") if is_theirs else Refusal("invalid_api_key")
        self._on_refused(network, refusal.row.code, claimed_id(key))
        raise refusal

    async def _look_closer(self, key: bytes, network: str) -> Caller | None:
        if not key.startswith(b"lx_"):
            return None
        caller = self._keys.find(key)
        if caller is None and parse(key) is not None:
            try:
                # It waits for more than running.py can.
                if await asyncio.ensure_future(self._prove(key, network)) is not None:
                    caller = self._keys.find(key)  # it may have been revoked a moment ago
            except KeysBusyError:
                raise Refusal("keys_unavailable") from None
        if caller is None and not self._keys.is_current():
            raise Refusal("keys_unavailable")  # it may be a key that was made a moment ago: never 401 on a guess
        return caller

    def check_scope(self, caller: Caller, scope: Scope, route: Route, address: str) -> None:
        """What can be said of a limited key by the head alone. Raises Refusal."""
        try:
            scope.check(route.name, address)
        except Refusal as refusal:
            if refusal.row.code == "address_not_allowed":
                self._on_refused(network_of(address), refusal.row.code, caller.key_id)
            raise


def _read_key(authorization: bytes | None, given: bytes | None) -> tuple[bytes, Refusal | None]:
    """The one key of the headers, or why there is none. `given` is x-api-key's."""
    if authorization is None:
        return (given.strip(), None) if given else (b"", Refusal("missing_api_key"))
    scheme, _, bearer = authorization.partition(b" ")
    bearer = bearer.strip()
    if scheme.lower() != b"bearer" or not bearer:
        return b"", Refusal("invalid_api_key") if authorization else Refusal("missing_api_key")
    if given is not None and given.strip() != bearer:
        return b"", Refusal("conflicting_api_keys")
    return bearer, None
