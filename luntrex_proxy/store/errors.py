"""What leaves this room when something fails: one sentence that says what to do. No driver exception goes further."""


class StoreError(Exception):
    """A table or file could not do what was asked. The message is for a person and quotes no secret."""


class StoreUnavailableError(StoreError):
    """The database does not answer now; the same call may work later."""


class StateInUseError(StoreError):
    """Another process owns the state directory."""


class RefusedError(StoreError):
    """The database works; what was asked is not possible (unknown name, taken name, wrong state).

    `code` says which of the API's fixed texts fits; "": none in particular.
    """

    def __init__(self, sentence: str, code: str = "") -> None:
        super().__init__(sentence)
        self.code = code


class ChangedError(RefusedError):
    """It is not as the one who asks has seen it last."""

    def __init__(self) -> None:
        super().__init__("It was changed meanwhile; look at it again.", "stale")
