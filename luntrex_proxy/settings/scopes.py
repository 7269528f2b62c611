"""The words of a key's limits and labels as pydantic types: what the API's bodies and files of accounts share."""

import contextlib
from typing import Annotated, Final

from pydantic import AfterValidator, Field, WithJsonSchema

from luntrex_proxy.core import labels
from luntrex_proxy.core.policy import REGION
from luntrex_proxy.core.scope import ENDPOINTS, MODEL, BadScopeError, read_scope
from luntrex_proxy.settings.section import fault

NAME_PATTERN: Final = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # of accounts, keys, tokens


def _check_endpoint(name: str) -> str:
    if name in ENDPOINTS:
        return name
    raise fault(f"must be {', '.join(ENDPOINTS[:-1])} or {ENDPOINTS[-1]}")


def _check_model(name: str) -> str:
    with contextlib.suppress(BadScopeError):
        read_scope(models=(name,))
        return name
    raise fault("must be a model's name as clients write it, or its beginning and *")


def _check_network(text: str) -> str:
    with contextlib.suppress(BadScopeError):
        read_scope(networks=(text,))
        return text
    raise fault("must be a network such as 192.0.2.0/24 or 2001:db8::/32, without bits behind its length")


def _check_label_value(value: str) -> str:
    if labels.VALUE.fullmatch(value):
        return value
    raise fault(f"must be {labels.VALUE_RULE}")


Endpoint = Annotated[str, AfterValidator(_check_endpoint), WithJsonSchema({"type": "string", "enum": [*ENDPOINTS]})]
Model = Annotated[
    str, AfterValidator(_check_model), WithJsonSchema({"type": "string", "pattern": f"^({MODEL.pattern})$"})
]
Region = Annotated[str, Field(pattern=f"^{REGION.pattern}$")]
ClientNetwork = Annotated[str, Field(max_length=49), AfterValidator(_check_network)]
LabelName = Annotated[str, Field(pattern=f"^{labels.NAME.pattern}$")]
LabelValue = Annotated[
    str,
    AfterValidator(_check_label_value),
    WithJsonSchema({"type": "string", "pattern": f"^({labels.VALUE.pattern})$"}),
]
