"""Back-end for macOS and the BSDs, with functions of POSIX and CPython only.

It has never been run on these systems.

Signals are blocked except while `wait` waits. Then CPython's C handler writes a byte to
a pipe (`set_wakeup_fd`), and this byte ends poll(2). The Python handler notes the
signal number, so a full pipe loses no signal. A signal that arrives between fork and
exec is still blocked in the child. It takes its normal effect on the child when
`unblock` ends.

These systems have no siginfo, no subreaper and no list of children. They also cannot
end a process when its parent dies. A watcher process does this instead: it sleeps in
read(2) until the supervisor's end of a pipe is closed.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from fcntl import F_DUPFD_CLOEXEC, fcntl

from vertex_env.run.backend import FAULTS, Arrived, Backend
from vertex_env.run.lifecycle import Instant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import FrameType

_FOLDERS = ("/tmp", "/var/tmp")  # noqa: S108 -- used without TMPDIR; the name is removed at once


class Posix(Backend):
    """Back-end with the functions of POSIX."""

    def __init__(self) -> None:
        self._watched: set[int] = set()
        self._before: dict[int, signal._HANDLER] = {}
        self._arrived: list[int] = []
        self._poll = select.poll()  # select(2) takes no descriptor above 1023
        self._woken = self._watcher = self._leash = self._holds = -1

    # --- signals ---

    def block(self, watched: Collection[int], held: Collection[int]) -> None:  # noqa: D102
        self._watched = {*watched} - FAULTS
        self._woken, wakes = _pipe()
        self._poll.register(self._woken, select.POLLIN)
        self._leash, self._holds = _pipe()
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*self._watched, *held})
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._note) for number in self._watched}

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._arrived.append(number)

    def wait(self, timeout_s: float) -> Arrived | None:  # noqa: D102
        if not self._arrived:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._watched)
            # A signal that arrives from here on has written its byte before poll looks.
            self._poll.poll(0 if self._arrived else max(0.0, timeout_s) * 1000)
            signal.pthread_sigmask(signal.SIG_BLOCK, self._watched)
            with suppress(BlockingIOError):
                while os.read(self._woken, 4096):
                    pass
        return Arrived(self._arrived.pop(0), None) if self._arrived else None

    def stop_like(self, number: int) -> bool:  # noqa: D102
        if number in self._before:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        if number in self._before:
            signal.signal(number, self._note)
        # Take the SIGCONT that continued us: it is meant for the command.
        return self._take(signal.SIGCONT)

    def _take(self, number: int) -> bool:
        if number not in signal.sigpending():
            return False
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        self._arrived = [other for other in self._arrived if other != number]
        return True

    def unblock(self) -> None:  # noqa: D102
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            # Do not restore Python's own handlers: exec would reset them to the default
            # anyway.
            signal.signal(number, signal.SIG_IGN if handler == signal.SIG_IGN else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    # --- processes ---

    def tie(self) -> Callable[[int], None]:
        """See `Backend`. SIGCONT follows SIGTERM; both go to the whole group of a
        process that leads one.
        """
        if not self._can_tell(b"0\n"):
            self._watcher = _start_watcher(self._watcher)

        def die_with(parent: int) -> None:
            self._can_tell(b"%d\n" % os.getpid())
            if os.getppid() != parent:
                os._exit(128 + signal.SIGTERM)  # the parent died between the fork and now

        return die_with

    def untie(self) -> None:
        """See `Backend`: the process ID may soon belong to another process."""
        self._can_tell(b"0\n")

    def _can_tell(self, line: bytes) -> bool:
        """Write a line to the watcher; return False if there is no watcher."""
        try:
            return os.write(self._watcher, line) > 0
        except BlockingIOError:
            return True  # the pipe is full, because the watcher was stopped
        except OSError:
            return False

    def leash(self) -> int:  # noqa: D102
        return self._leash

    def end_with(self, parent: int, leash: int) -> None:
        """See `Backend`: a thread reads from the pipe, to which nobody writes.

        The thread runs only in a process that mints. The mint waits in system calls
        that release Python's lock. No child process inherits the pipe.
        """
        from _thread import start_new_thread

        def wait() -> None:
            with suppress(OSError):
                os.read(leash, 1)
                os.kill(os.getpid(), signal.SIGKILL)

        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)  # the parent has ended already
        os.set_inheritable(leash, False)  # noqa: FBT003 -- Python's own
        os.set_blocking(leash, True)
        start_new_thread(wait, ())

    def collect_orphans(self) -> None:
        """Do nothing: without a subreaper, processes that leave the group of the
        command are lost.
        """

    def children(self) -> set[int]:
        """Return the empty set: POSIX has no list of children."""
        return set()

    # --- others ---

    def now(self) -> Instant:
        """See `Backend`. Where the two clocks are the same, only the wall clock counts
        the time asleep.

        On macOS `time.monotonic` is mach_absolute_time(), which stands still while the
        machine sleeps (https://docs.python.org/3/library/time.html#time.monotonic).
        CLOCK_MONOTONIC goes on there (macOS's clock_gettime(3): "will continue to
        increment while the system is asleep"). Checked 2026-11-24.
        """
        return Instant(time.time(), time.clock_gettime(time.CLOCK_MONOTONIC), time.monotonic())

    def memory(self) -> int:
        """See `Backend`: a temporary file that only the user can read.

        Its name is removed before anything is written to it.
        """
        folder = os.environ.get("TMPDIR") or ""
        for place in (folder, *_FOLDERS) if os.path.isabs(folder) else _FOLDERS:
            path = os.path.join(place, f"vertex-env-{os.urandom(8).hex()}")
            try:
                fd = os.open(
                    path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
                )
            except OSError as e:
                failure = e
            else:
                os.unlink(path)
                return fd
        raise failure


def _pipe() -> tuple[int, int]:
    """Return the read end and the write end of a pipe that is closed by exec and never blocks.

    Neither end is descriptor 0, 1 or 2, even if these are closed.

    Raises:
        OSError: Too many files are open.
    """
    ends = os.pipe()
    try:
        read = fcntl(ends[0], F_DUPFD_CLOEXEC, 3)
        try:
            write = fcntl(ends[1], F_DUPFD_CLOEXEC, 3)
        except OSError:
            os.close(read)
            raise
    finally:
        for end in ends:
            os.close(end)
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write


def _start_watcher(former: int) -> int:
    """Start a watcher and return the descriptor that tells it which process to end.

    The watcher ends that process as soon as the descriptor is closed. It is not our
    child: an intermediate process forks it and ends at once.

    Args:
        former: Descriptor of a former watcher that was killed; -1 if there was none.

    Raises:
        OSError: There are too many files or processes.
    """
    if former >= 0:
        os.close(former)
    read, write = _pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(write)
        raise
    else:
        if pid == 0:
            try:
                if os.fork() == 0:
                    _watch(read)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    finally:
        os.close(read)
    return write


def _watch(read: int) -> None:
    """Wait until all writers to *read* have ended; then end the process that was named last.

    The watcher takes no signals. It holds no descriptor, terminal or group that another
    process could wait for.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    os.setsid()
    most = 255  # FreeBSD lists only three, unless fdescfs(5) is mounted
    with suppress(OSError):
        most = max(most, *map(int, os.listdir("/dev/fd")))
    os.closerange(0, read)
    os.closerange(read + 1, most + 1)
    os.set_blocking(read, True)
    last = b"0\n"
    while data := os.read(read, 4096):
        last = (last + data)[-64:]
    pid = int(last.split()[-1])
    if pid:
        for number in (signal.SIGTERM, signal.SIGCONT):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number) if os.getpgid(pid) == pid else os.kill(pid, number)
