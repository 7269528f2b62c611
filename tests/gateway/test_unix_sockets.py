"""Unix sockets of processes that start and end at the same time: one serves a path, and nobody removes another's."""

import asyncio
import fcntl
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web

from luntrex_proxy.core.listening import ListenError
from luntrex_proxy.sockets import opening
from luntrex_proxy.sockets.opening import Manner, Opened, open_listeners
from tests.fakes import PATIENCE_S


class Answering(asyncio.Protocol):
    """Says its name to whoever connects."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say it."""
        writing = cast(asyncio.WriteTransport, transport)
        writing.write(self._name)
        writing.close()


def killed(path: Path) -> None:
    """Leave what a killed process leaves."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


async def serve(path: Path, name: bytes, wrap: Callable[[], None] = lambda: None) -> tuple[web.AppRunner, Opened]:
    """Listen as `name`; `wrap` is called when the socket is there and not yet served. Raises ListenError."""

    def wrapped(_: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        wrap()
        return lambda: Answering(name)

    runner = web.AppRunner(web.Application())
    await runner.setup()
    try:
        return runner, await open_listeners(runner, [f"unix:{path}"], Manner(), wrap=wrapped)
    except BaseException:
        await runner.cleanup()
        raise


async def who_serves(path: Path) -> bytes:
    """The name of who answers there."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_unix_connection(path)
        name = await reader.read()
        writer.close()
        return name


def start_another(path: Path, go_on: threading.Event) -> tuple[threading.Thread, list[object]]:
    """Another process, as far as sockets and locks can tell: its thread, and how it went."""
    said: list[object] = []

    async def run() -> None:
        try:
            runner, opened = await serve(path, b"second")
        except ListenError as error:
            said.append(error)
            return
        said.append("serves")
        await asyncio.to_thread(go_on.wait, PATIENCE_S)
        opened.remove_files()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    return thread, said


async def test_a_socket_that_is_just_being_opened_is_not_taken_for_stale(tmp_path: Path) -> None:
    """A second process that looks while the first has its socket but does not serve it yet is refused."""
    path = tmp_path / "g.sock"
    killed(path)

    def second() -> None:
        thread, said = start_another(path, threading.Event())
        thread.join(PATIENCE_S)
        [error] = said
        assert isinstance(error, ListenError)
        assert "already in use" in str(error)

    runner, opened = await serve(path, b"first", second)
    assert await who_serves(path) == b"first"
    opened.remove_files()
    await runner.cleanup()
    assert list(tmp_path.iterdir()) == [], "nothing of the turn is left either"


async def test_who_looks_whether_a_socket_is_stale_waits_for_its_turn(tmp_path: Path) -> None:
    """While another process is between looking and binding, a stale socket is not touched."""
    path = tmp_path / "g.sock"
    killed(path)
    stale = path.stat().st_ino, path.stat().st_mtime_ns
    go_on = threading.Event()
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    thread, said = start_another(path, go_on)
    await asyncio.sleep(0.3)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == stale
    assert not said
    os.close(lock)
    async with asyncio.timeout(PATIENCE_S):
        while not said:
            await asyncio.sleep(0.01)
    assert await who_serves(path) == b"second"
    go_on.set()
    thread.join(PATIENCE_S)
    assert not path.exists()


async def test_a_turn_that_nobody_ends_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may read the directory can hold its lock: a start does not wait for ever, an end neither."""
    monkeypatch.setattr(opening, "_TURN_LOOKS", 3)
    path = tmp_path / "g.sock"
    runner, opened = await serve(tmp_path / "other.sock", b"other")
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(ListenError, match="already in use"):
        await serve(path, b"first")
    opened.remove_files()
    os.close(lock)
    await runner.cleanup()
    assert not path.exists()


async def test_many_that_start_at_once_are_one_in_the_end(tmp_path: Path) -> None:
    """Whoever wins serves the path; all others are told that it is in use; no file is lost."""
    path = tmp_path / "g.sock"
    for _ in range(5):
        killed(path)
        go_on = threading.Event()
        started = [start_another(path, go_on) for _ in range(6)]
        async with asyncio.timeout(PATIENCE_S):
            while not all(said for _, said in started):
                await asyncio.sleep(0.01)
        assert [said for _, said in started].count(["serves"]) == 1
        assert await who_serves(path) == b"second"
        go_on.set()
        for thread, _ in started:
            thread.join(PATIENCE_S)
        assert not path.exists()


async def test_a_process_that_drains_leaves_its_successors_socket(tmp_path: Path) -> None:
    """Its own file goes first; the successor's at the same path stays, whatever the predecessor does after."""
    path = tmp_path / "g.sock"
    old, opened = await serve(path, b"old")
    opened.remove_files()
    assert not path.exists()
    new, successor = await serve(path, b"new")
    await old.cleanup()
    opened.remove_files()
    assert await who_serves(path) == b"new"
    successor.remove_files()
    await new.cleanup()


async def test_a_socket_that_was_replaced_stays(tmp_path: Path) -> None:
    """Somebody removed our file and put another socket in its place: it is not ours to remove."""
    path = tmp_path / "g.sock"
    old, opened = await serve(path, b"old")
    path.unlink()
    new, successor = await serve(path, b"new")
    opened.remove_files()
    await old.cleanup()
    assert await who_serves(path) == b"new"
    successor.remove_files()
    await new.cleanup()
    assert not path.exists()
