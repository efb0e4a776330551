"""Run a command with the variables, and start it anew with new ones before the token in them expires.

The supervisor imports neither google-auth nor Click's neighbours, has one thread, and takes its signals synchronously.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import suppress

from vertex_env.child import FORWARDED, OWN_FAILURE, apply, as_started, child_error, known, restore_signals
from vertex_env.helper import Helper, HelperError
from vertex_env.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal

    from vertex_env.variables import Environment

    Policy = Literal["auto", "restart", "ignore", "stop"]
    Say = Callable[[str], None]

STOPPED = 75
"""Exit status of `--on-expiry stop`: EX_TEMPFAIL, for an outer supervisor to start everything again."""
_ENDING = known("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
_INTERRUPTED = (-2, -3, 128 + 2)
"""How commands end after a Ctrl-C (SIGINT, SIGQUIT), which the terminal tells them and not us."""
_WATCHED = FORWARDED | known("SIGCHLD", "SIGTSTP", "SIGCONT", "SIGWINCH")
_FROM_KERNEL = 0x80
"""siginfo's SI_KERNEL: the terminal driver sent it, and it told the whole group (sigaction(2))."""
_TICK_S = 30.0
"""The wall clock is read again at least so often: a suspended machine's timers stand still."""


class _Child:
    """The command, started.

    Args:
        pid: Of the process itself.
        own_group: Whether it leads a process group.
        generation: How often it had been started before.
        foreground: Whether its group was handed the terminal; not any more once it was stopped.
    """

    def __init__(self, pid: int, *, own_group: bool, generation: int, foreground: bool) -> None:
        self.pid = pid
        self.own_group = own_group
        self.generation = generation
        self.foreground = foreground
        self.status: int | None = None
        self.killed = 0
        """How often it was sent SIGKILL."""

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            (os.killpg if self.own_group else os.kill)(self.pid, number)

    def kill(self) -> None:
        self.killed += 1
        self.send(signal.SIGKILL)

    def is_gone(self) -> bool:
        """Whether it has ended, and everything else in its group too.

        What two SIGKILLs did not remove is a zombie that a container's first process does not collect.
        """
        if self.status is None:
            return False
        if not self.own_group or self.killed > 1:
            return True
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


class Supervisor:
    """Runs a command, and runs it anew with new variables before the token in the old ones expires.

    Args:
        command: What to run.
        environ: The environment that the variables are added to.
        env: The first variables.
        helper: What prints new ones as JSON, and its environment.
        policy: What to do before expiry: `auto` leaves a child alone that holds the terminal in raw mode.
        grace_s: How long a child may take to end after SIGTERM.
        say: Told one line an event.
    """

    def __init__(  # noqa: PLR0913
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        env: Environment,
        *,
        helper: tuple[Sequence[str], Mapping[str, str]],
        policy: Policy,
        grace_s: float,
        say: Say,
    ) -> None:
        self._command = command
        self._environ = environ
        self._helper_command = helper
        self._policy = policy
        self._grace_s = grace_s
        self._say = say
        # What was ignored when we were started, as under nohup, does not end the command.
        self._ending = {number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN}
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*_WATCHED, signal.SIGTTOU})
        self._terminal = Terminal()
        self._queue: list[str] = []
        self._helper: Helper | None = None
        self._stop_at: float | None = None
        """When to kill what has been told to end; None while nothing has."""
        self._next: Environment | None = None
        self._user_stops = False
        self._failures = 0
        self._retry_at = 0.0
        self._told: set[str] = set()
        self._adopt(env)
        self._child = self._spawn(0)

    def run(self) -> int:
        """Supervise until the command ends; its wait status, or `STOPPED` shifted as exit status.

        Raises:
            ChildError: The command could not be started.
        """
        while True:
            info = signal.sigtimedwait(_WATCHED, self._wait_s())
            if info is not None:
                self._on_signal(info)
            self._reap()
            if self._child.status is not None and self._stop_at is None:
                return self._finish(self._child.status)  # an end that we did not ask for is final
            if self._stop_at is not None:
                status = self._on_stopping(time.time())
                if status is not None:
                    return self._finish(status)
            else:
                self._on_running(time.time())

    # --- running ---

    def _on_running(self, now: float) -> None:
        """Look whether the token has to be renewed, and whether the child may be stopped for it."""
        busy = self._is_busy()
        raw = busy and self._policy == "auto"
        if not busy:
            self._flush()
        if self._user_stops or now < self._due:
            return
        if now >= self._expires:
            self._tell_once("expired", "the token has expired: requests get 401 until it is renewed")
        if self._next is not None and now >= float(self._next.get("VERTEX_ENV_REFRESH_AT") or 0):
            self._next = None  # put off for so long that it is due itself
        if self._helper is not None:
            if time.monotonic() > self._helper.deadline:
                self._helper.kill()
        elif self._next is not None and not raw:
            self._stop(now)
        elif raw:
            self._tell_once(
                "raw",
                "the token is due for renewal, but the command holds the terminal: it is left alone. "
                "--on-expiry restart would restart it; --on-expiry ignore runs it without us",
            )
        elif now >= self._retry_at:
            self._ask(now)

    def _ask(self, now: float) -> None:
        try:
            self._helper = Helper(*self._helper_command, mask=self._mask)
        except HelperError as e:
            self._on_failure(str(e), now)

    def _on_failure(self, said: str, now: float) -> None:
        self._failures += 1
        self._retry_at = now + min(60.0, 2.0 ** (self._failures - 1)) * (0.9 + 0.2 * _random())
        self._tell_once(f"failure {said}", f"the token could not be renewed, trying again:\n{said.rstrip()}")

    def _on_helper(self, helper: Helper, status: int) -> None:
        self._helper, now = None, time.time()
        try:
            env = helper.result(status)
        except HelperError as e:
            self._on_failure(str(e), now)
            return
        if self._child.status is not None or self._user_stops:
            return
        self._failures = 0
        gained = int(env.get("VERTEX_ENV_EXPIRES_AT") or 0) - self._expires
        if env.get("OPENAI_API_KEY") == self._token or gained < min(60.0, 2 * (self._expires - self._due_exact)):
            # A metadata server gives the same token until shortly before its end: no reason to stop anything.
            self._retry_at = now + max(1.0, min(30.0, (self._expires - now) / 4))
            return
        self._next = env
        self._on_running(now)

    def _stop(self, now: float) -> None:
        """Tell the child to end; SIGCONT, because a stopped one could not."""
        left = self._expires - 1 - now
        self._stop_at = now + (min(self._grace_s, left) if left > 0 else self._grace_s)
        self._child.send(signal.SIGTERM)
        self._child.send(signal.SIGCONT)

    def _on_stopping(self, now: float) -> int | None:
        """Wait until the old child and its group are gone, then start the new one; a status ends it all."""
        if not self._child.is_gone():
            if self._stop_at is not None and now >= self._stop_at:
                self._child.kill()
                self._stop_at = now + 1.0
            return None
        status = self._child.status or 0
        if self._user_stops or self._next is None or os.waitstatus_to_exitcode(status) in _INTERRUPTED:
            return status
        if self._policy == "stop":
            self._say("the token is about to expire: the command was stopped, as --on-expiry stop asks")
            return STOPPED << 8
        if self._child.foreground:
            self._terminal.give(os.getpgrp())
            self._terminal.restore()
        generation = self._child.generation + 1
        self._adopt(self._next)
        self._next = self._stop_at = None
        self._told.clear()
        self._flush()
        self._say(
            f"new token, lasting {int(self._expires - time.time())} s: starting the command anew (no. {generation})"
        )
        self._child = self._spawn(generation)
        return None

    def _adopt(self, env: Environment) -> None:
        """Take *env* for the child that is started next."""
        self._env = env
        self._token = env.get("OPENAI_API_KEY")
        self._expires = float(env.get("VERTEX_ENV_EXPIRES_AT") or 0)
        self._due_exact = float(env.get("VERTEX_ENV_REFRESH_AT") or 0)
        # Not all at the same instant, where many were started at the same instant.
        self._due = self._due_exact - _random() * (self._expires - self._due_exact) / 10
        self._retry_at = 0.0

    def _finish(self, status: int) -> int:
        if self._helper is not None:
            self._helper.kill()
        if self._child.foreground:
            self._terminal.give(os.getpgrp())
            if os.WIFSIGNALED(status):
                self._terminal.restore()
        self._flush()
        return status

    # --- signals ---

    def _on_signal(self, info: signal.struct_siginfo) -> None:
        child, number = self._child, info.si_signo
        told = info.si_code == _FROM_KERNEL and not child.own_group
        if number == signal.SIGTSTP:
            if not told:
                child.send(signal.SIGTSTP)  # in a group of its own, its stop is seen by _reap, which then stops us
            if not child.own_group and self._stop_like(signal.SIGTSTP):
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

    def _forward(self, number: int, *, told: bool) -> None:
        again = self._user_stops and self._stop_at is not None
        if number in self._ending and (
            number != signal.SIGHUP or self._stop_at is not None or self._terminal.is_gone()
        ):
            self._user_stops = True  # but who survives a mere SIGHUP has taken it for "read your configuration again"
        if again and number in (signal.SIGINT, signal.SIGTERM):
            self._child.kill()  # asked twice while it is ending
        elif not told:
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
            elif self._helper is not None and pid == self._helper.pid:
                helped = self._helper, status
        # Last, because the child's own end, had it come already, is final.
        if helped is not None:
            self._on_helper(*helped)

    def _on_child_stopped(self, number: int) -> None:
        """After Ctrl-Z: stop as well, so that the shell sees its job stopped; go on when it is continued."""
        child, terminal = self._child, self._terminal
        if not terminal.is_ours or self._stop_at is not None:
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
        continued = self._stop_like(number)
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

    @staticmethod
    def _stop_like(number: int) -> bool:
        """Stop by *number*, and whether we were: the kernel does not stop whom no shell could continue."""
        os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        # The one that woke us is meant for the child.
        return signal.sigtimedwait({signal.SIGCONT}, 0) is not None

    # --- helpers ---

    def _spawn(self, generation: int) -> _Child:
        """Start the command.

        Raises:
            ChildError: It cannot be executed.
        """
        environ = as_started(apply(self._environ, self._env, generation))
        terminal = self._terminal
        hand_over = terminal.is_ours and terminal.has(os.getpgrp())
        # Where there is a terminal that we may not hand on (a pipeline, a script), the child stays in our group.
        own_group = terminal.is_ours or terminal.fd < 0
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                if own_group:
                    os.setpgid(0, 0)
                if hand_over:
                    terminal.give(os.getpid())
                restore_signals()
                signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
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
        return _Child(pid, own_group=own_group, generation=generation, foreground=hand_over)

    def _is_busy(self) -> bool:
        """Whether a restart would take the terminal from under somebody: raw mode, or a job of the child's own."""
        owner = self._terminal.owner()
        if owner in (self._child.pid, os.getpgrp()):
            return self._terminal.is_raw()
        return self._child.foreground and owner > 0

    def _wait_s(self) -> float:
        """How long nothing can happen unless a signal says so."""
        now = time.time()
        if self._stop_at is not None:
            # Nobody tells us when the last process of a group is gone.
            pause = 0.05 if self._child.status is not None else self._stop_at - now
            return max(0.0, min(pause, self._stop_at - now))
        if self._user_stops:
            return _TICK_S
        wanted = self._retry_at if now >= self._due else self._due
        if self._helper is None and now >= wanted:
            return 1.0  # put off: look again
        return max(0.0, min(_TICK_S, wanted - now)) if self._helper is None else _TICK_S

    def _tell_once(self, what: str, line: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._queue.append(line)

    def _flush(self) -> None:
        for line in self._queue:
            self._say(line)
        self._queue.clear()


def _random() -> float:
    """At least 0, less than 1; the module of that name would take a tenth of starting Python to import."""
    return int.from_bytes(os.urandom(4), "big") / 2**32
