"""The least that a shell with job control does, as a program that runs one job on the terminal that is its stdin.

    python minishell.py HOW REPORT COMMAND [ARGUMENT...]

HOW is `foreground`, `background` (as with `&`), or `leader`: then there is no shell and COMMAND leads the session, as
under `ssh -t` or in a container. Each change of the job's state goes to the descriptor REPORT as a line of JSON.
SIGUSR1 is `fg`, SIGUSR2 is `bg`.
"""

import fcntl
import json
import os
import signal
import sys
import termios
from pathlib import Path

# It runs as a program, without site-packages.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.forking import fork

FROM_TERMINAL = (signal.SIGTTOU, signal.SIGTTIN, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)
TOLD = {signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2}


def main(how: str, report: int, argv: list[str]) -> None:
    """Run *argv* until it has ended."""
    os.set_inheritable(report, False)  # noqa: FBT003 -- Python's own
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if how == "leader":
        os.execvp(argv[0], argv)
    signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)
    for number in FROM_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    job = fork(lambda: start(argv, foreground=how == "foreground"))
    ended = False
    while not ended:
        told = signal.sigwait(TOLD)
        if told == signal.SIGCHLD:
            ended = look(job, report)
            continue
        if told == signal.SIGUSR1:
            os.tcsetpgrp(0, job)
        os.killpg(job, signal.SIGCONT)


def start(argv: list[str], *, foreground: bool) -> None:
    """Become the job."""
    os.setpgid(0, 0)
    if foreground:
        os.tcsetpgrp(0, os.getpid())
    for number in FROM_TERMINAL:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)
    os.execvp(argv[0], argv)


def look(job: int, report: int) -> bool:
    """Report what has become of the job, if anything; whether it has ended."""
    pid, status = os.waitpid(job, os.WUNTRACED | os.WNOHANG)
    if pid == 0:
        return False
    stopped = os.WIFSTOPPED(status)
    seen = {
        "job": job,
        "foreground": os.tcgetpgrp(0),
        "stopped": os.WSTOPSIG(status) if stopped else None,
        "status": None if stopped else os.waitstatus_to_exitcode(status),
    }
    if seen["foreground"] != os.getpgrp():
        os.tcsetpgrp(0, os.getpgrp())
    os.write(report, (json.dumps(seen) + "\n").encode())
    return not stopped


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
