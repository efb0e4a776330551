"""Small facts that cost a request and are no secrets, each remembered for a while."""

import json
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from vertex_env.cache import private
from vertex_env.cache.folder import write_private
from vertex_env.freshness import epoch_seconds


class Notes:
    """Small facts that cost a request and are no secrets, each remembered for a while.

    Args:
        folder: As for `FileStore`; without one nothing is remembered.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def path(self, name: str) -> Path | None:
        """The file of the fact under *name*."""
        return self.folder and self.folder / private.NOTE.name(name)

    def load(self, name: str) -> tuple[dict[str, Any], float] | None:
        """The fact under *name*, such as `{"id": "123", "host": "…"}`, and the epoch second until which it holds."""
        path = self.path(name)
        try:
            note = json.loads((path and private.read_private(str(path))) or b"")
            fact, until = note["fact"], epoch_seconds(note["until"])
            holds = epoch_seconds(note["from"]) <= time.time() < until
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return (fact, until) if holds and isinstance(fact, dict) else None

    def save(self, name: str, fact: Mapping[str, Any], keep: timedelta) -> None:
        """Remember *fact* for *keep*."""
        now, path = time.time(), self.path(name)
        note = {"from": now, "until": now + keep.total_seconds(), "fact": dict(fact)}
        if path is not None:
            write_private(path, json.dumps(note).encode())
