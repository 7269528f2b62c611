"""Many power cuts: `python -m tests.long.power_cut --trials 10000`. What is simulated: tests/store/power_cut.py."""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tests.store.power_cut import run_trials


def main() -> int:
    """Run and print; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    chosen = parser.parse_args()
    console = Console()
    console.print(f"seed {chosen.seed}", highlight=False)
    began_s = time.monotonic()
    columns = TextColumn("cuts"), BarColumn(), TimeRemainingColumn()
    with (
        tempfile.TemporaryDirectory(prefix="lx-cut-") as directory,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task("cuts", total=chosen.trials)
        counts = run_trials(
            Path(directory), chosen.trials, chosen.seed, lambda done: progress.update(bar, completed=done)
        )
    said = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    console.print(f"{said}; {time.monotonic() - began_s:.0f} s; every promise was kept", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
