"""The ledger's refusal, shared by the way of a request (which answers 503) and the spool (which raises it)."""


class LedgerFullError(Exception):
    """The ledger has no room for another request; nothing may be forwarded."""
