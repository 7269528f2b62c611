"""Settings of an account: what upstreams may do with its requests, which models it may use, its own targets for some.

The policy is its members' to narrow; models, targets, and whether it is stopped, are said by who runs the installation.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.given import Given
from luntrex_proxy.console.pages.menu import ACCOUNT, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.console.pages.paging import number_in
from luntrex_proxy.control import accounts, routes
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.core.accountroutes import AccountRoutes, BadRoutesError, OwnTarget, check, read_target
from luntrex_proxy.core.policy import REGION, Policy, RetentionKind, Training, read_policy
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.core.scope import MODEL

_LINES_MAX: Final = 10_000
_DAYS_MAX: Final = 36_500
_KEPT: Final = (
    ("none", "nothing"),
    ("abuse_monitoring", "for abuse monitoring"),
    ("application_state", "as state of applications, too"),
    ("unknown", "whatever they keep"),
)
_TRAINS: Final = (
    ("never", "never"),
    ("unless_opted_out", "unless somebody opted out"),
    ("yes", "they may"),
    ("unknown", "whatever they do"),
)
_POLICY_WORDS: Final = re.compile(r"(\w+)=([^;]*)")
DONE: Final = {
    "policy_set": "The policy is changed; it holds everywhere within a second.",
    "routes_set": "Models and targets of the account are changed; they hold everywhere within a second.",
}


async def _settings(page: Page) -> Mapping[str, Any]:
    default = page.services.settings_now.policy.bound()
    found = await routes.of_account(page.services.pool, page.account.account_id)
    return {"default": default.words(), "routes": found, "own": sorted(found.targets.items())}


async def _policy_form(page: Page) -> Mapping[str, Any]:
    default, own = page.services.settings_now.policy.bound(), page.account.policy
    said = dict(_POLICY_WORDS.findall((read_policy(own) if own else default).words()))
    kind, _, days = said.get("retention", "unknown").partition(":")
    return {
        "default": default.words(),
        "now": {
            "regions": said.get("region", ""),
            "kept": kind,
            "days": days,
            "trains": said.get("training", "unknown"),
        },
        "kepts": _KEPT,
        "trainings": _TRAINS,
    }


async def _set_policy(page: Page) -> web.StreamResponse:
    words = _policy(page)
    default = page.services.settings_now.policy.bound()
    version = number_in(page.field("version"))
    with page.beside(wider_policy=_widest(default, words), stale="whose", bad_policy="kept"):
        await accounts.set_policy(
            page.services.pool, default, page.caller, page.account.account_id, words, version
        )  # fmt: skip
    return page.go(f"/accounts/{page.account.account_id}/settings?done=policy_set")


def _policy(page: Page) -> str | None:
    """The policy in its words; None: the installation's."""
    given = Given(page)
    whose = given.one_of("whose", ("default", "own"))
    if whose == "default" and not given.wrong:
        return None
    regions = page.field("regions").lower().replace(",", " ").split()
    if not all(REGION.fullmatch(each) for each in regions):
        given.wrong["regions"] = "Regions are words such as eu or us-east, with commas between."
    kind = given.one_of("kept", tuple(word for word, _ in _KEPT))
    days = given.number("days", _DAYS_MAX)
    trains = given.one_of("trains", tuple(word for word, _ in _TRAINS))
    given.check()
    kept = f"{kind}:{days}" if days is not None and kind not in ("none", "unknown") else kind
    region = f"region={','.join(sorted(set(regions)))}; " if regions else ""
    return f"{region}retention={kept}; training={trains}"


def _widest(default: Policy, words: str | None) -> str:
    """Which field of the form goes beyond the default: where to say that it does."""
    if words is None:
        return "whose"
    wanted = read_policy(words)
    free = Policy.of(wanted.regions, RetentionKind.NONE, None, Training.NEVER)
    if not free.is_within(default):
        return "regions"
    return "trains" if wanted.trains > default.trains else "kept"


async def _routes_form(page: Page) -> Mapping[str, Any]:
    _require_operator(page)
    found = await routes.of_account(page.services.pool, page.account.account_id)
    own = [f"{name} = {' '.join(map(_as_words, targets))}" for name, targets in sorted(found.targets.items())]
    return {
        "models": "\n".join(found.models or ()),
        "own": "\n".join(own),
        "upstreams": sorted(condition.name for condition in page.services.upstreams(())),
    }


async def _set_routes(page: Page) -> web.StreamResponse:
    _require_operator(page)
    wanted = _routes(page)
    known = [condition.name for condition in page.services.upstreams(())]
    with page.beside(bad_routes="own"):
        await routes.set_of_account(page.services.pool, page.account.account_id, wanted, known)
    return page.go(f"/accounts/{page.account.account_id}/settings?done=routes_set")


def _routes(page: Page) -> AccountRoutes:
    given = Given(page)
    models = tuple(dict.fromkeys(given.text("models", _LINES_MAX).replace(",", " ").split()))
    if not all(MODEL.fullmatch(each) for each in models):
        given.wrong["models"] = "One on each line, as clients write it, or its beginning and *."
    text = given.text("own", _LINES_MAX)
    try:
        own = _own(text)
        check(AccountRoutes(models or None, own))
    except BadRoutesError as error:
        given.wrong.setdefault("own" if text else "models", str(error))
    given.check()
    return AccountRoutes(models or None, own)


def _own(text: str) -> dict[str, tuple[OwnTarget, ...]]:
    """Targets by model, from lines such as `fast = 3*openai/gpt-5 0*local`. BadRoutesError."""
    own: dict[str, tuple[OwnTarget, ...]] = {}
    for line in filter(None, map(str.strip, text.split("\n"))):
        name, _, targets = line.partition("=")
        model = name.strip()
        if model in own:
            raise BadRoutesError(f"{model} is there twice; put all its targets on one line.")
        own[model] = tuple(read_target(model, words) for words in targets.split())
    return own


def _as_words(target: OwnTarget) -> str:
    return f"{target.weight}*{target.upstream}/{target.model}"


def _require_operator(page: Page) -> None:
    if not page.person.operator:
        raise NotFoundError


_SETTINGS: Final = "/accounts/{account_id}/settings"
_READ: Final = (Permission.ACCOUNT_READ,)
ROUTES: Final = (
    Route(_SETTINGS, "account_settings.html", _settings, None, Access.MEMBER, _READ,
          Menu("Settings", ACCOUNT, 95, covers=("/accounts/{account_id}/labels",))),
    Route(f"{_SETTINGS}/policy", "account_policy.html", _policy_form, _set_policy, Access.MEMBER,
          (Permission.ACCOUNT_WRITE,)),
    Route(f"{_SETTINGS}/models", "account_routes.html", _routes_form, _set_routes, Access.MEMBER, _READ),
)  # fmt: skip
