"""Programs that tests run for real."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def need(program: str) -> str:
    """Path of *program*, such as `fish`; `$VERTEX_ENV_TESTS_FISH` says where it is if neither on PATH nor with Python.

    An absent program skips the test, with its name; with `VERTEX_ENV_TESTS_STRICT=1` it fails the test, so that CI
    cannot lose a shell without anybody noticing.
    """
    folders = os.pathsep.join([*os.get_exec_path(), str(Path(sys.executable).parent)])
    path = os.environ.get(f"VERTEX_ENV_TESTS_{program.upper()}") or shutil.which(
        program, path=folders
    )
    return path or missing(f"{program} is not installed")


def need_namespaces(*options: str) -> tuple[str, ...]:
    """The words before a command that give it namespaces of its own, such as `unshare -r -n`.

    Where they are not allowed, the test is skipped or fails as with `need`.
    """
    command = (need("unshare"), "-r", *options)
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        missing(f"no namespaces are allowed: {shlex.join(command)}")
    return command


def missing(what: str) -> NoReturn:
    """Skip the test because of *what*, such as `fish is not installed`; with `VERTEX_ENV_TESTS_STRICT=1` fail it."""
    if os.environ.get("VERTEX_ENV_TESTS_STRICT") == "1":
        pytest.fail(f"{what}, and VERTEX_ENV_TESTS_STRICT=1 allows no skips", pytrace=False)
    pytest.skip(what)
