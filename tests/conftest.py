"""What holds for all tests: those of `run` pass on the POSIX back-end as well, but for the rows that are named."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.posixrows import LINUX_ONLY
from tests.support.processes import ON, Log, warmed
from vertex_env import program

IS_FORCED = os.environ.get(program.FORCED) == "posix"
LEFT_OUT = pytest.StashKey[list[str]]()


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a login on a sandbox, with a stored token that lives for an hour."""
    with warmed(tmp_path_factory.mktemp("hour")) as env:
        yield env


@pytest.fixture(params=ON)
def wrapper(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What stands before a command: nothing, or `vertex-env run`."""
    return ON[request.param]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Where a probe notes what happens to it."""
    return Log(tmp_path)


def row(item: pytest.Item) -> str:
    """Its name in the table."""
    return f"{item.path.name}::{item.name}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only Linux can hold, where the back-end for POSIX is forced: by name, as no skip."""
    rows, files = {row(item) for item in items}, {item.path.name for item in items}
    if not any("::" in argument for argument in config.args):
        gone = sorted(name for name in LINUX_ONLY.keys() - rows if name.partition("::")[0] in files)
        if gone:
            raise pytest.UsageError(
                f"no test has the name of a row of tests/support/posixrows.py: {', '.join(gone)}"
            )
    if IS_FORCED:
        left_out = [item for item in items if row(item) in LINUX_ONLY]
        config.stash[LEFT_OUT] = [row(item) for item in left_out]
        items[:] = [item for item in items if row(item) not in LINUX_ONLY]
        config.hook.pytest_deselected(items=left_out)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Have a worker tell the process that reports what was left out."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash.get(LEFT_OUT, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take from a worker what was left out; each has seen all tests."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was left out, and why."""
    for name in config.stash.get(LEFT_OUT, []):
        terminalreporter.write_line(f"LINUX ONLY {name}: {LINUX_ONLY[name]}")
