"""Base URLs: what the SDK of the dialect would use. The database's URL: what its driver can read."""

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.settings.urls import Endpoint, HttpUrl, check_database_url, parse_base_url

CHECK: TypeAdapter[str] = TypeAdapter(HttpUrl)


@pytest.mark.parametrize(
    ("url", "dialect", "endpoint"),
    [
        ("https://api.openai.com/v1", Dialect.OPENAI, Endpoint(True, "api.openai.com", 443, "/v1")),
        ("https://api.openai.com", Dialect.OPENAI, Endpoint(True, "api.openai.com", 443, "/v1")),
        ("https://api.openai.com/", Dialect.OPENAI, Endpoint(True, "api.openai.com", 443, "/v1")),
        ("http://127.0.0.1:9001/v1/", Dialect.OPENAI, Endpoint(False, "127.0.0.1", 9001, "/v1")),
        ("https://h/openai/deployments/x", Dialect.OPENAI, Endpoint(True, "h", 443, "/openai/deployments/x")),
        ("http://[::1]:8000/v1", Dialect.OPENAI, Endpoint(False, "::1", 8000, "/v1")),
        ("HTTPS://API.example.com/v1", Dialect.OPENAI, Endpoint(True, "api.example.com", 443, "/v1")),
        ("https://api.anthropic.com", Dialect.ANTHROPIC, Endpoint(True, "api.anthropic.com", 443, "/v1")),
        ("https://api.anthropic.com/v1", Dialect.ANTHROPIC, Endpoint(True, "api.anthropic.com", 443, "/v1")),
        ("https://api.anthropic.com/v1/", Dialect.ANTHROPIC, Endpoint(True, "api.anthropic.com", 443, "/v1")),
        ("https://h:444/anthropic", Dialect.ANTHROPIC, Endpoint(True, "h", 444, "/anthropic/v1")),
    ],
)
def test_endpoints(url: str, dialect: Dialect, endpoint: Endpoint) -> None:
    """Scheme, host, port and path of requests."""
    assert parse_base_url(CHECK.validate_python(url), dialect) == endpoint


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("api.openai.com/v1", "must start with https:// or http://"),
        ("ftp://h/v1", "must start with https:// or http://"),
        ("unix:/run/x", "must start with https:// or http://"),
        ("https://", "needs a host after the scheme, such as https://api.openai.com/v1"),
        ("https:///v1", "needs a host after the scheme, such as https://api.openai.com/v1"),
        ("https://h:0/v1", "needs a host after the scheme, such as https://api.openai.com/v1"),
        ("https://-h-/v1", "needs a host after the scheme, such as https://api.openai.com/v1"),
        ("https://h:port/v1", "is not a URL: the host or the port is wrong"),
        ("https://h:99999/v1", "is not a URL: the host or the port is wrong"),
        ("https://[::1/v1", "is not a URL: the host or the port is wrong"),
        ("https://user@h/v1", "must not hold a user name or password; the key goes into api_key"),
        ("https://:pw@h/v1", "must not hold a user name or password; the key goes into api_key"),
        ("https://h/v1?api-version=1", "must not have a query or a fragment: only scheme, host, port and path"),
        ("https://h/v1?", "must not have a query or a fragment: only scheme, host, port and path"),
        ("https://h/v1#", "must not have a query or a fragment: only scheme, host, port and path"),
        ("https://h/v1 x", "must be a URL in plain ASCII without spaces"),
        ("https://h/v1\r\nHost: x", "must be a URL in plain ASCII without spaces"),
        ("https://bücher.example/", "must be a URL in plain ASCII without spaces"),
        ("", "must be a URL in plain ASCII without spaces"),
    ],
)
def test_refused(url: str, sentence: str) -> None:
    """What is wrong, without the URL in the text."""
    with pytest.raises(ValidationError) as caught:
        CHECK.validate_python(url)
    assert caught.value.errors()[0]["msg"] == sentence


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgres:///d?host=/run/postgresql&port=5433",
        "postgresql://u:p%40%2F%23@h:5432/d?sslmode=verify-full",
        "postgresql://u@[::1]:5432/d",
        "postgresql://[fe80::1%25eth0]:3,h1:1,h2/d",
        "postgresql://%2Frun%2Fpostgresql:5432/d",
    ],
)
def test_database_urls(url: str) -> None:
    """Every form the driver knows."""
    check_database_url(url)


@pytest.mark.parametrize(
    "rest",
    ["h:0/d", "h:-1/d", "h:1e3/d", "[::g]/d", "[::1]x/d", "::1/d", "h1,,h2/d", "a@h/d", "h/d#x", "h/d?x", "/d?port=x"],
)
def test_refused_database_urls(rest: str) -> None:
    """The password is never in the text."""
    with pytest.raises(PydanticCustomError) as caught:
        check_database_url(f"postgresql://u:canary@{rest}")
    assert "canary" not in str(caught.value)
