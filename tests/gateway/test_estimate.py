"""What a request may come to: never less than what it names, whatever form that has, and never beyond any model."""

import pytest

from luntrex_proxy.core.call import ROUTES
from luntrex_proxy.core.wire.fields import read_fields
from luntrex_proxy.core.wire.usage import COUNT_LIMIT
from luntrex_proxy.gateway.estimate import estimate

BY_NAME = {route.name: route for route in ROUTES}


@pytest.mark.parametrize(
    ("route", "said", "output"),
    [
        ("chat.completions", b"", 512),
        ("chat.completions", b',"max_tokens":300,"n":2', 600),
        ("chat.completions", b',"max_tokens":5,"max_completion_tokens":300', 300),
        ("chat.completions", b',"max_tokens":1e3', 1_000),  # many upstreams take these for numbers
        ("chat.completions", b',"max_tokens":1000.0', 1_000),
        ("chat.completions", b',"max_tokens":"1000","n":"3"', 3_000),
        ("chat.completions", b',"max_tokens":1e18', COUNT_LIMIT),
        ("chat.completions", b',"max_tokens":" 1000 "', 1_000),
        ("chat.completions", b',"max_tokens":"1e18"', COUNT_LIMIT),
        ("chat.completions", b',"max_tokens":1000.5', 1_000),
        ("chat.completions", b',"max_tokens":"inf"', COUNT_LIMIT),
        ("chat.completions", b',"max_tokens":"nan"', 512),
        ("chat.completions", b',"max_tokens":"many"', 512),
        ("chat.completions", b',"max_tokens":-5,"n":null', 512),
        ("chat.completions", b',"max_tokens":-1e18', 512),
        ("chat.completions", b',"max_tokens":' + b"9" * 400, COUNT_LIMIT),
        ("chat.completions", b',"n":' + b"9" * 4_300, COUNT_LIMIT),
        ("responses", b',"max_output_tokens":1000000000000000000', COUNT_LIMIT),
        ("completions", b',"max_tokens":10,"n":2,"best_of":20', 200),
        ("completions", b',"max_tokens":10,"prompt":["a","b" , "c\\"d"]', 30),
        ("completions", b',"max_tokens":10,"n":2,"prompt":[[1,2],[3]]', 40),
        ("completions", b',"max_tokens":10,"prompt":[' + b" " * 99 + b'"a","b","c"]', 30),
        ("completions", b',"max_tokens":10,"prompt":[\r\n\t[1,2],[3]]', 20),
        ("completions", b',"max_tokens":10,"prompt":["\\\\","\\\\\\"","c"]', 30),
        ("completions", b',"max_tokens":10,"prompt":[1,2,3]', 10),
        ("completions", b',"max_tokens":10,"prompt":"a \\"b\\" c"', 10),
        ("completions", b',"max_tokens":10,"prompt":[]', 10),
        ("embeddings", b',"max_tokens":10', 0),
        ("messages.count_tokens", b',"max_tokens":10', 0),
    ],
)
def test_the_longest_answer_that_it_allows(route: str, said: bytes, output: int) -> None:
    """Of all answers together."""
    body = b'{"model":"m"' + said + b"}"
    size = 0 if route == "messages.count_tokens" else -(-len(body) // 4)
    assert estimate(route, read_fields(BY_NAME[route], body), len(body)) == (size, output)


@pytest.mark.parametrize("route", ["models", "embeddings", "chat.completions"])
def test_a_request_without_a_body_comes_to_nothing(route: str) -> None:
    """Whatever it asks for."""
    assert estimate(route, None, 100) == (0, 0)
