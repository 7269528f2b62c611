"""What can be asked of the gateway: dialects, stream grammars and the one table of inference routes."""

import enum
from dataclasses import dataclass


class Dialect(enum.Enum):
    """Whose API a client or an upstream speaks."""

    __hash__ = object.__hash__  # Enum's own is a call in Python, for every look into a table

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


OPENAI = Dialect.OPENAI  # a member read through its class takes twenty times as long


class Grammar(enum.Enum):
    """How an SSE stream of a route is framed and how it ends (wire formats 1.2, 1.4, 2.3)."""

    CHAT = "chat"  # data-only events, ends with `data: [DONE]`
    RESPONSES = "responses"  # named events, ends with response.completed | incomplete | failed | error
    MESSAGES = "messages"  # named events, ends with message_stop | error
    NONE = "none"  # never streams


# As above: these are for what every request asks.
CHAT, RESPONSES, MESSAGES, UNSTREAMED = Grammar.CHAT, Grammar.RESPONSES, Grammar.MESSAGES, Grammar.NONE


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One inference route. `upstream_path` is appended to the upstream's base path; nothing of the client's path is."""

    name: str
    method: str
    path: str
    dialect: Dialect
    grammar: Grammar
    upstream_path: bytes


def _row(name: str, path: str, dialect: Dialect, grammar: Grammar, method: str = "POST") -> Route:
    return Route(name, method, "/v1" + path, dialect, grammar, path.encode())


ROUTES: tuple[Route, ...] = (
    _row("chat.completions", "/chat/completions", Dialect.OPENAI, Grammar.CHAT),
    _row("completions", "/completions", Dialect.OPENAI, Grammar.CHAT),
    _row("embeddings", "/embeddings", Dialect.OPENAI, Grammar.NONE),
    _row("responses", "/responses", Dialect.OPENAI, Grammar.RESPONSES),
    _row("moderations", "/moderations", Dialect.OPENAI, Grammar.NONE),
    _row("messages", "/messages", Dialect.ANTHROPIC, Grammar.MESSAGES),
    _row("messages.count_tokens", "/messages/count_tokens", Dialect.ANTHROPIC, Grammar.NONE),
)
# `GET /v1/models` exists in both dialects; a request that carries `anthropic-version` gets Anthropic's form.
MODELS_OPENAI = _row("models", "/models", Dialect.OPENAI, Grammar.NONE, "GET")
MODELS_ANTHROPIC = _row("models", "/models", Dialect.ANTHROPIC, Grammar.NONE, "GET")

ROUTE_NAMES: tuple[str, ...] = (*(route.name for route in ROUTES), "models", "none")


def _spellings(path: str) -> tuple[bytes, ...]:
    """A base URL with a missing or doubled /v1 still reaches the route."""
    bare = path.removeprefix("/v1")
    return path.encode(), bare.encode(), ("/v1" + path).encode()


_BY_PATH: dict[bytes, Route] = {spelling: route for route in ROUTES for spelling in _spellings(route.path)}
_MODELS_PATHS = frozenset(_spellings("/v1/models"))
_MODEL_PREFIXES = tuple(spelling + b"/" for spelling in sorted(_MODELS_PATHS, key=len, reverse=True))


class NoRouteError(Exception):
    """No route has this path (`known_path` False) or this method on it (True)."""

    def __init__(self, known_path: bool) -> None:
        super().__init__()
        self.known_path = known_path


def find_route(method: bytes, path: bytes, speaks_anthropic: bool) -> tuple[Route, str]:
    """The route of a path (without query) and, for `/models/{id}`, the id asked for. Raises NoRouteError.

    The match is exact on the raw bytes: nothing is decoded or normalised, so no spelling of `..` reaches another path.
    """
    route = _BY_PATH.get(path)
    if route is not None:
        if method == b"POST":
            return route, ""
        raise NoRouteError(known_path=True)
    models = MODELS_ANTHROPIC if speaks_anthropic else MODELS_OPENAI
    if path in _MODELS_PATHS:
        if method in (b"GET", b"HEAD"):
            return models, ""
        raise NoRouteError(known_path=True)
    for prefix in _MODEL_PREFIXES:
        if path.startswith(prefix) and len(path) > len(prefix):
            if method in (b"GET", b"HEAD"):
                return models, path[len(prefix) :].decode("latin-1")
            raise NoRouteError(known_path=True)
    raise NoRouteError(known_path=False)
