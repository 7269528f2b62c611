"""An SMTP server that a test steers, in the loop that starts it, and the letters that it got."""

import asyncio
import email
import re
import ssl
from email.message import Message
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session


class MailServer:
    """Takes every letter until it is told to do otherwise."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.answers = {"RCPT": "250 fine", "DATA": "250 taken"}
        self.break_off = False  # right after the text
        self.hold = asyncio.Event()  # the answer to the text waits for it
        self.hold.set()
        self.port = 0
        self._listening: asyncio.Server | None = None

    async def start(self, tls: ssl.SSLContext | None = None, **options: Any) -> "MailServer":
        """Listen; `tls` from the first byte."""
        loop = asyncio.get_running_loop()

        def connected() -> SMTP:
            return SMTP(self, hostname="mail.example.org", loop=loop, **options)

        self._listening = await loop.create_server(connected, "127.0.0.1", 0, ssl=tls)
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            self._listening.close()
            await asyncio.sleep(0)

    async def handle_RCPT(self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _more: Any) -> str:
        """To whom."""
        envelope.rcpt_tos.append(address)
        return self.answers["RCPT"]

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:
        """The text."""
        assert isinstance(envelope.content, bytes)
        self.got.append(email.message_from_bytes(envelope.content))
        if self.break_off:
            assert server.transport is not None
            server.transport.abort()
        await self.hold.wait()
        return self.answers["DATA"]

    def tokens(self) -> list[str]:
        """Of the links in the letters."""
        return [found for one in self.got for found in re.findall(r"/link\?token=([\w-]{43})", one.get_payload())]
