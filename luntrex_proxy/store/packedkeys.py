"""Keys of `keyselect` packed: what is a key's own, in little memory. What many have alike is one object.

What a key's account and its member say of it is one entry for all their keys: standings.py.
"""

import struct
from ipaddress import ip_network
from typing import Any, Final

import msgspec

from luntrex_proxy.core.scope import Scope

# Account id, not before, expires at, key id; the id of the member whose own it is follows, if it is one's.
FIELDS: Final = struct.Struct("<qdd12s")
_END: Final = struct.Struct("<d")
_END_AT: Final = 16
_KEY_ID: Final = slice(24, 36)
_SHARED_MAX: Final = 10_000  # scopes; beyond it equal ones are no longer one object


class PackedKey(msgspec.Struct, frozen=True, gc=False):
    """A key that is neither revoked nor suspended."""

    fields: bytes
    scope: Scope | None

    @property
    def key_id(self) -> str:
        """Its id."""
        return self.fields[_KEY_ID].decode()

    @property
    def ends_at(self) -> float:
        """When it ends, in unix seconds; 0.0: never."""
        end_s: float = _END.unpack_from(self.fields, _END_AT)[0]
        return end_s


class Packer:
    """Makes packed keys of rows."""

    def __init__(self) -> None:
        self._scopes: dict[object, Scope] = {}

    def of(self, row: Any) -> PackedKey:
        """The key of a row of `api_key`."""
        limits = [row["endpoints"], row["models"], row["regions"], row["networks"]]
        fields = FIELDS.pack(row["account_id"], row["not_before"], row["expires_at"], row["key_id"].encode())
        return PackedKey(fields + (row["person"] or b""), self._scope(limits) if any(limits) else None)

    def _scope(self, limits: list[Any]) -> Scope:
        name = tuple(None if words is None else tuple(words) for words in limits)
        scope = self._scopes.get(name)
        if scope is None:
            if len(self._scopes) >= _SHARED_MAX:
                self._scopes.clear()
            endpoints, models, regions, networks = name
            scope = self._scopes[name] = Scope(
                None if endpoints is None else frozenset(endpoints),
                models,
                None if regions is None else frozenset(regions),
                # As text in the row: the driver would make objects of those of every key.
                None if networks is None else tuple(map(ip_network, networks)),
            )
        return scope
