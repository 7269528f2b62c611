"""What a wrong configuration raises. Nothing heavy is imported here: every command line verb loads this file."""

from collections.abc import Iterable


class ConfigError(Exception):
    """Everything that is wrong, one sentence per line, ready to print. No line holds a value from the configuration."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))
