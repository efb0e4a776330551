"""Which signals are passed on to the command, and whether its process gets them alone or with its whole group.

As without us: what is sent to one process reaches the command's process alone, and what a terminal tells a group
reaches the group once. INT, QUIT and TERM go to the group, because what the command has started should end with it.
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


FORWARDED = frozenset(signal.valid_signals()) - known("SIGKILL", "SIGSTOP", "SIGCHLD", "SIGPIPE", "SIGURG", "SIGXFSZ")
"""What somebody may send to us and mean for the command: all that can be caught, but for what the kernel sends for our
own doings. The value that comes with a queued real-time signal is not passed on."""
WATCHED = FORWARDED | {signal.SIGCHLD}
_ENDING = known("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
_TO_GROUP = known("SIGINT", "SIGTERM", "SIGQUIT", "SIGCONT")
KEYS = known("SIGINT", "SIGQUIT", "SIGTSTP", "SIGWINCH", "SIGINFO")
"""What a terminal sends to the group in the foreground."""
_BACKGROUND = known("SIGTTIN", "SIGTTOU")
"""What a terminal sends to a group in the background that reads or writes."""
STOPPING = _BACKGROUND | known("SIGTSTP")
"""What stops a process, if it has no handler and there is somebody who could continue it."""
_FROM_KERNEL = 0x80
"""siginfo's SI_KERNEL: what a terminal sends has it; what kill(2) sends does not (sigaction(2))."""
_SHELL_ENDS_S = 1.0
"""How long a shell may take to end after it has told its jobs of the closed window."""
_WINDOW_CLOSES_S = 0.2
"""How long a window may take to close after its shell has told the jobs."""
_LOOK_S = 0.02


class Relay:
    """Passes signals on to the command, and stops when it stops.

    Args:
        backend: The platform's.
        terminal: The controlling one.
        life: Told when somebody wants the command to end.
        clock: Seconds on a clock that nobody sets.
    """

    child: Process
    """The command; set at each of its starts."""

    def __init__(self, backend: Backend, terminal: Terminal, life: Lifecycle, clock: Callable[[], float]) -> None:
        # What was ignored when we were started, as under nohup, does not end the command.
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
        """From now on, signals have no effect but through `take`."""
        watched = WATCHED if self._backend.tells_origin else WATCHED - FAULTS
        self._backend.block(watched, {signal.SIGTTOU})

    def take(self, arrived: Arrived) -> None:
        """Do what a signal asks for."""
        number = arrived.number
        if number in FAULTS and (arrived.code or 0) > 0:
            self._backend.stop_like(number)  # our own fault: it ends us
        elif number == signal.SIGHUP:
            self._on_hangup(arrived)
        elif number in FORWARDED:
            if number != signal.SIGCONT:  # the kernel, and a shell, send it after SIGHUP
                self._release()
            self._forward(arrived)

    def _forward(self, arrived: Arrived) -> None:
        child, number = self.child, arrived.number
        from_terminal = self._is_from_terminal(arrived)
        if number in self._ending:
            self._life.stop(insists=number in (signal.SIGINT, signal.SIGTERM))
        if number == signal.SIGCONT and self._terminal.is_ours and self._terminal.has(os.getpgrp()):
            self._hand_over()
        if child.own_group or not from_terminal:  # else the terminal has told it
            child.send(number, group=from_terminal or number in _TO_GROUP)
        if number == signal.SIGTERM:
            child.send(signal.SIGCONT)  # what is stopped could not end
        # In a group of its own the command's stop is seen: `on_stopped`.
        stops = number == signal.SIGTSTP or (from_terminal and number in _BACKGROUND)
        if stops and not child.own_group and self._backend.stop_like(number):
            child.send(signal.SIGCONT)

    def _is_from_terminal(self, arrived: Arrived) -> bool:
        """Whether a terminal has sent it, to all of our group."""
        number, terminal = arrived.number, self._terminal
        if number not in KEYS | _BACKGROUND | {signal.SIGHUP}:
            return False  # the kernel also sends SIGALRM, for a timer that we were started with
        if arrived.code is not None:
            return arrived.code == _FROM_KERNEL
        if number == signal.SIGHUP:
            return terminal.is_gone()
        return terminal.fd >= 0 and terminal.has(os.getpgrp()) == (number in KEYS)

    # --- hang-up ---

    def _on_hangup(self, arrived: Arrived) -> None:
        """A closed window is told to a group once; any other SIGHUP means "read your configuration again".

        Two may tell of the window: a shell such as bash tells its jobs, which is us, and when it ends the kernel tells
        the group that has the terminal, which may be the command's (credentials(7)). Only a shell that is still there
        when the window is gone cannot have taken the terminal back. Else we tell it too: twice is better than never.
        """
        shared = not self.child.own_group
        if self._hung_up or self._terminal.fd < 0:
            again = shared if arrived.code is None else arrived.code == _FROM_KERNEL
            if not (self._hung_up and again):
                self._read_again()
        elif shared and self._terminal.is_gone():
            self._hung_up = True
            self._stop_for_hangup()  # the group is ours as well, and was told
        elif shared:
            if not self._is_from_terminal(arrived):
                self._read_again()
        elif self._held_since is None:
            self._held_since = self._clock()
            shell_is_there = not self._shell_has_ended()  # first of all: it ends soon
            self._kernel_tells = shell_is_there and self._terminal.is_gone() and self._had_terminal()
            self.look()

    def look(self) -> None:
        """Decide about a SIGHUP that is held back, if it can be told by now what it was."""
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
            self.child.send(signal.SIGCONT)  # as the kernel does

    def wait_s(self, usual: float) -> float:
        """How long to wait for a signal; nobody tells us what `look` looks for."""
        return usual if self._held_since is None else min(usual, _LOOK_S)

    def _release(self) -> None:
        """Let a SIGHUP that is held back go first."""
        if self._held_since is not None and not self._terminal.is_gone():
            self._held_since = None
            self._read_again()

    def _shell_has_ended(self) -> bool:
        """Whether the leader of our session has; a dead one that nobody has collected is told by our new parent."""
        leader = os.getsid(0)
        if leader == os.getpid():
            return True  # there is none
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
        """Whether the command's group did, and no job of its own, when the window was closed."""
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
        """After Ctrl-Z: stop as well, so that the shell sees its job stopped; go on when it is continued."""
        child, terminal = self.child, self._terminal
        if terminal.fd < 0 and number in STOPPING:
            child.send(signal.SIGCONT)  # nobody else could continue it
        if not terminal.is_ours or self._life.is_stopping:
            return
        if number in _BACKGROUND and terminal.has(os.getpgrp()):
            # bash's fg gives us the terminal without a word where the job was running.
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
            # Without a shell the kernel does not stop us. What reads in the background would stop again at once.
            child.send(signal.SIGCONT)

    def _hand_over(self) -> None:
        """Give the child the terminal that was given to us."""
        self.child.foreground = True
        self._terminal.give(self.child.pid)
