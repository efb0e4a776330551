"""`broker`: from the store while fresh, else minted; one at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from tests.support.fakes import FakeClock, FakeSource, MemoryStore, token
from vertex_env.errors import RefusedError, UnavailableError
from vertex_env.tokens.broker import Broker

KEY = "k"


def broker(
    source: FakeSource,
    store: MemoryStore | None,
    clock: FakeClock,
    said: list[str],
    *,
    late: bool = False,
) -> Broker:
    return Broker(
        source,
        store,
        KEY,
        timedelta(minutes=5),
        clock,
        said.append,
        late,
        lambda: said.append("behind"),
    )


def test_a_fresh_token_is_not_minted_again() -> None:
    """The second call is served from the store."""
    clock, store = FakeClock(), MemoryStore()
    source = FakeSource([token(issued=clock())])
    first = broker(source, store, clock, []).token()
    clock.advance(3600 - 301)
    assert broker(source, store, clock, []).token() is first
    assert source.count == 1


def test_without_a_store_nothing_is_kept() -> None:
    """`--store none`: each call mints, and what it meets is told; with a store the second one does not (control)."""
    clock, said = FakeClock(), []  # type: FakeClock, list[str]
    refusal = RefusedError("no", "ask")
    source = FakeSource([token("ya29.1"), token("ya29.2"), refusal])
    asked = broker(source, None, clock, said)
    assert [asked.stored(), asked.token().value, asked.stored(), asked.token().value] == [
        None,
        "ya29.1",
        None,
        "ya29.2",
    ]
    with pytest.raises(RefusedError) as caught:
        asked.token(refresh=True)
    assert caught.value is refusal
    kept = broker(FakeSource([token("ya29.1")]), MemoryStore(), clock, said)
    assert [kept.token().value, kept.token().value] == ["ya29.1"] * 2
    assert said == []


@pytest.mark.parametrize(
    ("lifetime_s", "age_s", "minted"),
    [
        pytest.param(3600, 3299, False, id="five minutes and a second left"),
        pytest.param(3600, 3300, True, id="five minutes left"),
        pytest.param(300, 149, False, id="a five-minute token, in its first half"),
        pytest.param(300, 150, True, id="a five-minute token, at its half"),
        pytest.param(20, 9, False, id="a 20-second token, in its first half"),
        pytest.param(43200, 42899, False, id="twelve hours"),
        pytest.param(3600, -299, False, id="clock set back by less than five minutes"),
        pytest.param(3600, -301, True, id="clock set back by more"),
        pytest.param(3600, 7200, True, id="long expired"),
    ],
)
def test_when_a_stored_token_is_fresh(lifetime_s: float, age_s: float, *, minted: bool) -> None:
    """It outlasts five minutes, or half of its life where that is less."""
    clock, store = FakeClock(), MemoryStore()
    store.save(KEY, token("ya29.old", lifetime_s=lifetime_s, issued=clock()))
    clock.advance(age_s)
    source = FakeSource([token("ya29.new", issued=clock())])
    assert broker(source, store, clock, []).token().value == ("ya29.new" if minted else "ya29.old")


def test_a_metadata_server_is_not_asked_before_it_can_give_a_new_one() -> None:
    """It gives the same token until its last four to five minutes: 225 s are asked for, not 300."""
    clock, store = FakeClock(), MemoryStore()
    store.save(KEY, token(issued=clock()))
    clock.advance(3600 - 226)
    source = FakeSource([])
    broker(source, store, clock, [], late=True).token()
    assert source.count == 0


def test_refresh_mints_whatever_is_stored() -> None:
    """`--refresh`."""
    clock, store = FakeClock(), MemoryStore()
    store.save(KEY, token("ya29.old", issued=clock()))
    source = FakeSource([token("ya29.new", issued=clock())])
    assert broker(source, store, clock, []).token(refresh=True).value == "ya29.new"
    assert store.load(KEY) == token("ya29.new", issued=clock())


def test_out_of_reach_the_stored_token_serves_on_with_a_warning() -> None:
    """Offline with more than a minute left: the old token, and a line that says so."""
    clock, store, said = FakeClock(), MemoryStore(), []  # type: FakeClock, MemoryStore, list[str]
    store.save(KEY, token("ya29.old", issued=clock()))
    clock.advance(3600 - 120)
    source = FakeSource([UnavailableError("cannot reach google", "wait")])
    assert broker(source, store, clock, said).token().value == "ya29.old"
    assert said == ["cannot reach google; using the stored token, which lasts 120 s more"]


@pytest.mark.parametrize("left_s", [60, 0, -1])
def test_out_of_reach_with_too_little_left_is_an_error(left_s: float) -> None:
    """A token about to die is no help."""
    clock, store = FakeClock(), MemoryStore()
    store.save(KEY, token(issued=clock()))
    clock.advance(3600 - left_s)
    with pytest.raises(UnavailableError):
        broker(FakeSource([UnavailableError("m", "h")]), store, clock, []).token()


def test_a_refusal_is_not_papered_over() -> None:
    """When Google says no, the stored token is not used: the account may be another one by now."""
    clock, store = FakeClock(), MemoryStore()
    store.save(KEY, token(issued=clock()))
    clock.advance(3600 - 120)
    with pytest.raises(RefusedError):
        broker(FakeSource([RefusedError("m", "h")]), store, clock, []).token()


def test_a_failed_mint_stores_nothing() -> None:
    """The store is as it was."""
    clock, store = FakeClock(), MemoryStore()
    with pytest.raises(UnavailableError):
        broker(FakeSource([UnavailableError("m", "h")]), store, clock, []).token()
    assert store.load(KEY) is None


@pytest.mark.parametrize(
    ("lifetime_s", "age_s", "late", "said"),
    [
        pytest.param(3600, 2699, False, [], id="a quarter of an hour left, and a second"),
        pytest.param(3600, 2700, False, ["behind"], id="a quarter of an hour left"),
        pytest.param(3600, 3299, False, ["behind"], id="five minutes left, and a second"),
        pytest.param(300, 99, False, [], id="a five-minute token, in its first third"),
        pytest.param(300, 100, False, ["behind"], id="a five-minute token, at its third"),
        pytest.param(3600, 3299, True, [], id="a metadata server's token"),
    ],
)
def test_when_the_next_token_is_fetched_behind(
    lifetime_s: float, age_s: float, said: list[str], *, late: bool
) -> None:
    """The stored token is given out all the same, and nothing is minted here."""
    clock, store, heard = FakeClock(), MemoryStore(), []  # type: FakeClock, MemoryStore, list[str]
    store.save(KEY, token(lifetime_s=lifetime_s, issued=clock()))
    clock.advance(age_s)
    assert broker(FakeSource([]), store, clock, heard, late=late).token() == store.load(KEY)
    assert heard == said


class Waiting(MemoryStore):
    """A store whose lock somebody else holds until *meanwhile* has happened."""

    def __init__(self, meanwhile: Callable[["Waiting"], None]) -> None:
        super().__init__()
        self.meanwhile = meanwhile

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:  # noqa: ARG002
        self.meanwhile(self)
        yield


@pytest.mark.parametrize("refresh", [True, False])
def test_who_waited_takes_what_was_minted_meanwhile(*, refresh: bool) -> None:
    """One request for all, also where a new token is wanted: it is new."""
    clock = FakeClock()
    store = Waiting(lambda store: store.save(KEY, token("ya29.new", issued=clock())))
    store.save(KEY, token("ya29.old", lifetime_s=3600 if refresh else 1, issued=clock()))
    clock.advance(10)
    assert broker(FakeSource([]), store, clock, []).token(refresh=refresh).value == "ya29.new"


def test_who_waited_meets_the_same_failure() -> None:
    """Without asking Google for it, and in the same words."""
    clock, met = FakeClock(), RefusedError("no", "ask")
    store = Waiting(lambda store: store.fail(KEY, met, at=clock()))
    with pytest.raises(RefusedError, match="no"):
        broker(FakeSource([]), store, clock, []).token()


def test_who_waited_in_vain_may_use_the_stored_token() -> None:
    """Out of reach for one is out of reach for all, and no reason not to go on with what there is."""
    clock, said = FakeClock(), []  # type: FakeClock, list[str]
    store = Waiting(lambda store: store.fail(KEY, UnavailableError("away", "wait"), at=clock()))
    store.save(KEY, token(issued=clock()))
    clock.advance(3600 - 120)
    assert broker(FakeSource([]), store, clock, said).token() == store.load(KEY)
    assert said == ["away; using the stored token, which lasts 120 s more"]


@pytest.mark.parametrize("passed_s", [1, -3 * 3600], ids=["later", "the clock set back"])
def test_a_failure_of_before_is_not_met_again(passed_s: float) -> None:
    """It was for those who waited; a wrong clock may well have been its cause."""
    clock, store = FakeClock(), MemoryStore()
    with pytest.raises(RefusedError):
        broker(FakeSource([RefusedError("m", "h")]), store, clock, []).token()
    clock.advance(passed_s)
    source = FakeSource([token(issued=clock())])
    broker(source, store, clock, []).token()
    assert source.count == 1
