"""Programs that tests run for real."""

import os
import shutil
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
    path = os.environ.get(f"VERTEX_ENV_TESTS_{program.upper()}") or shutil.which(program, path=folders)
    return path or missing(f"{program} is not installed")


def missing(what: str) -> NoReturn:
    """Skip the test because of *what*, such as `fish is not installed`; with `VERTEX_ENV_TESTS_STRICT=1` fail it."""
    if os.environ.get("VERTEX_ENV_TESTS_STRICT") == "1":
        pytest.fail(f"{what}, and VERTEX_ENV_TESTS_STRICT=1 allows no skips", pytrace=False)
    pytest.skip(what)
