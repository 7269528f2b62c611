"""Who sends a request: a session's cookie, or a personal access token. API keys open nothing here."""

import time
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from luntrex_proxy.console.api.problems import Problem, unauthenticated
from luntrex_proxy.console.cookies import SAFE_METHODS, is_from_our_pages, person_of
from luntrex_proxy.console.networks import network_of_client
from luntrex_proxy.control import tokens
from luntrex_proxy.control.access import Person
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.attempts import Attempts
from luntrex_proxy.core.tokens import is_token

_BEARER: Final = "bearer "
_KNOWN_MAX: Final = 10_000


class Callers:
    """Tells who asks. Networks that send wrong tokens have to wait, except with tokens that worked before."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._attempts = Attempts(services.settings.gateway.limits.key_failures_per_minute)
        self._worked: dict[bytes, None] = {}  # hashes of tokens that did, the newest last

    async def person(self, request: web.Request) -> Person | None:
        """Who it is; None: nobody said so. A wrong token raises a Problem, a session beside it or not."""
        given = request.headers.getall("Authorization", ())
        if given:
            return await self._holder(request, given)
        who = await person_of(request)
        if who is None:
            return None
        if request.method not in SAFE_METHODS and not is_from_our_pages(request):
            raise Problem("cross_site")
        roles = {member.account_id: member.role for member in who.members}
        session_id = str(who.session_id)
        return Person(str(who.person_id), who.operator, roles, session_id=session_id, fresh=who.is_fresh)

    async def _holder(self, request: web.Request, given: Sequence[str]) -> Person:
        network, now = network_of_client(request), time.monotonic()
        sent = given[0][len(_BEARER) :].strip().encode("utf-8", "surrogateescape")
        hashed = tokens.token_hash(sent)
        wait_s = self._attempts.wait_s(network, now)
        if wait_s and hashed not in self._worked:
            raise Problem("throttled", headers={"Retry-After": str(int(wait_s) + 1)})
        person = None
        if len(given) == 1 and given[0].lower().startswith(_BEARER) and is_token(sent):
            person = await tokens.holder(self._services.pool, sent)
        self._worked.pop(hashed, None)
        if person is None:
            self._attempts.note(network, now)
            raise unauthenticated()
        self._worked[hashed] = None
        if len(self._worked) > _KNOWN_MAX:
            del self._worked[next(iter(self._worked))]
        return person
