"""`llama_url`: one llama.cpp server for the whole session, skipped with the reason when there is none.

Both `tests/llama` and `tests/whole` import the fixture, hence the cache: they share one server.
"""

import atexit
import functools
import http.client
import importlib.util
import platform
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
READY_SECONDS = 60


@pytest.fixture(scope="session")
def llama_url() -> str:
    """Base URL (with /v1) of a real llama.cpp server on a tiny random model; it knows chat and embeddings."""
    missing = [name for name in ("xllamacpp", "tokenizers", "gguf", "numpy") if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f"no llama.cpp server here: {', '.join(missing)} not installed for {platform.machine()}")
    return _start()


@functools.cache
def _start() -> str:
    directory = tempfile.TemporaryDirectory(prefix="luntrex-llama-")
    model = Path(directory.name, "tiny.gguf")
    subprocess.run([sys.executable, "-m", "tests.llama.model", str(model)], cwd=REPOSITORY, check=True)
    port = _free_port()
    log = Path(directory.name, "server.log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.llama.serve", str(model), str(port)], cwd=REPOSITORY, stdout=out, stderr=out
        )
    atexit.register(_stop, process, directory)
    deadline = time.monotonic() + READY_SECONDS
    while not _healthy(port):
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the llama.cpp server did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)
    return f"http://127.0.0.1:{port}/v1"


def _stop(process: subprocess.Popen[bytes], directory: tempfile.TemporaryDirectory[str]) -> None:
    process.terminate()
    process.wait(10)
    directory.cleanup()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
