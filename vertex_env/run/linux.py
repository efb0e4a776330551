"""The back-end for Linux: signals with their origin, PDEATHSIG, a subreaper, memory files, a clock that sees sleep.

prctl(2), which Python does not know of: without it we go on as well as we can. `ctypes` would take a fifth of starting
Python to import. The extension module beneath it, which has the same functions under names of its own in CPython 3.11
to 3.14, takes a twentieth.
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
"""Both from linux/prctl.h."""


class Linux(Backend):
    """What Linux gives. Signals are blocked, and taken synchronously with sigtimedwait(2)."""

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
        # The one that woke us is meant for the command.
        return signal.sigtimedwait({signal.SIGCONT}, 0) is not None

    def unblock(self) -> None:  # noqa: D102
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    def tie(self) -> Callable[[int], None]:
        """See `Backend`; the setting survives exec, but not that of a set-user-ID program.

        It does not reach the process's own children (PR_SET_PDEATHSIG(2const)).
        """
        prctl = _prctl()

        def die_with(parent: int) -> None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(128 + signal.SIGTERM)  # it died between the fork and now

        return die_with

    def untie(self) -> None:
        """Nothing: the tie is the process's own."""

    def leash(self) -> int:  # noqa: D102
        return -1

    def end_with(self, parent: int, leash: int) -> None:  # noqa: ARG002
        """See `Backend` (PR_SET_PDEATHSIG(2const))."""
        _prctl()(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)  # it has ended already

    def collect_orphans(self) -> None:
        """Become their parent as process 1 is (PR_SET_CHILD_SUBREAPER(2const)).

        When we end, what is left gets the parent that it would have had without us.
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
    except (ImportError, OSError):  # an interpreter that is linked statically, or built without
        return lambda _option, _value: None
    return lambda option, value: call_cdeclfunction(address, (option, int(value), 0, 0, 0))
