"""One request for a page, and the routes that pages are found by. How to add one: frame.py."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import markupsafe
from aiohttp import web

from luntrex_proxy.console import cookies
from luntrex_proxy.console.keys import SERVICES
from luntrex_proxy.console.networks import network_of_client
from luntrex_proxy.console.pages.menu import Menu, Section, sections
from luntrex_proxy.console.pages.refusals import sentence_of
from luntrex_proxy.console.pages.rendering import template_of
from luntrex_proxy.control.access import DeniedError, Person
from luntrex_proxy.control.accounts import Account
from luntrex_proxy.control.acts import RefusedError
from luntrex_proxy.control.services import Services
from luntrex_proxy.control.sessions import SignedIn
from luntrex_proxy.core.incidents import Incident
from luntrex_proxy.core.roles import Permission

THEMES: Final = ("light", "dark")  # else as the system has it
_PATH_CHARACTERS_MAX: Final = 200


class Access(Enum):
    """Who may see a page."""

    ANYONE = "anyone"
    PERSON = "person"
    FRESH = "fresh"
    MEMBER = "member"
    PROVEN = "proven"
    OPERATOR = "operator"


class WrongFieldsError(RefusedError):
    """What is wrong with fields of a form, by their names."""

    def __init__(self, **sentences: str) -> None:
        super().__init__("Nothing was changed: something in the form has to be put right first.")
        self.sentences = sentences


@dataclass(slots=True)
class Page:
    """One request for a page."""

    request: web.Request
    services: Services
    who: SignedIn | None  # who is signed in
    half: SignedIn | None  # whose password was right and whose code is awaited
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)  # of the form that was sent
    error: str = ""
    errors: dict[str, str] = field(default_factory=dict)  # by field
    banners: Sequence[Incident] = ()  # incidents that the person has not read of yet
    of_account: Account | None = None

    @property
    def person(self) -> SignedIn:
        """Who is signed in, on pages that ask for that."""
        if self.who is None:
            raise DeniedError
        return self.who

    @property
    def caller(self) -> Person:
        """The same, as control knows who asks."""
        who = self.person
        roles = {member.account_id: member.role for member in who.members}
        return Person(
            str(who.person_id), who.operator, roles, session_id=str(who.session_id), fresh=who.is_fresh
        )  # fmt: skip

    @property
    def account(self) -> Account:
        """Whose page it is, on pages of an account."""
        if self.of_account is None:
            raise DeniedError
        return self.of_account

    @property
    def network(self) -> str:
        """Where the request comes from, as much of it as may be kept."""
        return network_of_client(self.request)

    @property
    def is_fragment(self) -> bool:
        """Whether a script asks for a piece of the page that it has."""
        return self.request.headers.get("HX-Request") == "true"

    def place(self, name: str) -> str:
        """What stands in the path where the route has {name}."""
        return self.request.match_info[name]

    def field(self, name: str) -> str:
        """What stands in a field of the form; "" when it is not there."""
        return self.fields.get(name, "")

    def query(self, name: str) -> str:
        """What stands in the address."""
        return self.request.query.get(name, "")

    def next_path(self) -> str:
        """The page of ours to go on to: never another site."""
        return local_path(self.field("next") or self.query("next"))

    def may(self, permission: Permission) -> bool:
        """Whether who asks has the permission in the account of the page."""
        return self.caller.may(self.account.account_id, permission)

    @contextlib.contextmanager
    def beside(self, **fields: str) -> Iterator[None]:
        """Have the sentence of a RefusedError stand beside the field that its code (the name here) is of."""
        try:
            yield
        except WrongFieldsError:
            raise
        except RefusedError as refused:
            if refused.code in fields:
                raise WrongFieldsError(**{fields[refused.code]: sentence_of(refused)}) from None
            raise

    def go(self, path: str) -> web.Response:
        """On to another page of ours."""
        return web.Response(status=303, headers={"Location": path})

    def show(self, template: str, values: Mapping[str, Any] | None = None, status: int = 200) -> web.Response:
        """A page from its template."""
        known = {
            "who": self.who,
            "account": self.of_account,
            "zone": self.of_account.time_zone if self.of_account else "UTC",
            "may": self.may,
            "banners": self.banners if self.who else (),
            "error": self.error,
            "errors": self.errors,
            "done": self.request.app[SAID].get(self.query("done"), ""),
            "typed": self.field,
            "sent": bool(self.fields),
            "form_token": lambda: _form_token(self.who or self.half),
            "next": self.next_path(),
            "sign_up": self.services.settings.console.sign_up,
            "sends_mail": self.services.sends_mail,
            "theme": self._theme(),
            "menu": self._menu() if self.who else (),
            "here": self.request.path,
            "at_hand": self.account_at_hand() if self.who else None,
        }
        text = template_of(template).render(known | dict(values or {}))
        return web.Response(status=status, text=text, content_type="text/html", charset="utf-8")

    def _theme(self) -> str:
        wanted = self.request.cookies.get(cookies.THEME, "")
        return wanted if wanted in THEMES else ""

    def _menu(self) -> list[Section]:
        routes = [(route.menu, route.path, route.needs) for route in self.request.app[ALL_ROUTES] if route.menu]
        return sections(routes, self.caller, self.account_at_hand(), self.request.path)

    def account_at_hand(self) -> int | None:
        """The account that the menu leads into: the page's own, else the one looked at last, else the first."""
        if self.of_account is not None:
            return self.of_account.account_id
        own = [member.account_id for member in self.person.members]
        last = self.request.cookies.get(cookies.ACCOUNT, "")
        return next((each for each in own if str(each) == last), own[0] if own else None)


Values = Callable[[Page], Awaitable[Mapping[str, Any]]]
Submit = Callable[[Page], Awaitable[web.StreamResponse]]


async def no_values(_page: Page) -> Mapping[str, Any]:
    """For templates that need nothing."""
    return {}


@dataclass(frozen=True, slots=True)
class Route:
    """A page at its address; what stands in braces in it is digits or letters. Without `submit` it takes no form.

    `values` may return an answer of its own instead, such as a file.
    """

    path: str
    template: str
    values: Callable[[Page], Awaitable[Mapping[str, Any] | web.StreamResponse]] = no_values
    submit: Submit | None = None
    access: Access = Access.ANYONE
    needs: tuple[Permission, ...] = ()  # one of these, in the account of the path
    menu: Menu | None = None
    proves: bool = False  # as Access.PROVEN does, with another access

    @property
    def asks_for_proof(self) -> bool:
        """Whether its form counts only when who sends it has proved within ten minutes to be it."""
        return self.proves or self.access is Access.PROVEN

    @property
    def is_of_account(self) -> bool:
        """Whether its path names an account."""
        return self.access in (Access.MEMBER, Access.PROVEN)


ALL_ROUTES: Final = web.AppKey("page_routes", tuple[Route, ...])
SAID: Final = web.AppKey("page_done", dict[str, str])


def services_of(request: web.Request) -> Services:
    """What the pages work with."""
    return request.app[SERVICES]


def local_path(path: str) -> str:
    """A path of ours, or else the first page: an address that somebody sent leads nowhere else."""
    inside = path.startswith("/") and not path.startswith("//") and len(path) < _PATH_CHARACTERS_MAX
    return path if inside and all(c.isascii() and (c.isalnum() or c in "/_-") for c in path) else "/"


def _form_token(who: SignedIn | None) -> markupsafe.Markup:
    if who is None:
        return markupsafe.Markup("")
    return markupsafe.Markup('<input type="hidden" name="form_token" value="{}">').format(who.form_token)
