"""The frame that every page stands in: who may see it, forms that only our own pages send, menu, templates.

To add a page, make three new files and touch no other:
1. A template in console/templates that begins `{% extends "frame.html" %}` and fills the blocks `title` and `main`
   (and `width`: narrow, wide, or full). No style attribute, no script, nothing from elsewhere: the policy of
   sending.py refuses all three. A form in it is `<form method="post" action="...">{{ form_token() }} ... </form>`, its
   fields the macros of fields.html, which keep what was typed and say beside a field what is wrong with it. Numbers,
   money and times go through the filters of wording.py. A chart is the macro of chart.html around a table.
2. A module here with `ROUTES`, one `Route` per address; application.py finds every module that has them:
       Route("/sub-processors", "sub_processors.html", _values)                     for everybody
       Route("/profile/name", "profile.html", _values, _set_name, Access.PERSON)    with a form
       Route("/accounts/{account_id}/keys", "keys.html", _values, access=Access.MEMBER, needs=(Permission.KEYS_READ,),
             menu=Menu("Keys", ACCOUNT, 20))                                        of an account, in the menu
   `values(page)` returns what the template needs. `submit(page)` does what a form asks (`page.field("name")`) and
   returns an answer, mostly `page.go("/profile?done=name")`. A RefusedError in it shows the page again with its
   sentence and what was typed, but for passwords; `with page.beside(name_taken="name"):` puts the sentence of a code
   beside a field, `raise WrongFieldsError(name="Give a name.")` says it for several. Where the sentence names a verb
   of the command line, refusals.py says it for pages. `?done=WORD` shows the sentence
   of `DONE`. Acts inside `submit` are recorded as the person's.
3. A test in tests/console. The tests of all pages (test_pages.py without a script, browser/ in Chromium: axe, policy,
   both widths, light and dark) take it up by themselves; what stands in braces in its path gets its value from
   tests/console/browser/places.py.

Access.ANYONE   whoever comes; `page.who` may be None
Access.PERSON   signed in, else the sign-in page leads back
Access.FRESH    signed in and proved within ten minutes, for dangerous acts, else the page that asks for the password
Access.MEMBER   of the account in the path, with one of the permissions `needs`; or who runs the installation, recorded.
                `page.account` is the account, `page.caller` who asks, for control
Access.PROVEN   the same; its form has `{{ fields.proof() }}`, which asks for the password in the form itself when the
                last time is ten minutes ago, so that nothing that was typed is lost. Elsewhere `proves=True` says it.
                Of several forms on a page each says where it is sent, `{{ fields.proof("/your-data/name") }}`: then
                only the one that was sent asks
Access.OPERATOR who runs the installation; to everybody else there is no such page
"""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Handler

from luntrex_proxy.console import cookies
from luntrex_proxy.console.cookies import cookie_of, is_from_our_pages, set_cookie
from luntrex_proxy.console.pages.page import (
    ALL_ROUTES,
    SAID,
    Access,
    Page,
    Route,
    WrongFieldsError,
    services_of,
)
from luntrex_proxy.console.pages.reading import read_form
from luntrex_proxy.console.pages.refusals import sentence_of
from luntrex_proxy.console.pages.rendering import static_files
from luntrex_proxy.console.pages.sending import answer_with, guard
from luntrex_proxy.control import access, accounts, acts, incidents, signin
from luntrex_proxy.control.access import DeniedError, NotFoundError
from luntrex_proxy.control.acts import RefusedError, StoreError
from luntrex_proxy.control.guessing import ThrottledError
from luntrex_proxy.control.lane import RETRY_AFTER_S
from luntrex_proxy.control.links import DeadLinkError
from luntrex_proxy.control.quiet import BROKEN_PAGE
from luntrex_proxy.control.sessions import is_form_token, signed_in

PROOF: Final = "proof"  # the field that fields.proof() makes
_PROOF_MISSING: Final = "Nothing was done yet: your password is needed first. What you typed is still here."
_ACCOUNT_ID_DIGITS_MAX: Final = 18
_HEADINGS: Final = {
    400: "Not understood",
    403: "Not allowed",
    404: "Nothing is here",
    500: "This failed",
    503: "Not just now",
}
# Which field a refusal is about, by its code, where a page does not say otherwise: those of fields.html.
_BESIDE: Final = {
    "bad_address": "address",
    "bad_name": "name",
    "weak_password": "password",
    "not_affirmed_16": "affirmed_16",
}
Answer = Callable[[Page], Awaitable[web.StreamResponse]]


def add_pages(app: web.Application, routes: Sequence[Route], said: Mapping[str, str]) -> None:
    """Add pages, and the files that they use. `said`: what a page says after a form, by the word in its address."""
    app[ALL_ROUTES], app[SAID] = tuple(routes), dict(said)
    for route in routes:
        app.router.add_get(route.path, _Shown(route).get)
        if route.submit is not None:
            app.router.add_post(route.path, _Shown(route).post)
    app.middlewares.append(_nowhere)
    app[BROKEN_PAGE] = _broken
    for name, file in static_files().items():
        app.router.add_get(f"/static/{name}", answer_with(file))


class _Shown:
    """Answers for one route."""

    def __init__(self, route: Route) -> None:
        self._route = route

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Show it."""
        return await self._answer(request, self._show)

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Do what its form asks."""
        return await self._answer(request, self._take)

    async def _answer(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        try:
            page = await _page_of(request)
        except StoreError as error:
            return _unavailable(Page(request, services_of(request), None, None), error)
        cookie = request.cookies.get(cookies.ACCOUNT)
        try:
            response = await answer(page)
        except DeadLinkError as error:
            response = _error(page, 404, str(error), "This link is dead")
        except NotFoundError as error:
            sentence = str(error) or "There is no page at this address, or it is not yours to see."
            response = _error(page, 404, sentence)
        except DeniedError:
            response = _error(page, 403, "Your role does not allow this.")
        except RefusedError as refused:  # by what the address says: what a form says is answered beside its fields
            response = _error(page, 400, sentence_of(refused))
        except StoreError as error:
            return _unavailable(page, error)
        if page.of_account is not None and len(page.person.members) > 1 and cookie != str(page.account.account_id):
            cookies.set_taste(response, page.services.settings, cookies.ACCOUNT, str(page.account.account_id))
        return guard(response, page.services.settings)

    async def _show(self, page: Page) -> web.StreamResponse:
        elsewhere = _entrance(page, self._route.access)
        if elsewhere is not None:
            return elsewhere
        await self._enter(page)
        return await self._shown(page)

    async def _shown(self, page: Page, status: int = 200) -> web.StreamResponse:
        values = await self._route.values(page)
        if isinstance(values, web.StreamResponse):
            return values
        return page.show(self._route.template, values, status)

    async def _take(self, page: Page) -> web.StreamResponse:
        if not is_from_our_pages(page.request):
            return _error(page, 403, "The form was sent by another site. Open the page and try again.")
        try:
            page.fields = await read_form(page.request, is_known=page.who is not None)
        except ValueError:
            return _error(page, 400, "This form cannot be read. Open the page and try again.")
        # Pages for everybody may have been opened from a letter, without the cookie that comes with their form.
        needs_token = self._route.access is not Access.ANYONE and page.who is not None
        if needs_token and not is_form_token(page.person, page.field("form_token")):
            return _error(page, 403, "This form is of an earlier session. Open the page and try again.")
        elsewhere = _entrance(page, self._route.access)
        if elsewhere is not None:
            return elsewhere
        await self._enter(page)
        return await self._submit(page)

    async def _enter(self, page: Page) -> None:
        """NotFoundError, DeniedError: page or account are not for who asks. Operators leave a trace in accounts."""
        if self._route.access is Access.OPERATOR and not page.person.operator:
            raise NotFoundError
        if not self._route.is_of_account:
            return
        digits = page.place("account_id")
        if not digits.isascii() or not digits.isdigit() or len(digits) > _ACCOUNT_ID_DIGITS_MAX:
            raise NotFoundError
        account_id, caller = int(digits), page.caller
        access.require(caller, account_id, *self._route.needs)
        page.of_account = await accounts.get(page.services.pool, account_id)
        if account_id not in caller.roles and page.request.method == "GET":
            with acts.acting_as(caller.way):
                await acts.record_read(page.services.pool, self._route.path, account_id)

    async def _submit(self, page: Page) -> web.StreamResponse:
        assert self._route.submit is not None  # noqa: S101 -- else there is no POST
        cookie = ""
        try:
            if self._route.asks_for_proof and not page.person.is_fresh:
                cookie = await _proved(page)
            if page.who is None:
                response = await self._route.submit(page)
            else:
                with acts.acting_as(page.caller.way):
                    response = await self._route.submit(page)
        except DeadLinkError:
            raise
        except RefusedError as refused:
            response = await self._refused(page, refused)
        if cookie:
            set_cookie(response, page.services.settings, cookie)
        return response

    async def _refused(self, page: Page, refused: RefusedError) -> web.StreamResponse:
        status, headers = 422, {}
        if not isinstance(refused, WrongFieldsError) and refused.code in _BESIDE:
            refused = WrongFieldsError(**{_BESIDE[refused.code]: sentence_of(refused)})
        page.error = sentence_of(refused)
        if isinstance(refused, WrongFieldsError):
            page.errors = refused.sentences
            page.error = _PROOF_MISSING if set(page.errors) == {PROOF} else page.error
        if isinstance(refused, ThrottledError):
            status, headers = 429, {"Retry-After": str(refused.retry_after_s)}
        response = await self._shown(page, status)
        response.headers.update(headers)
        return response


async def _proved(page: Page) -> str:
    """The session's new cookie, once the password in the form proves who it is. RefusedError."""
    if not page.field(PROOF):
        raise WrongFieldsError(**{PROOF: "Give your password: the last time is more than ten minutes ago."})
    try:
        cookie = await signin.confirm(page.services, page.person, page.field(PROOF), page.network)
    except ThrottledError:
        raise
    except RefusedError as refused:
        raise WrongFieldsError(**{PROOF: str(refused)}) from None
    page.who = dataclasses.replace(page.person, authenticated_age_s=0.0)
    return cookie


async def _page_of(request: web.Request) -> Page:
    services = services_of(request)
    who = await signed_in(services, cookie_of(request))
    if who is not None and who.awaits_code:
        return Page(request, services, None, who)
    banners = () if who is None else await incidents.banners(services.pool, who.person_id)
    return Page(request, services, who, None, banners=banners)


def _entrance(page: Page, wanted: Access) -> web.Response | None:
    """Where somebody has to go first who may not see this yet."""
    if wanted is Access.ANYONE:
        return None
    path = page.request.path if page.request.method == "GET" else _opened_at(page.request.path)
    back = quote(path, safe="/")
    if page.who is None:
        if page.is_fragment:  # a page that is open asks for a piece of itself: it is opened anew, and leads to the door
            return web.Response(status=401, headers={"HX-Refresh": "true"})
        if page.query("entered"):  # signed in a moment ago, and the browser did not bring its cookie
            return page.show("no_cookie.html", {"public_url": page.services.settings.console.public_url}, 400)
        return page.go(f"/sign-in?next={back}")
    if wanted is Access.FRESH and not page.who.is_fresh:
        return page.go(f"/confirm?next={back}")
    return None


def _opened_at(path: str) -> str:
    """The page that a form was on, by where it is sent to."""
    parts = path.split("/")
    return "/".join(parts[:4] if parts[1] == "accounts" else parts[:2])


def _error(page: Page, status: int, sentence: str, heading: str = "") -> web.Response:
    return page.show("error.html", {"heading": heading or _HEADINGS[status], "sentence": sentence}, status)


@web.middleware
async def _nowhere(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say it to people on a page, where there is none; nobody is looked up for it, as anybody can ask for anything."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        if "text/html" not in request.headers.get("Accept", ""):
            raise
    page = Page(request, services_of(request), None, None)
    return guard(_error(page, 404, "There is no page at this address."), page.services.settings)


def _broken(request: web.Request) -> web.StreamResponse:
    """The same of what is our fault; what was done so far nobody knows."""
    page = Page(request, services_of(request), None, None)
    sentence = (
        "Something went wrong here; the log of who runs this says what. Look at what was done before you try again."
    )
    return guard(_error(page, 500, sentence), page.services.settings)


def _unavailable(page: Page, error: StoreError) -> web.StreamResponse:
    response = _error(page, 503, str(error))
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return guard(response, page.services.settings)
