"""What a form brings: fields of text, bounded in size, number and time."""

import asyncio
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

_BYTES_MAX: Final = 65_536
# Three texts of an incident, of 4,000 characters each: nine bytes for one, percent-encoded, where it is not Latin.
_KNOWN_BYTES_MAX: Final = 262_144
_WAIT_S: Final = 10.0
_FIELDS_MAX: Final = 50


async def read_form(request: web.Request, *, is_known: bool) -> dict[str, str]:
    """The fields of a form. ValueError: it is none, is too large, or does not come.

    `is_known`: somebody who is signed in sends it, who may write more than whoever comes.
    """
    if request.content_type != "application/x-www-form-urlencoded" or "Content-Encoding" in request.headers:
        raise ValueError
    raw, most = bytearray(), _KNOWN_BYTES_MAX if is_known else _BYTES_MAX
    try:
        async with asyncio.timeout(_WAIT_S):
            while piece := await request.content.readany():
                raw += piece
                if len(raw) > most:
                    raise ValueError
    except TimeoutError:
        raise ValueError from None
    return dict(parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=_FIELDS_MAX, errors="strict"))
