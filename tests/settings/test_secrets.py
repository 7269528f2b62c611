"""Secrets in every form, what is said when one cannot be read, and that none is ever shown."""

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from luntrex_proxy.settings.errors import ConfigError
from luntrex_proxy.settings.loading import Loaded
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.secrets import Secret

Load = Callable[..., Loaded]
Complain = Callable[..., list[str]]
CANARY = "sk-canary-7f3a9c51d2e84b60"


def upstream(api_key: str) -> str:
    """A configuration with one upstream whose key is written like this."""
    return f"upstreams:\n  - name: a\n    dialect: openai\n    base_url: http://h/v1\n    api_key: {api_key}\n"


def key_of(loaded: Loaded) -> Secret:
    """That upstream's key."""
    key = loaded.settings.upstreams[0].api_key
    assert key is not None
    return key


def test_literal(loaded: Load) -> None:
    """Plain text works, and is shown as ***."""
    key = key_of(loaded(upstream(CANARY)))
    assert (key.reveal(), key.written) == (CANARY, "***")


def test_environment(loaded: Load) -> None:
    """{env: X}."""
    key = key_of(loaded(upstream("{env: MY_KEY}"), {"MY_KEY": CANARY + "\n"}))
    assert (key.reveal(), key.written) == (CANARY, {"env": "MY_KEY"})


def test_file(loaded: Load, tmp_path: Path) -> None:
    """{file: path}; the newline editors add is not part of it."""
    (tmp_path / "key").write_text(CANARY + "\n")
    assert key_of(loaded(upstream(f"{{file: {tmp_path}/key}}"))).reveal() == CANARY


def test_credential(loaded: Load, tmp_path: Path) -> None:
    """{credential: name} is in systemd's directory."""
    (tmp_path / "openai-key").write_text(CANARY)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert key_of(loaded(upstream("{credential: openai-key}"), environ)).reveal() == CANARY


FORMS = "must be text, {env: NAME}, {file: /path}, {credential: name} or {sealed: name}"


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("''", "is empty; leave it out or write null when there is no secret"),
        ("5", FORMS),
        ("[a]", FORMS),
        ("{}", FORMS),
        ("{evn: X}", FORMS),
        ("{env: A, file: /b}", FORMS),
        ("{env: 5}", FORMS),
        ("{" + CANARY + "}", FORMS),
        ("{env: " + CANARY + "}", "env must be the name of an environment variable: capitals, digits and _"),
        ("{file: " + CANARY + "}", "file must be an absolute path"),
        ("{credential: ../" + CANARY + "}", "credential must be a plain name: letters, digits, '.', '_' and '-'"),
        ("{credential: ..}", "credential must be a plain name: letters, digits, '.', '_' and '-'"),
    ],
)
def test_wrong_forms(complaints: Complain, written: str, sentence: str) -> None:
    """A malformed secret is an error for every verb, and its text is not repeated."""
    assert complaints(upstream(written)) == [f"F:5:14: upstreams[0].api_key: {sentence}"]


def unreadable(tmp_path: Path) -> dict[str, str]:
    """How a secret is written -> what is said when it cannot be read."""
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xfd")
    (tmp_path / "large").write_text("x" * 65_537)
    return {
        "{env: NOT_SET}": "the environment variable NOT_SET is not set or empty",
        "{env: BLANK}": "the environment variable BLANK is not set or empty",
        f"{{file: {tmp_path}/absent}}": "the file is not there",
        f"{{file: {tmp_path}/empty}}": "the file is empty",
        f"{{file: {tmp_path}/binary}}": "the file is not UTF-8 text",
        f"{{file: {tmp_path}/large}}": "the file is larger than 65536 bytes",
        f"{{file: {tmp_path}}}": "the file cannot be read (Is a directory)",
        "{credential: absent}": "the credential is not there",
    }


def test_unreadable_is_an_error_for_serve(complaints: Complain, tmp_path: Path) -> None:
    """`serve` and `config check` need every secret now."""
    environ = {"BLANK": " ", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    for written, sentence in unreadable(tmp_path).items():
        assert complaints(upstream(written), environ, serving=True) == [f"F:5:14: upstreams[0].api_key: {sentence}"]


def test_no_credentials_directory(complaints: Complain) -> None:
    """Outside systemd the sentence says where credentials come from."""
    assert complaints(upstream("{credential: x}"), serving=True) == [
        "F:5:14: upstreams[0].api_key: $CREDENTIALS_DIRECTORY is not set: only a systemd unit with LoadCredential= "
        "has credentials"
    ]


def test_unreadable_waits_for_other_verbs(loaded: Load, tmp_path: Path) -> None:
    """`keys list` in a shell without the daemon's variables works; only using the secret fails, with the sentence."""
    for written, sentence in unreadable(tmp_path).items():
        key = key_of(loaded(upstream(written), {"BLANK": " ", "CREDENTIALS_DIRECTORY": str(tmp_path)}))
        assert not key.is_readable()
        with pytest.raises(ConfigError) as caught:
            key.reveal()
        assert caught.value.lines == (sentence,)


def test_a_secret_that_arrives_by_reference_is_checked_too(complaints: Complain) -> None:
    """A luntrex key or a header-breaking one is refused whatever form it came in."""
    for value in ("lx_" + CANARY, CANARY + "\r\nx: y", CANARY + "é"):
        lines = complaints(upstream("{env: K}"), {"K": value})
        assert len(lines) == 1
        assert CANARY not in lines[0]


def test_database_url_by_variable(loaded: Load) -> None:
    """A password may look like YAML; the variable's text is taken as it is, or as a reference."""
    url = "postgresql://u:pw: {x}@h/d"
    database = loaded("", {"LUNTREX_DATABASE__URL": url}).settings.database
    assert database.url is not None
    assert database.url.reveal() == url
    database = loaded("", {"LUNTREX_DATABASE__URL": "{env: PG}", "PG": url}).settings.database
    assert database.url is not None
    assert (database.url.reveal(), database.url.written) == (url, {"env": "PG"})


def test_never_shown(loaded: Load) -> None:
    """repr, str, format, dumps and the schema hold no secret."""
    text = upstream(CANARY) + f"database: {{url: 'postgresql://u:{CANARY}@h/d'}}\n"
    settings = loaded(text).settings
    key = settings.upstreams[0].api_key
    shown = [repr(settings), str(settings), f"{settings!r} {key} {key!r}", settings.model_dump_json()]
    shown += [str(settings.model_dump(mode="json")), str(vars(type(key))), str(settings.model_dump())]
    assert all(CANARY not in one for one in shown)
    assert CANARY in key_of(loaded(text)).reveal()  # the test could fail: it was there


@pytest.mark.parametrize(
    "text",
    [
        upstream(CANARY).replace("api_key", "api_kee"),
        upstream(CANARY).replace("dialect: openai", f"dialect: {CANARY}"),
        upstream(CANARY).replace("http://h/v1", f"https://user:{CANARY}@h/v1"),
        upstream(CANARY).replace("http://h/v1", f"https://h/v1?key={CANARY}"),
        upstream(CANARY).replace("http://h/v1", f"https://h:{CANARY}/v1"),
        upstream(CANARY).replace("name: a", f"name: a {CANARY}"),
        upstream(f"*{CANARY}"),
        upstream(f"!{CANARY} x"),
        upstream(f"&{CANARY} &{CANARY} x"),
        upstream(f'"{CANARY}'),
        upstream(f"[{CANARY}"),
        upstream(f"{CANARY}: {CANARY}"),
        f"{CANARY}: 1\n",
        f"{CANARY}: 1\n{CANARY}: 2\n",
        f"gateway: {{{CANARY}, limits: {{{CANARY}: 1}}}}\n",
        f"gateway: {CANARY}\n",
        f"logging: {{level: {CANARY}, requests: {CANARY}}}\n",
        f"gateway: {{listen: ['{CANARY}:99999'], public_url: '{CANARY}', timeouts: {{header_s: {CANARY}}}}}\n",
        f"state: {{directory: {CANARY}}}\n",
        f"database: {{url: 'mysql://{CANARY}', direct_url: 'x://{CANARY}', pool_size: {CANARY}}}\n",
        f"models: [{{name: 'a {CANARY}', targets: [{{upstream: {CANARY}, model: '** {CANARY}'}}]}}]\n",
        f"models: [{{name: a, targets: [{CANARY}], price: {{input: {CANARY}, output: {CANARY}}}}}]\n",
    ],
)
def test_no_error_text_repeats_it(loaded: Load, text: str) -> None:
    """A secret in any wrong place is in no line, no exception text and no chained exception."""
    with pytest.raises(ConfigError) as caught:
        loaded(text, serving=True)
    written = "".join(traceback.format_exception(caught.value, chain=True)) + repr(caught.value.lines)
    assert CANARY not in written


def test_no_variable_error_repeats_it(loaded: Load) -> None:
    """Nor does a variable with a wrong value."""
    environ = dict.fromkeys(
        ["LUNTREX_DATABASE__URL", "LUNTREX_DATABASE__POOL_SIZE", "LUNTREX_GATEWAY__TLS", "LUNTREX_GATEWAY__LISTEN"],
        CANARY,
    )
    with pytest.raises(ConfigError) as caught:
        loaded("", environ)
    assert len(caught.value.lines) == 4
    assert CANARY not in str(caught.value)


def test_pydantic_s_own_errors_hide_the_input() -> None:
    """Whoever validates settings directly gets no value in the text either."""
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"logging": {"level": CANARY}})
    assert CANARY not in str(caught.value)
