"""Shared by the tests of the control plane: a live state to steer, and a running plane."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import pytest

from luntrex_proxy.control.application import ControlPlane, start_control
from luntrex_proxy.core.health import Condition, Health, HealthRules
from luntrex_proxy.observe.metrics import Metrics
from tests.postgres import database, database_dsn, postgres_dsn

__all__ = ["database", "database_dsn", "postgres_dsn"]


class SteeredState:
    """A LiveState that the test sets."""

    def __init__(self) -> None:
        self.ready = True
        self.named: dict[str, bool] = {"keys": True, "database": True}

    def upstreams(self, models: Collection[str]) -> Sequence[Condition]:
        health = Health(HealthRules())
        health.pause("m", 9, 0)
        return [health.condition("a", 3, 1, models)]

    def checks(self) -> Mapping[str, bool]:
        return self.named


@pytest.fixture
def live() -> SteeredState:
    return SteeredState()


@pytest.fixture
async def plane(live: SteeredState) -> AsyncIterator[ControlPlane]:
    """A control plane on a loopback port."""
    running = await start_control(("127.0.0.1:0",), live, Metrics(version="1.2.3"))
    yield running
    await running.stop()
