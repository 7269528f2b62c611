"""Types of fields that several resources share: moments and days within bounds, and words that are kept and shown."""

from datetime import UTC, date, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from luntrex_proxy.console.api.operations import Time
from luntrex_proxy.core.apikeys import mentions_key
from luntrex_proxy.settings.section import fault

# Neither Python's nor PostgreSQL's ends of time, near which times in another zone are none any more.
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
Day = Annotated[date, Field(ge=_EARLIEST.date(), le=_LATEST.date())]
Moment = Annotated[Time, Field(ge=_EARLIEST, le=_LATEST)]


def _check_public(text: str) -> str:
    if mentions_key(text):
        raise fault("must not have an API key in it")
    return text


# Without signs that steer terminals; PostgreSQL keeps no NUL.
PublicLine = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$"), AfterValidator(_check_public)]
PublicText = Annotated[str, Field(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$"), AfterValidator(_check_public)]
