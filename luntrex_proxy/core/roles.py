"""What a role in an account may do. One table; whoever asks says which permission, never which role."""

from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a person is in an account."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    BILLING = "billing"
    VIEWER = "viewer"
    PRIVACY = "privacy"


class Permission(StrEnum):
    """What can be done in an account. `read` shows, `write` changes, `own` is for what belongs to the person."""

    ACCOUNT_READ = "account:read"
    ACCOUNT_WRITE = "account:write"
    ACCOUNT_ERASE = "account:erase"
    MEMBERS_READ = "members:read"
    MEMBERS_WRITE = "members:write"
    KEYS_READ = "keys:read"
    KEYS_OWN = "keys:own"
    KEYS_WRITE = "keys:write"
    USAGE_READ = "usage:read"
    USAGE_MEMBERS = "usage:members"  # single requests of members, where the account lets them be seen
    BILLING_READ = "billing:read"
    BILLING_WRITE = "billing:write"
    CONSENTS_READ = "consents:read"
    CONSENTS_WRITE = "consents:write"
    PRIVACY_READ = "privacy:read"  # rights, registry, retention, incidents
    PRIVACY_WRITE = "privacy:write"
    AUDIT_READ = "audit:read"


_VIEWER: Final = frozenset({Permission.ACCOUNT_READ, Permission.KEYS_READ, Permission.USAGE_READ})
_OWNER_ALONE: Final = frozenset({Permission.ACCOUNT_ERASE, Permission.CONSENTS_WRITE, Permission.USAGE_MEMBERS})
PERMISSIONS: Final = {
    Role.OWNER: frozenset(Permission),
    Role.ADMIN: frozenset(Permission) - _OWNER_ALONE,
    # Not keys:read: of keys a developer sees those of their own.
    Role.DEVELOPER: frozenset(
        {Permission.ACCOUNT_READ, Permission.USAGE_READ, Permission.KEYS_OWN, Permission.MEMBERS_READ}
    ),
    Role.BILLING: frozenset(
        {Permission.ACCOUNT_READ, Permission.USAGE_READ, Permission.BILLING_READ, Permission.BILLING_WRITE}
    ),
    Role.VIEWER: _VIEWER,
    Role.PRIVACY: frozenset(
        {
            Permission.ACCOUNT_READ,
            Permission.MEMBERS_READ,
            Permission.CONSENTS_READ,
            Permission.PRIVACY_READ,
            Permission.PRIVACY_WRITE,
            Permission.AUDIT_READ,
        }
    ),
}
# What who runs the installation may do in every account, a member there or not.
OPERATOR: Final = PERMISSIONS[Role.ADMIN]


def may(role: Role | None, permission: Permission) -> bool:
    """Whether this role (None: no member) has the permission."""
    return role is not None and permission in PERMISSIONS[role]
