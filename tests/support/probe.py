"""The command that tests run, bare and under the program: it notes down what happens to it.

    python probe.py LOG [WORD...]

Each line of LOG is a JSON object, such as `{"what": "signal", "name": "TERM", "pid": 4711, "time": 1763812800.5}`. The
words, of which there is a list below, say how it differs from a program that waits for a signal and ends by it.
"""

import json
import os
import select
import signal
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Never

# It runs as a program, without site-packages.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.forking import fork

WORDS = {
    "stubborn": "notes the signals that would end it, and goes on",
    "slow": "takes a second to end",
    "raw": "puts the terminal into raw mode, and leaves it so",
    "reads": "notes the lines of stdin; one such as `exit 7` ends it",
    "child": "starts a process in its own group",
    "survivor": "the same, and that ignores SIGTERM",
    "worker": "forks a process in its own group that notes signals as well, and goes on",
    "moves": "joins the process group of another process",
    "all": "notes the signals that stop a process, and some that do nothing, too",
}

SOMETIMES = {
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
    signal.SIGPIPE,
    signal.SIGXFSZ,
}
NOTED = (
    {int(number) for number in signal.valid_signals()}
    - {signal.SIGKILL, signal.SIGSTOP}
    - SOMETIMES
)
ENDING = ("INT", "TERM", "HUP", "QUIT")

CHILD = """
import signal, sys, time
if sys.argv[1] == "survivor": signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def main(log: str, words: list[str]) -> Never:
    """Do as *words* say."""
    assert WORDS.keys() >= set(words)
    notes = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(what: str, **details: Any) -> None:
        line = json.dumps({"what": what, "pid": os.getpid(), "time": time.time(), **details})
        os.write(notes, line.encode() + b"\n")

    signals, about = _signals(NOTED | SOMETIMES if "all" in words else NOTED), _about()
    if "raw" in words:
        tty.setraw(0)
    child = _start_child(words)
    if "moves" in words:
        _move()
    if "worker" in words:
        fork(lambda: _work(note))
    note("start", **about, child=child)
    _take(note, signals, words)


def _work(note: Callable[..., None]) -> Never:
    signals = _signals(NOTED)
    note("worker")
    _take(note, signals, ["stubborn"])


def _take(note: Callable[..., None], signals: int, words: list[str]) -> Never:
    """Note what comes, and end by it."""
    watched = [signals, 0] if "reads" in words else [signals]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if 0 in ready:
            line = os.read(0, 4096).decode().strip()
            note("line", text=line)
            if not line:
                watched.remove(0)
            if line.startswith("exit"):
                sys.exit(int(line.split()[1]))
        if signals in ready:
            for number in os.read(signals, 64):
                name = name_of(number)
                note("signal", name=name)
                if name in ENDING and "stubborn" not in words:
                    time.sleep("slow" in words)
                    note("end")
                    sys.exit(128 + number)


def name_of(number: int) -> str:
    """Such as `TERM`; of most real-time signals, the number."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


def _signals(noted: set[int]) -> int:
    """A descriptor that gives a byte a signal: Python's own handlers would take two that come together for one."""
    signals, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    for number in noted:
        signal.signal(number, lambda *_: None)
    return signals


def _move() -> None:
    """Join another group: that of a process which is a child, so that this one does not lead a group any more."""

    def lead() -> None:
        os.setpgid(0, 0)
        os.execv(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(60)"])

    other = fork(lead)
    with suppress(PermissionError):
        os.setpgid(other, other)
    os.setpgid(0, other)


def _start_child(words: list[str]) -> int | None:
    for word in words:
        if word in ("child", "survivor"):
            argv = [sys.executable, "-S", "-c", CHILD, word]
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            assert child.stdout is not None
            child.stdout.readline()
            return child.pid
    return None


def _about() -> dict[str, Any]:
    """Who and where the process is."""
    about = {
        "parent": os.getppid(),
        "group": os.getpgrp(),
        "ttys": [os.isatty(fd) for fd in range(3)],
        "generation": os.environ.get("VERTEX_ENV_GENERATION"),
        "token": os.environ.get("OPENAI_API_KEY"),
        "expires_at": os.environ.get("VERTEX_ENV_EXPIRES_AT"),
        "foreground": None,
        "cooked": None,
    }
    with suppress(OSError):
        fd = os.open("/dev/tty", os.O_RDWR)
        about |= {
            "foreground": os.tcgetpgrp(fd),
            "cooked": bool(termios.tcgetattr(fd)[3] & termios.ICANON),
        }
        os.close(fd)
    return about


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
