"""The form of a key: what is made is recognised, and nothing that differs from it is."""

import base64
import hashlib
import re
import string
import zlib

import bcrypt
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core import apikeys

RANDOM = st.binary(min_size=apikeys.RANDOM_BYTES, max_size=apikeys.RANDOM_BYTES)
BASE62 = (string.digits + string.ascii_letters).encode()


@given(RANDOM)
def test_made_keys_have_the_published_form(random: bytes) -> None:
    """Each key has 65 characters, fits the published pattern and gives its id back."""
    key_id, key = apikeys.make_key(random)
    assert len(key) == apikeys.KEY_LENGTH
    assert re.fullmatch(apikeys.KEY_PATTERN, key.decode())
    assert apikeys.parse(key) == key_id
    assert key[3:15] == key_id.encode()


@given(RANDOM, st.integers(0, apikeys.KEY_LENGTH - 1), st.sampled_from(sorted(BASE62)))
def test_one_wrong_character_is_refused(random: bytes, place: int, letter: int) -> None:
    """A typing error in any single place is noticed without looking the key up."""
    _, key = apikeys.make_key(random)
    wrong = key[:place] + bytes([letter]) + key[place + 1 :]
    assert (apikeys.parse(wrong) is None) == (wrong != key)


@given(RANDOM, st.integers(0, apikeys.KEY_LENGTH - 2))
def test_two_swapped_characters_are_refused(random: bytes, place: int) -> None:
    """Swapping neighbours is noticed as well."""
    _, key = apikeys.make_key(random)
    wrong = key[:place] + key[place + 1 : place + 2] + key[place : place + 1] + key[place + 2 :]
    assert (apikeys.parse(wrong) is None) == (wrong != key)


@given(RANDOM, st.integers(0, apikeys.KEY_LENGTH), st.binary(min_size=1, max_size=3))
def test_cut_or_lengthened_keys_are_refused(random: bytes, place: int, extra: bytes) -> None:
    """A part of a key, or a key with something in it, is none."""
    _, key = apikeys.make_key(random)
    assert apikeys.parse(key[:place] + extra + key[place:]) is None
    if place < len(key):
        assert apikeys.parse(key[:place]) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(anything: bytes) -> None:
    """Whatever a client sends is refused quietly: no exception, no false key."""
    assert apikeys.parse(anything) is None


def test_known_key() -> None:
    """The form never changes: keys in the field must stay valid. The digits were worked out by hand from the rules."""
    key_id, key = apikeys.make_key(bytes(47) + b"\x3d")
    assert key_id == "00000000000z"
    assert key[:59] == b"lx_00000000000z_" + b"0" * 43
    number = zlib.crc32(key[:59])
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[digit] + digits
    assert key[59:].decode() == digits


def test_secret_holds_all_256_bits() -> None:
    """Two secrets are equal only when all 32 random bytes are: nothing is folded away."""
    secrets = {apikeys.make_key((1 << bit).to_bytes(32, "big") + bytes(16))[1][16:59] for bit in range(256)}
    assert len(secrets) == 256
    assert len(apikeys.make_key(b"\xff" * 48)[1]) == apikeys.KEY_LENGTH


def test_hashes() -> None:
    """The lookup hash needs the lookup key; bcrypt gets 44 harmless bytes whatever the key is."""
    _, key = apikeys.make_key(bytes(range(48)))
    first, second = apikeys.lookup_hash(key, b"a" * 32), apikeys.lookup_hash(key, b"b" * 32)
    assert len(first) == 32
    assert first != second
    assert first == hashlib.blake2b(key, key=b"a" * 32, digest_size=32).digest()
    assert apikeys.bcrypt_input(key) == base64.b64encode(hashlib.sha256(key).digest())
    assert bcrypt.checkpw(apikeys.bcrypt_input(key), bcrypt.hashpw(apikeys.bcrypt_input(key), bcrypt.gensalt(4)))
