"""End-user ids: replaced by a keyed hash or removed, and every other byte is the client's."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luntrex_proxy.core.call import ROUTES, Route
from luntrex_proxy.core.wire.endusers import EndUserIds
from luntrex_proxy.core.wire.fields import read_fields
from luntrex_proxy.core.wire.splice import Changes, rewrite

ROUTE: dict[str, Route] = {route.name: route for route in ROUTES}
CHAT, MESSAGES = ROUTE["chat.completions"], ROUTE["messages"]
KEY = b"k" * 32
HASHED, DROPPED = EndUserIds("up", KEY), EndUserIds("up")


def sent(body: bytes, ids: EndUserIds, account_id: int = 7, route: Route = CHAT, **more: Any) -> bytes:
    """What the upstream gets of a body."""
    return rewrite(route, body, read_fields(route, body), Changes(end_users=ids, **more), account_id)


def pseudonym(value: Any, ids: EndUserIds = HASHED, account_id: int = 7) -> str:
    """What becomes of one id."""
    found = json.loads(sent(json.dumps({"user": value}).encode(), ids, account_id))["user"]
    assert isinstance(found, str)
    return found


def test_a_pseudonym_is_stable_and_says_nothing() -> None:
    """The same person is the same text; another person, account, upstream or key makes another one."""
    ada = pseudonym("ada@example.org")
    others = [
        pseudonym("ada@example.com"),
        pseudonym("ada@example.org", account_id=8),
        pseudonym("ada@example.org", EndUserIds("elsewhere", KEY)),
        pseudonym("ada@example.org", EndUserIds("up", b"l" * 32)),
    ]
    assert pseudonym("ada@example.org") == ada
    assert len({ada, *others}) == 5
    assert "ada" not in ada
    assert len(ada) == 32
    assert ada.isascii()


def test_one_id_has_one_pseudonym() -> None:
    """However its text is escaped, and wherever it stands."""
    body = b'{"user":"\\u0061da","safety_identifier":"ada","prompt_cache_key":"ada","metadata":{"user_id":"ada"}}'
    found = json.loads(sent(body, HASHED))
    values = {found["user"], found["safety_identifier"], found["prompt_cache_key"], found["metadata"]["user_id"]}
    assert values == {pseudonym("ada")}


def test_an_account_is_not_the_next_ones_prefix() -> None:
    """Account 1 with user `2x` is not account 12 with user `x`."""
    assert pseudonym("2x", account_id=1) != pseudonym("x", account_id=12)


@pytest.mark.parametrize("value", [7, True, ["a"], {"id": "ada"}])
def test_what_is_no_text_is_hashed_too(value: Any) -> None:
    """Nothing of it passes; the provider refuses or takes the text."""
    assert len(pseudonym(value)) == 32


@pytest.mark.parametrize("body", [b'{"user":null}', b'{"user":""}', b'{"metadata":null}', b'{"metadata":"user_id"}'])
def test_nothing_stays_nothing(body: bytes) -> None:
    """An empty id is nobody's."""
    assert json.loads(sent(body, HASHED)) == json.loads(body)


@pytest.mark.parametrize("body", [b'{"model":"m","messages":[{"user":"ada"}]}', b'{"metadata":{"team":"x"}}', b"{}"])
@pytest.mark.parametrize("ids", [HASHED, DROPPED])
def test_without_ids_the_body_is_the_very_same_object(body: bytes, ids: EndUserIds) -> None:
    """What is not at one of the four places is none of our business, and costs no copy."""
    assert sent(body, ids) is body


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"user":"ada"}', b"{}"),
        (b' { "user" : "ada" , "model":"m" } ', b'{ "model":"m"}'),
        (b'{"model":"m" , "user":"ada"}', b'{"model":"m"}'),
        (b'{"a":1,"user":"ada","b":{"user":"x"}}', b'{"a":1,"b":{"user":"x"}}'),
        (b'{"user":"a","safety_identifier":"b","prompt_cache_key":"c"}', b"{}"),
        (b'{"metadata":{"user_id":"ada"},"model":"m"}', b'{"metadata":{},"model":"m"}'),
        (b'{"metadata":{"user_id":"ada","team":"x"}}', b'{"metadata":{"team":"x"}}'),
    ],
)
def test_dropping(body: bytes, expected: bytes) -> None:
    """The member goes with its comma; the values of the others keep their bytes."""
    assert sent(body, DROPPED) == expected


def test_a_second_id_behind_the_first_goes_too() -> None:
    """A repeated or escaped key in `metadata` cannot carry an id past us, in either spelling."""
    for metadata in (
        b'{"user_id":"zoe","user_id":"zoe2"}',
        b'{"user\\u005fid":"zoe"}',
        b'{"user_id":"zoe","user\\u005fid":"zoe2"}',
    ):
        body = b'{"model":"m","metadata":%b}' % metadata
        for ids in (HASHED, DROPPED):
            assert b"zoe" not in sent(body, ids, route=MESSAGES)


def test_together_with_other_changes() -> None:
    """Alias, usage and store are spliced into the same body."""
    body = b'{"user":"ada","model":"a","store":true,"messages":[]}'
    assert sent(body, DROPPED, model="b", include_usage=True) == (
        b'{"stream_options":{"include_usage":true},"model":"b","store":false,"messages":[]}'
    )
    assert sent(b'{"user":"ada"}', DROPPED, include_usage=True) == b'{"stream_options":{"include_usage":true}}'


JSON = st.none() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=3), max_size=2)
NAMES = st.sampled_from(["user", "safety_identifier", "prompt_cache_key", "model", "messages", "x"])
STYLE = st.sampled_from([{"separators": (",", ":")}, {}, {"indent": 2}, {"ensure_ascii": False}])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=6), STYLE, st.booleans())
def test_only_ids_change(request_: dict[str, Any], style: dict[str, Any], drop: bool) -> None:
    """The JSON of the result is the JSON of the input but for the ids, in the same order."""
    if not isinstance(request_.get("model", "m"), str) or request_.get("model") == "":
        request_["model"] = "m"
    result = json.loads(sent(json.dumps(request_, **style).encode(), DROPPED if drop else HASHED))
    ids = {"user", "safety_identifier", "prompt_cache_key"}
    assert {k: v for k, v in result.items() if k not in ids} == {k: v for k, v in request_.items() if k not in ids}
    assert list(result) == [name for name in request_ if not (drop and name in ids)]
    assert drop or all(result[name] == value for name, value in request_.items() if value in (None, ""))


def test_the_key_is_not_shown() -> None:
    """A traceback or a log that prints the object says nothing."""
    assert repr(HASHED) == "EndUserIds()"
