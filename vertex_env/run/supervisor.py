"""Run a command with the variables, and restart it with new ones before the token expires.

The supervisor imports neither google-auth nor Click's neighbours. It has one thread and
takes its signals synchronously.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import suppress

from vertex_env.errors import Exit
from vertex_env.run import system
from vertex_env.run.child import (
    apply,
    as_started,
    child_error,
    end_if_told,
    held,
    ignore,
    restore_signals,
    start_error,
)
from vertex_env.run.helper import Helper, HelperError
from vertex_env.run.lifecycle import (
    Abandon,
    Ask,
    End,
    Finish,
    Instant,
    Kill,
    Lifecycle,
    Reclaim,
    Start,
    Tell,
)
from vertex_env.run.process import Process
from vertex_env.run.relay import Relay
from vertex_env.run.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vertex_env.run.lifecycle import Action, Rules
    from vertex_env.vertex.variables import Environment

    Say = Callable[[str], None]


class Supervisor:
    """Carries out the actions of a `Lifecycle`: it starts and signals the command.

    It also hands the terminal to the command and takes it back.

    Args:
        command: Command to run, with its arguments.
        environ: Environment to which the variables are added.
        env: The first variables.
        helper: Command line of the process that prints new variables as JSON, and its
            environment.
        rules: See `Lifecycle`.
        say: Function that prints one line for an event.
        clock: Function that returns the instant; by default the clock of the back-end.
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
        clock: Callable[[], Instant] | None = None,
    ) -> None:
        self._command = command
        self._environ = environ
        self._helper_command = helper
        self._say = say
        # If SIGCHLD were ignored, the exit status of the command would be lost
        # (wait(2)). The command still starts with SIGCHLD ignored if it was ignored
        # before.
        self._ignored = (
            {signal.SIGCHLD} if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN else set()
        )
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._backend = system.choose()
        self._clock = clock or self._backend.now
        self._terminal = Terminal()
        self._life = Lifecycle(env, self._clock(), rules, _random)
        self._relay = Relay(self._backend, self._terminal, self._life, time.monotonic)
        try:
            self._relay.watch()
        except OSError as e:
            raise start_error(e) from e
        self._backend.mask = {*self._backend.mask} - held()
        self._helper: Helper | None = None
        # The shell that started us by `exec` may have left children to us.
        self._foreign = self._backend.children()
        self._backend.collect_orphans()
        end_if_told()
        self._start(env, 0)

    def run(self) -> int:
        """Supervise until the command ends; return a wait status.

        Raises:
            ChildError: The command could not be started.
        """
        status = None
        while status is None:
            arrived = self._backend.wait(self._relay.wait_s(self._life.wait_s(self._clock())))
            if arrived is not None:
                self._relay.take(arrived)
            self._reap()
            self._relay.look()
            gone = self._life.is_stopping and self._child.is_gone()
            for action in self._life.look(self._clock(), busy=self._is_busy(), gone=gone):
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
                self._start(action.env, action.generation)
            case Abandon():
                self._abandon()
            case Finish():
                self._abandon()
                return -action.code if action.code < 0 else action.code << 8
        return None

    def _start(self, env: Environment, generation: int) -> None:
        self._child = self._relay.child = self._spawn(env, generation)

    def _ask(self) -> None:
        try:
            self._helper = Helper(*self._helper_command, self._backend)
        except HelperError as e:
            self._life.failed(str(e), self._clock())

    def _abandon(self) -> None:
        if self._helper is not None:
            self._helper.kill()

    def _on_helper(self, helper: Helper, status: int) -> None:
        self._helper = None
        try:
            env = helper.result(status)
        except HelperError as e:
            self._life.failed(str(e), self._clock(), permanent=e.permanent)
        else:
            self._life.gave(env, self._clock())

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

    def _reap(self) -> None:
        """Collect all available wait statuses: of the child, the helper, and orphans
        under PID 1.
        """
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
                    self._relay.on_stopped(os.WSTOPSIG(status))
            elif pid == self._child.pid:
                self._child.status = status
                self._backend.untie()
                code = os.waitstatus_to_exitcode(status)
                self._life.exited(code, self._clock(), has_keys=self._child.foreground)
            elif self._helper is not None and pid == self._helper.pid:
                helped = self._helper, status
        # Handle the helper last: if the child has ended by itself meanwhile, its end is
        # final.
        if helped is not None:
            self._on_helper(*helped)

    # --- helpers ---

    def _spawn(self, env: Environment, generation: int) -> Process:
        """Start the command.

        Raises:
            ChildError: The command cannot be executed.
        """
        environ = as_started(apply(self._environ, env, generation))
        terminal = self._terminal
        hand_over = terminal.is_ours and terminal.has(os.getpgrp())
        # If there is a terminal that we may not hand on (in a pipeline or a script),
        # the child stays in our group.
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
                ignore(self._ignored)
                # The command comes from the user.
                os.execvpe(self._command[0], list(self._command), environ)  # noqa: S606
            except (OSError, ValueError) as e:
                os.write(write, str(getattr(e, "errno", errno.EINVAL)).encode())
            finally:
                os._exit(Exit.RUN_FAILURE)
        os.close(write)
        if own_group:
            with suppress(OSError):
                # Parent and child both do this; the order does not matter.
                os.setpgid(pid, pid)
            if hand_over:
                terminal.give(pid)
        failure = os.read(read, 16)  # ends when a successful exec closes the child's copy
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
        """Tell whether a restart would disturb a user at the terminal.

        This is so in raw mode, or while a job of the child has the terminal.
        """
        owner = self._terminal.owner()
        if owner in (self._child.pid, os.getpgrp()):
            return self._terminal.is_raw()
        return self._child.foreground and owner > 0


def _random() -> float:
    """Return a number of at least 0 and less than 1.

    The import of the module `random` would take a tenth of the time to start Python.
    """
    return int.from_bytes(os.urandom(4), "big") / 2**32
