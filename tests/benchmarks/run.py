"""`run`: what it adds to the start of a command, and what it takes while the command runs."""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import peers
from tests.benchmarks.timing import Bench, Command, ratio, row
from tests.support.processes import Process, children

# The least that a wrapper written in Python does.
WRAPPER = """
import os, sys
os.execvp(sys.argv[1], sys.argv[1:])
"""
OURS = "vertex-env run"
SETTLED_S = 5
WATCHED_S = 60
"""A whole minute: of an interval of half a minute, a shorter look would see none or too many."""


def rows(bench: Bench) -> None:
    """All of it."""
    with peers.found(bench.folder) as others:
        overhead(bench, others)
        if sys.platform == "linux":
            resident(bench, others)
        else:
            print("(memory and wake-ups are read from /proc, which is Linux's)")


def overhead(bench: Bench, others: Sequence[peers.Peer]) -> None:
    """`run -- true` with a stored token, against a wrapper that does nothing and against other programs."""
    installed, env = bench.installed[0], bench.environ("run")
    wrapper = bench.folder / "wrapper.py"
    wrapper.write_text(WRAPPER)
    bare = Command((installed.python, str(wrapper), "true"), env)
    # stdin is /dev/null, which is not data: `auto` supervises.
    supervised = Command((installed.program, "run", "--", "true"), env)
    in_place = Command((installed.program, "run", "--on-expiry", "ignore", "--", "true"), env)
    for command in (supervised, in_place):
        for _ in range(2):  # the first mints, the second remembers
            command.time()
    row(
        "run --on-expiry ignore -- true",
        "Python's os.execvp",
        ratio(in_place, bare, bench.rounds),
        "<= 1.6",
    )
    row("run -- true", "Python's os.execvp", ratio(supervised, bare, bench.rounds), "<= 2.2")
    for peer in others:
        theirs = Command((*peer.argv, "true"), peer.environ)
        row("run -- true", peer.name, ratio(supervised, theirs, max(3, bench.rounds // 2)), "< 1")


class Usage(NamedTuple):
    """What a program takes that waits for its command."""

    mib: float
    """Rss of smaps_rollup."""
    threads: int
    waits: int
    """How often its threads went to sleep so far, which is how often they will have woken up. Involuntary switches are
    not counted: these tell how busy the machine is."""


def resident(bench: Bench, others: Sequence[peers.Peer]) -> None:
    """Memory, threads and wake-ups of `run` and the other programs, all watched at the same time."""
    argv, env = (bench.installed[0].program, "run", "--"), bench.environ("resident")
    for _ in range(2):
        Command((*argv, "true"), env).time()
    commands: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {
        OURS: (argv, env),
        # Nothing is remembered there: what answers then stays in memory.
        f"{OURS}, the first time": (argv, bench.environ("resident-first")),
        **{peer.name: (peer.argv, peer.environ) for peer in others},
    }
    with ExitStack() as stack:
        processes = {}
        for i, (name, (before_command, environ)) in enumerate(commands.items()):
            folder = bench.folder / f"cwd-{i}"
            folder.mkdir()
            sleep = (*before_command, "sleep", str(SETTLED_S + WATCHED_S + 60))
            processes[name] = stack.enter_context(Process(sleep, environ, folder)).pid
        time.sleep(SETTLED_S)
        before = {name: usage(pid) for name, pid in processes.items()}
        time.sleep(WATCHED_S)
        after = {name: usage(pid) for name, pid in processes.items()}
    print(
        f"\n{'while the command runs':<44} {'MiB (Rss)':>10} {'threads':>8} {'wake-ups a minute':>18}"
    )
    for name, seen in after.items():
        wake_ups = (seen.waits - before[name].waits) * 60 / WATCHED_S
        goal = "goal <= 12, 1, <= 2" if name == OURS else ""
        print(
            f"{name:<44} {seen.mib:>10.1f} {seen.threads:>8} {wake_ups:>18.0f}  {goal}".rstrip(),
            flush=True,
        )


def usage(pid: int) -> Usage:
    """Of process *pid* and all that it has started, but for the command."""
    own = Path(f"/proc/{pid}")
    if (own / "comm").read_text() == "sleep\n":
        return Usage(0, 0, 0)
    (kib,) = (
        line.split()[1]
        for line in (own / "smaps_rollup").read_text().splitlines()
        if line.startswith("Rss:")
    )
    tasks = [(task / "status").read_text().splitlines() for task in (own / "task").iterdir()]
    waits = [
        int(line.split()[1])
        for task in tasks
        for line in task
        if line.startswith("voluntary_ctxt_switches:")
    ]
    below = [usage(child) for child in children(pid)]
    return Usage(
        int(kib) / 1024 + sum(each.mib for each in below),
        len(tasks) + sum(each.threads for each in below),
        sum(waits) + sum(each.waits for each in below),
    )
