"""The audit log of a running installation: acts of the command line, anchors by the daemon, tampering found."""

import json
import time

from tests.whole.daemon import unique
from tests.whole.scene import Scene

ANCHORED_SECONDS = 25


def test_acts_anchors_and_a_forger(scene: Scene) -> None:
    """An act is listed with who did it, anchored by the daemon within seconds; an edit is found."""
    daemon = scene.daemon
    made = daemon.make_key(unique("audited"))
    daemon.cli("keys", "revoke", made["id"])
    (entry,) = json.loads(daemon.cli("audit", "list", "--limit", "1", "--json").stdout)
    assert (entry["act"], entry["object_id"], entry["account"]) == ("key.revoked", made["id"], daemon.account)
    assert entry["actor"] == "command line"
    assert entry["personal"]["actor"]
    assert "key.revoked" in daemon.cli("audit", "list").stdout

    deadline = time.monotonic() + ANCHORED_SECONDS
    while json.loads(daemon.cli("audit", "verify", "--json").stdout)["unprotected"]:
        assert time.monotonic() < deadline, "the daemon did not anchor it"
        time.sleep(1)
    lines = [json.loads(line) for line in daemon.stderr.read_text().splitlines() if '"luntrex.audit_anchored"' in line]
    kept = [json.loads(line) for line in (daemon.state / "anchors.jsonl").read_text().splitlines()]
    assert lines[-1]["sequence"] == kept[-1]["sequence"] >= entry["sequence"]
    assert len(lines[-1]["signature"]) == 128
    assert "the log is as it was anchored" in daemon.cli("audit", "verify").stdout

    edit = "ALTER TABLE audit_entry DISABLE TRIGGER ALL; UPDATE audit_entry SET object_id = '{}' WHERE sequence = {}"
    undo = "; ALTER TABLE audit_entry ENABLE TRIGGER ALL"
    for object_id, status in (("somebodyelse", 1), (made["id"], 0)):
        for statement in (edit.format(object_id, entry["sequence"]) + undo).split(";"):
            daemon.query(statement)
        done = daemon.cli("audit", "verify", check=False)
        assert done.returncode == status, done.stdout
        assert (f"Entry {entry['sequence']} does not follow from the one before" in done.stdout) == bool(status)


def test_wrong_use(scene: Scene) -> None:
    """Keys that are none, files that are none: one sentence."""
    daemon = scene.daemon
    bad = daemon.directory / "bad.jsonl"
    bad.write_text("not an anchor\n")
    for arguments, status, sentence in (
        (("verify", "--key", "xyz"), 2, "64 hexadecimal digits"),
        (("verify", "--anchors", str(bad)), 1, "is no anchor"),
        (("verify", "--anchors", str(bad) + "x"), 2, "does not exist"),
        (("list", "--limit", "0"), 2, "not in the range"),
    ):
        done = daemon.cli("audit", *arguments, check=False)
        assert (done.returncode, sentence in done.stderr, "Traceback" in done.stderr) == (status, True, False), (
            done.stderr
        )
