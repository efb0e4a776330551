"""Access tokens and whose they are, as values. Instants are aware UTC, durations are timedeltas."""

import hashlib
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from datetime import datetime, timedelta

Now = Callable[[], datetime]

EARLY = timedelta(seconds=225)
"""How long before expiry a token is due for renewal.

The metadata server hands out the same token until its last four to five minutes, and google-auth renews at
3 min 45 s for that reason (google-auth 2.62.2, `google/auth/_helpers.py` REFRESH_THRESHOLD, 2026-11-22).
"""


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
        """When to start looking for the next one: `EARLY` before expiry, or at three quarters of a short life."""
        return self.expiry - min(EARLY, self.lifetime / 4)

    def remaining(self, now: datetime) -> timedelta:
        """Time left at *now*; negative once expired."""
        return self.expiry - now

    def is_fresh(self, now: datetime, min_ttl: timedelta) -> bool:
        """Whether at *now* it outlasts *min_ttl*, or half of its life where it never had twice that.

        Without the second clause a source of five-minute tokens would be asked again and again for what it cannot give.
        A token "issued" in the future means that the clock was set back since: its expiry cannot be trusted.
        """
        return now >= self.issued - timedelta(minutes=5) and self.remaining(now) > min(min_ttl, self.lifetime / 2)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose token, and for what: everything that makes one token different from another."""

    kind: str
    """Type of the credentials, such as `authorized_user`, `service_account` or `metadata`."""
    fingerprint: str
    """SHA-256 of what the credentials are made from: the content of the ADC file, or the metadata server's account."""
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
