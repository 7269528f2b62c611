"""Run as a script by `embedded.py`: becomes a PostgreSQL program that is not root and ends when its parent does.

    python -I -S launch.py IDENTITY PARENT_PID PROGRAM ARGUMENT...

A process of its own, because this must happen between fork and exec and Python code there is unsafe beside threads.
IDENTITY is `self`, `userns` (root seen as an unprivileged user, files stay root's) or `UID:GID`.
Only the standard library lives here: the script runs without the package.
"""

import ctypes
import os
import signal
import sys

NO_NAMESPACE_STATUS = 97
PARENT_GONE_STATUS = 98
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1


def take_identity(identity: str, parent_pid: int) -> int:
    """Become the identity and tie this process to its parent; a status other than 0 says why not."""
    libc = ctypes.CDLL(None, use_errno=True)
    os.umask(0o077)
    if identity == "userns":
        # PostgreSQL refuses uid 0. Without a uid map this process sees itself, and its own files, as uid 65534.
        if libc.unshare(_CLONE_NEWUSER) != 0:
            return NO_NAMESPACE_STATUS
    elif identity != "self":
        uid, _, gid = identity.partition(":")
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    # After the identity: the kernel clears it when credentials change. SIGINT is PostgreSQL's fast shutdown.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
    return 0 if os.getppid() == parent_pid else PARENT_GONE_STATUS


if __name__ == "__main__":
    status = take_identity(sys.argv[1], int(sys.argv[2]))
    if status == 0:
        os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606 -- the point of this script; no shell is wanted
    sys.exit(status)
