"""What goes out with every page: the headers that keep it safe; files that pages use; files sent as they come."""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from aiohttp import web

from luntrex_proxy.console.cookies import is_behind_tls
from luntrex_proxy.console.pages.rendering import StaticFile
from luntrex_proxy.control.acts import StoreError
from luntrex_proxy.settings.model import Settings

# `default` is the policy of app.js, by which htmx may read the pieces of pages that this server sends; none lets text
# become a script.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types default"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_HSTS: Final = {"Strict-Transport-Security": "max-age=63072000"}


def guard(response: web.StreamResponse, settings: Settings) -> web.StreamResponse:
    """Give an answer the headers that every page has."""
    headers = _HEADERS | (_HSTS if is_behind_tls(settings) else {})
    for name, value in headers.items():
        response.headers.setdefault(name, value)
    return response


async def send_pieces(
    request: web.Request, settings: Settings, headers: dict[str, str], pieces: AsyncGenerator[bytes, None]
) -> web.StreamResponse:
    """A file as it is made. StoreError: it failed before its first piece; later the transfer breaks off."""
    response = guard(web.StreamResponse(headers=headers), settings)
    async with contextlib.aclosing(pieces):
        first = await anext(pieces, b"")
        await response.prepare(request)
        try:
            await response.write(first)
            async for piece in pieces:
                await response.write(piece)
            await response.write_eof()
        except StoreError:
            # It has begun: that it is not whole is told by its breaking off, or the browser waits for the rest.
            if request.transport is not None:
                request.transport.abort()
    return response


def answer_with(file: StaticFile) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Sends a file. Its address has a hash of it, so it never changes."""
    headers = {
        "Content-Type": f"{file.content_type}; charset=utf-8",
        "Cache-Control": "public, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
    }

    async def answer(request: web.Request) -> web.Response:
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=file.gzipped, headers=headers | {"Content-Encoding": "gzip"})
        return web.Response(body=file.body, headers=headers)

    return answer
