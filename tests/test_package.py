"""The wheel and the editable install: what people get is what was tested."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.loopback import clean_environ
from vertex_env import __version__
from vertex_env.formats.shellfiles import shell_dir
from vertex_env.sandbox.server import Sandbox

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of programs of a fresh virtual environment with the wheel in it, and this one's libraries but not its
    editable install."""
    folder = tmp_path_factory.mktemp("wheel")
    build = (
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    )
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    (wheel,) = folder.glob("vertex_env-*.whl")
    venv.create(folder / "venv", with_pip=False)
    programs = folder / "venv" / "bin"
    into = ("--python", str(programs / "python"), "install", "--quiet", "--no-deps", str(wheel))
    subprocess.run([sys.executable, "-m", "pip", *into], check=True)
    # A plain path in a .pth file is not searched for .pth files itself, so the editable install stays out of reach.
    (site,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def environ(folder: Path) -> dict[str, str]:
    env = clean_environ(folder)
    env.pop("PYTHONPATH", None)
    return env


def test_the_wheel_works_without_the_source(installed: Path, tmp_path: Path) -> None:
    """The program of an installed wheel exports variables, and its code is the wheel's."""
    with Sandbox(lifetime=timedelta(minutes=5)) as google:
        env = google.environ(str(tmp_path), environ(tmp_path))
        export = subprocess.run(
            [installed / "vertex-env", "export", "--format", "json"],
            env=env, cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    assert export.stderr == ""
    assert json.loads(export.stdout)["OPENAI_BASE_URL"].startswith(google.url)
    code = "import vertex_env; print(vertex_env.__file__)"
    where = subprocess.run(
        [installed / "python", "-P", "-c", code],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert Path(os.fsdecode(where.stdout).strip()).is_relative_to(installed.parent)


def test_the_wheel_carries_the_shell_files(installed: Path, tmp_path: Path) -> None:
    """`shell_dir()` of an installed wheel has every file of the checkout's `shell/`."""
    code = "from vertex_env.formats.shellfiles import shell_dir; import json; print(json.dumps(str(shell_dir())))"
    done = subprocess.run(
        [installed / "python", "-P", "-c", code],
        env=environ(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    found = Path(json.loads(done.stdout))
    assert found.is_relative_to(installed.parent)
    names = {
        path.relative_to(ROOT / "shell") for path in (ROOT / "shell").rglob("*") if path.is_file()
    }
    assert names
    assert {path.relative_to(found) for path in found.rglob("*") if path.is_file()} == names


def test_an_editable_install_reads_the_checkout() -> None:
    """Without a wheel the files are the checkout's own, so that editing one needs no reinstall."""
    assert shell_dir() == ROOT / "shell"


def test_the_version_stands_once(installed: Path, tmp_path: Path) -> None:
    """The program tells the version that the package has, and the changelog knows it."""
    done = subprocess.run(
        [installed / "vertex-env", "--version"],
        env=environ(tmp_path),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == f"vertex-env {__version__}\n"
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
