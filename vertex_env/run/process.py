"""The command, started: what belongs to it, and how to signal all of that."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Process:
    """The command, started.

    Args:
        pid: Of the process itself.
        own_group: Whether it was given a process group of its own, which it may leave.
        foreground: Whether its group was handed the terminal; not any more once it was stopped.
        foreign: Children of ours that are none of its own.
        children: What tells our children, as far as the platform does.
    """

    def __init__(
        self, pid: int, *, own_group: bool, foreground: bool, foreign: set[int], children: Callable[[], set[int]]
    ) -> None:
        self.pid = pid
        self.own_group = own_group
        self.foreground = foreground
        self._foreign = foreign
        self._children = children
        self._told: set[int] = set()
        self.status: int | None = None
        self.killed = 0
        """How often it was sent SIGKILL."""

    def may_be_signalled(self) -> bool:
        """Whether it runs as a user whose processes we may signal; not so under sudo (kill(2))."""
        try:
            os.kill(self.pid, 0)
        except PermissionError:
            return False
        except ProcessLookupError:
            pass
        return True

    def send(self, number: int, *, group: bool = True) -> None:
        """Send it a signal, and to its *group* if it was given one.

        Where that is not its group any more, the group has what the command left in it, and the command is told apart.
        """
        if group and self.own_group:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
            if _group(self.pid) == self.pid:
                return
        if self.status is None:  # else its number may be somebody else's by now
            _send(self.pid, number)

    def end(self) -> None:
        """Tell all that belongs to it to end; SIGCONT, because what is stopped could not."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            self.send(number)
        self._tell_orphans()

    def kill(self) -> None:
        """End all that belongs to it by force."""
        self.killed += 1
        self.send(signal.SIGKILL)
        for pid in self._orphans():
            _send(pid, signal.SIGKILL)

    def is_gone(self) -> bool:
        """Whether it has ended, and everything else in its group too, and what it had put into the background.

        What two SIGKILLs did not remove is another user's, or a zombie that its parent does not collect.
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
        """Tell those to end that have come to us since; whether there are any."""
        orphans = self._orphans()
        for pid in orphans - self._told:
            _send(pid, signal.SIGTERM)
            _send(pid, signal.SIGCONT)
        self._told |= orphans
        return bool(orphans)

    def _orphans(self) -> set[int]:
        """What it has left behind outside of its group, whose members are told as such."""
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
