"""What `serve` was asked to do, what it tells the person who asked, and the account, key and model to try it with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from luntrex_proxy.control import links
from luntrex_proxy.control.clients import WELL_KNOWN
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.store import accounts, apikeys, people
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.pepper import Lookup

_FIRST_KEY = "first"


@dataclass(frozen=True, slots=True)
class Plan:
    """What `serve` was asked to do."""

    settings: Settings
    state_directory: Path
    gateway: bool = True
    control: bool = True
    demo: bool = False
    first_account: str = ""  # make this account and a key in it when the account does not exist yet
    reload: Callable[[], Settings] | None = None
    first_link: bool = False  # make a link for the first person while there is nobody: somebody looks at the terminal


@dataclass(frozen=True, slots=True)
class Started:
    """What the person who started `serve` needs to know."""

    gateway_url: str
    control_url: str
    key: str  # shown once: only at the start that made it
    key_id: str
    model: str  # one to try
    dialect: Dialect  # whose API that model speaks
    nobody: bool = False  # can sign in to the console yet
    first_link: str = field(default="", repr=False)  # lets the first person in, once


async def first_key(pool: Pool, lookup: Lookup, account: str) -> tuple[str, str]:
    """With --demo or no configuration file: an account and a key, made once. The key's id, and the key if new."""
    if not account:
        return "", ""
    if await accounts.find(pool, account) is None:
        await accounts.create(pool, account)
    known = await apikeys.current(pool, account)
    if known is not None:
        return known.key_id, ""
    made = await apikeys.create(pool, lookup, account, _FIRST_KEY)
    return made.info.key_id, made.key


async def first_link(services: Services, control_url: str, *, wanted: bool) -> tuple[bool, str]:
    """Whether nobody can sign in yet, and (`wanted`) the link that lets the first person in: for the terminal alone."""
    if not control_url or await people.anybody(services.pool):
        return False, ""
    if not wanted:
        return True, ""
    base = control_url if control_url.startswith("http") else ""
    base = services.settings.console.public_url or base or links.console_url(services.settings)
    return True, links.url_of(base.rstrip("/"), await links.make_first(services))


def example_model(settings: Settings) -> tuple[str, Dialect]:
    """A model to try, and its dialect: a configured name, else a well-known one of a wildcard's provider."""
    dialects = {upstream.name: upstream.dialect for upstream in settings.upstreams}
    models = sorted(settings.models, key=lambda model: "*" in model.name)  # exact names first
    for model in models:
        dialect = dialects[model.targets[0].upstream]
        known = WELL_KNOWN[dialect] if model.name == "*" else "MODEL"
        return model.name.replace("*", known), dialect
    return WELL_KNOWN[Dialect.OPENAI], Dialect.OPENAI
