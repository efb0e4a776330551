"""The rules of `run`, without a process: each on its own, and what holds whatever happens."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vertex_env.run.lifecycle import (
    LATE_ANSWER_S,
    NETWORK_S,
    STOPPED,
    TICK_S,
    Abandon,
    Action,
    Ask,
    End,
    Finish,
    Instant,
    Kill,
    Lease,
    Lifecycle,
    Reclaim,
    Rules,
    Start,
    Tell,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from vertex_env.run.lifecycle import OnFailure, Policy

POLICIES: list[Policy] = ["auto", "restart", "stop"]
ON_FAILURE: list[OnFailure] = ["keep", "stop"]
LIFETIME, MARGIN, GRACE, SETTLED, MINT = 3600.0, 225.0, 10.0, 31.0, 10.0


RESTART = "new token, lasting 3600 s: starting the command anew"
WAYS_OUT = "--on-expiry ignore or stop"


class World:
    """A command that ends when it is killed or says so, a source of tokens, and clocks, all driven by a test.

    Args:
        policy: As in `Rules`.
        on_failure: As in `Rules`.
        lifetime: Of the first token.
    """

    def __init__(
        self, policy: Policy = "auto", on_failure: OnFailure = "keep", lifetime: float = LIFETIME
    ) -> None:
        self.wall, self.boot, self.awake = 1e9, 5000.0, 4000.0
        self.rules = Rules(policy, on_failure, GRACE, MINT)
        self.minted = 0
        self.busy = self.asking = self.told = self.gone = self.stopped = False
        self.code: int | None = None
        self.said: list[str] = []
        self.done: list[Action] = []
        self.starts: list[Lease] = []
        self.finished: int | None = None
        self.fruitless_at = self.told_at = 0.0
        env = self.mint(lifetime)
        self.starts.append(Lease(env, self.now))
        self.life = Lifecycle(env, self.now, self.rules, lambda: 0.0)

    @property
    def now(self) -> Instant:
        return Instant(self.wall, self.boot, self.awake)

    @property
    def left(self) -> float:
        """What the running command's token has left."""
        return self.starts[-1].left(self.now)

    def mint(self, lifetime: float = LIFETIME) -> dict[str, str | None]:
        self.minted += 1
        expires = self.wall + lifetime
        margin = min(MARGIN, lifetime / 4)
        return {
            "OPENAI_API_KEY": f"token {self.minted}",
            "VERTEX_ENV_EXPIRES_AT": str(expires),
            "VERTEX_ENV_REFRESH_AT": str(expires - margin),
        }

    def look(self) -> None:
        """Look, and do what is to be done."""
        if self.finished is None:
            for action in self.life.look(self.now, busy=self.busy, gone=self.gone):
                self.do(action)

    def do(self, action: Action) -> None:
        self.done.append(action)
        match action:
            case Tell():
                assert not self.busy or self.code is not None
                self.said.append(action.line)
            case Ask():
                assert not self.asking
                self.asking = True
            case Abandon():
                assert self.asking
            case End():
                assert self.code is None
                self.told, self.told_at = True, self.boot
            case Kill():
                assert self.told
                self.end(-9)
            case Start():
                self.start(action)
            case Finish():
                assert self.finished is None
                self.finish(action.code)
            case Reclaim():
                assert self.code is not None

    def start(self, action: Start) -> None:
        assert self.gone, "the old generation is still there"
        assert action.generation == len(self.starts)
        lease = Lease(action.env, self.now)
        assert not self.stopped, "somebody wanted it to end"
        assert lease.left(self.now) > 0
        better = lease.left(self.now) > lease.margin or self.fruitless_at > 0
        assert better, "a better token could be had"
        assert lease.token != self.starts[-1].token
        self.starts.append(lease)
        self.told = self.gone = False
        self.code, self.fruitless_at = None, 0.0

    def finish(self, code: int) -> None:
        if code != self.code:
            assert code == STOPPED, "that was not its status"
            assert self.told, "it was not told to end"
            assert not self.stopped, "who ended it wants to see how it ended"
            assert "stop" in (self.rules.policy, self.rules.on_failure)
        self.finished = code

    def pass_time(self, seconds: float) -> None:
        """Let time pass, looking as late as is allowed."""
        while seconds > 0 and self.finished is None:
            step = min(seconds, max(0.001, self.life.wait_s(self.now)))
            assert step <= TICK_S
            self.wall, self.boot, self.awake = self.wall + step, self.boot + step, self.awake + step
            seconds -= step
            self.look()

    def suspend(self, seconds: float) -> None:
        self.wall, self.boot = self.wall + seconds, self.boot + seconds
        self.look()

    def set_clock(self, seconds: float) -> None:
        self.wall += seconds
        self.look()

    def answer(self, what: str) -> None:
        """What the process that mints says, if there is one."""
        if not self.asking or self.finished is not None:
            return
        self.asking = False
        if what in ("new", "short"):
            self.life.gave(self.mint(LIFETIME if what == "new" else 40.0), self.now)
        else:
            self.fruitless_at = self.boot
            if what == "same":
                self.life.gave(dict(self.starts[-1].env), self.now)
            else:
                self.life.failed(f"{what}\n", self.now, permanent=what == "refused")
        self.look()

    def end(self, code: int, *, gone: bool = True, has_keys: bool = False) -> None:
        """The command ends, by itself or because it was told to."""
        if self.code is None:
            self.code = code
            self.life.exited(code, self.now, has_keys=has_keys)
        self.gone = self.gone or gone

    def stop(self, *, insists: bool = True) -> None:
        if self.finished is None:
            self.stopped = True
        self.life.stop(insists=insists)
        self.look()

    def became(self, kind: type) -> bool:
        return any(isinstance(action, kind) for action in self.done)

    def until_due(self) -> None:
        self.pass_time(self.left - MARGIN)


# --- each rule ---


def test_nothing_happens_before_it_is_due() -> None:
    """Two looks a minute are enough."""
    world = World()
    assert world.life.wait_s(world.now) == TICK_S
    world.pass_time(LIFETIME - MARGIN - 1)
    assert world.done == []
    world.pass_time(1)
    assert world.became(Ask)


def test_a_restart() -> None:
    """Mint first; tell it to end; wait for the last of its group; take the terminal back; then start."""
    world = World()
    world.until_due()
    world.answer("new")
    world.end(143, gone=False)
    world.look()
    assert not world.became(Start)
    assert world.life.wait_s(world.now) <= 0.05
    world.end(143)
    world.look()
    assert [type(action) for action in world.done] == [Ask, End, Reclaim, Tell, Start]
    assert world.said == [
        f"{RESTART} (no. 1), its work from the beginning; for a job, use {WAYS_OUT}"
    ]


def test_restarts_are_counted() -> None:
    """What a restart means, and the ways out, are said once; there is no limit by number."""
    world = World()
    for _ in range(12):
        world.until_due()
        world.answer("new")
        world.end(143)
        world.look()
    assert [WAYS_OUT in line for line in world.said] == [True] + [False] * 11
    assert world.said[1:] == [f"{RESTART} (no. {n})" for n in range(2, 13)]


def test_the_grace_period() -> None:
    """It is killed when that is over, and again each second."""
    world = World()
    world.until_due()
    world.answer("new")
    world.pass_time(GRACE - 0.1)
    assert not world.became(Kill)
    world.pass_time(0.2)
    assert world.became(Kill)
    world.look()
    assert world.became(Start)


def test_the_same_token_is_no_reason_to_restart() -> None:
    """The source is asked again."""
    world = World()
    world.until_due()
    world.answer("same")
    world.pass_time(31)
    assert [type(action) for action in world.done] == [Ask, Ask]
    assert world.said == []


def asks(world: World, what: str, times: int) -> list[float]:
    """Pauses between questions, each of which is answered so at once."""
    pauses = []
    for _ in range(times):
        until(world, lambda: world.asking)
        asked = world.boot
        world.answer(what)
        until(world, lambda: world.asking)
        pauses.append(round(world.boot - asked, 1))
    return pauses


def until(world: World, seen: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if seen():
            return
        world.pass_time(0.1)
    pytest.fail("it did not happen")


def test_failures_are_tried_again_ever_later() -> None:
    """1, 2, 4 seconds and so on, give or take a tenth, up to a minute; told once."""
    world = World()
    world.until_due()
    assert asks(world, "down", 8) == pytest.approx(
        [0.9, 1.8, 3.6, 7.2, 14.4, 28.8, 54, 54], abs=0.2
    )
    assert world.said[0] == "the token could not be renewed, trying again:\ndown"
    assert world.said[1:] in ([], ["the token has expired: requests get 401 until it is renewed"])


def test_a_night_of_failures() -> None:
    """However many there are, arithmetic does not fail either."""
    world = World()
    world.until_due()
    for _ in range(2000):
        until(world, lambda: world.asking)
        world.answer("down")
        world.pass_time(60)
    assert len(world.said) == 2
    assert world.finished is None


def test_what_a_person_has_to_cure_is_tried_each_minute() -> None:
    """A login may have been renewed meanwhile."""
    world = World()
    world.until_due()
    assert asks(world, "refused", 2) == [60, 60]
    assert world.said == ["the token cannot be renewed until this is cured:\nrefused"]


def test_expiry_without_a_successor_is_told() -> None:
    """And the command is kept."""
    world = World()
    world.until_due()
    world.answer("down")
    world.pass_time(MARGIN)
    assert world.said[1:] == ["the token has expired: requests get 401 until it is renewed"]
    assert not world.became(End)
    until(world, lambda: world.asking)
    world.answer("new")
    assert world.became(End)


@pytest.mark.parametrize(("policy", "on_failure"), [("auto", "stop"), ("stop", "keep")])
def test_expiry_without_a_successor_ends_it_where_that_is_wanted(
    policy: Policy, on_failure: OnFailure
) -> None:
    """With status 75; `--on-expiry stop` leaves it its grace period before that."""
    world = World(policy, on_failure)
    world.until_due()
    world.answer("down")
    world.pass_time(MARGIN - GRACE - 1)
    assert not world.became(End)
    world.pass_time(2)
    assert world.became(End) == (policy == "stop")
    world.pass_time(GRACE)
    assert world.became(End)
    world.end(143)
    world.look()
    assert world.finished == STOPPED
    assert world.said[-1] == "the token expires and could not be renewed: the command was stopped"


def test_a_terminal_that_is_held_defers() -> None:
    """Nothing is asked nor said; then all of it is."""
    world = World()
    world.busy = True
    world.pass_time(LIFETIME + 100)
    assert world.done == []
    world.busy = False
    world.pass_time(SETTLED)
    assert [type(action) for action in world.done] == [Tell, Tell, Ask]


def test_what_is_run_at_a_prompt_may_take_a_while() -> None:
    """A REPL that works on what was typed is not a server: its session would be lost all the same."""
    world = World()
    for busy, seconds in (
        (True, LIFETIME),
        (False, SETTLED - 2),
        (True, 5),
        (False, SETTLED - 2),
        (True, 5),
    ):
        world.busy = busy
        world.pass_time(seconds)
    assert not world.became(Ask)
    assert not world.became(End)


def test_a_token_put_off_for_long_is_not_given_to_anybody() -> None:
    """By then it is due itself."""
    world = World()
    world.until_due()
    world.busy = True
    world.answer("new")
    world.pass_time(LIFETIME)
    world.busy = False
    world.pass_time(SETTLED)
    assert not world.became(End)
    world.answer("new")
    assert world.became(End)


def test_a_token_that_became_due_while_the_command_ended() -> None:
    """The machine was suspended: another one is asked for first; if there is none, it is good enough."""
    for answer, token in (("new", "token 3"), ("down", "token 2")):
        world = World()
        world.until_due()
        world.answer("new")
        world.suspend(LIFETIME - MARGIN + 1)
        world.end(143)
        world.look()
        assert not world.became(Start)
        assert world.became(Reclaim), "nobody would be told of a Ctrl-C"
        world.answer(answer)
        assert world.starts[-1].token == token


@pytest.mark.parametrize("code", [-2, -3, 130])
@pytest.mark.parametrize("has_keys", [False, True])
def test_an_end_as_after_ctrl_c(code: int, has_keys: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    """It is one where the terminal tells the command; elsewhere, it is just how the command takes SIGTERM."""
    world = World()
    world.until_due()
    world.answer("new")
    world.end(code, has_keys=has_keys)
    world.look()
    assert (world.finished, len(world.starts)) == ((code, 1) if has_keys else (None, 2))


def test_ctrl_c_is_no_early_death() -> None:
    """Who pressed it knows why the command has ended."""
    world = World()
    world.until_due()
    world.answer("new")
    world.end(0)
    world.look()
    world.said.clear()
    world.end(-2, has_keys=True)
    world.look()
    assert (world.finished, world.said) == (-2, [])


def test_who_asks_twice_does_not_wait() -> None:
    """Neither for the grace period nor for a new command."""
    world = World()
    world.until_due()
    world.answer("new")
    world.stop()
    assert not world.became(Kill)
    world.stop()
    world.look()
    assert world.finished == -9


def test_a_command_that_outlives_sigterm_keeps_its_token() -> None:
    """It was to end; that its token has expired is told."""
    world = World()
    world.stop()
    world.pass_time(2 * LIFETIME)
    assert [type(action) for action in world.done] == [Tell]
    assert "because it was told to end" in world.said[0]
    world.end(3)
    world.look()
    assert world.finished == 3


def test_another_users_command_ends_as_it_likes() -> None:
    """It could not be told to end: its end was not our doing, and it is not started anew."""
    world = World()
    world.until_due()
    world.answer("new")
    world.life.refused()
    world.pass_time(LIFETIME)
    assert (
        world.said[0]
        == "the command runs as another user and cannot be stopped: it keeps its token"
    )
    world.end(0)
    world.look()
    assert (world.finished, world.became(Start)) == (0, False)


def test_an_early_death_is_told() -> None:
    """It may have something to do with the restart."""
    world = World()
    world.until_due()
    world.answer("new")
    world.end(143)
    world.look()
    world.pass_time(1.5)
    world.end(9)
    world.look()
    assert world.finished == 9
    assert world.said[-1] == "start no. 1 of the command ended after 1.5 s, by itself"


def test_a_suspended_night() -> None:
    """One restart, and the network may take a minute without a word."""
    world = World()
    world.suspend(8 * 3600)
    assert world.asking
    woken = world.boot
    while world.boot - woken < NETWORK_S - 3:
        world.answer("down")
        assert world.life.wait_s(world.now) <= 2
        until(world, lambda: world.asking)
    assert world.said == []
    world.answer("new")
    world.end(143)
    world.look()
    world.pass_time(60)
    assert len(world.starts) == 2
    assert [type(action) for action in world.done].count(End) == 1


def test_a_network_that_does_not_come_back() -> None:
    """After a minute that is a failure like any other; where it is wanted, the command ends then, not before."""
    world = World("stop")
    world.suspend(8 * 3600)
    woken = world.boot
    while world.finished is None and not world.told:
        world.answer("down")
        world.pass_time(0.5)
    assert NETWORK_S <= world.boot - woken < NETWORK_S + 3


def test_a_wall_clock_set_back() -> None:
    """The token expires when it would have; the new one is recognised."""
    world = World()
    world.set_clock(-86_400)
    world.until_due()
    assert world.asking
    world.answer("new")
    assert world.told


def test_a_wall_clock_set_forward() -> None:
    """The earlier end counts."""
    world = World()
    world.set_clock(LIFETIME - 10)
    assert world.asking


def test_a_process_that_hangs_is_given_up() -> None:
    """It is killed, which makes it fail: after the time of a mint, a program's 120 s and 30 s."""
    world = World()
    world.until_due()
    world.pass_time(MINT + 149)
    assert not world.became(Abandon)
    world.pass_time(2)
    assert world.became(Abandon)
    world.answer("killed")
    assert world.said[0].endswith("trying again:\nkilled")


class Hangs(NamedTuple):
    """A process that mints and never answers, and when that ends the command.

    Args:
        policy: As in `Rules`.
        on_failure: As in `Rules`.
        clock: By how much the wall clock is set forward, shortly before the question would be put.
        asleep: For how long the machine is suspended then.
        ends: Seconds from the token's end until the command is told to end; None for never.
    """

    policy: Policy
    on_failure: OnFailure
    clock: float = 0
    asleep: float = 0
    ends: float | None = 0


SHORT = 400.0
"""The lifetime of a token whose last quarter is shorter than a process that mints may take."""
HANGING = {
    "auto": Hangs("auto", "stop"),
    "restart": Hangs("restart", "stop"),
    "clock set past expiry": Hangs("auto", "stop", clock=500, ends=LATE_ANSWER_S - 0.2),
    "night": Hangs("auto", "stop", asleep=8 * 3600, ends=NETWORK_S),
    "keep": Hangs("auto", "keep", ends=None),
    "stop before expiry": Hangs("stop", "keep", ends=-GRACE),
}


@pytest.mark.parametrize("kind", HANGING)
def test_an_answer_outstanding_at_expiry_is_a_failure(kind: str) -> None:
    """A process that hangs gets no more time than one that fails: the command does not outlive its token."""
    policy, on_failure, clock, asleep, ends = HANGING[kind]
    world = World(policy, on_failure, SHORT)
    world.pass_time(SHORT * 3 / 4 - 1)
    world.set_clock(clock)
    world.suspend(asleep)
    expiry = world.boot + max(0, world.left)
    world.pass_time(max(0, world.left) + (ends or 0) - 1)
    assert world.asking
    assert not world.became(End)
    world.pass_time(30)
    if ends is None:
        assert not world.became(End)
        return
    assert world.told_at - expiry == pytest.approx(ends, abs=0.3)
    assert [type(action) for action in world.done if not isinstance(action, Tell)][:3] == [
        Ask,
        Abandon,
        End,
    ]
    world.answer("killed")
    world.end(143)
    world.look()
    assert world.finished == STOPPED
    told = (
        "the token expires and no answer came to the request for another: the command was stopped"
    )
    assert world.said[-1] == told
    assert not [line for line in world.said if "killed" in line]


def test_an_answer_in_time_is_none() -> None:
    """The control: the same question, answered at the last moment, is followed by a restart."""
    world = World("auto", "stop", SHORT)
    world.pass_time(SHORT - 0.5)
    world.answer("new")
    world.end(143)
    world.look()
    world.pass_time(30)
    assert (world.finished, len(world.starts)) == (None, 2)


def test_an_answer_outstanding_while_nothing_runs() -> None:
    """The old command has ended, the token for the next one has expired meanwhile, and Google does not answer."""
    world = World("auto", "stop")
    world.until_due()
    world.answer("new")
    world.suspend(LIFETIME - MARGIN + 1)
    world.end(143)
    world.look()
    assert world.asking
    world.pass_time(MARGIN + 1)
    assert world.finished == STOPPED


# --- whatever happens ---

EVENTS = st.one_of(
    st.tuples(st.just("pass_time"), st.sampled_from([0.5, 5, 60, 300, 3000])),
    st.tuples(st.just("until_due")),
    st.tuples(st.just("suspend"), st.sampled_from([3, 60, 4000, 30_000])),
    st.tuples(st.just("set_clock"), st.sampled_from([-4000, -30, 30, 4000])),
    st.tuples(
        st.just("answer"),
        st.sampled_from(["new", "new", "new", "short", "same", "down", "refused"]),
    ),
    st.tuples(st.just("ends"), st.booleans(), st.sampled_from([0, 1, 143, -15, 130])),
    st.tuples(st.just("stop")),
    st.tuples(st.just("busy"), st.booleans()),
)


def happen(world: World, what: str, *details: Any) -> None:
    """Let an event happen, if it can."""
    if what == "busy":
        world.busy = details[0]
        world.look()
    elif what == "ends":
        if world.told or world.code is not None or details[1] == 1:
            world.end(details[1], gone=details[0])
            world.look()
    else:
        getattr(world, what)(*details)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(POLICIES),
    st.sampled_from(ON_FAILURE),
    st.lists(EVENTS, max_size=40),
)
@example(
    "auto", "keep", [("until_due",), ("answer", "new"), ("suspend", 3400), ("ends", True, 143)]
)
def test_whatever_happens(policy: Policy, on_failure: OnFailure, events: list[Any]) -> None:
    """One generation at a time, no token near its end where a better one could be had, and the status is the truth.

    `World` checks the first two at each start.
    """
    world = World(policy, on_failure)
    for event in events:
        if world.finished is None:
            happen(world, *event)
    if policy == "stop" and not world.stopped and not world.busy:
        world.pass_time(5000)
        assert world.finished is not None or world.became(End)
    world.stop()
    world.end(7)
    world.look()
    assert world.finished in (world.code, STOPPED)
