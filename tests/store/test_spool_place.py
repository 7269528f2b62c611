"""Where the spool is made: whose it is, and what is said when it cannot be made."""

import os
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest

from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.quarantine import set_aside
from luntrex_proxy.store.segments import Position
from luntrex_proxy.store.spool import Spool
from tests.store.records import opening


@pytest.mark.skipif(os.geteuid() != 0, reason="only root works in another user's directory")
def test_root_leaves_nothing_of_its_own(tmp_path: Path) -> None:
    """Root serving in a service user's state directory: all the spool has made is that user's."""
    os.chown(tmp_path, 1, 1)
    spool = Spool(tmp_path / "spool", uuid.uuid4())
    spool.open(opening(1))
    spool.close()
    set_aside(spool.directory, Position(1, 0), None)
    made = list((tmp_path / "spool").rglob("*"))
    assert {path.name for path in made} >= {"quarantine", "lock", "00000001.seg"}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (tmp_path / "spool", *made)} == {(1, 1)}
    spool.directory.unlock()


def test_a_spool_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the place of the spool: one sentence with the path."""
    (tmp_path / "spool").write_text("not a directory")
    with pytest.raises(StoreError, match=f"{tmp_path}/spool cannot be used .*make sure that the owner"):
        Spool(tmp_path / "spool", uuid.uuid4())


def test_a_closed_spool_is_named(tmp_path: Path) -> None:
    """A spool this user may not enter: one sentence with its path, also for its owner."""
    (tmp_path / "spool").mkdir(mode=0o000)
    code = """
        import os, sys, uuid
        from pathlib import Path
        from luntrex_proxy.store.errors import StoreError
        from luntrex_proxy.store.spool import Spool
        os.chdir(sys.argv[1])
        if os.geteuid() == 0:
            os.chown(".", 1, 1)
            os.chown("spool", 1, 1)
            os.setgroups([])
            os.setgid(1)
            os.setuid(1)
        try:
            Spool(Path("spool"), uuid.uuid4())
        except StoreError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith("spool"), done.stderr
    assert "cannot be used (Permission denied)" in done.stdout
