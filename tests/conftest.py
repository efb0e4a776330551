"""What holds for all tests: those of `run` pass on the POSIX back-end as well, but for the rows that are named."""

import os

import pytest

from tests.posixrows import LINUX_ONLY
from vertex_env import warm


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only Linux can hold, where the back-end for POSIX is forced: by name, as no skip."""
    if os.environ.get(warm.FORCED) != "posix":
        return
    left_out = [item for item in items if item.name in LINUX_ONLY]
    items[:] = [item for item in items if item.name not in LINUX_ONLY]
    config.hook.pytest_deselected(items=left_out)
