"""Keep a stored token fresh, and tell of which token a stamp is."""

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
    """Wait until the stored token is due and mint the next; at once where somebody waits already, or none is.

    Args:
        store: Where it is.
        key: Of the identity.
        now: The clock.
        mint: Gets a fresh token; a new one if its argument is true.
    """
    with store.keeper(key) as alone:
        stored = store.load(key)
        if not alone or stored is None:
            return
        # In short naps: the time that a laptop sleeps does not count for timers.
        while (left := freshness.due(*stored.seconds) - now().timestamp()) > 0:
            time.sleep(min(left, _NAP_S))
        # Due is not yet stale where min-ttl is short; and nothing is to be done where somebody else has done it.
        mint(store.load(key) == stored)


def is_about(stamp: Path, token: Token) -> bool:
    """Whether the file *stamp* is about *token* or a later one."""
    try:
        _, expires, _ = (private.read_private(str(stamp)) or b"").split()
        return int(expires) >= int(token.expiry.timestamp())
    except ValueError:
        return False
