"""Each kind of configuration error with its exact line, all at once; which file is read; where values came from."""

import re
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
OPEN = (
    "other machines could reach this over plain HTTP: listen on 127.0.0.1, set gateway.tls to a cert_file and key_file,"
    " or put a TLS proxy in front and set gateway.tls to terminated_by_proxy"
)


def _cases() -> list[tuple[str, str]]:
    blocks = (Path(__file__).parent / "errors.txt").read_text().strip().split("\n\n")[1:]
    return [(text + "\n", line) for text, _, line in (block.partition("\n=> ") for block in blocks)]


@pytest.mark.parametrize(("text", "line"), _cases())
def test_each_error(complaints: Complain, text: str, line: str) -> None:
    """One mistake, one line: file, line, column, key, and what to do; nothing of the value."""
    assert complaints(text) == [line]


TOO_MUCH = "F:1:1: the file is nested too deeply or repeats too much through aliases"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gateway:\n\tlisten: []\n", "F:2:1: not valid YAML: a tab cannot stand here; indent with spaces"),
        ("state: \x00\n", "F:1:8: there is a character that YAML does not allow"),
        ("a: " + "[" * 50 + "]" * 50, TOO_MUCH),
        ("a: " + "[" * 20_000, TOO_MUCH),
    ],
)
def test_text_that_is_no_yaml(complaints: Complain, text: str, line: str) -> None:
    """What cannot stand in a table of cases."""
    assert complaints(text) == [line]


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
        if isinstance(value, dict) and value and not re.search(r"\w\.retention$", key):
            return set().union(*(leaves(below, f"{key}.{name}") for name, below in value.items()))
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return set().union(*(leaves(below, f"{key}[{number}]") for number, below in enumerate(value)))
        return {key.removeprefix(".")}

    assert leaves(loaded_settings.settings.model_dump(mode="json"), "") == set(loaded_settings.origins)
