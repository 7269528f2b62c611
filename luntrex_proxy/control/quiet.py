"""aiohttp's server with our own error path: fixed texts to the client, and nothing of a request in any log.

aiohttp by itself echoes the bytes of a malformed request in its 400 and logs them, answers an unknown Expect with its
text, and logs the message of a handler's exception.
"""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import orjson
import structlog
from aiohttp import web

from luntrex_proxy.observe.logs import describe
from luntrex_proxy.observe.writer import Burst

_log = structlog.get_logger()

_HEADERS = {
    "Server": "luntrex-proxy",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_SENTENCES = {
    400: "The request is not valid HTTP.",
    403: "This page is served on loopback addresses and Unix sockets only.",
    404: "There is no page at this address.",
    405: "This page does not accept this method.",
    417: "Only the expectation 100-continue is supported.",
    500: "The server failed to handle the request.",
}
_API = "/api/"
# Of an application: how people are told on a page that a handler failed. It may ask nobody anything.
BROKEN_PAGE: Final[web.AppKey[Callable[[web.Request], web.StreamResponse]]] = web.AppKey("broken_page")
_SERVER_OPTIONS: dict[str, Any] = {
    "access_log": None,  # it would keep the query string, Referer and User-Agent
    "keepalive_timeout": 15.0,  # aiohttp's 3,630 s is also its only limit on a head that never ends
    "lingering_time": 1.0,
    "auto_decompress": False,
}


class QuietRunner(web.AppRunner):
    """Runs an application so that only fixed texts leave it when something is wrong."""

    def __init__(self, app: web.Application, *, shutdown_timeout_s: float) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout_s, **_SERVER_OPTIONS)

    async def _make_server(self) -> web.Server:
        return _QuietServer(await super()._make_server(), self.app.get(BROKEN_PAGE))


class _QuietServer(web.Server):
    """Makes quiet protocols, and stands around the whole application: router, Expect, middlewares and handlers."""

    def __init__(self, inner: web.Server, broken_page: Callable[[web.Request], web.StreamResponse] | None) -> None:
        super().__init__(self._answer, request_factory=inner.request_factory, **_SERVER_OPTIONS)
        self._broken_page = broken_page
        self._application = inner.request_handler
        self._burst = Burst(per_second=10)

    def __call__(self) -> web.RequestHandler:
        return _QuietHandler(self, loop=self._loop, **self._kwargs)

    def tell(self, error: BaseException) -> None:
        """Log an exception's class and our lines. A client may be able to cause it, so not more than a few a second."""
        if self._burst.admit(int(time.monotonic())):
            _log.error("luntrex.control_failed", count=self._burst.held, **describe(error))
            self._burst.held = 0

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = _checked(await self._application(request))
        except web.HTTPException as refusal:
            response = _fixed(refusal.status, request)
            if "Allow" in refusal.headers:
                response.headers["Allow"] = refusal.headers["Allow"]
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 -- the last stop: anything further up would print the message
            self.tell(error)
            response = self._broken(request)
        if not response.prepared:
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
        return response

    def _broken(self, request: web.BaseRequest) -> web.StreamResponse:
        accepted = request.headers.get("Accept", "")
        if self._broken_page is not None and isinstance(request, web.Request) and "text/html" in accepted:
            try:
                return self._broken_page(request)
            except Exception as error:  # noqa: BLE001 -- see above: whatever broke may have broken this as well
                self.tell(error)
        return _fixed(500, request)


class _QuietHandler(web.RequestHandler):
    """The protocol of one connection, with aiohttp's two ways of saying something replaced."""

    __slots__ = ("_quiet_server",)

    def __init__(self, server: _QuietServer, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(server, loop=loop, **options)
        self._quiet_server = server

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 -- aiohttp's signature; its text quotes the request
        message: str | None = None,  # noqa: ARG002 -- the same
    ) -> web.StreamResponse:
        """A fixed text for what the parser refused."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")  # aiohttp then closes the connection
        response = _fixed(status)
        response.headers.update(_HEADERS)
        response.force_close()
        return response

    def log_exception(self, *_args: Any, **options: Any) -> None:
        """The class of what went wrong on a connection; the message and its arguments quote the request."""
        error = options.get("exc_info")
        self._quiet_server.tell(error if isinstance(error, BaseException) else RuntimeError())


def _checked(response: object) -> web.StreamResponse:
    if not isinstance(response, web.StreamResponse):
        raise TypeError("a handler returned no response")
    return response


def _fixed(status: int, request: web.BaseRequest | None = None) -> web.Response:
    """A fixed text for people; for programs, and when nobody knows who asks (None), a problem as RFC 9457 has it."""
    phrase = HTTPStatus(status).phrase
    sentence = _SENTENCES.get(status, phrase)
    if request is not None and not request.path.startswith(_API):
        return web.Response(status=status, text=sentence + "\n")
    problem = {"type": "about:blank", "title": phrase, "status": status, "detail": sentence}
    return web.Response(status=status, body=orjson.dumps(problem), content_type="application/problem+json")
