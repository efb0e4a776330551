"""What every part uses: commands that take turns, and an installed vertex-env."""

import os
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import loopback as google
from vertex_env.sandbox.server import Sandbox

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Command:
    """What to start, with what environment, and what to do before each start."""

    argv: Sequence[str]
    environ: Mapping[str, str]
    before: Callable[[], None] = lambda: None

    def time(self) -> float:
        """Seconds from start to end."""
        self.before()
        start = time.perf_counter()
        process = os.posix_spawn(
            self.argv[0],
            list(self.argv),
            dict(self.environ),
            file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)],
        )
        _, status = os.waitpid(process, 0)
        seconds = time.perf_counter() - start
        if status != 0:
            done = subprocess.run(
                self.argv, env=dict(self.environ), capture_output=True, text=True, check=False
            )
            raise SystemExit(f"{self.argv} failed: {done.stderr}")
        return seconds


def ratio(ours: Command, theirs: Command, rounds: int) -> tuple[float, float, float]:
    """Ratio of medians, and the medians in milliseconds; the two take turns, and two rounds are not counted."""
    pairs = [(ours.time(), theirs.time()) for _ in range(rounds + 2)][2:]
    a, b = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    return a / b, a * 1000, b * 1000


def row(what: str, against: str, result: tuple[float, float, float], goal: str) -> None:
    """Print one line of the table."""
    value, ours, theirs = result
    print(
        f"{what:<44} {against:<34} {value:>7.2f} x  {goal:<9} ({ours:.1f} / {theirs:.1f} ms)",
        flush=True,
    )


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel."""

    name: str
    programs: Path

    @property
    def python(self) -> str:
        return str(self.programs / "python")

    @property
    def program(self) -> str:
        return str(self.programs / "vertex-env")


def install(folder: Path) -> list[Installed]:
    """The wheel in fresh environments: with the wrapper that current installers write, and with an old pip's."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)],
        check=True,
    )
    (wheel,) = folder.glob("vertex_env-*.whl")
    found = []
    for name, pip in (("pip >= 25.2", "pip>=25.2"), ("pip 24", "pip==24.0")):
        venv.create(folder / pip, with_pip=True)
        programs = folder / pip / "bin"
        subprocess.run([programs / "python", "-m", "pip", "install", "-q", "-U", pip], check=True)
        subprocess.run([programs / "python", "-m", "pip", "install", "-q", str(wheel)], check=True)
        found.append(Installed(name, programs))
    return found


@dataclass(frozen=True)
class Bench:
    """What a part is given: `rows(bench)` prints its lines with `row`, and leaves out by name what is not installed.

    Args:
        installed: vertex-env, with the wrapper of current installers first.
        sandbox: A Google whose tokens live for an hour, shared by all parts.
        folder: An empty folder of this part's own.
        rounds: How often each command of a pair is started.
    """

    installed: Sequence[Installed]
    sandbox: Sandbox
    folder: Path
    rounds: int

    def environ(self, name: str) -> dict[str, str]:
        """The environment of a login on the sandbox, with the store and files of *name*."""
        base = google.clean_environ(self.folder)
        base.pop("PYTHONPATH", None)
        return self.sandbox.environ(str(self.folder / name), base)
