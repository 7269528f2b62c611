"""What the spool promises for a power cut, on many of the disks a cut may leave (tests/long/power_cut.py: more)."""

from pathlib import Path

from tests.store.power_cut import run_trials


def test_a_power_cut_costs_only_the_last_window(tmp_path: Path) -> None:
    """Synced settles and openings are readable after 300 cuts, and nothing is that was not written."""
    counts = run_trials(tmp_path, 300, seed=20261128)
    assert counts["with damage"] > 0
    assert counts["records read"] > 300
