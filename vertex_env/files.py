"""Read files that other programs write, such as config.toml, with a size limit and without waiting.

Credentials are read here too. A pipe or a device in the place of a file could make a
reader wait for ever, or deliver data without end.
"""

import errno
import os
import re
import stat
import sys
import time
from pathlib import Path

MAX_BYTES = 1 << 20
"""Maximum size in bytes; files of settings or credentials are smaller."""

PIPE_WAIT_S = 10.0
"""How many seconds the program at the other end of a pipe may take."""

_DESCRIPTOR = re.compile(
    r"/dev/(fd/\d+|std(in|out|err))|/proc/(self|thread-self|\d+)(/task/\d+)?/fd/\d+", re.ASCII
)
_MAX_LINKS = 40


def shown(path: Path) -> str:
    """Format *path* on one line, for messages."""
    return str(path) if str(path).isprintable() else repr(str(path))


def read_file(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Read the regular file at *path*, of at most *max_bytes*; links are followed.

    Raises:
        OSError: The file is absent or too large, or it is a pipe, a device, a
            directory, or a descriptor of this process such as `/dev/stdin`.
        ValueError: *path* cannot be a path.
    """
    if is_descriptor(path):
        raise _refusal(path)
    return _read(path, _open(path), max_bytes)


def is_pipe(path: Path) -> bool:
    """Whether *path* can be read only once: a pipe, or a descriptor inherited at the start."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or (stat.S_ISREG(mode) and is_descriptor(path))


def read_pipe(path: Path, wait_s: float = PIPE_WAIT_S) -> bytes:
    """Read the pipe at *path* to its end, such as `/dev/fd/63` of the shell's `<(…)`.

    Raises:
        OSError: The pipe does not end within *wait_s* seconds, it is too large, or it is stdin.
    """
    if _is_stdin(path):
        raise OSError(errno.EINVAL, "stdin is never read", str(path))
    fd = _open(path, fifo=True)
    if stat.S_ISREG(os.fstat(fd).st_mode) or sys.platform == "win32":
        return _read(path, fd, MAX_BYTES)
    import select

    deadline, content = time.monotonic() + wait_s, bytearray()
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    try:
        while len(content) <= MAX_BYTES:
            left = deadline - time.monotonic()
            # poll reports no event before the first writer, and POLLHUP after the last
            # one has left (poll(2)).
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeoutError(
                    errno.ETIMEDOUT,
                    f"it is a pipe, and its end did not come within {wait_s:g} s",
                    str(path),
                )
            piece = os.read(fd, MAX_BYTES + 1 - len(content))
            if not piece:
                return bytes(content)
            content += piece
    finally:
        os.close(fd)
    raise _too_large(path)


def is_descriptor(path: Path) -> bool:
    """Whether *path* leads to a process's descriptor, which is a different file in each process."""
    name = os.path.abspath(path)  # noqa: PTH100 -- Path.resolve would follow the link to its end
    for _ in range(_MAX_LINKS):
        if _DESCRIPTOR.fullmatch(name):
            return True
        try:
            name = os.path.normpath(os.path.join(os.path.dirname(name), os.readlink(name)))  # noqa: PTH115, PTH118, PTH120
        except (OSError, ValueError):
            break
    return False


def changed_since(path: Path, instant: float) -> bool:
    """Whether the file may have changed at *instant* or later, as far as its time stamp shows.

    The kernel's clock for time stamps has a resolution of a few ms. Some file systems
    store whole seconds, or only even ones.
    """
    try:
        status = path.stat()
    except OSError:
        return False
    slack = 2.0 if status.st_ctime_ns % 1_000_000_000 == 0 else 0.02
    return status.st_ctime > instant - slack


def _is_stdin(path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(0))
    except OSError:
        return False


def _open(path: Path, *, fifo: bool = False) -> int:
    """Open the regular file at *path*, or a pipe if *fifo*, and return the descriptor."""
    # Check before opening: opening a device can have an effect, and opening a pipe
    # wakes the program at its other end.
    _check(path, path.stat().st_mode, fifo=fifo)
    flags = (
        os.O_RDONLY
        | getattr(os, "O_NONBLOCK", 0)
        | getattr(os, "O_CLOEXEC", 0)
        | getattr(os, "O_BINARY", 0)
    )
    fd = os.open(path, flags | getattr(os, "O_NOCTTY", 0))
    try:
        _check(path, os.fstat(fd).st_mode, fifo=fifo)
    except OSError:
        os.close(fd)
        raise
    return fd


def _check(path: Path, mode: int, *, fifo: bool) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode) and not (fifo and stat.S_ISFIFO(mode)):
        raise _refusal(path)


def _read(path: Path, fd: int, max_bytes: int) -> bytes:
    with open(fd, "rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise _too_large(path)
    return content


def _refusal(path: Path) -> OSError:
    return OSError(errno.EINVAL, "it is not a regular file", str(path))


def _too_large(path: Path) -> OSError:
    return OSError(errno.EFBIG, "it is too large", str(path))
