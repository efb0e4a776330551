"""Helper process that mints: `vertex-env export --format json`.

It keeps google-auth out of the supervisor.
"""

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
"""Exit statuses of the program after which another attempt does not help."""


def helper_argv() -> list[str]:
    """Return the command line that prints the variables as JSON.

    Its settings are in its environment.
    """
    return program.own_argv("export", "--format", "json")


class HelperError(Exception):
    """The helper process failed.

    Args:
        said: Error and hint of the helper, ready to print.
        permanent: Whether another attempt fails until a person cures the cause.
    """

    def __init__(self, said: str, *, permanent: bool = False) -> None:
        super().__init__(said)
        self.permanent = permanent


class Helper:
    """Short-lived helper process that prints new variables as JSON.

    Args:
        argv: Command line of the helper.
        environ: Environment of the helper.
        backend: Back-end that has blocked our signals; they are not blocked in the
            helper.
        group: Process group that the helper joins. 0 gives it its own group, which no
            Ctrl-C for the child reaches.

    Raises:
        HelperError: The helper could not be started.
    """

    def __init__(
        self, argv: Sequence[str], environ: Mapping[str, str], backend: Backend, group: int = 0
    ) -> None:
        self._send = os.kill if group else os.killpg
        leash = -1
        # Use files, not pipes: nobody reads while the helper runs, and a full pipe
        # would block it.
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
            self.pid = os.posix_spawn(
                argv[0], list(argv), told, file_actions=actions, setpgroup=group, setsigmask=mask
            )
        except OSError as e:
            for fd in opened:
                os.close(fd)
            raise _start_error(argv[0], e) from e
        finally:
            if leash >= 0:
                os.close(leash)

    def result(self, status: int) -> Environment:
        """Return the variables. Call this once, after the helper has ended.

        Raises:
            HelperError: The helper gave no variables.
        """
        out, said = _read_all(self._out), _read_all(self._err)
        code = os.waitstatus_to_exitcode(status)
        # During an upgrade of Python, the module json may be missing.
        with suppress(ValueError, TypeError, ImportError):
            if code == 0:
                import json

                return dict(json.loads(out))
        permanent = code in _PERMANENT
        # The helper hides secrets in its own messages. `clean` is for the output of an
        # interpreter that crashes.
        raise HelperError(
            clean(said)
            or _said(f"the process that mints tokens ended with status {code} and without a word"),
            permanent=permanent,
        )

    def kill(self) -> None:
        """Kill the helper; its wait status still has to be collected."""
        with suppress(ProcessLookupError):
            self._send(self.pid, signal.SIGKILL)


def _said(error: str, hint: str = "see whether vertex-env token works here") -> str:
    """Return the text that the helper would have printed for *error*."""
    return f"vertex-env: error: {error}\nvertex-env: hint: {hint}\n"


def _start_error(program: str, error: OSError) -> HelperError:
    absent = error.errno in (errno.ENOENT, errno.EACCES)
    reason = f"cannot run {program}: {error.strerror}"
    return HelperError(_said(reason) if absent else _said(reason, limit_hint(error)))


def memory() -> int:
    """Return the descriptor of a file without a name, in memory if possible.

    It is never descriptor 0, 1 or 2, even if these are closed.
    """
    fd = system.choose().memory()
    with os.fdopen(fd):
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _read_all(fd: int) -> str:
    with os.fdopen(fd, encoding="utf-8", errors="replace") as file:
        file.seek(0)
        return file.read()


def _inheritable(fd: int) -> int:
    """Return a copy of *fd* that a process started now inherits; -1 for -1."""
    if fd < 0:
        return fd
    return fcntl.fcntl(fd, fcntl.F_DUPFD, 3)


def end_with(told: str) -> None:
    """In the helper process: end when the parent ends.

    Args:
        told: Variable that the parent has set, such as `4711:-1`: its process ID, and a
            descriptor for `Backend.end_with`.
    """
    parent, _, leash = told.partition(":")
    with suppress(ValueError, OSError):
        system.choose().end_with(int(parent), int(leash))


def ask_helper(argv: Sequence[str], environ: Mapping[str, str]) -> Environment:
    """Run a helper process, wait for it and return its variables.

    A signal that ends this process ends the helper first.

    Raises:
        HelperError: The helper failed.
    """
    ending = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
    watched = {number for number in ending if signal.getsignal(number) != signal.SIG_IGN} | held()
    # If SIGCHLD were ignored, the exit status of the helper would be lost (wait(2)).
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Block signals before the helper starts, so that no signal leaves it behind.
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
            signal.signal(signal.SIGCHLD, before)  # the command inherits it


def _wait_for(helper: Helper, backend: Backend, ending: Collection[int]) -> int:
    """Return the wait status of the helper; a signal in *ending* kills the helper, then
    this process.
    """
    pid = status = 0
    while True:
        # A signal that arrived before the end of the helper also ends this process.
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
