"""Where `vertex-env` starts: the remembered answer if there is one, else the command line."""

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
    """Print the remembered answer and end, or become the command line, which takes several times as long to import."""
    args = sys.argv[1:]
    # A Ctrl-C while we import has the effect that it has on any program, instead of a traceback.
    import _signal as signal  # type: ignore[import-not-found]  # the module `signal` would take long to import

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
        # What these import lives as long as the process does, which is not long: there is nothing to collect.
        gc.disable()
        parent = os.environ.pop(program.PARENT, None)  # which nothing that we start must take for its own
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
        # To take apart what google-auth has imported would take as long as starting Python twice.
        os._exit(status)
    sys.exit(status)


def _start(args: "Sequence[str]") -> None:
    """Run the command with the variables that were handed over or remembered, and end; return if there are none."""
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
            # Minting again would lead here again.
            sys.stderr.write(f"vertex-env: error: {_LOST}\nvertex-env: hint: --on-expiry ignore needs no such file\n")
            sys.exit(Exit.RUN_FAILURE)
        return

    def say(line: str) -> None:
        import select

        try:
            # A reader that has stopped to read must not keep the command from its signals and its next start.
            listening = select.poll()
            listening.register(2, select.POLLOUT)
            if listening.poll(0):
                os.write(2, f"vertex-env: {line}\n".encode("utf-8", "surrogateescape")[: select.PIPE_BUF])
        except OSError:
            pass  # nobody listens

    try:
        run.check_command(command)
        run.start(command, env, overlay, rules=rules, say=say)
    except VertexEnvError as e:
        from vertex_env.cli import tell_error

        tell_error(e)
        sys.exit(run.failure(e))


def _handed_over(fd: str) -> str:
    """What `run.start_lean` has left for us in a file without a name; empty if that cannot be read."""
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
        # Nothing is open, nothing is registered: what the interpreter would do now is of no use.
        os._exit(0)


def _print_hook(shell: str) -> None:
    """Print the shell's integration and end; return if there is none for it."""
    from vertex_env.formats.shellfiles import HOOKS, read_shell_file

    if shell in HOOKS and _write(read_shell_file(HOOKS[shell]).encode()):
        os._exit(0)


def _adds_a_hint(command: str) -> bool:
    """Whether `export` would, because a person looks at its output."""
    return command == "export" and os.isatty(1)


def _write(data: bytes) -> bool:
    """Write *data* to stdout; False if nothing could be written, which the command line then tells."""
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
