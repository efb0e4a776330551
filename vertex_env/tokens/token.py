"""Access tokens and their identities, as values; instants are aware UTC, durations timedeltas."""

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
    """The bearer string, such as `ya29.a0Af…`. It is not in the repr, because it must
    never reach a log."""
    expiry: datetime
    """Instant at which the token stops working, as the issuer says."""
    issued: datetime
    """Instant at which the token was minted, by this machine's clock."""

    def __post_init__(self) -> None:
        if self.expiry.tzinfo is None or self.issued.tzinfo is None:
            raise ValueError("instants of a token must be timezone-aware")

    @property
    def lifetime(self) -> timedelta:
        """Duration from issue to expiry, often under an hour; zero if the token came expired."""
        return max(self.expiry - self.issued, timedelta(0))

    @property
    def due(self) -> datetime:
        """Instant at which to start looking for the next token; see `freshness.due`."""
        return datetime.fromtimestamp(freshness.due(*self.seconds), UTC)

    @property
    def seconds(self) -> tuple[float, float]:
        """Issue instant and expiry, in epoch seconds."""
        return self.issued.timestamp(), self.expiry.timestamp()

    def remaining(self, now: datetime) -> timedelta:
        """Return the time left at *now*; negative once the token has expired."""
        return self.expiry - now

    def is_fresh(self, now: datetime, min_ttl: timedelta) -> bool:
        """Whether the token may be given out at *now*; see `freshness.is_fresh`."""
        return freshness.is_fresh(*self.seconds, min_ttl.total_seconds(), now.timestamp())

    def wants_background_refresh(self, now: datetime, min_ttl: timedelta) -> bool:
        """Whether to start a background refresh at *now*; see `freshness`."""
        return now.timestamp() >= freshness.background_refresh(
            *self.seconds, min_ttl.total_seconds()
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """All properties that distinguish one token from another: its principal and its request."""

    kind: str
    """Type of the credentials, such as `authorized_user`, `service_account` or `metadata`."""
    fingerprint: str
    """SHA-256 of the data that the credentials are made from: the ADC file with the
    files it refers to, or the metadata server's account. The machine is included if
    each machine may have its own identity."""
    scopes: tuple[str, ...]
    universe: str = "googleapis.com"
    impersonate: str | None = None
    delegates: tuple[str, ...] = ()
    lifetime: timedelta | None = None
    quota_project: str | None = None
    audience: str | None = None

    @property
    def key(self) -> str:
        """Name of the token in the store: 64 hexadecimal digits, different for each identity."""
        # Hash the fields as a Python literal, because different tuples have different literals.
        return hashlib.sha256(ascii(astuple(self)).encode()).hexdigest()
