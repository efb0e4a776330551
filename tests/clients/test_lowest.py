"""The oldest versions of its dependencies that vertex-env says it works with."""

import os
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.clients.installs import Install
from tests.clients.world import ROOT

PINS = tuple(
    text.replace(">=", "==")
    for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
)
LOWEST = Install("lowest", "pypi", PINS)
PROGRAM = (str(LOWEST.folder / "bin" / "python"), "-P", "-m", "vertex_env")


@pytest.mark.parametrize(
    ("args", "status", "begin"),
    [
        (("--help",), 0, "Usage: vertex-env"),
        (("sandbox", "--", *PROGRAM, "export"), 0, "if `unset"),
        (("sandbox", "--", *PROGRAM, "run", "--", "env"), 0, ""),
        (("export", "--format", "nope"), 2, "false\n"),
        ((), 2, ""),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, tuple) else None,
)
def test_the_lowest_versions_serve(
    args: Sequence[str], status: int, begin: str, tmp_path: Path
) -> None:
    """Commands start, parse, mint and fail as with the newest ones, without a traceback."""
    LOWEST.ensure()
    environ = {"PATH": os.defpath, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*PROGRAM, *args], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    assert done.stdout.startswith(begin)
