"""When a token is good enough, when it is due, and when nobody should wait for the next one: arithmetic in seconds.

Imports nothing, because the warm path does not either. Instants are seconds since the epoch, durations seconds.
"""

EARLY = 225.0
"""How long before expiry a token is due for renewal.

The metadata server hands out the same token until its last four to five minutes, and google-auth renews at
3 min 45 s for that reason (google-auth 2.62.2, `google/auth/_helpers.py` REFRESH_THRESHOLD, 2026-11-22).
"""

CLOCK_SLACK = 300.0
"""A token "issued" further in the future than this means that the clock was set back since: do not trust its expiry."""

MAX_LIFETIME = 13 * 3600.0
"""Twelve hours are the most that Google gives; an hour for clocks that disagree."""

LATEST = 253_402_300_799.0
"""The last second of the year 9999: no date can be made of a later instant."""


def due(issued: float, expiry: float) -> float:
    """When to start looking for the next token: `EARLY` before expiry, or at three quarters of a short life."""
    return expiry - min(EARLY, max(0.0, expiry - issued) / 4)


def too_late(issued: float, expiry: float, min_ttl: float) -> float:
    """From when on a token does not outlast *min_ttl*, or half of its life where it never had twice that.

    Without the second clause a source of five-minute tokens would be asked again and again for what it cannot give.
    """
    return expiry - min(min_ttl, max(0.0, expiry - issued) / 2)


def background_refresh(issued: float, expiry: float, min_ttl: float) -> float:
    """From when on a token is given out while the next one is fetched in the background.

    Ten minutes before it is too late, or a sixth of a short life: with an hour's token, in its last quarter of an hour.
    """
    return too_late(issued, expiry, min_ttl) - min(600.0, max(0.0, expiry - issued) / 6)


def is_fresh(issued: float, expiry: float, min_ttl: float, now: float) -> bool:
    """Whether a token may be given out at *now*."""
    return issued - CLOCK_SLACK <= now < too_late(issued, expiry, min_ttl)


def epoch_seconds(value: object) -> float:
    """*value*, found in a file, as epoch seconds.

    Raises:
        ValueError: It is no number, or no instant: NaN, infinite, or an integer of a thousand digits.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise ValueError("not an instant")
    return float(value)
