"""What is not ours is as its project released it, has its licence beside it, and a first visit stays small."""

import hashlib
from pathlib import Path

import pytest

from luntrex_proxy.console.pages import rendering
from luntrex_proxy.console.pages.rendering import static_files

STATIC = Path(rendering.__file__).parents[1] / "static"
FIRST_LOAD_BYTES_MAX = 150 * 1024


@pytest.mark.parametrize("directory", [STATIC, Path(__file__).parent / "vendored"])
def test_vendored_files_are_unchanged(directory: Path) -> None:
    """By the sums in the file VENDORED, which names each of them, and its licence."""
    lines = [line.split() for line in (directory / "VENDORED").read_text().splitlines() if not line.startswith("#")]
    assert lines
    for sha256, name, *_ in lines:
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == sha256, name
        assert (directory / f"{name.partition('.')[0]}.LICENSE.txt").stat().st_size > 300, name
    foreign = {file.name for file in directory.iterdir() if ".min." in file.name}
    assert foreign == {name for _, name, *_ in lines}


def test_a_first_visit_is_small() -> None:
    """All styles, scripts and pictures there are, and a long page."""
    assert sum(len(file.gzipped) for file in static_files().values()) + 30_000 < FIRST_LOAD_BYTES_MAX
