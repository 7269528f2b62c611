"""LiteLLM's fallbacks and weights as targets of ours. What is understood is taken out of the data, nothing else."""

from collections.abc import Mapping
from typing import Any

_PARTS = 1_000  # weights need be no whole numbers there
_WEIGHT_MAX = 10**6
Models = list[dict[str, Any]]


def take_weight(params: dict[str, Any]) -> float | None:
    """A deployment's weight, if it is one; whole numbers are made of all of a model's by `settle_weights`."""
    weight = params.get("weight")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= _WEIGHT_MAX:
        return None
    del params["weight"]
    return weight


def settle_weights(models: Models) -> None:
    """Whole numbers with the same shares; where all are 0, as if none was said."""
    for model in models:
        weights = [target.pop("weight", 1) for target in model["targets"]]
        if not any(weights):
            continue
        parts = 1 if all(weight == int(weight) for weight in weights) else _PARTS
        for target, weight in zip(model["targets"], weights, strict=True):
            whole = max(1, round(weight * parts)) if weight else 0
            if whole != 1 or parts > 1:
                target["weight"] = whole


def take_fallbacks(models: Models, dialects: Mapping[str, str], settings: dict[str, Any]) -> list[str]:
    """`fallbacks` and `default_fallbacks`: targets that are asked only when a model's own have failed.

    `dialects`: of the upstreams. One that only speaks another dialect than the model's could never be asked. Returned:
    those of both that give a model targets of another one, which has another price.
    """
    left = []
    prices = {model["name"]: model.get("price") for model in models}
    differing: dict[str, None] = {}

    def add(key: str, name: Any, others: Any) -> bool:
        is_added = _add(models, dialects, name, others)
        if is_added and any(prices[other] != prices[name] for other in others):
            differing[key] = None
        return is_added

    listed = settings.get("fallbacks")
    for entry in listed if isinstance(listed, list) else []:
        kept = entry
        if isinstance(entry, dict):
            kept = {name: others for name, others in entry.items() if not add("fallbacks", name, others)}
        if kept:
            left.append(kept)
    if isinstance(listed, list):
        _keep(settings, "fallbacks", left)
    everyones = settings.get("default_fallbacks")
    if isinstance(everyones, list):
        names = [model["name"] for model in models if model["name"] not in everyones]
        if all([add("default_fallbacks", name, everyones) for name in names]):  # noqa: C419 -- to all, also after one failed
            del settings["default_fallbacks"]
    return [*differing]


def _keep(settings: dict[str, Any], key: str, left: list[Any]) -> None:
    if left:
        settings[key] = left
    else:
        del settings[key]


def _add(models: Models, dialects: Mapping[str, str], name: Any, others: Any) -> bool:
    """Whether all of the others' targets follow this model's own now; else nothing has changed."""
    by_name = {model["name"]: model for model in models}
    if not isinstance(others, list) or not all(isinstance(other, str) and other in by_name for other in others):
        return False
    if not isinstance(name, str) or name not in by_name:
        return False
    model = by_name[name]
    spoken = {dialects[target["upstream"]] for target in model["targets"]}
    added = []
    for target in (target for other in others for target in by_name[other]["targets"]):
        if dialects[target["upstream"]] not in spoken or ("*" in target["model"] and "*" not in name):
            return False
        added.append({"upstream": target["upstream"], "model": target["model"], "weight": 0})
    there = {(target["upstream"], target["model"]) for target in model["targets"]}
    model["targets"] = model["targets"] + [each for each in added if (each["upstream"], each["model"]) not in there]
    return True
