"""`freshness`: when a token may be given out, and when the next one is looked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertex_env.freshness import (
    CLOCK_SLACK,
    MAX_LIFETIME,
    background_refresh,
    due,
    is_fresh,
    too_late,
)

ISSUED = 1_800_000_000.0
FIVE_MINUTES = 300.0

instants = st.floats(1e9, 4e9)
lifetimes = st.floats(0.001, MAX_LIFETIME)
durations = st.floats(0, 24 * 3600)


@pytest.mark.parametrize(
    ("lifetime_s", "behind_s", "too_late_s", "due_s"),
    [
        pytest.param(43200, 42300, 42900, 42975, id="twelve hours"),
        pytest.param(3600, 2700, 3300, 3375, id="an hour"),
        pytest.param(600, 200, 300, 450, id="ten minutes"),
        pytest.param(300, 100, 150, 225, id="five minutes"),
        pytest.param(20, 20 / 3, 10, 15, id="twenty seconds"),
        pytest.param(1, 1 / 3, 0.5, 0.75, id="a second"),
        pytest.param(0, 0, 0, 0, id="came expired"),
        pytest.param(-10, -10, -10, -10, id="came expired long ago"),
    ],
)
def test_windows(lifetime_s: float, behind_s: float, too_late_s: float, due_s: float) -> None:
    """Seconds after issue for five minutes of least life; short lives have short windows."""
    expiry = ISSUED + lifetime_s
    assert background_refresh(ISSUED, expiry, FIVE_MINUTES) == pytest.approx(
        ISSUED + behind_s, abs=1e-3
    )
    assert too_late(ISSUED, expiry, FIVE_MINUTES) == pytest.approx(ISSUED + too_late_s, abs=1e-3)
    assert due(ISSUED, expiry) == pytest.approx(ISSUED + due_s, abs=1e-3)


@pytest.mark.parametrize(
    ("min_ttl", "too_late_s"),
    [(0, 3600), (60, 3540), (1800, 1800), (1801, 1800), (7200, 1800), (1e9, 1800)],
)
def test_what_a_source_cannot_give_is_not_asked_for(min_ttl: float, too_late_s: float) -> None:
    """At most half of a token's life."""
    assert too_late(ISSUED, ISSUED + 3600, min_ttl) == ISSUED + too_late_s


@pytest.mark.parametrize(
    ("at_s", "fresh"),
    [
        (-7200, False),
        (-300.1, False),
        (-300, True),
        (0, True),
        (3299.9, True),
        (3300, False),
        (3600, False),
        (7200, False),
    ],
)
def test_fresh_is_half_open(at_s: float, *, fresh: bool) -> None:
    """From five minutes before its issue, for clocks that are set, until it is too late, exclusively."""
    assert is_fresh(ISSUED, ISSUED + 3600, FIVE_MINUTES, ISSUED + at_s) == fresh


@given(instants, lifetimes, durations, durations)
def test_a_fresh_token_has_not_expired(
    issued: float, lifetime: float, min_ttl: float, later: float
) -> None:
    """Nor is it from the future, whatever the clock says and whatever is asked for."""
    expiry, now = issued + lifetime, issued - 12 * 3600 + later
    if is_fresh(issued, expiry, min_ttl, now):
        assert now < expiry
        assert now >= issued - CLOCK_SLACK


@given(instants, lifetimes, durations)
def test_the_windows_are_in_order(issued: float, lifetime: float, min_ttl: float) -> None:
    """Looked for before it is too late, and too late no later than expiry; there is always some time of freshness."""
    expiry = issued + lifetime
    if expiry - issued < 0.001:
        return  # lost in rounding
    late = too_late(issued, expiry, min_ttl)
    assert issued <= background_refresh(issued, expiry, min_ttl) < late <= expiry
    assert issued < due(issued, expiry) < expiry
    assert is_fresh(issued, expiry, min_ttl, issued)
    assert not is_fresh(issued, expiry, min_ttl, late)
    assert not is_fresh(issued, expiry, min_ttl, expiry)


@given(instants, lifetimes, durations, durations, durations)
def test_age_and_demands_never_make_it_fresher(
    issued: float, lifetime: float, min_ttl: float, more: float, age: float
) -> None:
    """Once stale it stays so, and a higher demand is met no later than a lower one."""
    expiry = issued + lifetime
    if is_fresh(issued, expiry, min_ttl + more, issued + age):
        assert is_fresh(issued, expiry, min_ttl, issued + age)
        assert is_fresh(issued, expiry, min_ttl, issued + age / 2)
    assert too_late(issued, expiry, min_ttl + more) <= too_late(issued, expiry, min_ttl)
    assert background_refresh(issued, expiry, min_ttl + more) <= background_refresh(
        issued, expiry, min_ttl
    )


@given(instants, lifetimes, st.floats(0, 3600), durations)
def test_a_longer_life_is_longer_fresh(
    issued: float, lifetime: float, more: float, min_ttl: float
) -> None:
    """Each instant is no earlier for a token that ends later."""
    expiry = issued + lifetime
    slack = 1e-6  # floats at this size have steps of half a microsecond
    assert due(issued, expiry) <= due(issued, expiry + more) + slack
    assert too_late(issued, expiry, min_ttl) <= too_late(issued, expiry + more, min_ttl) + slack
    assert (
        background_refresh(issued, expiry, min_ttl)
        <= background_refresh(issued, expiry + more, min_ttl) + slack
    )
