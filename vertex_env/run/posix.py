"""The back-end for macOS and the BSDs: nothing but POSIX, and what CPython makes of it. It was never run there.

Signals are blocked, but while `wait` waits. Python's own handler in C then writes a byte to a pipe (`set_wakeup_fd`),
which ends poll(2), and the handler in Python notes the number: a pipe that is full loses nothing. A signal between
fork and exec finds the mask still blocked, and has its own effect on the child as soon as `unblock` is through.

There is no siginfo, no subreaper, no list of children, and nothing that ends a process with its parent: a watcher
does that, a process that sleeps in read(2) until the supervisor's end of a pipe is closed.
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

_FOLDERS = ("/tmp", "/var/tmp")  # noqa: S108 -- where there is no TMPDIR; the file gets no name that stays


class Posix(Backend):
    """What POSIX gives."""

    def __init__(self) -> None:
        self._watched: set[int] = set()
        self._before: dict[int, signal._HANDLER] = {}
        self._arrived: list[int] = []
        self._poll = select.poll()  # select(2) knows no descriptor above 1023
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
            # One that comes from here on has written its byte before poll looks.
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
        # The one that woke us is meant for the command.
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
            # What Python has put there is no more than its own, and exec would make it the default.
            signal.signal(number, signal.SIG_IGN if handler == signal.SIG_IGN else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    # --- processes ---

    def tie(self) -> Callable[[int], None]:
        """See `Backend`; SIGCONT follows, and both reach the group of a process that leads one."""
        if not self._can_tell(b"0\n"):
            self._watcher = _start_watcher(self._watcher)

        def die_with(parent: int) -> None:
            self._can_tell(b"%d\n" % os.getpid())
            if os.getppid() != parent:
                os._exit(128 + signal.SIGTERM)  # it died between the fork and now

        return die_with

    def untie(self) -> None:
        """See `Backend`: its number may soon be another process's."""
        self._can_tell(b"0\n")

    def _can_tell(self, line: bytes) -> bool:
        """Tell the watcher; whether there is one."""
        try:
            return os.write(self._watcher, line) > 0
        except BlockingIOError:
            return True  # somebody has stopped it
        except OSError:
            return False

    def leash(self) -> int:  # noqa: D102
        return self._leash

    def end_with(self, parent: int, leash: int) -> None:
        """See `Backend`: a thread reads the pipe, which nobody writes to.

        It is there for the mint alone, which waits in system calls without Python's lock; no process gets the pipe.
        """
        from _thread import start_new_thread

        def wait() -> None:
            with suppress(OSError):
                os.read(leash, 1)
                os.kill(os.getpid(), signal.SIGKILL)

        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)  # it has ended already
        os.set_inheritable(leash, False)  # noqa: FBT003 -- Python's own
        os.set_blocking(leash, True)
        start_new_thread(wait, ())

    def collect_orphans(self) -> None:
        """Nothing: what leaves the group of the command is lost to us."""

    def children(self) -> set[int]:
        """None: POSIX has no list of them."""
        return set()

    # --- others ---

    def now(self) -> Instant:
        """See `Backend`; where the two clocks are the same, sleep is seen by the wall clock alone.

        On macOS `time.monotonic` is mach_absolute_time(), which stands still while the machine sleeps
        (https://docs.python.org/3/library/time.html#time.monotonic); CLOCK_MONOTONIC does not (its clock_gettime(3):
        "will continue to increment while the system is asleep"), 2026-11-24.
        """
        return Instant(time.time(), time.clock_gettime(time.CLOCK_MONOTONIC), time.monotonic())

    def memory(self) -> int:
        """See `Backend`: a temporary file of the user's alone, whose name is removed before anything is in it."""
        folder = os.environ.get("TMPDIR") or ""
        for place in (folder, *_FOLDERS) if os.path.isabs(folder) else _FOLDERS:
            path = os.path.join(place, f"vertex-env-{os.urandom(8).hex()}")
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except OSError as e:
                failure = e
            else:
                os.unlink(path)
                return fd
        raise failure


def _pipe() -> tuple[int, int]:
    """Both ends of one, closed by exec, that never keep us waiting; none of 0 to 2, should these be closed.

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
    """A descriptor on which a process is told whom to end as soon as it is closed.

    The process is no child of ours: the one that forks it ends at once.

    Args:
        former: The descriptor of one that somebody has killed; -1 if there was none.

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
    """Wait until nobody can write to what *read* reads; then end the process that was named last.

    It takes no signals, and holds no descriptor, terminal or group that anybody could wait for.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    os.setsid()
    most = 255  # FreeBSD lists no more than three, unless told otherwise
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
