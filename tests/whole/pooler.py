"""A real pgbouncer in transaction mode in front of a server, where one is installed."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.whole.daemon import free_port
from tests.whole.server import PASSWORD, USER, Server

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
# The settings of a session that luntrex-proxy asks PostgreSQL for, and pgbouncer does not know.
_SETTINGS = "statement_timeout, lock_timeout, idle_in_transaction_session_timeout, jit"


class Pooler:
    """pgbouncer with two server connections, which all clients share. `lenient`: it ignores what it does not know."""

    def __init__(self, server: Server, *, lenient: bool = False) -> None:
        assert PROGRAM is not None
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="lxpb-"))
        self.directory.chmod(0o755)
        configuration = self.directory / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\nluntrex = host=127.0.0.1 port={server.proxy.port} user={USER} password={PASSWORD}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
            "pool_mode = transaction\ndefault_pool_size = 2\nserver_login_retry = 1\n"
            + (f"ignore_startup_parameters = {_SETTINGS}\n" if lenient else "")
        )
        as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to run as root
        self._command = [PROGRAM, *as_nobody, str(configuration)]
        self._log = self.directory / "log"
        self.start()

    def start(self) -> None:
        """Start it, again after `kill`."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while b"process up" not in self._log.read_bytes():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> None:
        """End it and leave nothing."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
