"""A file of accounts, members and keys (`luntrex-proxy apply`): its form, and from its text to core/declared.py.

accounts:
  - name: acme
    policy: "region=eu; retention=none; training=never"
    members: [{email: ada@example.org, role: owner}]
    labels: [{name: project, values: [search, chat]}]
    keys: [{name: ci, endpoints: [chat.completions], labels: {project: search}}]
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from msgspec import UNSET
from pydantic import AfterValidator, AwareDatetime, Field, ValidationError

from luntrex_proxy.core.declared import KINDS, Account, Key, Loc
from luntrex_proxy.core.labels import NAMES_MAX, VALUES_MAX
from luntrex_proxy.core.people import ADDRESS_RULE, read_address
from luntrex_proxy.core.policy import BadPolicyError, read_policy
from luntrex_proxy.core.roles import Role
from luntrex_proxy.core.scope import ENTRIES_MAX, read_scope
from luntrex_proxy.settings.allowances import Allowances
from luntrex_proxy.settings.complaints import Complaint, explain, placed_lines
from luntrex_proxy.settings.documents import MAX_FILE_BYTES, Document, parse_document
from luntrex_proxy.settings.errors import ConfigError
from luntrex_proxy.settings.scopes import NAME_PATTERN, ClientNetwork, Endpoint, LabelName, LabelValue, Model, Region
from luntrex_proxy.settings.section import NotEmpty, Section, fault


def _check_policy(words: str) -> str:
    try:
        read_policy(words)
    except BadPolicyError:
        raise fault("must read like 'region=eu,ch; retention=abuse_monitoring:30; training=never'") from None
    return words


def _check_address(text: str) -> str:
    address = read_address(text)
    if address is None:
        raise fault(ADDRESS_RULE[0].lower() + ADDRESS_RULE[1:].rstrip("."))
    return address


_Name = Annotated[str, Field(pattern=NAME_PATTERN)]
_Address = Annotated[str, AfterValidator(_check_address)]
_Status = Literal["active", "suspended"]


class MemberEntry(Section):
    """What a person is to be in the account."""

    email: _Address
    role: Role | Literal["none"]  # none: no member


class LabelEntry(Section):
    """A label that keys can carry."""

    name: LabelName
    values: Annotated[tuple[LabelValue, ...], NotEmpty, Field(max_length=VALUES_MAX)] | None = None  # null: any


class KeyEntry(Allowances):
    """A key that there is to be."""

    name: _Name
    owner: _Address | None = None
    status: _Status | Literal["revoked"] = "active"
    not_before: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    endpoints: Annotated[tuple[Endpoint, ...], NotEmpty, Field(max_length=ENTRIES_MAX)] | None = None
    models: Annotated[tuple[Model, ...], NotEmpty, Field(max_length=ENTRIES_MAX)] | None = None
    regions: Annotated[tuple[Region, ...], NotEmpty, Field(max_length=ENTRIES_MAX)] | None = None
    networks: Annotated[tuple[ClientNetwork, ...], NotEmpty, Field(max_length=ENTRIES_MAX)] | None = None
    labels: dict[LabelName, LabelValue | None] = Field(default_factory=dict)  # null: not carried

    def wanted(self) -> Key:
        """As it is compared."""
        given = self.model_fields_set
        return Key(
            name=self.name,
            owner=self.owner if "owner" in given else UNSET,
            status=self.status if "status" in given else UNSET,
            not_before=self.not_before,
            expires_at=self.expires_at,
            scope=read_scope(self.endpoints or (), self.models or (), self.regions or (), self.networks or ()),
            kinds=tuple(kind for kind in KINDS if kind in given),
            times=tuple(which for which in ("not_before", "expires_at") if which in given),
            labels=self.labels,
            limits=self.limit_terms() if given & {"limits", "model_limits"} else UNSET,
            budgets=self.budget_terms() if "budgets" in given else UNSET,
        )


class AccountEntry(Allowances):
    """An account that there is to be."""

    name: _Name
    status: _Status = "active"
    policy: Annotated[str, AfterValidator(_check_policy)] | None = None
    members: tuple[MemberEntry, ...] = ()
    keys: tuple[KeyEntry, ...] = ()
    labels: Annotated[tuple[LabelEntry, ...], Field(max_length=NAMES_MAX)] = ()
    time_zone: Annotated[str, Field(min_length=1, max_length=64)] | None = None

    def wanted(self) -> Account:
        """As it is compared."""
        given = self.model_fields_set
        return Account(
            name=self.name,
            status=self.status if "status" in given else UNSET,
            policy=self.policy if "policy" in given else UNSET,
            members={each.email: None if each.role == "none" else each.role.value for each in self.members},
            keys=tuple(key.wanted() for key in self.keys),
            labels={each.name: None if each.values is None else frozenset(each.values) for each in self.labels},
            limits=self.limit_terms() if given & {"limits", "model_limits"} else UNSET,
            budgets=self.budget_terms() if "budgets" in given else UNSET,
            time_zone=self.time_zone or UNSET,
        )


class DeclaredFile(Section):
    """The whole file."""

    accounts: tuple[AccountEntry, ...]


class Declared:
    """A file that was read: what it wants, and where each part stands."""

    def __init__(self, name: str, document: Document, wanted: tuple[Account, ...]) -> None:
        self.wanted = wanted
        self._name = name
        self._document = document

    def line(self, loc: Loc, sentence: str) -> str:
        """`file:line:column: key: sentence`."""
        return placed_lines(self._name, Document(values=self._document.values), [Complaint(loc, sentence)])[0]


def read_declared(name: str, raw: bytes) -> Declared:
    """A file's content; ConfigError has everything that is wrong with it."""
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError([f"{name}: is larger than {MAX_FILE_BYTES} bytes"])
    try:
        document = parse_document(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError([f"{name}: is not UTF-8 text"]) from None
    complaints: list[Complaint] = []
    wanted: tuple[Account, ...] = ()
    try:
        read = DeclaredFile.model_validate(document.data)
    except ValidationError as error:
        complaints += explain(error, DeclaredFile)
    else:
        complaints += _repeated(read)
        wanted = tuple(account.wanted() for account in read.accounts)
    if document.faults or complaints:
        raise ConfigError(placed_lines(name, document, complaints))
    return Declared(name, document, wanted)


def _repeated(read: DeclaredFile) -> Iterator[Complaint]:
    """The same thing twice would be one thing with two wills."""
    yield from _twice([account.name for account in read.accounts], ("accounts",), "name")
    for index, account in enumerate(read.accounts):
        place = ("accounts", index)
        yield from _twice([member.email for member in account.members], (*place, "members"), "email")
        yield from _twice([key.name for key in account.keys], (*place, "keys"), "name")
        yield from _twice([label.name for label in account.labels], (*place, "labels"), "name")


def _twice(names: Sequence[str], loc: Loc, field: str) -> Iterator[Complaint]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Complaint((*loc, index, field), "is here twice; say everything in one place")
