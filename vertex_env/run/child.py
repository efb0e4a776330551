"""How the command is started and how we end as it does: what a bare start would give it, it gets.

In a module of its own because `run` in place needs nothing else.
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
    """*environ* with the variables of *env* set and unset, for the command's start no. *generation*."""
    merged = {**environ, **env, "VERTEX_ENV_GENERATION": str(generation)}
    return {name: value for name, value in merged.items() if value is not None}


def as_started(environ: Mapping[str, str]) -> dict[str, str]:
    """*environ* with the LC_CTYPE that we were started with: where that means C, Python sets another for itself.

    https://peps.python.org/pep-0538/ (2026-11-22).
    """
    result = dict(environ)
    if not program.is_linux():
        return result  # without /proc there is no telling
    try:
        entries = (entry.partition(b"=") for entry in _read_bytes("/proc/self/environ").split(b"\0"))
        given = {name: value for name, _, value in entries}.get(b"LC_CTYPE")
        if given is None and result.get("LC_CTYPE") == os.environ.get("LC_CTYPE"):
            result.pop("LC_CTYPE", None)
        elif given is not None:
            result["LC_CTYPE"] = os.fsdecode(given)
    except OSError:
        pass  # it is not mounted
    return result


def _read_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def exec_in_place(command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Become *command*: same process, same terminal, its own exit status; on Windows a child with its status.

    Raises:
        ChildError: It cannot be executed.
    """
    try:
        if sys.platform == "win32":
            # os.exec* returns to the prompt at once there, with status 0
            # (https://github.com/python/cpython/issues/101191), and os.spawnvpe does not exist.
            sys.exit(_run_on_windows(command, environ))
        restore_signals()
        os.execvpe(command[0], list(command), as_started(environ))  # noqa: S606 -- to run the user's command is the job
    except OSError as e:
        raise child_error(command[0], e.errno or errno.EINVAL, environ) from e


def _run_on_windows(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Its exit status. The console sends a Ctrl-C to the command as well, which decides what comes of it."""
    import shutil
    import signal
    import subprocess

    signal.signal(signal.SIGINT, lambda *_: None)
    program = shutil.which(command[0], path=environ.get("PATH")) or command[0]  # a `.cmd` is not found without it
    return subprocess.call([program, *command[1:]], env=dict(environ))  # noqa: S603 -- to run the user's command is the job


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


_NOT_HELD = (
    *("SIGKILL", "SIGSTOP"),  # which nothing holds
    *("SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH", "SIGINFO"),  # which end no process
    *("SIGTSTP", "SIGTTIN", "SIGTTOU"),
    *("SIGPIPE", "SIGXFSZ"),  # which Python ignores
    *("SIGILL", "SIGTRAP", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGSYS", "SIGEMT"),  # faults of our own
    "SIGABRT",
)
_held: set[int] = set()
"""What this process has blocked for `hold`."""


def hold(handed_over: str = "") -> None:
    """As process 1, to which signals do nothing that it does not catch (pid_namespaces(7)): keep those that end others.

    They wait until `end_if_told`, or until the supervisor takes them. A container is stopped with
    what its image names, such as SIGRTMIN+3 or SIGUSR1
    (https://docs.docker.com/reference/dockerfile/#stopsignal, 2026-11).

    Args:
        handed_over: What `run.start_lean` has left, such as `3:1:1:2,15`; what is held stays so over exec.
    """
    import _signal as signal  # type: ignore[import-not-found]

    parts = handed_over.split(":")
    if parts[2:3] == [str(os.getpid())]:
        _held.update(int(number) for number in parts[3].split(",") if number)
        return
    other = {getattr(signal, name, 0) for name in _NOT_HELD}
    wanted = {number for number in signal.valid_signals() - other if signal.getsignal(number) != signal.SIG_IGN}
    _held.update(wanted - set(signal.pthread_sigmask(signal.SIG_BLOCK, wanted)))


def held_text() -> str:
    """What `hold` holds, such as `2,15`."""
    return ",".join(str(int(number)) for number in sorted(_held))


def held() -> frozenset[int]:
    """What `hold` holds; no process of the command's starts with it blocked."""
    return frozenset(_held)


def end_if_told() -> None:
    """End as any other process would have, if a signal has come that was held."""
    if _held:
        import signal

        for number in signal.sigpending() & _held:
            die_like(number)


def restore_signals() -> None:
    """Undo what Python does at start-up: a child that gets SIGPIPE ignored behaves differently in a pipeline."""
    # Beneath the module `signal`, which makes enumerations of it all: to import these takes a fifth of starting Python.
    import _signal as signal

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # not an exception on the way to exec
    if _held:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _held)


def start_error(error: OSError) -> ChildError:
    """Why no process could be started at all."""
    return ChildError(f"cannot start a process for the command: {error.strerror}", limit_hint(error), Exit.RUN_FAILURE)


def limit_hint(error: OSError) -> str:
    """What to do where the system gives us no more of something."""
    if error.errno in _TOO_MANY_FILES:
        return "allow more open files: ulimit -n 256"
    return "see what is limited: ulimit -a, and what the container allows"


def ignore(numbers: Iterable[int]) -> None:
    """Ignore signals, as the process that we were started by had us do."""
    import _signal as signal

    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def child_error(command: str, number: int, environ: Mapping[str, str]) -> ChildError:
    """Why *command* could not be executed, from the errno that was got."""
    import shlex
    import shutil

    if number in _TOO_MANY_FILES:  # it takes some to look for it
        return start_error(OSError(number, os.strerror(number)))
    name = shlex.quote(command) if command.isprintable() else repr(command)
    absent = number == errno.ENOENT or (number == errno.ENOTDIR and "/" not in command)
    if absent and not shutil.which(command, path=environ.get("PATH")):
        return ChildError(f"{name}: command not found", "check the name and PATH", Exit.NOT_FOUND)
    reason = "its interpreter was not found" if absent else os.strerror(number)
    hint = f"see what it is: ls -ld {name}; a script needs a first line such as #!/bin/sh and chmod +x"
    return ChildError(f"{name} cannot be executed: {reason}", hint, Exit.NOT_EXECUTABLE)
