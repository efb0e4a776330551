"""`run` and signals: what is sent to it, and what a terminal tells a group, reaches the command as it would bare."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from tests.support.forking import IN_A_SCRIPT
from tests.support.probe import name_of
from tests.support.processes import (
    RUN,
    Log,
    Process,
    Scenarios,
    Terminal,
    group,
    is_running,
    is_stopped,
    sandboxed,
    side_by_side,
    until,
)
from tests.support.tools import need

pytestmark = pytest.mark.usefixtures(
    "results"
)  # scenarios start first, and run beside the other tests

IN_PLACE = (*RUN, "--on-expiry", "ignore", "--")
FAULTS = {
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGSEGV,
    signal.SIGSYS,
}
KEPT = {signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGXFSZ}
STOPPING = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
CATCHABLE = {int(number) for number in signal.valid_signals()} - {signal.SIGKILL, signal.SIGSTOP}


# --- which ones reach the command ---


def send_each(process: Process, log: Log, numbers: Sequence[int]) -> list[str]:
    """Send signals, each when the one before has come; what came."""
    for number in numbers:
        process.send(number)
        until(lambda: name_of(number) in log.signals())  # noqa: B023 -- used at once
    return log.signals()


def in_order(numbers: Iterable[int]) -> tuple[list[int], list[str]]:
    ordered = sorted({*numbers} - {signal.SIGCONT})
    return ordered, [name_of(number) for number in ordered]


def test_what_is_sent_reaches_the_command_once(
    hour: dict[str, str], wrapper: tuple[str, ...], log: Log
) -> None:
    """All that can be caught, from the requests to a server (TTIN, WINCH) to a container's RTMIN+3."""
    numbers, names = in_order(CATCHABLE - FAULTS - KEPT)
    with Process([*wrapper, *log.probe("stubborn", "all")], hour, log.path.parent) as process:
        log.start()
        assert send_each(process, log, numbers) == names


def test_a_fault_that_is_sent_is_none(
    hour: dict[str, str], wrapper: tuple[str, ...], log: Log
) -> None:
    """`kill -SEGV`, of which a watchdog may ask for a core, is meant for the command like any other signal."""
    numbers, names = in_order(FAULTS)
    with Process([*wrapper, *log.probe("stubborn", "all")], hour, log.path.parent) as process:
        log.start()
        assert send_each(process, log, numbers) == names


def test_what_the_kernel_tells_us_is_ours(
    hour: dict[str, str], wrapper: tuple[str, ...], log: Log
) -> None:
    """The end of a child, a reader that has left, urgent data, a file that is too large: not the command's affair."""
    with Process([*wrapper, *log.probe("stubborn", "all")], hour, log.path.parent) as process:
        log.start()
        for number in KEPT:
            process.send(number)
        process.send(signal.SIGUSR1)
        until(lambda: "USR1" in log.signals())
        expected = {
            name_of(number) for number in KEPT
        }  # bare, they come: the probe is able to note them
        assert expected & {*log.signals()} == (set() if wrapper else expected)


def test_real_time_signals_queue(hour: dict[str, str], wrapper: tuple[str, ...], log: Log) -> None:
    """As many arrive as were sent."""
    with Process([*wrapper, *log.probe("stubborn")], hour, log.path.parent) as process:
        log.start()
        for _ in range(20):
            process.send(40)
        until(lambda: len(log.signals()) == 20)
        process.send(signal.SIGUSR1)
        until(lambda: "USR1" in log.signals())
        assert log.signals() == ["40"] * 20 + ["USR1"]


DEADLY = (
    signal.SIGHUP,
    signal.SIGABRT,
    signal.SIGUSR1,
    signal.SIGALRM,
    signal.SIGXCPU,
    signal.SIGPROF,
    40,
)


@pytest.mark.parametrize("number", DEADLY, ids=name_of)
def test_what_ends_the_command_ends_us(
    hour: dict[str, str], wrapper: tuple[str, ...], tmp_path: Path, number: int
) -> None:
    """By the same signal, so that a parent sees no difference."""
    with Process(
        [*wrapper, "sh", "-c", "ulimit -c 0; echo up; exec sleep 60"], hour, tmp_path
    ) as process:
        until(lambda: process.stdout == "up\n")
        process.send(number)
        assert process.status() == -number


def test_a_signal_that_python_cannot_name(
    hour: dict[str, str], wrapper: tuple[str, ...], tmp_path: Path
) -> None:
    """The C library keeps 32 to itself, and a command can die of it."""
    with Process([*wrapper, "sh", "-c", "kill -32 $$"], hour, tmp_path) as process:
        assert process.status() == -32
        assert process.stderr == ""


OWN_FAULT = """
import os, resource
from vertex_env.run.lifecycle import Rules
from vertex_env.run.supervisor import Supervisor

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
env = {{"VERTEX_ENV_EXPIRES_AT": "9999999999"}}
rules = Rules("auto", "keep", 1, 10)
supervisor = Supervisor(["sleep", "60"], os.environ, env, helper=([], {{}}), rules=rules, say=print)
{fault}
"""
OWN_FAULTS = {"SEGV": "import ctypes; ctypes.string_at(0)", "ABRT": "os.abort()"}


@pytest.mark.parametrize("name", OWN_FAULTS)
def test_a_fault_of_ours_ends_us(hour: dict[str, str], tmp_path: Path, name: str) -> None:
    """To wait for the signals of faults does not turn a fault into an endless loop."""
    script = OWN_FAULT.format(fault=OWN_FAULTS[name])
    with Process([sys.executable, "-c", script], hour, tmp_path) as process:
        assert process.status() == -signal.Signals[f"SIG{name}"]


# --- the command alone, or its group ---


def test_who_is_told(hour: dict[str, str], log: Log) -> None:
    """A worker of the command gets INT, QUIT and TERM, and nothing else that is sent to us."""
    numbers, _ = in_order(CATCHABLE - KEPT - STOPPING - FAULTS)
    with Process([*RUN, "--", *log.probe("stubborn", "worker")], hour, log.path.parent) as process:
        command = log.start()["pid"]
        until(lambda: log("worker"))
        for number in numbers:
            process.send(number)
            until(lambda: name_of(number) in log.signals(pid=command))  # noqa: B023 -- used at once
        worker = log("worker")[0]["pid"]
        until(lambda: len(log.signals(pid=worker)) == 3)
        # Several that are pending at once come in an order of the kernel's.
        assert sorted(log.signals(pid=worker)) == ["INT", "QUIT", "TERM"]


def test_a_shell_that_reloads_keeps_its_background_job(
    hour: dict[str, str], wrapper: tuple[str, ...], tmp_path: Path
) -> None:
    """`trap … HUP` is for the shell that has it."""
    script = 'trap "echo reloaded" HUP; sleep 60 & echo $!; while :; do sleep 0.05; done'
    with Process([*wrapper, "sh", "-c", script], hour, tmp_path) as process:
        job = int(until(lambda: process.stdout.partition("\n")[0]))
        for times in (1, 2):  # when the second has come, whatever the first one ended has ended
            process.send(signal.SIGHUP)
            until(lambda: process.stdout.count("reloaded") == times)  # noqa: B023 -- used at once
        assert is_running(job)


def test_a_server_with_workers(
    hour: dict[str, str], wrapper: tuple[str, ...], tmp_path: Path
) -> None:
    """TTIN and TTOU change their number, HUP and USR2 leave them alone, and QUIT ends one of two servers."""
    file = tmp_path / "log"

    def servers() -> dict[int, list[int]]:
        lines = file.read_text().splitlines() if file.exists() else []
        return {line["master"]: line["workers"] for line in map(json.loads, lines)}

    script = str(Path(__file__).parents[1] / "support" / "master.py")
    with Process([*wrapper, sys.executable, "-S", script, str(file)], hour, tmp_path) as process:
        ((master, workers),) = until(servers).items()
        process.send(signal.SIGTTIN)
        until(lambda: len(servers()[master]) == 3)
        process.send(signal.SIGTTOU)
        until(lambda: servers()[master] == workers)
        process.send(signal.SIGHUP)
        process.send(signal.SIGUSR2)
        (new,) = until(lambda: servers().keys() - {master})
        assert is_running(master)
        assert all(map(is_running, workers))
        os.kill(new, signal.SIGQUIT)
        until(lambda: not any(map(is_running, servers()[new])))
        process.send(signal.SIGTERM)
        assert process.status() == 0
        until(lambda: not any(map(is_running, workers)))


# --- a command in another group ---


@pytest.mark.parametrize("name", ["INT", "TERM", "USR1"])
def test_a_command_that_has_left_its_group(hour: dict[str, str], log: Log, name: str) -> None:
    """A signal reaches it nevertheless."""
    with Process([*RUN, "--", *log.probe("moves")], hour, log.path.parent) as process:
        start = log.start()
        assert os.getpgid(start["pid"]) not in (start["pid"], start["group"])
        process.send(signal.Signals[f"SIG{name}"])
        until(lambda: log.signals() == [name])
        if name != "USR1":
            assert process.status() == 128 + signal.Signals[f"SIG{name}"]


# --- stopped, and continued ---


@pytest.mark.parametrize("name", ["TSTP", "TTIN", "TTOU"])
def test_nothing_stops_where_nobody_continues(
    hour: dict[str, str], wrapper: tuple[str, ...], tmp_path: Path, name: str
) -> None:
    """Without a terminal there is no `fg`: the command goes on, and ends when it is told to."""
    script = "import os, time\nprint(os.getpid(), flush=True)\nwhile True: time.sleep(0.05); print(flush=True)"
    with Process([*wrapper, sys.executable, "-S", "-c", script], hour, tmp_path) as process:
        until(lambda: process.stdout != "")
        process.send(signal.Signals[f"SIG{name}"])
        time.sleep(0.3)
        lines = len(process.stdout)
        until(lambda: len(process.stdout) > lines)
        process.send(signal.SIGTERM)
        assert process.status() == -signal.SIGTERM


def test_what_is_stopped_ends_as_well(hour: dict[str, str], log: Log) -> None:
    """SIGCONT follows every SIGTERM: a stopped process would keep it for later."""
    with Process([*RUN, "--", *log.probe()], hour, log.path.parent) as process:
        pid = log.start()["pid"]
        os.kill(pid, signal.SIGSTOP)
        until(lambda: is_stopped(pid))
        process.send(signal.SIGTERM)
        assert process.status() == 143
        assert log.signals() == ["TERM"]


@pytest.mark.parametrize("name", ["TSTP", "TTIN", "TTOU"])
def test_a_job_that_is_told_to_stop(
    hour: dict[str, str], wrapper: tuple[str, ...], name: str
) -> None:
    """On a terminal it stops, and its shell continues it."""
    with Terminal([*wrapper, "sh", "-c", "echo up; exec sleep 60"], hour) as terminal:
        until(lambda: "up" in terminal.screen)
        os.kill(terminal.job, signal.Signals[f"SIG{name}"])
        assert terminal.report()["stopped"] == signal.Signals[f"SIG{name}"]
        terminal.fg()
        until(lambda: not is_stopped(terminal.job))
        terminal.type("\x03")
        assert terminal.report(1)["status"] == -signal.SIGINT


@pytest.mark.parametrize("name", ["TSTP", "TTIN", "TTOU"])
def test_a_job_without_a_shell_is_told_to_stop(
    hour: dict[str, str], wrapper: tuple[str, ...], tmp_path: Path, name: str
) -> None:
    """Under `ssh -t`, or in a container with a terminal, it goes on."""
    script = f"echo up; while :; do sleep 0.05; echo >>{tmp_path}/beat; done"
    with Terminal([*wrapper, "sh", "-c", script], hour, "leader") as terminal:
        until((tmp_path / "beat").exists)
        os.kill(terminal.shell.pid, signal.Signals[f"SIG{name}"])
        time.sleep(0.3)
        beats = (tmp_path / "beat").stat().st_size
        until(lambda: (tmp_path / "beat").stat().st_size > beats + 1)
        terminal.type("\x03")
        assert terminal.shell.wait(30) == -signal.SIGINT


def test_reading_in_the_background_within_a_script(
    hour: dict[str, str], wrapper: tuple[str, ...]
) -> None:
    """The terminal stops all of the job, us included, and `fg` continues it."""
    reader = ["sh", "-c", "read line; echo got: $line"]
    with Terminal(
        ["sh", "-c", '"$@"; exit $?', "sh", *wrapper, *reader], hour, "background"
    ) as terminal:
        assert terminal.report()["stopped"] == signal.SIGTTIN
        terminal.fg()
        terminal.type("hello\n")
        assert terminal.report(1)["status"] == 0
        assert "got: hello" in terminal.screen


# --- as it is found ---

SIGNALS = ("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
IGNORING = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
    signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("store", ["file", "none"])
@pytest.mark.parametrize("way", ["run", "in place"])
def test_ignored_deaths_stay_ignored(hour: dict[str, str], way: str, store: str) -> None:
    """A command that was started with SIGCHLD ignored finds it so, whether a process minted before or not."""
    ways = {"run": (*RUN, "--"), "in place": IN_PLACE}
    ignore = (sys.executable, "-S", "-c", IGNORING)
    seen = [
        subprocess.run(
            [*ignore, *before, *SIGNALS],
            env={**hour, "VERTEX_ENV_STORE": store},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for before in ((), ways[way])
    ]
    assert seen[0] == seen[1]
    assert int(seen[0].partition("SigIgn:\t")[2], 16) & 1 << signal.SIGCHLD - 1


# --- on a terminal ---

ALARM = "import os, signal, sys; signal.alarm(1); os.execvp(sys.argv[1], sys.argv[1:])"


def test_a_timer_from_before(hour: dict[str, str], wrapper: tuple[str, ...], log: Log) -> None:
    """It outlives `exec`, and the kernel, which sends its signal, is not the terminal."""
    script = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-S", "-c", ALARM]
    with Terminal([*script, *wrapper, *log.probe()], hour):
        until(log.signals)
        assert log.signals() == ["ALRM"]


def test_a_window_that_is_said_to_have_changed(
    hour: dict[str, str], wrapper: tuple[str, ...], log: Log
) -> None:
    """Apache ends gracefully by WINCH: what is sent to the job arrives, also while the terminal is the command's."""
    with Terminal([*wrapper, *log.probe()], hour) as terminal:
        log.start()
        os.kill(terminal.job, signal.SIGWINCH)
        until(log.signals)
        os.kill(terminal.job, signal.SIGUSR1)
        until(lambda: "USR1" in log.signals())
        assert log.signals() == ["WINCH", "USR1"]


def test_the_window_changes_its_size_within_a_script(
    hour: dict[str, str], wrapper: tuple[str, ...], log: Log
) -> None:
    """The terminal tells the whole group, once."""
    with Terminal(["sh", "-c", '"$@"; exit $?', "sh", *wrapper, *log.probe()], hour) as terminal:
        command = log.start()
        terminal.resize(50, 100)
        until(log.signals)
        os.kill(command["parent"] if wrapper else command["pid"], signal.SIGUSR1)
        until(lambda: "USR1" in log.signals())
        assert log.signals() == ["WINCH", "USR1"]


# --- the window is closed ---

SHELL = f"""{IN_A_SCRIPT}
import os, signal, time
TAKEN = {{signal.SIGHUP, signal.SIGTTOU}}
signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)
how, lingers = sys.argv[1], float(sys.argv[2])
def start():
    os.setpgid(0, 0)
    if how == "foreground":
        os.tcsetpgrp(0, os.getpid())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TAKEN)
    os.execvp(sys.argv[3], sys.argv[3:])
job = fork(start)
signal.sigwait({{signal.SIGHUP}})
os.killpg(job, signal.SIGHUP)
time.sleep(lingers)
try:
    os.tcsetpgrp(0, os.getpid())
except OSError:
    pass
"""
"""What bash does when its window is closed: it tells its jobs, takes the terminal back, and ends; as slowly as a trap
may have it."""


LINGERS = {"closed": 0.3, "told": 0}


def closing(how: str, lingers: float, *command: str) -> list[str]:
    return [sys.executable, "-S", "-c", SHELL, how, str(lingers), *command]


def hang_up(terminal: Terminal, how: str) -> None:
    """Close the window; some terminals tell the shell first."""
    if how == "told":
        terminal.shell.send_signal(signal.SIGHUP)
    else:
        terminal.hang_up()


def started(log: Log) -> tuple[int, int, int]:
    """The process IDs of the supervisor, the command and its worker, when all are there."""
    start = log.start()
    (worker,) = until(lambda: log("worker"))
    return start["parent"], start["pid"], worker["pid"]


def told_once(log: Log, supervisor: int, *pids: int) -> None:
    """Check that each of *pids* gets one SIGHUP, and no other signal until the supervisor is told to end."""
    for pid in pids:
        until(lambda: log.signals(pid=pid))  # noqa: B023 -- used at once
    time.sleep(0.5)
    os.kill(supervisor, signal.SIGTERM)
    for pid in pids:
        until(lambda: log.signals(pid=pid) == ["HUP", "TERM"])  # noqa: B023 -- used at once


@pytest.mark.parametrize("how", ["closed", "told"])
def test_a_shell_tells_of_its_closed_window(hour: dict[str, str], log: Log, how: str) -> None:
    """So does the kernel, later: the command in the foreground, and each of its group, gets one SIGHUP."""
    argv = closing("foreground", LINGERS[how], *RUN, "--", *log.probe("stubborn", "worker"))
    with Terminal(argv, hour, "leader") as terminal:
        pids = started(log)
        hang_up(terminal, how)
        terminal.shell.wait(30)
        told_once(log, *pids)


def test_bare_the_kernel_tells_too(hour: dict[str, str], log: Log) -> None:
    """The control of the test above: two, where the shell takes its time."""
    with Terminal(closing("foreground", 0.3, *log.probe("stubborn")), hour, "leader") as terminal:
        log.start()
        terminal.hang_up()
        until(lambda: log.signals() == ["HUP", "HUP"])


@pytest.mark.parametrize("how", ["closed", "told"])
def test_a_background_job_is_told_of_the_closed_window(
    hour: dict[str, str], log: Log, how: str
) -> None:
    """Once, with all of its group, as the shell told our group."""
    argv = closing("background", LINGERS[how], *RUN, "--", *log.probe("stubborn", "worker"))
    with Terminal(argv, hour, "leader") as terminal:
        pids = started(log)
        hang_up(terminal, how)
        told_once(log, *pids)


def test_a_shell_that_goes_on_without_its_window(hour: dict[str, str], log: Log) -> None:
    """Then the kernel tells nobody, and what the shell says is passed on after a while."""
    argv = closing("foreground", 60, *RUN, "--", *log.probe("worker"))
    with Terminal(argv, hour, "leader") as terminal:
        log.start()
        (worker,) = until(lambda: log("worker"))
        terminal.hang_up()
        until(lambda: log("end"))
        until(lambda: log.signals(pid=worker["pid"]) == ["HUP"])


def test_a_closed_window_without_a_shell(hour: dict[str, str], log: Log) -> None:
    """Under `ssh -t` the kernel tells us alone: the group is told once, and the end of the command is ours."""
    with Terminal([*RUN, "--", *log.probe("worker")], hour, "leader") as terminal:
        log.start()
        (worker,) = until(lambda: log("worker"))
        terminal.hang_up()
        assert terminal.shell.wait(30) == 129
        until(lambda: log.signals(pid=worker["pid"]))
        assert log.signals()[0] == "HUP"


def test_a_closed_window_of_a_script(
    hour: dict[str, str], wrapper: tuple[str, ...], log: Log
) -> None:
    """There the group is ours as well: who tells it has told the command, and we add nothing."""
    script = ["sh", "-c", 'trap : HUP; "$@"; exit $?', "sh"]
    argv = closing("foreground", 0.3, *script, *wrapper, *log.probe("stubborn"))
    with Terminal(argv, hour, "leader") as terminal:
        command = log.start()
        terminal.hang_up()
        until(lambda: log.signals() == ["HUP", "HUP"])
        os.kill(command["parent"] if wrapper else command["pid"], signal.SIGTERM)
        until(lambda: "TERM" in log.signals())
        assert log.signals() == ["HUP", "HUP", "TERM"]


def test_a_hangup_after_the_window_was_closed(hour: dict[str, str], log: Log) -> None:
    """A job that has survived it reloads by SIGHUP as any other, alone."""
    argv = closing("background", 0, *RUN, "--", *log.probe("stubborn", "worker"))
    with Terminal(argv, hour, "leader") as terminal:
        start = log.start()
        (worker,) = until(lambda: log("worker"))
        terminal.hang_up()
        until(lambda: log.signals(pid=worker["pid"]) == ["HUP"])
        until(lambda: log.signals(pid=start["pid"]) == ["HUP"])
        os.kill(start["parent"], signal.SIGHUP)
        until(lambda: log.signals(pid=start["pid"]) == ["HUP", "HUP"])
        os.kill(start["parent"], signal.SIGTERM)
        until(lambda: log.signals(pid=worker["pid"]) == ["HUP", "TERM"])


@pytest.mark.parametrize("how", ["closed", "told"])
@pytest.mark.parametrize("ending", ["", " &"], ids=["foreground", "background"])
def test_bash_in_a_window_that_is_closed(
    hour: dict[str, str], log: Log, ending: str, how: str
) -> None:
    """Five times, as one SIGHUP by chance is easy; it ends slowly, or the two of bash and the kernel may be one."""
    shell = [need("bash"), "--norc", "--noprofile", "-i"]
    came = []
    for number in range(5):
        with Terminal(shell, {**hour, "PS1": "$ ", "TERM": "dumb"}, "leader") as terminal:
            terminal.type("trap 'sleep 0.3' EXIT; echo re''ady\n")
            until(lambda: "ready\r\n" in terminal.screen)
            terminal.type(shlex.join([*RUN, "--", *log.probe("stubborn")]) + ending + "\n")
            start = log.start(number)
            hang_up(terminal, how)
            until(lambda: log.signals(pid=start["pid"]))  # noqa: B023 -- used at once
            terminal.shell.wait(30)
            os.kill(start["parent"], signal.SIGTERM)
            until(lambda: "TERM" in log.signals(pid=start["pid"]))  # noqa: B023 -- used at once
            came.append(log.signals(pid=start["pid"]))
    assert came == [["HUP", "TERM"]] * 5


# --- restarts ---

scenario = SCENARIOS = Scenarios()
results = side_by_side


@scenario
def a_command_in_another_group_is_renewed(folder: Path) -> None:
    """It ends by SIGTERM, and so does what it has left in its group; then the next one starts."""
    log = Log(folder)
    command = [*RUN, "--grace", "1s", "--", *log.probe("survivor", "moves")]
    with sandboxed(folder, lifetime_s=3) as (_, env), Process(command, env, folder):
        old, new = log.start(), log.start(1)
        assert log.signals(pid=old["pid"]) == ["TERM"]
        assert not is_running(old["child"])
        assert group(old["pid"]) == []
        assert new["generation"] == "1"


@scenario
def a_command_in_another_group_is_killed(folder: Path) -> None:
    """After the grace period, like any other."""
    log = Log(folder)
    command = [*RUN, "--grace", "0.3s", "--", *log.probe("stubborn", "moves")]
    with sandboxed(folder, lifetime_s=2) as (_, env), Process(command, env, folder):
        old = log.start()
        assert log.start(1)["token"] != old["token"]
        assert log.signals(pid=old["pid"]) == ["TERM"]
        assert not is_running(old["pid"])


@scenario
def requests_do_not_end_renewal(folder: Path) -> None:
    """Only INT, QUIT, TERM and a closed window mean that the command is to end."""
    log = Log(folder)
    command = [*RUN, "--", *log.probe("all")]
    numbers = sorted(
        CATCHABLE - FAULTS - KEPT - {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP}
    )
    with sandboxed(folder, lifetime_s=4) as (_, env), Process(command, env, folder) as process:
        start = log.start()
        for number in numbers:
            process.send(number)
        until(lambda: len(log.signals(pid=start["pid"])) >= len(numbers) - 1)
        assert log.start(1)["token"] != start["token"]


test_restarts = SCENARIOS.test()
