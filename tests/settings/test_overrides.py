"""LUNTREX_ variables over the file."""

from collections.abc import Callable

import pytest

from luntrex_proxy.settings.loading import Loaded

Load = Callable[..., Loaded]
Complain = Callable[..., list[str]]


def test_every_kind_of_value(loaded: Load) -> None:
    """Numbers, flags, lists, text, null."""
    environ = {
        "LUNTREX_GATEWAY__LIMITS__BODY_BYTES": "1048576",
        "LUNTREX_GATEWAY__TIMEOUTS__HEADER_S": "2.5",
        "LUNTREX_LOGGING__REQUESTS": "false",
        "LUNTREX_LOGGING__LEVEL": "warning",
        "LUNTREX_GATEWAY__LISTEN": "127.0.0.1:9000, [::1]:9000",
        "LUNTREX_STATE__DIRECTORY": "/srv/state",
        "LUNTREX_GATEWAY__PUBLIC_URL": "null",
        "LUNTREX_GATEWAY__TLS": "terminated_by_proxy",
    }
    text = "gateway: {listen: ['127.0.0.1:1'], public_url: 'https://a'}\nstate: {directory: /file}\n"
    settings = loaded(text, environ).settings
    assert settings.gateway.limits.body_bytes == 1_048_576
    assert settings.gateway.timeouts.header_s == 2.5
    assert (settings.logging.requests, settings.logging.level) == (False, "warning")
    assert settings.gateway.listen == ("127.0.0.1:9000", "[::1]:9000")
    assert str(settings.state.directory) == "/srv/state"
    assert (settings.gateway.public_url, settings.gateway.tls) == (None, "terminated_by_proxy")


def test_the_file_keeps_what_is_not_overridden(loaded: Load) -> None:
    """One key of a section is replaced, its neighbours stay."""
    limits = loaded(
        "gateway: {limits: {body_bytes: 5, header_count: 7}}", {"LUNTREX_GATEWAY__LIMITS__BODY_BYTES": "6"}
    ).settings.gateway.limits
    assert (limits.body_bytes, limits.header_count) == (6, 7)


def test_other_variables_are_left_alone(loaded: Load) -> None:
    """What is near no key is no mistake, such as what Kubernetes sets; an empty one is not set."""
    environ = {"LUNTREX_CONFIG": "", "LUNTREX_DEBUG": "1", "LUNTREX_PG_BINDIR": "/x", "LUNTREX_API_KEY": "x"}
    environ |= {"LUNTREX_PORT_8080_TCP": "x", "LUNTREX_GATEWAY_PORT": "x", "LUNTREX_CONTROL_SERVICE_PORT_HTTP": "x"}
    environ |= {"LUNTREX_GATEWAY__TLS": "", "LUNTREX_GATEWAY_TLS": ""}
    assert loaded("", environ).settings.gateway.tls is None


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("LUNTREX_GATEWY__TLS", "x", "LUNTREX_GATEWY__TLS: unknown key (did you mean 'gateway'?)"),
        ("LUNTREX_GATEWAY__LISTN", "x", "LUNTREX_GATEWAY__LISTN: unknown key (did you mean 'listen'?)"),
        ("LUNTREX_GATEWAY__LIMITS", "x", "LUNTREX_GATEWAY__LIMITS: is a section; set one of its keys"),
        ("LUNTREX_GATEWAY__TLS__X", "x", "LUNTREX_GATEWAY__TLS__X: unknown key"),
        ("LUNTREX_LOGING_LEVEL", "x", "LUNTREX_LOGING_LEVEL: unknown key (did you mean 'LUNTREX_LOGGING__LEVEL'?)"),
        (
            "LUNTREX_STATE_DIRECTORY",
            "x",
            "LUNTREX_STATE_DIRECTORY: unknown key (did you mean 'LUNTREX_STATE__DIRECTORY'?)",
        ),
        ("LUNTREX_GATEWAY__", "x", "LUNTREX_GATEWAY__: unknown key"),
        ("LUNTREX_MODELS__0", "x", "LUNTREX_MODELS__0: lists of mappings can be set only in the file"),
        ("LUNTREX_DATABASE__POOL_SIZE", "many", "LUNTREX_DATABASE__POOL_SIZE: must be a whole number"),
        ("LUNTREX_DATABASE__POOL_SIZE", "[1", "LUNTREX_DATABASE__POOL_SIZE: must be a whole number"),
        ("LUNTREX_LOGGING__LEVEL", "loud", "LUNTREX_LOGGING__LEVEL: must be 'debug', 'info', 'warning' or 'error'"),
        ("LUNTREX_STATE__DIRECTORY", "rel", "LUNTREX_STATE__DIRECTORY: must be an absolute path"),
        ("LUNTREX_DATABASE__URL", "{env: N}", "LUNTREX_DATABASE__URL: the environment variable N is not set or empty"),
        ("LUNTREX_DATABASE__URL", "{x", "LUNTREX_DATABASE__URL: must start with postgresql://"),
    ],
)
def test_each_error_names_the_variable(complaints: Complain, variable: str, value: str, line: str) -> None:
    """Not the file: the mistake is not there."""
    found = complaints("upstreams: [{name: a, dialect: openai, base_url: 'http://h'}]", {variable: value}, serving=True)
    assert found == [line]


def test_contradiction_caused_by_a_variable(complaints: Complain) -> None:
    """A good value that does not fit the rest names the variable too."""
    lines = complaints("", {"LUNTREX_GATEWAY__LISTEN": "0.0.0.0:1"})
    assert len(lines) == 1
    assert lines[0].startswith("LUNTREX_GATEWAY__LISTEN: other machines could reach this")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gateway: 5", "F:1:10: gateway: must be a mapping of keys and values"),
        ("gateway: {limits: [1]}", "F:1:19: gateway.limits: must be a mapping of keys and values"),
    ],
)
def test_a_variable_does_not_hide_a_fault_of_the_file(complaints: Complain, text: str, line: str) -> None:
    """A section of the wrong shape is not replaced by the variable's own."""
    environ = {"LUNTREX_GATEWAY__LIMITS__BODY_BYTES": "5", "LUNTREX_GATEWAY__LISTEN": "127.0.0.1:1"}
    assert complaints(text, environ) == [line]
