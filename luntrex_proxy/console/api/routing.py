"""From a request to its operation and from the operation's result to the answer."""

import re
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import orjson
import structlog
from aiohttp import web

from luntrex_proxy.console.api.callers import Callers
from luntrex_proxy.console.api.cursors import make_cursor, read_cursor
from luntrex_proxy.console.api.openapi import document
from luntrex_proxy.console.api.operations import (
    PARAMETERS,
    Call,
    Listed,
    Made,
    Operation,
    Page,
    Query,
    Result,
    Shown,
    Tagged,
    Who,
)
from luntrex_proxy.console.api.problems import Problem, unauthenticated
from luntrex_proxy.console.api.reading import (
    check_accept,
    read_body,
    read_idempotency_key,
    read_if_match,
    read_query,
)
from luntrex_proxy.console.api.resources import OPERATIONS
from luntrex_proxy.console.cookies import cookie_name
from luntrex_proxy.control import access, acts
from luntrex_proxy.control.access import Person
from luntrex_proxy.control.services import Services
from luntrex_proxy.observe.logs import describe
from luntrex_proxy.observe.writer import Burst

BASE: Final = "/api/v1"
_NOBODY: Final = Person("")
_REPLAYED: Final = {"Idempotency-Replayed": "true"}
_CODES: Final = (  # "": the error carries the code itself
    (access.NotFoundError, "not_found"),
    (access.DeniedError, "denied"),
    (acts.ReusedKeyError, "reused_idempotency_key"),
    (acts.RefusedError, ""),
    (acts.StoreUnavailableError, "unavailable"),
)
_log = structlog.get_logger()


def add_api(app: web.Application, services: Services) -> None:
    """Add every operation, and the OpenAPI document."""
    api = Api(services)
    app.router.add_route("*", BASE + "/{tail:.*}", api.answer)


class Api:
    """The operations at their paths."""

    def __init__(self, services: Services, operations: tuple[Operation, ...] = OPERATIONS) -> None:
        self._services = services
        self._callers = Callers(services)
        paths: dict[str, dict[str, Operation | None]] = {"/openapi.json": {"GET": None}}
        for operation in operations:
            paths.setdefault(operation.path, {})[operation.method] = operation
        self._paths = tuple((_form(path), methods) for path, methods in paths.items())
        self._document = orjson.dumps(document(operations, BASE, cookie_name(services.settings)))
        self._burst = Burst(per_second=10)

    async def answer(self, request: web.Request) -> web.Response:
        """Whatever happens below becomes an answer here."""
        try:
            return await self._operate(request)
        except Problem as problem:
            return problem.response()
        except acts.MadeAlreadyError as made:
            return Problem("made_already", object_id=made.object_id).response()
        except Exception as error:  # noqa: BLE001 -- the last stop; whatever it was, it is said in this API's form
            for kind, code in _CODES:
                if isinstance(error, kind):
                    wait_s = getattr(error, "retry_after_s", None)
                    headers = None if wait_s is None else {"Retry-After": str(wait_s)}
                    return Problem(code or getattr(error, "code", "conflict"), headers=headers).response()
            self._tell(error)
            return Problem("internal").response()

    async def _operate(self, request: web.Request) -> web.Response:
        operation, place = self._find(request)
        if operation is None:
            return web.Response(body=self._document, content_type="application/json")
        person = None if operation.access is Who.ANYONE else await self._callers.person(request)
        _admit(operation, person, place)
        check_accept(request)
        query = read_query(request, operation.query or Query)
        cursor, listing = getattr(query, "cursor", None), _listing(request)
        call = Call(
            services=self._services,
            person=person or _NOBODY,
            place=place,
            body=await read_body(request, operation.body) if operation.body else None,
            query=query,
            after=None if cursor is None else read_cursor(self._services.lookup.key, listing, cursor),
            if_match=read_if_match(request) if operation.conditional else None,
        )
        with acts.acting_as(call.person.way), acts.only_once(_once(request, operation, call)):
            await _note_operator(operation, call)
            try:
                result, more = await operation.handler(call), {}
            except acts.MadeAlreadyError as made:
                if operation.replay is None:
                    raise
                result, more = await operation.replay(call, made.object_id), _REPLAYED
        next_cursor = None
        if isinstance(result, Listed) and result.end is not None:
            next_cursor = make_cursor(self._services.lookup.key, listing, result.end)
        return _response(request, result, next_cursor, more)

    def _find(self, request: web.Request) -> tuple[Operation | None, dict[str, str]]:
        """The operation and its path parameters; no operation: the OpenAPI document."""
        path = request.rel_url.raw_path.removeprefix(BASE)
        for form, methods in self._paths:
            match = form.fullmatch(path)
            if match is None:
                continue
            method = "GET" if request.method == "HEAD" else request.method
            if method not in methods:
                allowed = sorted(methods) + ["HEAD"] * ("GET" in methods)
                raise Problem("method_not_allowed", headers={"Allow": ", ".join(allowed)})
            return methods[method], match.groupdict()
        raise Problem("not_found")

    def _tell(self, error: BaseException) -> None:
        if self._burst.admit(int(time.monotonic())):
            _log.error("luntrex.api_failed", count=self._burst.held, **describe(error))
            self._burst.held = 0


def _form(path: str) -> re.Pattern[str]:
    """A path's regular expression; what stands in braces is one of PARAMETERS."""
    parts = [
        f"(?P<{part[1:-1]}>{PARAMETERS[part[1:-1]][0]})" if part.startswith("{") else re.escape(part)
        for part in path.split("/")
    ]
    return re.compile("/".join(parts))


def _admit(operation: Operation, person: Person | None, place: dict[str, str]) -> None:
    """The one check of every operation, before anything is read of the request's body or of the tables."""
    if operation.access is Who.ANYONE:
        return
    if person is None:
        raise unauthenticated()
    if isinstance(operation.access, tuple):
        access.require(person, int(place["account_id"]), *operation.access)
        if operation.members_only and int(place["account_id"]) not in person.roles:
            raise access.DeniedError
    elif operation.access is Who.OPERATOR:
        access.require_operator(person, *operation.scopes)
    if (operation.no_token or operation.access is Who.SIGNED_IN) and person.token_id is not None:
        raise Problem("sign_in")
    if operation.proven and person.token_id is None and not person.fresh:
        raise Problem("prove_again")


async def _note_operator(operation: Operation, call: Call) -> None:
    """Who looks into an account without being a member leaves a trace there; changes are recorded anyway."""
    if isinstance(operation.access, tuple) and not operation.changes and call.account_id not in call.person.roles:
        await acts.record_read(call.services.pool, operation.name, call.account_id)


def _listing(request: web.Request) -> str:
    """Which list a cursor belongs to: path and filters."""
    filters = sorted((name, value) for name, value in request.query.items() if name not in ("cursor", "limit"))
    return orjson.dumps((request.rel_url.raw_path, filters)).decode()


def _once(request: web.Request, operation: Operation, call: Call) -> acts.Once | None:
    key = read_idempotency_key(request) if operation.makes else None
    if key is None:
        return None
    asked = f"{operation.name} {request.rel_url.raw_path} {call.body.model_dump_json()}"
    return acts.Once(call.person.person_id, sha256(key.encode()).digest(), sha256(asked.encode()).digest())


def _response(request: web.Request, result: Result, next_cursor: str | None, more: Mapping[str, str]) -> web.Response:
    if result is None:
        return web.Response(status=204)
    headers, status = dict(more), 200
    if isinstance(result, Made):
        below = None if result.location is None else BASE + result.location
        status, headers["Location"] = 201, below or f"{request.rel_url.raw_path}/{result.object_id}"
    if isinstance(result, Made | Tagged) and result.etag is not None:
        headers["ETag"] = result.etag
    if isinstance(result, Listed):
        shown: Shown = Page[Any].model_construct(items=result.items, next_cursor=next_cursor)
    else:
        shown = result if isinstance(result, Shown) else result.shown
    return web.Response(status=status, body=shown.model_dump_json(), headers=headers, content_type="application/json")
