"""What a request brings, read strictly: its body, its query, and the headers that say what is expected.

All that is wrong with the fields is said at once. Nothing that was sent is quoted, only where it stood.
"""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from luntrex_proxy.console.api.problems import Problem
from luntrex_proxy.settings.complaints import quotable
from luntrex_proxy.settings.sentences import sentence_of

BODY_BYTES_MAX: Final = 65_536
BODY_WAIT_S: Final = 10.0
_DEPTH_MAX: Final = 16
_ERRORS_MAX: Final = 50
_JSON: Final = "application/json"
_ETAG: Final = re.compile(r'"[\x21\x23-\x7e]{1,64}"')
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")
Model = TypeVar("Model", bound=BaseModel)


def check_accept(request: web.Request) -> None:
    """Raise a Problem unless the client takes JSON."""
    accepted = ",".join(request.headers.getall("Accept", ("*/*",)))
    for part in accepted.split(","):
        kind, _, parameters = part.strip().lower().partition(";")
        refused = re.search(r"(?:^|;)\s*q=0(?:\.0{0,3})?\s*(?:;|$)", parameters)
        if kind.strip() in ("*/*", "application/*", _JSON, "") and not refused:
            return
    raise Problem("not_acceptable")


async def read_body(request: web.Request, model: type[Model]) -> Model:
    """The body as a model."""
    if request.content_type != _JSON or request.charset not in (None, "utf-8", "UTF-8"):
        raise Problem("not_a_json_type")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem("not_a_json_type")
    raw = await _read_bounded(request)
    _check_json(raw)
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise _problem(error, pointer) from None


def read_query(request: web.Request, model: type[Model]) -> Model:
    """The query as a model."""
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            raise Problem("invalid", errors=({"field": parameter((name,)), "message": "is here twice"},))
        given[name] = value
    try:
        return model.model_validate_strings(given)
    except ValidationError as error:
        raise _problem(error, parameter) from None


def read_if_match(request: web.Request) -> str | None:
    """The ETag that is expected; None: any."""
    given = request.headers.getall("If-Match", ())
    if not given or tuple(given) == ("*",):
        return None
    if len(given) > 1 or not _ETAG.fullmatch(given[0]):
        raise Problem("bad_if_match")
    return given[0]


def version_of(etag: str | None) -> int | None:
    """The version in an ETag that is one number; None: any."""
    if etag is None:
        return None
    if not etag[1:-1].isdecimal():
        raise Problem("stale")
    return int(etag[1:-1])


def read_idempotency_key(request: web.Request) -> str | None:
    """The client's name for this creation; None: it gave none."""
    given = request.headers.getall("Idempotency-Key", ())
    if not given:
        return None
    if len(given) > 1 or not _IDEMPOTENCY_KEY.fullmatch(given[0]):
        raise Problem("bad_idempotency_key")
    return given[0]


def pointer(loc: tuple[str | int, ...]) -> str:
    """A place in a body as a JSON pointer."""
    return "".join(f"/{part}" for part in loc)


def parameter(loc: tuple[str | int, ...]) -> str:
    """A query parameter's name; a strange one is not quoted."""
    return ".".join(str(part) for part in quotable(loc)) or "query"


async def _read_bounded(request: web.Request) -> bytes:
    too_large = Problem("body_too_large", headers={"Connection": "close"})
    if (request.content_length or 0) > BODY_BYTES_MAX:
        raise too_large
    raw = bytearray()
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            while piece := await request.content.readany():
                raw += piece
                if len(raw) > BODY_BYTES_MAX:
                    raise too_large
    except TimeoutError:
        raise Problem("slow_body", headers={"Connection": "close"}) from None
    return bytes(raw)


def _check_json(raw: bytes) -> None:
    """Raise a Problem for what parsers read differently: names given twice, NaN, a BOM, great depth or numbers."""
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        if not isinstance(value, dict) or _depth(value) > _DEPTH_MAX:
            raise Problem("not_json")
        json.dumps(value, ensure_ascii=False).encode()  # half a character is none
    except (ValueError, RecursionError):
        raise Problem("not_json") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError
    return dict(pairs)


def _no_constant(_name: str) -> None:
    raise ValueError


def _depth(value: Any) -> int:
    """How deep objects and lists lie in each other; more than the bound counts as just more."""
    level, depth = [value], 0
    while level and depth <= _DEPTH_MAX:
        depth += 1
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
    return depth


def _problem(error: ValidationError, place: Callable[[tuple[str | int, ...]], str]) -> Problem:
    details = error.errors(include_url=False, include_input=False)[:_ERRORS_MAX]
    if any(detail["type"] == "json_invalid" for detail in details):
        return Problem("not_json")
    return Problem(
        "invalid",
        errors=tuple({"field": place(quotable(tuple(each["loc"]))), "message": sentence_of(each)} for each in details),
    )
