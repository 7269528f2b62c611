"""A LiteLLM configuration read as one of ours, and the list of all in it that has no equivalent here.

Whatever is not taken out of the data is listed: nothing is dropped unsaid, also of keys that nobody knows today.
What its words are called here stands in `litellmwords.py`.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation, Overflow
from itertools import takewhile
from typing import Any, Final

from pydantic import ValidationError

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.settings.complaints import explain
from luntrex_proxy.settings.contradictions import contradictions
from luntrex_proxy.settings.litellmrouting import settle_weights, take_fallbacks, take_weight
from luntrex_proxy.settings.litellmwords import (
    BARE,
    BESIDE_V1,
    ENVIRONMENT,
    KNOWN,
    OTHERWISE,
    PRICES,
    SERVERS,
    STRATEGIES,
    TIERS,
    WHY,
)
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.providers import Provider
from luntrex_proxy.settings.secrets import Surroundings
from luntrex_proxy.settings.section import Loc, show_loc

_SETTING: Final = re.compile(r"[a-z][a-z0-9_]{0,47}")  # a key that may be named; another could be a secret misplaced
_CONNECTIONS_MAX: Final = 1_000_000
_ANYWHERE: Final = Surroundings({}, strict=False)  # the variables are those of another machine, perhaps


@dataclass(frozen=True, slots=True)
class Left:
    """One thing that was not taken over, and why or what to do instead. Never a value."""

    key: str
    why: str


@dataclass(slots=True)
class Imported:
    """Our settings, as plain data that loads, and what is left of the other's."""

    upstreams: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)


def import_litellm(data: dict[str, Any]) -> Imported:
    """Read a LiteLLM configuration. No model in the result: there was none that could be served."""
    return _Reading(data).result


class _Reading:
    """One file on its way. What was understood is removed from (a copy of) the data; the rest is listed at the end."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.result = Imported()
        self._rest = _copied(data)
        self._variables: dict[str, str] = {}  # key that stood in the file -> variable to put it in
        router = _mapping(self._rest.get("router_settings"))
        self._strategy = self._read_strategy(router)
        self._health = self._read_health(router)
        self._timeout_s = self._read_timeout(_mapping(self._rest.get("litellm_settings")), "request_timeout")
        self._timeout_s = self._read_timeout(router, "timeout") or self._timeout_s
        deployments = self._rest.get("model_list")
        if isinstance(deployments, list):
            del self._rest["model_list"]
        for index, deployment in enumerate(deployments if isinstance(deployments, list) else ()):
            self._read_deployment(deployment, ("model_list", index))
        settle_weights(self.result.models)
        dialects = {upstream["name"]: upstream["dialect"] for upstream in self.result.upstreams}
        for word, section in (
            ("router_settings", router),
            ("litellm_settings", _mapping(self._rest.get("litellm_settings"))),
        ):
            for key in take_fallbacks(self.result.models, dialects, section):
                self._leave((word, key), "a model has one price here: what its fallbacks serve costs that too")
        self._read_aliases(router)
        for loc in _leaves(self._rest, ()):
            self._leave(loc, _why(loc))

    def _leave(self, loc: Loc, why: str) -> None:
        named = takewhile(lambda part: isinstance(part, int) or _SETTING.fullmatch(str(part)), loc)
        self.result.left.append(Left(show_loc(tuple(named)), why))

    # What holds for all

    def _read_strategy(self, router: dict[str, Any]) -> str:
        strategy = router.get("routing_strategy")
        if isinstance(strategy, str) and strategy in STRATEGIES:
            del router["routing_strategy"]
            return STRATEGIES[strategy]
        return "weighted"

    def _read_health(self, router: dict[str, Any]) -> dict[str, Any]:
        health: dict[str, Any] = {}
        if _is_number(router.get("allowed_fails")) and router["allowed_fails"] >= 0:
            health["failures"] = int(router.pop("allowed_fails")) + 1  # it allows so many; ours is the one too many
        if _is_number(router.get("cooldown_time")) and router["cooldown_time"] > 0:
            health["open_s"] = router.pop("cooldown_time")
        return health

    def _read_timeout(self, settings: dict[str, Any], key: str) -> float | None:
        # Theirs is for the whole answer; here an answer may take as long as it goes on coming.
        return settings.pop(key) if _is_number(settings.get(key)) and settings[key] > 0 else None

    # One deployment: an upstream, and a target of a model

    def _read_deployment(self, deployment: Any, loc: Loc) -> None:
        name = deployment.pop("model_name", None) if isinstance(deployment, dict) else None
        params = _mapping(deployment.get("litellm_params")) if isinstance(deployment, dict) else {}
        written = params.pop("model", None)
        if not isinstance(name, str) or not isinstance(written, str):
            self._leave(loc, "needs model_name and litellm_params.model")
            return
        server, why = self._server_of(params, written, loc)
        if server is None:
            self._leave(loc, why)
            return
        model, upstream = server
        target = {"upstream": upstream["name"], "model": model}
        entry: dict[str, Any] = {"name": name, "targets": [target]}
        if complaint := _wrong([upstream], [entry]):
            self._leave(loc, f"would not do here: {complaint}")
            return
        if (weight := take_weight(params)) is not None:
            target["weight"] = weight
        self._read_price(upstream, entry, params, _mapping(deployment.get("model_info")))
        target["upstream"] = self._named(upstream)
        self._enter(entry, loc)
        for below in _leaves(deployment, loc):
            self._leave(below, _why(below[2:]))

    def _server_of(
        self, params: dict[str, Any], written: str, loc: Loc
    ) -> tuple[tuple[str, dict[str, Any]] | None, str]:
        """The model's name there and the upstream; or why there is none."""
        provider, model = self._provider_of(params, written)
        known = KNOWN.get(provider)
        base_url = params.pop("api_base", params.pop("base_url", None)) or (known.base_url if known else None)
        if provider == "azure":
            return None, "Azure has addresses by deployment: use its /openai/v1 address as base_url of an upstream"
        if known is None and provider not in SERVERS:
            return None, "is of a provider whose API is none of OpenAI's or Anthropic's kind, or that is not known here"
        if not isinstance(base_url, str) or base_url.startswith(ENVIRONMENT):
            return None, "needs the address itself: write it into api_base"
        if provider in BESIDE_V1 and not base_url.rstrip("/").endswith("/v1"):
            base_url = base_url.rstrip("/") + "/v1"
        upstream: dict[str, Any] = {
            "name": known.name if known else provider.replace("_", "-"),
            "dialect": (known.dialect if known else Dialect.OPENAI).value,
            "base_url": base_url,
            "api_key": self._key(params, known, loc),
        }
        if known is not None and not known.inject_usage:
            upstream["inject_usage"] = False
        if isinstance(region := params.get("region_name"), str):
            upstream["region"] = region
            del params["region_name"]
        if timeout_s := self._read_timeout(params, "timeout") or self._timeout_s:
            upstream["timeouts"] = {"first_byte_s": timeout_s}
        if isinstance(most := params.get("max_parallel_requests"), int) and 1 <= most <= _CONNECTIONS_MAX:
            upstream["max_connections"] = int(most)
            del params["max_parallel_requests"]
        if self._health:
            upstream["health"] = self._health
        return (model, upstream), ""

    def _provider_of(self, params: dict[str, Any], written: str) -> tuple[str, str]:
        named = params.pop("custom_llm_provider", None)
        before, slash, after = written.partition("/")
        if isinstance(named, str):
            return named, after if slash and before == named else written
        if slash:
            return before, after
        found = (provider for start, provider in BARE.items() if written.startswith(start))
        return next(found, "openai" if "api_base" in params else ""), written

    def _key(self, params: dict[str, Any], known: Provider | None, loc: Loc) -> dict[str, str] | None:
        key = params.pop("api_key", None)
        if isinstance(key, str) and key.startswith(ENVIRONMENT):
            return {"env": key.removeprefix(ENVIRONMENT)}
        if not isinstance(key, str) or key.lower() in {"", "none"}:
            return {"env": known.key_variable} if known else None
        # It stands in the file: it is not written down a second time.
        if key not in self._variables:
            self._variables[key] = f"IMPORTED_API_KEY_{len(self._variables) + 1}"
            why = f"stands in the file itself: put it into the environment as {self._variables[key]}"
            self._leave((*loc, "litellm_params", "api_key"), why)
        return {"env": self._variables[key]}

    def _named(self, upstream: dict[str, Any]) -> str:
        """The name of this upstream, which is entered unless an equal one is there."""
        names = {each["name"] for each in self.result.upstreams}
        wanted = upstream["name"]
        for each in self.result.upstreams:
            if {**each, "name": wanted} == upstream:
                return str(each["name"])
        number = 2
        while upstream["name"] in names:
            upstream["name"] = f"{wanted}-{number}"
            number += 1
        self.result.upstreams.append(upstream)
        return str(upstream["name"])

    def _read_price(
        self, upstream: dict[str, Any], entry: dict[str, Any], params: dict[str, Any], info: dict[str, Any]
    ) -> None:
        price: dict[str, Any] = _prices(params, info, "")
        tiers = {size: tier for size in TIERS if (tier := _prices(params, info, _above(size)))}
        if tiers:
            price["tiers"] = [{"above_input_tokens": size, **price, **tier} for size, tier in tiers.items()]
        if not {"input", "output"} <= price.keys() or _wrong([upstream], [{**entry, "price": price}]):
            return  # listed with the rest
        entry["price"] = price
        for theirs in PRICES:
            for name in (theirs, *(theirs + _above(size) for size in TIERS)):
                params.pop(name, None)
                info.pop(name, None)

    def _enter(self, entry: dict[str, Any], loc: Loc) -> None:
        """As a model, or as one more target of it."""
        for model in self.result.models:
            if model["name"] == entry["name"]:
                model["targets"] += entry["targets"]
                model["choice"] = self._strategy
                if entry.get("price") != model.get("price"):
                    whose = "that of its first deployment" if "price" in model else "state it in `price`"
                    self._leave((*loc, "litellm_params"), f"a model has one price here: {whose}")
                return
        self.result.models.append(entry)

    def _read_aliases(self, router: dict[str, Any]) -> None:
        aliases = _mapping(router.get("model_group_alias"))
        for alias, group in list(aliases.items()):
            name = group.get("model") if isinstance(group, dict) else group
            for model in self.result.models:
                renamed = {**model, "name": alias}
                if model["name"] == name and not _wrong(self.result.upstreams, [*self.result.models, renamed]):
                    self.result.models.append(renamed)
                    del aliases[alias]
                    break


def _above(size: int) -> str:
    return f"_above_{size // 1000}k_tokens"


def _prices(params: dict[str, Any], info: dict[str, Any], suffix: str) -> dict[str, Any]:
    """By our classes, those whose names end so. What a tier leaves out costs what it costs below."""
    found = {}
    for theirs, ours in PRICES.items():
        for place in (params, info):
            if (dollars := _per_million(place.get(theirs + suffix))) is not None:
                found[ours] = dollars
    return found


def _wrong(upstreams: list[dict[str, Any]], models: list[dict[str, Any]]) -> str:
    """What keeps these from being sections of ours, in one sentence; nothing when they are."""
    data = {"upstreams": upstreams, "models": models}
    for loc, sentence in contradictions(data):
        return f"{show_loc(loc)} {sentence}"
    try:
        Settings.model_validate(data, context=_ANYWHERE)
    except ValidationError as error:
        complaint = next(explain(error))
        return f"{show_loc(complaint.loc)} {complaint.sentence}"
    return ""


def _per_million(dollars_per_token: Any) -> float | None:
    if not _is_number(dollars_per_token) and not isinstance(dollars_per_token, str):
        return None
    try:
        return float(Decimal(str(dollars_per_token)) * 1_000_000)
    except (InvalidOperation, Overflow):
        return None


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that is larger than any other
        return False


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(below) for key, below in value.items()}
    return [_copied(below) for below in value] if isinstance(value, list) else value


def _leaves(value: Any, loc: Loc) -> Iterator[Loc]:
    """Every setting that is still there; what has a reason of its own counts as one."""
    if isinstance(value, dict) and show_loc(loc) not in WHY:
        for key, below in value.items():
            yield from _leaves(below, (*loc, key))
    else:
        yield loc


def _why(loc: Loc) -> str:
    return WHY.get(show_loc(loc), OTHERWISE)
