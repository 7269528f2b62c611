"""Every form of every page, as it stands there, filled with what nobody types: refused beside the field, no harm.

And every page at addresses that no page leads to.
"""

import re
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser
from pathlib import Path

from luntrex_proxy.console import pages as pages_of
from luntrex_proxy.console.application import PAGES
from luntrex_proxy.console.pages.page import Access
from luntrex_proxy.store.database import Pool
from tests.console.browser.places import ADA
from tests.console.browsing import Browser, concrete
from tests.console.matrix import contents
from tests.console.test_account_pages import entered
from tests.console.test_pages import Open, opened, services_behind
from tests.people import PASSWORD, give_password, make_person

__all__ = ["opened"]
WRONG = ("x" * 10_000, "a\x01\x7f\x00b")
LOOKS = {"audit_entry", "audit_head", "audit_personal", "sign_in_failure"}  # what looking and guessing write

_ID = "8381ed97-c7c8-49fe-a5e3-18b214975910"
# What nobody follows a link to: bytes that are no text, moments that no calendar has, of every list's kind of place.
QUERIES = (
    *("%00", "%FF", "9" * 18, "label:project=a%00", "2026-01-01T00:00:00~%00", f"0001-01-01T00:00:00%2B14:00~{_ID}"),
    *("9999-12-31T23:59:59-14:00~abcdefghijkl", "0001-01-01T00:00:00%2B14:00~abcdefghijkl~10.0.0.0/24~key_wrong"),
)


@dataclass
class Form:
    """A form that somebody types or chooses something in; as it comes, with every box ticked."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    typed: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    secret: list[str] = field(default_factory=list)


class _Forms(HTMLParser):
    """Collects the forms of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._form: Form | None = None
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Whatever a form has in it."""
        told = {name: value or "" for name, value in attrs}
        name, value, kind = told.get("name", ""), told.get("value", ""), told.get("type", "text")
        if tag == "form":
            self._form = Form(told["action"]) if told.get("method") == "post" else None
            self.found += [self._form] if self._form else []
        elif self._form is None:
            return
        elif tag == "select":
            self._select = name
            self._form.chosen.append(name)
        elif tag == "option" and ("selected" in told or self._select not in self._form.fields):
            self._form.fields[self._select] = value
        elif tag == "textarea" or (tag == "input" and kind not in ("hidden", "checkbox", "radio")):
            self._form.fields[name] = value
            (self._form.secret if kind == "password" else self._form.typed).append(name)
        elif tag == "input":
            self._form.fields[name] = value

    def handle_endtag(self, tag: str) -> None:
        """Fields outside are nobody's."""
        self._form = None if tag == "form" else self._form


async def _forms(browser: Browser, paths: list[str]) -> dict[str, tuple[str, Form]]:
    """The forms of these pages, by where they are sent; with the page that each is on."""
    found: dict[str, tuple[str, Form]] = {}
    for path in paths:
        parser = _Forms()
        parser.feed((await browser.get(path)).text)
        for form in parser.found:
            if form.typed or form.chosen or form.secret:
                found.setdefault(form.action.partition("?")[0], (path, form))
    return found


async def test_what_nobody_types_is_refused_beside_the_field(opened: Open, database: Pool) -> None:
    """Far too much, signs that steer, choices there are not: kept as typed, but for passwords; nothing changes."""
    browser, places = await entered(opened, requests=5)
    paths = [places.path(each.path) for each in PAGES if not each.path.endswith(".csv")]
    found = await _forms(browser, [concrete(path) for path in paths])
    assert len(found) > 35
    before, faults = await contents(database), []
    for action, (path, form) in found.items():
        sent: list[dict[str, str]] = []
        for value in WRONG if form.typed or form.secret else ():
            sent.append(dict.fromkeys(form.typed, value) | dict.fromkeys(form.secret, f"secret {value}"))
        sent += [{name: "nonsense"} for name in form.chosen]
        for wrong in sent:
            await database.execute("DELETE FROM sign_in_failure")
            token = (await browser.get(path)).hidden("form_token")
            answer = await browser.send(form.action, follow=False, **form.fields | {"form_token": token} | wrong)
            about = action, list(wrong), next(iter(wrong.values()))[:9]
            if answer.status != 422:
                faults.append((*about, answer.status))
            elif '-wrong"' not in answer.text and action != "/sign-in":  # that of both is wrong is all that is said
                faults.append((*about, "not beside the field"))
            faults += [(*about, name) for name, value in wrong.items() if _is_lost(form, name, value, answer.text)]
    assert faults == []
    after = await contents(database)
    assert {table for table in before if before[table] != after[table]} <= LOOKS


async def test_addresses_that_no_page_leads_to(opened: Open) -> None:
    """A word of the address that cannot be counts as none, or there is no such page; nowhere does anything fail."""
    browser, places = await entered(opened, requests=5)
    pages = "".join(file.read_text() for file in Path(pages_of.__path__[0]).glob("*.py"))
    names = set(re.findall(r'query\("(\w+)"', pages))
    assert {"after", "before", "since", "reference"} <= names
    faults = []
    for path in {each.values: concrete(places.path(each.path)).partition("?")[0] for each in PAGES}.values():
        for value in QUERIES:
            status = (await browser.get(f"{path}?{'&'.join(f'{name}={value}' for name in names)}")).status
            faults += [(path, value, status)] if status not in (200, 404) else []
    assert faults == []


def _is_lost(form: Form, name: str, value: str, text: str) -> bool:
    """Whether what was typed is not there any more, or a password is."""
    return (name in form.typed and escape(value) not in text) or (name in form.secret and value in text)


async def test_a_form_of_another_session_does_nothing(opened: Open, database: Pool) -> None:
    """With a token of another session, with none, and with the right one behind a wrong one: of every form."""
    browser, places = await entered(opened, requests=5)
    before = await contents(database)
    for route in PAGES:
        if route.submit is None or route.access is Access.ANYONE:
            continue
        for token in ("", "0" * 43):
            seen = await browser.send(concrete(places.path(route.path)), form_token=token)
            assert seen.status == 403, route.path
    after = await contents(database)
    assert {table for table in before if before[table] != after[table]} <= LOOKS


async def test_what_is_another_accounts_is_not_there_in_ones_own(opened: Open, database: Pool) -> None:
    """Ids of acme's things in the addresses and forms of an account of one's own, and of people in one's own pages."""
    browser, places = await entered(opened, requests=5)
    mallory = await make_person(database, "mallory@example.org", gamma="owner")
    await give_password(services_behind(browser), mallory)
    gamma = await database.fetchval("SELECT account_id FROM account WHERE name = 'gamma'")
    capture, invitation, session, token_id = [
        str(await database.fetchval(f"SELECT {name}_id FROM {table} LIMIT 1"))
        for name, table in (("capture", "debug_capture"), ("invitation", "invitation"), ("session", "session"),
                            ("work", "work"))
    ]  # fmt: skip
    browser.jar = {}
    await browser.get("/sign-in")
    await browser.send("/sign-in", address="mallory@example.org", password=PASSWORD)
    before = await contents(database)
    theirs = {"account_id": gamma, "capture_id": capture, "invitation_id": invitation}
    for route in PAGES:
        names = {part for part in route.path.split("/") if part.startswith("{") and part != "{account_id}"}
        if not names or names == {"{month}"} or names == {"{purpose}"} or route.access is Access.OPERATOR:
            continue
        path = route.path
        for name, value in theirs.items():
            path = path.replace(f"{{{name}}}", str(value))
        path = concrete(places.path(path))
        seen = await browser.get(path)  # at a button's address: the page of one's own that such a button is on
        assert not [word for word in ("acme", ADA, "laptop") if word in seen.text], route.path
        if route.submit is not None:
            assert (await browser.send(path, sure="yes")).status in (403, 404), route.path
        await browser.get("/profile")
    own, key = f"/accounts/{gamma}", places.key_id
    for path, fields in (
        (f"{own}/limits/edit?whose=key:{key}", {"streams": "1", "when_away": "open"}),
        (f"{own}/limits/budgets?whose=key:{key}", {"day_dollars": "1", "day_hard": "yes"}),
        (f"{own}/limits/budgets?whose=member:{places.person_id}", {"day_dollars": "1", "day_hard": "yes"}),
        (f"{own}/limits/budgets?whose=label:project=chat", {"day_dollars": "1", "day_hard": "yes"}),
        (f"{own}/labels/remove", {"name": "project"}), (f"{own}/captures/new", {"key": key, "public_key": "A" * 44}),
        ("/sessions/end", {"session": session}), ("/invitations/turn-down", {"invitation": invitation}),
        ("/invitations/accept", {"invitation": invitation}), ("/notices/read", {"incident": "2"}),
        ("/your-data/withdraw", {"reference": places.reference}), (f"/work/{token_id}", {}),
        ("/your-data/note", {"request": str(places.request_id), "note": "mine"}),
    ):  # fmt: skip
        await browser.get("/profile")
        seen = await browser.send(path, **fields)
        assert seen.status in (404, 405, 422) or path == "/notices/read", (path, seen.status)
        assert "laptop" not in seen.said, path
    assert key not in (await browser.get(f"{own}/usage?key={key}&group=key")).text.replace(f"key={key}", "")
    after = await contents(database)
    assert {table for table in before if before[table] != after[table]} <= LOOKS


async def test_ids_of_nothing(opened: Open, database: Pool) -> None:
    """Numbers too large or negative, signs, the id of another thing, fields that are there twice: no page breaks."""
    browser, places = await entered(opened, requests=5)
    token = (await browser.get("/profile")).hidden("form_token")
    before, broken = await contents(database), []
    for route in PAGES:
        for part in re.findall(r"{(\w+)}", route.path):
            other = places.key_id if part != "key_id" else str(places.request_id)
            for wrong in ("9" * 30, "-1", "%00", other):
                path = concrete(places.path(route.path.replace(f"{{{part}}}", wrong)))
                seen = await browser.get(path)  # at a button's address: the page that such a button is on
                broken += [(path, seen.status)] * (seen.status not in (200, 404))
                if route.submit is not None:
                    seen = await browser.send(path, form_token=token, follow=False)
                    broken += [(path, seen.status, "sent")] * (seen.status not in (404, 422))
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}
    headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in browser.jar.items())
    for body in (b"name=a&name=b", b"name=a&name=&name=%00", b"name[]=a&name.x=1&=&&&"):
        data = body + f"&form_token={token}".encode()
        for path in ("/installation/accounts/1/suspend", "/people/new", "/incidents/new", "/registry/new"):
            async with browser.client.post(browser.url + path, data=data, headers=headers) as answer:
                broken += [(path, answer.status, body)] * (answer.status != 422)
    assert broken == []
    after = await contents(database)
    assert {table for table in before if before[table] != after[table]} <= LOOKS
