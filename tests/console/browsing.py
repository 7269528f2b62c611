"""A browser for tests: follows our pages as a real one would, with cookies and the headers that browsers send."""

import re
from dataclasses import dataclass, field
from html import unescape

import aiohttp


def concrete(path: str) -> str:
    """A route's path as an address: of the first account, and otherwise of things that are not there."""
    return re.sub(r"\{\w+\}", "abcdefghijkl", path.replace("{account_id}", "1"))


@dataclass
class Seen:
    """A page as it came."""

    status: int
    text: str
    headers: dict[str, str]
    cookies: list[str]  # as set, with their attributes

    def hidden(self, name: str) -> str:
        """The value of a hidden field."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.text)
        return unescape(found[1]) if found else ""

    @property
    def said(self) -> str:
        """The text without its marks."""
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", self.text)).split())


@dataclass
class Browser:
    """One browser on a console at `url`."""

    client: aiohttp.ClientSession
    url: str
    jar: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    page: Seen | None = None

    async def get(self, path: str) -> Seen:
        """Open a page, following where it leads."""
        return await self._ask("GET", path, None)

    async def send(self, path: str, follow: bool = True, site: str | None = "same-origin", **fields: str) -> Seen:
        """Send a form of the page that is open."""
        token = self.page.hidden("form_token") if self.page else ""
        sent = ({"form_token": token} if token else {}) | fields
        headers = {} if site is None else {"Sec-Fetch-Site": site}
        return await self._ask("POST", path, sent, headers, follow)

    async def _ask(
        self,
        method: str,
        path: str,
        form: dict[str, str] | None,
        headers: dict[str, str] | None = None,
        follow: bool = True,
    ) -> Seen:
        cookies = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        sent = self.headers | (headers or {}) | ({"Cookie": cookies} if cookies else {})
        async with self.client.request(
            method, self.url + path, data=form, headers=sent, allow_redirects=False
        ) as answer:
            set_now = answer.headers.getall("Set-Cookie", [])
            seen = Seen(answer.status, (await answer.read()).decode(), dict(answer.headers), set_now)
        for line in set_now:
            name, _, rest = line.partition("=")
            value = rest.partition(";")[0].strip('"')
            if value and "Max-Age=0" not in line:
                self.jar[name] = value
            else:
                self.jar.pop(name, None)
        if follow and seen.status == 303:
            return await self._ask("GET", seen.headers["Location"], None)
        self.page = seen
        return seen
