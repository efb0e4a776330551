"""The running command, the processes that belong to it, and the signals to them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Process:
    """The running command.

    Args:
        pid: Process ID of the command itself.
        own_group: Whether the command was given its own process group, which it may
            leave.
        foreground: Whether the group of the command was given the terminal; False after
            it was stopped.
        foreign: Children of this process that do not belong to the command.
        children: Function that returns our children, as far as the platform lists them.
    """

    def __init__(
        self,
        pid: int,
        *,
        own_group: bool,
        foreground: bool,
        foreign: set[int],
        children: Callable[[], set[int]],
    ) -> None:
        self.pid = pid
        self.own_group = own_group
        self.foreground = foreground
        self._foreign = foreign
        self._children = children
        self._told: set[int] = set()
        self.status: int | None = None
        self.killed = 0
        """Number of SIGKILLs sent to the command."""

    def may_be_signalled(self) -> bool:
        """Tell whether this user may signal the command; under sudo this is not allowed
        (kill(2)).
        """
        try:
            os.kill(self.pid, 0)
        except PermissionError:
            return False
        except ProcessLookupError:
            pass
        return True

    def send(self, number: int, *, group: bool = True) -> None:
        """Send the command a signal, and to its *group* if it was given one.

        If the command has left that group, the rest of the group gets the signal, and
        the command gets it separately.
        """
        if group and self.own_group:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
            if _group(self.pid) == self.pid:
                return
        if self.status is None:  # else its process ID may be another process's
            _send(self.pid, number)

    def end(self) -> None:
        """Ask all processes of the command to end. SIGCONT follows, because a stopped
        process could not end.
        """
        for number in (signal.SIGTERM, signal.SIGCONT):
            self.send(number)
        self._tell_orphans()

    def kill(self) -> None:
        """Kill all processes of the command."""
        self.killed += 1
        self.send(signal.SIGKILL)
        for pid in self._orphans():
            _send(pid, signal.SIGKILL)

    def is_gone(self) -> bool:
        """Tell whether the command has ended, with all of its group and its background processes.

        Processes that survive two SIGKILLs do not count. They belong to another user,
        or are zombies that their parent does not collect.
        """
        if self.status is None:
            return False
        if self.killed > 1:
            return True
        left = self._tell_orphans()
        if self.own_group and not left:
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return True
            except PermissionError:
                pass
            return False
        return not left

    def _tell_orphans(self) -> bool:
        """Send SIGTERM to orphans that have not had it yet; return whether there are
        any orphans.
        """
        orphans = self._orphans()
        for pid in orphans - self._told:
            _send(pid, signal.SIGTERM)
            _send(pid, signal.SIGCONT)
        self._told |= orphans
        return bool(orphans)

    def _orphans(self) -> set[int]:
        """Return the processes that the command left behind outside of its group.

        Members of the group get their signals through the group.
        """
        found = self._children() - self._foreign - {self.pid}
        return {pid for pid in found if not self.own_group or _group(pid) != self.pid}


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
