"""How long each class of data is kept, as the comments of the schema name classes; and invoices, by country.

    Class      a word after `retention:` in a comment, and what says when its rows are old
    age        the columns that tell when a row's time begins: the first that is there and set
    keep_until last day on which an invoice has to be kept

Classes `forever` and `account` have no period: what is in them goes with its subject.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# When the time of a row begins: at its end rather than its beginning. Of these columns a table has some.
AGE_COLUMNS: Final = (
    *("ended_at", "closed_at", "withdrawn_at", "expires_at", "last_used_at", "last_at", "at", "queued_at"),
    *("received_at", "created_at", "detected_at"),
)


@dataclass(frozen=True, slots=True)
class Class:
    """A class with a period. `setting` is the key of the section `retention` that holds its days."""

    name: str
    setting: str
    default_days: int
    reason: str


CLASSES: Final = (
    Class("usage", "usage_days", 396, "bills are checked request by request against last year's"),
    Class("totals", "totals_days", 3_653, "bills have to be provable"),
    Class("security", "security_days", 90, "attacks are recognised by what came before"),
    Class("session", "session_days", 30, "somebody may ask who was signed in, or what became of long work"),
    Class("mail", "mail_days", 7, "somebody may ask where a letter is"),
    Class("day", "token_days", 1, "links, exports and repeated requests end after a day"),
    Class("signup", "signup_days", 7, "an address that is not proven by then is nobody's"),
    Class("audit", "audit_days", 2_192, "claims lapse, and the law of most countries asks for proof that long"),
)
BY_NAME: Final = {each.name: each for each in CLASSES}
# Classes without a number of days, and why.
UNTIMED: Final[Mapping[str, str]] = {
    "account": "it goes with the person or account whose it is",
    "forever": "it is about the installation itself and names nobody, or the law sets no end to it",
}
BY_DATE: Final[Mapping[str, str]] = {"invoice": "the law of its country says until when"}

# Years after the end of the year of issue. Sources: AO 147 (DE, since 2025), BAO 132 (AT), OR 958f (CH), LPF L102 B and
# code de commerce L123-22 (FR), CIVA and national laws of the others; the longest where two apply.
INVOICE_YEARS: Final[Mapping[str, int]] = {
    "AT": 7, "BE": 10, "BR": 10, "CA": 6, "CH": 10, "CZ": 10, "DE": 8, "DK": 5, "ES": 6, "FI": 6, "FR": 10, "GB": 6,
    "IE": 6, "IT": 10, "LU": 10, "NL": 7, "NO": 5, "PL": 5, "PT": 10, "SE": 7, "US": 7,
}  # fmt: skip
LONGEST_INVOICE_YEARS: Final = 10  # where nobody has looked it up: too long is a smaller fault than too short


def keep_until(country: str, issued_on: datetime.date) -> datetime.date:
    """The last day on which an invoice of this country has to be kept."""
    return datetime.date(issued_on.year + INVOICE_YEARS.get(country, LONGEST_INVOICE_YEARS), 12, 31)
