"""The secret files of a state directory together: which are plain, and how the wrapping key seals them, or no more.

A wrapping key that lies beside them (wrapping.key) would protect nothing, so it is not taken for this.
"""

from pathlib import Path
from typing import Final

from luntrex_proxy.store import audit, pepper
from luntrex_proxy.store.anchors import KEY_FILE, AnchorKey
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.kms import PREFIX
from luntrex_proxy.store.rotation import alone
from luntrex_proxy.store.sealedfile import Sealed, read_secret, replace_secret, sealed, unsealed
from luntrex_proxy.store.state import file_errors
from luntrex_proxy.store.wrappings import Wrappings

_FILES: Final = (pepper.PRESENT, pepper.OLD, pepper.NEW, KEY_FILE)


def plain(directory: Path) -> list[str]:
    """The names of those that whoever reads the disk can read."""
    return [name for name, found in _all(directory).items() if not isinstance(found, Sealed)]


def sealed_by(directory: Path) -> dict[str, str]:
    """The names of those that are sealed, and by which wrapping key."""
    return {name: found.by for name, found in _all(directory).items() if isinstance(found, Sealed)}


def require_kms(directory: Path) -> None:
    """StoreError: one is plain, or sealed by another key than one of KMS."""
    by = sealed_by(directory)
    found = [name for name in _all(directory) if not by.get(name, "").startswith(PREFIX)]
    if found:
        raise StoreError(
            f"security.policy is strict, and in {directory} {', '.join(found)} can be read by whoever has this "
            "machine's disks; run `luntrex-proxy secrets seal`, which lets the key of sealing.kms encrypt it."
        )


def require_plain(directory: Path) -> None:
    """RefusedError: one is sealed."""
    found = sealed_by(directory)
    if found:
        raise RefusedError(
            f"{', '.join(found)} of {directory} would be sealed under {found.popitem()[1]} still; run `luntrex-proxy "
            "secrets seal --undo` first."
        )


async def seal(pool: Pool, directory: Path, wrappings: Wrappings, *, only_again: bool = False) -> dict[str, str]:
    """Let the configured wrapping key seal all of them, those anew that another one sealed; names and by which.

    `only_again`: plain ones stay plain. RefusedError: the key lies beside them. Each file is the old or the new one
    whenever this ends.
    """
    if not wrappings.is_elsewhere:
        raise RefusedError(
            "The wrapping key would lie beside what it seals; set sealing.kms or sealing.key_file first."
        )
    names = [name for name, found in _all(directory).items() if isinstance(found, Sealed) or not only_again]
    await _rewrite(pool, directory, wrappings, names, to_sealed=True)
    return {name: by for name, by in sealed_by(directory).items() if name in names}


async def unseal(pool: Pool, directory: Path, wrappings: Wrappings) -> list[str]:
    """Make plain files of those that are sealed, such as for an earlier release; their names."""
    names = list(sealed_by(directory))
    await _rewrite(pool, directory, wrappings, names, to_sealed=False)
    return names


async def _rewrite(pool: Pool, directory: Path, wrappings: Wrappings, names: list[str], *, to_sealed: bool) -> None:
    async with alone(pool) as connection:
        for name in names:
            path = directory / name
            with file_errors(path):
                before = path.read_bytes()
            content = secret = await _opened(path, wrappings)
            if to_sealed:
                content = await sealed(secret, _known_by(name, secret), wrappings)
            with pepper.alone_with_files(directory), file_errors(path):
                if path.read_bytes() != before:
                    raise RefusedError(f"Somebody else has replaced {path} meanwhile; run it again.")
                replace_secret(path, content)
        if names:
            act = "secret_files.sealed" if to_sealed else "secret_files.unsealed"
            async with connection.transaction():
                await audit.record(connection, act, "state directory", facts={"files": tuple(names)})


async def _opened(path: Path, wrappings: Wrappings) -> bytes:
    if path.name != KEY_FILE:
        return await pepper.opened(path, wrappings)
    await AnchorKey.open(path.parent, wrappings)  # it is one
    with file_errors(path):
        return await unsealed(read_secret(path, f"The file {path}"), f"The file {path}", wrappings)


def _known_by(name: str, secret: bytes) -> bytes:
    return AnchorKey(secret).public if name == KEY_FILE else pepper.fingerprint(secret)


def _all(directory: Path) -> dict[str, bytes | Sealed]:
    found: dict[str, bytes | Sealed] = {}
    for path in (directory / name for name in _FILES):
        if path.exists():
            try:
                found[path.name] = read_secret(path, f"The file {path}")
            except (OSError, StoreError):  # whoever uses it says so; sealed it is not
                found[path.name] = b""
    return found
