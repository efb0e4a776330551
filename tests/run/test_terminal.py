"""`run` on a pseudo-terminal, under a shell with job control: whatever a bare command does there, it does as well."""

import os
import shlex
import signal
import termios
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.processes import (
    RUN,
    Log,
    Scenarios,
    Terminal,
    is_running,
    is_stopped,
    sandboxed,
    side_by_side,
    until,
)
from tests.support.tools import need
from vertex_env.sandbox.faults import Fault

pytestmark = pytest.mark.usefixtures(
    "results"
)  # scenarios start first, and run beside the other tests

CTRL_C, CTRL_Z, CTRL_BACKSLASH = "\x03", "\x1a", "\x1c"


def mark(pid: int, log: Log) -> None:
    """Send a last signal by the way of the wrapper: what that has to pass on besides has been passed on before."""
    os.kill(pid, signal.SIGUSR2)
    until(lambda: "USR2" in log.signals())


# --- keys ---


@pytest.mark.parametrize(("key", "name"), [(CTRL_C, "INT"), (CTRL_BACKSLASH, "QUIT")])
def test_a_key_is_one_signal(
    hour: dict[str, str], wrapper: tuple[str, ...], log: Log, key: str, name: str
) -> None:
    """However often it is pressed, the command gets exactly one signal each time."""
    with Terminal([*wrapper, *log.probe("stubborn")], hour) as terminal:
        log.start()
        for times in (1, 2):
            terminal.type(key)
            until(lambda: len(log.signals()) == times)  # noqa: B023 -- used at once
        mark(terminal.job, log)
        assert log.signals() == [name, name, "USR2"]


def test_ctrl_c_ends_the_command(hour: dict[str, str], wrapper: tuple[str, ...], log: Log) -> None:
    """Its status is ours, and the shell finds its job in the foreground, as always."""
    with Terminal([*wrapper, *log.probe()], hour) as terminal:
        log.start()
        terminal.type(CTRL_C)
        report = terminal.report()
        assert (report["status"], log.signals()) == (130, ["INT"])
        assert report["foreground"] == report["job"]


def test_ctrl_c_on_a_command_that_dies_of_it(
    hour: dict[str, str], wrapper: tuple[str, ...]
) -> None:
    """The shell sees a death by SIGINT: a loop in it ends, too."""
    with Terminal([*wrapper, "sh", "-c", "echo up; exec sleep 60"], hour) as terminal:
        until(lambda: "up" in terminal.screen)
        terminal.type(CTRL_C)
        assert terminal.report()["status"] == -signal.SIGINT


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "TSTP"])
def test_a_directed_signal(
    hour: dict[str, str], wrapper: tuple[str, ...], log: Log, name: str
) -> None:
    """What `kill` sends to the job's process reaches the command, on a terminal as well."""
    with Terminal([*wrapper, *log.probe("stubborn")], hour) as terminal:
        command = log.start()["pid"]
        os.kill(terminal.job, signal.Signals[f"SIG{name}"])
        if name == "TSTP":
            assert terminal.report()["stopped"] == signal.SIGTSTP
            assert is_stopped(command)
            terminal.fg()
            until(lambda: not is_stopped(command))
        else:
            until(log.signals)
            mark(terminal.job, log)
            assert log.signals() == [name, "USR2"]


def test_ctrl_z_and_fg(hour: dict[str, str], wrapper: tuple[str, ...], log: Log) -> None:
    """The job stops as a whole, and goes on as a whole, with the terminal its own again."""
    with Terminal([*wrapper, *log.probe("reads")], hour) as terminal:
        command = log.start()
        for times in (0, 1):
            terminal.type(CTRL_Z)
            report = terminal.report(times)
            assert report["stopped"] == signal.SIGTSTP
            assert is_stopped(report["job"])
            assert is_stopped(command["pid"])
            terminal.fg()
            until(lambda: not is_stopped(command["pid"]))
        until(lambda: terminal.foreground == command["group"])
        terminal.type("still here\n")
        until(lambda: log("line", text="still here"))
        terminal.type(CTRL_C)
        assert terminal.report(2)["status"] == 130
        assert log.signals() == ["INT"]


def test_ctrl_z_and_bg(hour: dict[str, str], wrapper: tuple[str, ...], log: Log) -> None:
    """It goes on without the terminal, which stays with the shell, to the end."""
    with Terminal([*wrapper, *log.probe()], hour) as terminal:
        command = log.start()["pid"]
        terminal.type(CTRL_Z)
        terminal.report()
        terminal.bg()
        until(lambda: not is_stopped(command))
        assert terminal.foreground == terminal.shell.pid
        os.kill(terminal.job, signal.SIGTERM)
        report = terminal.report(1)
        assert (report["status"], report["foreground"]) == (143, terminal.shell.pid)


def test_modes_around_a_stop(hour: dict[str, str], log: Log) -> None:
    """While an editor is stopped, the terminal is as before it; when it goes on, it finds it as it was."""
    with Terminal([*RUN, "--", *log.probe("raw")], hour) as terminal:
        command = log.start()["pid"]
        assert not terminal.is_cooked()
        os.kill(command, signal.SIGTSTP)
        assert terminal.report()["stopped"] == signal.SIGTSTP
        assert terminal.is_cooked()
        terminal.fg()
        until(lambda: not is_stopped(command))
        assert not terminal.is_cooked()


def test_the_window_changes_its_size(
    hour: dict[str, str], wrapper: tuple[str, ...], log: Log
) -> None:
    """The command is told once."""
    with Terminal([*wrapper, *log.probe()], hour) as terminal:
        log.start()
        terminal.resize(50, 100)
        until(log.signals)
        mark(terminal.job, log)
        assert log.signals() == ["WINCH", "USR2"]


def test_the_window_is_closed(hour: dict[str, str], wrapper: tuple[str, ...], log: Log) -> None:
    """The command gets one SIGHUP."""
    with Terminal([*wrapper, *log.probe("stubborn")], hour) as terminal:
        log.start()
        job = terminal.job
        terminal.hang_up()
        until(log.signals)
        mark(job, log)
        assert log.signals() == ["HUP", "USR2"]


# --- in the background, in a pipeline, in a script, alone ---


def test_in_the_background(hour: dict[str, str], wrapper: tuple[str, ...], log: Log) -> None:
    """With `&` the terminal stays with the shell, until `fg` hands it over, and again after the end."""
    with Terminal([*wrapper, *log.probe()], hour, "background") as terminal:
        command = log.start()
        assert command["foreground"] == terminal.shell.pid
        assert terminal.foreground == terminal.shell.pid
        terminal.fg()
        until(lambda: terminal.foreground == command["group"])
        terminal.type(CTRL_C)
        assert terminal.report()["status"] == 130
        assert log.signals() == ["INT"]


@pytest.mark.parametrize("ending", ["exit 7", "kill -KILL $$"])
def test_the_end_in_the_background(
    hour: dict[str, str], wrapper: tuple[str, ...], ending: str
) -> None:
    """It takes nothing away from the shell: neither the terminal nor its modes."""
    with Terminal(
        [*wrapper, "sh", "-c", f"echo up; sleep 0.3; {ending}"], hour, "background"
    ) as terminal:
        until(lambda: "up" in terminal.screen)
        modes = termios.tcgetattr(terminal.master)
        modes[3] &= ~termios.ICANON
        termios.tcsetattr(terminal.master, termios.TCSANOW, modes)
        assert terminal.report()["foreground"] == terminal.shell.pid
        assert not terminal.is_cooked()


def test_reading_in_the_background_stops(hour: dict[str, str], wrapper: tuple[str, ...]) -> None:
    """A command that wants the terminal waits for `fg`, and the shell sees why."""
    with Terminal(
        [*wrapper, "sh", "-c", "read line; echo got: $line"], hour, "background"
    ) as terminal:
        assert terminal.report()["stopped"] == signal.SIGTTIN
        terminal.fg()
        terminal.type("hello\n")
        assert terminal.report(1)["status"] == 0
        assert "got: hello" in terminal.screen


def test_in_a_pipeline(hour: dict[str, str], wrapper: tuple[str, ...], log: Log) -> None:
    """A pager behind it can read from the terminal; Ctrl-C is one SIGINT for the command."""
    script = '"$@" | { read line </dev/tty; echo "pager: $line"; trap "" INT; cat >/dev/null; }'
    with Terminal(["sh", "-c", script, "sh", *wrapper, *log.probe("stubborn")], hour) as terminal:
        command = log.start()
        terminal.type("next\n")
        until(lambda: "pager: next" in terminal.screen)
        terminal.type(CTRL_C)
        until(log.signals)
        mark(command["parent"] if wrapper else command["pid"], log)
        assert log.signals() == ["INT", "USR2"]


def test_data_on_stdin_and_a_terminal(hour: dict[str, str], wrapper: tuple[str, ...]) -> None:
    """A command behind a pipe reads the terminal as well as the pipe."""
    script = 'echo data | "$@"'
    reader = ["sh", "-c", "read line </dev/tty; cat; echo got: $line"]
    with Terminal(["sh", "-c", script, "sh", *wrapper, *reader], hour) as terminal:
        terminal.type("hello\n")
        assert terminal.report()["status"] == 0
        assert "data\r\ngot: hello\r\n" in terminal.screen


def test_within_a_script(hour: dict[str, str], wrapper: tuple[str, ...], log: Log) -> None:
    """Ctrl-Z stops the script, us and the command; `fg` continues all three; then Ctrl-C ends them."""
    with Terminal(["sh", "-c", '"$@"; exit $?', "sh", *wrapper, *log.probe()], hour) as terminal:
        command = log.start()["pid"]
        terminal.type(CTRL_Z)
        assert terminal.report()["stopped"] == signal.SIGTSTP
        until(lambda: is_stopped(command))
        terminal.fg()
        until(lambda: not is_stopped(command))
        terminal.type(CTRL_C)
        terminal.report(1)
        assert log.signals() == ["INT"]
        assert not is_running(command)


@pytest.mark.parametrize(
    "script", [[], ["sh", "-c", '"$@"; exit $?', "sh"]], ids=["alone", "script"]
)
def test_without_a_shell(
    hour: dict[str, str], wrapper: tuple[str, ...], log: Log, script: list[str]
) -> None:
    """Under `ssh -t` or in a container nobody could continue a stopped job: Ctrl-Z does nothing, Ctrl-C ends it."""
    with Terminal([*script, *wrapper, *log.probe("reads")], hour, "leader") as terminal:
        command = log.start()["pid"]
        terminal.type(CTRL_Z)
        terminal.type("still here\n")
        until(lambda: log("line"))
        assert not is_stopped(command)
        assert not is_stopped(terminal.shell.pid)
        terminal.type(CTRL_C)
        terminal.shell.wait(30)
        assert log.signals() == ["INT"]


def test_in_bash(hour: dict[str, str], wrapper: tuple[str, ...], tmp_path: Path) -> None:
    """A real shell: `fg` of a running job that reads only then, a job that ends by itself, a loop ended by Ctrl-C."""
    jobs = {
        "reads": "sleep 0.7; read word; echo got: $word",
        "ends": "sleep 0.2; echo ended",
        # Without `exec`, dash may fork `sleep` after Ctrl-C has come, and then waits for its end.
        "lasts": "echo up; exec sleep 60",
    }
    for name, script in jobs.items():
        (tmp_path / name).write_text(script)
    shell = [need("bash"), "--norc", "--noprofile", "-i"]
    with Terminal(shell, {**hour, "PS1": "$ ", "TERM": "dumb"}, "leader") as terminal:

        def enter(line: str, answer: str) -> None:
            before = len(terminal.screen)
            terminal.type(f"{line}\n")
            until(lambda: answer in terminal.screen[before:])

        enter(f"cd {tmp_path}; run() {{ {shlex.join(wrapper)} sh $1; }}; echo defi''ned", "defined")
        enter("run reads & echo star''ted", "started")
        enter("fg; echo status: $?", "reads")
        enter("a word", "got: a word\r\nstatus: 0")
        enter("run ends & wait; echo alive: $?", "alive: 0")
        enter("for i in 1 2; do run lasts; done; echo status: $?", "up")
        terminal.type(CTRL_C)
        until(
            lambda: (
                terminal.screen.count("up\r\n") == 1
                and "$ " in terminal.screen.rpartition("up\r\n")[2]
            )
        )
        enter("echo status: $?", "status: 130")


# --- restarts ---

scenario = SCENARIOS = Scenarios()
results = side_by_side


def pass_expiry(start: Mapping[str, str]) -> None:
    """Wait until the token of a start has expired, and for a second look at that."""
    expired = int(start["expires_at"]) + 1.5
    until(lambda: time.time() > expired)


@scenario
def the_next_command_has_the_terminal_as_it_was(folder: Path) -> None:
    """In the foreground, with the modes of before the first start, whatever the old command left behind."""
    log = Log(folder)
    command = [*RUN, "--on-expiry", "restart", "--", *log.probe("raw", "reads")]
    with sandboxed(folder, lifetime_s=2) as (_, env), Terminal(command, env) as terminal:
        for number in (0, 1):
            start = log.start(number)
            assert start["cooked"]
            assert start["foreground"] == start["group"] == start["pid"]
            assert start["ttys"] == [True, True, True]
            terminal.type(f"to {number}")
            until(lambda: log("line", pid=start["pid"]))  # noqa: B023 -- used at once
        terminal.type("exit 7")
        report = terminal.report()
        assert report["status"] == 7
        assert report["foreground"] == report["job"]


@scenario
def a_raw_terminal_defers_the_restart(folder: Path) -> None:
    """An editor or an agent would lose its session: it is left alone, without a word, until it lets the terminal go."""
    log = Log(folder)
    with (
        sandboxed(folder, lifetime_s=2) as (_, env),
        Terminal([*RUN, "--", *log.probe("raw")], env) as terminal,
    ):
        start = log.start()
        assert not terminal.is_cooked()
        pass_expiry(start)
        assert (log.signals(), terminal.screen) == ([], "")
        modes = termios.tcgetattr(terminal.master)
        modes[3] |= termios.ICANON
        termios.tcsetattr(terminal.master, termios.TCSANOW, modes)
        assert log.start(1)["token"] != start["token"]
        assert "it is left alone while it does. --on-expiry restart would" in terminal.screen


@scenario
def ctrl_c_while_stopping_ends_all(folder: Path) -> None:
    """The terminal tells only the command: its end by SIGINT, which we did not send, shows what the user wants."""
    script = "trap 'echo told' TERM; while :; do sleep 0.1; done"
    with (
        sandboxed(folder, lifetime_s=2) as (_, env),
        Terminal([*RUN, "--", "sh", "-c", script], env) as terminal,
    ):
        until(lambda: "told" in terminal.screen)
        terminal.type(CTRL_C)
        assert terminal.report()["status"] == -signal.SIGINT
        assert "anew" not in terminal.screen


@scenario
def a_closed_stream_is_not_the_terminal(folder: Path) -> None:
    """The terminal, which we open for ourselves, does not get what nobody wants to read."""
    log = Log(folder)
    closing = ["sh", "-c", 'exec "$@" 2>&-', "sh", *RUN, "--", *log.probe()]
    with sandboxed(folder, lifetime_s=2) as (_, env), Terminal(closing, env) as terminal:
        log.start(1)
        assert terminal.screen == ""


@scenario
def what_was_not_said_is_said_at_the_end(folder: Path) -> None:
    """A command that held the terminal to its end ends as it likes; then we tell why its token was not renewed."""
    log = Log(folder)
    with (
        sandboxed(folder, lifetime_s=2) as (_, env),
        Terminal([*RUN, "--", *log.probe("raw", "reads")], env) as terminal,
    ):
        pass_expiry(log.start())
        assert terminal.screen == ""
        terminal.type("exit 7")
        assert terminal.report()["status"] == 7
        assert "it is left alone while it does. --on-expiry restart would" in terminal.screen
        assert len(log("start")) == 1


@scenario
def a_failure_is_not_told_into_a_raw_terminal(folder: Path) -> None:
    """Under `--on-expiry restart`, too, lines wait until the terminal is in a state to take them."""
    log = Log(folder)
    command = [*RUN, "--on-expiry", "restart", "--", *log.probe("raw", "reads")]
    with sandboxed(folder, lifetime_s=2) as (google, env), Terminal(command, env) as terminal:
        log.start()
        asked = google.counts["token"]
        google.fail(Fault(9, 400))
        until(lambda: google.counts["token"] >= asked + 2)
        assert terminal.screen == ""
        terminal.type("exit 7")
        assert terminal.report()["status"] == 7
        assert "the token cannot be renewed" in terminal.screen


@scenario
def a_restart_in_the_background_takes_nothing(folder: Path) -> None:
    """Neither the terminal nor its modes are touched, which are somebody else's."""
    log = Log(folder)
    with (
        sandboxed(folder, lifetime_s=2) as (_, env),
        Terminal([*RUN, "--", *log.probe()], env, "background") as terminal,
    ):
        log.start()
        modes = termios.tcgetattr(terminal.master)
        modes[3] &= ~termios.ICANON
        termios.tcsetattr(terminal.master, termios.TCSANOW, modes)
        assert log.start(1)["foreground"] == terminal.shell.pid
        assert terminal.foreground == terminal.shell.pid
        assert not terminal.is_cooked()


@scenario
def a_command_with_jobs_of_its_own_is_left_alone(folder: Path) -> None:
    """A shell that runs something in the foreground would lose that."""
    log = Log(folder)
    shell = [need("bash"), "--norc", "--noprofile", "-i"]
    with (
        sandboxed(folder, lifetime_s=2) as (_, env),
        Terminal([*RUN, "--", *shell], {**env, "PS1": "$ ", "TERM": "dumb"}) as terminal,
    ):
        terminal.type(" ".join(log.probe()) + "\n")
        start = log.start()
        assert start["cooked"]
        pass_expiry(start)
        assert log.signals() == []
        assert is_running(start["parent"])


test_restarts = SCENARIOS.test()
