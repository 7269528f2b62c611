"""Each kind of configuration error with its exact line, all at once; which file is read; where values came from."""

from collections.abc import Callable
from pathlib import Path

import pytest

from luntrex_proxy.settings import loading
from luntrex_proxy.settings.errors import ConfigError
from luntrex_proxy.settings.loading import Loaded, load
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.upstreams import Training

Load = Callable[..., Loaded]
Complain = Callable[..., list[str]]

UPSTREAM = '{name: a, dialect: openai, base_url: "http://127.0.0.1:1/v1"}'
ONE = f"upstreams: [{UPSTREAM}]\n"
LISTEN = "must be host:port, [IPv6 address]:port or unix:/absolute/path (a path of at most 107 bytes)"
OPEN = (
    "other machines could reach this over plain HTTP: listen on 127.0.0.1, or put a TLS proxy in front and set "
    "gateway.tls to terminated_by_proxy"
)
DOLLARS = "must be dollars per million tokens: a number from 0 to 1000000 with at most 6 decimal places"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gatway: {}\n", "F:1:1: gatway: unknown key (did you mean 'gateway'?)"),
        ("gateway:\n  limits:\n    body-bytes: 1\n", "F:3:5: gateway.limits.body-bytes: unknown key (did you mean 'body_bytes'?)"),
        ("gateway: {zzz: 1}\n", "F:1:11: gateway.zzz: unknown key"),
        ("gateway: 5\n", "F:1:10: gateway: must be a mapping of keys and values"),
        ("gateway:\n  limits: {body_bytes: lots}\n", "F:2:24: gateway.limits.body_bytes: must be a whole number"),
        ("gateway: {limits: {body_bytes: 1.5}}\n", "F:1:32: gateway.limits.body_bytes: must be a whole number"),
        ('gateway: {limits: {body_bytes: "5"}}\n', "F:1:32: gateway.limits.body_bytes: must be a whole number"),
        ("gateway: {limits: {connections: yes}}\n", "F:1:33: gateway.limits.connections: must be a whole number"),
        ("gateway: {limits: {connections: 0}}\n", "F:1:33: gateway.limits.connections: must be at least 1"),
        ("gateway: {limits: {connections: null}}\n", "F:1:33: gateway.limits.connections: must be a whole number"),
        ("gateway: {timeouts: {header_s: soon}}\n", "F:1:32: gateway.timeouts.header_s: must be a number"),
        ("gateway: {timeouts: {header_s: true}}\n", "F:1:32: gateway.timeouts.header_s: must be a number"),
        ("gateway: {timeouts: {header_s: 0}}\n", "F:1:32: gateway.timeouts.header_s: must be more than 0"),
        ("gateway: {timeouts: {header_s: .nan}}\n", "F:1:32: gateway.timeouts.header_s: must be a finite number"),
        ("gateway: {timeouts: {header_s: 1e9}}\n", "F:1:32: gateway.timeouts.header_s: must be a number"),
        ("gateway: {timeouts: {header_s: 86401}}\n", "F:1:32: gateway.timeouts.header_s: must be at most 86400.0"),
        ("gateway: {listen: 127.0.0.1:1}\n", "F:1:19: gateway.listen: must be a list"),
        ("gateway: {listen: []}\n", "F:1:19: gateway.listen: must not be empty"),
        ("gateway:\n  listen:\n    - 8080\n", "F:3:7: gateway.listen[0]: must be text; put it in quotes if it looks like a number, a date or yes/no"),
        ("gateway: {listen: [nowhere]}\n", f"F:1:20: gateway.listen[0]: {LISTEN}"),
        ("gateway: {listen: ['127.0.0.1:65536']}\n", f"F:1:20: gateway.listen[0]: {LISTEN}"),
        ("gateway: {listen: ['unix:relative']}\n", f"F:1:20: gateway.listen[0]: {LISTEN}"),
        ("gateway: {listen: ['0.0.0.0:80']}\n", f"F:1:20: gateway.listen[0]: {OPEN}"),
        ("gateway: {listen: ['[::]:80']}\n", f"F:1:20: gateway.listen[0]: {OPEN}"),
        ("gateway: {listen: ['proxy.local:80']}\n", f"F:1:20: gateway.listen[0]: {OPEN}"),
        ("control: {listen: ['10.0.0.1:80']}\n", f"F:1:20: control.listen[0]: {OPEN.replace('gateway', 'control')}"),
        ("control: {listen: ['127.0.0.1:9', '127.0.0.1:9']}\n", "F:1:35: control.listen[1]: is already listened on"),
        ("gateway: {tls: yes_please}\n", "F:1:16: gateway.tls: must be 'terminated_by_proxy'"),
        ("gateway: {public_url: example.com}\n", "F:1:23: gateway.public_url: must start with https:// or http://"),
        ("gateway: {limits: {bodies_held_bytes: 100}}\n", "F:1:39: gateway.limits.bodies_held_bytes: must not be smaller than body_bytes"),
        ("state: {directory: relative}\n", "F:1:20: state.directory: must be an absolute path"),
        ("state: {directory: 5}\n", "F:1:20: state.directory: must be an absolute path"),
        ("database: {url: 'mysql://h/d'}\n", "F:1:17: database.url: must start with postgresql://"),
        ("database: {direct_url: 'postgresql://h/d'}\n", "F:1:24: database.direct_url: needs database.url as well"),
        ("ledger: {max_bytes: 100}\n", "F:1:21: ledger.max_bytes: must hold at least two segments (2 x segment_bytes)"),
        ("logging: {level: inof}\n", "F:1:18: logging.level: must be 'debug', 'info', 'warning' or 'error' (did you mean 'info'?)"),
        ("logging: {requests: maybe}\n", "F:1:21: logging.requests: must be true or false"),
        ("logging: {requests: 1}\n", "F:1:21: logging.requests: must be true or false"),
        ("upstreams: {}\n", "F:1:12: upstreams: must be a list"),
        ("upstreams: [5]\n", "F:1:13: upstreams[0]: must be a mapping of keys and values"),
        ("upstreams: [{dialect: openai, base_url: 'http://h'}]\n", "F:1:13: upstreams[0].name: is missing"),
        ("upstreams:\n  - {name: a b, dialect: openai, base_url: 'http://h'}\n", "F:2:12: upstreams[0].name: must be 1 to 63 letters, digits, '.', '_' or '-', and begin with a letter or digit"),
        ("upstreams: [{name: a, dialect: OpenIA, base_url: 'http://h'}]\n", "F:1:32: upstreams[0].dialect: must be 'openai' or 'anthropic' (did you mean 'openai'?)"),
        (f"upstreams:\n  - {UPSTREAM}\n  - {UPSTREAM}\n", "F:3:12: upstreams[1].name: is already used by another of the upstreams"),
        (f"upstreams: [{UPSTREAM[:-1]}, region: no}}]\n", "F:1:83: upstreams[0].region: must be text; put it in quotes if it looks like a number, a date or yes/no"),
        (f"upstreams: [{UPSTREAM[:-1]}, region: ''}}]\n", "F:1:83: upstreams[0].region: must not be empty"),
        (f"upstreams: [{UPSTREAM[:-1]}, training: no}}]\n", "F:1:85: upstreams[0].training: must be 'never', 'unless_opted_out', 'yes' or 'unknown'"),
        (f"upstreams: [{UPSTREAM[:-1]}, retention: forever}}]\n", "F:1:86: upstreams[0].retention.kind: must be 'none', 'abuse_monitoring', 'application_state' or 'unknown'"),
        (f"upstreams: [{UPSTREAM[:-1]}, retention: abuse_monitoring}}]\n", "F:1:86: upstreams[0].retention: needs the days as well: {kind: abuse_monitoring, days: 30}"),
        (f"upstreams: [{UPSTREAM[:-1]}, retention: {{kind: none, days: 3}}}}]\n", "F:1:86: upstreams[0].retention: days fit only the kinds abuse_monitoring and application_state"),
        (f"upstreams: [{UPSTREAM[:-1]}, ca_file: ca.pem}}]\n", "F:1:84: upstreams[0].ca_file: must be an absolute path"),
        (f"upstreams: [{UPSTREAM[:-1]}, api_key: lx_secret}}]\n", "F:1:84: upstreams[0].api_key: is a luntrex key (lx_...): put the provider's own key here"),
        (f"upstreams: [{UPSTREAM[:-1]}, api_key: 'a b'}}]\n", "F:1:84: upstreams[0].api_key: has a space or another character that an HTTP header cannot carry"),
        (ONE + "models: [{name: m, targets: [{upstream: b, model: m}]}]\n", "F:2:41: models[0].targets[0].upstream: is not the name of an upstream"),
        (ONE + "models: [{name: m, targets: [{upstream: aa, model: m}]}]\n", "F:2:41: models[0].targets[0].upstream: is not the name of an upstream (did you mean 'a'?)"),
        (ONE + "models: [{name: m, targets: [{upstream: a, model: '*'}]}]\n", "F:2:51: models[0].targets[0].model: has a *, but the model's own name has none that it could stand for"),
        (ONE + "models: [{name: '*m', targets: [{upstream: a, model: m}]}]\n", "F:2:17: models[0].name: may have one * and only at its end"),
        (ONE + "models: [{name: 'm*', targets: [{upstream: a, model: '**'}]}]\n", "F:2:54: models[0].targets[0].model: may have only one *"),
        (ONE + "models: [{name: m m, targets: [{upstream: a, model: m}]}]\n", "F:2:17: models[0].name: must be 1 to 200 visible ASCII characters without spaces"),
        (ONE + "models: [{name: m, targets: []}]\n", "F:2:29: models[0].targets: must not be empty"),
        (ONE + "models: [{name: m}]\n", "F:2:10: models[0].targets: is missing"),
        (ONE + "models: [{name: m, targets: [{upstream: a, model: m, weight: 0}]}]\n", "F:2:62: models[0].targets[0].weight: must be at least 1"),
        (ONE + "models: [{name: m, targets: [{upstream: a, model: m}], price: {input: 1}}]\n", "F:2:63: models[0].price.output: is missing"),
        (ONE + "models: [{name: m, targets: [{upstream: a, model: m}], price: {input: -1, output: 1}}]\n", f"F:2:71: models[0].price.input: {DOLLARS}"),
        (ONE + "models: [{name: m, targets: [{upstream: a, model: m}], price: {input: 0.0000001, output: 1}}]\n", f"F:2:71: models[0].price.input: {DOLLARS}"),
        (ONE + "models: [{name: m, targets: [{upstream: a, model: m}], price: {input: true, output: 1}}]\n", f"F:2:71: models[0].price.input: {DOLLARS}"),
    ],
)  # fmt: skip
def test_each_error(complaints: Complain, text: str, line: str) -> None:
    """One mistake, one line: file, line, column, key, and what to do."""
    assert complaints(text) == [line]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gateway: [\n", "F:2:1: not valid YAML: expected the node content, but found '<stream end>'"),
        ("gateway:\n\tlisten: []\n", "F:2:1: not valid YAML: a tab cannot stand here; indent with spaces"),
        ("a: b: c\n", "F:1:5: not valid YAML: mapping values are not allowed here"),
        ("- a\n- b\n", "F:1:1: must be a mapping of sections, such as `gateway:` and `upstreams:`"),
        ("just text\n", "F:1:1: must be a mapping of sections, such as `gateway:` and `upstreams:`"),
        ("gateway: {}\n---\ncontrol: {}\n", "F:2:1: not valid YAML: but found another document"),
        ("gateway: {}\ngateway: {}\n", "F:2:1: gateway: is here twice; the first is in line 1"),
        ("gateway:\n  tls: null\n  tls: null\n", "F:3:3: gateway.tls: is here twice; the first is in line 2"),
        ("gateway: !secret x\n", "F:1:10: gateway: tags (words that begin with !) and merge keys are not used here"),
        ("state: *SECRET\n", "F:1:8: not valid YAML: a word that begins with *, & or ! must be in quotes, or stands where it cannot"),
        ("state: {directory: 2026-13-45}\n", "F:1:20: state.directory: is not a value YAML can read; put it in quotes if it is text"),
        ("? [a, b]\n: 1\n", "F:1:3: a key must be a word"),
        ("state: \x00\n", "F:1:8: there is a character that YAML does not allow"),
        ("a: " + "[" * 50 + "]" * 50, "F:1:1: the file is nested too deeply or repeats too much through aliases"),
        ("a: " + "[" * 20_000, "F:1:1: the file is nested too deeply or repeats too much through aliases"),
        ("a: &a [*a]\n", "F:1:1: the file is nested too deeply or repeats too much through aliases"),
    ],
)  # fmt: skip
def test_each_yaml_error(complaints: Complain, text: str, line: str) -> None:
    """Text that is no proper YAML mapping is explained at its place, without quoting it."""
    assert complaints(text)[0] == line


def test_billion_laughs_end_quickly(complaints: Complain) -> None:
    """Nine lines of aliases do not expand to a billion values."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10)]
    assert complaints("\n".join(lines))[0].endswith("repeats too much through aliases")


def test_an_alias_may_be_used(loaded: Load) -> None:
    """Anchors are ordinary YAML: one retention written once."""
    text = (
        "upstreams:\n"
        "  - {name: a, dialect: openai, base_url: 'http://h', retention: &r {kind: application_state, days: 3}}\n"
        "  - {name: b, dialect: openai, base_url: 'http://h', retention: *r}\n"
    )
    assert [upstream.retention.days for upstream in loaded(text).settings.upstreams] == [3, 3]


def test_all_errors_at_once_in_the_order_of_the_file(complaints: Complain) -> None:
    """Types, unknown keys, contradictions, duplicates and variables are reported together."""
    text = (
        "gateway:\n"
        "  listen: ['0.0.0.0:80', '127.0.0.1:8081']\n"
        "  limts: {}\n"
        "logging: {level: 5}\n"
        "logging: {}\n"
        "upstreams:\n"
        "  - {name: a, dialect: openai, base_url: 'ftp://h'}\n"
        "models:\n"
        "  - {name: m, targets: [{upstream: b, model: 'x*'}]}\n"
    )
    environ = {"LUNTREX_LEDGER__MAX_BYTES": "many", "LUNTREX_NO__SUCH": "1"}
    assert complaints(text, environ) == [
        "LUNTREX_NO__SUCH: unknown key",
        "LUNTREX_LEDGER__MAX_BYTES: must be a whole number",
        f"F:2:12: gateway.listen[0]: {OPEN}",
        "F:3:3: gateway.limts: unknown key (did you mean 'limits'?)",
        "F:4:18: logging.level: must be 'debug', 'info', 'warning' or 'error'",
        "F:5:1: logging: is here twice; the first is in line 4",
        "F:7:42: upstreams[0].base_url: must start with https:// or http://",
        "F:9:36: models[0].targets[0].upstream: is not the name of an upstream",
        "F:9:46: models[0].targets[0].model: has a *, but the model's own name has none that it could stand for",
    ]


def test_empty_file_and_empty_sections_are_defaults(loaded: Load) -> None:
    """A section whose lines are all commented out is an empty section."""
    for text in ("", "# nothing\n", "gateway:\nmodels:\nupstreams:\n", "{}\n", "\ufeffgateway:\n"):
        assert loaded(text).settings == Settings()


def test_an_unquoted_yes(loaded: Load) -> None:
    """YAML reads `yes` as true; here it is one of the words."""
    text = f"upstreams: [{UPSTREAM[:-1]}, training: yes}}]"
    assert loaded(text).settings.upstreams[0].training is Training.YES


def test_open_listener_with_a_tls_proxy(loaded: Load) -> None:
    """`terminated_by_proxy` is the declaration that plain HTTP is wanted."""
    settings = loaded("gateway: {listen: ['0.0.0.0:80', '[::]:80'], tls: terminated_by_proxy}").settings
    assert settings.gateway.listen == ("0.0.0.0:80", "[::]:80")


def test_loopback_and_unix_listeners_need_no_tls(loaded: Load) -> None:
    """All forms that only this machine can reach; port 0 may repeat."""
    listen = ("127.0.0.2:1", "[::1]:1", "localhost:1", "unix:/run/x.sock", "127.0.0.1:0", "127.0.0.1:0")
    assert loaded(f"gateway: {{listen: {list(listen)}}}").settings.gateway.listen == listen


def test_settings_are_frozen(loaded: Load) -> None:
    """Nobody changes them after loading."""
    with pytest.raises(ValueError, match="frozen"):
        loaded("").settings.gateway.limits.body_bytes = 1


def test_which_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config, else $LUNTREX_CONFIG, else the system's file, else none."""
    names = ("given", "variable", "system")
    for number, name in enumerate(names, 1):
        (tmp_path / name).write_text(f"database: {{pool_size: {number}}}")
    monkeypatch.setattr(loading, "DEFAULT_FILE", tmp_path / "system")
    environ = {"LUNTREX_CONFIG": str(tmp_path / "variable")}
    assert load(tmp_path / "given", environ).settings.database.pool_size == 1
    assert load(None, environ).settings.database.pool_size == 2
    assert load(None, {}).settings.database.pool_size == 3
    assert load(None, {}).file == tmp_path / "system"
    monkeypatch.setattr(loading, "DEFAULT_FILE", tmp_path / "absent")
    assert load(None, {}).file is None
    assert load(None, {}).settings == Settings()


def test_files_that_cannot_be_read(config: Path, complaints: Complain) -> None:
    """A file that was named must be there, be a file, be text, and be small."""
    for environ, path in (({}, config), ({"LUNTREX_CONFIG": str(config)}, None)):
        with pytest.raises(ConfigError) as caught:
            load(path, environ)
        assert caught.value.lines == (f"{config}: there is no such file",)
    with pytest.raises(ConfigError, match="cannot be read \\(Is a directory\\)"):
        load(config.parent, {})
    assert complaints(b"\xff\xfe") == ["F: is not UTF-8 text"]
    assert complaints(b"#" * 1_048_577) == ["F: is larger than 1048576 bytes"]


def test_serving_needs_something_to_serve(complaints: Complain, config: Path) -> None:
    """`serve` and `config check` refuse a configuration without upstreams; other verbs do not mind."""
    assert complaints("gateway: {}\n", serving=True) == [
        "F:1:1: upstreams: names no upstream, so there is nothing to serve"
    ]
    with pytest.raises(ConfigError) as caught:
        load(None, {}, serving=True)
    assert len(caught.value.lines) == 1
    assert "OPENAI_API_KEY" in caught.value.lines[0]
    assert "serve --demo" in caught.value.lines[0]
    assert load(None, {}).from_environment is False


def test_origins(loaded: Load, config: Path) -> None:
    """Each key says which layer set it: default, file and line, or variable."""
    text = (
        "gateway:\n"
        "  listen:\n"
        "    - 127.0.0.1:1\n"
        "  limits: {body_bytes: 5}\n"
        "database: {pool_size: 9}\n"
        "upstreams:\n"
        "  - {name: a, dialect: openai, base_url: 'http://h', retention: none}\n"
    )
    origins = loaded(text, {"LUNTREX_DATABASE__POOL_SIZE": "3", "LUNTREX_GATEWAY__LISTEN": ""}).origins
    assert origins["gateway.listen"] == f"{config}:3"
    assert origins["gateway.limits.body_bytes"] == f"{config}:4"
    assert origins["gateway.limits.header_bytes"] == "default"
    assert origins["database.pool_size"] == "environment LUNTREX_DATABASE__POOL_SIZE"
    assert origins["upstreams[0].name"] == f"{config}:7"
    assert origins["upstreams[0].retention"] == f"{config}:7"
    assert origins["upstreams[0].region"] == "default"
    assert origins["models"] == "default"


def test_every_key_has_an_origin(loaded: Load) -> None:
    """Nothing that is in force is missing from `origins`."""
    text = ONE + "models: [{name: m, targets: [{upstream: a, model: m}], price: {input: 1, output: 2}}]\n"
    loaded_settings = loaded(text)

    def leaves(value: object, key: str) -> set[str]:
        if isinstance(value, dict) and value:
            return set().union(*(leaves(below, f"{key}.{name}") for name, below in value.items()))
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return set().union(*(leaves(below, f"{key}[{number}]") for number, below in enumerate(value)))
        return {key.removeprefix(".")}

    assert leaves(loaded_settings.settings.model_dump(mode="json"), "") == set(loaded_settings.origins)
