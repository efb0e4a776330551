"""The program itself: its version, what it runs on, how it starts itself, and what one process of it tells the next.

On the warm path: imports os and sys alone.
"""

import os
import sys

__version__ = "0.1.0"

HANDED_OVER = "_VERTEX_ENV_START"
"""Variable by which `run`, grown large while it minted, tells its leaner successor where the variables are."""

PARENT = "_VERTEX_ENV_PARENT"
"""Variable by which `run` tells a process that mints for it whom it must not outlive."""

FORCED = "_VERTEX_ENV_BACKEND"
"""Variable that tests set to `posix`, to have on Linux nothing that macOS lacks. The command gets it like any other."""


def is_linux() -> bool:
    """Whether there is what only Linux has: /proc, prctl(2), memory files, siginfo, a clock that sees sleep."""
    return sys.platform == "linux" and os.environ.get(FORCED) != "posix"


def own_argv(*args: str) -> list[str]:
    """How we start ourselves with *args*, whatever `PATH` and the folder that we are in say."""
    return [sys.executable, "-P", "-m", "vertex_env", *args]


def machine() -> str:
    """What tells this machine from another one with the same home folder: name and, on Linux, boot.

    Such a machine may have another account.
    """
    name = os.uname().nodename if os.name == "posix" else os.environ.get("COMPUTERNAME", "")
    return f"{name} {read_proc('/proc/sys/kernel/random/boot_id').strip()}"


def read_proc(path: str) -> str:
    """What a file of /proc says; empty where there is none."""
    if not is_linux():
        return ""
    try:
        with open(path, "rb") as file:
            return file.read(256).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
