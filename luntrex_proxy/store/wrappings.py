"""The wrapping keys of an installation: the configured one wraps, and whichever wrapped a data key unwraps it.

sealing.kms.key_id    AWS KMS wraps
sealing.key_file      else this file does
neither               else wrapping.key of the state directory, made at first use

So a daemon works before, during and after a rotation from one to another (`Wrappings.rotate`).
"""

import secrets
from pathlib import Path
from typing import Final

from luntrex_proxy.settings.sealing import Sealing
from luntrex_proxy.store import sealing as table
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.kms import PREFIX, AwsKms
from luntrex_proxy.store.rotation import alone
from luntrex_proxy.store.segments import sync_directory
from luntrex_proxy.store.state import file_errors
from luntrex_proxy.store.wrapping import (
    NEW_WRAPPING_FILE,
    WRAPPING_FILE,
    Wrapped,
    Wrapping,
    load_key_file,
    local_wrapping,
)

_KEY_BYTES: Final = 32


class Wrappings:
    """All wrapping keys at hand, as one."""

    def __init__(self, pool: Pool, state_directory: Path, sealing: Sealing, *, only_look: bool = False) -> None:
        self._only_look = only_look
        self._pool = pool
        self._directory = state_directory
        self._sealing = sealing
        self._kms: AwsKms | None = None

    @property
    def is_remote(self) -> bool:
        """Whether a service keeps the key."""
        return self._sealing.kms.key_id is not None

    @property
    def is_elsewhere(self) -> bool:
        """Whether the key lies apart from the state directory: what it seals there is worth nothing without it."""
        file = self._sealing.key_file
        return self.is_remote or (file is not None and not file.is_relative_to(self._directory))

    async def wrap(self, data_key: bytes) -> Wrapped:
        """Encrypt a data key with the configured key."""
        return await (await self._configured()).wrap(data_key)

    async def unwrap(self, wrapped: Wrapped) -> bytes:
        """Decrypt a data key with the key that encrypted it."""
        if wrapped.by.startswith(PREFIX):
            return await (await self._remote(wrapped.by)).unwrap(wrapped)
        path = self._sealing.key_file or await self._local()
        if not path.exists():
            raise StoreError(
                f"The secrets in this database are sealed under the wrapping key {wrapped.by}, and there is none at "
                f"{path}; put the right one in its place."
            )
        return await load_key_file(path).unwrap(wrapped)

    async def look(self) -> tuple[str, bool]:
        """Who wraps the data keys, and whether it is who should; fails when they do not open. Makes nothing."""
        with store_errors("give its data keys"):
            rows = await self._pool.fetch("SELECT wrapped, wrapped_by FROM data_key ORDER BY data_key_id")
        found = [Wrapped(row["wrapped"], row["wrapped_by"]) for row in rows]
        if not found and self.is_remote:
            found = [await self.wrap(secrets.token_bytes(_KEY_BYTES))]  # a try, kept nowhere
        for wrapped in found:
            await self.unwrap(wrapped)
        by = sorted({wrapped.by for wrapped in found})
        return ", ".join(by), all(name.startswith(PREFIX) == self.is_remote for name in by)

    async def rotate(self, *, to_file: bool = False) -> int:
        """Wrap all data keys anew: in KMS when it is configured, else (or `to_file`) with a new wrapping.key; how many.

        A death or a failure at any point leaves either the old state or the new one, and doing it again is right.
        RefusedError: another rotation is running.
        """
        async with alone(self._pool):
            return await self._rotate(to_file=to_file)

    async def _rotate(self, *, to_file: bool) -> int:
        await table.open_sealer(self._pool, self)
        if self.is_remote and not to_file:
            return await table.rewrap(self._pool, self, self)
        if self._sealing.key_file is not None:
            raise RefusedError(
                f"sealing.key_file names {self._sealing.key_file}: whoever keeps that file has to replace it."
            )
        await self._local()
        fresh = self._directory / NEW_WRAPPING_FILE
        with file_errors(fresh):
            fresh.unlink(missing_ok=True)
        count = await table.rewrap(self._pool, self, local_wrapping(self._directory, NEW_WRAPPING_FILE))
        await self._local()  # a death before it is mended by whoever opens next: the new key is on disk and named
        return count

    async def _configured(self) -> Wrapping:
        if self.is_remote:
            return await self._remote()
        if self._sealing.key_file is not None:
            return load_key_file(self._sealing.key_file)
        await self._local()
        return local_wrapping(self._directory)

    async def _remote(self, by: str = "") -> AwsKms:
        if not self.is_remote:
            raise StoreError(
                f"The secrets in this database are sealed under the wrapping key {by}; set sealing.kms.key_id to it."
            )
        if self._kms is None:
            with store_errors("say which installation it is"):
                installation_id = await self._pool.fetchval("SELECT installation_id FROM installation")
            self._kms = AwsKms(self._sealing.kms, installation_id)
        return self._kms

    async def _local(self) -> Path:
        """Where the state directory's key is; the end of a rotation that was cut short is done first."""
        path, fresh = self._directory / WRAPPING_FILE, self._directory / NEW_WRAPPING_FILE
        if fresh.exists():
            with store_errors("give its data keys"):
                is_used = await self._pool.fetchval(
                    "SELECT EXISTS (SELECT FROM data_key WHERE wrapped_by = $1)", load_key_file(fresh).name
                )
            if is_used and self._only_look:
                return fresh
            if is_used:
                with file_errors(fresh):
                    fresh.replace(path)
                    sync_directory(self._directory)
        return path
