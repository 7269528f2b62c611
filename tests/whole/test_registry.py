"""A running daemon goes by the register of sub-processors: what changes there counts within seconds, no restart."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.gateway.test_dial import _copy
from tests.upstreams import bodies
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, get, model, running, upstream
from tests.whole.raw import ask, post
from tests.whole.scene import chat_request

ENTRY = (
    *("--purpose", "inference", "--region", "eu", "--retention", "none", "--training", "never"),
    *("--agreement", "DPA 7", "--agreed-on", "2026-01-02", "--commitments", "confidentiality, security"),
    *("--evidence", "https://acme.example/dpa"),
)
WITHIN_S = 5.0


@pytest.fixture(scope="module")
def daemon(servers: LoopThread) -> Iterator[Daemon]:
    """Two upstreams with names of other people's, which a tunnel on this machine leads to."""
    scripted = ScriptedUpstream(servers)
    scripted.script = lambda exchange: bodies.answer_by_path(exchange.path, exchange.body)

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        there, back = await asyncio.open_connection("127.0.0.1", int(scripted.url.rpartition(":")[2]))
        await asyncio.gather(_copy(reader, back), _copy(there, writer))

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(tunnel, "127.0.0.1", 0)

    async def end(server: asyncio.Server) -> None:
        server.close()

    server = servers.run(listen())
    proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    names = ("acme", "other")
    configuration = {
        "upstreams": [upstream(n, "openai", f"http://api.{n}.example/v1", proxy=proxy) for n in names],
        "models": [
            *(model(n, n) for n in names),
            {"name": "any", "targets": [{"upstream": n, "model": "m"} for n in names]},
        ],
    }
    with running(servers, configuration) as started:
        yield started
    servers.run(end(server))
    scripted.stop()


def asked(daemon: Daemon, name: str) -> str:
    """How a request for the model ends: 200, or the refusal's code."""
    answer = ask(daemon, post(daemon, "/v1/chat/completions", chat_request(name)))
    return "200" if answer.status == 200 else str(json.loads(answer.body)["error"]["code"])


def becomes(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_entries_objections_and_reviews(daemon: Daemon) -> None:
    """Unknown: used and warned of. Incomplete, objected to, retired: not. The other target serves on throughout."""
    assert (asked(daemon, "acme"), asked(daemon, "other")) == ("200", "200")
    said = str(daemon.said("luntrex.subprocessor"))
    assert "api.acme.example" in said
    assert "api.other.example" in said
    incomplete = daemon.cli("registry", "set", "acme", "--host", "api.acme.example", "--in-use", *ENTRY).stdout
    assert "gets nothing until somebody says: next review" in incomplete
    becomes(lambda: asked(daemon, "acme") == "subprocessor_unlisted")
    assert asked(daemon, "any") == "200"
    next_review = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 20 * 86_400))
    daemon.cli("registry", "set", "acme", "--next-review", next_review)
    becomes(lambda: asked(daemon, "acme") == "200")
    counts = get(daemon.control_port, "/metrics")[1].decode()
    assert 'luntrex_subprocessors{state="complete"} 1' in counts
    assert 'luntrex_subprocessors{state="due_soon"} 1' in counts
    assert "is due on" in str(daemon.said("luntrex.subprocessor"))
    assert "is due on" in daemon.cli("doctor", check=False).stdout
    daemon.cli("registry", "object", daemon.account, "acme")
    becomes(lambda: asked(daemon, "acme") == "subprocessor_objected")
    daemon.cli("registry", "object", daemon.account, "acme", "--withdraw")
    becomes(lambda: asked(daemon, "acme") == "200")
    daemon.cli("registry", "retire", "acme")
    becomes(lambda: asked(daemon, "acme") == "subprocessor_unlisted")
    assert [version["entry_version"] for version in json.loads(daemon.cli("registry", "show", "acme", "--json").stdout)
            ] == [1, 2, 3]  # fmt: skip
    states = {row["subprocessor"]: row["state"] for row in json.loads(daemon.cli("registry", "list", "--json").stdout)}
    assert states == {"acme": "retired", None: "unlisted"}


def test_wrong_use_is_said(daemon: Daemon) -> None:
    """With the exit status of wrong use or refusal, and nothing changes."""
    before = daemon.cli("registry", "list", "--json").stdout
    for arguments, status in (
        (("set", "x"), 2), (("set", "x", "--host", "https://x"), 2), (("set", "x", "--next-review", "2020-01-01"), 2),
        (("set", "x", "--agreed-on", "2999-01-01"), 2), (("set", "x", "--retention", "for ever"), 2),
        (("set", "x", "--purpose", "y"), 1), (("retire", "x"), 1), (("show", "x"), 1),
        (("object", daemon.account, "x"), 1), (("object", "nobody", "openai"), 1),
    ):  # fmt: skip
        assert daemon.cli("registry", *arguments, check=False).returncode == status, arguments
    assert daemon.cli("registry", "list", "--json").stdout == before
