"""What would happen to a request of an account, step by step, for who runs the installation. Nothing is sent."""

import re
from collections.abc import Mapping
from typing import Any, Final

from luntrex_proxy.console.pages.keys import KEY_ID
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.console.pages.refusals import sentence_of
from luntrex_proxy.control import keys, routes
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.acts import RefusedError
from luntrex_proxy.core.explanation import Explanation
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.core.scope import ENDPOINTS

_KEYS_MAX: Final = 200
_MODEL: Final = re.compile(r"[\x21-\x7e]{1,200}")
_POLICY: Final = re.compile(r"[\x20-\x7e]{1,200}")


async def _explain(page: Page) -> Mapping[str, Any]:
    if not page.person.operator:
        raise NotFoundError
    asked = {name: page.query(name).strip() for name in ("model", "key", "endpoint", "policy")}
    found = None
    if asked["model"]:
        try:
            found = await _found(page, asked)
        except RefusedError as refused:
            page.error = sentence_of(refused)
    known = await keys.list_page(page.services.pool, page.caller, page.account.account_id, None, _KEYS_MAX)
    return {
        "asked": asked,
        "found": found,
        "keys": [(key.key_id, key.name) for key in known],
        "endpoints": ENDPOINTS,
    }


async def _found(page: Page, asked: Mapping[str, str]) -> Explanation:
    model, key_id, policy = asked["model"], asked["key"] or None, asked["policy"] or None
    if not _MODEL.fullmatch(model) or (policy is not None and not _POLICY.fullmatch(policy)):
        raise RefusedError("Give a model as clients write it, and a policy such as region=eu; training=never.")
    if key_id is not None:
        if not KEY_ID.fullmatch(key_id):
            raise NotFoundError
        await routes.check_key(page.services.pool, page.account.account_id, key_id)
    question = routes.Asked(model, key_id, page.account.name, asked["endpoint"] or None, None, policy)
    return page.services.explain(await routes.question(page.services.pool, question))


ROUTES: Final = (
    Route("/accounts/{account_id}/settings/explain", "explain.html", _explain, None, Access.MEMBER,
          (Permission.ACCOUNT_READ,)),
)  # fmt: skip
