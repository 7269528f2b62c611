"""AWS KMS for tests: moto in a process of its own, behind a front that can fail or be gone, and that remembers."""

import contextlib
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from tests.upstreams.loop_thread import LoopThread
from tests.whole.daemon import clean_environment, free_port

REGION = "eu-central-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


class FrontedKms:
    """`endpoint` is where to reach it. Faults hold until they are taken back."""

    def __init__(self, servers: LoopThread, moto_port: int, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []  # operation and arguments of each request that came in
        self.fault: tuple[int, str] | None = None  # status and code of every answer
        self.answers_left: int | None = None  # then `fault`
        self._servers, self._moto, self._tls = servers, f"http://127.0.0.1:{moto_port}", tls
        self._runner: web.AppRunner | None = None
        self.port = free_port()
        self.come_back()

    @property
    def endpoint(self) -> str:
        """The URL for sealing.kms.endpoint."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def new_key(self) -> str:
        """Make a key; its ARN."""
        answer = self._servers.run(self._forward("TrentService.CreateKey", b"{}"))
        arn: str = orjson.loads(answer[1])["KeyMetadata"]["Arn"]
        return arn

    def go_away(self) -> None:
        """Refuse connections."""
        if self._runner is not None:
            self._servers.run(self._runner.cleanup())
            self._runner = None

    def come_back(self) -> None:
        """Accept them again, on the same port."""
        self._servers.run(self._listen())

    async def _listen(self) -> None:
        app = web.Application()
        app.router.add_post("/", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True).start()

    async def _serve(self, request: web.Request) -> web.Response:
        target, body = request.headers["X-Amz-Target"], await request.read()
        self.asked.append((target.rpartition(".")[2], orjson.loads(body)))
        if self.answers_left is not None:
            self.answers_left -= 1
        if self.fault is not None and (self.answers_left is None or self.answers_left < 0):
            status, code = self.fault
            return web.json_response({"__type": code, "message": "canary-of-the-peer"}, status=status)
        status, answer = await self._forward(target, body)
        return web.Response(status=status, body=answer, content_type="application/x-amz-json-1.1")

    async def _forward(self, target: str, body: bytes) -> tuple[int, bytes]:
        headers = {
            "X-Amz-Target": target,
            "Content-Type": "application/x-amz-json-1.1",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/kms/aws4_request, Signature=0",
        }
        async with aiohttp.ClientSession() as client, client.post(self._moto, data=body, headers=headers) as answer:
            return answer.status, await answer.read()


@contextlib.contextmanager
def running_moto() -> Iterator[int]:
    """A moto server; its port."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        env=clean_environment(**CREDENTIALS),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait(10)


@contextlib.contextmanager
def aws_environment() -> Iterator[None]:
    """This process with credentials of nobody."""
    before = dict(os.environ)
    os.environ.update(CREDENTIALS)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
