"""The first person comes in by a link that is on the terminal and nowhere else."""

import http.client
import os
import pty
import re
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from luntrex_proxy.core.totp import STEP_S, code_at, from_text
from tests.upstreams.loop_thread import LoopThread
from tests.whole.canaries import Canaries
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


class Visitor:
    """Sends forms to the console, as a browser with a cookie would."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon, self.cookie, self.page = daemon, "", ""
        self.secrets: list[str] = []  # that came back: cookies, tokens of forms

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **fields: str) -> int:
        """One request; notes the cookie and the page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.control_port, timeout=30)
        sent = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"} | (headers or {})
        token = re.search(r'name="form_token" value="(\w+)"', self.page)
        if token:
            fields.setdefault("form_token", token[1])
            self.secrets.append(token[1])
        if self.cookie:
            sent["Cookie"] = f"luntrex={self.cookie}"
        connection.request(method, path, urllib.parse.urlencode(fields) if method == "POST" else None, sent)
        answer = connection.getresponse()
        self.page = answer.read().decode()
        connection.close()
        cookie = re.search(r"luntrex=([\w-]{43});", answer.getheader("Set-Cookie") or "")
        if cookie:
            self.cookie = cookie[1]
            self.secrets.append(self.cookie)
        return answer.status


def test_the_first_person_and_nothing_of_its_secrets_anywhere(daemon: OnTerminal) -> None:
    """The link lets one person in, who sets up a second factor and comes in by it; strangers try this and that.

    Of links, passwords, cookies, seeds and codes, and of what strangers sent, nothing is in a table, a file of
    PostgreSQL's, the log or anything else of the daemon's.
    """
    daemon.spawn()
    found = LINK.search(daemon.terminal)
    assert found
    planted, visitor, token = Canaries(), Visitor(daemon), found[1].decode()
    password = f"a quiet river {planted('password')}"
    fields = {"token": token, "address": "ada@example.org", "password": password, "affirmed_16": "yes"}
    assert visitor.ask("POST", "/link", **fields) == 303
    assert Visitor(daemon).ask("POST", "/link", **fields) == 404
    seed, codes = second_factor(visitor)
    visitor.ask("GET", "/profile")
    changed = f"a loud ocean {planted('changed')}"
    assert visitor.ask("POST", "/profile/password", present=password, password=changed) == 303
    assert visitor.ask("POST", "/sign-in", address="ada@example.org", password=changed) == 303
    assert visitor.ask("POST", "/sign-in/code", code=codes[0]) == 303
    assert visitor.ask("GET", "/sessions") == 200
    strangers(daemon, planted)
    (person,) = daemon.query("SELECT email, operator FROM person")
    assert person == {"email": "ada@example.org", "operator": True}
    hits = planted.search_tables(daemon)
    rows = "".join(
        row["row"] or ""
        for table in daemon.query("SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public'")
        for row in daemon.query(f'SELECT t::text AS row FROM "{table["relname"]}" t')
    )
    daemon.query("CHECKPOINT")
    daemon.stop()
    hits += planted.search_files(daemon.directory)
    assert hits == []
    secrets = {token, seed, *codes, *(code.replace("-", "") for code in codes), *visitor.secrets}
    assert len(secrets) > 20
    for file in Path(daemon.directory).rglob("*"):
        body = file.read_bytes() if file.is_file() else b""
        for secret in secrets:
            assert secret.encode() not in body, file
            assert secret not in rows


def second_factor(visitor: Visitor) -> tuple[str, list[str]]:
    """Set one up; its seed as text, and the recovery codes."""
    visitor.ask("GET", "/second-factor")
    visitor.ask("POST", "/second-factor/begin")
    visitor.ask("GET", "/second-factor")
    found = re.search(r'class="key" data-secret>([A-Z2-7 ]+)<', visitor.page)
    assert found
    seed = found[1].replace(" ", "")
    code = code_at(from_text(seed), int(time.time()) // STEP_S)
    assert visitor.ask("POST", "/second-factor/confirm", code=code) == 200
    return seed, re.findall(r"<code>([a-z2-7-]+)</code>", visitor.page)


def strangers(daemon: Daemon, planted: Canaries) -> None:
    """Everything that somebody without a right sends."""
    agent = {"User-Agent": planted("agent"), "Referer": f"http://{planted('referer')}/", "X-Strange": planted("header")}
    asked = Visitor(daemon)
    asked.cookie = planted("cookie")
    address = f"{planted('address')}@example.org"
    assert asked.ask("POST", "/sign-in", agent, address=address, password=planted("wrong")) == 422
    assert asked.ask("POST", "/sign-in", agent, address="ada@example.org", password=planted("guess")) == 422
    assert asked.ask("POST", "/sign-in/code", agent, code=planted("code")) == 303
    assert asked.ask("POST", "/link", agent, token=planted("token"), password=planted("linked")) == 404
    assert asked.ask("GET", f"/link?token={planted('query')}", agent) == 404
    assert asked.ask("GET", f"/{planted('path')}", agent) == 404
    assert asked.ask("POST", "/sign-up", agent, address=address, name=planted("name"), affirmed_16="yes") == 422
    assert asked.ask("POST", "/reset", agent, address=address) == 422
    assert asked.ask("POST", "/sign-in", agent | {"Content-Type": planted("type")}, address=address) == 400
    assert asked.ask("POST", "/sign-in", agent | {"Sec-Fetch-Site": planted("site")}, address=address) == 403
    with socket.create_connection(("127.0.0.1", daemon.control_port), timeout=10) as broken:
        broken.sendall(f"POST /sign-in HTTP/1.1\r\nHost: x\r\n{planted('malformed')}\0\r\n\r\n".encode())
        assert b" 400 " in broken.recv(4096)
