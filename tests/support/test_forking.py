"""A forked child ends in `fork`, whatever it does."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.forking import FAILED, IN_A_SCRIPT

TESTS = Path(__file__).parents[1]
OS, PTY = "os", "pty"
WAYS = {
    "pass": 0,
    "sys.exit()": 0,
    "sys.exit(7)": 7,
    "sys.exit('words')": 1,
    "os._exit(8)": 8,
    "1 / 0": FAILED,
    "raise KeyboardInterrupt": FAILED,
    "raise GeneratorExit": FAILED,
    "pytest.skip('zsh is not installed')": FAILED,
    "pytest.fail('no')": FAILED,
}
"""What a child does last, and its status."""

SUITE = """
import os
import pytest

@pytest.mark.parametrize(("way", "status"), {ways!r}.items())
def test_one(way, status):
    pid = fork(lambda: exec(way))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status

def test_two():
    with open("seen", "a") as file:
        file.write("once\\n")
"""
"""Tests, of which the first ones have such children."""

UNPROTECTED = "\nimport os\nos._exit = lambda status: None\n"


def runs(folder: Path, ways: Mapping[str, int], before: str = "") -> int:
    """How often the last test of a suite runs whose other tests have children that end in *ways*."""
    (folder / "test_suite.py").write_text(IN_A_SCRIPT + before + SUITE.format(ways=dict(ways)))
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_suite.py"]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        argv, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert before or done.returncode == 0, done.stdout
    return (folder / "seen").read_text().count("once")


def test_a_child_ends_there(tmp_path: Path) -> None:
    """The rest of the suite runs once, and the parent learns each child's status."""
    assert runs(tmp_path, WAYS) == 1


def test_without_the_helper_a_child_goes_on(tmp_path: Path) -> None:
    """Control: where `os._exit` does nothing, the child is a second run of the rest."""
    way = "pytest.skip('zsh is not installed')"
    assert runs(tmp_path, {way: WAYS[way]}, UNPROTECTED) == 2


BARE = re.compile(r"\b(?:os|pty)\s*\.\s*fork(?:pty)?\b|from (?:os|pty) import .*\bfork")


def bare_forks(text: str) -> list[str]:
    """The lines that fork by themselves, in scripts that are texts as well."""
    return [line.strip() for line in text.splitlines() if BARE.search(line)]


def test_nothing_else_forks() -> None:
    """Tests, and the scripts in them, fork by `tests.support.forking` only."""
    texts = {path: path.read_text() for path in TESTS.rglob("*.py")}
    found = {
        str(path.relative_to(TESTS)): lines
        for path, text in texts.items()
        if (lines := bare_forks(text))
    }
    calls = [f"pid = {OS}.fork()", f"pid, terminal = {PTY}.fork()"]
    assert found == {"support/forking.py": calls}


@pytest.mark.parametrize(
    "line",
    [
        f"pid = {OS}.fork()",
        f"if {PTY}.fork()[0] == 0:",
        f"'pid = {OS}.forkpty()\\n'",
        f"f = {OS} . fork",
        f"from {OS} import getpid, fork",
    ],
)
def test_a_bare_fork_is_found(line: str) -> None:
    """Control: in code and in texts."""
    assert bare_forks(f"import os\n{line}\n") == [line]
