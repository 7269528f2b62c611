"""What turns samples into claims: CPU readings, ratios, noise, slopes, and the peers' configurations."""

import collections
import json
import math
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks import instructions, report
from benchmarks.comparison import AGAIN, Found, row
from benchmarks.machine import Cores, PythonBuild, cpu_of, resident_bytes, tree
from benchmarks.measures import Cost
from benchmarks.questions import Question, Target
from benchmarks.slopes import Point, line, microseconds_per_mib, per_doubling
from benchmarks.starting import HERE, Place, fill

MARK = re.compile(r"@[A-Z_]+@")


def found_with(**samples: dict[str, list[float]]) -> Found:
    found = Found()
    for measure, by_name in samples.items():
        for name, values in by_name.items():
            for value in values:
                found.add(measure, name, value)
    return found


def test_cpu_and_memory_of_another_process_are_read():
    """A child that computes has used CPU, mostly in user code; a sleeping one hardly any; both have memory."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    idle = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        time.sleep(0.3)
        before = cpu_of([busy.pid]), cpu_of([idle.pid])
        time.sleep(0.4)
        used, rested = cpu_of([busy.pid]) - before[0], cpu_of([idle.pid]) - before[1]
        assert used.total_s > 0.02
        assert rested.total_s < used.total_s / 2
        assert resident_bytes([busy.pid]) > 1 << 20
    finally:
        for child in (busy, idle):
            child.kill()
            child.wait()
    assert cpu_of([busy.pid]).total_s == 0


def test_a_tree_holds_children_of_children():
    """A proxy's workers and their helpers count with it."""
    inner = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    outer = subprocess.Popen([sys.executable, "-c", inner])
    try:
        deadline = time.monotonic() + 20
        while len(pids := tree(outer.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert pids[0] == outer.pid
        assert len(pids) == 2
    finally:
        for pid in pids[1:]:
            subprocess.run(["kill", str(pid)], check=True)
        outer.kill()
        outer.wait()


def test_ratios_are_those_of_the_same_round():
    """A box that slowed down in the second round changes no ratio."""
    found = found_with(json_us={"nginx": [20, 40], "ours": [40, 80]})
    assert found.ratio("json_us", "ours") == (2, 2, 2)


def test_a_quiet_box_is_reported_and_a_noisy_one_is_not():
    """5 % between nginx and nginx, 15 % between direct and direct, a tenth of a core for others: more is too much."""
    quiet = found_with(
        json_us={"nginx": [20, 20], "nginx" + AGAIN: [20.5, 19.5]},
        alone_p50_us={"direct": [100, 100], "direct" + AGAIN: [105, 95]},
    )
    assert quiet.complaints() == []
    noisy = found_with(json_us={"nginx": [20, 20], "nginx" + AGAIN: [22, 18]})
    noisy.other_load = 0.5
    assert len(noisy.complaints()) == 2
    assert found_with(json_us={"ours": [50]}).complaints() == []  # no nginx here: nothing to judge by


def test_a_row_says_what_was_not_measured():
    """Missing figures are null in JSON, never zero; added latency is against direct, its ratio against nginx's."""
    found = found_with(alone_p50_us={"direct": [100], "nginx": [150], "ours": [220]}, json_us={"ours": [50]})
    figures = row(found, "ours", "1").as_json()
    assert (figures["added_p50_us"], figures["added_ratio"]) == (120, 2.4)
    assert figures["json_per_core_s"] == 20_000
    assert figures["sse_us"] is None
    assert json.loads(json.dumps(figures)) == figures


def test_a_refusing_proxy_has_no_cost():
    """Refusals are cheap; a run full of them is not a cheap proxy."""
    assert Cost(1, 1, 0, 10_000, 1.0, collections.Counter()).valid
    assert not Cost(1, 1, 0, 1_000, 1.0, collections.Counter({"status 403": 20})).valid
    assert not Cost(1, 1, 0, 0, 0.0, collections.Counter({"status 403": 1})).valid


def test_slopes():
    """A cost that grows by 10 us with each doubling, and one of 500 us per MiB."""
    assert line([0, 1, 2], [1, 3, 5]) == pytest.approx((1, 2))
    doubling = [Point("keys", 2**power, None, [], 1, [100 + 10 * power]) for power in range(4)]
    assert per_doubling(doubling) == pytest.approx(0.1)
    bytes_ = [Point("prompt bytes", mib << 20, None, [], 1, [40 + 500 * mib]) for mib in (1, 2, 5)]
    assert microseconds_per_mib(bytes_) == pytest.approx(500)


@pytest.mark.parametrize("name", ["nginx.conf", "haproxy.cfg", "litellm.yaml", "luntrex-proxy.yaml"])
def test_configurations_have_no_mark_left_and_no_path_of_ours(name, tmp_path):
    """Every mark is filled in at the start, and what is in the repository names no machine."""
    assert not re.search(r"/(home|root|work|opt|tmp)/", (HERE / "peers" / name).read_text())
    with ExitStack() as stack:
        place = Place(stack, tmp_path, Cores(0, 0, 0), tmp_path, 1234)
        more = dict.fromkeys(("SCHEME", "TLS", "CONNECTIONS", "CONTROL_PORT", "UPSTREAMS", "MODELS"), "7")
        text = fill(name, tmp_path, place, 4321, **more).read_text()
    assert not MARK.search(text)
    assert "4321" in text or name == "litellm.yaml"


def test_the_question_is_what_it_says():
    """Length and header lines are as asked for, and the body is JSON."""
    request = Question(prompt_bytes=1000, more_headers=5, stream=True, events=3).to(Target("x", 1, {"x-key": "k"}))
    head, body = request.split(b"\r\n\r\n", 1)
    fields = json.loads(body)
    assert f"Content-Length: {len(body)}".encode() in head
    assert head.count(b"X-Bench-") == 5
    assert len(fields["messages"][0]["content"]) == 1000
    assert (fields["max_tokens"], fields["stream"]) == (3, True)


def test_the_python_build_is_named():
    """A plain build is called so, because it costs the proxy more than half again."""
    assert "PLAIN BUILD" in PythonBuild("3.13.0", optimised=False).said()
    assert PythonBuild("3.13.0", optimised=True).said() == "Python 3.13.0, optimised build"


def test_a_plot_is_drawn(tmp_path: Path):
    """Every panel, also with figures missing; SVG text stays text."""
    if not report.can_draw():
        pytest.skip("matplotlib is not installed: pip install 'luntrex-proxy[bench]'")
    found = found_with(json_us={"nginx": [20], "luntrex-proxy": [50], "litellm": [20_000]})
    rows = [row(found, name, "").as_json() for name in ("nginx", "luntrex-proxy", "litellm")]
    report.draw(rows, "a machine", tmp_path / "plot.svg", noisy=True)
    drawn = (tmp_path / "plot.svg").read_text()
    assert "luntrex-proxy" in drawn
    assert "NOISY BOX" in drawn
    assert "2.50x nginx" in drawn
    assert not math.isnan(rows[0]["json_us"])


def test_without_valgrind_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence says what is missing, before anything is started."""
    monkeypatch.setattr("sys.argv", ["instructions"])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"^Not measured: valgrind is not installed: apt install valgrind\.$"):
        instructions.main()
