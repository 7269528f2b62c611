"""Ids by which a client names its own end users, and what an upstream gets to see of them.

    pass            as the client sent them
    pseudonymise    a keyed hash: the same person is the same text, at one upstream and for one account only, so that
                    a provider can still tell one abuser from all others, and nobody learns who it is
    drop            nothing

The places are `user`, `safety_identifier`, `prompt_cache_key` (often a user's or session's id) and `metadata.user_id`.
"""

import base64
import contextlib
import enum
import hashlib
from typing import Final

import msgspec

from luntrex_proxy.core.wire.members import UNREADABLE, Members, read_members

KEY_BYTES: Final = 32
_DIGEST_BYTES: Final = 24  # 32 characters: providers allow 64
_PURPOSE: Final = b"luntrex end user"  # sets these hashes apart from any others made with the same key
_NOTHING: Final = (b"null", b'""')
_TEXT = msgspec.json.Decoder(str)
END_USER_FIELDS: Final = frozenset({"user", "safety_identifier", "prompt_cache_key", "metadata"})


def derive_key(installation_key: bytes) -> bytes:
    """The key of the pseudonyms, from a secret that the installation keeps anyway."""
    return hashlib.blake2b(key=installation_key, digest_size=KEY_BYTES, person=b"end-user ids").digest()


class EndUsers(enum.StrEnum):
    """What becomes of end-user ids on their way to an upstream."""

    PASS = "pass"  # noqa: S105 -- the word of the configuration, no password
    PSEUDONYMISE = "pseudonymise"
    DROP = "drop"


class EndUserIds(msgspec.Struct, frozen=True):
    """The way of one upstream with them. `key` None: they are dropped."""

    upstream: str
    key: bytes | None = None

    def __repr__(self) -> str:
        return "EndUserIds()"  # the key makes pseudonyms guessable

    def replace(self, members: Members, account_id: int, values: dict[str, bytes]) -> None:
        """Put the new value of each id that `members` has into `values`; b"" stands for none at all."""
        # Four lookups written out: most requests have none of these, and this is all they pay.
        if "user" in members:
            values["user"] = self._replaced(members["user"], account_id)
        if "safety_identifier" in members:
            values["safety_identifier"] = self._replaced(members["safety_identifier"], account_id)
        if "prompt_cache_key" in members:
            values["prompt_cache_key"] = self._replaced(members["prompt_cache_key"], account_id)
        if "metadata" in members:
            metadata = read_members(members["metadata"])
            if metadata is not None and "user_id" in metadata:
                # Written anew, not spliced: this also ends a repeated or escaped key that would hide a second id.
                replaced = self._replaced(metadata["user_id"], account_id)
                rest = {name: bytes(raw) for name, raw in metadata.items() if name != "user_id"}
                kept = {**rest, "user_id": replaced} if replaced else rest
                values["metadata"] = b"{%b}" % b",".join(msgspec.json.encode(n) + b":" + v for n, v in kept.items())

    def _replaced(self, raw: msgspec.Raw, account_id: int) -> bytes:
        if self.key is None:
            return b""
        said = bytes(raw)
        if said in _NOTHING:
            return said
        with contextlib.suppress(*UNREADABLE):  # what is no text is hashed as it stands
            said = _TEXT.decode(raw).encode()  # however it is escaped, one id has one pseudonym
        where = b"%b\0%d\0" % (self.upstream.encode(), account_id)
        digest = hashlib.blake2b(where + said, key=self.key, digest_size=_DIGEST_BYTES, person=_PURPOSE).digest()
        return b'"%b"' % base64.urlsafe_b64encode(digest)
