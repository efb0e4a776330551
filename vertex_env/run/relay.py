"""Rules for signals to the command: which ones, and to its process alone or its whole group.

The command gets the signals that it would get without vertex-env. A signal sent to one
process reaches the process of the command alone. A signal that a terminal sends to a
group reaches the group once. INT, QUIT and TERM go to the group, because processes that
the command has started should end with it.
"""

from __future__ import annotations

import os
import signal

from vertex_env.run.backend import FAULTS, known

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from vertex_env.run.backend import Arrived, Backend
    from vertex_env.run.lifecycle import Lifecycle
    from vertex_env.run.process import Process
    from vertex_env.run.terminal import Terminal


FORWARDED = frozenset(signal.valid_signals()) - known(
    "SIGKILL", "SIGSTOP", "SIGCHLD", "SIGPIPE", "SIGURG", "SIGXFSZ"
)
"""Signals that are forwarded to the command. These are all signals that can be caught,
except those that the kernel sends because of an action of this process. The value of a
queued real-time signal is not forwarded."""
WATCHED = FORWARDED | {signal.SIGCHLD}
_ENDING = known("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
_TO_GROUP = known("SIGINT", "SIGTERM", "SIGQUIT", "SIGCONT")
KEYS = known("SIGINT", "SIGQUIT", "SIGTSTP", "SIGWINCH", "SIGINFO")
"""Signals that a terminal sends to the foreground process group."""
_BACKGROUND = known("SIGTTIN", "SIGTTOU")
"""Signals that a terminal sends to a background process group that reads or writes."""
STOPPING = _BACKGROUND | known("SIGTSTP")
"""Signals that stop a process without a handler, if there is a process that could continue it."""
_FROM_KERNEL = 0x80
"""SI_KERNEL of siginfo: signals from a terminal have it, signals from kill(2) do not
(sigaction(2))."""
_SHELL_ENDS_S = 1.0
"""Seconds that a shell may take to end after it has told its jobs of the closed window."""
_WINDOW_CLOSES_S = 0.2
"""Seconds that a window may take to close after its shell has told the jobs."""
_LOOK_S = 0.02


class Relay:
    """Forwards signals to the command, and stops when the command stops.

    Args:
        backend: Back-end of the platform.
        terminal: The controlling terminal.
        life: Lifecycle, which is told of a request to end the command.
        clock: Function that returns seconds on a clock that nobody can set.
    """

    child: Process
    """The command; set at each start."""

    def __init__(
        self, backend: Backend, terminal: Terminal, life: Lifecycle, clock: Callable[[], float]
    ) -> None:
        # A signal that was ignored at our start, as under nohup, does not end the
        # command.
        self._ending = {number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN}
        self._backend = backend
        self._terminal = terminal
        self._life = life
        self._clock = clock
        self._parent = os.getppid()
        self._held_since: float | None = None
        self._kernel_tells = False
        self._hung_up = False

    def watch(self) -> None:
        """Block the signals: from now on they act only through `take`."""
        watched = WATCHED if self._backend.tells_origin else WATCHED - FAULTS
        self._backend.block(watched, {signal.SIGTTOU})

    def take(self, arrived: Arrived) -> None:
        """Do what a signal asks for."""
        number = arrived.number
        if number in FAULTS and (arrived.code or 0) > 0:
            self._backend.stop_like(number)  # a fault of this process ends it
        elif number == signal.SIGHUP:
            self._on_hangup(arrived)
        elif number in FORWARDED:
            if number != signal.SIGCONT:  # the kernel and shells send SIGCONT after SIGHUP
                self._release()
            self._forward(arrived)

    def _forward(self, arrived: Arrived) -> None:
        child, number = self.child, arrived.number
        from_terminal = self._is_from_terminal(arrived)
        if number in self._ending:
            self._life.stop(insists=number in (signal.SIGINT, signal.SIGTERM))
        if number == signal.SIGCONT and self._terminal.is_ours and self._terminal.has(os.getpgrp()):
            self._hand_over()
        if child.own_group or not from_terminal:  # else the terminal has sent it already
            child.send(number, group=from_terminal or number in _TO_GROUP)
        if number == signal.SIGTERM:
            child.send(signal.SIGCONT)  # a stopped process could not end
        # If the command has its own group, `on_stopped` sees that the command stops.
        stops = number == signal.SIGTSTP or (from_terminal and number in _BACKGROUND)
        if stops and not child.own_group and self._backend.stop_like(number):
            child.send(signal.SIGCONT)

    def _is_from_terminal(self, arrived: Arrived) -> bool:
        """Tell whether a terminal has sent the signal to our whole group."""
        number, terminal = arrived.number, self._terminal
        if number not in KEYS | _BACKGROUND | {signal.SIGHUP}:
            # The kernel also sends SIGALRM, for a timer that was set before our start.
            return False
        if arrived.code is not None:
            return arrived.code == _FROM_KERNEL
        if number == signal.SIGHUP:
            return terminal.is_gone()
        return terminal.fd >= 0 and terminal.has(os.getpgrp()) == (number in KEYS)

    # --- hang-up ---

    def _on_hangup(self, arrived: Arrived) -> None:
        """Handle a SIGHUP, which reports a closed window or asks the command to reload.

        Each group gets one report of a closed window. But vertex-env may see two
        SIGHUPs for it. A shell such as bash sends one to its jobs, and vertex-env is a
        job. When the shell ends, the kernel sends one to the foreground group, which
        may be the command's (credentials(7)).

        A shell that still runs after its window has closed cannot have taken the
        terminal back. Then the kernel will signal the command. In all other cases
        vertex-env sends SIGHUP to the command too: twice is better than never.
        """
        shared = not self.child.own_group
        if self._hung_up or self._terminal.fd < 0:
            again = shared if arrived.code is None else arrived.code == _FROM_KERNEL
            if not (self._hung_up and again):
                self._read_again()
        elif shared and self._terminal.is_gone():
            self._hung_up = True
            self._stop_for_hangup()  # the command shares our group, which got the signal
        elif shared:
            if not self._is_from_terminal(arrived):
                self._read_again()
        elif self._held_since is None:
            self._held_since = self._clock()
            shell_is_there = not self._shell_has_ended()  # check this first: the shell ends soon
            self._kernel_tells = (
                shell_is_there and self._terminal.is_gone() and self._had_terminal()
            )
            self.look()

    def look(self) -> None:
        """Decide about a SIGHUP that is held back, if its cause is known by now."""
        if self._held_since is None:
            return
        waited, gone = self._clock() - self._held_since, self._terminal.is_gone()
        told = self._kernel_tells and self._shell_has_ended()
        if self._kernel_tells and not told and waited < _SHELL_ENDS_S:
            return
        if not gone and waited < _WINDOW_CLOSES_S:
            return
        self._held_since = None
        if not gone:
            self._read_again()
            return
        self._hung_up = True
        self._stop_for_hangup()
        if not told:
            self.child.send(signal.SIGHUP)
            self.child.send(signal.SIGCONT)  # as the kernel does after SIGHUP

    def wait_s(self, usual: float) -> float:
        """Return the seconds to wait for a signal.

        No signal reports the changes that `look` checks. So the wait is short while a
        SIGHUP is held back.
        """
        return usual if self._held_since is None else min(usual, _LOOK_S)

    def _release(self) -> None:
        """Forward a SIGHUP that is held back before any later signal."""
        if self._held_since is not None and not self._terminal.is_gone():
            self._held_since = None
            self._read_again()

    def _shell_has_ended(self) -> bool:
        """Tell whether the leader of our session has ended.

        A leader that is dead but not yet collected still has its process ID. The change
        of our parent shows its death.
        """
        leader = os.getsid(0)
        if leader == os.getpid():
            return True  # this process leads the session: there is no shell
        if self._parent == leader:
            return os.getppid() != leader
        try:
            os.kill(leader, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False

    def _had_terminal(self) -> bool:
        """Tell whether the command, and not one of its jobs, had the terminal when the
        window closed.
        """
        child = self.child
        return child.foreground and self._terminal.last_owner in (child.pid, os.getpgrp())

    def _read_again(self) -> None:
        if self._life.is_stopping:
            self._stop_for_hangup()
        self.child.send(signal.SIGHUP, group=False)

    def _stop_for_hangup(self) -> None:
        if signal.SIGHUP in self._ending:
            self._life.stop()

    # --- stop and continue ---

    def on_stopped(self, number: int) -> None:
        """Stop as the command did after Ctrl-Z, so that the shell sees a stopped job;
        go on when continued.
        """
        child, terminal = self.child, self._terminal
        if terminal.fd < 0 and number in STOPPING:
            child.send(signal.SIGCONT)  # there is no shell that could continue it
        if not terminal.is_ours or self._life.is_stopping:
            return
        if number in _BACKGROUND and terminal.has(os.getpgrp()):
            # If the job was still running, bash's `fg` gives us the terminal without a
            # SIGCONT.
            self._hand_over()
            child.send(signal.SIGCONT)
            return
        modes = None
        if had_terminal := terminal.has(child.pid):
            modes = terminal.modes()
            terminal.give(os.getpgrp())
            terminal.restore()
        continued = self._backend.stop_like(number)
        child.foreground = False
        if terminal.has(os.getpgrp()):
            if modes is not None:
                terminal.restore(modes)
            self._hand_over()
        if continued or number == signal.SIGTSTP or (had_terminal and number in _BACKGROUND):
            # Without a shell the kernel does not stop us. Then continue the command
            # after SIGTSTP. After SIGTTIN or SIGTTOU, continue it only if it had the
            # terminal: a command that reads in the background would stop again at once.
            child.send(signal.SIGCONT)

    def _hand_over(self) -> None:
        """Pass the terminal, which was given to us, on to the child."""
        self.child.foreground = True
        self._terminal.give(self.child.pid)
