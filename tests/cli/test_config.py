"""`config check|show|schema` as a person meets them: text, exit status, and no secret anywhere."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from luntrex_proxy.cli import main
from luntrex_proxy.settings import loading
from luntrex_proxy.settings.model import Settings
from tests.upstreams.certificates import Authority

CANARY = "sk-canary-7f3a9c51d2e84b60"
GOOD = f"""\
gateway: {{listen: ["127.0.0.1:9000"]}}
database: {{url: "postgresql://u:{CANARY}@h/d"}}
upstreams:
  - {{name: a, dialect: openai, base_url: "http://127.0.0.1:1/v1", api_key: {CANARY}, training: never}}
  - {{name: b, dialect: anthropic, base_url: "http://h:2", api_key: {{env: B_KEY}}, retention: none, training: never}}
models:
  - {{name: m, targets: [{{upstream: a, model: m}}], price: {{input: 0.15, output: "0.60"}}}}
"""


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration and no provider key of this machine counts."""
    monkeypatch.setattr(loading, "DEFAULT_FILE", tmp_path / "absent.yaml")
    for variable in ("LUNTREX_CONFIG", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "LUNTREX_DEBUG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("B_KEY", CANARY)


@pytest.fixture(name="good")
def good_file(tmp_path: Path) -> Path:
    """A working configuration with secrets in it."""
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


def run(*arguments: str | Path) -> Result:
    """One call; whatever it says, the secret is not in it."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert CANARY not in result.stdout + result.stderr
    return result


def test_a_staleness_that_refuses_every_key_now_and_then_is_told(good: Path) -> None:
    """Below what reading all keys anew takes, as after a restore."""
    text = good.read_text()
    for seconds, told in ((10, True), (60, False)):
        good.write_text(f"{text}\nkeys: {{max_staleness_s: {seconds}}}\n")
        done = run("config", "check", "--config", good)
        assert (done.exit_code, f"keys.max_staleness_s is {seconds}: to read all keys anew" in done.stderr) == (0, told)


def test_check_good(good: Path) -> None:
    """One line, exit status 0; an upstream that the policy excludes is told, because it is no error."""
    result = run("config", "check", "--config", good)
    assert result.exit_code == 0
    assert result.stderr == (
        "Upstream a is outside the default privacy policy because of its retention: requests for it get 403. "
        "If that is not meant, state retention with the upstream.\n"
    )
    assert result.stdout == f"{good}: good. 2 upstreams, 1 models; listens on 127.0.0.1:9000, 127.0.0.1:8081.\n"


def test_check_says_everything_and_exits_2(tmp_path: Path) -> None:
    """All errors on stderr, nothing on stdout, no traceback."""
    path = tmp_path / "bad.yaml"
    path.write_text(f"gatway: {{}}\nlogging: {{level: {CANARY}}}\nupstreams: [{{name: a, api_key: [{CANARY}]}}]\n")
    result = run("config", "check", "--config", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        f"{path}:1:1: gatway: unknown key (did you mean 'gateway'?)",
        f"{path}:2:18: logging.level: must be 'debug', 'info', 'warning' or 'error'",
        f"{path}:3:13: upstreams[0].dialect: is missing",
        f"{path}:3:13: upstreams[0].base_url: is missing",
        f"{path}:3:32: upstreams[0].api_key: must be text, {{env: NAME}}, {{file: /path}}, {{credential: name}} or "
        "{sealed: name}",
    ]


def test_check_wants_every_secret_but_show_does_not(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that only the daemon has is an error where `serve` would fail."""
    monkeypatch.delenv("B_KEY")
    result = run("config", "check", "--config", good)
    assert result.exit_code == 2
    assert "upstreams[1].api_key: the environment variable B_KEY is not set or empty" in result.stderr
    assert run("config", "show", "--config", good).exit_code == 0


def test_check_reads_every_ca_file_but_show_does_not(tmp_path: Path) -> None:
    """What `serve` could not trust is an error with its place, all at once; other verbs do not need the files."""
    (tmp_path / "text.pem").write_text(CANARY)
    files = {"gone": tmp_path / "gone.pem", "text": tmp_path / "text.pem", "folder": tmp_path}
    path = tmp_path / "ca.yaml"
    path.write_text(
        "upstreams:\n"
        + "".join(
            f"  - name: {name}\n    dialect: openai\n    base_url: https://h/v1\n    ca_file: {file}\n"
            for name, file in files.items()
        )
    )
    result = run("config", "check", "--config", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        f"{path}:5:14: upstreams[0].ca_file: the file is not there",
        f"{path}:9:14: upstreams[1].ca_file: the file does not hold PEM certificates",
        f"{path}:13:14: upstreams[2].ca_file: the file cannot be read (Is a directory)",
    ]
    assert run("config", "show", "--config", path).exit_code == 0


def test_check_takes_a_good_ca_file(tmp_path: Path) -> None:
    """PEM certificates are what it wants."""
    path = tmp_path / "ca.yaml"
    upstream = f"{{name: a, dialect: openai, base_url: 'https://h/v1', ca_file: {Authority(tmp_path).ca_file}}}"
    path.write_text(f"upstreams: [{upstream}]\n")
    assert run("config", "check", "--config", path).exit_code == 0


def test_check_without_file_and_keys() -> None:
    """One sentence that says what to do."""
    result = run("config", "check")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "serve --demo" in result.stderr


def test_config_before_the_verb_and_by_variable(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--config` works in both places; the later one wins; a variable does too."""
    assert run("--config", good, "config", "check").exit_code == 0
    assert run("--config", "/no/such/file", "config", "check", "--config", good).exit_code == 0
    monkeypatch.setenv("LUNTREX_CONFIG", str(good))
    assert run("config", "check").exit_code == 0


def test_missing_file(tmp_path: Path) -> None:
    """A sentence, exit status 2."""
    result = run("config", "check", "--config", tmp_path / "nope.yaml")
    assert (result.exit_code, result.stderr) == (2, f"{tmp_path}/nope.yaml: there is no such file\n")


def test_show_is_yaml_that_can_be_read(good: Path) -> None:
    """Everything in force; secrets are *** or their reference."""
    shown = yaml.safe_load(run("config", "show", "--config", good).stdout)
    assert list(shown) == list(Settings.model_fields)
    assert shown["gateway"]["listen"] == ["127.0.0.1:9000"]
    assert shown["database"]["url"] == "***"
    assert [upstream["api_key"] for upstream in shown["upstreams"]] == ["***", {"env": "B_KEY"}]
    assert [upstream["retention"] for upstream in shown["upstreams"]] == ["unknown", "none"]
    assert shown["models"][0]["price"]["input"] == "0.15"


def test_show_origin(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line per key: value and who set it."""
    monkeypatch.setenv("LUNTREX_LOGGING__LEVEL", "debug")
    lines = run("config", "show", "--origin", "--config", good).stdout.splitlines()
    assert f'gateway.listen: ["127.0.0.1:9000"]  # {good}:1' in lines
    assert 'logging.level: "debug"  # environment LUNTREX_LOGGING__LEVEL' in lines
    assert f'database.url: "***"  # {good}:2' in lines
    assert f'upstreams[1].retention: "none"  # {good}:5' in lines
    assert "state.directory: null  # default" in lines


def test_show_json(good: Path) -> None:
    """For programs; with --origin both."""
    shown = json.loads(run("config", "show", "--json", "--config", good).stdout)
    assert shown["upstreams"][0]["api_key"] == "***"
    both = json.loads(run("config", "show", "--json", "--origin", "--config", good).stdout)
    assert both["settings"] == shown
    assert both["origins"]["gateway.listen"] == f"{good}:1"


def test_show_of_provider_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file the variables are named, not shown."""
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    lines = run("config", "show", "--origin").stdout.splitlines()
    assert 'upstreams[0].api_key: {"env":"OPENAI_API_KEY"}  # environment OPENAI_API_KEY' in lines


def test_schema() -> None:
    """Valid JSON with all sections; a secret may be text or a reference."""
    schema = json.loads(run("config", "schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(schema["properties"]) == set(Settings.model_fields)
    forms = schema["$defs"]["Upstream"]["properties"]["api_key"]["anyOf"]
    assert {"type": "null"} in forms
    assert "credential" in json.dumps(forms)


def test_egress_says_where_everything_goes(good: Path) -> None:
    """A table for people, JSON for programs; passwords and keys are in neither."""
    table = run("config", "check", "--egress", "--config", good)
    assert table.exit_code == 0
    for word in ("127.0.0.1:1", "upstream a", "h:2", "the database", "prompts", "never what was said"):
        assert word in table.stdout, word
    listed = json.loads(run("config", "check", "--egress", "--json", "--config", good).stdout)
    assert [one["place"] for one in listed] == ["127.0.0.1:1", "h:2", "the system's resolver", "h"]
    assert run("config", "check", "--json", "--config", good).exit_code == 2
