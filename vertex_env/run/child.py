"""Start the command as a direct start would, and end as the command ends.

This module is separate because `run` in place needs nothing else.
"""

from __future__ import annotations

import errno
import os
import sys

from vertex_env import program
from vertex_env.errors import ChildError, Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import NoReturn

    from vertex_env.vertex.variables import Environment

_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)


def apply(environ: Mapping[str, str], env: Environment, generation: int = 0) -> dict[str, str]:
    """Return *environ* with the variables of *env* set and unset.

    Args:
        environ: Environment to start from.
        env: Variables to set, or to unset where the value is None.
        generation: Number of the command's start; the first is 0.
    """
    merged = {**environ, **env, "VERTEX_ENV_GENERATION": str(generation)}
    return {name: value for name, value in merged.items() if value is not None}


def as_started(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* with the LC_CTYPE that this process was started with.

    Where LC_CTYPE means C, Python sets another value for itself:
    https://peps.python.org/pep-0538/ (2026-11-22).
    """
    result = dict(environ)
    if not program.is_linux():
        return result  # the original value is unknown without /proc
    try:
        entries = (
            entry.partition(b"=") for entry in _read_bytes("/proc/self/environ").split(b"\0")
        )
        given = {name: value for name, _, value in entries}.get(b"LC_CTYPE")
        if given is None and result.get("LC_CTYPE") == os.environ.get("LC_CTYPE"):
            result.pop("LC_CTYPE", None)
        elif given is not None:
            result["LC_CTYPE"] = os.fsdecode(given)
    except OSError:
        pass  # /proc is not mounted
    return result


def _read_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def exec_in_place(command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Become *command*: same process, same terminal, and its own exit status.

    On Windows, run it as a child and end with its exit status.

    Raises:
        ChildError: The command cannot be executed.
    """
    try:
        if sys.platform == "win32":
            # On Windows os.exec* returns to the prompt at once with status 0
            # (https://github.com/python/cpython/issues/101191), and os.spawnvpe does
            # not exist.
            sys.exit(_run_on_windows(command, environ))
        restore_signals()
        # The command comes from the user.
        os.execvpe(command[0], list(command), as_started(environ))  # noqa: S606
    except OSError as e:
        raise child_error(command[0], e.errno or errno.EINVAL, environ) from e


def _run_on_windows(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command as a child and return its exit status.

    The console sends a Ctrl-C to the command as well, and the command decides what
    follows.
    """
    import shutil
    import signal
    import subprocess

    signal.signal(signal.SIGINT, lambda *_: None)
    # Without `which`, a `.cmd` file is not found.
    program = shutil.which(command[0], path=environ.get("PATH")) or command[0]
    # The command comes from the user.
    return subprocess.call([program, *command[1:]], env=dict(environ))  # noqa: S603


def die_like(status: int) -> NoReturn:
    """End as the child with the wait status *status* ended, by the same signal if it
    died by one.
    """
    if os.WIFSIGNALED(status):
        import resource
        import signal
        from contextlib import suppress

        number = os.WTERMSIG(status)
        with suppress(OSError, ValueError):
            # Avoid a second core dump. A limit of 1, not 0, also stops a core dump to a
            # program (core(5)).
            resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
        with suppress(OSError, ValueError):  # SIGKILL and the C library's own signals
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # the signal has no effect on PID 1
    os._exit(os.waitstatus_to_exitcode(status))


_NOT_HELD = (
    *("SIGKILL", "SIGSTOP"),  # cannot be blocked
    *("SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH", "SIGINFO"),  # do not end a process
    *("SIGTSTP", "SIGTTIN", "SIGTTOU"),
    *("SIGPIPE", "SIGXFSZ"),  # ignored by Python
    # Faults of this process.
    *("SIGILL", "SIGTRAP", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGSYS", "SIGEMT"),
    "SIGABRT",
)
_held: set[int] = set()
"""Signals that `hold` has blocked in this process."""


def hold(handed_over: str = "") -> None:
    """As process 1, block the signals that end other processes, so that none is lost.

    A signal has no effect on process 1 if that has no handler for it
    (pid_namespaces(7)). Blocked signals wait until `end_if_told` or the supervisor
    takes them. A container is stopped with the signal that its image names, such as
    SIGRTMIN+3 or SIGUSR1 (https://docs.docker.com/reference/dockerfile/#stopsignal,
    2026-11).

    Args:
        handed_over: Variable that `run.start_lean` has set, such as `3:1:1:2,15`. Its
            last part lists the signals that are still blocked after exec.
    """
    import _signal as signal  # type: ignore[import-not-found]

    parts = handed_over.split(":")
    if parts[2:3] == [str(os.getpid())]:
        _held.update(int(number) for number in parts[3].split(",") if number)
        return
    other = {getattr(signal, name, 0) for name in _NOT_HELD}
    wanted = {
        number
        for number in signal.valid_signals() - other
        if signal.getsignal(number) != signal.SIG_IGN
    }
    _held.update(wanted - set(signal.pthread_sigmask(signal.SIG_BLOCK, wanted)))


def held_text() -> str:
    """Return the numbers of the signals that `hold` has blocked, such as `2,15`."""
    return ",".join(str(int(number)) for number in sorted(_held))


def held() -> frozenset[int]:
    """Return the signals that `hold` has blocked; they are not blocked in the command."""
    return frozenset(_held)


def end_if_told() -> None:
    """If a blocked signal has arrived, end as any other process would have ended."""
    if _held:
        import signal

        for number in signal.sigpending() & _held:
            die_like(number)


def restore_signals() -> None:
    """Undo Python's signal settings, which would change how a child behaves in a pipeline.

    A child that ignores SIGPIPE does not end when its reader ends.
    """
    # Use the C module: `signal` makes enumerations of its constants, and its import
    # takes a fifth of the time to start Python.
    import _signal as signal

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no KeyboardInterrupt before exec
    if _held:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _held)


def start_error(error: OSError) -> ChildError:
    """Return the error for a process that could not be created at all."""
    return ChildError(
        f"cannot start a process for the command: {error.strerror}",
        limit_hint(error),
        Exit.RUN_FAILURE,
    )


def limit_hint(error: OSError) -> str:
    """Return the hint for an error of the system that comes from a limit on resources."""
    if error.errno in _TOO_MANY_FILES:
        return "allow more open files: ulimit -n 256"
    return "see what is limited: ulimit -a, and what the container allows"


def ignore(numbers: Iterable[int]) -> None:
    """Ignore these signals, because the process that started us ignored them."""
    import _signal as signal

    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def child_error(command: str, number: int, environ: Mapping[str, str]) -> ChildError:
    """Return the reason why *command* could not be executed.

    Args:
        command: Name or path of the command.
        number: errno of the failed exec.
        environ: Environment of the command, with its PATH.
    """
    import shlex
    import shutil

    if number in _TOO_MANY_FILES:  # a search for the command needs descriptors too
        return start_error(OSError(number, os.strerror(number)))
    name = shlex.quote(command) if command.isprintable() else repr(command)
    absent = number == errno.ENOENT or (number == errno.ENOTDIR and "/" not in command)
    if absent and not shutil.which(command, path=environ.get("PATH")):
        return ChildError(f"{name}: command not found", "check the name and PATH", Exit.NOT_FOUND)
    reason = "its interpreter was not found" if absent else os.strerror(number)
    hint = (
        f"see what it is: ls -ld {name}; a script needs a first line such as #!/bin/sh and chmod +x"
    )
    return ChildError(f"{name} cannot be executed: {reason}", hint, Exit.NOT_EXECUTABLE)
