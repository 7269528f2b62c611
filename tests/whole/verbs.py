"""Verbs of the command line, each in a process forked from one that has read what all of them read first.

That is nearly all of a verb's time, and always the same; tests/cli and test_start.py run verbs as programs.
"""

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.whole.forked import FORKS, be


def run_verb(
    arguments: tuple[str, ...], environment: Mapping[str, str], cwd: Path, stdin: str = "", timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run would of `luntrex-proxy ARGUMENTS`."""
    with tempfile.TemporaryDirectory(prefix="lx-verb-") as directory:
        given, out, err = places = tuple(Path(directory, name) for name in ("stdin", "stdout", "stderr"))
        given.write_text(stdin)
        process = FORKS.Process(target=be, args=(list(arguments), dict(environment), cwd, places))
        process.start()
        try:
            process.join(timeout_s)
            if process.exitcode is None:
                process.kill()
                process.join()
                raise subprocess.TimeoutExpired(arguments, timeout_s)
            return subprocess.CompletedProcess(arguments, process.exitcode, out.read_text(), err.read_text())
        finally:
            process.close()
