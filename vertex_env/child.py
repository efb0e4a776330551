"""How the command is started and how we end as it does: what a bare start would give it, it gets.

In a module of its own because `run` in place needs nothing else.
"""

from __future__ import annotations

import errno
import os
import sys

from vertex_env.errors import ChildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import NoReturn

    from vertex_env.variables import Environment

OWN_FAILURE = 125
"""Exit status for failures of ours, as with `env` and `timeout` of coreutils."""


def apply(environ: Mapping[str, str], env: Environment, generation: int = 0) -> dict[str, str]:
    """*environ* with the variables of *env* set and unset, for the command's start no. *generation*."""
    merged = {**environ, **env, "VERTEX_ENV_GENERATION": str(generation)}
    return {name: value for name, value in merged.items() if value is not None}


def as_started(environ: Mapping[str, str]) -> dict[str, str]:
    """*environ* with the LC_CTYPE that we were started with: where that means C, Python sets another for itself.

    https://peps.python.org/pep-0538/ (2026-11-22).
    """
    result = dict(environ)
    try:
        entries = (entry.partition(b"=") for entry in _read_bytes("/proc/self/environ").split(b"\0"))
        given = {name: value for name, _, value in entries}.get(b"LC_CTYPE")
        if given is None and result.get("LC_CTYPE") == os.environ.get("LC_CTYPE"):
            result.pop("LC_CTYPE", None)
        elif given is not None:
            result["LC_CTYPE"] = os.fsdecode(given)
    except OSError:
        pass  # without /proc there is no telling
    return result


def _read_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def exec_in_place(command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Become *command*: same process, same terminal, its own exit status.

    Raises:
        ChildError: It cannot be executed.
    """
    if sys.platform == "win32":
        # os.exec* returns to the prompt at once there, with status 0 (https://github.com/python/cpython/issues/101191).
        sys.exit(os.spawnvpe(os.P_WAIT, command[0], list(command), dict(environ)))  # noqa: S606 -- to run the command is the job
    restore_signals()
    try:
        os.execvpe(command[0], list(command), as_started(environ))  # noqa: S606 -- to run the user's command is the job
    except OSError as e:
        raise child_error(command[0], e.errno or errno.EINVAL, environ) from e


def die_like(status: int) -> NoReturn:
    """End as the child with the wait status *status* ended, by the same signal where it was one."""
    if os.WIFSIGNALED(status):
        import resource
        import signal
        from contextlib import suppress

        number = os.WTERMSIG(status)
        with suppress(OSError, ValueError):
            # One core is enough. A limit of 1, not 0, also holds for a core that a program collects (core(5)).
            resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
        with suppress(OSError, ValueError):  # SIGKILL, and those that the C library keeps to itself
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # as PID 1 the signal does nothing
    os._exit(os.waitstatus_to_exitcode(status))


def restore_signals() -> None:
    """Undo what Python does at start-up: a child that gets SIGPIPE ignored behaves differently in a pipeline."""
    # Beneath the module `signal`, which makes enumerations of it all: to import these takes a fifth of starting Python.
    import _signal as signal  # type: ignore[import-not-found]

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # not an exception on the way to exec


def ignore(numbers: Iterable[int]) -> None:
    """Ignore signals, as the process that we were started by had us do."""
    import _signal as signal

    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def child_error(command: str, number: int, environ: Mapping[str, str]) -> ChildError:
    """Why *command* could not be executed, from the errno that was got."""
    import shlex
    import shutil

    name = shlex.quote(command) if command.isprintable() else repr(command)
    absent = number == errno.ENOENT or (number == errno.ENOTDIR and "/" not in command)
    if absent and not shutil.which(command, path=environ.get("PATH")):
        return ChildError(f"{name}: command not found", "check the name and PATH", 127)
    reason = "its interpreter was not found" if absent else os.strerror(number)
    hint = f"see what it is: ls -ld {name}; a script needs a first line such as #!/bin/sh and chmod +x"
    return ChildError(f"{name} cannot be executed: {reason}", hint, 126)
