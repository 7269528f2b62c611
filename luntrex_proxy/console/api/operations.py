"""What an operation is: its declaration, and what its handler gets and gives."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from luntrex_proxy.console.api.cursors import DEFAULT_LIMIT, LONGEST_LIMIT
from luntrex_proxy.control.access import Person
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.consents import Purpose
from luntrex_proxy.core.registry import SUBPROCESSOR
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.settings.section import fault

_UUID: Final = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
# Every path parameter there is: its form, and what the OpenAPI document says of it. Another form is: not found.
PARAMETERS: Final = {
    "request_id": (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "Id of a request of one's usage: x-request-id."),
    "reference": (r"[A-Z2-7]{26}", "Reference of a request by right."),
    "account_id": (r"[1-9][0-9]{0,17}", "Id of the account."),
    "key_id": (r"[0-9A-Za-z]{12}", "Id of the API key, the part after `lx_`."),
    "month": (r"[0-9]{4}-[0-9]{2}", "A month in UTC, such as 2026-10."),
    "label": (r"[a-z][a-z0-9_]{0,31}", "Name of the label."),
    "label_value": (r"(?!lxp?_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "Value of the label."),
    "token_id": (r"[0-9A-Za-z]{12}", "Id of the token, the part after `lxp_`."),
    "subprocessor": (SUBPROCESSOR.pattern, "Name of the sub-processor, as /subprocessors has it."),
    "upstream": (r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "Name of the upstream in the configuration."),
    "purpose": ("|".join(Purpose), "What a consent is for."),
    "person_id": (_UUID, "Id of the person."),
    "invitation_id": (_UUID, "Id of the invitation."),
    "capture_id": (_UUID, "Id of the debug capture."),
    "incident_id": (r"[1-9][0-9]{0,17}", "Number of the incident."),
    "report_id": (_UUID, "Id of the report."),
    "invoice_id": (_UUID, "Id of the invoice."),
    "session_id": (_UUID, "Id of the session."),
    "work_id": (_UUID, "Id of the piece of work."),
}


def _check_time(text: Any) -> Any:
    """Only RFC 3339: pydantic would take numbers in text, too."""
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise fault("must be a time with its zone, such as 2030-01-31T00:00:00Z")
    return text


Time = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_check_time)]


class Body(BaseModel):
    """What comes in as JSON. Strict, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Query(BaseModel):
    """What comes in after the question mark. Each at most once; unknown ones are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class PageQuery(Query):
    """What every list takes."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=LONGEST_LIMIT, description="How many at most.")
    cursor: str | None = Field(None, max_length=1_024, description="`next_cursor` of the page before.")


class Shown(BaseModel):
    """What goes out."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


Item = TypeVar("Item", bound=Shown)
Row = TypeVar("Row")


class Page(Shown, Generic[Item]):
    """Part of a list. `next_cursor` is null on the last page."""

    items: list[Item]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """Something new: its representation, and its id under `path` for the Location header."""

    shown: Shown
    object_id: str
    etag: str | None = None
    location: str | None = None  # below /api/v1; None: the operation's path and the id


@dataclass(frozen=True, slots=True)
class Tagged:
    """A representation that two people may change at the same time, with the tag of its present state."""

    shown: Shown
    etag: str


class Who(Enum):
    """Who may ask for what lies in no account."""

    ANYONE = "anyone"  # without signing in
    PERSON = "person"  # with a session or any token
    SIGNED_IN = "signed in"  # with a session: a token cannot
    OPERATOR = "operator"  # who runs the installation; a token needs the scope `Operation.scopes`


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one operation, checked."""

    services: Services
    person: Person
    place: Mapping[str, str]  # path parameters
    body: Any  # an instance of Operation.body
    query: Any  # an instance of Operation.query
    after: tuple[Any, ...] | None = None  # where the page before ended
    if_match: str | None = None  # the ETag that is expected; None: any

    @property
    def account_id(self) -> int:
        """The account in the path."""
        return int(self.place["account_id"])

    @property
    def rows(self) -> int:
        """How many rows a list reads: one more than it shows tells that there are more."""
        return int(self.query.limit) + 1


@dataclass(frozen=True, slots=True)
class Listed:
    """One page, and the place in the list's order where it ends; None: it is the last."""

    items: list[Shown]
    end: tuple[Any, ...] | None


def page(
    call: Call, rows: Sequence[Row], show: Callable[[Row], Shown], place: Callable[[Row], tuple[Any, ...]]
) -> Listed:
    """The page that `Call.rows` rows make."""
    kept = rows[: call.query.limit]
    return Listed([show(row) for row in kept], place(kept[-1]) if len(rows) > len(kept) else None)


Result = Shown | Made | Tagged | Listed | None
Handler = Callable[[Call], Awaitable[Result]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One declaration: routing, validation, OpenAPI and the authorisation matrix are made of it."""

    name: str  # operationId
    method: str
    path: str  # below /api/v1
    summary: str
    # Any of these permissions in the account of the path; or who, where there is no account.
    access: tuple[Permission, ...] | Who
    scopes: tuple[Permission, ...] = ()  # with Who.OPERATOR: what a token needs
    handler: Handler
    body: type[Body] | None = None
    query: type[Query] | None = None
    answer: type[Shown] | None = None  # of a list: one of its items; None: 204
    makes: bool = False  # 201, and Idempotency-Key counts
    replay: Callable[[Call, str], Awaitable[Made]] | None = None  # of what was made, by id; None: a secret went with it
    members_only: bool = False  # not who runs the installation without being a member
    proven: bool = False  # a session must have proved within minutes whose it is; a token's scopes stand for that
    no_token: bool = False  # with Who.OPERATOR: only with a session, whatever a token's scopes
    tagged: bool = False  # ETag, and If-Match where it changes something
    problems: tuple[str, ...] = field(default=())  # codes beyond those of every operation of its kind

    @property
    def paged(self) -> bool:
        """Whether it lists with cursors."""
        return self.query is not None and issubclass(self.query, PageQuery)

    @property
    def conditional(self) -> bool:
        """Whether If-Match counts."""
        return self.tagged and self.changes and not self.makes

    @property
    def changes(self) -> bool:
        """Whether it is more than reading."""
        return self.method != "GET"
