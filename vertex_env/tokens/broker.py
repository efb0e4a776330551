"""Give out tokens: the stored one while it is fresh, else a newly minted one, which is stored."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from vertex_env.errors import UnavailableError, VertexEnvError
from vertex_env.freshness import EARLY
from vertex_env.tokens.store import Store
from vertex_env.tokens.token import Now, Token

LAST_RESORT = timedelta(seconds=60)
"""When Google is out of reach, a stale token is still given out if more than this time is left."""


class Source(Protocol):
    """Mints tokens."""

    def mint(self) -> Token:
        """Mint a token.

        Raises:
            VertexEnvError: No token can be minted.
        """
        ...


@dataclass(frozen=True, slots=True)
class Broker:
    """Gives out the tokens of one identity.

    Args:
        source: Mints a token when the store has no fresh one.
        store: Keeps the token; None if tokens are not kept.
        key: `Identity.key`.
        min_ttl: Minimum time that the token must have left.
        now: The clock.
        warn: Gets a one-line warning when a stale token is given out.
        renews_late: Whether the source returns the same token until `EARLY` seconds
            before its expiry, as a metadata server does. Asking it sooner is useless.
        background_refresh: Starts a background refresh.
    """

    source: Source
    store: Store | None
    key: str
    min_ttl: timedelta
    now: Now
    warn: Callable[[str], None]
    renews_late: bool = False
    background_refresh: Callable[[], None] = lambda: None

    @property
    def min_left(self) -> timedelta:
        """Minimum time that a token must have left; at most `EARLY` if the source renews late."""
        return min(self.min_ttl, timedelta(seconds=EARLY)) if self.renews_late else self.min_ttl

    def stored(self) -> Token | None:
        """Load the stored token; None if it is missing or stale."""
        token = None if self.store is None else self.store.load(self.key)
        return token if token is not None and self._is_fresh(token) else None

    def token(self, *, refresh: bool = False) -> Token:
        """Return a fresh token; a newly minted one if *refresh*.

        Raises:
            VertexEnvError: There is no usable token and none can be minted.
        """
        return self.source.mint() if self.store is None else self._kept(self.store, refresh=refresh)

    def _kept(self, store: Store, *, refresh: bool) -> Token:
        """Return a fresh token from *store*, or mint one and save it there."""
        before = store.load(self.key)
        if before is not None and not refresh and self._is_fresh(before):
            if not self.renews_late and before.wants_background_refresh(self.now(), self.min_left):
                self.background_refresh()
            return before
        started = self.now()
        with store.lock(self.key):
            # The previous lock holder probably minted our token, or failed as we would.
            stored = store.load(self.key)
            if stored is not None and self._is_fresh(stored) and not (refresh and stored == before):
                return stored
            met = store.failure(self.key, since=started, until=self.now())
            try:
                if met is not None:
                    raise met
                store.ready()
                token = self.source.mint()
            except VertexEnvError as e:
                if e is not met:
                    store.fail(self.key, e, at=self.now())
                if (
                    not isinstance(e, UnavailableError)
                    or stored is None
                    or refresh
                    or not self._is_usable(stored)
                ):
                    raise
                left = int(stored.remaining(self.now()).total_seconds())
                self.warn(f"{e.message}; using the stored token, which lasts {left} s more")
                return stored
            store.save(self.key, token)
            return token

    def _is_fresh(self, token: Token) -> bool:
        return token.is_fresh(self.now(), self.min_left)

    def _is_usable(self, token: Token) -> bool:
        """Whether the token, although stale, is good enough when Google is out of reach."""
        return token.is_fresh(self.now(), LAST_RESORT)
