"""The only place where tests fork: a child cannot skip, raise or return into the parent's program.

A child that does goes on as a second copy of the parent: under pytest as a second run of the suite.
Nothing but the standard library is imported, so small interpreters can use this too.
"""

import os
from collections.abc import Callable
from pathlib import Path

FAILED = 70
"""The status of a child that has raised."""

IN_A_SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.support.forking import fork
"""
"""How a script that is text, or that runs outside of this folder, starts to have `fork`."""


def fork(child: Callable[[], object]) -> int:
    """Run *child* in a forked process, which ends with it; the process ID.

    Its status is 0, or the argument of `os._exit` or of `SystemExit`, or `FAILED` with a traceback
    on stderr. Buffers are not written out: a child uses `os.write`, or flushes.
    """
    pid = os.fork()
    if pid == 0:
        _end(child)
    return pid


def fork_on_terminal(child: Callable[[], object]) -> tuple[int, int]:
    """As `fork`, on a pseudo-terminal; the process ID and the other end of the terminal."""
    import pty  # noqa: PLC0415 -- small interpreters need no terminal

    pid, terminal = pty.fork()
    if pid == 0:
        _end(child)
    return pid, terminal


def _end(child: Callable[[], object]) -> None:
    """Run *child*, and end this process whatever happens."""
    status = FAILED
    try:
        child()
        status = 0
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:  # noqa: BLE001 -- pytest.skip, KeyboardInterrupt
        import traceback  # noqa: PLC0415 -- as above

        os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(status)
