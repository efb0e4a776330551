"""Notes: facts that cost a request to look up, are not secret, and are kept for a limited time."""

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
    """Facts that cost a request to look up and are not secret, each kept for a limited time.

    Args:
        folder: The cache folder, as for `FileStore`; with None nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def path(self, name: str) -> Path | None:
        """Return the path of the note called *name*; None without a cache folder."""
        return self.folder and self.folder / private.NOTE.name(name)

    def load(self, name: str) -> tuple[dict[str, Any], float] | None:
        """Load the fact called *name*, and the epoch second until which it is valid.

        A fact is an object such as `{"id": "123", "host": "…"}`. Returns None if there
        is no valid fact.
        """
        path = self.path(name)
        try:
            note = json.loads((path and private.read_private(str(path))) or b"")
            fact, until = note["fact"], epoch_seconds(note["until"])
            holds = epoch_seconds(note["from"]) <= time.time() < until
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return (fact, until) if holds and isinstance(fact, dict) else None

    def save(self, name: str, fact: Mapping[str, Any], keep: timedelta) -> None:
        """Save *fact* as *name*, valid for the duration *keep*."""
        now, path = time.time(), self.path(name)
        note = {"from": now, "until": now + keep.total_seconds(), "fact": dict(fact)}
        if path is not None:
            write_private(path, json.dumps(note).encode())
