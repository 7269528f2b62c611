"""`apply`: what a file says comes about, all of it or nothing, once; what it does not name stays."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from luntrex_proxy.control.applying import Change, ImpossibleError, NewKey, bring_about
from luntrex_proxy.settings.declared import read_declared
from luntrex_proxy.settings.errors import ConfigError
from luntrex_proxy.store import accounts, apikeys, budgets, limits
from luntrex_proxy.store.audit import Actor, acting_as
from luntrex_proxy.store.database import Pool
from tests.console.matrix import contents
from tests.people import make_person
from tests.postgres import LOOKUP
from tests.store.keys import loaded

FILE = """
accounts:
  - name: acme
    policy: "region=eu; retention=none; training=never"
    members:
      - {email: ada@example.org, role: owner}
      - {email: bob@example.org, role: developer}
    keys:
      - {name: ci, endpoints: [embeddings], networks: [192.0.2.0/24]}
      - {name: bobs, owner: bob@example.org, expires_at: 2099-01-31T00:00:00Z}
      - {name: spare, status: suspended}
  - name: other
    status: suspended
"""


async def run(pool: Pool, text: str, *, dry_run: bool = False) -> tuple[list[Change], dict[tuple[str, str], NewKey]]:
    """Apply a file's text."""
    wanted = read_declared("F", text.encode()).wanted
    now = datetime.fromtimestamp(time.time(), UTC)
    with acting_as(Actor("command line", "root")):
        return await bring_about(pool, LOOKUP, wanted, now, dry_run=dry_run, bcrypt_cost=4)


async def refusal(pool: Pool, text: str) -> list[str]:
    """The lines an impossible file is refused with; nothing may change."""
    declared, before = read_declared("F", text.encode()), await contents(pool)
    for dry_run in (True, False):
        with pytest.raises(ImpossibleError) as caught:
            await run(pool, text, dry_run=dry_run)
        assert await contents(pool) == before
    return [declared.line(fault.loc, fault.sentence) for fault in caught.value.faults]


@pytest.fixture
async def people(database: Pool) -> Pool:
    """Ada and Bob are here, with an account of their own that no file names."""
    await make_person(database, "ada@example.org", private="owner")
    await make_person(database, "bob@example.org")
    await apikeys.create(database, LOOKUP, "private", "mine", bcrypt_cost=4)
    return database


async def test_a_file_comes_about_once(people: Pool) -> None:
    """Everything in it is there afterwards, keys work, each act is in the log; again: nothing to do."""
    changes, made = await run(people, FILE)
    assert [(each.act, each.name) for each in changes] == [
        ("account.created", ""),
        ("account.policy_set", ""),
        ("member.set", "ada@example.org"),
        ("member.set", "bob@example.org"),
        ("key.created", "ci"),
        ("key.created", "bobs"),
        ("key.created", "spare"),
        ("key.suspended", "spare"),
        ("account.created", ""),
        ("account.suspended", ""),
    ]
    ring = await loaded(people)
    works = {name for (_, name), new in made.items() if ring.find(new.key.encode()) is not None}
    assert (works, set(made)) == ({"ci", "bobs"}, {("acme", "ci"), ("acme", "bobs"), ("acme", "spare")})
    listed = {key.name: key for key in await apikeys.list_all(people, "acme")}
    assert (listed["ci"].endpoints, listed["ci"].networks) == (["embeddings"], ["192.0.2.0/24"])
    assert listed["bobs"].person_id is not None
    acts = await people.fetch("SELECT act FROM audit_entry WHERE actor = 'command line' ORDER BY sequence")
    assert [row["act"] for row in acts] == [each.act for each in changes]
    before = await contents(people)
    assert await run(people, FILE) == ([], {})
    assert await contents(people) == before


async def test_a_dry_run_changes_nothing_and_says_the_same(people: Pool) -> None:
    """On nothing, and on what is there already and has to change."""
    before = await contents(people)
    said, made = await run(people, FILE, dry_run=True)
    assert (made, await contents(people)) == ({}, before)
    assert (await run(people, FILE))[0] == said
    changed = FILE.replace("[embeddings]", "[responses]").replace("role: developer", "role: none")
    before = await contents(people)
    said, _ = await run(people, changed, dry_run=True)
    assert await contents(people) == before
    assert (await run(people, changed))[0] == said
    assert [(each.act, each.before, each.after) for each in said] == [
        ("member.removed", "developer", None),
        ("key.limited", "endpoints: embeddings", "endpoints: responses"),
    ]


async def test_what_is_not_named_is_left_alone(people: Pool) -> None:
    """Other accounts, members, keys, and fields: a short file about one thing touches that one thing."""
    await run(people, FILE)
    stays = "SELECT k.name, k.status, k.networks FROM api_key k WHERE k.name <> 'ci' ORDER BY k.key_id"
    before = await people.fetch(stays)
    changes, _ = await run(people, "accounts: [{name: acme, keys: [{name: ci, models: [gpt-4o]}]}]")
    assert [(each.act, each.name) for each in changes] == [("key.limited", "ci")]
    assert await people.fetch(stays) == before
    (key,) = [each for each in await apikeys.list_all(people, "acme") if each.name == "ci"]
    assert (key.models, key.endpoints, key.networks) == (["gpt-4o"], ["embeddings"], ["192.0.2.0/24"])
    assert (await accounts.get(people, "acme")).policy == "region=eu; retention=none; training=never"
    assert await people.fetchval("SELECT count(*) FROM membership") == 3


async def test_ends_are_said_and_stay(people: Pool) -> None:
    """Revoked once; the same file again does nothing. A key that is wanted and has ended is made anew."""
    await run(people, FILE)
    end = "accounts: [{name: acme, keys: [{name: ci, status: revoked}]}, {name: other, status: active}]"
    changes, _ = await run(people, end)
    assert [each.act for each in changes] == ["key.revoked", "account.resumed"]
    assert (await run(people, end))[0] == []
    again, made = await run(people, "accounts: [{name: acme, keys: [{name: ci}]}]")
    assert ([each.act for each in again], list(made)) == (["key.created"], [("acme", "ci")])


async def test_owners_change_places_in_one_file(people: Pool) -> None:
    """The new one comes before the old one goes, whatever the order of the lines."""
    await run(people, FILE)
    swap = """
accounts:
  - name: acme
    members: [{email: ada@example.org, role: none}, {email: bob@example.org, role: owner}]
"""
    assert [each.name for each in (await run(people, swap))[0]] == ["bob@example.org", "ada@example.org"]
    lines = await refusal(people, "accounts: [{name: acme, members: [{email: bob@example.org, role: viewer}]}]")
    assert lines[0].startswith("F:1:")
    assert "last owner" in lines[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "accounts: [{name: acme, members: [{email: eve@example.org, role: owner}]}]",
            "F:1:43: accounts[0].members[0].email: is nobody's here; make the person with `luntrex-proxy people "
            "create`",
        ),
        (
            "accounts: [{name: new, keys: [{name: a}, {name: b, owner: ada@example.org}]}]",
            "F:1:59: accounts[0].keys[1].owner: is no member of the account",
        ),
        (
            "accounts: [{name: acme, keys: [{name: bobs, owner: ada@example.org}]}]",
            "F:1:52: accounts[0].keys[0].owner: is another now, and stays; make a key of another name",
        ),
        (
            "accounts: [{name: acme, keys: [{name: bobs, expires_at: null}]}]",
            "F:1:57: accounts[0].keys[0].expires_at: is another now, and stays; make a key of another name",
        ),
        (
            "accounts: [{name: new, keys: [{name: a}]}, {name: other, keys: [{name: b}]}]",
            "F:1:65: accounts[1].keys[0]: The account other is suspended, so its keys would be refused; "
            "first run `luntrex-proxy accounts resume other`.",
        ),
        (
            "accounts: [{name: acme, keys: [{name: a, not_before: 2031-01-01T00:00:00Z, "
            "expires_at: 2030-01-01T00:00:00Z}]}]",
            "F:1:32: accounts[0].keys[0]: A key cannot end before it begins; give a later end or an earlier begin.",
        ),
    ],
)
async def test_what_cannot_be_is_said_with_its_place(people: Pool, text: str, expected: str) -> None:
    """And nothing of the file is done, the good half neither."""
    await run(people, FILE)
    assert await refusal(people, text) == [expected]


async def test_another_spelling_is_no_change(people: Pool) -> None:
    """Order, repeated words, long and upper-case addresses: what is meant is compared."""
    await run(people, FILE)
    spelled = """
accounts:
  - name: acme
    keys:
      - name: ci
        endpoints: [responses, embeddings]
        models: [b, a*, b]
        networks: ["FD00:0:0::/48", "abcd::/16", 192.0.2.10, 9.0.0.0/8]
"""
    assert [each.act for each in (await run(people, spelled))[0]] == ["key.limited"]
    assert (await run(people, spelled))[0] == []
    turned = spelled.replace("[responses, embeddings]", "[embeddings, responses]").replace(
        "2001:DB8:0:0::", "2001:db8::"
    )
    assert (await run(people, turned))[0] == []


async def test_two_at_once_do_it_once(people: Pool) -> None:
    """The second waits, looks again, and finds nothing to do."""
    results = await asyncio.gather(*(run(people, FILE) for _ in range(4)))
    assert sorted(len(changes) for changes, _ in results) == [0, 0, 0, 10]
    assert await people.fetchval("SELECT count(*) FROM api_key") == 4


async def test_a_key_is_shown_to_nobody_else(people: Pool) -> None:
    """Nothing in the tables holds one."""
    _, made = await run(people, FILE)
    stored: list[Any] = await people.fetch("SELECT k.*, e.* FROM api_key k, audit_entry e")
    assert not any(new.key in str(stored) for new in made.values())


async def test_labels_are_declared_and_carried(people: Pool) -> None:
    """Declared before keys carry them; another value and none later; again: nothing to do; an unknown one is a line."""
    text = """
accounts:
  - name: acme
    labels: [{name: project, values: [chat, search]}, {name: team}]
    keys: [{name: ci, labels: {project: chat, team: blue}}]
"""
    changes, _ = await run(people, text)
    assert [(each.act, each.name, each.after) for each in changes] == [
        ("account.created", "", None),
        ("label.declared", "project", "chat, search"),
        ("label.declared", "team", "any"),
        ("key.created", "ci", "active"),
        ("key.labelled", "ci", "project: chat; team: blue"),
    ]
    assert await run(people, text) == ([], {})
    changed = text.replace("{project: chat, team: blue}", "{project: search, team: null}")
    assert [(each.act, each.before, each.after) for each in (await run(people, changed))[0]] == [
        ("key.labelled", "project: chat; team: blue", "project: search; team: none")
    ]
    (key,) = await apikeys.list_all(people, "acme")
    assert key.labels == {"project": "search"}
    (line,) = await refusal(people, text.replace("project: chat", "stage: chat"))
    assert line.startswith("F:5:31: accounts[0].keys[0].labels: The account declares no label stage")
    for bad in ("{name: Team}", "{name: team, values: []}", "{name: team, values: [a b]}", "{name: project}"):
        with pytest.raises(ConfigError):
            read_declared("F", text.replace("{name: team}", bad).encode())


ALLOWED = """
accounts:
  - name: acme
    time_zone: Europe/Berlin
    limits: {requests/minute: 60}
    model_limits: {"gpt-4*": {tokens/day: 1000}}
    budgets: {month: 100.50, day: {dollars: "10", hard: false, alerts: [50], when_away: open}}
    keys:
      - {name: ci, limits: {streams: 2}, budgets: {total: 5}}
"""


async def test_limits_and_budgets_come_about(people: Pool) -> None:
    """All of them as they are said, once; what a file does not name stays, and {} takes all away."""
    changes, _ = await run(people, ALLOWED)
    assert [(each.act, each.name, each.after) for each in changes if each.act.endswith("_set")] == [
        ("account.time_zone_set", "", "Europe/Berlin"),
        ("account.limits_set", "", "requests/minute=60; gpt-4*: tokens/day=1000"),
        (
            "account.budgets_set",
            "",
            "day: $10 soft; told at 50%; month: $100.50 hard, closed when away; told at 80%, 100%",
        ),
        ("key.limits_set", "ci", "streams=2"),
        ("key.budgets_set", "ci", "total: $5 hard, closed when away; told at 80%, 100%"),
    ]
    assert (await run(people, ALLOWED))[0] == []
    assert (await run(people, "accounts: [{name: acme, keys: [{name: ci}]}]"))[0] == []
    assert len(await budgets.list_all(people)) == 3
    less = (
        "accounts: [{name: acme, limits: {streams: 1}, budgets: {}, keys: [{name: ci, limits: {}, budgets: {day: 1}}]}]"
    )
    assert [each.act for each in (await run(people, less))[0]] == [
        *("account.limits_set", "account.budgets_set", "key.limits_set", "key.budgets_set")
    ]
    assert [(each.key_name, each.limits) for each in await limits.list_all(people)] == [(None, {"": {"streams": 1}})]
    assert [(each.key_name, each.period) for each in await budgets.list_all(people)] == [("ci", "day")]
    assert await refusal(people, "accounts: [{name: acme, time_zone: Mars/Olympus}]")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("limits: {requests/week: 5}", "limits"),
        ("limits: {requests/day: 0}", "limits"),
        ("limits: {requests/minute: 6, requests/day: 5}", "can never be reached"),
        ("model_limits: {'a b': {streams: 1}}", "model_limits"),
        ("budgets: {week: 5}", "budgets"),
        ("budgets: {month: -5}", "must be dollars"),
        ("budgets: {month: 1.0e-9}", "must be dollars"),
        ("budgets: {month: true}", "must be dollars"),
        ("budgets: {day: 6, month: 5}", "can never be reached"),
        ("budgets: {day: {dollars: 1, hard: false, alerts: []}}", "would do nothing"),
        ("budgets: {day: {dollars: 1, alerts: [0]}}", "alerts"),
    ],
)
def test_allowances_that_cannot_be_are_said_with_their_place(said: str, sentence: str) -> None:
    """Of accounts and of keys."""
    for text in (
        f"accounts:\n  - name: acme\n    {said}",
        f"accounts:\n  - name: acme\n    keys: [{{name: ci, {said}}}]",
    ):
        with pytest.raises(ConfigError) as caught:
            read_declared("F", text.encode())
        assert any(sentence in line for line in caught.value.lines), caught.value.lines
