"""What pages say of refusals: the name of a page, not a verb of the command line."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import luntrex_proxy
from luntrex_proxy.console.pages.refusals import ADVICE, sentence_of
from luntrex_proxy.control.acts import RefusedError
from luntrex_proxy.control.incidents import GapsError
from luntrex_proxy.store import apikeys, incidents, keyrows, labels
from luntrex_proxy.store.database import Pool
from tests.console.test_installation_pages import NOW, operator
from tests.console.test_pages import Open, ada_in, opened, services_behind
from tests.people import make_person

__all__ = ["opened"]
ROOT = Path(luntrex_proxy.__file__).parent


def _codes() -> Iterator[tuple[str, str]]:
    """Of refusals that name a verb, as the source has them: where, and the code."""
    for path in sorted(each for room in ("store", "control") for each in (ROOT / room).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "RefusedError":
                words = [ast.unparse(argument) for argument in node.args]
                if "`luntrex-proxy" in words[0]:
                    yield f"{path.name}:{node.lineno}", ast.literal_eval(words[1]) if len(words) > 1 else ""


def test_there_are_words_for_every_code() -> None:
    """A new refusal that names a verb says under which page a person finds it."""
    found = dict(_codes())
    assert len(found) > 20
    assert {where: code for where, code in found.items() if code not in ADVICE} == {}


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (RefusedError("There is none; `luntrex-proxy x list` shows all.", "not_found"), "There is none."),
        (RefusedError("There is none; `luntrex-proxy x list` shows all."), "There is none."),
        (RefusedError("3 keys carry it; first run `luntrex-proxy keys label --clear x` on them.", "label_in_use"),
         "3 keys carry it. Change those first, under Keys or under Limits and budgets."),
        (RefusedError("Choose; or not."), "Choose; or not."),
        (GapsError(["nature", "contact"]),
         "Before people are told, state nature, contact. Change the record of the incident; the contact stands in the "
         "configuration, as privacy.contact."),
    ],
)  # fmt: skip
def test_a_sentence_for_pages(refused: RefusedError, said: str) -> None:
    """What is wrong, and where to mend it."""
    assert sentence_of(refused) == said


async def test_no_page_tells_of_verbs(opened: Open, database: Pool) -> None:
    """On the forms where such a refusal is met."""
    browser, _ = await ada_in(opened)
    runs, services = await operator(browser), services_behind(browser)
    await labels.declare(database, "acme", "team", ["search"])
    terms = keyrows.Terms(labels={"team": "search"})
    key_id = (await apikeys.create(database, services.lookup, "acme", "k", terms, bcrypt_cost=4)).info.key_id
    await incidents.open_(database, "open", NOW, ())
    await make_person(database, "bob@example.org", acme="developer")
    root = await database.fetchval("SELECT person_id FROM person WHERE operator")
    new = {"email": "x@example.org", "account": "never", "role": "viewer", "affirmed_16": "yes"}
    reach = {"kind": "table", "object": "nothing", "begins_at": "2026-01-31T14:30"}
    for who, path, sent, said in (
        (browser, "/accounts/1/labels/remove", {"name": "team"}, "Change those first, under Keys"),
        (browser, "/accounts/1/labels/remove", {"name": "never"}, ""),
        (browser, "/accounts/1/labels/edit?name=team", {"values": "other"}, "Change those first, under Keys"),
        (runs, "/people/new", new, "All accounts lists those"),
        (runs, "/incidents/1/reach", reach, "The page What is kept"),
        (runs, "/incidents/1/notify", {"sure": "yes"}, "Change the record of the incident"),
        (runs, "/upstreams/nowhere/begin-maintenance", {}, "Upstreams lists those"),
        (runs, f"/people/{root}/suspend", {"sure": "yes"}, "on the command line"),
    ):
        await who.get("/profile")
        seen = await who.send(path, **sent)
        assert said in seen.said, (path, seen.said)
        assert seen.status in (404, 422), path
        assert ("`luntrex-proxy " in seen.text) is (said == "on the command line"), path
    await browser.get("/profile")
    await browser.send(f"/accounts/1/keys/{key_id}/suspend")
    seen = await browser.send(f"/accounts/1/keys/{key_id}/rotate", overlap="0")
    assert "Let it work again first, on its page under Keys." in seen.said
