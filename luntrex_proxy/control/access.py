"""Who asks, and whether they may: the one place of the control plane that decides it. What a role may: core/roles.py.

A `Person` is read anew for each request, so a change of roles, a revoked token or an ended session counts at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from luntrex_proxy.core.roles import OPERATOR, Permission, Role, may


class DeniedError(Exception):
    """The person is known and may not do this."""


class NotFoundError(Exception):
    """There is no such thing, or nothing of it may be known to this person: both look alike."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is signed in or sent a token."""

    person_id: str
    operator: bool = False  # runs the installation
    roles: Mapping[int, Role] = field(default_factory=dict)  # by account id
    scopes: frozenset[Permission] | None = None  # what a token is limited to; None: signed in, not limited
    token_id: str | None = None
    session_id: str | None = None
    fresh: bool = False  # proved within the last minutes to be it; a token never does

    @property
    def way(self) -> str:
        """How the audit log names the person."""
        return f"console:{self.person_id}" if self.token_id is None else f"token:{self.token_id}:{self.person_id}"

    def may(self, account_id: int, permission: Permission) -> bool:
        """Whether the person has the permission in the account, now and by this way."""
        held = may(self.roles.get(account_id), permission) or (self.operator and permission in OPERATOR)
        return held and self.in_scope(permission)

    def in_scope(self, permission: Permission) -> bool:
        """Whether the token covers the permission, whatever the role."""
        return self.scopes is None or permission in self.scopes


def require(person: Person, account_id: int, *any_of: Permission) -> None:
    """Raise NotFoundError to whom the account does not concern, DeniedError to whom has none of these permissions."""
    if account_id not in person.roles and not person.operator:
        raise NotFoundError
    if not any(person.may(account_id, permission) for permission in any_of):
        raise DeniedError


def require_operator(person: Person, *any_of: Permission) -> None:
    """Raise DeniedError to whom does not run the installation, or whose token does not cover any of these."""
    if not person.operator or not any(person.in_scope(permission) for permission in any_of):
        raise DeniedError
