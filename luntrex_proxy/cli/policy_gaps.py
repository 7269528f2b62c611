"""Which sentences of the privacy policy do not hold on an installation, and by what: said by several verbs."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from luntrex_proxy.store import anchors, pepper, wrapping

if TYPE_CHECKING:
    from luntrex_proxy.settings.model import Settings

_SECRET_FILES: Final = (pepper.PRESENT, pepper.OLD, pepper.NEW, anchors.KEY_FILE, wrapping.WRAPPING_FILE)


def policy_gaps(settings: "Settings", directory: Path) -> Iterator[str]:
    """A sentence for each place where the configuration or the state directory falls short of the policy."""
    from luntrex_proxy.settings.section import show_loc  # noqa: PLC0415 -- pydantic is slow and --help needs none
    from luntrex_proxy.settings.security import shortfalls  # noqa: PLC0415 -- as above

    for found in shortfalls(settings):
        yield f'"{found.sentence}" does not hold: {show_loc(found.loc)} {found.remedy}'
    yield from plain_files(directory)


def plain_files(directory: Path) -> Iterator[str]:
    """The same for secrets that no setting keeps out of plain files, `security.policy: strict` included."""
    from luntrex_proxy.settings.security import AT_REST  # noqa: PLC0415 -- as above

    there = [name for name in _SECRET_FILES if (directory / name).exists()]
    if there:
        yield (
            f'"{AT_REST}" does not hold: {", ".join(there)} in {directory} are plain files, which only their owner may '
            "read; keep that directory on a volume that your provider's KMS encrypts, and apart from the database's"
        )
