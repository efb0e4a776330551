"""A server with workers that is told by signals, as gunicorn is: TTIN and TTOU change their number, USR2 upgrades it.

    python master.py LOG

A worker ends by whatever it is sent, as most programs do. The process that USR2 starts is a new server beside the
old one. LOG gets a line of JSON such as `{"master": 4711, "workers": [4712, 4713]}` at each change.
"""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

# It runs as a program, without site-packages.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.forking import fork

TOLD = (
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR2,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGCHLD,
)


def main(log: str) -> None:
    """Serve until told to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)
    workers = [start_worker(), start_worker()]
    while True:
        with Path(log).open("a") as file:
            file.write(json.dumps({"master": os.getpid(), "workers": workers}) + "\n")
        number = signal.sigwait(TOLD)
        if number == signal.SIGTTIN:
            workers.append(start_worker())
        elif number == signal.SIGTTOU:
            os.kill(workers[-1], signal.SIGTERM)
        elif number == signal.SIGUSR2:
            fork(lambda: os.execv(sys.executable, [sys.executable, "-S", *sys.argv]))
        elif number == signal.SIGCHLD:
            with suppress(ChildProcessError):
                while (ended := os.waitpid(-1, os.WNOHANG)[0]) > 0:
                    workers = [pid for pid in workers if pid != ended]
        elif number in (signal.SIGQUIT, signal.SIGTERM):
            for pid in workers:
                os.kill(pid, signal.SIGTERM)
            sys.exit(0)


def start_worker() -> int:
    """A new one."""
    return fork(_work)


def _work() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)
    time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1])
