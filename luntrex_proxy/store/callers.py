"""Rows of `keyselect` as callers. What many keys have alike is one object."""

from ipaddress import ip_network
from typing import Any, Final

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.policy import NOTHING, BadPolicyError, Policy, read_policy
from luntrex_proxy.core.scope import Scope

_SHARED_MAX: Final = 10_000  # scopes, and policies; beyond it equal ones are no longer one object


class Callers:
    """Makes callers of rows."""

    def __init__(self) -> None:
        self._scopes: dict[object, Scope] = {}
        self._policies: dict[str, Policy] = {}

    def of(self, row: Any) -> Caller:
        """The caller of a row of `api_key` joined with its account."""
        limits = [row["endpoints"], row["models"], row["regions"], row["networks"]]
        return Caller(
            row["account_id"],
            row["key_id"],
            row["not_before"],
            row["expires_at"],
            self._policy(row["policy"]),
            self._scope(limits) if any(limits) else None,
            row["consents"],
        )

    def _policy(self, text: str | None) -> Policy | None:
        """One that nobody understands admits nothing."""
        if text is None:
            return None
        policy = self._policies.get(text)
        if policy is None:
            try:
                policy = read_policy(text)
            except BadPolicyError:
                policy = NOTHING
            if len(self._policies) >= _SHARED_MAX:
                self._policies.clear()
            self._policies[text] = policy
        return policy

    def _scope(self, limits: list[Any]) -> Scope:
        name = tuple(None if words is None else tuple(words) for words in limits)
        scope = self._scopes.get(name)
        if scope is None:
            if len(self._scopes) >= _SHARED_MAX:
                self._scopes.clear()
            endpoints, models, regions, networks = name
            scope = self._scopes[name] = Scope(
                None if endpoints is None else frozenset(endpoints),
                models,
                None if regions is None else frozenset(regions),
                # As text in the row: the driver would make objects of those of every key.
                None if networks is None else tuple(map(ip_network, networks)),
            )
        return scope
