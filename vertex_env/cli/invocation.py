"""How a command gets its session: from its options, this process's environment, and the clock."""

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vertex_env.cache import answers as warm
from vertex_env.cli.output import tell
from vertex_env.session import Session, Watched, open_session

HOOKS_CALL = ["export", "--format", "lines"]
"""How a shell's hook asks: it hears of an error, but not, at each prompt of a train ride, that there is no network."""


def session_for(
    options: Mapping[str, Any],
    *,
    refreshes: bool = False,
    looked_at: dict[Path, str] | None = None,
    again: str = "",
    anonymous: bool = False,
) -> Session:
    """The session for a command with *options*, the settings by field.

    Args:
        options: As `open_session` takes them.
        refreshes: Start a refresh in the background when the token is due.
        looked_at: See `open_session`; as are *again* and *anonymous*.
        again: See there.
        anonymous: See there.
    """
    return open_session(
        options,
        Watched(os.environ),
        now_utc,
        warn=lambda line: None if sys.argv[1:] == HOOKS_CALL else tell(f"warning: {line}"),
        behind=(lambda: warm.refresh_behind(sys.argv[1:], os.environ)) if refreshes else None,
        looked_at=looked_at,
        again=again,
        anonymous=anonymous,
    )


def now_utc() -> datetime:
    """The clock."""
    return datetime.now(UTC)
