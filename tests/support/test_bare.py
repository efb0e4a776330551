"""The run as on a bare machine: what it finds, and when it fails."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import bare

ROOT = Path(__file__).parents[2]


def test_path_has_the_base_system_only(tmp_path: Path) -> None:
    """Python, git and the system's tools, and none of the programs that `.ci/run` installs."""
    more = tmp_path / "more"
    more.mkdir()
    for name in ("curl", "zsh"):
        (more / name).symlink_to("/bin/true")
    path = f"{more}:{os.environ['PATH']}"
    (folder := tmp_path / "bin").mkdir()
    bare.fill(folder, path)
    environ = bare.environ_for(
        folder, {"PATH": path, "VERTEX_ENV_TESTS_STRICT": "1", "VERTEX_ENV_TESTS_ZSH": "/z"}
    )
    assert environ == {"PATH": str(folder)}
    for name in ("sh", "bash", "grep", "sed", "stty", "env", "git", "python3"):
        assert shutil.which(name, path=environ["PATH"]), name
    ours = "curl direnv elvish fish ksh mksh node npm pwsh shellcheck shfmt strace tcsh tmux zsh dbus-daemon".split()  # noqa: SIM905
    assert [name for name in ours if shutil.which(name, path=environ["PATH"])] == []
    # Control: they are there to be found.
    assert shutil.which("curl", path=path)
    assert shutil.which("zsh", path=path)


def test_python_is_not_that_of_the_virtual_environment(tmp_path: Path) -> None:
    """It runs, and has nothing of the environment's packages."""
    bare.fill(tmp_path)
    show = "import sys; print(sys.version_info[:2], sys.prefix == sys.base_prefix)"
    done = subprocess.run(
        [tmp_path / "python3", "-I", "-c", show], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{sys.version_info[:2]} True\n"


SUITE = """
import os
import shutil
from tests.support.tools import need

"""
RUNS = """
def test_{n}():
    assert need("grep")
    assert shutil.which("git")
    assert "VERTEX_ENV_TESTS_STRICT" not in os.environ
"""
SKIPS = """
def test_{n}():
    need("no-such-program")
"""
FAILS = """
def test_{n}():
    assert False
"""


@pytest.mark.parametrize(
    ("ran", "skipped", "failed", "status"),
    [(6, 4, 0, 0), (5, 5, 0, 1), (9, 0, 1, 1), (0, 3, 0, 1)],
    ids=["enough", "too few", "a failure", "none"],
)
def test_enough_have_to_run(
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    ran: int,
    skipped: int,
    failed: int,
    status: int,
) -> None:
    """It prints passed and skipped, and fails if a test does or fewer than 60 % ran."""
    tests = [RUNS] * ran + [SKIPS] * skipped + [FAILS] * failed
    (tmp_path / "test_suite.py").write_text(
        SUITE + "".join(text.format(n=n) for n, text in enumerate(tests))
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "VERTEX_ENV_TESTS_STRICT": "1"}
    arguments = [
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rootdir={tmp_path}",
        "-c",
        os.devnull,
        str(tmp_path),
    ]
    assert bare.main(arguments, {**environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}) == status
    said = capfd.readouterr()
    assert f"bare machine: {ran} passed, {failed} failed, {skipped} skipped\n" in said.out
    assert ("of the tests ran" in said.err) == (ran + failed < 6)


def test_a_run_without_a_report_fails(capfd: pytest.CaptureFixture[str]) -> None:
    """As where pytest does not know an option."""
    assert bare.main(["--no-such-option"]) != 0
    assert "0 passed, 0 failed, 0 skipped" in capfd.readouterr().out


def test_the_gate_runs_it_last() -> None:
    """After the strict run, in the same virtual environment."""
    commands = [
        line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and line[0] != "#"
    ]
    assert commands[-1] == ".venv/bin/python -m tests.support.bare -n2"
