"""Kill the daemon again and again under load: `python -m tests.long.kills --kills 200`.

Each kill is a SIGKILL at a random moment, also while it starts; its embedded PostgreSQL dies with it. Clients ask
without a pause over connections of their own and keep the list of the answers they saw complete. At the end the usage
table must have each of these once: lost 0, doubled 0.
"""

import argparse
import asyncio
import collections
import random
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.long.soak import Forgetful
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, model, upstream
from tests.whole.killing import Found, Seen, kill_under_load, paced, settle_accounts


def show(found: Found, console: Console) -> None:
    """The counts."""
    table = Table("what", "count")
    for name, count in sorted(found.seen.ends.items()):
        table.add_row(f"client: {name}", f"{count:,}")
    for ending, count in sorted(found.rows.items()):
        table.add_row(f"ledger: {ending}", f"{count:,}")
    table.add_row("lost", str(len(found.lost)))
    table.add_row("doubled", str(len(found.doubled)))
    console.print(table)
    console.print(f"{found.kills} kills in {found.seconds:.0f} s", highlight=False)
    for complaint in found.complaints:
        console.print(f"WRONG {complaint}", markup=False)


def main() -> int:
    """Run and print; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=None)
    chosen = parser.parse_args()
    console, servers = Console(), LoopThread()
    scripted = ScriptedUpstream(servers)
    scripted.script = paced
    daemon = Daemon(servers, {
        "upstreams": [
            upstream("oai", "openai", f"{scripted.url}/v1"), upstream("ant", "anthropic", f"{scripted.url}/v1")
        ],
        "models": [model("plain", "oai"), model("claude", "ant")],
    })  # fmt: skip
    try:
        daemon.start()
        scripted.exchanges = collections.deque(maxlen=10)  # type: ignore[assignment] -- it must not grow for minutes
        scripted.raw = Forgetful()
        began_s = time.monotonic()
        columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task("kills", total=chosen.kills)

            def on_kill(kills: int, seen: Seen) -> None:
                about = f"{kills} kills, {len(seen.complete):,} answers complete"
                progress.update(bar, completed=kills, description=about)

            dice = random.Random(chosen.seed)
            seen = asyncio.run(kill_under_load(daemon, chosen.kills, chosen.clients, dice, on_kill))
        found = settle_accounts(daemon, seen, chosen.kills, time.monotonic() - began_s)
        show(found, console)
        return 1 if found.lost or found.doubled or found.complaints else 0
    finally:
        daemon.remove()
        scripted.stop()
        servers.stop()


if __name__ == "__main__":
    sys.exit(main())
