"""`luntrex-proxy debug-capture ...`: for a key's owner, on the owner's machine. It talks to the API with a token of the
owner's; the private key is made here and never sent.
"""

import asyncio
import base64
import http.client
import io
import os
import ssl
import sys
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
import click
import msgspec

from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.core.capture import MINUTES_MAX, REQUESTS_MAX
from luntrex_proxy.core.listening import is_loopback_host
from luntrex_proxy.settings.urls import host_of
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.sealedbox import KEY_BYTES, make_pair, unseal

_PAGE: Final = 20  # records; each can have three megabytes
_TRY_S: Final = 60.0
_TOKEN_VARIABLE: Final = "LUNTREX_TOKEN"  # noqa: S105 -- a name
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_REQUESTS: Final = click.IntRange(1, REQUESTS_MAX)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Api:
    """The API, asked as the owner of a token."""

    client: aiohttp.ClientSession
    base: str

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON. RefusedError says what the API says."""
        try:
            async with self.client.request(method, f"{self.base}/api/v1{path}", json=body) as answer:
                found = msgspec.json.decode(await answer.read() or b"null")
                if answer.status >= 400:
                    raise RefusedError(f"{found['title']}: {found['detail']}")
                return found
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError):
            raise StoreError(
                f"{self.base} cannot be reached, or it is no console of luntrex-proxy; check --url."
            ) from None

    async def all(self, path: str, limit: int = 100) -> list[Any]:
        """Every page of a list."""
        items, cursor = [], ""
        while cursor is not None:
            page = await self.ask("GET", f"{path}?limit={limit}{cursor}")
            items += page["items"]
            cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
        return items

    async def account_of_key(self, key_id: str) -> int:
        """The account in which the key is that may be seen."""
        for account in await self.all("/accounts"):
            if any(key["id"] == key_id for key in await self.all(f"/accounts/{account['id']}/keys")):
                return int(account["id"])
        raise RefusedError("There is no such key among those you may see.")

    async def capture(self, capture_id: str) -> tuple[int, dict[str, Any]]:
        """The capture, and in which account it is."""
        for account in await self.all("/accounts"):
            for found in await self.all(f"/accounts/{account['id']}/debug-captures"):
                if found["id"] == capture_id:
                    return int(account["id"]), found
        raise RefusedError("There is no such debug capture among those you may see.")


@click.group("debug-capture")
def debug_capture() -> None:
    """Copy a key's next requests, readable to you alone.

    With a personal access token of the key's owner, from --token-file, $LUNTREX_TOKEN or stdin. What is captured is
    encrypted before it is stored, to a key pair whose private half stays here, and deleted after 24 hours.
    """


@debug_capture.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def keygen(file: Path) -> None:
    """Make a key pair: the private key goes into FILE (new, mode 0600), the public one is printed."""
    private, public = make_pair()
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{file} cannot be made ({error.strerror}); name a new file.") from None
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(base64.b64encode(private) + b"\n")
    click.echo(base64.b64encode(public).decode())


def _reaching(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--ca-file", type=_FILE, help="PEM file of authorities to trust."),
        click.option("--token-file", type=_FILE, help="A file with your token."),
        click.option("--url", required=True, metavar="URL", help="The console, such as https://proxy.example.com."),
    ):
        command = option(command)
    return command


@debug_capture.command()
@click.argument("key_id")
@click.option("--public-key", required=True, metavar="BASE64", help="What keygen printed.")
@click.option("--requests", type=_REQUESTS, default=20, show_default=True, help="How many at most.")
@click.option("--minutes", type=click.IntRange(1, MINUTES_MAX), default=10, show_default=True, help="How long at most.")
@_reaching
@_json
def start(key_id: str, public_key: str, requests: int, minutes: int, as_json: bool, **reach: Any) -> None:
    """Capture the next requests of a key of yours."""

    async def body(api: _Api) -> Any:
        account_id = await api.account_of_key(key_id)
        wanted = {"public_key": public_key, "requests": requests, "minutes": minutes}
        return await api.ask("POST", f"/accounts/{account_id}/keys/{key_id}/debug-captures", wanted)

    made = _run(body, **reach)
    if as_json:
        print_json(made)
    else:
        click.echo(f"{made['id']} captures until {made['expires_at']}; answers have x-luntrex-debug-capture.")


@debug_capture.command()
@click.argument("capture_id")
@_reaching
@_json
def stop(capture_id: str, as_json: bool, **reach: Any) -> None:
    """End a capture; what it has can be read for the rest of the 24 hours."""

    async def body(api: _Api) -> Any:
        account_id, _ = await api.capture(capture_id)
        return await api.ask("POST", f"/accounts/{account_id}/debug-captures/{capture_id}/stop")

    ended = _run(body, **reach)
    if as_json:
        print_json(ended)
    else:
        click.echo(f"{capture_id} has ended.")


@debug_capture.command("list")
@_reaching
@_json
def list_captures(as_json: bool, **reach: Any) -> None:
    """Show captures, never what they hold."""

    async def body(api: _Api) -> Any:
        accounts = await api.all("/accounts")
        return [one for each in accounts for one in await api.all(f"/accounts/{each['id']}/debug-captures")]

    found = _run(body, **reach)
    if as_json:
        print_json(found)
        return
    print_table(
        ("ID", "KEY", "RUNS", "RECORDS", "STARTED", "UNTIL"),
        [
            (
                one["id"],
                one["key_id"],
                "yes" if one["live"] else "no",
                one["records"],
                one["started_at"],
                one["expires_at"],
            )
            for one in found
        ],
    )


@debug_capture.command()
@click.argument("capture_id")
@click.option("--key-file", type=_FILE, required=True, help="What keygen made.")
@_reaching
@_json
def read(capture_id: str, key_file: Path, as_json: bool, **reach: Any) -> None:
    """Print what was captured, decrypted here."""
    private = _private_key(key_file)

    async def body(api: _Api) -> Any:
        account_id, _ = await api.capture(capture_id)
        return await api.all(f"/accounts/{account_id}/debug-captures/{capture_id}/records", _PAGE)

    context = uuid.UUID(capture_id).bytes
    found = [_opened(private, base64.b64decode(one["sealed"]), context) for one in _run(body, **reach)]
    if as_json:
        print_json(found)
        return
    for one in found:
        click.echo(f"--- {one['request_id']} {one['route']} {one['status']}")
        click.echo(one["request"])
        click.echo(one["answer"])


def _opened(private: bytes, sealed: bytes, context: bytes) -> dict[str, Any]:
    record = msgspec.json.decode(unseal(private, sealed, context))
    request, answer = base64.b64decode(record["request"]), base64.b64decode(record["answer"])
    status, body = _read_answer(answer)
    return {
        "request_id": record["request_id"],
        "route": record["route"],
        "status": status,
        "request": request.decode(errors="replace"),
        "answer": body.decode(errors="replace"),
        "request_whole": len(request) == record["request_bytes"],
        "answer_whole": len(answer) == record["answer_bytes"],
    }


class _Bytes(io.BytesIO):
    """Stands for the socket that an HTTP answer is read from."""

    def makefile(self, *_: Any) -> "_Bytes":
        """What http.client reads."""
        return self


def _read_answer(raw: bytes) -> tuple[int, bytes]:
    """Status and body of an answer as it was sent; of one that was cut, what there is."""
    answer = http.client.HTTPResponse(_Bytes(raw))  # type: ignore[arg-type]  # it is read, nothing else
    try:
        answer.begin()
        return answer.status, answer.read()
    except http.client.IncompleteRead as cut:
        return answer.status, cut.partial
    except (http.client.HTTPException, ValueError):
        return 0, raw


def _private_key(file: Path) -> bytes:
    try:
        private = base64.b64decode(file.read_bytes().strip(), validate=True)
    except (OSError, ValueError):
        private = b""
    if len(private) != KEY_BYTES:
        raise RefusedError(f"{file} is no private key that `debug-capture keygen` made.")
    return private


def _run(body: Callable[[_Api], Awaitable[T]], url: str, token_file: Path | None, ca_file: Path | None) -> T:
    url = url.rstrip("/")
    if not url.startswith("https://") and not (url.startswith("http://") and is_loopback_host(host_of(url))):
        raise RefusedError("--url must start with https:// (or be http:// on this machine): the token crosses it.")
    return asyncio.run(_ask(body, url, _token(token_file), ca_file))


async def _ask(body: Callable[[_Api], Awaitable[T]], url: str, token: str, ca_file: Path | None) -> T:
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca_file))
    timeout = aiohttp.ClientTimeout(total=_TRY_S)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout, trust_env=False) as client:
        return await body(_Api(client, url))


def _token(file: Path | None) -> str:
    token = file.read_text().strip() if file is not None else os.environ.get(_TOKEN_VARIABLE, "")
    if not token:
        token = click.prompt("Token", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.read()
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token or not token:
        raise RefusedError("This is no personal access token.")
    return token
