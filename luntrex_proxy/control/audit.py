"""Reading the audit log: an account's part for who may, all of it for who runs the installation."""

from luntrex_proxy.store.audit import Only, Shown, page

__all__ = ["Only", "Shown", "page"]
