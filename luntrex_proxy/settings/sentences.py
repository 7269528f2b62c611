"""What pydantic found wrong, in our words, wherever it was found: in a configuration, in a request's body, in a file.

Values are never quoted: one may be a secret in the wrong place. Readers put words of their own before these.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from pydantic_core import ErrorDetails

Sentences = Mapping[str, str | Callable[[Mapping[str, Any]], str]]
SENTENCES: Final[Sentences] = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "string_type": "must be text",
    "string_too_short": lambda ctx: f"must have at least {ctx['min_length']} characters",
    "string_too_long": lambda ctx: f"must have at most {ctx['max_length']} characters",
    "string_pattern_mismatch": lambda ctx: f"must match {ctx['pattern']}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "date_parsing": "must be a day such as 2030-01-31",
    "date_from_datetime_parsing": "must be a day such as 2030-01-31",
    "date_from_datetime_inexact": "must be a day such as 2030-01-31",
    "datetime_parsing": "must be a time with its zone, such as 2030-01-31T00:00:00Z",
    "datetime_from_date_parsing": "must be a time with its zone, such as 2030-01-31T00:00:00Z",
    "timezone_aware": "must be a time with its zone, such as 2030-01-31T00:00:00Z",
    "greater_than": lambda ctx: f"must be more than {ctx['gt']:g}",
    "greater_than_equal": lambda ctx: f"must be at least {ctx['ge']}",
    "less_than_equal": lambda ctx: f"must be at most {ctx['le']}",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "too_long": lambda ctx: f"must have at most {ctx['max_length']} entries",
    "too_short": lambda ctx: f"must have at least {ctx['min_length']} entries",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "path_type": "must be an absolute path",
    "enum": lambda ctx: f"must be {ctx['expected']}",
    "literal_error": lambda ctx: f"must be {ctx['expected']}",
    "luntrex": lambda ctx: str(ctx["sentence"]),
}
NO_OTHERS: Final[Sentences] = MappingProxyType({})


def sentence_of(detail: ErrorDetails, first: Sentences = NO_OTHERS) -> str:
    """The sentence for one error; `first` are the reader's own words."""
    found = first.get(detail["type"]) or SENTENCES.get(detail["type"], "is not valid")
    return found if isinstance(found, str) else found(detail.get("ctx", {}))
