"""How verbs print: JSON for programs, tables for people. Nothing is looked up here."""

import contextlib
import csv
import datetime
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import click
import orjson


def print_json(value: Any) -> None:
    """One JSON document on stdout; times in UTC."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC
    click.echo(orjson.dumps(value, option=options).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; without colour and without a width when stdout is not a terminal."""
    from rich.console import Console  # noqa: PLC0415 -- slow to import, and most verbs print no table
    from rich.table import Table  # noqa: PLC0415 -- as above

    width = None if sys.stdout.isatty() else 10_000  # into a pipe, a line is never broken
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def print_csv(lines: Sequence[Mapping[str, object]], file: IO[str] | None = None) -> None:
    """Lines with a head, as RFC 4180 has them; times in UTC. Nothing of no lines: their head is not known."""
    if not lines:
        return
    writer = csv.DictWriter(file or sys.stdout, list(lines[0]))
    writer.writeheader()
    writer.writerows({name: _in_csv(value) for name, value in line.items()} for line in lines)


def _in_csv(value: object) -> object:
    if hasattr(value, "astimezone"):
        return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    return value


@contextlib.contextmanager
def byte_bar(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while it is a terminal; call what it yields with the bytes done so far, from any thread."""
    from rich.console import Console  # noqa: PLC0415 -- slow to import, and most verbs show no bar
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # noqa: PLC0415 -- as above

    console = Console(stderr=True)
    columns = (TextColumn(label), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        line = bar.add_task(label, total=total)
        yield lambda done: bar.update(line, completed=done)


@contextlib.contextmanager
def count_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """The same, for things that are counted."""
    from rich.console import Console  # noqa: PLC0415 -- as above
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415 -- as above

    console = Console(stderr=True)
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        line = bar.add_task(label, total=total)
        yield lambda done: bar.update(line, completed=done)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if hasattr(value, "strftime"):
        return str(value.strftime("%Y-%m-%d %H:%M:%SZ"))
    return str(value)
