"""What the console's pages and API work with, handed to them once at the start."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from luntrex_proxy.control.passwords import BCRYPT_COST as PASSWORD_BCRYPT_COST
from luntrex_proxy.control.passwords import Passwords, load_blocklist
from luntrex_proxy.core.catalogue import Entry
from luntrex_proxy.core.explanation import Explanation, Question
from luntrex_proxy.core.health import Condition
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.store.apikeys import BCRYPT_COST
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.pepper import Lookup
from luntrex_proxy.store.sealing import Known, Sealer, open_sealer
from luntrex_proxy.store.wrappings import Wrappings


def unexplained(question: Question) -> Explanation:
    """Where no gateway is there to ask."""
    return Explanation(question.caller.account_id, question.caller.key_id, question.model, "")


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the process that people's decisions reach."""

    settings: Settings  # those of the start
    pool: Pool  # around a pooler: sessions of the database are at hand
    lookup: Lookup
    state_directory: Path
    key_bcrypt_cost: int = BCRYPT_COST
    # Those of now, and which of these models are paused there.
    upstreams: Callable[[Collection[str]], Sequence[Condition]] = lambda _models: ()
    models: Callable[[], Sequence[Entry]] = tuple  # those of the configuration now
    reloaded: Callable[[], Settings | None] = lambda: None  # the settings of the last reload
    explain: Callable[[Question], Explanation] = unexplained
    password_bcrypt_cost: int = PASSWORD_BCRYPT_COST
    dsn: str = field(default="", repr=False)  # of the pool, for a process of its own
    data_keys: Known = field(default_factory=dict, repr=False)  # those open at the start: who wraps them may be away
    passwords: Passwords = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """StoreError: the list of blocked passwords cannot be read."""
        blocked = load_blocklist(self.settings.console.blocked_passwords_file)
        object.__setattr__(self, "passwords", Passwords(self.lookup, blocked, cost=self.password_bcrypt_cost))

    @property
    def settings_now(self) -> Settings:
        """Those that requests are served by: upstreams, models, prices and policy can change while all this runs."""
        return self.reloaded() or self.settings

    @property
    def sends_mail(self) -> bool:
        """Whether letters go out; else links are shown to whom made them."""
        return self.settings.mail.host is not None

    async def sealer(self) -> Sealer:
        """What seals secrets in the database now; data keys may have been rotated since the last time."""
        wrappings = Wrappings(self.pool, self.state_directory, self.settings.sealing)
        return await open_sealer(self.pool, wrappings, self.data_keys)
