"""Locks: held by one process at a time, and freed at once when that dies."""

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
    """A descriptor that holds the lock at *path* until it is closed; None where there can be none.

    Args:
        path: Its file, which is made where it is missing.
        wait_s: How many seconds to wait for another process that holds it.
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
        os.fchmod(fd, 0o600)  # the umask may have taken more, and the next process opens it too
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
            break  # a file system without locks
        else:
            return fd
    os.close(fd)
    return None


def unlock(fd: int) -> None:
    """Free the lock that *fd* holds, also where a child has inherited that."""
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
