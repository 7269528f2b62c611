"""The route table: exact paths, methods and dialects, and no spelling that reaches another path."""

import pytest

from luntrex_proxy.core.call import (
    MODELS_ANTHROPIC,
    MODELS_OPENAI,
    ROUTE_NAMES,
    ROUTES,
    Dialect,
    Grammar,
    NoRouteError,
    find_route,
)

# path -> (name, dialect, grammar, path at the upstream below its base path)
TABLE = {
    "/v1/chat/completions": ("chat.completions", Dialect.OPENAI, Grammar.CHAT, b"/chat/completions"),
    "/v1/completions": ("completions", Dialect.OPENAI, Grammar.CHAT, b"/completions"),
    "/v1/embeddings": ("embeddings", Dialect.OPENAI, Grammar.NONE, b"/embeddings"),
    "/v1/responses": ("responses", Dialect.OPENAI, Grammar.RESPONSES, b"/responses"),
    "/v1/moderations": ("moderations", Dialect.OPENAI, Grammar.NONE, b"/moderations"),
    "/v1/messages": ("messages", Dialect.ANTHROPIC, Grammar.MESSAGES, b"/messages"),
    "/v1/messages/count_tokens": (
        "messages.count_tokens", Dialect.ANTHROPIC, Grammar.NONE, b"/messages/count_tokens",
    ),
}  # fmt: skip
METHODS = (b"GET", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"post", b"QUERY", b"")


def spellings(path: str) -> list[bytes]:
    """With /v1, without, doubled."""
    return [path.encode(), path.removeprefix("/v1").encode(), f"/v1{path}".encode()]


def test_the_table_is_this_one() -> None:
    """A new route is a decision: it has to be written here too."""
    there = {r.path: (r.name, r.dialect, r.grammar, r.upstream_path) for r in ROUTES}
    assert there == TABLE
    assert {route.method for route in ROUTES} == {"POST"}
    assert (*(name for name, *_ in TABLE.values()), "models", "none") == ROUTE_NAMES


@pytest.mark.parametrize("path", TABLE)
def test_every_spelling_of_v1(path: str) -> None:
    """A base URL with a missing or doubled /v1 works; a tripled one does not; the dialect is the path's."""
    for spelling in spellings(path):
        for speaks_anthropic in (False, True):
            route, model_id = find_route(b"POST", spelling, speaks_anthropic)
            assert (route.path, model_id) == (path, "")
    with pytest.raises(NoRouteError):
        find_route(b"POST", b"/v1/v1" + path.encode(), False)


@pytest.mark.parametrize("path", TABLE)
@pytest.mark.parametrize("method", METHODS)
def test_only_post(path: str, method: bytes) -> None:
    """Any other method on a known path is told apart from an unknown path."""
    for spelling in spellings(path):
        with pytest.raises(NoRouteError) as caught:
            find_route(method, spelling, False)
        assert caught.value.known_path


def near_misses(path: str) -> list[str]:
    """What other servers would take for `path`."""
    last = path.rpartition("/")[2]
    misses = [
        path + "/", path + "//", "/" + path, path.upper(), path.title(), path + "%20", path + ".", path + ";a=b",
        path + "?", path + "?a=b", path + "#", path + "\0", path + "%00", path + "/.", path + "/..",
        path + "/../" + last,
        path.replace("/v1", "/v1/.", 1), path.replace("/v1", "/v1/x/..", 1), path.replace("/v1", "/v1/%2e", 1),
        path.replace("/v1", "/v1/x/%2e%2e", 1), path.replace("/v1", "/V1", 1), path.replace("/v1", "/v1/", 1),
        path.replace("/", "\\"), path.replace("/", "%2f"), path.replace("/", "%2F"), path.replace("o", "%6f", 1),
        path.replace("/v1", "/v2", 1), path.replace("/v1", "/v01", 1), path[1:], path + "x", path[:-1], "",
        path.replace("e", "\N{CYRILLIC SMALL LETTER IE}", 1), f"http://host{path}", f"//host{path}", " " + path,
        path + " ",
    ]  # fmt: skip
    return [miss for miss in misses if miss != path]


@pytest.mark.parametrize("path", TABLE)
def test_the_match_is_exact(path: str) -> None:
    """Nothing is decoded, normalised or folded."""
    for miss in near_misses(path):
        with pytest.raises(NoRouteError) as caught:
            find_route(b"POST", miss.encode(), False)
        assert not caught.value.known_path, miss


@pytest.mark.parametrize("path", spellings("/v1/models"))
def test_models_in_both_dialects(path: bytes) -> None:
    """GET and HEAD list models or one of them, in the form the client speaks."""
    for method in (b"GET", b"HEAD"):
        assert find_route(method, path, False) == (MODELS_OPENAI, "")
        assert find_route(method, path, True) == (MODELS_ANTHROPIC, "")
        assert find_route(method, path + b"/org/a:b@c", False) == (MODELS_OPENAI, "org/a:b@c")
    for bad in (path + b"/", path + b"x", path.upper(), path + b"?"):
        with pytest.raises(NoRouteError) as caught:
            find_route(b"GET", bad, False)
        assert not caught.value.known_path
    for rest in (b"", b"/a"):
        with pytest.raises(NoRouteError) as caught:
            find_route(b"POST", path + rest, False)
        assert caught.value.known_path


def test_a_model_id_is_kept_as_it_came() -> None:
    """Whether an id may go upstream is decided later, on the same bytes: nothing is decoded here."""
    for raw in (b"%2e%2e/x", b"..", b"../x", b"a%2Fb", b"\xff\xfe"):
        assert find_route(b"GET", b"/v1/models/" + raw, False)[1] == raw.decode("latin-1")


def test_upstream_paths_are_plain() -> None:
    """What is appended to an upstream's base path is a constant without surprises."""
    for route in (*ROUTES, MODELS_OPENAI, MODELS_ANTHROPIC):
        assert route.upstream_path.startswith(b"/")
        assert route.upstream_path.replace(b"/", b"").replace(b"_", b"").isalpha()
        assert route.upstream_path.islower()
