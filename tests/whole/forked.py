"""Processes of the program, forked from one that has imported it: most of a daemon's start, and always the same.

`tests/whole/test_start.py` and others start it as a program of its own, with the same arguments.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tests.spying import sitecustomize

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["luntrex_proxy.daemon", "luntrex_proxy.cli.serve", "luntrex_proxy.cli.opening", "tests.whole.verbs", __name__]
)


class Running(Protocol):
    """What tests use of a subprocess.Popen."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """The exit status once there is one."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, if it still runs."""

    def kill(self) -> None:
        """End it at once."""


class Forked:
    """`luntrex-proxy ARGUMENTS`, forked; as a subprocess.Popen."""

    def __init__(
        self, arguments: list[str], environment: Mapping[str, str], cwd: Path, stdout: Path, stderr: Path
    ) -> None:
        places = (Path(os.devnull), stdout, stderr)
        self._process = FORKS.Process(target=be, args=(arguments, dict(environment), cwd, places))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status once there is one."""
        self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired("luntrex-proxy", timeout or 0)
        return status

    def send_signal(self, sig: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def be(arguments: list[str], environment: Mapping[str, str], cwd: Path, places: tuple[Path, Path, Path]) -> None:
    """Become `luntrex-proxy ARGUMENTS`, in the forked process; `places` are what its three streams read and write."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, place in enumerate(places):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY
        descriptor = os.open(place, flags, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115 -- until the end
    if sitecustomize.FILE in environment:
        sitecustomize.install(sitecustomize._write)
    from luntrex_proxy.cli import main

    # As a command line has them: plain text, whatever they were.
    main([os.fsdecode(os.fsencode(word)) for word in arguments], prog_name="luntrex-proxy")
