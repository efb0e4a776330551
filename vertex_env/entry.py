"""Entry point of `vertex-env`: print the remembered answer on a cache hit, else run the command.

The command line takes several times as long to import as the remembered answer.
"""

import gc
import os
import sys
from time import time

from vertex_env import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


_LOST = "the variables that were handed over to this process cannot be read"


def main() -> "NoReturn":
    """Print the remembered answer and end, or import and run the command line."""
    args = sys.argv[1:]
    # During the imports, let Ctrl-C end the process as it ends other programs, without
    # a traceback.
    # The module `signal` would take long to import.
    import _signal as signal  # type: ignore[import-not-found]

    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if args and args[0] == "run" and os.name == "posix":
        if os.getpid() == 1:
            from vertex_env.run.child import hold

            hold(os.environ.get(program.HANDED_OVER, ""))
        _start(args)
    if len(args) == 2 and args[0] == "hook":  # noqa: PLR2004 -- which shells start with
        _print_hook(args[1])
    if args and args[0] in ("export", "token"):
        # Everything that these commands import lives until the process ends, which is
        # soon. So the garbage collector has nothing to collect.
        gc.disable()
        # No process that we start may see this variable.
        parent = os.environ.pop(program.PARENT, None)
        if parent is not None:
            from vertex_env.run.helper import end_with

            end_with(parent)
        if os.name == "posix" and not _adds_a_hint(args[0]):
            _replay(args)
    from vertex_env.cli.main import execute

    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, handler)
    status = execute(args)
    if args and args[0] in ("export", "token"):
        # Skip the interpreter's clean-up: after an import of google-auth it takes as
        # long as starting Python twice.
        os._exit(status)
    sys.exit(status)


def _start(args: "Sequence[str]") -> None:
    """Run the command with the variables that were handed over or remembered, and end.

    Return if there are none. The module docstring of `run.start` explains the
    hand-over.
    """
    handed = os.environ.pop(program.HANDED_OVER, "").split(":")
    is_handed = handed[2:3] == [str(os.getpid())]
    if is_handed:
        text, command = _handed_over(handed[0]), args[-int(handed[1]) :]
    elif "--" in args[:-1]:
        from vertex_env.cache.answers import recall

        split = args.index("--") + 1
        found = recall(args[:split], os.environ, time())
        if found is None:
            return
        text, command = found[0], args[split:]
    else:
        return
    from vertex_env.errors import Exit, VertexEnvError
    from vertex_env.run import start as run

    try:
        env, overlay, rules = run.unpack(text)
    except ValueError:
        if is_handed:
            # Another mint would lead to the same failed hand-over.
            sys.stderr.write(
                f"vertex-env: error: {_LOST}\nvertex-env: hint: --on-expiry ignore needs no such file\n"
            )
            sys.exit(Exit.RUN_FAILURE)
        return

    def say(line: str) -> None:
        import select

        try:
            # A reader that no longer reads must not block this process: the command
            # needs its signals and its restarts.
            listening = select.poll()
            listening.register(2, select.POLLOUT)
            if listening.poll(0):
                os.write(
                    2, f"vertex-env: {line}\n".encode("utf-8", "surrogateescape")[: select.PIPE_BUF]
                )
        except OSError:
            pass  # stderr is closed

    try:
        run.check_command(command)
        run.start(command, env, overlay, rules=rules, say=say)
    except VertexEnvError as e:
        from vertex_env.cli import tell_error

        tell_error(e)
        sys.exit(run.failure(e))


def _handed_over(fd: str) -> str:
    """Return the text of `run.start_lean` from its memory file; empty if the file
    cannot be read.
    """
    try:
        status = os.fstat(int(fd))
        if status.st_nlink or status.st_uid != os.geteuid():
            return ""
        with open(int(fd), encoding="utf-8", errors="surrogateescape") as file:
            file.seek(0)
            return file.read()
    except (OSError, ValueError):
        return ""


def _replay(args: "Sequence[str]") -> None:
    """Print the remembered answer and end; return if there is none."""
    from vertex_env.cache.answers import recall

    found = recall(args, os.environ, time())
    if found is None:
        return
    text, renew = found
    if _write(text.encode("utf-8", "surrogateescape")):
        if renew:
            from vertex_env.cache.background import start_refresh

            start_refresh(args, os.environ)
        # No file is open and no exit handler is registered, so skip the interpreter's
        # clean-up.
        os._exit(0)


def _print_hook(shell: str) -> None:
    """Print the integration of this shell and end; return if there is none."""
    from vertex_env.formats.shellfiles import HOOKS, read_shell_file

    if shell in HOOKS and _write(read_shell_file(HOOKS[shell]).encode()):
        os._exit(0)


def _adds_a_hint(command: str) -> bool:
    """Tell whether `export` adds a hint, because its output goes to a terminal."""
    return command == "export" and os.isatty(1)


def _write(data: bytes) -> bool:
    """Write *data* to stdout; return False if nothing was written, so that the command
    line reports it.
    """
    view = memoryview(data)
    done = 0
    while done < len(data):
        try:
            done += os.write(1, view[done:])
        except OSError:
            if done == 0:
                return False
            from vertex_env.errors import Exit

            os._exit(Exit.FAILURE)
    return True
