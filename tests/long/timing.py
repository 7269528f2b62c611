"""Whether the time of a refusal tells a known key id from an unknown one. Run by hand:

    python -m tests.long.timing [--pairs 2000]

Wrong keys of the right form, in pairs in random order: one with the id of a key that exists, one with an id that does
not. Printed are the medians, their difference beside the noise of the same comparison with the labels shuffled, and how
often a guess by "the slower one exists" would be right (50 % is a coin).
"""

import argparse
import random
import statistics
import time

from rich.console import Console
from rich.progress import track

from luntrex_proxy.core.apikeys import RANDOM_BYTES, make_key
from tests.upstreams.bodies import answer_by_path
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import ScriptedUpstream
from tests.whole.daemon import Daemon, model, running, upstream
from tests.whole.raw import RawClient, post


def forged(key_id: str) -> str:
    """A key of the right form with this id, and a secret that is wrong."""
    from luntrex_proxy.core.apikeys import checksum

    checked = f"lx_{key_id}_".encode() + make_key(random.randbytes(RANDOM_BYTES))[1][16:59]
    return (checked + checksum(checked)).decode()


def refusal_us(daemon: Daemon, client: RawClient, key: str) -> float:
    """Microseconds from the request to the first bytes of its 401."""
    request = post(daemon, "/v1/chat/completions", b"{}", key=key)
    started_ns = time.perf_counter_ns()
    client.send(request)
    answer = client.read_until(b"\r\n\r\n")
    assert b" 401 " in answer
    return (time.perf_counter_ns() - started_ns) / 1000


def measure(daemon: Daemon, pairs: int) -> list[tuple[float, float]]:
    """(known, unknown) of each pair."""
    known = daemon.key.split("_")[1]
    found = []
    for _ in track(range(pairs), "pairs"):
        times = {}
        for exists in random.sample((True, False), 2):
            unknown = make_key(random.randbytes(RANDOM_BYTES))[0]  # for both: what it takes tells in what comes next
            key_id = known if exists else unknown
            with RawClient(daemon.port, timeout_seconds=5) as client:
                times[exists] = refusal_us(daemon, client, forged(key_id))
        found.append((times[True], times[False]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000)
    options = parser.parse_args()
    servers = LoopThread()
    scripted = ScriptedUpstream(servers)
    scripted.script = lambda exchange: answer_by_path(exchange.path, exchange.body)
    configuration = {
        "gateway": {"limits": {"key_failures_per_minute": None}},
        "upstreams": [upstream("oai", "openai", f"{scripted.url}/v1")],
        "models": [model("plain", "oai")],
    }
    with running(servers, configuration) as daemon:
        pairs = measure(daemon, options.pairs)
    scripted.stop()
    servers.stop()
    report(pairs)


def report(pairs: list[tuple[float, float]]) -> None:
    """Print what the times of (known, unknown) tell, beside what the same times tell with their labels shuffled."""
    differences = [known - unknown for known, unknown in pairs]
    shuffled = [
        abs(statistics.median(difference * random.choice((-1, 1)) for difference in differences)) for _ in range(200)
    ]
    console = Console()
    known_us, unknown_us = (statistics.median(pair[at] for pair in pairs) for at in (0, 1))
    console.print(f"median known {known_us:.1f} us, unknown {unknown_us:.1f} us")
    console.print(f"median difference {statistics.median(differences):+.2f} us; with shuffled labels 95 % lie below "
                  f"{sorted(shuffled)[190]:.2f} us")  # fmt: skip
    console.print(f"a guess would be right in {sum(d > 0 for d in differences) / len(differences):.1%}")


if __name__ == "__main__":
    main()
