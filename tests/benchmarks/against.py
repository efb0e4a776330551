"""This tree against an older commit: the same commands of both, in turns.

The ratio of processor time (user and system) stands beside that of wall-clock time: on a shared
machine it is the steadier of the two.
"""

import resource
import statistics
import subprocess
import time
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import shells
from tests.benchmarks.timing import ROOT, Bench, Command, Installed
from tests.support import loopback as google
from vertex_env.sandbox.server import Sandbox


class Spent(NamedTuple):
    """What one run of a command took, in milliseconds."""

    wall: float
    cpu: float


def table(folder: Path, sandbox: Sandbox, revision: str, rounds: int) -> None:
    """Print a row for each command: median of this tree divided by that of *revision*."""
    trees = {"new": ROOT, "old": _checkout(folder, revision)}
    benches = {}
    for name, tree in trees.items():
        own = folder / name
        own.mkdir()
        benches[name] = Bench([_install(own, tree)], sandbox, own, rounds)
    print(f"{'what':<44} {'wall clock':>10} {'processor':>10}  (ms now / ms then)", flush=True)
    rows = {name: _commands(bench) for name, bench in benches.items()}
    for what in rows["new"]:
        commands = {name: rows[name][what] for name in rows}
        _row(what, commands, rounds)


def _checkout(folder: Path, revision: str) -> Path:
    tree = folder / "tree"
    tree.mkdir()
    archive = subprocess.run(
        ["git", "archive", revision], cwd=ROOT, check=True, capture_output=True
    )
    subprocess.run(["tar", "x", "-C", str(tree)], input=archive.stdout, check=True)
    return tree


def _install(folder: Path, tree: Path) -> Installed:
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / "bin"
    pip = [str(programs / "python"), "-m", "pip", "install", "-q", "-U"]
    subprocess.run([*pip, "pip>=25.2"], check=True)
    subprocess.run([*pip, str(tree)], check=True)
    return Installed(tree.name, programs)


def _commands(bench: Bench) -> dict[str, Command]:
    """What is measured, by its name in the table; each has run once."""
    program, env = bench.installed[0].program, bench.environ("store")
    cold = {**bench.environ("cold"), "VERTEX_ENV_STORE": "none"}
    kinds = {
        "user": google.external_account_authorized_user(bench.sandbox.url),
        "service account": google.service_account(bench.sandbox.url),
    }
    found = {
        "warm export": Command((program, "export"), env),
        "warm token": Command((program, "token"), env),
        "run -- true": Command((program, "run", "--", "true"), env),
        "run --on-expiry ignore -- true": Command(
            (program, "run", "--on-expiry", "ignore", "--", "true"), env
        ),
        "status": Command((program, "status"), env),
    }
    for name, info in kinds.items():
        path = google.write_adc(bench.folder / f"{name}.json", info)
        environ = {**cold, "GOOGLE_APPLICATION_CREDENTIALS": str(path)}
        found[f"cold mint, {name}"] = Command((program, "token"), environ)
    for command in found.values():
        for _ in range(2):  # the first mints, the second remembers
            command.time()
    return {**found, **_starts(bench)}


def _starts(bench: Bench) -> dict[str, Command]:
    """Starts of shells with the sourced hook; `bare` ones beside them show what the shell itself takes."""
    env = bench.environ("shells")
    env["PATH"] = f"{bench.installed[0].programs}:{env['PATH']}"
    time.sleep(2.5)  # until the files are old enough to be remembered for shells
    subprocess.run(
        ["vertex-env", "export", "--format", "lines"],
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    found = {}
    for shell in ("bash", "zsh", "fish"):
        folder = bench.folder / shell
        folder.mkdir()
        file = folder / f"hook.{shell}"
        file.write_text(_hook(shell, env))
        found[f"{shell} starts, bare"] = shells.start(env, shell, folder / "bare", "")
        source = "source" if shell == "fish" else "."
        found[f"{shell} starts with the hook"] = shells.start(
            env, shell, folder / "start", f"{source} {file}"
        )
    return found


def _hook(shell: str, env: Mapping[str, str]) -> str:
    done = subprocess.run(
        ["vertex-env", "hook", shell], env=dict(env), check=True, capture_output=True, text=True
    )
    return done.stdout


def _row(what: str, commands: Mapping[str, Command], rounds: int) -> None:
    runs: dict[str, list[Spent]] = {name: [] for name in commands}
    for i in range(rounds + 2):
        for name in sorted(commands, reverse=bool(i % 2)):
            runs[name].append(_spent(commands[name]))
    new, old = (
        Spent(*(statistics.median(column) for column in zip(*runs[name][2:], strict=True)))
        for name in ("new", "old")
    )
    print(
        f"{what:<44} {new.wall / old.wall:>8.3f} x {new.cpu / old.cpu:>8.3f} x"
        f"  ({new.wall:.2f} / {old.wall:.2f}; {new.cpu:.2f} / {old.cpu:.2f})",
        flush=True,
    )


def _spent(command: Command) -> Spent:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = command.time() * 1000
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Spent(wall, cpu * 1000)
