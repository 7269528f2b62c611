"""`serve --demo`: the simulated upstream, and the configuration that points at it."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from luntrex_proxy.settings.model import Settings
from luntrex_proxy.simulator.server import ANTHROPIC_MODELS, OPENAI_MODELS, start_simulator


@contextlib.asynccontextmanager
async def simulated(settings: Settings) -> AsyncIterator[Settings]:
    """The same settings with the simulated upstream's models instead of their own, while it runs."""
    simulator = await start_simulator()
    privacy = {"api_key": simulator.secret, "region": "local", "retention": "none", "training": "never"}
    upstreams: list[dict[str, Any]] = [
        {"name": f"demo-{dialect}", "dialect": dialect, "base_url": simulator.url, **privacy}
        for dialect in ("openai", "anthropic")
    ]
    models = [
        {"name": name, "targets": [{"upstream": f"demo-{dialect}", "model": name}], "price": _PRICE}
        for dialect, names in (("openai", OPENAI_MODELS), ("anthropic", ANTHROPIC_MODELS))
        for name in names
    ]
    made = Settings.model_validate({"upstreams": upstreams, "models": models})
    try:
        yield settings.model_copy(update={"upstreams": made.upstreams, "models": made.models})
    finally:
        await simulator.stop()


# Dollars per million tokens, so that the demo has costs to show.
_PRICE = {"input": "0.15", "cached_input": "0.075", "output": "0.60"}
