"""The process that mints: `vertex-env export --format json`, so that google-auth never enters the supervisor."""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress

from vertex_env import program
from vertex_env.errors import Exit, clean
from vertex_env.run import lifecycle, system
from vertex_env.run.child import die_like, held, limit_hint

if sys.platform != "win32":
    import fcntl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from vertex_env.run.backend import Backend
    from vertex_env.vertex.variables import Environment

_PERMANENT = (Exit.REFUSED, Exit.CONFIG)
"""Exit statuses of the program after which trying again does not help."""


def helper_argv() -> list[str]:
    """What prints the variables as JSON; its settings are in its environment."""
    return program.own_argv("export", "--format", "json")


class HelperError(Exception):
    """The helper process failed.

    Args:
        said: What it said: an error and a hint, ready to print.
        permanent: Whether trying again does not help before a person has done something.
    """

    def __init__(self, said: str, *, permanent: bool = False) -> None:
        super().__init__(said)
        self.permanent = permanent


class Helper:
    """A short-lived process of ours that prints new variables as JSON.

    Args:
        argv: What to run.
        environ: Its environment.
        backend: What has blocked our signals, which are not blocked in it.
        group: The process group that it joins; 0 for one of its own, where no Ctrl-C for the child reaches it.

    Raises:
        HelperError: It could not be started.
    """

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str], backend: Backend, group: int = 0) -> None:
        self._send = os.kill if group else os.killpg
        leash = -1
        # Not pipes: nobody reads while it runs, and it must not have to wait for that.
        opened: list[int] = []
        try:
            opened.append(memory())
            opened.append(memory())
            self._out, self._err = opened
            leash = _inheritable(backend.leash())
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, self._out, 1),
                (os.POSIX_SPAWN_DUP2, self._err, 2),
            ]
            told = {**environ, program.PARENT: f"{os.getpid()}:{leash}"}
            mask = {*backend.mask} - held()
            self.pid = os.posix_spawn(argv[0], list(argv), told, file_actions=actions, setpgroup=group, setsigmask=mask)
        except OSError as e:
            for fd in opened:
                os.close(fd)
            raise _start_error(argv[0], e) from e
        finally:
            if leash >= 0:
                os.close(leash)

    def result(self, status: int) -> Environment:
        """The variables. To be asked once, after it has ended.

        Raises:
            HelperError: It gave none.
        """
        out, said = _read_all(self._out), _read_all(self._err)
        code = os.waitstatus_to_exitcode(status)
        with suppress(ValueError, TypeError, ImportError):  # while Python is upgraded under us, it has no json
            if code == 0:
                import json

                return dict(json.loads(out))
        permanent = code in _PERMANENT
        # It hides secrets in what it says itself; this is for what an interpreter that breaks down says.
        raise HelperError(
            clean(said) or _said(f"the process that mints tokens ended with status {code} and without a word"),
            permanent=permanent,
        )

    def kill(self) -> None:
        """End it; its wait status is still to be collected."""
        with suppress(ProcessLookupError):
            self._send(self.pid, signal.SIGKILL)


def _said(error: str, hint: str = "see whether vertex-env token works here") -> str:
    """What the helper would have said of *error*."""
    return f"vertex-env: error: {error}\nvertex-env: hint: {hint}\n"


def _start_error(program: str, error: OSError) -> HelperError:
    absent = error.errno in (errno.ENOENT, errno.EACCES)
    reason = f"cannot run {program}: {error.strerror}"
    return HelperError(_said(reason) if absent else _said(reason, limit_hint(error)))


def memory() -> int:
    """A descriptor of a file without a name, in memory where the system can; none of 0 to 2, should these be closed."""
    fd = system.choose().memory()
    with os.fdopen(fd):
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _read_all(fd: int) -> str:
    with os.fdopen(fd, encoding="utf-8", errors="replace") as file:
        file.seek(0)
        return file.read()


def _inheritable(fd: int) -> int:
    """A copy of *fd* that a process started now gets; -1 for -1."""
    if fd < 0:
        return fd
    return fcntl.fcntl(fd, fcntl.F_DUPFD, 3)


def end_with(told: str) -> None:
    """In the process that mints: end when the one that has started us does.

    Args:
        told: What that one said, such as `4711:-1`: its number, and a descriptor for `Backend.end_with`.
    """
    parent, _, leash = told.partition(":")
    with suppress(ValueError, OSError):
        system.choose().end_with(int(parent), int(leash))


def ask_helper(argv: Sequence[str], environ: Mapping[str, str]) -> Environment:
    """The variables from a helper process, waiting for it. A signal that ends us ends it first.

    Raises:
        HelperError: It failed.
    """
    ending = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
    watched = {number for number in ending if signal.getsignal(number) != signal.SIG_IGN} | held()
    # Were it ignored, nobody would learn how a child ended (wait(2)).
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Before there is a process to leave behind.
    backend = system.choose()
    try:
        backend.block({*watched, signal.SIGCHLD}, ())
    except OSError as e:
        raise _start_error(argv[0], e) from e
    try:
        helper = Helper(argv, environ, backend, os.getpgrp())
        return helper.result(_wait_for(helper, backend, watched))
    finally:
        backend.unblock()
        if before == signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, before)  # as the command is to find it


def _wait_for(helper: Helper, backend: Backend, ending: Collection[int]) -> int:
    """Its wait status; one of *ending* kills it, and us."""
    pid = status = 0
    while True:
        # What came before its end ends us as well.
        arrived = backend.wait(0 if pid else lifecycle.TICK_S)
        if arrived is not None and arrived.number in ending:
            if not pid:
                helper.kill()
                os.waitpid(helper.pid, 0)
            die_like(arrived.number)
        if pid and arrived is None:
            return status
        if not pid:
            pid, status = os.waitpid(helper.pid, os.WNOHANG)
