"""Mail of a running daemon: a link reaches its person and no log, table or file; a daemon killed while it sends makes
two letters at most."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mailserver import MailServer
from tests.upstreams.loop_thread import LoopThread
from tests.whole.daemon import Daemon, free_port, model, upstream


@pytest.fixture
def mail(servers: LoopThread) -> Iterator[MailServer]:
    server = MailServer()
    servers.run(server.start())
    yield server
    servers.run(server.stop())


@pytest.fixture
def daemon(servers: LoopThread, mail: MailServer) -> Iterator[Daemon]:
    made = Daemon(
        servers,
        {
            "upstreams": [upstream("dead", "openai", f"http://127.0.0.1:{free_port()}/v1")],
            "models": [model("m", "dead")],
            "mail": {"host": "127.0.0.1", "port": mail.port, "security": "none", "sender": "proxy@example.org"},
            "console": {"public_url": "https://proxy.example.org"},
            "privacy": {"contact": "privacy@example.org"},
        },
    )
    made.start()
    yield made
    made.remove()


def until(is_so: Callable[[], object], what: str) -> None:
    """Wait for it, not long."""
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_link_is_in_the_letter_only(daemon: Daemon, mail: MailServer) -> None:
    """Made by the command line, sent by the daemon, and nowhere else to be found; nor is the address in a log."""
    said = daemon.cli("people", "create", "ada.canary@example.org", "--affirm-16")
    assert "token" not in said.stdout + said.stderr
    until(lambda: mail.got, "no letter came")
    (token,) = mail.tokens()
    until(lambda: daemon.query("SELECT FROM mail WHERE outcome = 'sent'"), "not noted as sent")
    for table in daemon.query("SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public'"):
        assert token not in str(daemon.query(f'SELECT * FROM "{table["relname"]}"')), table
    daemon.stop()
    for file in Path(daemon.directory).rglob("*"):
        if file.is_file():
            assert token.encode() not in file.read_bytes(), file
    assert b"ada.canary" not in daemon.stderr.read_bytes() + daemon.stdout.read_bytes()


def test_a_daemon_that_is_killed_sends_twice_at_most(daemon: Daemon, mail: MailServer, servers: LoopThread) -> None:
    """After the text and before its answer, twice: the letter is given up as unknown, and a third never goes."""

    async def hold() -> None:
        mail.hold.clear()

    servers.run(hold())
    daemon.cli("people", "create", "ada@example.org", "--affirm-16")
    for count in (1, 2):
        until(lambda count=count: len(mail.got) == count, f"letter {count} did not come")
        daemon.kill()
        daemon.start()
        daemon.query("UPDATE mail SET due_at = now() WHERE ended_at IS NULL")
    until(lambda: daemon.query("SELECT FROM mail WHERE outcome = 'unknown'"), "not given up")
    assert len(mail.got) == 2
    assert mail.got[0]["Message-ID"] == mail.got[1]["Message-ID"]
