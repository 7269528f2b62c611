"""security.policy: strict refuses, each with its place, what the privacy policy does not allow; standard only tells."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from luntrex_proxy.settings.loading import Loaded
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.section import show_loc
from luntrex_proxy.settings.security import AT_REST, IN_TRANSIT, shortfalls

KMS = {"key_id": "arn:aws:kms:eu-west-1:123456789012:key/1-2"}
UPSTREAM = {"name": "a", "dialect": "openai", "base_url": "https://api.example/v1", "api_key": {"sealed": "a"}}
TLS = {"cert_file": "/etc/cert.pem", "key_file": "/etc/key.pem"}
OWN = {"client_certificate_file": "/etc/hostname"}
GOOD: dict[str, Any] = {
    "sealing": {"kms": KMS},
    "upstreams": [UPSTREAM],
    "database": {"url": "postgresql://u@db.example/x?sslmode=verify-full"},
}


def found(change: dict[str, Any]) -> list[tuple[str, str]]:
    return [(show_loc(one.loc), one.sentence) for one in shortfalls(Settings.model_validate(GOOD | change))]


def test_what_is_right_is_not_refused(loaded: Callable[..., Loaded]) -> None:
    """Everything sealed and verified: strict starts."""
    assert found({}) == []
    assert loaded(yaml.safe_dump(GOOD | {"security": {"policy": "strict"}}), serving=True)


@pytest.mark.parametrize(
    ("change", "place", "sentence"),
    [
        ({"sealing": {}}, "sealing.kms.key_id", AT_REST),
        ({"sealing": {"key_file": "/k"}}, "sealing.kms.key_id", AT_REST),
        ({"upstreams": [UPSTREAM | {"api_key": "sk-x"}]}, "upstreams[0].api_key", AT_REST),
        ({"upstreams": [UPSTREAM | {"api_key": {"env": "PATH"}}]}, "upstreams[0].api_key", AT_REST),
        ({"upstreams": [UPSTREAM | {"api_key": {"file": "/etc/hostname"}}]}, "upstreams[0].api_key", AT_REST),
        ({"upstreams": [UPSTREAM | {"proxy": "http://u:p@127.0.0.1:1"}]}, "upstreams[0].proxy", AT_REST),
        ({"database": {"url": "postgresql://u:p@[::1]/x"}}, "database.url", AT_REST),
        ({"database": {"url": "postgresql:///x?host=/run/p&password=p"}}, "database.url", AT_REST),
        ({"upstreams": [UPSTREAM | {"base_url": "http://10.0.0.1/v1"}]}, "upstreams[0].base_url", IN_TRANSIT),
        ({"database": {"url": "postgresql://u@db.example/x"}}, "database.url", IN_TRANSIT),
        ({"database": {"url": "postgresql://u@db.example/x?sslmode=require"}}, "database.url", IN_TRANSIT),
        ({"database": {"url": "postgresql://u@127.0.0.1,db2/x?sslmode=verify-ca"}}, "database.url", IN_TRANSIT),
        ({"database": {"url": "postgresql:///x?host=/run/p,db.example"}}, "database.url", IN_TRANSIT),
        (
            {"gateway": {"listen": ["0.0.0.0:1"], "tls": "terminated_by_proxy"}}, "gateway.listen[0]", IN_TRANSIT,
        ),
        ({"gateway": {"tls": TLS}}, "gateway.tls.key_file", AT_REST),
        ({"control": {"tls": TLS}}, "control.tls.key_file", AT_REST),
        (
            {"upstreams": [UPSTREAM | OWN | {"client_key_file": "/etc/hostname"}]},
            "upstreams[0].client_key_file", AT_REST,
        ),
        ({"upstreams": [UPSTREAM | OWN]}, "upstreams[0].client_certificate_file", AT_REST),
        ({"database": {"url": "postgresql://u@localhost/x?sslkey=/etc/key.pem"}}, "database.url", AT_REST),
        ({"gateway": {"public_url": "http://api.example"}}, "gateway.public_url", IN_TRANSIT),
        ({"console": {"public_url": "http://api.example"}}, "console.public_url", IN_TRANSIT),
    ],
)  # fmt: skip
def test_each_shortfall(change: dict[str, Any], place: str, sentence: str) -> None:
    """One place and the sentence of the policy that does not hold."""
    assert found(change) == [(place, sentence)]


@pytest.mark.parametrize(
    "change",
    [
        {"upstreams": [UPSTREAM | {"base_url": "http://localhost:1/v1", "api_key": None}]},
        {"upstreams": [UPSTREAM | {"proxy": "http://proxy.example:3128"}]},
        {"database": {"url": None}},
        {"database": {"url": "postgresql://u@localhost:1,[::1]:2/x"}},
        {"database": {"url": "postgresql:///x?host=/run/p"}},
        {"database": {"url": "postgresql://%2Frun%2Fp/x"}},
        {"gateway": {"listen": ["unix:/x"], "tls": "terminated_by_proxy"}},
        {"gateway": {"public_url": "http://127.0.0.1:1"}},
        {"gateway": {"tls": TLS | {"key_file": "/run/credentials/luntrex-proxy.service/key"}}},
        {"database": {"url": "postgresql://u@localhost/x?sslkey=/run/credentials/x/key"}},
    ],
)
def test_what_stays_here_is_no_shortfall(change: dict[str, Any]) -> None:
    """Loopback and Unix sockets do not leave the machine, and what lies in /run is in its memory only."""
    assert found(change) == []


def test_mail_and_a_credential(loaded: Callable[..., Loaded], tmp_path: Any) -> None:
    """A password that cannot be sealed may be systemd's to keep, nothing else's."""
    (tmp_path / "word").write_text("p")
    mail = {"host": "smtp.example", "sender": "a@b.example", "user": "u", "password": {"credential": "word"}}
    whole = GOOD | {"mail": mail, "console": {"public_url": "https://a.example"}, "security": {"policy": "strict"}}
    assert loaded(yaml.safe_dump(whole), {"CREDENTIALS_DIRECTORY": str(tmp_path)}, serving=True)
    assert found(whole | {"mail": mail | {"password": "p"}}) == [("mail.password", AT_REST)]


TEXT = """security: {policy: strict}
upstreams:
  - name: a
    dialect: openai
    base_url: http://10.0.0.1/v1
    api_key: canary-4c91
"""
REFUSED = [
    "F:1:1: sealing.kms.key_id: must name a key of AWS KMS: without one the wrapping key is on this machine "
    "(security.policy: strict)",
    "F:5:15: upstreams[0].base_url: must start with https://: prompts and the key cross the network "
    "(security.policy: strict)",
    "F:6:14: upstreams[0].api_key: must be sealed: write {sealed: NAME} and run `luntrex-proxy secrets set NAME` "
    "(security.policy: strict)",
]


def test_strict_refuses_with_file_line_and_column(
    complaints: Callable[..., list[str]], loaded: Callable[..., Loaded]
) -> None:
    """All at once, before anything starts; other verbs work, and so does standard."""
    assert complaints(TEXT, serving=True) == REFUSED
    assert loaded(TEXT)
    assert loaded(TEXT.replace("strict", "standard"), serving=True)
    literal = "LUNTREX_DATABASE__URL: holds a password: write it as {credential: NAME}"
    assert complaints(TEXT, {"LUNTREX_DATABASE__URL": "postgresql:///x?password=p"}, serving=True)[0].startswith(
        literal
    )
