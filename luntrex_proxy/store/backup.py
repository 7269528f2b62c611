"""Backups: the whole database as one compressed SQL script, written by `pg_dump` and brought back by `psql`.

The first line says what it is (`About`), the last one that it is whole; `zcat FILE | psql` does without this program. A
file gets its name when it is complete and on disk. A script is loaded in one transaction whose COMMIT is sent after
its last line: however this process or those programs end before, nothing has changed. The pepper is not in it, nor is
the key that wraps sealed secrets.
"""

import contextlib
import fcntl
import gzip
import os
import re
import stat
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import msgspec

from luntrex_proxy.store.binaries import Binaries
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.following import FOLLOWER
from luntrex_proxy.store.migrate import ADVISORY_LOCK, packaged
from luntrex_proxy.store.pepper import NEW, OLD, PRESENT, fingerprint_in

_FORMAT: Final = 1
_FIRST: Final = b"-- luntrex-proxy backup "
_LAST: Final = b"-- luntrex-proxy backup: complete\n"
_PARTIAL: Final = ".luntrex-partial"
_PIECE_BYTES: Final = 1 << 20
_FIRST_LINE_BYTES: Final = 1 << 16
_COMPRESSION: Final = 3  # a third of the time of the usual 6, and hardly larger
_END_WAIT_S: Final = 60.0
_DUMP: Final = (
    *("--format=plain", "--encoding=UTF8", "--no-owner", "--no-privileges", "--no-publications", "--no-subscriptions"),
    *("--no-tablespaces", "--lock-wait-timeout=60s", "--no-password"),
)
# A message of an error may quote a row, its SQLSTATE does not.
_LOAD: Final = ("-X", "-q", "--no-password", "-o", os.devnull, "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=sqlstate")

# Ours carry the comment that every table of ours has; extensions bring tables of their own.
_TABLES: Final = """
SELECT format('%I.%I', nspname, relname) AS name, coalesce(description LIKE 'purpose: %', false) AS ours
FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
LEFT JOIN pg_description d ON d.objoid = pg_class.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition AND nspname !~ '^pg_|^information_schema$'
    AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = pg_class.oid AND e.deptype = 'e')
ORDER BY 1
"""
# What the triggers of the tables ran, and what begins the times of budgets: nothing foreign is there (`require_room`).
_DROP_FUNCTIONS: Final = b"""
DO $$ DECLARE ours regprocedure; BEGIN
    FOR ours IN SELECT oid FROM pg_proc p
        WHERE (prorettype = 'trigger'::regtype OR proname = 'budget_span') AND pronamespace = 'public'::regnamespace
        AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = p.oid AND e.deptype = 'e')
    LOOP EXECUTE 'DROP FUNCTION ' || ours; END LOOP;
END $$;
"""
_DAEMONS: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND (application_name = 'luntrex-proxy' OR starts_with(application_name, $1))
"""


class About(msgspec.Struct, frozen=True):
    """The first line of a backup. Nothing in it is secret."""

    format: int
    made_at: str
    release: str
    postgres_major: int  # of the program that wrote it; an older server may not understand it
    schema: list[str]
    installation_id: str
    pepper_fingerprint: str
    old_pepper_fingerprint: str  # while a rotation was under way


async def describe(pool: Pool, clients: Binaries, release: str, made_at: str) -> About:
    """What a backup made now says about itself. Raises StoreError when there is nothing to back up."""
    with store_errors("be described"):
        installation = await pool.fetchrow("SELECT * FROM installation")
        labels = await pool.fetch("SELECT version, name FROM schema_migration ORDER BY version")
    if installation is None:
        raise StoreError("The table installation of the database is empty; there is nothing whole to back up.")
    return About(
        format=_FORMAT,
        made_at=made_at,
        release=release,
        postgres_major=clients.major,
        schema=[f"{row['version']:04}_{row['name']}" for row in labels],
        installation_id=str(installation["installation_id"]),
        pepper_fingerprint=(installation["pepper_fingerprint"] or b"").hex(),
        old_pepper_fingerprint=(installation["old_pepper_fingerprint"] or b"").hex(),
    )


async def wrapped_by(pool: Pool) -> str:
    """Which key wraps the secrets in the database, by its kind and fingerprint; empty when there are none."""
    with store_errors("say what wraps its secrets"):
        return await pool.fetchval("SELECT max(wrapped_by) FROM data_key WHERE EXISTS (SELECT FROM secret)") or ""


async def server_major(pool: Pool) -> int:
    """PostgreSQL's major version at the other end."""
    with store_errors("say its version"):
        number: int = await pool.fetchval("SELECT current_setting('server_version_num')::int")
    return number // 10_000


def write_backup(path: Path, about: About, script: Iterator[bytes], show: Callable[[int], None]) -> int:
    """Write a new file of mode 0600; its size. `show` gets the bytes of the script so far.

    What killed backups left in the directory is removed: nobody holds its lock.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        if path.exists():
            raise RefusedError(f"{path} exists; choose another name, or move it away first.")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_leftovers(path.parent)
                _compress(file, about, script, show)
                os.fsync(file.fileno())
            try:
                path.hardlink_to(partial)  # a file of this name that came meanwhile is not replaced
            except FileExistsError:
                raise RefusedError(f"{path} exists; choose another name, or move it away first.") from None
            partial.unlink()
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync(path.parent)
        return path.stat().st_size
    except OSError as error:
        raise StoreError(f"The backup {path} cannot be written ({error.strerror}).") from None


def _remove_leftovers(directory: Path) -> None:
    for leftover in directory.glob(f"*{_PARTIAL}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
            finally:
                os.close(descriptor)


def _compress(file: IO[bytes], about: About, script: Iterator[bytes], show: Callable[[int], None]) -> None:
    done = 0
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=_COMPRESSION) as packed:
        packed.write(_FIRST + msgspec.json.encode(about) + b"\n")
        for piece in script:
            packed.write(piece)
            done += len(piece)
            show(done)
        packed.write(_LAST)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    """Bytes of a file. What is no file (a pipe cannot be read twice) raises RefusedError."""
    try:
        status = path.stat()
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}).") from None
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError(f"{path} is no ordinary file; name the backup itself.")
    return status.st_size


def check_backup(path: Path, show: Callable[[int], None]) -> None:
    """Raise StoreError unless the file is a whole, undamaged backup. Reads all of it."""
    for _ in read_backup(path, show):
        pass


def read_about(path: Path) -> About:
    """What a backup says about itself. Raises StoreError when it is none, or one this release cannot bring back."""
    with _opened(path) as (file, _):
        line = file.readline(_FIRST_LINE_BYTES)
    try:
        about = msgspec.json.decode(line.removeprefix(_FIRST), type=About) if line.startswith(_FIRST) else None
    except msgspec.DecodeError:
        about = None
    if about is None:
        raise RefusedError(f"{path} is no backup made by `luntrex-proxy db backup`.")
    unknown = [label for label in about.schema if label not in {file.label for file in packaged()}]
    if unknown or about.format != _FORMAT:
        raise RefusedError(f"{path} was made by release {about.release}, newer than this one; install that one first.")
    return about


def read_backup(path: Path, show: Callable[[int], None]) -> Iterator[bytes]:
    """The script in a backup, in pieces. A damaged file, or one without its last line, raises StoreError at the end.

    `show` gets the bytes of the file so far.
    """
    end = b""
    with _opened(path) as (file, raw):
        while piece := file.read(_PIECE_BYTES):
            end = (end + piece)[-len(_LAST) :]
            show(raw.tell())
            yield piece
    if end != _LAST:
        raise RefusedError(f"{path} is not whole; take another backup.")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[gzip.GzipFile, IO[bytes]]]:
    try:
        with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as file:
            yield file, raw
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise RefusedError(f"{path} is damaged, not whole, or no backup; take another one.") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}).") from None


def require_fitting_pepper(about: About, state_directory: Path) -> None:
    """Raise RefusedError unless the pepper of this state directory is one of the backup's. Makes none."""
    path, wanted = state_directory / PRESENT, {about.pepper_fingerprint, about.old_pepper_fingerprint} - {""}
    found = [each for each in (path, state_directory / OLD, state_directory / NEW) if each.exists()]
    fitting = [each for each in found if fingerprint_in(each).hex() in wanted]
    if not wanted or path in fitting:
        return
    state = f"that is {fitting[0]}" if fitting else f"{path} is {'another one' if path in found else 'missing'}"
    raise RefusedError(
        f"The keys in this backup need the pepper of fingerprint {about.pepper_fingerprint}; {state}: put it into "
        f"{path} first, or add --other-pepper to restore everything else (no key of the backup will work)."
    )


async def require_room(pool: Pool, about: About, *, replace: bool) -> list[str]:
    """The tables to drop before a backup is loaded. Raises RefusedError when it must not be loaded here."""
    with store_errors("say what it holds"):
        major = await server_major(pool)
        async with pool.acquire() as connection:
            tables, daemons = await _tables(connection), await connection.fetchval(_DAEMONS, FOLLOWER)
    if major < about.postgres_major:
        raise RefusedError(
            f"The backup was made with PostgreSQL {about.postgres_major}, the database is PostgreSQL {major}; "
            "restore into the same or a newer version."
        )
    if daemons:
        raise RefusedError("A luntrex-proxy daemon works on this database; stop every one, then restore.")
    if foreign := [name for name, ours in tables.items() if not ours]:
        raise RefusedError(
            f"The database holds what is not luntrex-proxy's ({', '.join(foreign[:3])}); restore into one of its own."
        )
    if tables and not replace:
        raise RefusedError(
            "The database is not empty; add --replace to drop all that luntrex-proxy has in it, or choose an empty one."
        )
    return list(tables)


async def _tables(connection: Connection) -> dict[str, bool]:
    return {row["name"]: row["ours"] for row in await connection.fetch(_TABLES)}


def dump(dsn: str, clients: Binaries) -> Iterator[bytes]:
    """The SQL script of a database as it is now, in pieces. Raises StoreError at its end when it is not whole."""
    with _started(clients.directory / "pg_dump", _DUMP, dsn, stdout=subprocess.PIPE) as (process, errors):
        if process.stdout is None:
            raise AssertionError
        while piece := process.stdout.read(_PIECE_BYTES):
            yield piece
        if process.wait() != 0:
            raise StoreError(f"pg_dump could not read the database ({_first_error(errors)}).")


def load(dsn: str, clients: Binaries, script: Iterator[bytes], drop: list[str]) -> None:
    """Drop tables and run a script, all in one transaction. Raises StoreError, and then nothing has changed."""
    with _started(clients.directory / "psql", _LOAD, dsn, stdin=subprocess.PIPE) as (process, errors):
        if process.stdin is None:
            raise AssertionError
        with contextlib.suppress(BrokenPipeError):  # it met an error, which is said below
            # Nobody migrates meanwhile: a daemon that starts now waits here.
            process.stdin.write(f"BEGIN;\nSELECT pg_advisory_xact_lock({ADVISORY_LOCK});\n".encode())
            process.stdin.write(b"SET LOCAL lock_timeout = '10s';\n")
            if drop:
                process.stdin.write(f"DROP TABLE {', '.join(drop)} CASCADE;\n".encode())
                process.stdin.write(b"DROP SCHEMA IF EXISTS billing;\n")
                process.stdin.write(_DROP_FUNCTIONS)
            for piece in script:
                process.stdin.write(piece)
            process.stdin.write(b"COMMIT;\n")
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        if process.wait() != 0:
            state = _sqlstate(errors)
            advice = "; raise max_locks_per_transaction of the server" if "53200" in state else ""
            raise StoreError(f"The database refused the backup ({state}){advice}; nothing in it has changed.")


@contextlib.contextmanager
def _started(
    program: Path,
    options: tuple[str, ...],
    dsn: str,
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A program of PostgreSQL at work on a database, and the file with what it says; killed when the block fails."""
    url, environment = without_password(dsn)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 -- PostgreSQL's own program, found by `binaries`
            [program, *options, f"--dbname={url}"],
            stdin=stdin,
            stdout=stdout,
            stderr=errors,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us: psql would roll back the statement and go on with the next
        )
        try:
            yield process, errors
        finally:
            if process.poll() is None:
                process.kill()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            process.wait(_END_WAIT_S)


def without_password(dsn: str) -> tuple[str, dict[str, str]]:
    """The URL for a command line, which everybody can read, and the environment with the password."""
    parts = urlsplit(dsn)
    login, at, place = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    password = unquote(password)
    query = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "password":
            password = value
        elif name == "sslpassword":
            raise RefusedError("pg_dump cannot be given the sslpassword of database.url; use a key file without one.")
        else:
            query.append((name, value))
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME") or name.startswith("PG")}
    secret = {"PGPASSWORD": password} if password else {}
    url = urlunsplit(parts._replace(netloc=user + at + place, query=urlencode(query, safe="/")))
    return url, kept | {"LC_ALL": "C", "PGAPPNAME": "luntrex-proxy backup", "PGCONNECT_TIMEOUT": "10"} | secret


def _first_error(errors: IO[bytes]) -> str:
    errors.seek(0)
    said = re.search(r"error: (.{1,300})", errors.read(10_000).decode("utf-8", "replace"))
    return said[1] if said else "it said nothing"


def _sqlstate(errors: IO[bytes]) -> str:
    errors.seek(0)
    said = errors.read(10_000).decode("utf-8", "replace")
    state = re.search(r"(?:ERROR|FATAL):\s+([0-9A-Z]{5})\b", said)
    if "\\restrict" in said:
        return "its psql is too old for this backup: install the current minor release"
    return f"SQLSTATE {state[1]}" if state else "psql could not work on it"
