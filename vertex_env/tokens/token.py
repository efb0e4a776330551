"""Access tokens and whose they are, as values. Instants are aware UTC, durations are timedeltas."""

import hashlib
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime, timedelta

from vertex_env import freshness

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Token:
    """An OAuth 2.0 access token.

    Raises:
        ValueError: An instant is naive.
    """

    value: str = field(repr=False)
    """The bearer string, such as `ya29.a0Af…`. Not in the repr: it must never reach a log."""
    expiry: datetime
    """When it stops working, as the issuer said."""
    issued: datetime
    """When it was minted, by this machine's clock."""

    def __post_init__(self) -> None:
        if self.expiry.tzinfo is None or self.issued.tzinfo is None:
            raise ValueError("instants of a token must be timezone-aware")

    @property
    def lifetime(self) -> timedelta:
        """What the source gave, which is often less than an hour; zero if it came expired."""
        return max(self.expiry - self.issued, timedelta(0))

    @property
    def due(self) -> datetime:
        """When to start looking for the next one; see `freshness.due`."""
        return datetime.fromtimestamp(freshness.due(*self.seconds), UTC)

    @property
    def seconds(self) -> tuple[float, float]:
        """Issued and expiry, in epoch seconds."""
        return self.issued.timestamp(), self.expiry.timestamp()

    def remaining(self, now: datetime) -> timedelta:
        """Time left at *now*; negative once expired."""
        return self.expiry - now

    def is_fresh(self, now: datetime, min_ttl: timedelta) -> bool:
        """Whether it may be given out at *now*; see `freshness.is_fresh`."""
        return freshness.is_fresh(*self.seconds, min_ttl.total_seconds(), now.timestamp())

    def wants_background_refresh(self, now: datetime, min_ttl: timedelta) -> bool:
        """Whether the next one should be fetched in the background by *now*; see `freshness.background_refresh`."""
        return now.timestamp() >= freshness.background_refresh(
            *self.seconds, min_ttl.total_seconds()
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose token, and for what: everything that makes one token different from another."""

    kind: str
    """Type of the credentials, such as `authorized_user`, `service_account` or `metadata`."""
    fingerprint: str
    """SHA-256 of what the credentials are made from: the ADC file with what it refers to, or the
    metadata server's account; with the machine where the identity may be its own."""
    scopes: tuple[str, ...]
    universe: str = "googleapis.com"
    impersonate: str | None = None
    delegates: tuple[str, ...] = ()
    lifetime: timedelta | None = None
    quota_project: str | None = None
    audience: str | None = None

    @property
    def key(self) -> str:
        """The name to store its token under: 64 hexadecimal digits, different for any two identities."""
        # As a Python literal, because no two tuples have the same.
        return hashlib.sha256(ascii(astuple(self)).encode()).hexdigest()
