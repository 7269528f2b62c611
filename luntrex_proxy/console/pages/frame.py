"""The frame that every page stands in: who may see it, forms that only our own pages send, headers, templates.

To add a page:
1. A template in console/templates that begins `{% extends "frame.html" %}` and fills the blocks `title` and `main`.
   No style attribute, no script, nothing from elsewhere: the policy of the frame refuses all three. A form in it is
   `<form method="post" action="...">{{ form_token() }} ... </form>`. Every value is escaped.
2. A file here with `ROUTES`, one `Route` per address:
       Route("/sub-processors", "sub_processors.html", _values)                     for everybody
       Route("/profile/name", "profile.html", _values, _set_name, Access.PERSON)    with a form
   `values(page)` returns what the template needs. `submit(page)` does what a form asks (`page.field("name")`) and
   returns an answer, mostly `page.go("/profile?done=name")`. A RefusedError in it shows the page again with its
   sentence and what was typed, but for passwords. `?done=WORD` shows the sentence of `DONE`.
3. Its ROUTES in application.py's `PAGES`.

Access.ANYONE   whoever comes; `page.who` may be None
Access.PERSON   signed in, else the sign-in page leads back
Access.FRESH    signed in and proved within ten minutes, for dangerous acts, else the page that asks for the password
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import markupsafe
from aiohttp import web

from luntrex_proxy.console.cookies import cookie_of, is_behind_tls, is_from_our_pages
from luntrex_proxy.console.keys import SERVICES
from luntrex_proxy.console.networks import network_of_client
from luntrex_proxy.console.pages.reading import read_form
from luntrex_proxy.console.pages.rendering import static_files, template_of
from luntrex_proxy.control import incidents
from luntrex_proxy.control.access import DeniedError, NotFoundError
from luntrex_proxy.control.acts import RefusedError, StoreUnavailableError
from luntrex_proxy.control.guessing import ThrottledError
from luntrex_proxy.control.lane import RETRY_AFTER_S
from luntrex_proxy.control.links import DeadLinkError
from luntrex_proxy.control.services import Services
from luntrex_proxy.control.sessions import SignedIn, is_form_token, signed_in
from luntrex_proxy.core.incidents import Incident

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_HSTS: Final = {"Strict-Transport-Security": "max-age=63072000"}
# What a page says after a form was taken, by the word in its address.
DONE: Final = {
    "name": "Your name is changed.",
    "address": "A letter is on its way to the new address; the link in it makes the change.",
    "password": "Your password is changed. All other sessions have ended.",
    "ended": "The session has ended.",
    "others": "All other sessions have ended.",
    "removed": "The second factor is removed. All other sessions have ended.",
    "accepted": "You are a member now.",
    "declined": "The invitation is turned down.",
    "noted": "Your words stand beside the record.",
    "restricted": "Your data is only stored from now on.",
    "unrestricted": "The restriction has ended.",
    "objected": "New usage does not lead to your keys any more.",
    "objection_ended": "The objection has ended.",
    "erasure_asked": "You are going to be erased. How it stands is below.",
    "withdrawn": "The request is withdrawn.",
    "read": "Thank you. That you have read it is noted.",
}


class Access(Enum):
    """Who may see a page."""

    ANYONE = "anyone"
    PERSON = "person"
    FRESH = "fresh"


@dataclass(slots=True)
class Page:
    """One request for a page."""

    request: web.Request
    services: Services
    who: SignedIn | None  # who is signed in
    half: SignedIn | None  # whose password was right and whose code is awaited
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)  # of the form that was sent
    error: str = ""
    banners: Sequence[Incident] = ()  # incidents that the person has not read of yet

    @property
    def person(self) -> SignedIn:
        """Who is signed in, on pages that ask for that."""
        if self.who is None:
            raise DeniedError
        return self.who

    @property
    def network(self) -> str:
        """Where the request comes from, as much of it as may be kept."""
        return network_of_client(self.request)

    def field(self, name: str) -> str:
        """What stands in a field of the form; "" when it is not there."""
        return self.fields.get(name, "")

    def query(self, name: str) -> str:
        """What stands in the address."""
        return self.request.query.get(name, "")

    def next_path(self) -> str:
        """The page of ours to go on to: never another site."""
        return local_path(self.field("next") or self.query("next"))

    def go(self, path: str) -> web.Response:
        """On to another page of ours."""
        return web.Response(status=303, headers={"Location": path})

    def show(self, template: str, values: Mapping[str, Any] | None = None, status: int = 200) -> web.Response:
        """A page from its template."""
        known = {
            "who": self.who,
            "banners": self.banners if self.who else (),
            "error": self.error,
            "done": DONE.get(self.query("done"), ""),
            "typed": self.field,
            "form_token": lambda: _form_token(self.who or self.half),
            "next": self.next_path(),
            "sign_up": self.services.settings.console.sign_up,
            "sends_mail": self.services.sends_mail,
        }
        text = template_of(template).render(known | dict(values or {}))
        return web.Response(status=status, text=text, content_type="text/html", charset="utf-8")


Values = Callable[[Page], Awaitable[Mapping[str, Any]]]
Submit = Callable[[Page], Awaitable[web.StreamResponse]]


async def no_values(_page: Page) -> Mapping[str, Any]:
    """For templates that need nothing."""
    return {}


@dataclass(frozen=True, slots=True)
class Route:
    """A page at its address. Without `values` it is a form's target only; without `submit` it takes no form."""

    path: str
    template: str
    values: Values = no_values
    submit: Submit | None = None
    access: Access = Access.ANYONE


def add_pages(app: web.Application, routes: tuple[Route, ...]) -> None:
    """Add pages, and the files that they use."""
    for route in routes:
        app.router.add_get(route.path, _Shown(route).get)
        if route.submit is not None:
            app.router.add_post(route.path, _Shown(route).post)
    for name, (body, kind) in static_files().items():
        app.router.add_get(f"/static/{name}", _file(body, kind))


class _Shown:
    """Answers for one route."""

    def __init__(self, route: Route) -> None:
        self._route = route

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Show it."""
        try:
            page = await _page_of(request)
        except StoreUnavailableError as error:
            return _unavailable(Page(request, request.app[SERVICES], None, None), error)
        return await self._guarded(page, self._show)

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Do what its form asks."""
        try:
            page = await _page_of(request)
        except StoreUnavailableError as error:
            return _unavailable(Page(request, request.app[SERVICES], None, None), error)
        if not is_from_our_pages(request):
            return _finished(page, _error(page, 403, "The form was sent by another site. Open the page and try again."))
        try:
            page.fields = await read_form(request)
        except ValueError:
            return _finished(page, _error(page, 400, "This form cannot be read. Open the page and try again."))
        # Pages for everybody may have been opened from a letter, without the cookie that comes with their form.
        needs_token = self._route.access is not Access.ANYONE and page.who is not None
        if needs_token and not is_form_token(page.person, page.field("form_token")):
            return _finished(
                page, _error(page, 403, "This form is of an earlier session. Open the page and try again.")
            )
        return await self._guarded(page, self._submit)

    async def _guarded(self, page: Page, answer: Submit) -> web.StreamResponse:
        elsewhere = _entrance(page, self._route.access)
        if elsewhere is not None:
            return _finished(page, elsewhere)
        try:
            return _finished(page, await answer(page))
        except (NotFoundError, DeadLinkError) as error:
            sentence = str(error) or "There is no page at this address, or it is not yours to see."
            return _finished(page, _error(page, 404, sentence))
        except DeniedError:
            return _finished(page, _error(page, 403, "Your role does not allow this."))
        except StoreUnavailableError as error:
            return _unavailable(page, error)

    async def _show(self, page: Page) -> web.Response:
        return page.show(self._route.template, await self._route.values(page))

    async def _submit(self, page: Page) -> web.StreamResponse:
        assert self._route.submit is not None  # noqa: S101 -- else there is no POST
        try:
            return await self._route.submit(page)
        except DeadLinkError:
            raise
        except RefusedError as refused:
            page.error = str(refused)
            status, headers = 422, {}
            if isinstance(refused, ThrottledError):
                status, headers = 429, {"Retry-After": str(refused.retry_after_s)}
            response = page.show(self._route.template, await self._route.values(page), status)
            response.headers.update(headers)
            return response


def local_path(path: str) -> str:
    """A path of ours, or else the first page: an address that somebody sent leads nowhere else."""
    inside = path.startswith("/") and not path.startswith("//") and len(path) < 200
    return path if inside and all(c.isascii() and (c.isalnum() or c in "/_-") for c in path) else "/"


async def _page_of(request: web.Request) -> Page:
    services = request.app[SERVICES]
    who = await signed_in(services, cookie_of(request))
    if who is not None and who.awaits_code:
        return Page(request, services, None, who)
    banners = () if who is None else await incidents.banners(services.pool, who.person_id)
    return Page(request, services, who, None, banners=banners)


def _entrance(page: Page, access: Access) -> web.Response | None:
    """Where somebody has to go first who may not see this yet."""
    if access is Access.ANYONE:
        return None
    path = page.request.path if page.request.method == "GET" else f"/{page.request.path.split('/')[1]}"
    back = quote(path, safe="/")
    if page.who is None:
        if page.query("entered"):  # signed in a moment ago, and the browser did not bring its cookie
            return page.show("no_cookie.html", {"public_url": page.services.settings.console.public_url}, 400)
        return page.go(f"/sign-in?next={back}")
    if access is Access.FRESH and not page.who.is_fresh:
        return page.go(f"/confirm?next={back}")
    return None


def _error(page: Page, status: int, sentence: str) -> web.Response:
    return page.show("error.html", {"heading": HTTPStatus(status).phrase, "sentence": sentence}, status)


def _unavailable(page: Page, error: StoreUnavailableError) -> web.StreamResponse:
    response = _error(page, 503, str(error))
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return _finished(page, response)


def _finished(page: Page, response: web.StreamResponse) -> web.StreamResponse:
    headers = _HEADERS | (_HSTS if is_behind_tls(page.services.settings) else {})
    for name, value in headers.items():
        response.headers.setdefault(name, value)
    return response


def _form_token(who: SignedIn | None) -> markupsafe.Markup:
    if who is None:
        return markupsafe.Markup("")
    return markupsafe.Markup('<input type="hidden" name="form_token" value="{}">').format(who.form_token)


def _file(body: bytes, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        # Its address has a hash of it, so it never changes.
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return web.Response(body=body, content_type=kind, headers=headers)

    return answer
