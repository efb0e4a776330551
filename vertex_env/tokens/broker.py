"""A token when one is asked for: from the store while it is fresh, else minted and stored."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from vertex_env.errors import UnavailableError, VertexEnvError
from vertex_env.freshness import EARLY
from vertex_env.tokens.store import Store
from vertex_env.tokens.token import Now, Token

LAST_RESORT = timedelta(seconds=60)
"""A stored token with more than this left is better than none when Google is out of reach."""


class Source(Protocol):
    """Mints tokens."""

    def mint(self) -> Token:
        """A new token.

        Raises:
            VertexEnvError: There is none to be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class Broker:
    """Tokens of one identity.

    Args:
        source: Asked when the store has nothing fresh.
        store: Asked first; None where tokens are not kept.
        key: `Identity.key`.
        min_ttl: Least time that a token must have left.
        now: The clock.
        warn: Told in one line when a token is given that should have been renewed.
        renews_late: The source gives the same token until it is `EARLY` (a metadata server): to ask sooner is useless.
        background_refresh: Starts a refresh that nobody waits for.
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
        """Least time that a token must have left, as far as the source can give it."""
        return min(self.min_ttl, timedelta(seconds=EARLY)) if self.renews_late else self.min_ttl

    def stored(self) -> Token | None:
        """The stored token, if it is fresh."""
        token = None if self.store is None else self.store.load(self.key)
        return token if token is not None and self._is_fresh(token) else None

    def token(self, *, refresh: bool = False) -> Token:
        """A fresh token; a new one if *refresh*.

        Raises:
            VertexEnvError: There is none to be had.
        """
        return self.source.mint() if self.store is None else self._kept(self.store, refresh=refresh)

    def _kept(self, store: Store, *, refresh: bool) -> Token:
        """A fresh token, which *store* has or gets."""
        before = store.load(self.key)
        if before is not None and not refresh and self._is_fresh(before):
            if not self.renews_late and before.wants_background_refresh(self.now(), self.min_left):
                self.background_refresh()
            return before
        started = self.now()
        with store.lock(self.key):
            # Whoever held the lock meanwhile has most likely minted what we want, or met what we would meet.
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
        """Whether it is still good for something, stale as it is."""
        return token.is_fresh(self.now(), LAST_RESORT)
