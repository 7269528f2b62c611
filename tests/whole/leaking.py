"""A deliberately leaking build: the real daemon with its sinks patched to write down what was said.

Run in the daemon's place (`python -m tests.whole.leaking serve --config F`). The product has no such switch; this is
the positive control of `test_canaries.py`: what it leaks, the search must find.
"""

import base64
import os
import sys
import tempfile
import zlib
from typing import Any

import msgspec

from luntrex_proxy import cli
from luntrex_proxy.gateway import pipeline
from luntrex_proxy.observe.metrics import Metrics
from luntrex_proxy.observe.requestlog import RequestLog
from luntrex_proxy.store.spool import Spool

_last_body = b""


def main() -> None:
    """Patch every sink, then be the daemon."""
    _remember_bodies()
    _leak_into_log()
    _leak_into_spool_and_table()
    _leak_into_metrics()
    _leak_into_refusals()
    cli.main()


def _remember_bodies() -> None:
    decode = pipeline.decode

    def leaking(route: Any, body: bytes) -> Any:
        global _last_body
        _last_body = bytes(body)
        with open(os.path.join(tempfile.gettempdir(), "dump.z"), "ab") as file:  # noqa: PTH118, PTH123 -- careless on purpose
            file.write(zlib.compress(_last_body))
        return decode(route, body)

    pipeline.decode = leaking


def _leak_into_log() -> None:
    write = RequestLog.take

    def leaking(self: RequestLog, outcomes: Any) -> None:
        print("body=" + base64.b64encode(b"!" + _last_body).decode(), file=sys.stderr, flush=True)
        write(self, outcomes)

    RequestLog.take = leaking  # type: ignore[method-assign] -- the leak


def _leak_into_spool_and_table() -> None:
    settle = Spool.settle

    def leaking(self: Spool, outcome: Any, *then: Any) -> None:
        settle(self, msgspec.structs.replace(outcome, price_version=_last_body.hex()), *then)

    Spool.settle = leaking  # type: ignore[method-assign] -- the leak


def _leak_into_metrics() -> None:
    render = Metrics.render

    def leaking(self: Metrics) -> bytes:
        comment = "".join(f"%{byte:02X}" for byte in _last_body)
        return render(self) + f"# {comment}\n".encode()

    Metrics.render = leaking  # type: ignore[method-assign] -- the leak


def _leak_into_refusals() -> None:
    error_body = pipeline.error_body

    def leaking(*arguments: Any) -> bytes:
        return error_body(*arguments) + b" \n" + _last_body

    pipeline.error_body = leaking


if __name__ == "__main__":
    main()
