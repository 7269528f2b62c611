"""Incidents from the command line, on an embedded database without a daemon: from the first entry to the exercise."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.upstreams.loop_thread import LoopThread
from tests.whole.daemon import Daemon


@pytest.fixture(scope="module")
def here(servers: LoopThread) -> Iterator[Daemon]:
    """A state directory and a configuration; nothing runs."""
    made = Daemon(servers, {})
    yield made
    made.remove()


def test_a_leaked_key(here: Daemon, tmp_path: Path) -> None:
    """Entered with its clocks, its account found, both notices drafted, an exercise timed; wrong use is said."""
    here.cli("accounts", "create", "acme")
    here.account = "acme"
    key = here.make_key("leaked")["id"]
    reach = ("--key", key, "--from", "2026-01-01", "--json")
    opened = json.loads(here.cli("incidents", "open", "A key leaked", "--aware-at", "2026-01-02", *reach).stdout)
    assert (opened["authority_by"], opened["stage"]) == ("2026-01-05T00:00:00Z", "over")
    found = json.loads(here.cli("incidents", "affected", "1", "--json").stdout)
    assert [account["name"] for account in found["accounts"]] == ["acme"]
    here.cli("incidents", "draft", "1", "--into", str(tmp_path / "drafts"))
    assert "Reasons for the delay" in (tmp_path / "drafts" / "incident-1-to-authority.md").read_text()
    assert "[TO BE STATED: what happened]" in (tmp_path / "drafts" / "incident-1-to-people.md").read_text()
    drill = json.loads(here.cli("incidents", "drill", *reach).stdout)
    assert (drill["number"], drill["accounts"]) == (2, 1)
    assert drill["seconds"] < 60
    here.cli("incidents", "change", "1", "--authority-notified", "2026-01-04T12:00")
    assert "done" in here.cli("incidents", "list").stdout
    refused = here.cli("incidents", "notify", "1", check=False)
    assert (refused.returncode, "state nature" in refused.stderr) == (1, True)
    for arguments, status in (
        (("open", "x", "--key", key), 2), (("open", "x", "--from", "2026-01-01"), 2), (("drill",), 2),
        (("change", "1"), 2), (("show", "7"), 1), (("close", "2", "--conclusion", "x"), 1),
    ):  # fmt: skip
        assert here.cli("incidents", *arguments, check=False).returncode == status, arguments
