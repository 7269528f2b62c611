"""Lists in pieces: where one begins stands in the address."""

from typing import Final

from luntrex_proxy.console.pages.page import Page
from luntrex_proxy.control.access import NotFoundError

_DIGITS_MAX: Final = 18


def number_in(text: str) -> int:
    """A whole number of the address; 0 when it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else 0


def require_operator(page: Page) -> None:
    """NotFoundError to whom does not run the installation: such pages are nobody else's to know of."""
    if not page.person.operator:
        raise NotFoundError
