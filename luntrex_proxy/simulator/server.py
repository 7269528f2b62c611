"""The simulated provider as an aiohttp application: routes, its own secret, errors in each dialect, pacing."""

import asyncio
import hmac
import logging
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from luntrex_proxy.simulator import anthropic, openai_chat, openai_other, openai_responses
from luntrex_proxy.simulator.answers import Answer, Ask, answer, count_input

OPENAI_MODELS = ("demo-small", "demo-large")
ANTHROPIC_MODELS = ("demo-claude",)
MAX_BODY_BYTES = 64 * 1024 * 1024

# aiohttp quotes requests in what it logs; the simulator says nothing at all.
_SILENT = logging.getLogger("luntrex_proxy.simulator")
_SILENT.disabled = True

_JSON = msgspec.json.Decoder(Ask)
WholeReply = Callable[[Ask, Answer], dict[str, Any]]
EventReply = Callable[[Ask, Answer], Iterator[bytes]]


class Simulator:
    """A running simulated provider. `url` is the base URL of both dialects (it ends with /v1); `secret` its key."""

    def __init__(self, runner: web.AppRunner, url: str, secret: str) -> None:
        self._runner = runner
        self.url = url
        self.secret = secret

    async def stop(self) -> None:
        """Close the listener and every connection."""
        await self._runner.cleanup()


async def start_simulator(
    port: int = 0, *, secret: str | None = None, token_gap_seconds: float = 0.03, host: str = "127.0.0.1"
) -> Simulator:
    """Listen on a loopback port (0: any free one) in the running loop; without `secret` one is made."""
    secret = secret or secrets.token_urlsafe(32)
    runner = web.AppRunner(
        _application(secret, token_gap_seconds), access_log=None, logger=_SILENT, shutdown_timeout=0.2
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return Simulator(runner, f"http://{host}:{runner.addresses[0][1]}/v1", secret)


class _RefusedError(Exception):
    """A request the provider refuses, before a dialect renders it."""

    def __init__(self, status: int, kind: str, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.code, self.message = status, kind, code, message


def _application(secret: str, gap_seconds: float) -> web.Application:
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_guard(secret)])
    openai, claude = OPENAI_MODELS, ANTHROPIC_MODELS
    app.add_routes(
        [
            web.post("/v1/chat/completions", _model(openai, openai_chat.chat, openai_chat.chat_events, gap_seconds)),
            web.post(
                "/v1/completions", _model(openai, openai_chat.completion, openai_chat.completion_events, gap_seconds)
            ),
            web.post(
                "/v1/responses",
                _model(openai, openai_responses.response, openai_responses.response_events, gap_seconds),
            ),
            web.post("/v1/messages", _model(claude, anthropic.message, anthropic.message_events, gap_seconds)),
            web.post("/v1/embeddings", _small(openai, openai_other.embeddings)),
            web.post("/v1/moderations", _small((*openai, ""), openai_other.moderation)),
            web.post("/v1/messages/count_tokens", _small(claude, lambda ask: {"input_tokens": count_input(ask)})),
            web.get("/v1/models", _models),
            web.get("/v1/models/{name}", _one_model),
        ]
    )
    return app


def _guard(secret: str) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _authorise(request, secret)
            return await handler(request)
        except _RefusedError as refused:
            return _refusal(request, refused)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _refusal(request, _bad_request("The body is not the JSON this endpoint takes."))
        except web.HTTPException as http:
            fixed = _RefusedError(http.status, "not_found_error", "unknown_url", "There is nothing to answer this.")
            return _refusal(request, fixed)

    return guard


def _authorise(request: web.Request, secret: str) -> None:
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    given = request.headers.get("x-api-key", bearer)
    if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode()):
        raise _RefusedError(401, "authentication_error", "invalid_api_key", "Incorrect API key provided.")


def _is_anthropic(request: web.Request) -> bool:
    return "anthropic-version" in request.headers or request.path.startswith("/v1/messages")


def _bad_request(message: str) -> _RefusedError:
    return _RefusedError(400, "invalid_request_error", None, message)


def _refusal(request: web.Request, refused: _RefusedError) -> web.Response:
    headers = _headers(request)
    if _is_anthropic(request):
        body: dict[str, Any] = {
            "type": "error",
            "error": {"type": refused.kind, "message": refused.message},
            "request_id": headers["request-id"],
        }
    else:
        kind = "invalid_request_error" if refused.status < 500 else "server_error"
        body = {"error": {"message": refused.message, "type": kind, "param": None, "code": refused.code}}
    return _json(body, headers, refused.status)


def _headers(request: web.Request) -> dict[str, str]:
    if _is_anthropic(request):
        return {"request-id": f"req_{secrets.token_hex(12)}", "anthropic-organization-id": "simulated"}
    return {
        "x-request-id": f"req_{secrets.token_hex(16)}",
        "openai-version": "2020-10-01",
        "openai-processing-ms": "1",
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-reset-requests": "6ms",
    }


def _json(body: dict[str, Any], headers: dict[str, str], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")


async def _ask(request: web.Request, models: tuple[str, ...]) -> Ask:
    """The request's head fields, checked as a provider would."""
    ask = _JSON.decode(await request.read())
    if ask.model not in models:
        raise _RefusedError(404, "not_found_error", "model_not_found", "The model does not exist.")
    if _is_anthropic(request) and "anthropic-version" not in request.headers:
        raise _bad_request("anthropic-version: header is required")
    if not any(bytes(raw) for raw in (ask.messages, ask.prompt, ask.input)):
        raise _bad_request("Missing what to answer: messages, prompt or input.")
    return ask


def _model(models: tuple[str, ...], whole: WholeReply, events: EventReply, gap_seconds: float) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        ask = await _ask(request, models)
        if request.path == "/v1/messages" and ask.max_tokens is None:
            raise _bad_request("max_tokens: Field required")
        given = answer(ask)
        if ask.stream:
            return await _stream(request, events(ask, given), gap_seconds)
        await asyncio.sleep(gap_seconds * len(given.text or given.arguments))
        return _json(whole(ask, given), _headers(request))

    return handler


def _small(models: tuple[str, ...], reply: Callable[[Ask], dict[str, Any]]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return _json(reply(await _ask(request, models)), _headers(request))

    return handler


async def _stream(request: web.Request, events: Iterator[bytes], gap_seconds: float) -> web.StreamResponse:
    response = web.StreamResponse(headers=_headers(request))
    response.content_type = "text/event-stream"
    response.charset = "utf-8"
    response.headers["Cache-Control"] = "no-cache"
    try:
        await response.prepare(request)
        for event in events:
            await response.write(event)
            await asyncio.sleep(gap_seconds)
        await response.write_eof()
    except ConnectionError:
        pass  # the client left; there is nobody to tell
    return response


async def _models(request: web.Request) -> web.StreamResponse:
    if _is_anthropic(request):
        return _json(anthropic.models(ANTHROPIC_MODELS), _headers(request))
    return _json(openai_other.models(OPENAI_MODELS), _headers(request))


async def _one_model(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    known, render = (
        (ANTHROPIC_MODELS, anthropic.model) if _is_anthropic(request) else (OPENAI_MODELS, openai_other.model)
    )
    if name not in known:
        raise _RefusedError(404, "not_found_error", "model_not_found", "The model does not exist.")
    return _json(render(name), _headers(request))
