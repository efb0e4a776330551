"""Keep a stored token fresh, and check which token a stamp belongs to."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vertex_env import freshness
from vertex_env.cache import private
from vertex_env.tokens.store import Store
from vertex_env.tokens.token import Now, Token

_NAP_S = 20.0


def keep_fresh(store: Store, key: str, now: Now, mint: Callable[[bool], Any]) -> None:
    """Wait until the stored token is due, then mint the next one.

    Returns at once if another process already waits for this token, or if no token is stored.

    Args:
        store: The store that has the token.
        key: Key of the token's identity.
        now: The clock.
        mint: Gets a fresh token; with the argument true, it mints a new one.
    """
    with store.keeper(key) as alone:
        stored = store.load(key)
        if not alone or stored is None:
            return
        # Sleep in short pieces, because timers do not count the time that a laptop is suspended.
        while (left := freshness.due(*stored.seconds) - now().timestamp()) > 0:
            time.sleep(min(left, _NAP_S))
        # If min-ttl is short, a due token is still fresh, so a new one must be forced.
        # It is not forced if another process has already renewed the token.
        mint(store.load(key) == stored)


def is_about(stamp: Path, token: Token) -> bool:
    """Whether the file *stamp* is for *token* or a later one."""
    try:
        _, expires, _ = (private.read_private(str(stamp)) or b"").split()
        return int(expires) >= int(token.expiry.timestamp())
    except ValueError:
        return False
