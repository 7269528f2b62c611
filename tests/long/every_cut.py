"""Every byte of every sample stream in every manner of ending, through a running gateway on uvloop. Run by hand:

    python -m tests.long.every_cut [step]

About 150,000 requests, three to five minutes on one core. Prints a table: how often each code was recorded.
"""

import argparse
import time

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.core.wire.samples import SAMPLES
from tests.gateway.cuts import HOWS, cuts, judge

CODES = ("ok", "upstream_error", "upstream_cut", "upstream_closed")


async def main(step: int) -> None:
    """All of it, sample by sample."""
    console = Console()
    table = Table("how it ends", "requests", *CODES, "seconds")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    total = sum(1 for _ in cuts(step))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("cuts", total=total)
        for how in HOWS:
            began = time.monotonic()
            counts = dict.fromkeys(CODES, 0)
            for sample in SAMPLES:
                cases = list(cuts(step, samples=[sample], hows=[how]))
                progress.update(bar, description=f"{how}: {sample.name}"[:48])
                for code, count in (await judge(cases)).items():
                    counts[code] += count
                progress.advance(bar, len(cases))
            numbers = [f"{counts[code]:,}" for code in CODES]
            table.add_row(how, f"{sum(counts.values()):,}", *numbers, f"{time.monotonic() - began:.0f}")
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", type=int, nargs="?", default=1, help="cut at every so many bytes only (default 1)")
    uvloop.run(main(parser.parse_args().step))
