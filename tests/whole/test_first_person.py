"""The first person comes in by a link that is on the terminal and nowhere else."""

import http.client
import os
import pty
import re
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.upstreams.loop_thread import LoopThread
from tests.whole.daemon import Daemon, free_port, model, upstream

LINK = re.compile(rb"http://127\.0\.0\.1:\d+/link\?token=([\w-]{43})")


class OnTerminal(Daemon):
    """A daemon whose standard output is a terminal."""

    terminal = b""

    def spawn(self) -> "subprocess.Popen[bytes]":
        master, slave = pty.openpty()
        with self.stderr.open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, "serve", "--config", str(self.config)],
                cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL, stdout=slave, stderr=err,
            )  # fmt: skip
        os.close(slave)
        deadline = time.monotonic() + 60
        while b"State  " not in self.terminal or not self.terminal.endswith(b"runs this installation.\r\n"):
            assert time.monotonic() < deadline, self.terminal
            self.terminal += os.read(master, 4096)
        os.close(master)
        return self.process


@pytest.fixture
def daemon(servers: LoopThread) -> Iterator[OnTerminal]:
    upstreams = [upstream("dead", "openai", f"http://127.0.0.1:{free_port()}/v1")]
    made = OnTerminal(servers, {"upstreams": upstreams, "models": [model("m", "dead")]})
    yield made
    made.remove()


def send(daemon: Daemon, path: str, **fields: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.control_port, timeout=30)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
    connection.request("POST", path, urllib.parse.urlencode(fields), headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, answer.getheader("Set-Cookie") or body


def test_the_first_link_is_on_the_terminal_only(daemon: OnTerminal) -> None:
    """It lets one person in; it is in no log, no file and no table; afterwards serve makes none."""
    daemon.spawn()
    found = LINK.search(daemon.terminal)
    assert found
    token = found[1].decode()
    fields = {"token": token, "address": "ada@example.org", "password": "a quiet river in may", "affirmed_16": "yes"}
    status, cookie = send(daemon, "/link", **fields)
    assert status == 303, cookie
    session = cookie.partition("=")[2].partition(";")[0]
    assert send(daemon, "/link", **fields)[0] == 404
    assert send(daemon, "/sign-in", address="ada@example.org", password="a quiet river in may")[0] == 303
    (person,) = daemon.query("SELECT email, operator FROM person")
    assert person == {"email": "ada@example.org", "operator": True}
    for table in daemon.query("SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public'"):
        rows = str(daemon.query(f'SELECT * FROM "{table["relname"]}"'))
        for secret in (token, session, "a quiet river in may"):
            assert secret not in rows, table
    daemon.stop()
    for file in Path(daemon.directory).rglob("*"):
        if file.is_file():
            body = file.read_bytes()
            for secret in (token, session, "a quiet river in may"):
                assert secret.encode() not in body, file
