"""Whose limits or budgets a form is about: the account, a key, a member, a label. As `key:ID` in the address."""

import contextlib
import uuid
from dataclasses import dataclass
from typing import Final

from luntrex_proxy.console.pages.keys import KEY_ID
from luntrex_proxy.console.pages.page import Page
from luntrex_proxy.control import keys, labels, members
from luntrex_proxy.control.access import DeniedError, NotFoundError
from luntrex_proxy.core.roles import Permission

ACCOUNT: Final = "account"
_SHOWN_MAX: Final = 500
_ENDED: Final = ("revoked", "expired")


@dataclass(frozen=True, slots=True)
class Whose:
    """Whom a form is about: one of these, or the account itself."""

    key_id: str | None = None
    person_id: uuid.UUID | None = None
    label: tuple[str, str] | None = None

    @property
    def word(self) -> str:
        """As the address has it."""
        if self.key_id is not None:
            return f"key:{self.key_id}"
        if self.person_id is not None:
            return f"member:{self.person_id}"
        return ACCOUNT if self.label is None else f"label:{self.label[0]}={self.label[1]}"


def read(page: Page) -> Whose:
    """Whom the address names. NotFoundError: nobody there can be. DeniedError: it is not for who asks to change."""
    kind, _, name = page.query("whose").partition(":")
    found = _read(kind, name)
    # What the account itself may use is said by who runs the installation.
    if not (page.person.operator if found == Whose() else page.may(Permission.KEYS_WRITE)):
        raise DeniedError
    return found


def _read(kind: str, name: str) -> Whose:
    if kind == "key" and KEY_ID.fullmatch(name):
        return Whose(name)
    if kind == "member":
        with contextlib.suppress(ValueError):
            return Whose(None, uuid.UUID(name))
    if kind == "label" and "=" in name:
        label, _, value = name.partition("=")
        return Whose(None, None, (label, value))
    if kind == ACCOUNT and not name:
        return Whose()
    raise NotFoundError


async def choices(page: Page) -> list[tuple[str, str]]:
    """Who can get limits or budgets from who asks, as (value, words)."""
    pool, account_id = page.services.pool, page.account.account_id
    found = [(ACCOUNT, "the account")] if page.person.operator else []
    if not page.may(Permission.KEYS_WRITE):
        return found
    listed = await keys.list_page(pool, page.caller, account_id, None, _SHOWN_MAX)
    found += [(f"key:{key.key_id}", f"key {key.name}") for key in listed if key.state not in _ENDED]
    return found


async def budget_choices(page: Page) -> list[tuple[str, str]]:
    """The same, with members and labels, which only budgets are for."""
    found = await choices(page)
    if not page.may(Permission.KEYS_WRITE):
        return found
    pool, account_id = page.services.pool, page.account.account_id
    if page.may(Permission.MEMBERS_READ):
        listed = await members.list_page(pool, account_id, None, _SHOWN_MAX)
        found += [(f"member:{each.person_id}", f"member {each.email}") for each in listed]
    for each in await labels.list_declared(pool, account_id):
        found += [(f"label:{each.name}={value}", f"label {each.name}={value}") for value in sorted(each.allowed or ())]
    return found


async def words(page: Page, whose: Whose) -> str:
    """How pages call them. NotFoundError: there is no such key or member here."""
    pool, account_id = page.services.pool, page.account.account_id
    if whose.key_id is not None:
        return f"key {(await keys.get(pool, page.caller, account_id, whose.key_id)).name}"
    if whose.label is not None:
        return f"label {whose.label[0]}={whose.label[1]}"
    if whose.person_id is None:
        return f"account {page.account.name}"
    listed = await members.list_page(pool, account_id, None, _SHOWN_MAX)
    for each in listed:
        if each.person_id == whose.person_id:
            return f"member {each.email}"
    raise NotFoundError
