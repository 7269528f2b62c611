"""GET /v1/models and /v1/models/{id}: what this gateway offers, in the caller's dialect."""

from collections.abc import Sequence
from typing import Any

import orjson

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Names
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.scope import Scope
from luntrex_proxy.gateway.accept import Call

ANY_MODEL = "any"  # stands for "some name" when asking whether a dialect lets every name pass


def local_models(catalogue: Names, call: Call, scope: Scope | None = None) -> bytes | None:
    """The answer from the catalogue; None when only the upstream knows, because every name passes. Raises Refusal.

    A key limited to some models sees those only; its own names stand for an upstream's list, which cannot be cut.
    """
    dialect = call.route.dialect
    names = catalogue.list_models(dialect)
    if scope is not None and scope.models is not None:
        if call.model_id and not scope.allows_model(call.model_id):
            raise Refusal("model_not_found", "model")
        if not call.model_id:
            given = [name for name in scope.models if catalogue.resolve(name, dialect) is not None]
            allowed = [name for name in (*names, *given) if scope.allows_model(name) and not name.endswith("*")]
            return _listing(dialect, list(dict.fromkeys(allowed)))
    if call.model_id in names:
        return orjson.dumps(_entry(dialect, call.model_id))
    if catalogue.resolve(call.model_id or ANY_MODEL, dialect) is not None and not (names and not call.model_id):
        return None
    if call.model_id:
        raise Refusal("model_not_found", "model")
    return _listing(dialect, names)


def _listing(dialect: Dialect, names: Sequence[str]) -> bytes:
    data = [_entry(dialect, name) for name in names]
    if dialect is Dialect.ANTHROPIC:
        first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        return orjson.dumps({"data": data, "has_more": False, "first_id": first, "last_id": last})
    return orjson.dumps({"object": "list", "data": data})


def _entry(dialect: Dialect, name: str) -> dict[str, Any]:
    if dialect is Dialect.ANTHROPIC:
        return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
    return {"id": name, "object": "model", "created": 0, "owned_by": "luntrex"}
