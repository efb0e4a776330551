"""The program itself: version, platform, how it starts itself, and variables between its processes.

This module is on the warm path: it imports only os and sys.
"""

import os
import sys

__version__ = "0.1.0"

HANDED_OVER = "_VERTEX_ENV_START"
"""Environment variable in which `run` tells its leaner successor where the variables are.

The module docstring of `run.start` explains the hand-over."""

PARENT = "_VERTEX_ENV_PARENT"
"""Environment variable in which `run` names itself to its helper, which must end with it."""

FORCED = "_VERTEX_ENV_BACKEND"
"""Environment variable that tests set to `posix`: on Linux it hides the features that
macOS lacks. The command inherits it like any other variable."""


def is_linux() -> bool:
    """Tell whether the features of Linux are available.

    These are /proc, prctl(2), memory files, siginfo, and a clock that counts the time
    asleep.
    """
    return sys.platform == "linux" and os.environ.get(FORCED) != "posix"


def own_argv(*args: str) -> list[str]:
    """Return the command line that starts vertex-env with *args*.

    It does not depend on `PATH` or the current folder.
    """
    return [sys.executable, "-P", "-m", "vertex_env", *args]


def machine() -> str:
    """Return a text that identifies this machine: its name and, on Linux, its boot.

    Two machines may share a home folder and still have different accounts.
    """
    name = os.uname().nodename if os.name == "posix" else os.environ.get("COMPUTERNAME", "")
    return f"{name} {read_proc('/proc/sys/kernel/random/boot_id').strip()}"


def read_proc(path: str) -> str:
    """Return the content of a file in /proc; empty if it cannot be read."""
    if not is_linux():
        return ""
    try:
        with open(path, "rb") as file:
            return file.read(256).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
