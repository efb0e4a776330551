"""Start the command of `run`: supervised if possible and wanted, else in place of this process.

New variables come from a short-lived process, `vertex-env export --format json`. On
Windows the command runs once, without renewal, and `run` says so.

The hand-over of `run` to its leaner self: on a cache miss, `run` imports Click and many
modules to get the first variables, and google-auth too if it mints itself. The
supervisor lives as long as the command, so these modules would use memory all that
time. Therefore `run` executes itself again before it supervises (on POSIX, and not with
`--on-expiry ignore`). `pack` turns the variables and rules into a text. `start_lean`
writes this text to a memory file: a file without a name, whose descriptor stays open
over exec. The environment variable `_VERTEX_ENV_START` (`program.HANDED_OVER`), such as
`3:2:4711:`, holds the descriptor, the number of words in the command, the process ID,
and the signals that process 1 has blocked. Then `os.execve` starts the same command
line in the same process. `entry._start` removes the variable, checks that the process
ID is its own, reads the file, and starts the supervisor without the large imports. A
process that only inherits the variable has another process ID and ignores it. If no
memory file can be made or exec fails, `start_lean` returns and the large process
supervises. If the file cannot be read after exec, `run` ends with an error, because
another mint would lead to the same exec. The tests show the effect: a supervisor uses
at most 12 MiB (VmRSS), or 3 MiB more than bare Python, whether its token is minted,
stored or remembered. They also show that the command sees neither the variable nor the
descriptor.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from vertex_env import freshness, program
from vertex_env.errors import ChildError, Exit, SettingsError, VertexEnvError
from vertex_env.run.child import (
    apply,
    as_started,
    child_error,
    die_like,
    end_if_told,
    exec_in_place,
    held_text,
    start_error,
)
from vertex_env.run.lifecycle import Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

    from vertex_env.run.supervisor import Say
    from vertex_env.vertex.variables import Environment


_POLICIES = ("auto", "restart", "ignore", "stop")
_ON_FAILURE = ("keep", "stop")


def start(
    command: Sequence[str],
    env: Environment,
    overlay: Mapping[str, str],
    *,
    rules: Rules,
    say: Say,
) -> NoReturn:
    """Run *command* with the variables of *env* according to *rules*, and end as it ends.

    Args:
        command: Command to run, with its arguments.
        env: The first variables.
        overlay: `VERTEX_ENV_*` variables that stand for the settings of the command
            line; renewals use them.
        rules: Settings of the user.
        say: Function that prints one line for an event.

    Raises:
        ChildError: The command could not be started.
    """
    policy = rules.policy
    if policy == "auto" and stdin_is_data():
        say(
            "stdin is a pipe or a file, which a restart would cut: running without renewal (--on-expiry restart renews)"
        )
        policy = "ignore"
    if policy != "ignore" and not can_supervise():
        say(
            "the command cannot be started anew on Windows: it runs once, with a token that is not renewed "
            "(--on-expiry ignore does the same)"
        )
        policy = "ignore"
    if policy == "ignore":
        end_if_told()
        exec_in_place(command, apply(os.environ, env))
    from vertex_env.run.helper import helper_argv
    from vertex_env.run.supervisor import Supervisor

    helper = [*helper_argv(), "--refresh"], {**os.environ, **overlay}
    try:
        supervisor = Supervisor(command, os.environ, env, helper=helper, rules=rules, say=say)
    except OSError as e:
        raise start_error(e) from e
    die_like(supervisor.run())


def start_lean(command: Sequence[str], text: str) -> None:
    """Re-execute this process without its large imports, and `start` the command there.

    Return if the re-exec is not possible. The module docstring explains the hand-over.

    Args:
        command: Command to run, with its arguments.
        text: Text made by `pack`.
    """
    if not sys.executable:
        return
    from vertex_env.run.helper import memory

    try:
        fd = memory()
    except OSError:
        return  # too many files are open
    with open(fd, "w", encoding="utf-8", errors="surrogateescape", closefd=False) as file:
        file.write(text)
    os.set_inheritable(fd, True)  # noqa: FBT003 -- Python's own
    os.environ[program.HANDED_OVER] = f"{fd}:{len(command)}:{os.getpid()}:{held_text()}"
    try:
        # Pass on the original LC_CTYPE. Otherwise an LC_CTYPE that Python set for
        # itself would look like one from the user.
        # The new program is vertex-env itself.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], as_started(os.environ))  # noqa: S606
    except OSError:
        os.close(fd)
        del os.environ[program.HANDED_OVER]


def pack(env: Environment, overlay: Mapping[str, str], rules: Rules) -> str:
    """Return the arguments of `start`, without the command, as a text; `unpack` reads it.

    The text is for the warm path. No value contains a separator: `variables` refuses
    control characters, and settings have patterns.
    """
    variables = "\x1e".join(
        name if value is None else f"{name}={value}" for name, value in env.items()
    )
    settings = "\x1e".join(f"{name}={value}" for name, value in overlay.items())
    return "\x1d".join(
        (
            rules.policy,
            rules.on_failure,
            repr(rules.grace_s),
            repr(rules.mint_s),
            settings,
            variables,
        )
    )


def unpack(text: str) -> tuple[Environment, Mapping[str, str], Rules]:
    """Return the arguments that `pack` made into a text.

    Raises:
        ValueError: *text* does not come from `pack`.
    """
    policy, on_failure, grace, mint, settings, variables = text.split("\x1d")
    env: dict[str, str | None] = {}
    for item in variables.split("\x1e"):
        name, is_set, value = item.partition("=")
        env[name] = value if is_set else None
    overlay = dict(item.split("=", 1) for item in settings.split("\x1e") if item)
    durations = float(grace), float(mint)
    known = (
        policy in _POLICIES
        and on_failure in _ON_FAILURE
        and all(0 <= s <= freshness.LATEST for s in durations)
    )
    if not known or "\0" in text or "" in env or "" in overlay:
        raise ValueError("it is not what pack gives")
    return env, overlay, Rules(policy, on_failure, *durations)  # type: ignore[arg-type]


def stdin_is_data() -> bool:
    """Tell whether stdin is a pipe, a file or a socket.

    A second child would miss the data that the first child reads. A pipe that is empty
    and already closed, such as cron's, does not count (POLLHUP without POLLIN,
    poll(2)).
    """
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return False
    if stat.S_ISFIFO(mode) and sys.platform != "win32":
        import select

        poll = select.poll()
        poll.register(0, select.POLLIN)
        return dict(poll.poll(0)).get(0) != select.POLLHUP
    # Node's pipes are sockets.
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def can_supervise() -> bool:
    """Tell whether this platform has POSIX, which the supervisor needs."""
    return sys.platform != "win32"


def check_command(command: Sequence[str]) -> None:
    """Refuse a command that can never be executed, before a token is minted for it.

    Raises:
        SettingsError: The command is empty or contains a NUL.
    """
    if not command or not command[0] or any("\0" in part for part in command):
        raise SettingsError(
            "the command to run is empty or has a NUL",
            "for example: vertex-env run -- python app.py",
        )


def failure(error: VertexEnvError) -> int:
    """Return the exit status of `run` for a failure of vertex-env itself."""
    return error.status if isinstance(error, ChildError) else Exit.RUN_FAILURE


def run_once(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run *command* as a child in our process group and terminal; return its wait status.

    Signals from the terminal reach the child directly. Signals sent to this process
    alone are forwarded to the child.

    Raises:
        ChildError: The command could not be started.
    """
    import signal
    from contextlib import suppress

    from vertex_env.run.backend import FAULTS
    from vertex_env.run.relay import FORWARDED, KEYS, STOPPING
    from vertex_env.run.terminal import Terminal

    terminal, child, early = Terminal(), 0, list[int]()

    def forward(number: int, _frame: object) -> None:
        if not child:
            early.append(number)
        elif number not in KEYS or not terminal.has(os.getpgrp()):
            with suppress(ProcessLookupError):
                os.kill(child, number)

    # Install handlers instead of SIG_IGN, because the child would inherit SIG_IGN. A
    # signal that is already ignored stays ignored in the child.
    passed = FORWARDED - FAULTS - STOPPING - {signal.SIGCONT}
    caught = [number for number in passed if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, forward) for number in caught}
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        child = os.posix_spawnp(
            command[0],
            list(command),
            as_started(environ),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        )
        for number in early:
            os.kill(child, number)
        return os.waitpid(child, 0)[1]
    except OSError as e:
        raise child_error(command[0], e.errno or errno.EINVAL, environ) from e
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
