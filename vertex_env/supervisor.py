"""Run a command with the variables, and start it anew with new ones before the token in them expires.

The supervisor imports neither google-auth nor Click's neighbours, has one thread, and takes its signals synchronously.
"""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress

from vertex_env import system
from vertex_env.child import (
    OWN_FAILURE,
    apply,
    as_started,
    child_error,
    end_if_told,
    held,
    restore_signals,
    start_error,
)
from vertex_env.helper import Helper, HelperError
from vertex_env.lifecycle import Abandon, Ask, End, Finish, Kill, Lifecycle, Now, Reclaim, Start, Tell
from vertex_env.process import Process
from vertex_env.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vertex_env.backend import Arrived
    from vertex_env.lifecycle import Action, Rules
    from vertex_env.variables import Environment

    Say = Callable[[str], None]


def known(*names: str) -> set[signal.Signals]:
    """The signals of these names that the platform has."""
    return {getattr(signal, name) for name in names if hasattr(signal, name)}


FORWARDED = known("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM")
"""What is sent to us and meant for the command."""
_ENDING = known("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
_WATCHED = FORWARDED | known("SIGCHLD", "SIGTSTP", "SIGCONT", "SIGWINCH")
_KEYS = known("SIGINT", "SIGQUIT", "SIGTSTP")
"""What a terminal sends for a key."""
_FROM_KERNEL = 0x80
"""siginfo's SI_KERNEL: the terminal driver sent it, and it told the whole group (sigaction(2))."""


class Clock:
    """The clocks of this machine."""

    def now(self) -> Now:
        """This instant."""
        return system.choose().now()


class Supervisor:
    """Does what a `Lifecycle` says: starts the command, signals it, and stands between it and the terminal.

    Args:
        command: What to run.
        environ: The environment that the variables are added to.
        env: The first variables.
        helper: What prints new ones as JSON, and its environment.
        rules: See `Lifecycle`.
        say: Told one line an event.
        clock: What tells the time.
    """

    def __init__(  # noqa: PLR0913
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        env: Environment,
        *,
        helper: tuple[Sequence[str], Mapping[str, str]],
        rules: Rules,
        say: Say,
        clock: Clock | None = None,
    ) -> None:
        self._command = command
        self._environ = environ
        self._helper_command = helper
        self._say = say
        self._clock = clock or Clock()
        # What was ignored when we were started, as under nohup, does not end the command.
        self._ending = {number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN}
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._backend = system.choose()
        self._backend.block(_WATCHED, {signal.SIGTTOU})
        self._backend.mask = {*self._backend.mask} - held()
        self._terminal = Terminal()
        self._helper: Helper | None = None
        # The shell that became us may have left us children (bash's `exec`).
        self._foreign = self._backend.children()
        self._backend.collect_orphans()
        self._life = Lifecycle(env, self._clock.now(), rules, _random)
        end_if_told()
        self._child = self._spawn(env, 0)

    def run(self) -> int:
        """Supervise until the command ends; a wait status.

        Raises:
            ChildError: The command could not be started.
        """
        status = None
        while status is None:
            arrived = self._backend.wait(self._life.wait_s(self._clock.now()))
            if arrived is not None:
                self._on_signal(arrived)
            self._reap()
            gone = self._life.is_stopping and self._child.is_gone()
            for action in self._life.look(self._clock.now(), busy=self._is_busy(), gone=gone):
                status = self._do(action)
        return status

    def _do(self, action: Action) -> int | None:
        match action:
            case Tell():
                self._say(action.line)
            case Ask():
                self._ask()
            case End():
                self._end()
            case Kill():
                self._child.kill()
            case Reclaim():
                self._reclaim(modes=action.modes)
            case Start():
                self._child = self._spawn(action.env, action.generation)
            case Abandon():
                self._abandon()
            case Finish():
                self._abandon()
                return -action.code if action.code < 0 else action.code << 8
        return None

    def _ask(self) -> None:
        try:
            self._helper = Helper(*self._helper_command, self._backend)
        except HelperError as e:
            self._life.failed(str(e), self._clock.now())

    def _abandon(self) -> None:
        if self._helper is not None:
            self._helper.kill()

    def _on_helper(self, helper: Helper, status: int) -> None:
        self._helper = None
        try:
            env = helper.result(status)
        except HelperError as e:
            self._life.failed(str(e), self._clock.now(), permanent=e.permanent)
        else:
            self._life.gave(env, self._clock.now())

    def _end(self) -> None:
        if self._child.may_be_signalled():
            self._child.end()
        else:
            self._life.refused()

    def _reclaim(self, *, modes: bool) -> None:
        if self._child.foreground:
            self._terminal.give(os.getpgrp())
            if modes:
                self._terminal.restore()

    # --- signals ---

    def _on_signal(self, arrived: Arrived) -> None:
        child, number = self._child, arrived.number
        told = self._is_told(arrived)
        if number == signal.SIGTSTP:
            if not told:
                child.send(signal.SIGTSTP)  # in a group of its own, its stop is seen by _reap, which then stops us
            if not child.own_group and self._backend.stop_like(signal.SIGTSTP):
                child.send(signal.SIGCONT)
        elif number == signal.SIGCONT:
            if self._terminal.is_ours and self._terminal.has(os.getpgrp()):
                self._hand_over()
            child.send(signal.SIGCONT)
        elif number == signal.SIGWINCH:
            if not self._terminal.has(child.pid):
                child.send(signal.SIGWINCH)
        elif number in FORWARDED:
            self._forward(number, told=told)

    def _is_told(self, arrived: Arrived) -> bool:
        """Whether the command was sent it as well, by a terminal that tells the whole group which we share."""
        if self._child.own_group:
            return False
        if arrived.code is None:
            return arrived.number in _KEYS and self._terminal.has(os.getpgrp())
        return arrived.code == _FROM_KERNEL

    def _forward(self, number: int, *, told: bool) -> None:
        # Who survives a mere SIGHUP has taken it for "read your configuration again".
        mere = number == signal.SIGHUP and not self._life.is_stopping and not self._terminal.is_gone()
        if number in self._ending and not mere:
            self._life.stop(insists=number in (signal.SIGINT, signal.SIGTERM))
        if not told:
            self._child.send(number)

    def _reap(self) -> None:
        """Collect every status there is: the child's, the helper's, and those of orphans when we are PID 1."""
        helped: tuple[Helper, int] | None = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if os.WIFSTOPPED(status):
                if pid == self._child.pid:
                    self._on_child_stopped(os.WSTOPSIG(status))
            elif pid == self._child.pid:
                self._child.status = status
                self._backend.untie()
                code = os.waitstatus_to_exitcode(status)
                self._life.exited(code, self._clock.now(), has_keys=self._child.foreground)
            elif self._helper is not None and pid == self._helper.pid:
                helped = self._helper, status
        # Last, because the child's own end, had it come already, is final.
        if helped is not None:
            self._on_helper(*helped)

    def _on_child_stopped(self, number: int) -> None:
        """After Ctrl-Z: stop as well, so that the shell sees its job stopped; go on when it is continued."""
        child, terminal = self._child, self._terminal
        if not terminal.is_ours or self._life.is_stopping:
            return
        if number in (signal.SIGTTIN, signal.SIGTTOU) and terminal.has(os.getpgrp()):
            # bash's fg gives us the terminal without a word where the job was running.
            self._hand_over()
            child.send(signal.SIGCONT)
            return
        modes = None
        if terminal.has(child.pid):
            modes = terminal.modes()
            terminal.give(os.getpgrp())
            terminal.restore()
        continued = self._backend.stop_like(number)
        child.foreground = False
        if terminal.has(os.getpgrp()):
            if modes is not None:
                terminal.restore(modes)
            self._hand_over()
        if continued or number == signal.SIGTSTP:
            child.send(signal.SIGCONT)

    def _hand_over(self) -> None:
        """Give the child the terminal that was given to us."""
        self._child.foreground = True
        self._terminal.give(self._child.pid)

    # --- helpers ---

    def _spawn(self, env: Environment, generation: int) -> Process:
        """Start the command.

        Raises:
            ChildError: It cannot be executed.
        """
        environ = as_started(apply(self._environ, env, generation))
        terminal = self._terminal
        hand_over = terminal.is_ours and terminal.has(os.getpgrp())
        # Where there is a terminal that we may not hand on (a pipeline, a script), the child stays in our group.
        own_group = terminal.is_ours or terminal.fd < 0
        parent = os.getpid()
        try:
            die_with = self._backend.tie()
            read, write = os.pipe()
            pid = os.fork()
        except OSError as e:
            raise start_error(e) from e
        if pid == 0:
            try:
                die_with(parent)
                if own_group:
                    os.setpgid(0, 0)
                if hand_over:
                    terminal.give(os.getpid())
                restore_signals()
                self._backend.unblock()
                os.execvpe(self._command[0], list(self._command), environ)  # noqa: S606 -- the user's command
            except (OSError, ValueError) as e:
                os.write(write, str(getattr(e, "errno", errno.EINVAL)).encode())
            finally:
                os._exit(OWN_FAILURE)
        os.close(write)
        if own_group:
            with suppress(OSError):
                os.setpgid(pid, pid)  # whoever is first, child or we: both are right
            if hand_over:
                terminal.give(pid)
        failure = os.read(read, 16)  # ends when the child's copy is closed by a successful exec
        os.close(read)
        if failure:
            os.waitpid(pid, 0)
            if hand_over:
                terminal.give(os.getpgrp())
            raise child_error(self._command[0], int(failure), environ)
        return Process(
            pid,
            own_group=own_group,
            foreground=hand_over,
            foreign=self._foreign,
            children=self._backend.children,
        )

    def _is_busy(self) -> bool:
        """Whether a restart would take the terminal from under somebody: raw mode, or a job of the child's own."""
        owner = self._terminal.owner()
        if owner in (self._child.pid, os.getpgrp()):
            return self._terminal.is_raw()
        return self._child.foreground and owner > 0


def _random() -> float:
    """At least 0, less than 1; the module of that name would take a tenth of starting Python to import."""
    return int.from_bytes(os.urandom(4), "big") / 2**32
