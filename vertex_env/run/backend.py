"""What the supervisor needs of the kernel and gets in a different way on each platform.

`system.choose` gives the implementation of this machine.
"""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from vertex_env.run.lifecycle import Instant


def known(*names: str) -> set[signal.Signals]:
    """The signals of these names that the platform has."""
    return {getattr(signal, name) for name in names if hasattr(signal, name)}


FAULTS = known("SIGILL", "SIGTRAP", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGSYS", "SIGEMT")
"""Signals that the kernel sends for a fault of the process itself. To catch them needs a platform that tells their
origin: after a fault, a handler returns to the instruction that fails again."""


class Arrived:
    """A signal that has come.

    Args:
        number: Which one.
        code: Where it comes from: siginfo's `si_code` (sigaction(2)); None where the platform does not tell.
    """

    def __init__(self, number: int, code: int | None) -> None:
        self.number = number
        self.code = code


class Backend(ABC):
    """Signals, clocks and processes of one platform, for one supervisor. To make one changes nothing yet."""

    mask: Collection[int] = ()
    """The signals that were blocked before `block`: what the command and helpers start with."""
    tells_origin = False
    """Whether `wait` tells where a signal comes from; if not, `FAULTS` are not caught."""

    # --- signals ---

    @abstractmethod
    def block(self, watched: Collection[int], held: Collection[int]) -> None:
        """From now on signals have no effect on this process: `wait` takes *watched*, and *held* are held back.

        To be called once, before the first fork.

        Raises:
            OSError: What it takes could not be made.
        """

    @abstractmethod
    def wait(self, timeout_s: float) -> Arrived | None:
        """The next watched signal, as soon as there is one; None if there is none in so many seconds."""

    @abstractmethod
    def stop_like(self, number: int) -> bool:
        """Stop this process by the blocked signal *number*; return when it is continued.

        Whether it was stopped: the kernel does not stop what no shell could continue. The SIGCONT is taken.
        """

    @abstractmethod
    def unblock(self) -> None:
        """Signals have again the effect that they had before `block`.

        In a forked child, on the way to exec; or here, when there is nothing to wait for any more.
        """

    # --- processes ---

    @abstractmethod
    def tie(self) -> Callable[[int], None]:
        """What has the calling process, a child just forked by the process given, get SIGTERM when that one dies.

        To be called before the fork, and what it gives after it: there is no time to import anything then.

        Raises:
            OSError: What it takes could not be made.
        """

    @abstractmethod
    def untie(self) -> None:
        """That process has ended, and its status was collected."""

    @abstractmethod
    def leash(self) -> int:
        """A descriptor for `end_with` in a process that mints, closed by exec; it is at its end when we have ended.

        To be called after `block`. -1 where the kernel ends that process without.
        """

    @abstractmethod
    def end_with(self, parent: int, leash: int) -> None:
        """In a process that mints: end by force when *parent*, which has started us, ends. *leash* is ours now."""

    @abstractmethod
    def collect_orphans(self) -> None:
        """Become the parent of what the command leaves behind, where that is possible."""

    @abstractmethod
    def children(self) -> set[int]:
        """Our children, dead ones included; none where the kernel does not tell."""

    # --- others ---

    @abstractmethod
    def now(self) -> Instant:
        """This instant."""

    @abstractmethod
    def memory(self) -> int:
        """A descriptor of a file without a name, in memory where the system can; closed by exec.

        Raises:
            OSError: There cannot be one.
        """
