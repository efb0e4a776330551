"""The start of `run` with a remembered answer: the same as without, but for what is imported."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.loopback import clean_environ
from vertex_env.sandbox.server import Sandbox

PROGRAM = (
    sys.executable,
    "-P",
    "-X",
    "importtime",
    "-c",
    "from vertex_env.entry import main; main()",
)
SHOW = (
    sys.executable,
    "-S",
    "-c",
    "import os; print(sorted((k, v) for k, v in os.environ.items() if k != 'LC_CTYPE'))",
)

INTERRUPTED = """
import os, signal, sys
from importlib.abc import MetaPathFinder
at = sys.argv[1]
class Signals(MetaPathFinder):
    def find_spec(self, name, *_):
        if name == at:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Signals())
from vertex_env.entry import main
sys.argv[1:] = ["run", "--", "true"]
main()
"""
"""`run` that gets a Ctrl-C while it imports a module."""


def run(env: Mapping[str, str], *args: str) -> tuple[int, str, set[str], str]:
    """Status, stdout, modules imported, and what else was said."""
    done = subprocess.run(
        [*PROGRAM, "run", *args],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    # What `.pth` files of this environment import is not ours.
    floor = subprocess.run(
        [*PROGRAM[:-1], "pass"], env=env, capture_output=True, text=True, check=True
    ).stderr
    imported = {
        line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")
    }
    imported -= {line.rpartition("|")[2].strip() for line in floor.splitlines()}
    said = "\n".join(line for line in lines if not line.startswith("import time:"))
    return done.returncode, done.stdout, imported, said


@pytest.mark.parametrize("policy", ["auto", "ignore"])
def test_the_second_start_imports_no_click(tmp_path: Path, policy: str) -> None:
    """It gives the command the same environment, without Click, json, re or google."""
    with Sandbox(lifetime=timedelta(hours=1)) as google:
        env = google.environ(str(tmp_path), clean_environ(tmp_path)) | {"OPENAI_ORG_ID": "org-x"}
        args = ("--on-expiry", policy, "--client", "goose", "--set", "X=a b {host}", "--", *SHOW)
        run(env, *args)  # mints in a process of its own
        status, cold, imported, _ = run(env, *args)  # remembers
        assert (status, "click" in imported) == (0, True)
        status, warm, imported, said = run(env, *args)
        assert google.counts["token"] == 1
    assert (status, said) == (0, "")
    assert warm == cold
    assert "('OPENAI_HOST', " in warm
    assert "OPENAI_ORG_ID" not in warm
    heavy = {
        "click",
        "google",
        "keyring",
        "json",
        "re",
        "tomllib",
        "datetime",
        "dataclasses",
        "typing",
        "pathlib",
    }
    in_place = (
        {"contextlib", "enum", "signal", "vertex_env.run.supervisor"}
        if policy == "ignore"
        else set[str]()
    )
    assert imported & (heavy | in_place) == set()


@pytest.mark.parametrize("at", ["entry", "cache.answers", "freshness", "cli.main"])
def test_an_early_ctrl_c_is_no_traceback(tmp_path: Path, at: str) -> None:
    """All but what starts Python and `entry` itself, where nothing of ours has run yet: the control."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", INTERRUPTED, f"vertex_env.{at}"],
        env=clean_environ(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGINT
    assert ("KeyboardInterrupt" in done.stderr) == (at == "entry")
    assert at == "entry" or done.stderr == ""


def test_it_ends_as_the_command_does(tmp_path: Path) -> None:
    """Exit status, death by a signal, and a command that is not there."""
    with Sandbox(lifetime=timedelta(hours=1)) as google:
        env = google.environ(str(tmp_path), clean_environ(tmp_path))
        for _ in range(2):
            run(env, "--", "true")
        assert run(env, "--", "sh", "-c", "exit 7")[0] == 7
        assert run(env, "--", "sh", "-c", "kill -TERM $$")[0] == -15
        status, stdout, _, said = run(env, "--", "nosuch")
    assert (status, stdout) == (127, "")
    assert (
        said
        == "vertex-env: error: nosuch: command not found\nvertex-env: hint: check the name and PATH"
    )


def test_it_renews(tmp_path: Path) -> None:
    """A command started from a remembered answer is started anew in time, with the command line's settings."""
    script = 'test "$VERTEX_ENV_GENERATION" = 1 && echo "$OPENAI_MODEL" || exec sleep 60'
    args = ("--model", "google/gemini-x", "--", "sh", "-c", script)
    with Sandbox(lifetime=timedelta(seconds=6)) as google:
        env = google.environ(str(tmp_path), clean_environ(tmp_path))
        for _ in range(2):
            run(env, *args[:3], "true")
        status, stdout, imported, said = run(env, *args)
    assert (status, stdout) == (0, "google/gemini-x\n")
    assert "click" not in imported
    assert "starting the command anew (no. 1)" in said


def test_the_supervisor_is_small(tmp_path: Path) -> None:
    """It is there for as long as the command is: 12 MiB at most, of which Python itself takes 8 to 10.

    However it started: with a token to mint, with a stored one, with remembered variables, and with no store at all.
    """
    show = "import os; print(open(f'/proc/{os.getppid()}/status').read())"
    with Sandbox(lifetime=timedelta(hours=1)) as google:
        env = google.environ(str(tmp_path), clean_environ(tmp_path))
        command = (sys.executable, "-S", "-c", show)
        ways = [("--", *command)] * 3 + [
            ("--on-expiry", "restart", *command),
            ("--store", "none", "--", *command),
        ]
        bare, *ours = (
            subprocess.run(
                argv, env=env, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
            ).stdout
            for argv in [
                (sys.executable, "-c", "print(open('/proc/self/status').read())"),
                *((sys.executable, "-P", "-m", "vertex_env", "run", *way) for way in ways),
            ]
        )
    floor, *sizes = (int(text.partition("VmRSS:")[2].split()[0]) for text in (bare, *ours))
    assert len(sizes) == len(ways)
    assert max(sizes) < max(12 * 1024, floor + 3 * 1024)


def test_what_is_handed_over_stays_with_us(tmp_path: Path) -> None:
    """The command learns nothing of it, neither by a variable nor by a descriptor; nonsense in it is no matter."""
    show = "import os; print(sorted(os.environ), [fd for fd in range(3, 40) if os.path.exists(f'/proc/self/fd/{fd}')])"
    with Sandbox(lifetime=timedelta(hours=1)) as google:
        env = google.environ(str(tmp_path), clean_environ(tmp_path))
        args = ("--", sys.executable, "-S", "-c", show)
        first, second, third = (
            run(env, *args),
            run(env, *args),
            run({**env, "_VERTEX_ENV_START": "0:9"}, *args),
        )
    assert first[:2] == second[:2] == third[:2]
    assert "_VERTEX_ENV_START" not in first[1]
    assert first[1].endswith(" []\n")
