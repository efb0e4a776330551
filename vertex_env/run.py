"""Run a command with the variables, and start it anew with new ones before the token in them expires.

The supervisor imports neither google-auth nor Click's neighbours, has one thread, and takes its signals synchronously.
New variables come from a short-lived `vertex-env export --format json` process. Linux only; elsewhere the command is
run once, and says so.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
import time
from contextlib import suppress

from vertex_env.errors import ChildError, SettingsError, VertexEnvError

if sys.platform != "win32":
    import fcntl
    import resource
    import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Literal, NoReturn

    from vertex_env.variables import Environment

    Policy = Literal["auto", "restart", "ignore", "stop"]
    Say = Callable[[str], None]

OWN_FAILURE = 125
"""Exit status for failures of ours, as with `env` and `timeout` of coreutils."""
STOPPED = 75
"""Exit status of `--on-expiry stop`: EX_TEMPFAIL, for an outer supervisor to start everything again."""

HELPER_TIMEOUT_S = 150.0
"""More than the longest wait within: 120 s for a program that yields a subject token."""


def apply(environ: Mapping[str, str], env: Environment, generation: int = 0) -> dict[str, str]:
    """*environ* with the variables of *env* set and unset, for the command's start no. *generation*."""
    merged = {**environ, **env, "VERTEX_ENV_GENERATION": str(generation)}
    return {name: value for name, value in merged.items() if value is not None}


def _as_started(environ: Mapping[str, str]) -> dict[str, str]:
    """*environ* with the LC_CTYPE that we were started with: where that means C, Python sets another for itself.

    https://peps.python.org/pep-0538/ (2026-11-22).
    """
    result = dict(environ)
    with suppress(OSError):
        entries = (entry.partition(b"=") for entry in _read_bytes("/proc/self/environ").split(b"\0"))
        given = {name: value for name, _, value in entries}.get(b"LC_CTYPE")
        if given is None and result.get("LC_CTYPE") == os.environ.get("LC_CTYPE"):
            result.pop("LC_CTYPE", None)
        elif given is not None:
            result["LC_CTYPE"] = os.fsdecode(given)
    return result


def _read_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def helper_argv() -> list[str]:
    """What prints the variables as JSON; its settings are in its environment."""
    return [sys.executable, "-P", "-m", "vertex_env", "export", "--format", "json"]


def start(
    command: Sequence[str],
    env: Environment,
    overlay: Mapping[str, str],
    *,
    policy: Policy,
    grace_s: float,
    say: Say,
) -> NoReturn:
    """Run *command* with the variables of *env*, as *policy* says, and end as it ends.

    Args:
        command: What to run.
        env: The first variables.
        overlay: `VERTEX_ENV_*` variables that stand for the command line's settings, for renewals.
        policy: See `Supervisor`.
        grace_s: See `Supervisor`.
        say: Told one line an event.

    Raises:
        ChildError: It could not be started.
    """
    if policy == "auto" and stdin_is_data():
        say(
            "stdin is a pipe or a file, which a restart would cut: running without renewal (--on-expiry restart renews)"
        )
        policy = "ignore"
    if policy != "ignore" and not can_supervise():
        say(
            "tokens cannot be renewed on this platform yet: running the command once (--on-expiry ignore says that too)"
        )
        policy = "ignore"
    if policy == "ignore":
        exec_in_place(command, apply(os.environ, env))
    helper = [*helper_argv(), "--refresh"], {**os.environ, **overlay}
    die_like(Supervisor(command, os.environ, env, helper=helper, policy=policy, grace_s=grace_s, say=say).run())


def pack(env: Environment, overlay: Mapping[str, str], policy: Policy, grace_s: float) -> str:
    """The arguments of `start` but for the command, as a text for the warm path; `unpack` reads it.

    No value has one of the separators: `variables` refuses control characters, and settings have patterns.
    """
    variables = "\x1e".join(name if value is None else f"{name}={value}" for name, value in env.items())
    settings = "\x1e".join(f"{name}={value}" for name, value in overlay.items())
    return "\x1d".join((policy, repr(grace_s), settings, variables))


def unpack(text: str) -> tuple[Environment, Mapping[str, str], Policy, float]:
    """What was packed."""
    policy, grace, settings, variables = text.split("\x1d")
    env: dict[str, str | None] = {}
    for item in variables.split("\x1e"):
        name, is_set, value = item.partition("=")
        env[name] = value if is_set else None
    overlay = dict(item.split("=", 1) for item in settings.split("\x1e") if item)
    return env, overlay, policy, float(grace)  # type: ignore[return-value]


def stdin_is_data() -> bool:
    """Whether stdin is a pipe, a file or a socket: what the first child reads of it, a second one would miss."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)  # Node's pipes are sockets


def can_supervise() -> bool:
    """Whether this platform has what the supervisor needs."""
    return sys.platform == "linux"


def exec_in_place(command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Become *command*: same process, same terminal, its own exit status.

    Raises:
        ChildError: It cannot be executed.
    """
    if sys.platform == "win32":
        # os.exec* returns to the prompt at once there, with status 0 (https://github.com/python/cpython/issues/101191).
        sys.exit(os.spawnvpe(os.P_WAIT, command[0], list(command), dict(environ)))  # noqa: S606 -- to run the command is the job
    _restore_signals()
    try:
        os.execvpe(command[0], list(command), _as_started(environ))  # noqa: S606 -- to run the user's command is the job
    except OSError as e:
        raise _child_error(command[0], e.errno or errno.EINVAL, environ) from e


def die_like(status: int) -> NoReturn:
    """End as the child with the wait status *status* ended, by the same signal where it was one."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with suppress(OSError, ValueError):
            # One core is enough. A limit of 1, not 0, also holds for a core that a program collects (core(5)).
            resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # as PID 1 the signal does nothing
    os._exit(os.waitstatus_to_exitcode(status))


def _restore_signals() -> None:
    """Undo what Python does at start-up: a child that gets SIGPIPE ignored behaves differently in a pipeline."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # not an exception on the way to exec


def _child_error(command: str, number: int, environ: Mapping[str, str]) -> ChildError:
    import shlex
    import shutil

    name = shlex.quote(command) if command.isprintable() else repr(command)
    absent = number == errno.ENOENT or (number == errno.ENOTDIR and "/" not in command)
    if absent and not shutil.which(command, path=environ.get("PATH")):
        return ChildError(f"{name}: command not found", "check the name and PATH", 127)
    reason = "its interpreter was not found" if absent else os.strerror(number)
    hint = f"see what it is: ls -ld {name}; a script needs a first line such as #!/bin/sh and chmod +x"
    return ChildError(f"{name} cannot be executed: {reason}", hint, 126)


class HelperError(Exception):
    """The helper process failed; its argument is what that said: an error and a hint, ready to print."""


class Helper:
    """A short-lived process of ours that prints new variables as JSON.

    Args:
        argv: What to run.
        environ: Its environment.
        group: The process group that it joins; 0 for one of its own, where no Ctrl-C for the child reaches it.
        mask: Its signal mask.

    Raises:
        HelperError: It could not be started.
    """

    def __init__(
        self, argv: Sequence[str], environ: Mapping[str, str], group: int = 0, mask: Iterable[int] = ()
    ) -> None:
        self._send = os.kill if group else os.killpg
        self.deadline = time.monotonic() + HELPER_TIMEOUT_S
        # Were it ignored, nobody would learn how a child ended (wait(2)).
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Not pipes: nobody reads while it runs, and it must not have to wait for that.
        self._out, self._err = _memory(), _memory()
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, self._out, 1),
            (os.POSIX_SPAWN_DUP2, self._err, 2),
        ]
        try:
            self.pid = os.posix_spawn(
                argv[0], list(argv), dict(environ), file_actions=actions, setpgroup=group, setsigmask=mask
            )
        except OSError as e:
            os.close(self._out)
            os.close(self._err)
            raise HelperError(_said(f"cannot run {argv[0]}: {e.strerror}")) from e

    def result(self, status: int) -> Environment:
        """The variables. To be asked once, after it has ended.

        Raises:
            HelperError: It gave none.
        """
        out, said = _read_all(self._out), _read_all(self._err)
        code = os.waitstatus_to_exitcode(status)
        import json

        with suppress(ValueError, TypeError):
            if code == 0:
                return dict(json.loads(out))
        raise HelperError(said or _said(f"the process that mints tokens ended with status {code} and without a word"))

    def kill(self) -> None:
        """End it; its wait status is still to be collected."""
        with suppress(ProcessLookupError):
            self._send(self.pid, signal.SIGKILL)


def _said(error: str) -> str:
    """What the helper would have said of *error*."""
    return f"vertex-env: error: {error}\nvertex-env: hint: see whether vertex-env token works here\n"


def _memory() -> int:
    """A descriptor of a file without a name, in memory where the system can; none of 0 to 2, should these be closed."""
    if sys.platform == "linux":
        fd = os.memfd_create("vertex-env")
    else:
        import tempfile

        fd, path = tempfile.mkstemp()
        os.unlink(path)
    with os.fdopen(fd):
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _read_all(fd: int) -> str:
    with os.fdopen(fd, encoding="utf-8", errors="replace") as file:
        file.seek(0)
        return file.read()


def ask_helper(argv: Sequence[str], environ: Mapping[str, str]) -> Environment:
    """The variables from a helper process, waiting for it; a Ctrl-C ends it as well.

    Raises:
        HelperError: It failed.
    """
    helper = Helper(argv, environ, os.getpgrp())
    try:
        _, status = os.waitpid(helper.pid, 0)
    except BaseException:
        helper.kill()
        raise
    return helper.result(status)


class Terminal:
    """The controlling terminal, if there is one, and who has it."""

    def __init__(self) -> None:
        try:
            self.fd = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError:
            self.fd = -1
        # We may hand it on only if the whole job is ours: not within a pipeline, not within a script.
        self.is_ours = self.fd >= 0 and os.getpid() == os.getpgrp() and os.isatty(0) and os.isatty(1)
        self._saved = self.modes() if self.has(os.getpgrp()) else None

    def owner(self) -> int:
        """The process group in the foreground; -1 if there is none, or no terminal any more."""
        try:
            return os.tcgetpgrp(self.fd)
        except OSError:
            return -1

    def has(self, group: int) -> bool:
        """Whether *group* is in the foreground."""
        return self.owner() == group

    def is_gone(self) -> bool:
        """Whether there was one, and its window has been closed."""
        return self.fd >= 0 and self.owner() < 0

    def give(self, group: int) -> None:
        """Put *group* in the foreground."""
        with suppress(OSError):
            os.tcsetpgrp(self.fd, group)

    def modes(self) -> list[object] | None:
        """Its modes now."""
        try:
            return termios.tcgetattr(self.fd) if self.fd >= 0 else None
        except termios.error:
            return None

    def restore(self, modes: list[object] | None = None) -> None:
        """Set *modes*, or those from before the first child."""
        wanted = modes or self._saved
        if wanted is not None:
            with suppress(termios.error):
                termios.tcsetattr(self.fd, termios.TCSADRAIN, wanted)  # type: ignore[arg-type]

    def is_raw(self) -> bool:
        """Whether some program reads it key by key: an editor, a REPL, an agent, whose session a restart would lose."""
        modes = self.modes()
        return modes is not None and not int(modes[3]) & termios.ICANON  # type: ignore[call-overload]


def _known(*names: str) -> set[signal.Signals]:
    """The signals of these names that the platform has."""
    return {getattr(signal, name) for name in names if hasattr(signal, name)}


_FORWARDED = _known("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM")
_ENDING = _known("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
_INTERRUPTED = (-2, -3, 128 + 2)
"""How commands end after a Ctrl-C (SIGINT, SIGQUIT), which the terminal tells them and not us."""
_WATCHED = _FORWARDED | _known("SIGCHLD", "SIGTSTP", "SIGCONT", "SIGWINCH")
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
        elif number in _FORWARDED:
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
        environ = _as_started(apply(self._environ, self._env, generation))
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
                _restore_signals()
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
            raise _child_error(self._command[0], int(failure), environ)
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


def check_command(command: Sequence[str]) -> None:
    """Refuse what can never be executed, before a token is minted for it.

    Raises:
        SettingsError: It is empty or has a NUL.
    """
    if not command or not command[0] or any("\0" in part for part in command):
        raise SettingsError("the command to run is empty or has a NUL", "for example: vertex-env run -- python app.py")


def failure(error: VertexEnvError) -> int:
    """Exit status of `run` for a failure of ours."""
    return error.status if isinstance(error, ChildError) else OWN_FAILURE


def run_once(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run *command* as a child in our own group and terminal; its wait status.

    Signals from the terminal reach it by themselves; those sent to us alone are passed on.

    Raises:
        ChildError: It could not be started.
    """
    terminal, child, early = Terminal(), 0, list[int]()

    def forward(number: int, _frame: object) -> None:
        if not child:
            early.append(number)
        elif number not in (signal.SIGINT, signal.SIGQUIT) or not terminal.has(os.getpgrp()):
            with suppress(ProcessLookupError):
                os.kill(child, number)

    # Handlers, not SIG_IGN, which the child would inherit; what is ignored already shall be so in the child.
    caught = [number for number in _FORWARDED if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, forward) for number in caught}
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        child = os.posix_spawnp(
            command[0], list(command), _as_started(environ), setsigdef=(signal.SIGPIPE, signal.SIGXFSZ)
        )
        for number in early:
            os.kill(child, number)
        return os.waitpid(child, 0)[1]
    except OSError as e:
        raise _child_error(command[0], e.errno or errno.EINVAL, environ) from e
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
