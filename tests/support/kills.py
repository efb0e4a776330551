"""Processes that mint and store, killed at random instants. A module of its own, as a small interpreter forks fast."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.forking import fork
from vertex_env.errors import VertexEnvError
from vertex_env.tokens.broker import Broker
from vertex_env.tokens.store import FileStore
from vertex_env.tokens.token import Token

KEY = "a" * 64


def now() -> datetime:
    return datetime.now(UTC)


class Counted:
    """A source that mints, or fails, and counts."""

    def __init__(self, error: VertexEnvError | None = None) -> None:
        self.error = error
        self.count = 0

    def mint(self) -> Token:
        self.count += 1
        if self.error:
            raise self.error
        return Token(f"ya29.{os.getpid()}.{self.count}", now() + timedelta(hours=1), now())


def broker(folder: Path, source: Counted, clock: Callable[[], datetime] = now) -> Broker:
    return Broker(source, FileStore(folder), KEY, timedelta(minutes=5), clock, lambda _: None)


def _mint_for_ever(folder: Path) -> None:
    each = broker(folder, Counted())
    while True:
        each.token(refresh=True)


def kill(folder: Path, times: int) -> int:
    """Kill a process *times* times, and look at the store after each; how often that had a token."""
    dice = random.Random(7)
    store = FileStore(folder)
    found = 0
    for i in range(times):
        pid = fork(lambda: _mint_for_ever(folder))
        time.sleep(dice.random() * 0.004)
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        stored = store.load(KEY)
        found += stored is not None
        assert (stored is None) == (not (folder / f"{KEY}.token").exists()), "half a token"
        if i % 20 == 0:
            asked = time.monotonic()
            assert broker(folder, Counted()).token().value.startswith("ya29.")
            assert time.monotonic() - asked < 20, "it waited for a lock that nobody holds"
    return found


if __name__ == "__main__":
    print(kill(Path(sys.argv[1]), int(sys.argv[2])))
