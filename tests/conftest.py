"""What holds for all tests: those of `run` pass on the POSIX back-end as well, but for the rows that are named."""

import os

import pytest

from tests.posixrows import LINUX_ONLY
from vertex_env import warm

IS_FORCED = os.environ.get(warm.FORCED) == "posix"
LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only Linux can hold, where the back-end for POSIX is forced: by name, as no skip."""
    if IS_FORCED:
        left_out = [item for item in items if item.name in LINUX_ONLY]
        config.stash[LEFT_OUT] = [item.name for item in left_out]
        items[:] = [item for item in items if item.name not in LINUX_ONLY]
        config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, and why."""
    for name in config.stash.get(LEFT_OUT, []):
        terminalreporter.write_line(f"LINUX ONLY {name}: {LINUX_ONLY[name]}")
