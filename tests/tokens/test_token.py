"""Tokens and identities as values: when a token is due, when it is fresh, what tells two identities apart."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes import PLANTED, START, token
from vertex_env.tokens.token import Identity, Token

SECONDS = st.floats(-90_000, 90_000, allow_nan=False)
AFTER = st.floats(0, 90_000)


def s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


# --- Token ---


@pytest.mark.parametrize(
    "shown", [repr, str, "{}".format, "{0!a}".format], ids=["repr", "str", "format", "ascii"]
)
def test_value_stays_out_of_every_text_form(shown: object) -> None:
    """A token that is logged or shown in a traceback does not give itself away."""
    assert callable(shown)
    assert shown(token()) == (
        "Token(expiry=datetime.datetime(2026, 11, 22, 13, 0, tzinfo=datetime.timezone.utc), "
        "issued=datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.timezone.utc))"
    )
    assert PLANTED not in shown([token()])


@pytest.mark.parametrize("naive", ["expiry", "issued"])
def test_naive_instants_are_refused(naive: str) -> None:
    """An instant without a time zone cannot be compared with the clock, so there is no such token."""
    instants = {"expiry": START + s(3600), "issued": START}
    instants[naive] = instants[naive].replace(tzinfo=None)
    with pytest.raises(ValueError, match="instants of a token must be timezone-aware"):
        Token("t", **instants)


def test_instants_of_other_zones_are_the_same_instants() -> None:
    """Only the instant counts, not the zone that it is written in."""
    east = timezone(timedelta(hours=9))
    given_in_japan = Token("t", expiry=datetime(2026, 11, 22, 22, tzinfo=east), issued=START)
    assert given_in_japan.lifetime == s(3600)
    assert given_in_japan.remaining(datetime(2026, 11, 22, 12, 59, tzinfo=UTC)) == s(60)


@pytest.mark.parametrize(
    ("lifetime_s", "early_s"),
    [(43_200, 225), (3600, 225), (900, 225), (300, 75), (20, 5), (0, 0), (-60, 0)],
    ids=[
        "12 h",
        "an hour",
        "a quarter of 15 min is as much",
        "5 min",
        "20 s",
        "nothing",
        "came expired",
    ],
)
def test_due_before_expiry(lifetime_s: float, early_s: float) -> None:
    """A token is due 225 s before expiry, or at three quarters of a short life, never after expiry."""
    it = token(lifetime_s=lifetime_s)
    assert it.expiry - it.due == s(early_s)


@pytest.mark.parametrize(
    ("lifetime_s", "at_s", "min_ttl_s", "fresh"),
    [
        (3600, 0, 300, True),
        (3600, 3299, 300, True),
        (3600, 3300, 300, False),
        (3600, 3600, 300, False),
        (3600, 3601, 300, False),
        (3600, 3599, 0, True),
        (3600, 3600, 0, False),
        (300, 149, 300, True),
        (300, 150, 300, False),
        (3600, 1799, 86_400, True),
        (3600, 1800, 86_400, False),
        (3600, -300, 300, True),
        (3600, -301, 300, False),
        (0, 0, 300, False),
        (0, -1, 300, True),
        (-60, 0, 300, False),
        (-60, -40, 300, False),
        (-60, -61, 300, True),
    ],
    ids=[
        "new",
        "a second more than asked",
        "exactly what was asked is not more",
        "expired",
        "expired before",
        "any rest is enough",
        "no rest",
        "half of a short life",
        "less than half of a short life",
        "more than it ever had: half",
        "more than it ever had: less than half",
        "clock five minutes back",
        "clock set back",
        "no life",
        "no life, clock set back by a second",
        "came expired",
        "came expired, clock set back too little",
        "came expired, clock set back before that",
    ],
)
def test_fresh(lifetime_s: float, at_s: float, min_ttl_s: float, fresh: bool) -> None:  # noqa: FBT001
    """Fresh is what outlasts `min_ttl`, or half of its life where it never had twice that."""
    assert token(lifetime_s=lifetime_s).is_fresh(START + s(at_s), s(min_ttl_s)) is fresh


@given(lifetime_s=SECONDS, at_s=SECONDS, min_ttl_s=st.floats(0, 90_000, allow_nan=False))
@settings(deadline=None, max_examples=300)
def test_fresh_is_never_expired(lifetime_s: float, at_s: float, min_ttl_s: float) -> None:
    """Whatever the clock and the source do, a fresh token has time left, and is due no later than it expires."""
    it, now = token(lifetime_s=lifetime_s), START + s(at_s)
    assert not it.is_fresh(now, s(min_ttl_s)) or it.remaining(now) > s(0)
    assert it.due <= it.expiry


@given(lifetime_s=st.floats(1, 90_000), at_s=AFTER, later_s=AFTER, ttl_s=st.floats(0, 900))
@settings(deadline=None, max_examples=300)
def test_stale_stays_stale(lifetime_s: float, at_s: float, later_s: float, ttl_s: float) -> None:
    """A token does not become fresh again as time passes."""
    it, now = token(lifetime_s=lifetime_s), START + s(at_s)
    assert it.is_fresh(now, s(ttl_s)) or not it.is_fresh(now + s(later_s), s(ttl_s))


# --- Identity ---

PLAIN = Identity("authorized_user", "f" * 64, ("openid",))

CHANGES: Mapping[str, object] = {
    "kind": "service_account",
    "fingerprint": "e" * 64,
    "scopes": ("openid", "email"),
    "universe": "s3nsapis.fr",
    "impersonate": "robot@my-project.iam.gserviceaccount.com",
    "delegates": ("d@my-project.iam.gserviceaccount.com",),
    "lifetime": timedelta(hours=1),
    "quota_project": "my-project",
    "audience": "https://aiplatform.googleapis.com",
}


def test_key_is_a_file_name() -> None:
    """The key is 64 hexadecimal digits, whatever the identity has in it."""
    odd = replace(PLAIN, impersonate="../../x\n\0\ud800é")
    for identity in (PLAIN, odd):
        assert len(identity.key) == 64
        assert set(identity.key) <= set("0123456789abcdef")


def test_key_is_the_same_for_equal_identities() -> None:
    """Two processes that mean the same identity find each other's token."""
    again = Identity(
        "authorized_user", "f" * 64, ("openid",), universe="googleapis.com", lifetime=None
    )
    assert again.key == PLAIN.key


def test_every_field_is_in_the_key() -> None:
    """A change of any one field is another identity: the account of one is never served to the other."""
    assert set(CHANGES) == set(Identity.__slots__)
    keys = {PLAIN.key, *(replace(PLAIN, **{name: value}).key for name, value in CHANGES.items())}  # type: ignore[arg-type]
    assert len(keys) == 1 + len(CHANGES)


# Few characters, and those that join and separate, so that different identities look much alike.
PART = st.text("a,:1\0'\"", max_size=3)
IDENTITIES = st.builds(
    Identity,
    kind=PART,
    fingerprint=PART,
    scopes=st.lists(PART, max_size=3).map(tuple),
    universe=PART,
    impersonate=st.none() | PART,
    delegates=st.lists(PART, max_size=2).map(tuple),
    lifetime=st.none() | st.integers(0, 2).map(lambda hours: timedelta(hours=hours)),
    quota_project=st.none() | PART,
    audience=st.none() | PART,
)


@given(one=IDENTITIES, other=IDENTITIES)
@settings(deadline=None, max_examples=300)
def test_different_identities_have_different_keys(one: Identity, other: Identity) -> None:
    """No two identities share a key, however their parts are cut."""
    assert (one.key == other.key) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (replace(PLAIN, scopes=()), replace(PLAIN, scopes=("",))),
        (replace(PLAIN, scopes=("a", "b")), replace(PLAIN, scopes=("a\0b",))),
        (replace(PLAIN, scopes=("a",), delegates=()), replace(PLAIN, scopes=(), delegates=("a",))),
        (replace(PLAIN, impersonate=None), replace(PLAIN, impersonate="")),
        (replace(PLAIN, quota_project="a"), replace(PLAIN, audience="a")),
        (replace(PLAIN, lifetime=None), replace(PLAIN, lifetime=timedelta(0))),
    ],
    ids=[
        "empty scope",
        "NUL in a scope",
        "scope or delegate",
        "empty account",
        "neighbours",
        "no lifetime",
    ],
)
def test_near_identities_have_different_keys(one: Identity, other: Identity) -> None:
    """What differs only in how it is cut, or in empty against absent, differs."""
    assert one.key != other.key
