"""What the console's pages and API work with, handed to them once at the start."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from luntrex_proxy.settings.model import Settings
from luntrex_proxy.store.apikeys import BCRYPT_COST
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.pepper import Lookup


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the process that people's decisions reach."""

    settings: Settings
    pool: Pool  # around a pooler: sessions of the database are at hand
    lookup: Lookup
    state_directory: Path
    key_bcrypt_cost: int = BCRYPT_COST
    upstream_health: Callable[[], Mapping[str, float]] = dict  # by name: 1 asked as usual, 0 not at all, or between
