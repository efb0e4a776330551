"""The background refresh: which process may start it, and how it is started.

The warm path imports this module when a token will soon be too late. It imports os and sys alone.
"""

import os
import sys

from vertex_env import program
from vertex_env.cache.private import REFRESH, is_private_file, is_private_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REFRESH_GAP_S = 60.0
"""Minimum time between two background refreshes of one identity, in seconds."""


def claim_refresh(folder: str, key: str, now: float) -> bool:
    """Claim the background refresh of *key*; False if another process claimed it recently."""
    if os.name != "posix":
        return False
    import fcntl

    if not is_private_folder(folder):
        return False
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(REFRESH.path(folder, key), flags, 0o600)
    except OSError:
        return False
    try:
        # Shells that start at the same time all reach this line. Only the lock holder goes on.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(fd)
        if not is_private_file(status):
            return False  # a pipe cannot store the time of the last refresh
        if status.st_size and 0 <= now - status.st_mtime < REFRESH_GAP_S:
            return False
        os.write(fd, b"\n")
        os.utime(fd, (now, now))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def start_refresh(args: "Sequence[str]", environ: "Mapping[str, str]") -> None:
    """Start `vertex-env ARGS --refresh` as a detached process.

    It inherits none of this process's descriptors. An inherited descriptor would block
    `$(…)`, and direnv, which waits until its descriptor 3 closes.
    """
    if os.name != "posix":
        return
    argv = program.own_argv(args[0], "--refresh", *args[1:])
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)
    ]
    actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited()]
    try:
        os.posix_spawn(sys.executable, argv, dict(environ), file_actions=actions, setsid=True)
    except (OSError, NotImplementedError):
        return  # without a background refresh, a later call renews the token when it is too late


def _inherited() -> "Iterable[int]":
    """Yield the descriptors above 2 that a child would inherit.

    Closing a descriptor that is not open is an error on macOS.
    """
    try:
        found = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        found = list(range(256))
    for fd in found:
        try:
            if fd > 2 and os.get_inheritable(fd):  # noqa: PLR2004
                yield fd
        except OSError:
            pass  # the descriptor that listed the others
