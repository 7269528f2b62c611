"""What roles may, in the issue's words, and the form of personal access tokens."""

import pytest

from luntrex_proxy.core import apikeys, tokens
from luntrex_proxy.core.roles import OPERATOR, PERMISSIONS, Permission, Role, may

P = Permission


def test_roles_in_the_words_of_the_issue() -> None:
    """Owner everything; privacy no keys, prices, limits; consents and erasure for the owner alone; none for nobody."""
    assert PERMISSIONS[Role.OWNER] == set(Permission)
    for permission in (P.ACCOUNT_ERASE, P.CONSENTS_WRITE, P.USAGE_MEMBERS):
        assert {role for role in Role if may(role, permission)} == {Role.OWNER}
        assert permission not in OPERATOR
    privacy = PERMISSIONS[Role.PRIVACY]
    assert not {P.KEYS_READ, P.KEYS_OWN, P.KEYS_WRITE, P.BILLING_READ, P.BILLING_WRITE, P.ACCOUNT_WRITE} & privacy
    assert {P.PRIVACY_READ, P.PRIVACY_WRITE, P.AUDIT_READ} <= privacy
    assert {role for role in Role if may(role, P.KEYS_READ)} == {Role.OWNER, Role.ADMIN, Role.VIEWER}
    assert {role for role in Role if may(role, P.KEYS_OWN)} == {Role.OWNER, Role.ADMIN, Role.DEVELOPER}
    assert not any(may(None, permission) for permission in Permission)


def test_tokens_have_a_form_of_their_own() -> None:
    """A scanner tells a token from a key, and the checksum from typing errors; the id is in the open."""
    token_id, token = tokens.make_token(bytes(range(apikeys.RANDOM_BYTES)))
    assert tokens.is_token(token)
    assert token.decode().split("_")[1] == token_id
    assert apikeys.parse(token) is None
    _, key = apikeys.make_key(bytes(range(apikeys.RANDOM_BYTES)))
    assert not tokens.is_token(key)
    for place in range(len(token)):
        other = b"x" if token[place : place + 1] != b"x" else b"y"
        assert not tokens.is_token(token[:place] + other + token[place + 1 :])
    assert not tokens.is_token(token + b"\n")
    with pytest.raises(ValueError, match="48 random bytes"):
        tokens.make_token(b"short")
