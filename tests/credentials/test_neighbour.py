"""A neighbour on the network poses as the metadata server: real sockets in a network namespace."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes import PLANTED
from tests.support.loopback import clean_environ
from tests.support.tools import need_namespaces
from vertex_env.credentials.metadata import NAME_IT
from vertex_env.vertex.refusals import LOGIN

ROOT = Path(__file__).parents[2]
GOOGLE, EVIL = "googleapis.com", "evil.example"
EXPORT = (sys.executable, "-P", "-m", "vertex_env", "export")
BELIEVED = {"K_SERVICE": "x"}


def visit(folder: Path, universe: str, *command: str, **environ: str) -> dict[str, Any]:
    """What came of *command* where a server of *universe* answers, and what that was asked."""
    env = {**clean_environ(folder), "NO_GCE_CHECK": "", **environ}
    drive = [
        *need_namespaces("-n", "-m"),
        sys.executable,
        "-m",
        "tests.support.neighbour",
        universe,
    ]
    ended = subprocess.run(
        [*drive, *command], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


@pytest.mark.parametrize("universe", [GOOGLE, EVIL])
@pytest.mark.parametrize("command", ["export", "token", "status"])
def test_nothing_is_asked(tmp_path: Path, universe: str, command: str) -> None:
    """Where nothing says that the machine is Google's, the neighbour hears nothing and gives nothing."""
    told = visit(tmp_path, universe, *EXPORT[:-1], command)
    assert told["asked"] == []
    assert (told["status"], told["stdout"]) == (78, "false\n" if command == "export" else "")
    error, hint = told["stderr"].splitlines()
    assert error.endswith(
        "and nothing says that this machine is Google's and has a metadata server"
    )
    assert hint == f"vertex-env: hint: run: {LOGIN}; on a machine of Google's: {NAME_IT}"


@pytest.mark.parametrize(
    "environ",
    [BELIEVED, {"GCE_METADATA_HOST": "metadata.google.internal"}],
    ids=["runtime", "the hint"],
)
def test_control_believed_it_is_asked(tmp_path: Path, environ: dict[str, str]) -> None:
    """The same drive where the environment vouches for the server; the hint's command is one such way."""
    told = visit(tmp_path, GOOGLE, *EXPORT, **environ)
    assert (told["status"], told["stderr"]) == (0, "")
    assert "/projects/evil-project/" in told["stdout"]
    assert "/computeMetadata/v1/universe/universe-domain" in told["asked"]


WITHOUT = (
    "from vertex_env.credentials import metadata; metadata.is_credible = lambda environ: True; "
)
CHILD = (
    sys.executable,
    "-P",
    "-c",
    WITHOUT + "from vertex_env.entry import main; main()",
    "export",
)


def test_control_without_the_question(tmp_path: Path) -> None:
    """The same drive with the question taken out: the neighbour's project gets the prompts."""
    told = visit(tmp_path, GOOGLE, *CHILD)
    assert told["status"] == 0
    assert "/projects/evil-project/" in told["stdout"]


@pytest.mark.parametrize(
    "environ", [{}, {"GOOGLE_CLOUD_UNIVERSE_DOMAIN": "other.example"}], ids=["unset", "another"]
)
def test_another_universe(tmp_path: Path, environ: dict[str, str]) -> None:
    """A believed server that names another universe than the user gets no token minted."""
    told = visit(tmp_path, EVIL, *EXPORT, **BELIEVED, **environ)
    assert (told["status"], told["stdout"]) == (78, "false\n")
    assert told["stderr"].endswith(" export GOOGLE_CLOUD_UNIVERSE_DOMAIN=evil.example\n")
    assert [path for path in told["asked"] if path.endswith("/token")] == []


def test_control_another_universe_that_is_named(tmp_path: Path) -> None:
    """The same drive with the user's consent."""
    told = visit(tmp_path, EVIL, *EXPORT, **BELIEVED, GOOGLE_CLOUD_UNIVERSE_DOMAIN=EVIL)
    assert (told["status"], told["stderr"]) == (0, "")
    assert "OPENAI_BASE_URL='https://aiplatform.evil.example/" in told["stdout"].replace('"', "'")


def test_a_remembered_answer_does_not_outlive_what_vouched_for_it(tmp_path: Path) -> None:
    """Once the variable is gone, neither the answer nor the stored token is given out."""
    script = 'K_SERVICE=x "$@" >/dev/null && K_SERVICE=x "$@" && "$@"'
    told = visit(tmp_path, GOOGLE, "sh", "-c", script, "sh", *EXPORT)
    assert told["status"] == 78
    assert told["stdout"].count(PLANTED) == 1
    assert told["stdout"].endswith("\nfalse\n")
