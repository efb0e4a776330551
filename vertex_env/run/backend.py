"""Interface to the functions of the kernel that differ between platforms.

`system.choose` returns the implementation for this machine.
"""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from vertex_env.run.lifecycle import Instant


def known(*names: str) -> set[signal.Signals]:
    """Return the signals with these names, as far as the platform has them."""
    return {getattr(signal, name) for name in names if hasattr(signal, name)}


FAULTS = known("SIGILL", "SIGTRAP", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGSYS", "SIGEMT")
"""Signals that the kernel sends for a fault of the process itself. A handler for a
fault returns to the same instruction, which fails again. So these signals are caught
only where the platform tells their origin."""


class Arrived:
    """Signal that has arrived.

    Args:
        number: Number of the signal.
        code: Origin of the signal: `si_code` of siginfo (sigaction(2)); None where the
            platform does not tell it.
    """

    def __init__(self, number: int, code: int | None) -> None:
        self.number = number
        self.code = code


class Backend(ABC):
    """Signals, clocks and processes of one platform, for one supervisor.

    The constructor changes nothing in the process.
    """

    mask: Collection[int] = ()
    """Signals that were blocked before `block`; the command and helpers start with them blocked."""
    tells_origin = False
    """Whether `wait` tells the origin of a signal; if not, `FAULTS` are not caught."""

    # --- signals ---

    @abstractmethod
    def block(self, watched: Collection[int], held: Collection[int]) -> None:
        """Block signals: `wait` takes *watched*, and *held* are held back.

        Call this once, before the first fork.

        Raises:
            OSError: The resources for it could not be made.
        """

    @abstractmethod
    def wait(self, timeout_s: float) -> Arrived | None:
        """Return the next watched signal as soon as one arrives; None after *timeout_s* seconds."""

    @abstractmethod
    def stop_like(self, number: int) -> bool:
        """Stop this process by the blocked signal *number*; return when it is continued.

        Return whether it was stopped: the kernel does not stop a process that no shell
        could continue. The SIGCONT that continues it is taken, too.
        """

    @abstractmethod
    def unblock(self) -> None:
        """Give signals the effect that they had before `block`.

        Call this in a forked child before exec, or here when there is nothing more to
        wait for.
        """

    # --- processes ---

    @abstractmethod
    def tie(self) -> Callable[[int], None]:
        """Return a function for a forked child: send it SIGTERM when its parent dies.

        Call `tie` before the fork, because the child has no time for imports. Call the
        returned function in the child, with the process ID of the parent.

        Raises:
            OSError: The resources for it could not be made.
        """

    @abstractmethod
    def untie(self) -> None:
        """Note that the tied process has ended and its status was collected."""

    @abstractmethod
    def leash(self) -> int:
        """Return a descriptor for `end_with` in a process that mints; it is closed by exec.

        A read from it reaches its end when this process has ended. Call this after
        `block`. Return -1 where the kernel ends the process that mints without a
        descriptor.
        """

    @abstractmethod
    def end_with(self, parent: int, leash: int) -> None:
        """In a process that mints: end by force when the parent ends.

        Args:
            parent: Process ID of the parent, which has started this process.
            leash: Descriptor that the parent's `leash` returned; this process owns it
                now.
        """

    @abstractmethod
    def collect_orphans(self) -> None:
        """Become the parent of processes that the command leaves behind, where that is possible."""

    @abstractmethod
    def children(self) -> set[int]:
        """Return our children, dead ones included; empty where the kernel does not list them."""

    # --- others ---

    @abstractmethod
    def now(self) -> Instant:
        """Return the current instant."""

    @abstractmethod
    def memory(self) -> int:
        """Return the descriptor of a file without a name, in memory if possible; it is
        closed by exec.

        Raises:
            OSError: No such file can be made.
        """
