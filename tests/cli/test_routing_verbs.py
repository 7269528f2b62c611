"""`upstreams`, `routes` and `requests` as a user runs them, without a daemon: what is printed, and what is refused."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from luntrex_proxy.cli import main
from luntrex_proxy.core.scope import read_scope
from luntrex_proxy.store import accountroutes, accounts, apikeys, audit, budgets, limitlevels, limits, maintenance
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.keyrows import Terms
from luntrex_proxy.store.limitlevels import Told
from tests.postgres import LOOKUP, database, database_dsn, postgres_dsn

__all__ = ["database", "database_dsn", "postgres_dsn"]
CONFIGURATION = """
upstreams:
  - {name: eu-one, dialect: openai, base_url: "http://127.0.0.1:1/v1", region: eu, retention: none, training: never,
     api_key: {env: NOT_SET}}
  - {name: us-one, dialect: openai, base_url: "http://127.0.0.1:1/v1", region: us, retention: none, training: never}
  - {name: loud, dialect: openai, base_url: "http://127.0.0.1:1/v1"}
control: {listen: ["127.0.0.1:1"]}
models:
  - name: m
    price: {input: 2, output: 8}
    targets:
      - {upstream: eu-one, model: there, weight: 3}
      - {upstream: us-one, model: there, weight: 1}
      - {upstream: loud, model: m, weight: 6}
"""


@pytest.fixture(autouse=True)
async def key_id(database: Pool, database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The verbs work on this test's database and configuration; a key may use one model, in one region."""
    monkeypatch.setenv("LUNTREX_DATABASE__URL", database_dsn)
    monkeypatch.setenv("LUNTREX_STATE__DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("LUNTREX_CONFIG", str(tmp_path / "some.yaml"))
    (tmp_path / "some.yaml").write_text(CONFIGURATION)
    (tmp_path / "state").mkdir()
    await accounts.create(database, "acme")
    terms = Terms(scope=read_scope(models=["m"], regions=["eu"]))
    return (await apikeys.create(database, LOOKUP, "acme", "ci", terms, bcrypt_cost=4)).info.key_id


async def run(*arguments: str, status: int = 0) -> Result:
    """Run a verb; the exit status must be as said."""
    done = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    assert done.exit_code == status, done.output
    return done


async def test_maintenance_is_switched_and_listed(database: Pool) -> None:
    """On twice, off twice; the list says where upstreams come from; both acts are in the audit log."""
    said = await run("upstreams", "maintenance", "eu-one", "on", "--reason", "new disks")
    assert said.stdout == "eu-one is in maintenance: nothing new goes there.\n"
    await run("upstreams", "maintenance", "eu-one", "on", "--reason", "newer disks")
    listed = {each["name"]: each for each in json.loads((await run("upstreams", "list", "--json")).stdout)}
    assert listed["eu-one"]["maintenance"]["reason"] == "newer disks"
    assert (listed["us-one"]["maintenance"], listed["us-one"]["origin"], listed["us-one"]["health_known"]) == (
        None,
        "file",
        False,
    )
    shown = await run("upstreams", "list")
    assert "newer disks" in shown.stdout
    assert "health is not known" in shown.stderr
    assert (await run("upstreams", "maintenance", "eu-one", "off")).stdout == "eu-one gets requests again.\n"
    assert (await run("upstreams", "maintenance", "eu-one", "off")).stdout == "eu-one was not in maintenance.\n"
    acts = [entry.act for entry in await audit.newest(database, 3)]
    assert acts == ["upstream.maintenance_ended", "upstream.maintenance_began", "upstream.maintenance_began"]


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("maintenance", "eu-won", "on"), 1, "The configuration has no upstream 'eu-won'; did you mean 'eu-one'?"),
        (("maintenance", "x", "off"), 1, "The configuration has no upstream 'x'; `luntrex-proxy upstreams list`"),
        (("maintenance", "eu-one", "off", "--reason", "r"), 2, "--reason goes with on."),
        (("maintenance", "eu-one", "on", "--reason", "r" * 201), 1, "A reason has at most 200 characters."),
        (("maintenance", "eu-one", "on", "--reason", "lx_" + "k" * 12 + "_" + "s" * 49), 2, "an API key in it"),
    ],
)
async def test_what_cannot_be_switched(database: Pool, arguments: tuple[str, ...], status: int, sentence: str) -> None:
    """One sentence, and nothing has changed."""
    assert sentence in (await run("upstreams", *arguments, status=status)).output
    assert await maintenance.list_all(database) == {}


async def test_explain_names_who_decided_what(database: Pool, key_id: str) -> None:
    """The default policy, the key, the request, maintenance: each target with what keeps it out; and the limits."""
    await limits.of_account(database, "acme", "", {"requests/minute": 5})
    whose = await budgets.whose_key(database, key_id)
    await budgets.change(database, whose, {"day": 2_500_000_000_000}, budgets.Terms())
    said = json.loads((await run("routes", "explain", "--key", key_id, "--model", "m", "--json")).stdout)
    targets = {each["upstream"]: each for each in said["targets"]}
    assert targets["eu-one"].pop("price").startswith("$2 in, $8 out per million tokens (config-")
    assert targets["eu-one"] == {
        "upstream": "eu-one", "model": "there", "weight": 3, "share": 1.0, "region": "eu", "retention": "none",
        "training": "never", "reason": "", "says": "",
        "standing": "not known", "asked": True,
    }  # fmt: skip
    assert targets["us-one"]["says"] == "excluded by the key's regions: region"
    assert targets["loud"]["says"].startswith("excluded by the installation's default policy: region, retention, train")
    steps = [f"{step['station']}: {step['says']}" for step in said["steps"]]
    assert "limits: count: 5 requests per minute of the account (none used)" in steps
    assert "budgets: count: $2.50 per day of the key ($0 spent or lent)" in steps
    assert (said["code"], said["endpoint"], said["key_id"]) == ("", "chat.completions", key_id)
    await database.execute("UPDATE budget_window SET spent_pico = 2500000000000")
    account_id = (await accounts.get(database, "acme")).account_id
    async with database.acquire() as connection:
        await limitlevels.tell(connection, [Told(account_id, "", "requests/minute", 5, 0.0)])
    spent = json.loads((await run("routes", "explain", "--key", key_id, "--model", "m", "--json")).stdout)["steps"]
    assert {"station": "budgets", "good": False, "says": "count: $2.50 per day of the key (nothing is left)"} in spent
    full = "count: 5 requests per minute of the account (5 used)"
    assert {"station": "limits", "good": False, "says": full} in spent
    of_account = json.loads((await run("routes", "explain", "--account", "acme", "--model", "m", "--json")).stdout)
    assert [(each["upstream"], each["share"]) for each in of_account["targets"]] == [
        ("eu-one", 0.75), ("us-one", 0.25), ("loud", 0.0)
    ]  # fmt: skip
    await maintenance.begin(database, "eu-one")
    table = await run("routes", "explain", "--key", key_id, "--model", "m", status=1)
    assert "Refused: 503 upstream_maintenance." in table.stdout
    narrowed = await run("routes", "explain", "--account", "acme", "--model", "m", "--region", "ch", status=1)
    assert "excluded by the request's own policy: region" in narrowed.stdout
    await apikeys.suspend(database, key_id)
    refused = json.loads((await run("routes", "explain", "--key", key_id, "--model", "m", "--json", status=1)).stdout)
    assert (refused["code"], refused["steps"][0]["says"]) == ("invalid_api_key", "the key is suspended")


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("--model", "m"), 2, "Say whose request: --key ID or --account NAME, one of them."),
        (("--account", "nobody", "--model", "m"), 1, "There is no account 'nobody'"),
        (("--key", "lx_" + "k" * 12 + "_" + "s" * 49, "--model", "m"), 1, "That is a whole key, not a key id"),
        (("--account", "acme", "--model", "zz"), 1, "Refused: 404 model_not_found."),
        (("--account", "acme", "--model", "m", "--policy", "rubbish"), 1, "Refused: 400 bad_policy."),
        (
            ("--account", "acme", "--model", "m", "--endpoint", "models"),
            1,
            "'models' is no endpoint that takes a model",
        ),
        (("--account", "acme", "--model", "m", "--endpoint", "messages"), 1, "Refused: 404 model_not_found."),
    ],
)
async def test_what_explain_cannot_say(arguments: tuple[str, ...], status: int, sentence: str) -> None:
    """One sentence each."""
    assert sentence in (await run("routes", "explain", *arguments, status=status)).output


async def test_the_key_may_not_use_the_model(key_id: str) -> None:
    """The model is there, the key is the reason."""
    said = await run("routes", "explain", "--key", key_id, "--model", "m2", status=1)
    assert "model_not_found" in said.output


async def test_explain_refuses_what_has_no_price_as_a_daemon_does(tmp_path: Path) -> None:
    """Where the configuration wants that."""
    model = "  - {name: unpriced, targets: [{upstream: eu-one, model: there}]}\n"
    arguments = ("routes", "explain", "--account", "acme", "--model", "unpriced")
    (tmp_path / "some.yaml").write_text(CONFIGURATION + model)
    assert "Sent, as chat.completions." in (await run(*arguments)).stdout
    (tmp_path / "some.yaml").write_text(CONFIGURATION + model + "prices: {unknown: refuse}\n")
    assert "price_unknown" in (await run(*arguments, status=1)).stdout


async def test_of_a_request_that_is_not_on_record() -> None:
    """One sentence, whatever was given."""
    for given in ("0199c0de-0000-7000-8000-000000000001", "rubbish"):
        assert "There is no such request on record" in (await run("requests", "show", given, status=1)).output


async def test_routes_of_accounts(database: Pool) -> None:
    """Set, limited, listed beside the file's own, explained, cleared."""
    said = await run("routes", "set", "--account", "acme", "--model", "m", "3*us-one/there", "eu-one")
    assert said.stdout == "m of acme goes to 3*us-one/there, eu-one/m.\n"
    assert (await run("routes", "allow", "--account", "acme", "m", "x*")).stdout == "acme may use m, x*.\n"
    listed = json.loads((await run("routes", "list", "--json")).stdout)
    assert [(each["origin"], each["account"], each["model"]) for each in listed["models"]] == [
        ("file", None, "m"),
        ("database", "acme", "m"),
    ]
    assert listed["allowed"] == {"acme": ["m", "x*"]}
    assert "acme may use m, x* only." in (await run("routes", "list", "--account", "acme")).stdout
    explained = json.loads((await run("routes", "explain", "--account", "acme", "--model", "m", "--json")).stdout)
    assert [(each["upstream"], each["share"]) for each in explained["targets"]] == [("us-one", 0.75), ("eu-one", 0.25)]
    assert "with targets of the account's own" in explained["steps"][0]["says"]
    refused = await run("routes", "explain", "--account", "acme", "--model", "zz", status=1)
    assert "the account may not use this model" in refused.stdout
    assert (await run("routes", "clear", "--account", "acme")).stdout == "acme has targets of its own for no model.\n"
    assert (await run("routes", "allow", "--account", "acme", "--all")).stdout == "acme may use all models.\n"
    assert await accountroutes.list_all(database) == []


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("set", "--account", "acme", "--model", "m", "eu-won"), 1, "no upstream 'eu-won' (did you mean 'eu-one'?)"),
        (("set", "--account", "acme", "--model", "m", "a b"), 2, "is no target; write [WEIGHT*]UPSTREAM[/MODEL]"),
        (("set", "--account", "acme", "--model", "m", "eu-one", "2*eu-one"), 1, "A target of m is named twice"),
        (("set", "--account", "acme", "--model", "m", "0*eu-one"), 1, "one at least is above 0"),
        (("set", "--account", "acme", "--model", "a*b", "eu-one"), 1, "'a*b' is no model name"),
        (("set", "--account", "nobody", "--model", "m", "eu-one"), 1, "There is no account 'nobody'"),
        (("clear", "--account", "acme", "--model", "m"), 1, "no targets of its own for m"),
        (("allow", "--account", "acme"), 2, "Name the models that the account may use, or give --all."),
        (("allow", "--account", "acme", "m", "--all"), 2, "Name the models that the account may use, or give --all."),
        (("allow", "--account", "acme", "a b"), 1, "'a b' is no model name"),
    ],
)
async def test_routes_that_cannot_be(database: Pool, arguments: tuple[str, ...], status: int, sentence: str) -> None:
    """One sentence, and nothing has changed."""
    assert sentence in (await run("routes", *arguments, status=status)).output
    assert await accountroutes.list_all(database) == []
