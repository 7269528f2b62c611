"""The register of sub-processors for who runs the installation: its places, entries with their versions, and forms."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.given import Given
from luntrex_proxy.console.pages.menu import OPERATOR, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.control import registry
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.registry import BadEntryError, Entry
from luntrex_proxy.core.registry import SUBPROCESSOR, in_force

_TEXT_MAX: Final = 500
_HOSTS_MAX: Final = 50
_TEXTS: Final = ("purpose", "region", "kept", "agreement", "commitments", "evidence")
_TRAININGS: Final = ("never", "unless_opted_out", "yes")
DONE: Final = {
    "entry_set": "The entry is in the register. Below stands from when it holds.",
    "entry_retired": "Nothing is sent there any more, within seconds. The entry stays in the register.",
}


async def _places(page: Page) -> Mapping[str, Any]:
    found = await registry.places(page.services.pool, page.services.settings_now, now())
    return {"found": found, "entered": await registry.names(page.services.pool)}


async def _one(page: Page) -> Mapping[str, Any]:
    found = await _versions(page)
    holding = in_force(found, now())
    return {
        "name": found[-1].name,
        "holding": holding,
        "coming": [each for each in found if each.effective_at > now()],
        "versions": [(each, _differences(before, each)) for before, each in zip([None, *found], found, strict=False)],
        "now": now(),
    }


async def _new(page: Page) -> Mapping[str, Any]:
    place = page.query("host")[:_TEXT_MAX]
    host = place.partition(":")[0] if place.count(":") == 1 else place  # without its port
    return {"entry": None, "host": host, "missing": ()}


async def _form(page: Page) -> Mapping[str, Any]:
    newest = (await _versions(page))[-1]
    return {"entry": newest, "host": "", "missing": newest.missing()}


async def _add(page: Page) -> web.StreamResponse:
    name = page.field("name").strip().lower()
    if not SUBPROCESSOR.fullmatch(name):
        raise WrongFieldsError(name="A name has small letters, digits, dots, dashes or underscores, 63 at most.")
    with page.beside(name_taken="name"):
        return await _enter(page, name, None)


async def _change(page: Page) -> web.StreamResponse:
    newest = (await _versions(page))[-1]
    with page.beside(unchanged="hosts"):
        return await _enter(page, newest.name, newest)


async def _enter(page: Page, name: str, before: Entry | None) -> web.StreamResponse:
    wanted = _wanted(page)
    changes = {word: value for word, value in wanted.items() if value != (getattr(before, word) if before else "")}
    if before is not None and not changes and not before.retired:
        raise WrongFieldsError(hosts="The entry says all of it already.")
    in_use = page.field("in_use") == "yes"
    try:
        await registry.set_entry(
            page.services.pool, name, changes or {"hosts": wanted["hosts"]}, now().date(), in_use=in_use,
            is_known=before is not None,
        )  # fmt: skip
    except BadEntryError as error:
        raise WrongFieldsError(**{error.field: f"This {error}."}) from None
    return page.go(f"/registry/entries/{name}?done=entry_set")


async def _retire(page: Page) -> web.StreamResponse:
    name = (await _versions(page))[-1].name
    if page.field("sure") != "yes":
        raise WrongFieldsError(sure="Say that nothing shall be sent there any more.")
    with page.beside(unchanged="sure"):
        await registry.retire(page.services.pool, name)
    return page.go(f"/registry/entries/{name}?done=entry_retired")


def _wanted(page: Page) -> dict[str, Any]:
    """What the form says. Days that are left out stay as they were: there is no way to forget one."""
    given = Given(page)
    wanted: dict[str, Any] = {name: given.line(name, _TEXT_MAX) for name in _TEXTS}
    hosts = tuple(sorted({host.lower() for host in given.text("hosts", 10_000, needed=True).replace(",", " ").split()}))
    if len(hosts) > _HOSTS_MAX:
        given.wrong["hosts"] = f"Give {_HOSTS_MAX} hosts at most."
    training = page.field("training")
    if training and training not in _TRAININGS:
        given.wrong["training"] = "Choose one of them."
    days = {name: given.day(name) for name in ("agreed_on", "next_review")}
    given.check()
    wanted |= {"hosts": hosts, "training": training}
    if not wanted["kept"]:
        del wanted["kept"]  # not said, which no word says
    return wanted | {name: day for name, day in days.items() if day is not None}


async def _versions(page: Page) -> list[Entry]:
    name = page.place("subprocessor")
    if not SUBPROCESSOR.fullmatch(name):
        raise NotFoundError
    return await registry.versions(page.services.pool, name)


def _differences(before: Entry | None, after: Entry) -> list[str]:
    """What a version says otherwise than the one before, by the words of the form."""
    if after.retired:
        return ["retired"]
    if before is None:
        return ["first entry"]
    return [
        name.replace("_", " ").replace("kept", "retention")
        for name in ("hosts", *_TEXTS, "training", "agreed_on", "next_review")
        if getattr(before, name) != getattr(after, name)
    ] or ["in use again"]


_ENTRY: Final = "/registry/entries/{subprocessor}"
ROUTES: Final = (
    Route("/registry", "registry.html", _places, None, Access.OPERATOR, menu=Menu("Registry", OPERATOR, 50)),
    Route("/registry/new", "registry_edit.html", _new, _add, Access.OPERATOR),
    Route(_ENTRY, "registry_entry.html", _one, None, Access.OPERATOR),
    Route(f"{_ENTRY}/change", "registry_edit.html", _form, _change, Access.OPERATOR),
    Route(f"{_ENTRY}/retire", "registry_retire.html", _one, _retire, Access.OPERATOR),
)
