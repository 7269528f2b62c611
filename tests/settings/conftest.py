"""Loading a configuration written in a test."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from luntrex_proxy.settings import loading
from luntrex_proxy.settings.errors import ConfigError
from luntrex_proxy.settings.loading import Loaded, load

# `_complaints(text)` -> the lines of the ConfigError with the file's path shortened to F.
Complain = Callable[..., list[str]]


@pytest.fixture(name="config")
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test writes its configuration; there is no other file on this machine."""
    monkeypatch.setattr(loading, "DEFAULT_FILE", tmp_path / "etc" / "luntrex-proxy.yaml")
    return tmp_path / "luntrex-proxy.yaml"


@pytest.fixture(name="loaded")
def load_text(config: Path) -> Callable[..., Loaded]:
    """Write text and load it."""

    def run(text: str | bytes, environ: Mapping[str, str] | None = None, *, serving: bool = False) -> Loaded:
        config.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(config, environ or {}, serving=serving)

    return run


@pytest.fixture(name="complaints")
def complaints_of(loaded: Callable[..., Loaded], config: Path) -> Complain:
    """Write wrong text, load it, give the lines with `F` for the file."""

    def run(text: str | bytes, environ: Mapping[str, str] | None = None, *, serving: bool = False) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            loaded(text, environ, serving=serving)
        return [line.replace(str(config), "F") for line in caught.value.lines]

    return run
