"""Verbs of the command line, each in a process forked from one that has read what all of them read first.

That is nearly all of a verb's time, and always the same. A verb's own modules it imports itself, as at a terminal;
tests/cli and test_start.py run verbs as programs.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.spying import sitecustomize
from tests.whole.forked import FORKS


def run_verb(
    arguments: tuple[str, ...], environment: Mapping[str, str], cwd: Path, stdin: str = "", timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run would of `luntrex-proxy ARGUMENTS`."""
    with tempfile.TemporaryDirectory(prefix="lx-verb-") as directory:
        given, out, err = (Path(directory, name) for name in ("stdin", "stdout", "stderr"))
        given.write_text(stdin)
        process = FORKS.Process(target=_be_verb, args=(arguments, dict(environment), cwd, directory))
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


def _be_verb(arguments: tuple[str, ...], environment: Mapping[str, str], cwd: Path, directory: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, (name, flags) in enumerate(
        (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY | os.O_CREAT), ("stderr", os.O_WRONLY | os.O_CREAT))
    ):
        descriptor = os.open(Path(directory, name), flags, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115 -- until the end
    if sitecustomize.FILE in environment:
        sitecustomize.install(sitecustomize._write)
    from luntrex_proxy.cli import main

    words = [
        os.fsdecode(os.fsencode(word)) for word in arguments
    ]  # as a command line has them: plain text, whatever it was
    main(words, prog_name="luntrex-proxy")
