"""Requests that were refused for their key: an account's for its members who may see keys, all for the operator."""

from luntrex_proxy.store.attempts import AttemptCount, list_page

__all__ = ["AttemptCount", "list_page"]
