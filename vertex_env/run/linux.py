"""Back-end for Linux.

It uses signals with their origin, PDEATHSIG, a subreaper, memory files, and a clock
that counts the time asleep.

Python has no function for prctl(2). If prctl(2) cannot be called, the back-end works
without its features. The import of `ctypes` would take a fifth of the time to start
Python. So the back-end uses the C extension module `_ctypes`, which takes a twentieth.
`_ctypes` has the same functions under other names in CPython 3.11 to 3.14.
"""

from __future__ import annotations

import os
import signal
import time

from vertex_env.run.backend import Arrived, Backend
from vertex_env.run.lifecycle import Instant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
"""Both constants come from linux/prctl.h."""


class Linux(Backend):
    """Back-end with the functions of Linux. Signals are blocked, and taken with sigtimedwait(2)."""

    tells_origin = True
    _watched: Collection[int] = ()

    def block(self, watched: Collection[int], held: Collection[int]) -> None:  # noqa: D102
        self._watched = watched
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*watched, *held})

    def wait(self, timeout_s: float) -> Arrived | None:  # noqa: D102
        info = signal.sigtimedwait(self._watched, timeout_s)
        return None if info is None else Arrived(info.si_signo, info.si_code)

    def stop_like(self, number: int) -> bool:  # noqa: D102
        os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        # Take the SIGCONT that continued us: it is meant for the command.
        return signal.sigtimedwait({signal.SIGCONT}, 0) is not None

    def unblock(self) -> None:  # noqa: D102
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    def tie(self) -> Callable[[int], None]:
        """See `Backend`. The setting survives exec, but not the exec of a set-user-ID program.

        The children of the tied process do not inherit it (PR_SET_PDEATHSIG(2const)).
        """
        prctl = _prctl()

        def die_with(parent: int) -> None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(128 + signal.SIGTERM)  # the parent died between the fork and now

        return die_with

    def untie(self) -> None:
        """Do nothing: the kernel removes the setting with the process."""

    def leash(self) -> int:  # noqa: D102
        return -1

    def end_with(self, parent: int, leash: int) -> None:  # noqa: ARG002
        """See `Backend` (PR_SET_PDEATHSIG(2const))."""
        _prctl()(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)  # the parent has ended already

    def collect_orphans(self) -> None:
        """Become the parent of orphans, as process 1 does (PR_SET_CHILD_SUBREAPER(2const)).

        When this process ends, the remaining orphans get the parent that they would
        have without vertex-env.
        """
        _prctl()(_PR_SET_CHILD_SUBREAPER, 1)

    def children(self) -> set[int]:
        """See `Backend` (proc_tid_children(5))."""
        try:
            with open("/proc/thread-self/children", "rb") as file:
                return {int(pid) for pid in file.read().split()}
        except OSError:
            return set()

    def now(self) -> Instant:  # noqa: D102
        return Instant(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic())

    def memory(self) -> int:  # noqa: D102
        return os.memfd_create("vertex-env")


def _prctl() -> Callable[[int, int], object]:
    try:
        from _ctypes import call_cdeclfunction, dlopen, dlsym

        this = dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]
        address = dlsym(this, "prctl")
    except (ImportError, OSError):  # the interpreter is linked statically, or built without ctypes
        return lambda _option, _value: None
    return lambda option, value: call_cdeclfunction(address, (option, int(value), 0, 0, 0))
