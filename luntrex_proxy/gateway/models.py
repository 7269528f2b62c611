"""GET /v1/models and /v1/models/{id}: what this gateway offers, in the caller's dialect."""

from typing import Any

import orjson

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Catalogue
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.gateway.accept import Call

ANY_MODEL = "any"  # stands for "some name" when asking whether a dialect lets every name pass


def local_models(catalogue: Catalogue, call: Call) -> bytes | None:
    """The answer from the catalogue; None when only the upstream knows, because every name passes. Raises Refusal."""
    dialect = call.route.dialect
    names = catalogue.list_models(dialect)
    if call.model_id in names:
        return orjson.dumps(_entry(dialect, call.model_id))
    if catalogue.resolve(call.model_id or ANY_MODEL, dialect) is not None and not (names and not call.model_id):
        return None
    if call.model_id:
        raise Refusal("model_not_found", "model")
    data = [_entry(dialect, name) for name in names]
    if dialect is Dialect.ANTHROPIC:
        first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        return orjson.dumps({"data": data, "has_more": False, "first_id": first, "last_id": last})
    return orjson.dumps({"object": "list", "data": data})


def _entry(dialect: Dialect, name: str) -> dict[str, Any]:
    if dialect is Dialect.ANTHROPIC:
        return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
    return {"id": name, "object": "model", "created": 0, "owned_by": "luntrex"}
