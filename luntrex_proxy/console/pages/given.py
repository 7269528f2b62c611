"""Fields of a form as values: words, moments, days, numbers. All that is wrong with them is said at once."""

import re
from datetime import UTC, date, datetime
from typing import Final

from luntrex_proxy.console.pages.page import Page, WrongFieldsError
from luntrex_proxy.core.apikeys import mentions_key

_EARLIEST: Final = date(2000, 1, 1)
_LATEST: Final = date(2200, 1, 1)
# PostgreSQL keeps no NUL, and some of the others steer terminals.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NEEDED: Final = "This is needed."
_NUMBER: Final = re.compile(r"\d{1,9}", re.ASCII)


class Given:
    """What a form says. `wrong`: by field, what cannot be; `check` when all were read."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.wrong: dict[str, str] = {}

    def check(self) -> None:
        """WrongFieldsError: something was wrong."""
        if self.wrong:
            raise WrongFieldsError(**self.wrong)

    def line(self, name: str, most: int, *, needed: bool = False) -> str:
        """Words on one line, of so many characters."""
        given = self.text(name, most, needed=needed)
        if "\n" in given or "\t" in given:
            self.wrong[name] = "Write it on one line."
        return given

    def text(self, name: str, most: int, *, needed: bool = False) -> str:
        """Words on one line or several, of so many characters. Nobody puts an API key there."""
        given = self._page.field(name).replace("\r\n", "\n").strip()
        if len(given) > most:
            self.wrong[name] = f"Write at most {most:,} characters; these are {len(given):,}."
        elif _CONTROLS.search(given):
            self.wrong[name] = "There are signs in it that nobody can read; write it anew."
        elif mentions_key(given):
            self.wrong[name] = "There is an API key in it; revoke that, and leave it out here."
        elif needed and not given:
            self.wrong[name] = _NEEDED
        return given

    def moment(self, name: str, *, needed: bool = False) -> datetime | None:
        """A moment in UTC."""
        given = self._page.field(name).strip()
        if not given:
            self._miss(name, needed=needed)
            return None
        try:
            found = datetime.fromisoformat(given)
        except ValueError:
            found = None
        if found is None or not _EARLIEST <= found.date() <= _LATEST:
            self.wrong[name] = "Give a day and a time in UTC, such as 2030-01-31T14:30."
            return None
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)

    def day(self, name: str, *, needed: bool = False) -> date | None:
        """A day."""
        given = self._page.field(name).strip()
        if not given:
            self._miss(name, needed=needed)
            return None
        try:
            found = date.fromisoformat(given)
        except ValueError:
            found = None
        if found is None or not _EARLIEST <= found <= _LATEST:
            self.wrong[name] = "Give a day, such as 2030-01-31."
            return None
        return found

    def number(self, name: str, most: int) -> int | None:
        """A whole number from 0 on; None where nothing is given."""
        given = self._page.field(name).strip()
        if not given:
            return None
        if not _NUMBER.fullmatch(given) or int(given) > most:
            self.wrong[name] = f"Give a whole number from 0 to {most:,}."
            return None
        return int(given)

    def one_of(self, name: str, words: tuple[str, ...]) -> str:
        """One of these words."""
        given = self._page.field(name)
        if given not in words:
            self.wrong[name] = "Choose one of them."
            return words[0]
        return given

    def _miss(self, name: str, *, needed: bool) -> None:
        if needed:
            self.wrong[name] = _NEEDED
