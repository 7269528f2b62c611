"""Encryption to an X25519 public key, so that only who has the private one reads it: a new key pair for each message.

sealed = version (1) | ephemeral public key (32) | AES-256-GCM, nonce 0: its key is used once
key = HKDF-SHA256(X25519(ephemeral, recipient), info = purpose | ephemeral public | recipient public)
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from luntrex_proxy.store.errors import RefusedError

KEY_BYTES: Final = 32
_VERSION: Final = b"\x01"
_INFO: Final = b"luntrex debug capture 1"
_NONCE: Final = bytes(12)


def make_pair() -> tuple[bytes, bytes]:
    """A new private key and its public one."""
    private = X25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def seal(public: bytes, plain: bytes, context: bytes) -> bytes:
    """Encrypt for the owner of a public key; it opens with the same context only. RefusedError: it is no such key."""
    ephemeral = X25519PrivateKey.generate()
    sender = ephemeral.public_key().public_bytes_raw()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise RefusedError("This is not a public key that `debug-capture keygen` makes.", "bad_public_key") from None
    return _VERSION + sender + AESGCM(_key(shared, sender, public)).encrypt(_NONCE, plain, context)


def unseal(private: bytes, sealed: bytes, context: bytes) -> bytes:
    """Decrypt. RefusedError: it is for another key, or was changed."""
    version, sender, ciphertext = sealed[:1], sealed[1 : 1 + KEY_BYTES], sealed[1 + KEY_BYTES :]
    if version != _VERSION:
        raise RefusedError("It was not encrypted by this release, or it was changed.")
    try:
        key = X25519PrivateKey.from_private_bytes(private)
        shared = key.exchange(X25519PublicKey.from_public_bytes(sender))
        public = key.public_key().public_bytes_raw()
        return AESGCM(_key(shared, sender, public)).decrypt(_NONCE, ciphertext, context)
    except (InvalidTag, ValueError):
        raise RefusedError("It was encrypted for another key, or it was changed.") from None


def _key(shared: bytes, sender: bytes, recipient: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=_INFO + sender + recipient).derive(shared)
