"""The pages as a browser meets them, without a script: coming in, leaving, foreign forms, what each page sends."""

import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web

from luntrex_proxy.console.application import PAGES, add_console
from luntrex_proxy.console.pages import frame
from luntrex_proxy.console.pages.page import local_path
from luntrex_proxy.control import links, members, people
from luntrex_proxy.control.access import Person
from luntrex_proxy.control.quiet import QuietRunner
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.roles import Role
from luntrex_proxy.core.totp import STEP_S, code_at, from_text
from luntrex_proxy.store.database import Pool
from tests.console.browsing import Browser, concrete
from tests.people import MAIL, PASSWORD, give_password, make_person, services_of

ADA = "ada@example.org"
Open = Callable[..., Awaitable[Browser]]


@pytest.fixture
async def opened(database: Pool, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a browser on a console with these settings."""
    runners: list[QuietRunner] = []
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:

        async def open_console(**settings: Any) -> Browser:
            app = web.Application()
            services = services_of(database, tmp_path, **settings)
            add_console(app, services)
            runner = QuietRunner(app, shutdown_timeout_s=1)
            runners.append(runner)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            browser = Browser(client, f"http://127.0.0.1:{site.port}")
            browser.services = services  # type: ignore[attr-defined] -- for tests that reach behind
            return browser

        yield open_console
        for runner in runners:
            await runner.cleanup()


def services_behind(browser: Browser) -> Services:
    services: Services = browser.services  # type: ignore[attr-defined] -- set above
    return services


async def ada_in(opened: Open, **settings: Any) -> tuple[Browser, uuid.UUID]:
    """A browser in which Ada is signed in."""
    browser = await opened(**settings)
    ada = await make_person(services_behind(browser).pool, acme="owner")
    await give_password(services_behind(browser), ada)
    await browser.get("/")
    seen = await browser.send("/sign-in", address=ADA, password=PASSWORD)
    assert "Sign out" in seen.said
    return browser, ada


async def test_signing_in_leads_where_one_wanted_to_go(opened: Open) -> None:
    """From the page that needed it, and back to it; never to another site."""
    browser = await opened()
    await give_password(services_behind(browser), await make_person(services_behind(browser).pool, acme="viewer"))
    seen = await browser.get("/sessions")
    assert "<h1>Sign in</h1>" in seen.text
    seen = await browser.send("/sign-in", address=ADA, password="wrong", next="/sessions")
    assert seen.status == 422
    assert "do not belong together" in seen.said
    assert seen.hidden("next") == "/sessions"
    assert f'value="{ADA}"' in seen.text
    assert "wrong" not in seen.text
    seen = await browser.send("/sign-in", address=ADA, password=PASSWORD, next="/sessions")
    assert seen.status == 200
    assert "this one" in seen.said
    assert "127.0.0.0/24" in seen.said
    assert len(browser.jar) == 1


@pytest.mark.parametrize(
    ("path", "leads"),
    [
        ("/sessions", "/sessions"),
        ("/second-factor", "/second-factor"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/%2f/evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/x?y=z", "/"),
        ("/x\r\nSet-Cookie: a=b", "/"),
        ("", "/"),
    ],
)
def test_nothing_leads_to_another_site(path: str, leads: str) -> None:
    """Whatever an address says."""
    assert local_path(path) == leads


async def test_signing_out_leaves_nothing(opened: Open) -> None:
    """The cookie is worth nothing, and the browser is told to forget it and all else."""
    browser, _ = await ada_in(opened)
    stolen = dict(browser.jar)
    seen = await browser.send("/sign-out")
    assert seen.headers["Clear-Site-Data"] == '"cookies", "storage"'
    assert "Profile" not in seen.said
    assert browser.jar == {}
    browser.jar = stolen
    assert "<h1>Sign in</h1>" in (await browser.get("/")).text


async def test_the_cookie_on_plain_loopback(opened: Open) -> None:
    """Without Secure, which not every browser takes there, but out of reach of scripts and other sites."""
    browser = await opened()
    await give_password(services_behind(browser), await make_person(services_behind(browser).pool))
    (line,) = (await browser.send("/sign-in", follow=False, address=ADA, password=PASSWORD)).cookies
    assert re.fullmatch(r"luntrex=[\w-]{43}; HttpOnly; Path=/; SameSite=Strict", line)


async def test_the_cookie_behind_tls_and_a_browser_that_drops_it(opened: Open) -> None:
    """__Host- and Secure; opened over plain HTTP all the same, a sentence says where to go instead of a loop."""
    browser = await opened(console={"public_url": "https://proxy.example.org"})
    await give_password(services_behind(browser), await make_person(services_behind(browser).pool))
    seen = await browser.send("/sign-in", follow=False, address=ADA, password=PASSWORD)
    (line,) = seen.cookies
    assert line.startswith("__Host-luntrex=")
    assert {"HttpOnly", "Path=/", "SameSite=Strict", "Secure"} == set(line.split("; ")[1:])
    assert "max-age=63072000" in seen.headers["Strict-Transport-Security"]
    browser.jar = {}
    seen = await browser.get(seen.headers["Location"])
    assert seen.status == 400
    assert "Open the console at https://proxy.example.org" in seen.said


async def test_a_form_from_elsewhere_does_nothing(opened: Open) -> None:
    """By what the browser says of its origin, and by a token of the session."""
    browser, ada = await ada_in(opened)
    pool = services_behind(browser).pool
    await browser.get("/profile")
    token = browser.page.hidden("form_token") if browser.page else ""
    for site in ("cross-site", "same-site", None):
        seen = await browser.send("/profile/name", site=site, form_token=token, name="Mallory")
        assert seen.status == 403
    browser.headers = {"Origin": "http://evil.example"}
    assert (await browser.send("/profile/name", site=None, form_token=token, name="Mallory")).status == 403
    browser.headers = {"Origin": browser.url}
    assert (await browser.send("/profile/name", site=None, form_token=token, name="Ada")).status == 200
    browser.headers = {}
    for wrong in ("", "x", token[:-1] + "0" if token[-1] != "0" else token[:-1] + "1", "é"):
        assert (await browser.send("/profile/name", form_token=wrong, name="Mallory")).status == 403
    assert await pool.fetchval("SELECT name FROM person WHERE person_id = $1", ada) == "Ada"
    sign_in = await browser.send("/sign-in", site="cross-site", address=ADA, password=PASSWORD)
    assert sign_in.status == 403  # signing somebody in as another is a trick as well


async def test_a_form_that_is_open_beside_another_keeps_working(opened: Open) -> None:
    """Proving it again in one tab renews the cookie, not the forms in others, where somebody may have typed much."""
    browser, _ = await ada_in(opened)
    token, cookie = (await browser.get("/profile")).hidden("form_token"), browser.jar["luntrex"]
    await browser.send("/confirm", password=PASSWORD)
    assert browser.jar["luntrex"] != cookie
    assert (await browser.send("/profile/name", form_token=token, name="Ada", follow=False)).status == 303
    await browser.send("/sign-in", address=ADA, password=PASSWORD)
    assert (await browser.send("/profile/name", form_token=token, name="Eve", follow=False)).status == 403


async def test_strange_forms_are_refused(opened: Open) -> None:
    """Too large, of another type, not text: a page that says so, and no more."""
    browser = await opened()
    headers = {"Sec-Fetch-Site": "same-origin"}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for body, more in (
        (b"address=" + b"x" * 70_000, form),  # who is signed in may write more
        (b"&".join(b"a%d=1" % n for n in range(60)), form),
        (b"address=\xff%ff", form),
        (b'{"address": "x"}', {"Content-Type": "application/json"}),
        (b"address=x", form | {"Content-Encoding": "gzip"}),
    ):
        async with browser.client.post(f"{browser.url}/sign-in", data=body, headers=headers | more) as answer:
            assert answer.status == 400
            assert "cannot be read" in await answer.text()


async def test_hostile_fields_are_answered(opened: Open) -> None:
    """Every form with every field holding what no form sends, and every address: a page, and nothing breaks."""
    browser, ada = await ada_in(opened, **MAIL)
    await services_behind(browser).pool.execute("UPDATE person SET operator = true WHERE person_id = $1", ada)
    names = [
        *("address", "affirmed_16", "code", "incident", "invitation", "law", "name", "next", "note", "on", "password"),
        *("present", "reference", "relation", "reporter", "request", "right", "session", "sure", "token"),
        *("after", "endpoint-messages", "expires", "group", "key", "label", "metric", "models", "networks", "overlap"),
        *("owner", "period", "proof", "regions", "requests_per_minute", "since", "step", "theme", "until", "upstream"),
    ]
    more = [  # of pages for who runs the installation, and of settings
        *("act", "account", "aware_at", "begins_at", "conclusion", "days", "decision", "delay", "email", "ends_at"),
        *(
            "from",
            "hosts",
            "kept",
            "kind",
            "nature",
            "next_review",
            "object",
            "own",
            "refusal",
            "role",
            "scope-keys:own",
        ),
        *("name", "state", "sure", "title", "training", "values", "version", "who", "whose"),
    ]
    good = {"law": "gdpr", "right": "access", "relation": "self", "sure": "yes", "on": "no", "address": "x@example.org"}
    token = (await browser.get("/profile")).hidden("form_token")
    for value in ("\0", "x" * 3_000):
        for route in PAGES:
            await services_behind(browser).pool.execute("DELETE FROM sign_in_failure")
            query = "&".join(f"{name}={quote(value[:40])}" for name in {*names, *more})
            seen = await browser.get(f"{concrete(route.path)}?{query}")
            assert seen.status in (200, 404), (route.path, value[:9])
            if route.submit is None or route.path == "/sign-out":
                continue
            fields = {name: good.get(name, value) for name in names}
            for sent in (fields, dict.fromkeys(names, value), dict.fromkeys(more, value)):
                answer = await browser.send(concrete(route.path), follow=False, form_token=token, **sent)
                assert answer.status in (200, 303, 404, 422, 429), (route.path, value[:9], answer.said)


async def test_every_page_carries_the_policy(opened: Open) -> None:
    """No script, nothing from elsewhere, kept nowhere; and no page of the list fails."""
    browser, _ = await ada_in(opened)
    for route in PAGES:
        seen = await browser.get(concrete(route.path))
        assert seen.status in (200, 404), route.path
        policy = seen.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert seen.headers["Cache-Control"] == "no-store"
        assert seen.headers["Referrer-Policy"] == "no-referrer"
        assert seen.headers["X-Content-Type-Options"] == "nosniff"
        assert seen.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        text = re.sub(r'<script src="/static/[\w.]+\?v=\w+" defer></script>', "", seen.text)
        assert not re.search(r"<script|style=|javascript:|\son\w+=|https?://(?!www\.w3)", text), route.path
        for label in re.findall(r'<label for="([^"]+)"', seen.text):
            assert seen.text.count(f'id="{label}"') == 1, (route.path, label)
    seen = await browser.get("/profile")
    async with browser.client.get(browser.url + re.findall(r'href="(/static/[^"]+css[^"]*)"', seen.text)[0]) as sheet:
        assert sheet.status == 200
        assert "immutable" in sheet.headers["Cache-Control"]


async def test_what_people_write_is_text(opened: Open) -> None:
    """Whatever it looks like."""
    browser, _ = await ada_in(opened)
    await browser.get("/profile")
    await browser.send("/profile/name", name="<script>alert(1)</script>\"'>")
    text = (await browser.get("/accounts")).text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


async def test_pages_that_need_a_person_lead_to_the_door(opened: Open) -> None:
    """Each of them, by GET and by POST; and dangerous ones ask for the password again."""
    browser = await opened()
    needing = [route for route in PAGES if route.access.value != "anyone"]
    assert len(needing) > 10
    for route in needing:
        assert "<h1>Sign in</h1>" in (await browser.get(concrete(route.path))).text, route.path
        if route.submit is not None:
            assert "<h1>Sign in</h1>" in (await browser.send(concrete(route.path))).text, route.path
    browser, _ = await ada_in(opened)
    await services_behind(browser).pool.execute("UPDATE session SET authenticated_at = now() - interval '11 minutes'")
    for route in PAGES:
        if route.access.value == "fresh":
            assert "Your password, please" in (await browser.get(concrete(route.path))).text, route.path
    seen = await browser.get("/second-factor")
    assert "Set it up" in (await browser.send("/confirm", password=PASSWORD, next=seen.hidden("next"))).said


async def test_the_first_person_comes_in_by_a_link(opened: Open) -> None:
    """Opened by anybody as often as they like, used by its form once."""
    browser = await opened()
    token = await links.make_first(services_behind(browser))
    path = f"/link?token={token}"
    for _ in range(3):
        assert "You are the first person here" in (await browser.get(path)).said
    seen = await browser.send("/link", token=token, address=ADA, name="Ada", password=PASSWORD)
    assert seen.status == 422
    assert "16 and older" in seen.said
    assert PASSWORD not in seen.text
    seen = await browser.send("/link", token=token, address=ADA, name="Ada", password=PASSWORD, affirmed_16="yes")
    assert "You run this installation." in seen.said
    seen = await browser.get(path)
    assert seen.status == 404
    assert "was used or is over" in seen.said


async def test_a_reset_by_link_and_by_letter(opened: Open) -> None:
    """The letter's answer is the same for everybody; a link from a letter works in a browser that is signed in."""
    browser, ada = await ada_in(opened, **MAIL)
    browser.jar = {name.replace("__Host-", ""): value for name, value in browser.jar.items()} or browser.jar
    answers = []
    for address in (ADA, "nobody@example.org"):
        answers.append(await browser.send("/reset", address=address))
    assert answers[0].text == answers[1].text
    assert answers[0].status == answers[1].status == 200
    async with services_behind(browser).pool.acquire() as connection:
        token = await links.make(connection, "reset", person_id=ada, by_mail=True)
    signed_in_there, browser.jar = browser.jar, {}
    await browser.get(f"/link?token={token}")  # from another site: the browser brings no cookie
    browser.jar = signed_in_there
    seen = await browser.send("/link", token=token, password="another river in may")
    assert "Sign out" in seen.said


async def test_public_forms_say_what_is_wrong_beside_the_field(opened: Open, database: Pool) -> None:
    """And keep what was typed, but no password; a new address is kept while the password is asked for."""
    browser, _ = await ada_in(opened, **(MAIL | {"console": MAIL["console"] | {"public_url": "http://localhost:1"}}))
    await browser.get("/profile")
    await database.execute("UPDATE session SET authenticated_at = now() - interval '11 minutes'")
    seen = await browser.send("/profile/address", address="new@example.org")
    assert (seen.status, 'value="new@example.org"' in seen.text, 'id="proof-wrong"' in seen.text) == (422, True, True)
    seen = await browser.send("/profile/address", address="new@example.org", proof=PASSWORD)
    assert "A letter is on its way to the new address" in seen.said
    await browser.get("/profile")
    seen = await browser.send("/profile/name", name="x" * 300)
    assert ('id="name-wrong"' in seen.text, f'value="{"x" * 300}"' in seen.text) == (True, True)
    browser.jar, browser.page = {}, None
    token = await links.make_first(services_behind(browser))
    asks = {"address": "x@example.org", "right": "access", "law": "gdpr"}
    reports = {"address": "x@example.org", "reporter": "", "relation": "self"}
    first = {"token": token, "address": "x@example.org", "name": "X", "affirmed_16": "yes", "password": PASSWORD}
    for path, good, field, value in (
        ("/sign-up", first, "address", "nobody"), ("/sign-up", first, "affirmed_16", ""),
        ("/reset", asks, "address", "nobody"), ("/rights", asks, "address", "nobody"), ("/rights", asks, "law", "x"),
        ("/rights", asks, "right", "x"), ("/report-child", reports, "address", "nobody"),
        ("/report-child", reports, "reporter", "nobody"), ("/report-child", reports, "relation", "x"),
    ):  # fmt: skip
        seen = await browser.send(path, **good | {field: value})
        assert (seen.status, seen.text.count(f'id="{field}-wrong"')) == (422, 1), (path, field)
        assert f'value="{"nobody" if field == "address" else "x@example.org"}"' in seen.text
        assert PASSWORD not in seen.text


async def test_signing_up(opened: Open) -> None:
    """With the affirmation, an answer that says nothing about who is here, and a door that can be closed."""
    browser = await opened(**MAIL)
    pool = services_behind(browser).pool
    await make_person(pool, "here@example.org")
    await browser.get("/sign-up")
    assert "16 and older" in (await browser.send("/sign-up", address="new@example.org")).said
    answers = [
        await browser.send("/sign-up", address=address, affirmed_16="yes")
        for address in ("new@example.org", "here@example.org")
    ]
    assert answers[0].text == answers[1].text
    closed = await opened()
    assert "by invitation" in (await closed.get("/sign-up")).said
    assert 'action="/sign-up"' not in (await closed.get("/sign-up")).text
    assert (await closed.send("/sign-up", address="x@example.org", affirmed_16="yes")).status == 422


async def test_invitations_by_link_and_signed_in(opened: Open) -> None:
    """Somebody new sets a password; somebody who is here accepts it on the first page, or does not."""
    browser, _ = await ada_in(opened)
    services = services_behind(browser)
    owner = await make_person(services.pool, "owner@example.org", beta="owner", gamma="owner")
    ids = {row["name"]: row["account_id"] for row in await services.pool.fetch("SELECT account_id, name FROM account")}
    who = Person(str(owner), roles={ids["beta"]: Role.OWNER, ids["gamma"]: Role.OWNER})
    _, made = await members.invite(services, who, ids["beta"], ADA, Role.VIEWER)
    await members.invite(services, who, ids["gamma"], ADA, Role.ADMIN)
    assert made.link
    link = "/link?token=" + made.link.partition("=")[2]
    assert "sign in , and open this link again" in (await Browser(browser.client, browser.url).get(link)).said
    seen = await browser.get("/")
    first = seen.hidden("invitation")
    assert "Invitation to beta" in seen.said
    assert "open the link that you were given" in seen.said
    assert "Accept" in (await browser.get(link)).said
    seen = await browser.send("/link", token=made.link.partition("=")[2])
    assert "You are a member now." in seen.said
    seen = await browser.send("/invitations/turn-down", invitation=seen.hidden("invitation"))
    assert "turned down" in seen.said
    assert (await browser.send("/invitations/accept", invitation=first)).status == 422
    assert (await browser.send("/invitations/accept", invitation="x")).status == 404
    _, made = await members.invite(services, who, ids["beta"], "new@example.org", Role.BILLING)
    assert made.link
    token = made.link.partition("=")[2]
    fresh = Browser(browser.client, browser.url)
    assert "its billing , as new@example.org" in (await fresh.get(f"/link?token={token}")).said
    seen = await fresh.send("/link", token=token, name="New", password=PASSWORD, affirmed_16="yes")
    assert "beta billing" in (await fresh.get("/accounts")).said


async def test_a_second_factor_is_set_up_used_and_removed(opened: Open) -> None:
    """The key as picture and text; recovery codes once; at the next sign-in the code is asked for."""
    browser, _ada = await ada_in(opened)
    await browser.get("/second-factor")
    seen = await browser.send("/second-factor/begin")
    assert "<svg" in seen.text
    found = re.search(r'class="key" data-secret>([A-Z2-7 ]+)<', seen.text)
    assert found
    seed = from_text(found[1].replace(" ", ""))
    assert "not right" in (await browser.send("/second-factor/confirm", code="000000")).said
    step = int(time.time()) // STEP_S
    seen = await browser.send("/second-factor/confirm", code=code_at(seed, step))
    codes = re.findall(r"<code>([a-z2-7-]+)</code>", seen.text)
    assert len(codes) == 10
    assert codes[0] not in (await browser.get("/second-factor")).text
    await browser.send("/sign-out")
    await browser.get("/sign-in")
    seen = await browser.send("/sign-in", address=ADA, password=PASSWORD, next="/sessions")
    assert "Code of your authenticator app" in seen.said
    assert "<h1>Sign in</h1>" in (await browser.get("/")).text  # not in yet
    await browser.get("/sign-in/code?next=/sessions")
    assert (await browser.send("/sign-in/code", code="000000", next="/sessions")).status == 422
    seen = await browser.send("/sign-in/code", code=codes[0], next="/sessions")
    assert "this one" in seen.said
    seen = await browser.get("/second-factor")
    assert "not your password" in (await browser.send("/second-factor/remove", password="x")).said
    await browser.get("/profile")
    assert "changed" in (await browser.send("/profile/password", present=PASSWORD, password="otterly7")).said
    await browser.get("/second-factor")
    assert (await browser.send("/second-factor/remove", password="otterly7")).status == 422, "too short for that"
    assert "this one" in (await browser.get("/sessions")).said, "what is refused signs nobody out"
    await browser.get("/profile")
    await browser.send("/profile/password", present="otterly7", password=PASSWORD)
    await browser.get("/second-factor")
    seen = await browser.send("/second-factor/remove", password=PASSWORD)
    assert "The second factor is removed." in seen.said


async def test_sessions_are_ended_from_the_list(opened: Open) -> None:
    """One, or all others; not those of somebody else."""
    browser, _ = await ada_in(opened)
    second = Browser(browser.client, browser.url)
    await second.send("/sign-in", address=ADA, password=PASSWORD)
    seen = await browser.get("/sessions")
    assert "ended" in (await browser.send("/sessions/end", session=seen.hidden("session"))).said
    assert "<h1>Sign in</h1>" in (await second.get("/")).text
    assert (await browser.send("/sessions/end", session=str(uuid.uuid4()))).status == 404
    await second.send("/sign-in", address=ADA, password=PASSWORD)
    await browser.get("/sessions")
    await browser.send("/sessions/end-others")
    assert "<h1>Sign in</h1>" in (await second.get("/")).text


async def test_the_profile(opened: Open) -> None:
    """Another password signs the other browsers out; without mail an address cannot be changed here."""
    browser, _ = await ada_in(opened)
    await browser.get("/profile")
    seen = await browser.send("/profile/password", present=PASSWORD, password="short")
    assert "at least 15" in seen.said
    assert 'aria-describedby="password-hint password-wrong" aria-invalid="true"' in seen.text
    assert PASSWORD not in seen.text
    seen = await browser.send("/profile/password", present="not it at all", password="another river in may")
    assert 'id="present-wrong">This is not your password.' in seen.text
    seen = await browser.send("/profile/password", present=PASSWORD, password="another river in may")
    assert "Your password is changed." in seen.said
    assert "whoever runs this installation has to change it" in seen.said
    assert (await browser.send("/profile/address", address="x@example.org")).status == 422


async def test_a_piece_of_a_page_leads_to_the_door_too(opened: Open) -> None:
    """A script that asks after the session has ended is told to open the page anew; the door is no piece of a page."""
    browser, _ = await ada_in(opened)
    browser.headers = {"HX-Request": "true"}
    seen = await browser.get("/accounts/1/first-call")
    assert (seen.status, seen.text) == (204, "")
    browser.jar = {}
    seen = await browser.get("/accounts/1/first-call")
    assert (seen.status, seen.headers["HX-Refresh"], seen.text) == (401, "true", "")


async def test_an_unknown_address_is_a_page_for_people(opened: Open) -> None:
    """With its policy and a way on; programs get a line of text."""
    browser = await opened()
    browser.headers = {"Accept": "text/html,*/*;q=0.8"}
    seen = await browser.get("/nowhere")
    assert (seen.status, "To the first page" in seen.said) == (404, True)
    assert "script-src 'self'" in seen.headers["Content-Security-Policy"]
    browser.headers = {}
    assert (await browser.get("/nowhere")).text == "There is no page at this address.\n"


async def test_a_fault_of_ours_is_a_page_for_people(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing of what went wrong, and a line of text when the page itself fails; programs get that always."""
    browser = await opened()
    monkeypatch.setattr(frame, "_page_of", _fails)
    browser.headers = {"Accept": "text/html,*/*;q=0.8"}
    seen = await browser.get("/sign-in")
    assert (seen.status, "To the first page" in seen.said, "canary" in seen.text) == (500, True, False)
    assert "script-src 'self'" in seen.headers["Content-Security-Policy"]
    monkeypatch.setattr(frame, "_error", _fails)
    assert (await browser.get("/sign-in")).text == "The server failed to handle the request.\n"
    browser.headers = {}
    monkeypatch.undo()
    monkeypatch.setattr(frame, "_page_of", _fails)
    assert (await browser.get("/sign-in")).text == "The server failed to handle the request.\n"


def _fails(*_: object) -> Any:
    raise ValueError("canary")


async def test_guessing_is_told_to_wait(opened: Open) -> None:
    """With the time in the header; a proxy that is believed names the network that waits."""
    browser = await opened(gateway={"trusted_proxies": ["127.0.0.0/8"], "client_address": "x_forwarded_for"})
    await give_password(services_behind(browser), await make_person(services_behind(browser).pool))
    browser.headers = {"X-Forwarded-For": "203.0.113.7"}
    for _ in range(5):
        assert (await browser.send("/sign-in", address=ADA, password="wrong")).status == 422
    seen = await browser.send("/sign-in", address=ADA, password=PASSWORD)
    assert seen.status == 429
    assert 1 <= int(seen.headers["Retry-After"]) <= 2
    browser.headers = {"X-Forwarded-For": "198.51.100.7"}
    assert "in no account yet" in (await browser.send("/sign-in", address=ADA, password=PASSWORD)).said
    assert await services_behind(browser).pool.fetchval("SELECT network FROM session") == "198.51.100.0/24"


async def test_a_person_who_is_suspended_is_out(opened: Open) -> None:
    """At the next click."""
    browser, ada = await ada_in(opened)
    await people.table.suspend(services_behind(browser).pool, ada, although_last_owner=True)
    assert "<h1>Sign in</h1>" in (await browser.get("/")).text


async def test_without_the_database_a_page_says_so(opened: Open) -> None:
    """With a time to come back, whether somebody is signed in or not, and nothing of the connection."""
    browser, _ = await ada_in(opened)
    await services_behind(browser).pool.close()
    for path in ("/", "/sessions", "/link?token=x"):
        seen = await browser.get(path)
        assert seen.status == 503, path
        assert "Retry-After" in seen.headers
        assert "postgres" not in seen.said.lower()
    assert (await browser.send("/sign-in", address=ADA, password=PASSWORD)).status == 503


async def test_a_database_without_its_tables_is_told_on_a_page(opened: Open, database: Pool) -> None:
    """As one that is away; once it was answered as if this program had a fault."""
    browser, _ = await ada_in(opened)
    await database.execute("ALTER TABLE session RENAME TO elsewhere")
    seen = await browser.get("/sessions")
    assert seen.status == 503
    assert "has no tables yet" in seen.said
