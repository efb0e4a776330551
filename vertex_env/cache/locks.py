"""Locks: one process at a time holds a lock, and the kernel frees it when that process dies."""

import os
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

from vertex_env.cache.folder import is_owned

if sys.platform != "win32":
    import fcntl


def open_lock(path: Path, wait_s: float) -> int | None:
    """Return a descriptor that holds the lock at *path* until it is closed; None on failure.

    Args:
        path: The lock file, which is created if it is missing.
        wait_s: How many seconds to wait while another process holds the lock.
    """
    if sys.platform == "win32":
        return None
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o600)
    except OSError:
        return None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        return None
    if is_owned(status):
        # The umask may have removed more permissions. The next process must open the file too.
        os.fchmod(fd, 0o600)
    deadline, pause = time.monotonic() + wait_s, 0.01
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                break
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        except OSError:
            break  # the file system has no locks
        else:
            return fd
    os.close(fd)
    return None


def unlock(fd: int) -> None:
    """Free the lock that *fd* holds, even if a child has inherited the descriptor."""
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
