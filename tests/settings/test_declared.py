"""Files of `apply`: everything wrong is said at once, with file, line and column, and no value is quoted."""

import pytest

from luntrex_proxy.settings.declared import read_declared
from luntrex_proxy.settings.errors import ConfigError

BEGIN = "accounts:\n  - name: acme\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["F:1:1: accounts: is missing"]),
        ("acounts: []", ["F:1:1: accounts: is missing", "F:1:1: acounts: unknown key (did you mean 'accounts'?)"]),
        ("accounts: 5", ["F:1:11: accounts: must be a list"]),
        ("accounts:\n  - {}", ["F:2:5: accounts[0].name: is missing"]),
        (BEGIN + "    keyz: []", ["F:3:5: accounts[0].keyz: unknown key (did you mean 'keys'?)"]),
        (
            BEGIN + "    keys:\n      - {name: a, modles: [x]}",
            ["F:4:19: accounts[0].keys[0].modles: unknown key (did you mean 'models'?)"],
        ),
        (
            BEGIN + "    members: [{email: ada, role: owner}]",
            ["F:3:23: accounts[0].members[0].email: give a mail address such as ada@example.org, in ASCII"],
        ),
        (
            BEGIN + "    policy: anything goes",
            [
                "F:3:13: accounts[0].policy: must read like 'region=eu,ch; retention=abuse_monitoring:30; "
                "training=never'"
            ],
        ),
        (
            BEGIN + "    keys: [{name: a, networks: [192.0.2.1/24]}, {name: a}]",
            [
                "F:3:33: accounts[0].keys[0].networks[0]: must be a network such as 192.0.2.0/24 or 2001:db8::/32, "
                "without bits behind its length"
            ],
        ),
        (
            BEGIN + "    keys: [{name: a}, {name: b}, {name: a}]\n  - name: acme",
            [
                "F:3:41: accounts[0].keys[2].name: is here twice; say everything in one place",
                "F:4:11: accounts[1].name: is here twice; say everything in one place",
            ],
        ),
        (
            BEGIN + "    status: supended",
            ["F:3:13: accounts[0].status: must be 'active' or 'suspended' (did you mean 'suspended'?)"],
        ),
        (BEGIN + "    keys: [{name: a, expires_at: 2030-01-01}]", None),
        (BEGIN + "\tkeys: []", None),
        ("\0", None),
        ("accounts: &a [*a]", None),
        ("a: &a [x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\naccounts: [*b,*b]", None),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, expected: list[str] | None) -> None:
    """None: whatever it says, it says it with a place."""
    with pytest.raises(ConfigError) as caught:
        read_declared("F", text.encode())
    if expected is None:
        assert all(line.startswith("F:") for line in caught.value.lines)
    else:
        assert list(caught.value.lines) == expected


def test_a_key_in_the_wrong_place_is_not_said_again() -> None:
    """Whole keys, passwords: somebody pastes them where a name belongs."""
    secret = "lx_0123456789ab_" + "s" * 49
    for text in (f"accounts: [{{name: {secret}}}]", f"{secret}: 1", f"accounts: [{{name: a, {secret}: 1}}]"):
        with pytest.raises(ConfigError) as caught:
            read_declared("F", text.encode())
        assert secret not in str(caught.value)


def test_large_files_and_other_encodings_are_refused() -> None:
    """Before anything of them is read."""
    for raw, word in ((b" " * 1_048_577, "larger"), (b"\xff\xfe", "UTF-8")):
        with pytest.raises(ConfigError, match=word):
            read_declared("F", raw)
