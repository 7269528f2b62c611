"""The mutation fuzzer for as long as one likes: `python -m tests.long.fuzz_http 100000 --seed 7`.

Half of the cases are requests, half answers; findings are printed, and the exit status is 1 if there was one.
"""

import argparse
import asyncio
import sys

import uvloop
from rich.progress import Progress

from tests.gateway.mutations import Finding, fuzz_answers, fuzz_requests

BATCH = 2000  # a fresh gateway for each, so that a finding is near its cause


async def run(count: int, seed: int) -> list[Finding]:
    """All cases of a run, in batches."""
    findings: list[Finding] = []
    with Progress() as progress:
        for fuzz in (fuzz_requests, fuzz_answers):
            bar = progress.add_task(fuzz.__name__, total=count // 2)
            for start in range(0, count // 2, BATCH):
                batch = min(BATCH, count // 2 - start)
                findings += await fuzz(batch, seed + start)
                progress.advance(bar, batch)
    return findings


def main() -> int:
    """Run, print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=int)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        findings = runner.run(run(asked.cases, asked.seed))
    for finding in findings[:50]:
        print(finding)
    print(f"{asked.cases} cases with seed {asked.seed}: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
