"""Kill the daemon again and again during erasures, exports and notices: `python -m tests.long.rights_kills --kills 30`.

Each kill is a SIGKILL at a random moment, of some one more while it starts; its embedded PostgreSQL dies with it.
Status 1 when something of an erased person is left, a sum changed, an export was half usable, a notice counts as told
that the mail server had not taken, or one went out more than twice.
"""

import argparse
import random
import sys
import time

from rich.console import Console
from rich.table import Table

from tests.upstreams.loop_thread import LoopThread
from tests.whole.rightskilling import Found, Rounds, rounds


def erasures(killed: Rounds, kills: int, rows: int) -> None:
    """Of so many people, at moments spread over what one takes."""
    takes_s = killed.erase(rows, None)
    print(f"an erasure of {rows:,} requests takes {takes_s:.1f} s")
    for number in range(kills):
        killed.erase(rows, takes_s)
        print(f"erasures: {number + 1} kills, {len(killed.found.complaints)} complaints", flush=True)


def exports(killed: Rounds, kills: int, rows: int) -> None:
    """Of one person, after a random part of the bytes."""
    person = killed.someone(rows)
    size = killed.whole(person, rows)
    for number in range(kills):
        killed.export(person, rows, size)
        print(f"exports: {number + 1} kills, {len(killed.found.complaints)} complaints", flush=True)
        if number % 5 == 4:
            killed.whole(person, rows)


def notices(killed: Rounds, kills: int, people: int) -> None:
    """Of incidents that reach everybody, one after the other."""
    killed.people(people)
    done = 0
    while done < kills:
        done += max(1, killed.incident(min(5, kills - done), window_s=people * 0.05))
        print(f"notices: {done} kills, {len(killed.found.complaints)} complaints", flush=True)


def show(found: Found, seconds: float) -> None:
    """The counts."""
    console, table = Console(), Table("what", "count")
    for name, count in sorted(found.kills.items()):
        table.add_row(f"kills: {name}", f"{count:,}")
    for name, count in sorted(found.counts.items()):
        table.add_row(name, f"{count:,}")
    table.add_row("complaints", str(len(found.complaints)))
    console.print(table)
    console.print(f"{sum(found.kills.values())} kills in {seconds:.0f} s", highlight=False)
    for complaint in found.complaints:
        console.print(f"WRONG {complaint}", markup=False)


def main() -> int:
    """Run and print; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30, help="of each kind")
    parser.add_argument("--rows", type=int, default=60_000, help="requests of a person")
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--seed", type=int, default=None)
    chosen = parser.parse_args()
    servers, began_s = LoopThread(), time.monotonic()
    try:
        with rounds(servers, random.Random(chosen.seed)) as killed:
            erasures(killed, chosen.kills, chosen.rows)
            exports(killed, chosen.kills, chosen.rows)
            notices(killed, chosen.kills, chosen.people)
            found = killed.end()
    finally:
        servers.stop()
    show(found, time.monotonic() - began_s)
    return 1 if found.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
