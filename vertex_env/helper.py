"""The process that mints: `vertex-env export --format json`, so that google-auth never enters the supervisor."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from vertex_env import system, warm
from vertex_env.errors import clean

if sys.platform != "win32":
    import fcntl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vertex_env.variables import Environment

_PERMANENT = (77, 78)
"""Exit statuses of ours (`errors`): Google refused, or something is not configured."""


def helper_argv() -> list[str]:
    """What prints the variables as JSON; its settings are in its environment."""
    return warm.own_argv("export", "--format", "json")


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
        group: The process group that it joins; 0 for one of its own, where no Ctrl-C for the child reaches it.
        mask: Its signal mask.

    Raises:
        HelperError: It could not be started.
    """

    def __init__(
        self, argv: Sequence[str], environ: Mapping[str, str], group: int = 0, mask: Iterable[int] = ()
    ) -> None:
        self._send = os.kill if group else os.killpg
        # Were it ignored, nobody would learn how a child ended (wait(2)).
        self._deaths_ignored = signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
        if self._deaths_ignored:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Not pipes: nobody reads while it runs, and it must not have to wait for that.
        opened: list[int] = []
        try:
            opened.append(memory())
            opened.append(memory())
            self._out, self._err = opened
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, self._out, 1),
                (os.POSIX_SPAWN_DUP2, self._err, 2),
            ]
            self.pid = os.posix_spawn(
                argv[0], list(argv), dict(environ), file_actions=actions, setpgroup=group, setsigmask=mask
            )
        except OSError as e:
            for fd in opened:
                os.close(fd)
            raise HelperError(_said(f"cannot run {argv[0]}: {e.strerror}")) from e

    def result(self, status: int) -> Environment:
        """The variables. To be asked once, after it has ended.

        Raises:
            HelperError: It gave none.
        """
        if self._deaths_ignored:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as the command is to find it
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


def _said(error: str) -> str:
    """What the helper would have said of *error*."""
    return f"vertex-env: error: {error}\nvertex-env: hint: see whether vertex-env token works here\n"


def memory() -> int:
    """A descriptor of a file without a name, in memory where the system can; none of 0 to 2, should these be closed."""
    fd = system.choose().memory()
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
