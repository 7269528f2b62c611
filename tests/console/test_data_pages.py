"""The page about one's own data, without a script: each right by a form, and proven again where it matters."""

import io
import time
import uuid
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from luntrex_proxy.control import rights
from luntrex_proxy.store import audit
from luntrex_proxy.store.database import Pool
from tests.console.browsing import Browser
from tests.console.test_pages import Open, ada_in, opened, services_behind
from tests.people import PASSWORD, make_person
from tests.store.test_erasing import key_of, use

__all__ = ["opened"]
NOW = datetime.fromtimestamp(time.time(), UTC)
STATE = "SELECT name, status, objected_at IS NOT NULL FROM person WHERE person_id = $1"


async def test_every_right_by_a_form(opened: Open, database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """Report, copy, correction, restriction, objection, erasure; what was asked for stands below, done by oneself."""
    browser, ada = await ada_in(opened)
    await browser.get("/your-data")
    seen = await browser.send("/your-data/access")
    assert "who may join" not in seen.said
    assert all(words in seen.said for words in ("membership", "what a person may do in an account", "legal obligation"))
    await browser.get("/your-data")
    seen = await browser.send("/your-data/export")
    object.__setattr__(services_behind(browser), "dsn", database_dsn)
    headers = {"Sec-Fetch-Site": "same-origin"}
    form = {"token": seen.hidden("token")}
    async with browser.client.post(f"{browser.url}/rights/download", data=form, headers=headers) as answer:
        with zipfile.ZipFile(io.BytesIO(await answer.read())) as archive:
            assert b"ada@example.org" in archive.read("data/person.json")
    await browser.get("/your-data")
    assert "Your name is changed." in (await browser.send("/your-data/name", name="Ada King")).said
    for verb, on, said in (
        ("restrict", "yes", "Your data is only stored now, and your keys are refused."),
        ("restrict", "no", "Nothing else is done with it"),
        ("object", "yes", "New usage does not lead to your keys."),
        ("object", "no", "From then on new usage counts"),
    ):
        assert said in (await browser.send(f"/your-data/{verb}", on=on)).said
    assert "Say that you want to be erased." in (await browser.send("/your-data/erase", law="gdpr")).said
    assert "Choose one of them." in (await browser.send("/your-data/erase", law="x", sure="yes")).said
    seen = await browser.send("/your-data/erase", law="lgpd", sure="yes")
    assert "You are going to be erased." in seen.said
    assert (NOW.date() + timedelta(days=7)).isoformat() in seen.said
    seen = await browser.send("/your-data/withdraw", reference=seen.hidden("reference"))
    assert "The request is withdrawn." in seen.said
    assert tuple(await database.fetchrow(STATE, ada)) == ("Ada King", "active", False)
    asked = await rights.listed(database, person_id=ada, only_open=False)
    assert {(each.kind.value, each.outcome) for each in asked} >= {
        ("access", "given"), ("export", "link_given"), ("correct", "corrected"), ("restrict", "restricted"),
        ("restrict", "lifted"), ("object", "objected"), ("object", "lifted"), ("erase", "withdrawn"),
    }  # fmt: skip
    acts = [entry for entry in await audit.newest(database, 60) if entry.act.startswith("right.")]
    assert {entry.actor for entry in acts} == {f"console:{ada}"}


async def test_a_note_on_a_record_of_ones_own(opened: Open, database: Pool, tmp_path: Path) -> None:
    """By the request's id; of another's record, or of none, nothing is said but that it is not there."""
    browser, ada = await ada_in(opened)
    await use(database, tmp_path, 1, await key_of(database, "acme", "k", ada), 1)
    used = str(await database.fetchval("SELECT request_id FROM usage"))
    await browser.get("/your-data")
    assert "value of its answer" in (await browser.send("/your-data/note", request="x", note="wrong")).said
    seen = await browser.send("/your-data/note", request=str(uuid.uuid4()), note="<b>not mine</b>")
    assert "no such request among this person" in seen.said
    assert "&lt;b&gt;not mine" in seen.text
    assert "Your words stand beside the record." in (await browser.send("/your-data/note", request=used, note="w")).said
    assert await database.fetchval("SELECT note FROM usage_annotation") == "w"


POSTS = {
    "access": {}, "export": {}, "name": {"name": "Mallory"}, "note": {"request": "x", "note": "x"},
    "restrict": {"on": "yes"}, "object": {"on": "yes"}, "erase": {"sure": "yes", "law": "gdpr"},
}  # fmt: skip


async def _untouched(browser: Browser, ada: uuid.UUID) -> bool:
    pool = services_behind(browser).pool
    asked = await rights.listed(pool, person_id=ada, only_open=False)
    return not asked and tuple(await pool.fetchrow(STATE, ada)) == ("", "active", False)


async def test_no_other_site_and_no_stale_session_does_any_of_it(opened: Open) -> None:
    """A foreign page, a wrong token; a session that was proven too long ago is asked for the password."""
    browser, ada = await ada_in(opened)
    await browser.get("/your-data")
    for verb, fields in POSTS.items():
        for site in ("cross-site", "same-site", None):
            assert (await browser.send(f"/your-data/{verb}", site=site, **fields)).status == 403, verb
            await browser.get("/your-data")
        assert (await browser.send(f"/your-data/{verb}", form_token="x", **fields)).status == 403, verb
        await browser.get("/your-data")
    await services_behind(browser).pool.execute("UPDATE session SET authenticated_at = now() - interval '11 minutes'")
    for verb, fields in POSTS.items():
        await services_behind(browser).pool.execute("DELETE FROM sign_in_failure")
        seen = await browser.send(f"/your-data/{verb}", **fields, proof="wrong")
        assert (seen.status, 'id="proof-wrong"' in seen.text) == (422, True), verb
        await browser.get("/your-data")
    assert await _untouched(browser, ada)


async def test_the_password_is_asked_for_where_nothing_is_lost(opened: Open, database: Pool) -> None:
    """In the form that was sent, and in no other: what was typed stays, and is done once the password is there."""
    browser, ada = await ada_in(opened)
    for verb, fields in POSTS.items():
        await database.execute("DELETE FROM sign_in_failure")
        await database.execute("UPDATE session SET authenticated_at = now() - interval '11 minutes'")
        assert 'name="proof"' not in (await browser.get("/your-data")).text
        seen = await browser.send(f"/your-data/{verb}", **fields)
        assert (seen.status, "Give your password" in seen.said) == (422, True), verb
        (form,) = [each for each in seen.text.split("<form") if 'name="proof"' in each]
        assert f'action="/your-data/{verb}"' in form
        kept = [value for name, value in fields.items() if name in ("name", "request", "note")]
        assert all(f'value="{value}"' in form for value in kept), verb
        assert verb != "erase" or ' value="yes" checked' in form
        assert await _untouched(browser, ada)
    seen = await browser.send("/your-data/name", name="Ada King", proof=PASSWORD)
    assert "Your name is changed." in seen.said
    assert await database.fetchval("SELECT name FROM person WHERE person_id = $1", ada) == "Ada King"


async def test_what_is_wrong_stands_beside_its_field(opened: Open) -> None:
    """Of each form, with what was typed; and nothing is changed."""
    browser, ada = await ada_in(opened)
    await browser.get("/your-data")
    for verb, field, fields in (
        ("name", "name", {"name": "x" * 300}), ("note", "request", {"request": "x", "note": "w"}),
        ("note", "note", {"request": str(uuid.uuid4()), "note": "a\nb"}),
        ("note", "request", {"request": str(uuid.uuid4()), "note": "w"}),
        ("erase", "sure", {"law": "lgpd"}), ("erase", "law", {"law": "x", "sure": "yes"}),
    ):  # fmt: skip
        seen = await browser.send(f"/your-data/{verb}", **fields)
        assert (seen.status, seen.text.count(f'id="{field}-wrong"')) == (422, 1), (verb, field)
        assert all(value in seen.text for value in fields.values() if value not in ("x", "a\nb")), (verb, field)
        assert await _untouched(browser, ada)


async def test_what_an_erasure_meets_is_said_there(opened: Open, database: Pool) -> None:
    """The last owner of an account with others; another's request is not theirs to withdraw."""
    browser, ada = await ada_in(opened)
    other = await make_person(database, "eve@example.org", acme="viewer")
    await browser.get("/your-data")
    seen = await browser.send("/your-data/erase", law="gdpr", sure="yes")
    assert (seen.status, "make another member its owner first" in seen.said) == (422, True)
    theirs = await rights.ask_erasure(database, other, NOW, timedelta(days=7))
    seen = await browser.send("/your-data/withdraw", reference=theirs.reference)
    assert (seen.status, "no request of this reference" in seen.said) == (422, True)
    assert await _untouched(browser, ada)
    assert (await rights.by_reference(database, theirs.reference)).closed_at is None


async def test_what_was_asked_for_last_is_shown_however_much_there_is(opened: Open, database: Pool) -> None:
    """An erasure that can be withdrawn above all."""
    browser, ada = await ada_in(opened)
    await database.execute(
        "INSERT INTO rights_request (reference, kind, state, channel, law, person_id, received_at, closed_at, outcome)"
        " SELECT lpad(translate(n::text, '0189', 'ABCD'), 26, 'A'), 'access', 'done', 'self', 'gdpr', $1,"
        " now() - interval '1 day', now(), 'given' FROM generate_series(1, 1000) n",
        ada,
    )
    made = await rights.ask_erasure(database, ada, datetime.fromtimestamp(time.time(), UTC), timedelta(days=7))
    assert made.reference in (await browser.get("/your-data")).text
