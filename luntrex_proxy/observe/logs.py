"""Operational logging: what may be said (the allowlist), how it is said (JSON lines), and the guards that keep
exception texts and libraries' messages out of it.

    configure()                   once, first thing in the process
    install_exception_guards()    once the loop exists
    structlog.get_logger().info("luntrex.what_happened", rows=3)
"""

import asyncio
import atexit
import contextlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import orjson
import structlog

from luntrex_proxy.observe.writer import Burst, Writer

# Every field a log event may carry besides `event`, `level` and `time`. All are ids, numbers or names that the operator
# or this program chose; none can hold what a client or an upstream sent. The line per request has its own list: the
# fields of `core.outcome.Outcome` (observe/requestlog.py).
FIELDS: frozenset[str] = frozenset(
    {
        # what failed and where
        "error",  # class name of an exception, never its text
        "at",  # module:line of our own code
        "code",  # a code of core.refusals
        "reason",  # a fixed word of ours
        "sqlstate",
        "status",  # an HTTP status
        "logger",  # name of a library's logger
        "hint",  # a fixed sentence of ours
        # which
        "account_id", "key_id", "request_id",
        "network",  # a client's /24 or /48, in security events only; never an address
        "upstream", "model", "route", "plane",
        "boot_id", "segment", "offset", "generation",
        # of the installation
        "version", "postgres_version", "schema_version", "migration",
        "database",  # embedded or external, never an URL
        "listen", "directory", "file", "line", "column", "port", "pid", "signal", "phase", "state",
        # the audit log's signed end
        "sequence", "hash", "signed_at", "public_key", "signature",
        # how much, how long
        "count", "attempt", "keys", "models", "upstreams", "rows", "bytes", "backlog_rows", "backlog_bytes",
        "days", "percent", "period", "hourly_sums", "daily_sums", "positions",
        "duration_ms", "lag_ms", "delay_ms", "deadline_ms", "inflight",
    }
)  # fmt: skip

_EVENT = re.compile(r"luntrex\.[a-z][a-z0-9_]*")
_OUR_CODE = "luntrex_proxy"
_TEXT_LIMIT = 256
_LIST_LIMIT = 16
UNLISTED = "unlisted"

_log = structlog.get_logger()


class UnlistedFieldError(ValueError):
    """A log call tried to say something the allowlist does not name (raised in strict mode, that is in tests)."""


class Output:
    """Where log lines go. `write` takes an event whose fields are already known to be allowed."""

    def __init__(self, writer: Writer, *, console: bool, strict: bool) -> None:
        self.writer = writer
        self.console = console
        self.unlisted = 0
        self._strict = strict
        self._pretty = structlog.dev.ConsoleRenderer(timestamp_key="time") if console else None

    def encode(self, event: dict[str, Any]) -> bytes:
        """One line: JSON, or a readable form on a terminal."""
        if self._pretty is None:
            return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
        return f"{self._pretty(None, str(event.get('level', 'info')), event)}\n".encode()

    def allow(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
        """Let listed fields with plain values through; count the others and put a fixed marker in their place."""
        name = event.pop("event", None)
        allowed: dict[str, Any] = {"time": event.pop("time", None), "level": event.pop("level", None)}
        known = isinstance(name, str) and _EVENT.fullmatch(name) is not None
        bad = [] if known else ["event"]
        allowed["event"] = name if known else f"luntrex.{UNLISTED}"
        for field, value in event.items():
            if field in FIELDS and _is_plain(value):
                allowed[field] = value
            else:
                bad.append(field)
        if bad:
            if self._strict:
                raise UnlistedFieldError(f"not on the list of what may be logged: {', '.join(sorted(bad))}")
            self.unlisted += len(bad)
            # Neither name nor value: with `**fields` a name can be somebody else's text too.
            allowed[UNLISTED] = len(bad)
        return allowed


class _Lines:
    """The logger at structlog's end: one method per level, all the same."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def msg(self, line: bytes) -> None:
        self._writer.offer(line)

    debug = info = warning = error = critical = exception = msg


class _Libraries(logging.Handler):
    """What asyncio, aiohttp and asyncpg log: logger name, level and exception class. Their messages quote peers."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._burst = Burst(per_second=10)

    def emit(self, record: logging.LogRecord) -> None:
        if not self._burst.admit(int(time.monotonic())):
            return
        fields: dict[str, Any] = {"logger": record.name[:_TEXT_LIMIT]}
        if self._burst.held:
            fields["count"] = self._burst.held
            self._burst.held = 0
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            fields |= describe(error)
        emit = _log.error if record.levelno >= logging.ERROR else _log.warning
        emit("luntrex.library_message", **fields)


def configure(*, level: str = "info", strict: bool = False, descriptor: int = 2, console: bool | None = None) -> Output:
    """Set logging up for the process: JSON lines to stderr, a readable form when stderr is a terminal."""
    output = Output(Writer(descriptor), console=os.isatty(descriptor) if console is None else console, strict=strict)
    atexit.register(output.writer.close)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            output.allow,
            lambda _logger, _method, event: output.encode(dict(event)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(output.writer),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False  # else a handler that fails prints the message and its arguments
    return output


def install_exception_guards(loop: asyncio.AbstractEventLoop) -> None:
    """Make every way an unhandled exception can be printed say its class and our code line only."""
    if loop.get_debug():
        # Debug mode logs the arguments of callbacks, and those are pieces of requests.
        raise RuntimeError("asyncio's debug mode must be off: unset PYTHONASYNCIODEBUG and do not run python -X dev.")
    loop.set_exception_handler(_on_loop_exception)
    sys.excepthook = _on_crash
    threading.excepthook = _on_thread_exception
    sys.unraisablehook = _on_unraisable


def describe(error: BaseException) -> dict[str, Any]:
    """The two allowed fields of an exception: its class, and the lines of our own code it went through."""
    return {"error": type(error).__name__[:_TEXT_LIMIT], "at": _our_lines(error.__traceback__)}


def _our_lines(traceback: TracebackType | None) -> list[str]:
    lines = []
    while traceback is not None:
        module = traceback.tb_frame.f_globals.get("__name__", "")
        if module == _OUR_CODE or module.startswith(_OUR_CODE + "."):
            lines.append(f"{module}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return lines[-_LIST_LIMIT:]


def _on_loop_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # context["message"] and the objects beside it carry reprs of callbacks, transports and tasks.
    error = context.get("exception")
    _log.error("luntrex.loop_exception", **(describe(error) if error is not None else {}))


def _on_crash(kind: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        _log.critical("luntrex.crashed", **describe(error))


def _on_thread_exception(args: "threading.ExceptHookArgs") -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        _log.error("luntrex.thread_exception", **describe(args.exc_value))


def _on_unraisable(args: "sys.UnraisableHookArgs") -> None:
    if args.exc_value is not None:
        with contextlib.suppress(Exception):  # it may be called while the interpreter is going down
            _log.error("luntrex.unraisable_exception", **describe(args.exc_value))


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _TEXT_LIMIT
    if isinstance(value, list | tuple):
        return len(value) <= _LIST_LIMIT and all(
            _is_plain(item) and not isinstance(item, list | tuple) for item in value
        )
    return value is None or isinstance(value, bool | int | float)
