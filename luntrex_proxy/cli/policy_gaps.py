"""Which sentences of the privacy policy do not hold on an installation, and by what: said by several verbs."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from luntrex_proxy.store import wrapping

if TYPE_CHECKING:
    from luntrex_proxy.settings.model import Settings


def policy_gaps(settings: "Settings", directory: Path) -> Iterator[str]:
    """A sentence for each place where the configuration or the state directory falls short of the policy."""
    from luntrex_proxy.settings.section import show_loc  # noqa: PLC0415 -- pydantic is slow and --help needs none
    from luntrex_proxy.settings.security import shortfalls  # noqa: PLC0415 -- as above

    for found in shortfalls(settings):
        yield f'"{found.sentence}" does not hold: {show_loc(found.loc)} {found.remedy}'
    yield from plain_files(directory)


def plain_files(directory: Path) -> Iterator[str]:
    """The same for secrets in plain files of the state directory."""
    from luntrex_proxy.settings.security import AT_REST  # noqa: PLC0415 -- as above
    from luntrex_proxy.store import secretfiles  # noqa: PLC0415 -- as above

    there = secretfiles.plain(directory)
    if there:
        yield (
            f'"{AT_REST}" does not hold: {", ".join(there)} in {directory} are plain files, which only their owner may '
            "read; set sealing.kms, then run `luntrex-proxy secrets seal`"
        )
    if (directory / wrapping.WRAPPING_FILE).exists():
        yield (
            f'"{AT_REST}" does not hold: {wrapping.WRAPPING_FILE} in {directory} is a plain file and opens what it '
            "wrapped, in backups too; set sealing.kms, run `luntrex-proxy secrets rotate wrapping-key`, and keep the "
            "file elsewhere as long as such backups"
        )
