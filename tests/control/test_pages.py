"""The control plane's pages over real connections: probes, metrics, signpost, and what every answer carries."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import http_parser
from prometheus_client.parser import text_string_to_metric_families

from luntrex_proxy.control import application
from luntrex_proxy.control.application import ControlPlane, UnfitInstallError, check_aiohttp, start_control
from luntrex_proxy.control.probes import arrived_locally
from luntrex_proxy.core.listening import ListenError
from luntrex_proxy.observe.metrics import Metrics


async def fetch(plane: ControlPlane, path: str, method: str = "GET", **options: Any) -> tuple[int, Any, bytes]:
    """Status, headers and body of one request to the plane's first address."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{plane.addresses[0]}{path}", **options) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


async def test_livez_says_that_the_process_answers(plane: ControlPlane, live: Any) -> None:
    """Whatever else is wrong: a restart would not cure it."""
    live.ready = False
    status, _, body = await fetch(plane, "/livez")
    assert (status, json.loads(body)) == (200, {"status": "alive"})


async def test_readyz_names_the_checks_and_only_booleans(plane: ControlPlane, live: Any) -> None:
    """Ready is 200, not ready 503; a database that is away shows but does not take the process out of rotation."""
    status, _, body = await fetch(plane, "/readyz")
    assert (status, json.loads(body)) == (200, {"status": "ready", "checks": {"keys": True, "database": True}})
    live.named["database"] = False
    status, _, body = await fetch(plane, "/readyz")
    assert (status, json.loads(body)) == (200, {"status": "ready", "checks": {"keys": True, "database": False}})
    live.ready = False
    live.named["keys"] = False
    status, _, body = await fetch(plane, "/readyz")
    assert (status, json.loads(body)["status"]) == (503, "not_ready")


async def test_metrics_are_prometheus_text(plane: ControlPlane) -> None:
    """With the content type that Prometheus 3 insists on."""
    status, headers, body = await fetch(plane, "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name for family in text_string_to_metric_families(body.decode())}
    assert {"luntrex_requests", "luntrex_build_info"} <= families


@pytest.mark.parametrize(
    ("socket_name", "local"),
    [
        (("127.0.0.1", 8081), True),
        (("127.8.0.1", 8081), True),
        (("::1", 8081, 0, 0), True),
        (("::ffff:127.0.0.1", 8081, 0, 0), True),
        ("/run/luntrex-proxy/control.sock", True),
        (("192.0.2.7", 8081), False),
        (("fe80::1%eth0", 8081, 0, 2), False),
        (("::ffff:192.0.2.7", 8081, 0, 0), False),
        (None, False),
    ],
)
def test_metrics_are_for_loopback_and_unix_sockets(socket_name: Any, local: bool) -> None:
    """Model names and volumes do not go off the machine without a token."""
    assert arrived_locally(socket_name) is local


async def test_statusz_says_how_the_upstreams_are(plane: ControlPlane) -> None:
    """And which of the models that are asked about they paused; of others nothing is said."""
    (shown,) = json.loads((await fetch(plane, "/statusz?model=m&model=x"))[2])["upstreams"]
    assert (shown["name"], shown["standing"], shown["in_flight"], shown["paused"]) == ("a", "paused", 3, ["m"])
    (shown,) = json.loads((await fetch(plane, "/statusz"))[2])["upstreams"]
    assert shown["paused"] == []


@pytest.mark.parametrize("path", ["/metrics", "/statusz"])
async def test_some_pages_refuse_a_connection_from_outside(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The page asks where the connection arrived, and says 403 when that is not this machine."""
    monkeypatch.setattr("luntrex_proxy.control.probes.arrived_locally", lambda _name: False)
    status, _, body = await fetch(plane, path)
    assert status == 403
    assert b"luntrex_" not in body
    assert b"upstreams" not in body


async def test_the_root_says_where_everything_is(plane: ControlPlane) -> None:
    """Somebody who opens the port in a browser learns what it is."""
    status, headers, body = await fetch(plane, "/")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert b"inference API" in body


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/metrics", "/statusz"])
async def test_head_works_and_other_methods_are_405(plane: ControlPlane, path: str) -> None:
    """HEAD answers like GET without a body; the rest names what is allowed."""
    status, headers, body = await fetch(plane, path, "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        status, headers, _ = await fetch(plane, path, method)
        assert (status, headers["Allow"]) == (405, "GET,HEAD")


@pytest.mark.parametrize("path", ["/", "/nothing", "/livez/", "//livez"])
async def test_every_answer_carries_the_security_headers(plane: ControlPlane, path: str) -> None:
    """Also the errors; and the Server header names no version."""
    status, headers, _ = await fetch(plane, path)
    assert status == (200 if path == "/" else 404)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Server"] == "luntrex-proxy"


async def test_a_taken_port_is_one_sentence(plane: ControlPlane, live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing stays open of the listeners before it."""
    taken = plane.addresses[0]
    with pytest.raises(ListenError, match=f"Cannot listen on {taken}: it is already in use"):
        await start_control(("127.0.0.1:0", taken), live, Metrics(version="1"))
    with pytest.raises(ListenError, match="host:port"):
        await start_control(("nonsense",), live, Metrics(version="1"))

    async def resolve(*_: object, **__: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", resolve)  # no resolver is asked for nothing
    with pytest.raises(ListenError, match="cannot be resolved"):
        await start_control(("no-such-host.invalid:0",), live, Metrics(version="1"))


async def _unix_socket_story(path: Path, live: Any) -> None:
    plane = await start_control((f"unix:{path}", "127.0.0.1:0"), live, Metrics(version="1"))
    assert plane.addresses[0] == f"unix:{path}"
    with pytest.raises(ListenError, match="already in use"):
        await start_control((f"unix:{path}",), live, Metrics(version="1"))
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.get("http://control/metrics") as answer,
    ):
        assert answer.status == 200
    await plane.stop()
    assert not path.exists()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_unix_socket_is_served_never_stolen_and_removed(run: Any, tmp_path: Path, live: Any) -> None:
    """asyncio and uvloop would unlink a socket that another process serves; we refuse, then clean up our own."""
    run(_unix_socket_story(tmp_path / "control.sock", live))


async def test_a_stale_unix_socket_is_taken_over(tmp_path: Path, live: Any) -> None:
    """After kill -9 the file is still there, and nobody behind it."""
    path = tmp_path / "control.sock"
    server = await asyncio.start_unix_server(lambda _reader, _writer: None, path)
    path.rename(tmp_path / "kept")
    server.close()
    await server.wait_closed()
    (tmp_path / "kept").rename(path)
    plane = await start_control((f"unix:{path}",), live, Metrics(version="1"))
    await plane.stop()


async def test_stop_ends_idle_connections_soon(live: Any) -> None:
    """A scraper that keeps its connection does not hold up the end."""
    plane = await start_control(("127.0.0.1:0",), live, Metrics(version="1"))
    host, port = plane.addresses[0].rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    await asyncio.wait_for(plane.stop(), 4)
    assert await asyncio.wait_for(reader.read(), 1) == b""
    writer.close()


def test_an_unfit_aiohttp_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too old, or with its Python parser: one sentence that says what to install."""
    check_aiohttp()
    with monkeypatch.context() as patch:
        patch.setattr(application.aiohttp, "__version__", "3.14.4")
        with pytest.raises(UnfitInstallError, match=r"3\.14\.5"):
            check_aiohttp()
    with monkeypatch.context() as patch:
        patch.setattr(http_parser, "HttpRequestParser", http_parser.HttpRequestParserPy)
        with pytest.raises(UnfitInstallError, match="C parser"):
            check_aiohttp()
