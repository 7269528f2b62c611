"""What all parts of the configuration share: the base model, number types, `fault`, finding a field by its place."""

import re
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

# Where a value stands: keys and list positions from the top, such as ("upstreams", 0, "base_url").
Loc = tuple[str | int, ...]

Count = Annotated[int, Field(strict=True, ge=1, le=2**53)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=86_400, allow_inf_nan=False)]
Pause = Annotated[float, Field(strict=True, ge=0, le=86_400, allow_inf_nan=False)]  # may be none at all
Days = Annotated[int, Field(strict=True, ge=1, le=36_525)]
Flag = Annotated[bool, Field(strict=True)]


Items = TypeVar("Items", bound=tuple[object, ...])


def _check_not_empty(items: Items) -> Items:
    if not items:
        raise fault("must not be empty")
    return items


# Not pydantic's min_length: that also complains when items are there but wrong.
NotEmpty = AfterValidator(_check_not_empty)
AT_LEAST_ONE_ITEM: dict[str, JsonValue] = {"minItems": 1}


class Section(BaseModel):
    """Frozen, and unknown keys are errors. Values never appear in its error texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def fault(sentence: str) -> PydanticCustomError:
    """The error a validator raises: `sentence` goes to the user as it is, so it must not quote the value."""
    return PydanticCustomError("luntrex", "{sentence}", {"sentence": sentence})


def show_loc(loc: Loc) -> str:
    """A place as people write it: `upstreams[0].base_url`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def find_value(data: Any, key: str) -> Any:
    """What plain data holds at a place written like `upstreams[0].base_url`."""
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", key):
        data = data[int(index)] if index else data[name]
    return data


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The section inside a type such as `tuple[Upstream, ...]` or `PriceOverride | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := model_in(part))), None)


def fields_at(root: type[BaseModel], loc: Loc) -> dict[str, FieldInfo]:
    """The fields that may stand below `loc`; empty when it leads nowhere."""
    here: type[BaseModel] | None = root
    for part in loc:
        if isinstance(part, int):
            continue
        field = here.model_fields.get(part) if here else None
        here = model_in(field.annotation) if field else None
    return here.model_fields if here else {}
