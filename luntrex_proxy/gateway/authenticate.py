"""Station 2, authenticate: the head's key becomes a `Caller`. Needs no body: a wrong key never gets its body read."""

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.gateway.ports import KeyRing

# How providers' own keys begin; people paste them by mistake and deserve a better answer than "not valid".
_PROVIDER_PREFIXES = (b"sk-", b"sk_", b"gsk_", b"xai-", b"AIza", b"r8_", b"hf_")


def authenticate(headers: dict[bytes, bytes], keys: KeyRing, now: float) -> Caller:
    """The caller whose live key the headers carry at `now` (unix seconds). Raises Refusal."""
    key = _key_of(headers)
    caller = keys.find(key)
    if caller is not None and caller.valid_at(now):
        return caller
    if key.startswith(_PROVIDER_PREFIXES):
        raise Refusal("provider_api_key")
    if caller is None and key.startswith(b"lx_") and not keys.is_current():
        raise Refusal("keys_unavailable")  # it may be a key that was made a moment ago: never 401 on a guess
    raise Refusal("invalid_api_key")


def _key_of(headers: dict[bytes, bytes]) -> bytes:
    authorization = headers.get(b"authorization")
    given = headers.get(b"x-api-key")
    if given is None and authorization is not None and authorization.startswith(b"Bearer lx_"):  # as SDKs send it
        return authorization[7:].strip()
    if authorization is None:
        if not given:
            raise Refusal("missing_api_key")
        return given.strip()
    scheme, _, bearer = authorization.partition(b" ")
    bearer = bearer.strip()
    if scheme.lower() != b"bearer" or not bearer:
        raise Refusal("invalid_api_key" if authorization else "missing_api_key")
    if given is not None and given.strip() != bearer:
        raise Refusal("conflicting_api_keys")
    return bearer
