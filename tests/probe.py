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
from contextlib import suppress
from typing import Any

WORDS = {
    "stubborn": "notes the signals that would end it, and goes on",
    "slow": "takes a second to end",
    "raw": "puts the terminal into raw mode, and leaves it so",
    "reads": "notes the lines of stdin; one such as `exit 7` ends it",
    "child": "starts a process in its own group",
    "survivor": "the same, and that ignores SIGTERM",
}

NOTED = ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "ALRM", "CONT", "WINCH", "URG", "IO")
ENDING = ("INT", "TERM", "HUP", "QUIT")

CHILD = """
import signal, sys, time
if sys.argv[1] == "survivor": signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def main(log: str, words: list[str]) -> int:
    """Do as *words* say; the exit status."""
    assert WORDS.keys() >= set(words)
    notes = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(what: str, **details: Any) -> None:
        line = json.dumps({"what": what, "pid": os.getpid(), "time": time.time(), **details})
        os.write(notes, line.encode() + b"\n")

    signals, about = _signals(), _about()
    if "raw" in words:
        tty.setraw(0)
    note("start", **about, child=_start_child(words))
    watched = [signals, 0] if "reads" in words else [signals]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if 0 in ready:
            line = os.read(0, 4096).decode().strip()
            note("line", text=line)
            if not line:
                watched.remove(0)
            if line.startswith("exit"):
                return int(line.split()[1])
        if signals in ready:
            for number in os.read(signals, 64):
                name = signal.Signals(number).name.removeprefix("SIG")
                note("signal", name=name)
                if name in ENDING and "stubborn" not in words:
                    time.sleep("slow" in words)
                    note("end")
                    return 128 + number


def _signals() -> int:
    """A descriptor that gives a byte a signal: Python's own handlers would take two that come together for one."""
    signals, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    for name in NOTED:
        signal.signal(signal.Signals[f"SIG{name}"], lambda *_: None)
    return signals


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
        about |= {"foreground": os.tcgetpgrp(fd), "cooked": bool(termios.tcgetattr(fd)[3] & termios.ICANON)}
        os.close(fd)
    return about


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
