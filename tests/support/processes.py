"""Processes under test and what can be seen of them: `probe.py`'s notes, /proc, and jobs on a pseudo-terminal."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

from tests.support.loopback import clean_environ, run_cli
from vertex_env.sandbox.faults import Fault
from vertex_env.sandbox.server import Sandbox

T = TypeVar("T")
Scenario = Callable[[Path], None]
"""A test that runs beside others; it gets a folder of its own."""

PROGRAM = (sys.executable, "-P", "-m", "vertex_env")
RUN = (*PROGRAM, "run")
PROBE = (sys.executable, "-S", str(Path(__file__).with_name("probe.py")))
_SHELL = (sys.executable, "-S", str(Path(__file__).with_name("minishell.py")))

ON = {"bare": (), "run": (*RUN, "--")}
"""What stands before a command: nothing, and the program, which has to make no difference."""


def until(seen: Callable[[], T], seconds: float = 30) -> T:
    """What *seen* gives as soon as that is true; a failure if it never is."""
    deadline = time.monotonic() + seconds
    while not (value := seen()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value


class Scenarios:
    """A module's scenarios: decorate each with this; `results = side_by_side`; `test_restarts = SCENARIOS.test()`."""

    def __init__(self) -> None:
        self._all: list[Scenario] = []

    def __call__(self, function: Scenario) -> Scenario:
        self._all.append(function)
        return function

    def test(self) -> Callable[..., None]:
        """The test that has them as its parameter."""

        @pytest.mark.parametrize("scenario", self._all, ids=lambda scenario: scenario.__name__)
        def test_restarts(results: Mapping[Scenario, Future[None]], scenario: Scenario) -> None:
            """What the scenario says."""
            results[scenario].result()

        return test_restarts


@pytest.fixture(scope="module")
def side_by_side(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[Scenario, Future[None]]]:
    """The scenarios that tests of this module have as their parameter, all under way.

    They wait for tokens to expire for most of the time.
    """
    items: list[Any] = request.session.items
    here = [item for item in items if item.path == request.path and "scenario" in item.fixturenames]
    chosen = [item.callspec.params["scenario"] for item in here]
    with ThreadPoolExecutor(4) as pool:  # two cores have to be enough
        yield {
            scenario: pool.submit(scenario, tmp_path_factory.mktemp(scenario.__name__))
            for scenario in chosen
        }


@contextmanager
def sandboxed(
    folder: Path, lifetime_s: float = 3600, faults: Sequence[Fault] = (), delay_s: float = 0
) -> Iterator[tuple[Sandbox, dict[str, str]]]:
    """A sandbox, and the environment of a child that sees it and nothing else of Google."""
    lifetime, delay = timedelta(seconds=lifetime_s), timedelta(seconds=delay_s)
    with Sandbox(lifetime=lifetime, faults=faults, delay=delay) as google:
        yield google, google.environ(str(folder / "sandbox"), clean_environ(folder))


@contextmanager
def warmed(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a login on a sandbox whose stored token lasts for an hour."""
    with sandboxed(folder) as (_, env):
        assert run_cli("token", env=env).status == 0
        yield env


def stat(pid: int) -> tuple[str, int, int, int] | None:
    """State, parent, group and session of a process, if there is one; a state is `S`, `T`, `Z`, ..."""
    with suppress(OSError):
        state, parent, group, session = (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
        )
        return state, int(parent), int(group), int(session)
    return None


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it is not dead."""
    seen = stat(pid)
    return seen is not None and seen[0] not in "ZX"


def is_stopped(pid: int) -> bool:
    """Whether it is stopped, as by Ctrl-Z."""
    seen = stat(pid)
    return seen is not None and seen[0] == "T"


def _processes() -> Iterator[tuple[int, tuple[str, int, int, int]]]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and (seen := stat(int(path.name))) is not None:
            yield int(path.name), seen


def children(pid: int) -> dict[int, str]:
    """The processes whose parent it is, with their states."""
    return {child: state for child, (state, parent, *_) in _processes() if parent == pid}


def group(number: int) -> list[int]:
    """The processes in a group, dead ones left out."""
    return [
        pid
        for pid, (state, _, members, _) in _processes()
        if members == number and state not in "ZX"
    ]


def end_session(number: int) -> None:
    """Kill all that is left of a session."""
    for pid, (_, _, _, session) in _processes():
        if session == number:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Log:
    """What `probe.py` has noted down, over all the times that it was started."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log"

    def __call__(self, what: str, **details: object) -> list[dict[str, Any]]:
        """The notes of the kind *what* that have *details*."""
        text = self.path.read_text() if self.path.exists() else ""
        notes = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [note for note in notes if {**note, "what": what, **details} == note]

    def signals(self, **details: object) -> list[str]:
        """The names of the signals that came, SIGCONT left out, which does nothing."""
        return [note["name"] for note in self("signal", **details) if note["name"] != "CONT"]

    def start(self, number: int = 0) -> dict[str, Any]:
        """The note of a start, as soon as it has been made."""
        return until(lambda: self("start")[number : number + 1])[0]

    def probe(self, *words: str) -> list[str]:
        """The command to run."""
        return [*PROBE, str(self.path), *words]


class Process:
    """A command in a session of its own, without a terminal, from entering the context until leaving it.

    Args:
        argv: The command.
        env: Its environment.
        folder: Where to keep what it prints; it runs there, too.
        more: Arguments for `Popen`.
    """

    popen: subprocess.Popen[bytes]

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], folder: Path, **more: Any
    ) -> None:
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
            self.popen = subprocess.Popen(
                argv, env=dict(env), cwd=folder, start_new_session=True, **streams | more
            )
        self.pid = self.popen.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end_session(self.pid)
        self.popen.wait()

    def send(self, number: int) -> None:
        """Send a signal to this process and to no other."""
        self.popen.send_signal(number)

    def status(self) -> int:
        """Its exit status once it has ended, negative if a signal ended it."""
        return self.popen.wait(30)

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return self._err.read_text()


class Terminal:
    """A job on a pseudo-terminal, under a shell with job control; see `minishell.py`.

    Args:
        argv: The command.
        env: Its environment.
        how: `foreground`, `background` or `leader`.
    """

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], how: str = "foreground"
    ) -> None:
        self.master, slave = pty.openpty()
        os.set_blocking(self.master, False)
        termios.tcsetwinsize(slave, (24, 80))
        self._reports, report = os.pipe()
        os.set_blocking(self._reports, False)
        self._heard = self._screen = b""
        streams: dict[str, Any] = {
            "stdin": slave,
            "stdout": slave,
            "stderr": slave,
            "pass_fds": [report],
        }
        command = [*_SHELL, how, str(report), *argv]
        self.shell = subprocess.Popen(command, env=dict(env), start_new_session=True, **streams)
        os.close(slave)
        os.close(report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end_session(self.shell.pid)
        self.shell.wait()
        os.close(self._reports)
        self.hang_up()

    @property
    def job(self) -> int:
        """The process that the shell has started."""
        return until(lambda: list(children(self.shell.pid)))[0]

    def type(self, text: str) -> None:
        r"""Press keys: `"\x03"` is Ctrl-C, `"\x1a"` is Ctrl-Z."""
        os.write(self.master, text.encode())

    def hang_up(self) -> None:
        """Close the window."""
        if self.master >= 0:
            os.close(self.master)
        self.master = -1

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        termios.tcsetwinsize(self.master, (rows, columns))

    def fg(self) -> None:
        """As the shell's `fg`."""
        self.shell.send_signal(signal.SIGUSR1)

    def bg(self) -> None:
        """As the shell's `bg`."""
        self.shell.send_signal(signal.SIGUSR2)

    @property
    def screen(self) -> str:
        """All that was printed."""
        with suppress(OSError):
            while data := os.read(self.master, 65536):
                self._screen += data
        return self._screen.decode(errors="replace")

    def report(self, number: int = 0) -> dict[str, Any]:
        """What the shell learnt of its job as the *number*th, as soon as it has."""
        return until(lambda: self._lines()[number : number + 1])[0]

    def _lines(self) -> list[dict[str, Any]]:
        _ = self.screen  # read on: a full terminal would hold up who prints
        with suppress(BlockingIOError):
            while data := os.read(self._reports, 65536):
                self._heard += data
        return [json.loads(line) for line in self._heard.splitlines()]

    @property
    def foreground(self) -> int:
        """The process group that has the terminal."""
        return os.tcgetpgrp(self.master)

    def is_cooked(self) -> bool:
        """Whether it takes lines, not keys."""
        return bool(termios.tcgetattr(self.master)[3] & termios.ICANON)
