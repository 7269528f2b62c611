"""The log says what the allowlist names and nothing else, whoever speaks: our code, a library, or a crash."""

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from luntrex_proxy.core.listening import ListenError, parse_listen
from luntrex_proxy.observe import logs

CANARY = "canary-prompt-5d1f"
EVENT_WITH_TEXT = f"luntrex.x {CANARY}"
log = structlog.get_logger()


def test_an_event_is_one_json_line_with_time_and_level(log_file: Callable[..., Any]) -> None:
    """A listed event comes out whole, as one line of JSON."""
    file = log_file()
    log.info("luntrex.started", version="1.2.3", listen=["127.0.0.1:8080"], keys=3)
    log.debug("luntrex.too_detailed")
    (line,) = file.lines()
    assert datetime.fromisoformat(line.pop("time")).utcoffset() is not None
    assert line == {
        "event": "luntrex.started", "level": "info", "version": "1.2.3", "listen": ["127.0.0.1:8080"], "keys": 3
    }  # fmt: skip


UNLISTED_CALLS = {
    "unknown field": lambda: log.info("luntrex.x", prompt=CANARY),
    "name from outside": lambda: log.info("luntrex.x", **{CANARY: 1}),
    "event with text in it": lambda: log.info(EVENT_WITH_TEXT),
    "event with arguments": lambda: log.info("luntrex.x %s", CANARY),
    "nested value": lambda: log.info("luntrex.x", reason={"a": CANARY}),
    "value nested in a list": lambda: log.info("luntrex.x", listen=[[CANARY]]),
    "bytes": lambda: log.info("luntrex.x", reason=CANARY.encode()),
    "exception object": lambda: log.info("luntrex.x", error=ValueError(CANARY)),
    "traceback": lambda: log.error("luntrex.x", exc_info=ValueError(CANARY)),
    "long text": lambda: log.info("luntrex.x", reason=CANARY * 100),
}


@pytest.mark.parametrize("call", UNLISTED_CALLS.values(), ids=UNLISTED_CALLS.keys())
def test_what_is_not_listed_fails_in_tests_and_is_withheld_in_production(
    call: Callable[[], None], log_file: Callable[..., Any]
) -> None:
    """Strict: the call raises. Otherwise neither the name nor the value gets out, and it is counted."""
    log_file(strict=True)
    with pytest.raises(logs.UnlistedFieldError):
        call()
    file = log_file(strict=False)
    call()
    (line,) = file.lines()
    assert line["unlisted"] == 1
    assert file.output.unlisted == 1
    assert CANARY not in file.text()


def test_the_level_of_the_configuration_is_kept(log_file: Callable[..., Any]) -> None:
    """What is below it is not written."""
    file = log_file(level="error")
    log.warning("luntrex.reloaded")
    log.error("luntrex.crashed")
    assert [line["level"] for line in file.lines()] == ["error"]


def test_the_console_form_is_one_readable_line(log_file: Callable[..., Any]) -> None:
    """On a terminal the same event is text, not JSON."""
    file = log_file(console=True)
    log.warning("luntrex.reloaded", models=2)
    text = file.text()
    assert "luntrex.reloaded" in text
    assert not text.startswith("{")
    assert text.count("\n") == 1


def test_libraries_get_their_name_and_exception_class_said_and_nothing_else(log_file: Callable[..., Any]) -> None:
    """Messages, arguments and exception texts of other loggers quote peers; warnings do too."""
    file = log_file()
    try:
        raise ConnectionResetError(CANARY)
    except ConnectionResetError:
        logging.getLogger("aiohttp.server").exception("Error handling %s", CANARY)
    logging.getLogger("asyncpg").warning(CANARY)
    logging.getLogger("asyncio").info(CANARY)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(CANARY, stacklevel=1)
    logging.getLogger("broken").error("%d", CANARY)
    first, second, third, fourth = file.lines()
    assert (first["logger"], first["level"], first["error"]) == ("aiohttp.server", "error", "ConnectionResetError")
    assert (second["logger"], second["level"]) == ("asyncpg", "warning")
    assert third["logger"] == "py.warnings"
    assert fourth["logger"] == "broken"
    assert CANARY not in file.text()


def test_a_flood_from_a_library_is_cut_and_counted(log_file: Callable[..., Any], monkeypatch: Any) -> None:
    """Ten lines a second, then the number of those left out."""
    file = log_file()
    seconds = [1000.0] * 500 + [1001.0]
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: seconds.pop(0)))
    for _ in range(501):
        logging.getLogger("asyncio").error("socket.accept() out of system resource")
    lines = file.lines()
    assert len(lines) == 11
    assert lines[-1]["count"] == 490


def _fail_in_our_code() -> Exception:
    try:
        parse_listen(CANARY)
    except ListenError as error:
        return error
    raise AssertionError


def test_every_way_out_for_an_exception_says_its_class_and_our_lines_only(
    log_file: Callable[..., Any], loop: asyncio.AbstractEventLoop
) -> None:
    """Loop handler, crash, thread and unraisable: class and module:line of our own package, never the text."""
    file = log_file()
    logs.install_exception_guards(loop)
    error = _fail_in_our_code()
    assert CANARY in str(error)
    loop.call_exception_handler({"message": CANARY, "exception": error, "handle": CANARY})
    loop.call_exception_handler({"message": CANARY})
    sys.excepthook(type(error), error, error.__traceback__)
    thread = threading.Thread(target=parse_listen, args=(CANARY,), name=CANARY)
    thread.start()
    thread.join()

    class Unraisable:
        def __del__(self) -> None:
            parse_listen(CANARY)

    Unraisable()
    gc.collect()
    lines = file.lines()
    assert [line["event"].removeprefix("luntrex.") for line in lines] == [
        "loop_exception", "loop_exception", "crashed", "thread_exception", "unraisable_exception"
    ]  # fmt: skip
    for line in (*lines[:1], *lines[2:]):
        assert line["error"] == "ListenError"
        (place,) = line["at"]
        assert place.startswith("luntrex_proxy.core.listening:")
    assert CANARY not in file.text()


def test_a_failed_task_that_nobody_awaited_does_not_print_its_exception(
    log_file: Callable[..., Any], loop: asyncio.AbstractEventLoop
) -> None:
    """asyncio's "Task exception was never retrieved" quotes the task and the exception; ours does not."""
    file = log_file()
    logs.install_exception_guards(loop)

    async def fail(argument: str) -> None:
        raise ValueError(argument)

    async def main() -> None:
        task = asyncio.get_running_loop().create_task(fail(CANARY))
        await asyncio.wait([task])

    loop.run_until_complete(main())
    gc.collect()
    (line,) = file.lines()
    assert (line["event"], line["error"]) == ("luntrex.loop_exception", "ValueError")
    assert CANARY not in file.text()


def test_asyncio_debug_mode_is_refused(log_file: Callable[..., Any], loop: asyncio.AbstractEventLoop) -> None:
    """Debug mode logs the arguments of callbacks, so the guards do not accept a loop that has it on."""
    log_file()
    loop.set_debug(enabled=True)
    with pytest.raises(RuntimeError, match="PYTHONASYNCIODEBUG"):
        logs.install_exception_guards(loop)


def test_a_crashing_process_leaves_no_traceback_text() -> None:
    """A whole process that dies of an exception prints one line with its class, and still exits with 1."""
    program = (
        "import asyncio\nfrom luntrex_proxy.observe import logs\nlogs.configure()\n"
        f"logs.install_exception_guards(asyncio.new_event_loop())\nraise ValueError('{CANARY}')"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert '"event":"luntrex.crashed"' in done.stderr
    assert '"error":"ValueError"' in done.stderr
    assert CANARY not in done.stderr + done.stdout
