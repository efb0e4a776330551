"""Numbers, as ratios, and a soak test; all on loopback.

    python -m tests.benchmarks [ROUNDS] [PART...]   # a table of ratios; the parts are tokens, run and shells, or all
    python -m tests.benchmarks against REVISION [ROUNDS]   # this tree against an older commit
    python -m tests.benchmarks peers FOLDER         # install the programs that `run` is compared with
    python -m tests.benchmarks soak [SECONDS]       # a client under `run`, over many restarts

Each row compares two commands that take turns in one run, and gives the ratio of their medians; absolute times are of
this machine and moment only. A partner that is not on PATH is left out by name. Everything runs in a clean virtual
environment with the wheel, because `.pth` files and editable installs slow down every start of Python.

A part is a module with `rows(bench)`, where `bench` is a `timing.Bench`; its name goes into `PARTS`.
"""

import os
import sys
import tempfile
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from tests.benchmarks import against, peers, run, shells, soak, tokens
from tests.benchmarks.timing import Bench, install
from vertex_env.sandbox.server import Sandbox

PARTS = {"tokens": tokens.rows, "run": run.rows, "shells": shells.rows}


def table(rounds: int, names: list[str]) -> None:
    """Print the rows of these parts."""
    if unknown := set(names) - set(PARTS):
        raise SystemExit(f"no such part: {', '.join(sorted(unknown))}\n\n{__doc__}")
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="vertex-env-benchmarks-"))
        )
        installed = install(folder)
        sandbox = stack.enter_context(Sandbox(lifetime=timedelta(hours=1)))
        print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {rounds} rounds\n")
        print(f"{'what':<44} {'compared with':<34} {'ratio':>9}  goal", flush=True)
        for name in names or PARTS:
            own = folder / name
            own.mkdir()
            PARTS[name](Bench(installed, sandbox, own, rounds))


def compare(revision: str, rounds: int) -> None:
    """Print the rows of this tree against *revision*."""
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="vertex-env-benchmarks-"))
        )
        sandbox = stack.enter_context(Sandbox(lifetime=timedelta(hours=1)))
        against.table(folder, sandbox, revision, rounds)


def main() -> None:
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["peers", folder]:
            peers.install(Path(folder).absolute())
        case ["against", revision]:
            compare(revision, 40)
        case ["against", revision, rounds]:
            compare(revision, int(rounds))
        case ["soak"]:
            sys.exit(soak.soak(480))
        case ["soak", seconds]:
            sys.exit(soak.soak(float(seconds)))
        case [rounds, *names] if rounds.isdecimal():
            table(int(rounds), names)
        case names:
            table(40, names)


main()
