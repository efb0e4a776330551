"""What only Linux has, and Python does not know of: prctl(2), without which we go on as well as we can.

`ctypes` would take a fifth of starting Python to import. The extension module beneath it, which has the same functions
under names of its own in CPython 3.11 to 3.14, takes a twentieth.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
"""Both from linux/prctl.h."""


def die_with_parent() -> Callable[[int], None]:
    """What has the calling process, a child just forked by the process given, get SIGTERM when that one dies.

    To be got before the fork: there is no time to import anything after it. The setting survives exec, but not that of
    a set-user-ID program, and does not reach the process's own children (PR_SET_PDEATHSIG(2const)).
    """
    prctl = _prctl()

    def die_with(parent: int) -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGTERM)  # it died between the fork and now

    return die_with


def collect_orphans() -> None:
    """Become the parent of what the command leaves behind, as process 1 is (PR_SET_CHILD_SUBREAPER(2const)).

    When we end, what is left gets the parent that it would have had without us.
    """
    _prctl()(_PR_SET_CHILD_SUBREAPER, 1)


def children() -> set[int]:
    """Our children, dead ones included; none where the kernel does not tell (proc_tid_children(5))."""
    try:
        with open("/proc/thread-self/children", "rb") as file:
            return {int(pid) for pid in file.read().split()}
    except OSError:
        return set()


def _prctl() -> Callable[[int, int], object]:
    try:
        from _ctypes import call_cdeclfunction, dlopen, dlsym

        this = dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]
        address = dlsym(this, "prctl")
    except (ImportError, OSError):  # an interpreter that is linked statically, or built without
        return lambda _option, _value: None
    return lambda option, value: call_cdeclfunction(address, (option, int(value), 0, 0, 0))
