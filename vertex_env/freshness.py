"""When a token is fresh, when it is due, and when to renew it in the background.

Imports nothing, because the warm path imports this module. Instants are epoch seconds,
durations seconds.
"""

EARLY = 225.0
"""How many seconds before its expiry a token is due for renewal.

The metadata server returns the same token until the last four to five minutes. For that
reason google-auth renews at 3 min 45 s (google-auth 2.62.2, `google/auth/_helpers.py`
REFRESH_THRESHOLD, 2026-11-22).
"""

CLOCK_SLACK = 300.0
"""Maximum number of seconds that a token's issue instant may be in the future. A later
instant means that the clock was set back, so the token's expiry cannot be trusted."""

MAX_LIFETIME = 13 * 3600.0
"""Maximum lifetime in seconds. Google gives a token twelve hours at most. One hour is
added for differences between clocks."""

LATEST = 253_402_300_799.0
"""The last second of the year 9999; Python cannot make a date of a later instant."""


def due(issued: float, expiry: float) -> float:
    """Return when to start looking for the next token.

    That is `EARLY` before expiry, or after three quarters of a lifetime under 15 minutes.
    """
    return expiry - min(EARLY, max(0.0, expiry - issued) / 4)


def too_late(issued: float, expiry: float, min_ttl: float) -> float:
    """Return the instant from which a token has less than *min_ttl* left.

    If the whole lifetime is less than twice *min_ttl*, half of the lifetime counts
    instead. Without this exception, vertex-env would ask a source of five-minute tokens
    again and again for a token that the source cannot give.
    """
    return expiry - min(min_ttl, max(0.0, expiry - issued) / 2)


def background_refresh(issued: float, expiry: float, min_ttl: float) -> float:
    """Return the instant from which a token is renewed in the background while it is still used.

    That is ten minutes before the token is too late, or a sixth of its lifetime if that
    is shorter. A token of one hour is renewed in its last quarter of an hour.
    """
    return too_late(issued, expiry, min_ttl) - min(600.0, max(0.0, expiry - issued) / 6)


def is_fresh(issued: float, expiry: float, min_ttl: float, now: float) -> bool:
    """Whether a token may be given out at *now*."""
    return issued - CLOCK_SLACK <= now < too_late(issued, expiry, min_ttl)


def epoch_seconds(value: object) -> float:
    """Convert *value*, read from a file, to epoch seconds.

    Raises:
        ValueError: *value* is not a number or not a valid instant: NaN, infinity, or an
            integer of a thousand digits.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise ValueError("not an instant")
    return float(value)
