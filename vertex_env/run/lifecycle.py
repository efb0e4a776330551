"""Decide when `run` renews, stops and restarts the command: rules without processes or clocks.

The supervisor reports each event (`gave`, `failed`, `exited`, `refused`, `stop`). It
calls `look` after an event, and after `wait_s` seconds at the latest, and does what
`look` returns. Instants are arguments, so a test plays a whole night in a millisecond.

::

    running --due--> asking --new token--> stopping --all of it gone--> running, next generation
       |  ^            |                      |
       |  +- failed, --+                      +--> finished: `stop`, or the user ended it meanwhile
       |     same token
       +--the command ends by itself--> finished, with its status
"""

from __future__ import annotations

from vertex_env.errors import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from vertex_env.vertex.variables import Environment

    Policy = Literal["auto", "restart", "ignore", "stop"]
    OnFailure = Literal["keep", "stop"]

STOPPED = Exit.TRY_AGAIN
"""Exit status after a stop at expiry. It tells an outer supervisor to start everything again."""
TICK_S = 30.0
"""Longest time between two readings of the clocks. Timers stand still while a machine
is suspended, so a long timer would end too late."""
HELPER_SLACK_S = 120.0 + 30.0
"""Seconds that the helper process may take besides the mint. A program that yields a
subject token may take 120 s; the other 30 s are for the start of the helper."""
NETWORK_S = 60.0
"""Seconds that a machine may take to find its network after it wakes."""
LATE_ANSWER_S = 10.0
"""Timeout for a mint that starts only after expiry. This happens when the clock was
set, or when the command held the terminal."""
_SUSPENDED_S = 5.0
_EARLY_DEATH_S = 5.0
_SLOWEST_S = 60.0
_SETTLED_S = 30.0
"""Seconds out of raw mode before the terminal counts as unattended."""
_FIRST_RESTART = ", its work from the beginning; for a job, use --on-expiry ignore or stop"
"""Meaning of a restart and the alternatives; printed at the first restart only."""
_INTERRUPTED = (-2, -3, 128 + 2)
"""Exit codes of a command after Ctrl-C (SIGINT, SIGQUIT). The terminal sends these
signals to the command, not to this process."""


class Instant:
    """Instant on three clocks, in seconds (clock_gettime(2)).

    Args:
        wall: Seconds since the epoch; this clock may be set forward and back.
        boot: CLOCK_BOOTTIME, which nobody can set.
        awake: CLOCK_MONOTONIC, which stands still while the machine is suspended.
    """

    def __init__(self, wall: float, boot: float, awake: float) -> None:
        self.wall = wall
        self.boot = boot
        self.awake = awake


class Rules:
    """Settings of the user for `run`.

    Args:
        policy: Action before expiry. `auto` does not restart a command that holds the
            terminal.
        on_failure: Action at expiry if there is no new token.
        grace_s: Seconds that the command may take to end.
        mint_s: Seconds that one mint may take.
    """

    def __init__(
        self, policy: Policy, on_failure: OnFailure, grace_s: float, mint_s: float
    ) -> None:
        self.policy = policy
        self.on_failure = on_failure
        self.grace_s = grace_s
        self.mint_s = mint_s


class Lease:
    """Variables, and how long their token is good.

    The expiry is kept on two clocks, and the earlier one counts. The wall clock may be
    set. The other clock has a wrong expiry if the wall clock was wrong when the
    variables came.

    Args:
        env: The variables.
        now: Instant at which they came.
    """

    def __init__(self, env: Environment, now: Instant) -> None:
        self.env = env
        self.token = env.get("OPENAI_API_KEY")
        self._wall = float(env.get("VERTEX_ENV_EXPIRES_AT") or 0)
        self._boot = now.boot + self._wall - now.wall
        self.margin = self._wall - float(env.get("VERTEX_ENV_REFRESH_AT") or 0)
        """Seconds before expiry at which the token is due."""

    def left(self, now: Instant) -> float:
        """Return the seconds until expiry."""
        return min(self._wall - now.wall, self._boot - now.boot)

    def is_due(self, now: Instant) -> bool:
        """Tell whether it is time for the next token."""
        return self.left(now) <= self.margin


class Ask:
    """Start a helper process, which mints."""


class Abandon:
    """Kill the helper process; it then reports a failure."""


class End:
    """Ask the command, and all processes that belong to it, to end."""


class Kill:
    """End the command and its processes by force."""


class Reclaim:
    """Take the terminal back from the command, which has ended.

    Args:
        modes: Whether to restore the terminal modes as well, because the command may
            have left others.
    """

    def __init__(self, *, modes: bool) -> None:
        self.modes = modes


class Tell:
    """Print a line."""

    def __init__(self, line: str) -> None:
        self.line = line


class Start:
    """Start the command with these variables."""

    def __init__(self, env: Environment, generation: int) -> None:
        self.env = env
        self.generation = generation


class Finish:
    """End with this exit code; a negative code means death by that signal."""

    def __init__(self, code: int) -> None:
        self.code = code


Action = Ask | Abandon | End | Kill | Reclaim | Tell | Start | Finish


class Lifecycle:
    """Decisions of `run` between the first start of the command and its end.

    Args:
        env: The first variables.
        now: Instant at which the command was started with them.
        rules: Settings of the user.
        random: Function that returns a number of at least 0 and less than 1.
    """

    def __init__(
        self, env: Environment, now: Instant, rules: Rules, random: Callable[[], float]
    ) -> None:
        self._policy = rules.policy
        self._on_failure = rules.on_failure
        self._grace_s = rules.grace_s
        self._helper_limit_s = rules.mint_s + HELPER_SLACK_S
        self._random = random
        self._suspended = now.boot - now.awake
        self._waking_until = now.boot
        self._user_stop = self._insists = self._refused = False
        self._queue: list[str] = []
        self._begin(Lease(env, now), 0, now)

    def _begin(self, lease: Lease, generation: int, now: Instant) -> None:
        self._lease = lease
        # Spread the renewals of commands that were started at the same instant.
        self._early = lease.margin * (1 + self._random() / 10)
        self._generation = generation
        self._started = now.awake
        self._code: int | None = None
        self._next: Lease | None = None
        self._asked_until: float | None = None
        self._answer_by = self._retry_at = now.boot
        self._failures = self._fruitless = 0
        self._deferred = self._asked_again = self._alone = self._unanswered = False
        self._kill_at: float | None = None
        self._busy_at = -_SETTLED_S
        self._told: set[str] = set()

    @property
    def is_stopping(self) -> bool:
        """Whether the supervisor has told the command to end."""
        return self._kill_at is not None

    # --- what has happened ---

    def gave(self, env: Environment, now: Instant) -> None:
        """Take the new variables that the helper process gave."""
        self._asked_until = None
        lease, old = Lease(env, now), self._next if self.is_stopping else None
        self._failures = 0
        if old is not None:
            if lease.left(now) > old.left(now):
                self._next = lease
            self._retry_at = now.boot + 1.0
        elif self._is_newer(lease, now):
            self._next = lease
        else:
            # A metadata server gives the same token until shortly before expiry. The
            # same token is no reason to restart the command.
            self._fruitless += 1
            self._retry_at = now.boot + max(1.0, min(30.0, self._lease.left(now) / 4))

    def _is_newer(self, lease: Lease, now: Instant) -> bool:
        gained = lease.left(now) - self._lease.left(now)
        return lease.token != self._lease.token and gained >= min(60.0, 2 * self._lease.margin)

    def failed(self, said: str, now: Instant, *, permanent: bool = False) -> None:
        """Note that the helper process has failed.

        Args:
            said: Error and hint of the helper.
            now: The instant.
            permanent: Whether a person has to cure the failure.
        """
        self._asked_until = None
        if self._unanswered:
            # The helper was killed because it was too late; its exit status tells
            # nothing new.
            return
        if now.boot < self._waking_until and not permanent:
            self._retry_at = now.boot + 2.0  # after the machine wakes, wait for its network
            return
        self._fruitless += 1
        self._failures += 1
        if permanent:
            pause = min(_SLOWEST_S, max(1.0, self._lease.margin))
            self._tell_once(
                said, f"the token cannot be renewed until this is cured:\n{said.rstrip()}"
            )
        else:
            pause = min(_SLOWEST_S, 2.0 ** min(self._failures - 1, 6)) * (
                0.9 + 0.2 * self._random()
            )
            self._tell_once(said, f"the token could not be renewed, trying again:\n{said.rstrip()}")
        self._retry_at = now.boot + pause

    def exited(self, code: int, now: Instant, *, has_keys: bool = False) -> None:
        """Note that the command has ended; other processes of its group may still run.

        Args:
            code: Exit code of the command.
            now: The instant.
            has_keys: Whether the command held the terminal, so that a Ctrl-C reached it
                and not us.
        """
        self._code = code
        if has_keys and code in _INTERRUPTED:
            self._user_stop = True
        lasted = now.awake - self._started
        if (
            code
            and self._generation
            and lasted < _EARLY_DEATH_S
            and not (self.is_stopping or self._user_stop)
        ):
            self._queue.append(
                f"start no. {self._generation} of the command ended after {lasted:.1f} s, by itself"
            )

    def refused(self) -> None:
        """Note that the command cannot be signalled, because it runs as another user.

        The command is not stopped or renewed any more. It keeps its token and ends by
        itself.
        """
        self._refused = True
        self._kill_at = self._next = None
        self._tell_once(
            "refused", "the command runs as another user and cannot be stopped: it keeps its token"
        )

    def stop(self, *, insists: bool = False) -> None:
        """Note a request to end the command; the command is not restarted afterwards.

        Args:
            insists: Whether a second request, made while the command is stopping, ends
                it by force.
        """
        self._insists = insists and self._user_stop and self.is_stopping
        self._user_stop = True

    # --- what is to be done ---

    def look(self, now: Instant, *, busy: bool, gone: bool) -> list[Action]:
        """Return the actions that are due now.

        Args:
            now: The instant.
            busy: Whether the command holds the terminal; no line is printed then.
            gone: Whether the command and all processes that belong to it have ended.
        """
        self._notice_suspend(now)
        if self.is_stopping:
            actions = self._look_stopping(now, gone=gone)
        elif self._code is not None:
            actions = self._finish(self._code)  # the command ended by itself, which is final
        else:
            actions = self._look_running(now, busy=busy)
        return actions if busy else [*self._flush(), *actions]

    def _notice_suspend(self, now: Instant) -> None:
        suspended = now.boot - now.awake
        if suspended > self._suspended + _SUSPENDED_S:
            self._waking_until = now.boot + NETWORK_S
            self._retry_at = now.boot
            self._failures = self._fruitless = 0
        self._suspended = max(suspended, self._suspended)

    def _look_running(self, now: Instant, *, busy: bool) -> list[Action]:
        left = self._lease.left(now)
        if busy:
            self._busy_at = now.boot
        # A REPL sets raw mode at its prompt only. While it works on a line, the
        # terminal looks as it does under a server. So the terminal counts as attended
        # for a while after raw mode.
        settling = now.boot - self._busy_at < min(_SETTLED_S, self._lease.margin)
        self._deferred = (busy or settling) and self._policy == "auto"
        if self._user_stop or self._refused:
            if left <= 0:
                why = "it was told to end" if self._user_stop else "it cannot be stopped"
                self._tell_once(
                    "expired",
                    f"the token has expired, and the command gets no other, because {why}",
                )
            return []
        if left > self._early:
            return []
        if self._next is not None and self._next.is_due(now):
            self._next = None  # the restart was put off until this token was due as well
        if self._must_end(left, now):
            self._next = None
            return self._end(now)
        if self._next is not None and not self._deferred:
            return self._end(now)
        if left <= 0 and now.boot >= self._waking_until:
            self._tell_once(
                "expired", "the token has expired: requests get 401 until it is renewed"
            )
        if self._deferred:
            self._tell_once(
                "deferred",
                "the token is due for renewal, but the command holds the terminal: it is left alone while it does. "
                "--on-expiry restart would restart it; --on-expiry ignore runs it without us",
            )
        return self._renew(now, left, wanted=not self._deferred)

    def _must_end(self, left: float, now: Instant) -> bool:
        """Tell whether the command must end now, because its token expires and has no successor."""
        if self._deferred or self._next is not None or now.boot < self._waking_until:
            return False
        if self._policy == "stop":
            return left <= self._stop_margin()  # the policy wants no other token
        return self._on_failure == "stop" and left <= 0 and self._has_failed(now)

    def _has_failed(self, now: Instant) -> bool:
        """Tell whether a new token is overdue. An answer that comes too late counts as none."""
        return self._fruitless > 0 or (
            self._asked_until is not None and now.boot >= self._answer_by
        )

    def _stop_margin(self) -> float:
        """Return the seconds before expiry at which the command is told to end, so that
        it ends in time.
        """
        return min(self._grace_s, self._lease.margin / 2)

    def _renew(self, now: Instant, left: float, *, wanted: bool) -> list[Action]:
        """Watch over the helper process; start one if it is *wanted* and the back-off is over.

        Args:
            now: The instant.
            left: Seconds until expiry of the best token that there is.
            wanted: Whether to start a helper.
        """
        if self._asked_until is not None:
            if now.awake < self._asked_until:
                return []
            self._asked_until = now.awake + 1.0  # the failure is reported when it has ended
            return [Abandon()]
        if not wanted or now.boot < self._retry_at:
            return []
        self._asked_until = now.awake + self._helper_limit_s
        self._answer_by = now.boot + (left if left > 0 else LATE_ANSWER_S)
        return [Ask()]

    def _end(self, now: Instant) -> list[Action]:
        left = self._lease.left(now) - 1
        self._kill_at = now.awake + (min(self._grace_s, left) if left > 0 else self._grace_s)
        self._retry_at = now.boot
        if self._asked_until is None:
            return [End()]
        self._unanswered = self._next is None
        return [Abandon(), End()]

    def _look_stopping(self, now: Instant, *, gone: bool) -> list[Action]:
        """Wait until the old command and its group are gone; then start the new one, or end."""
        if not gone or self._code is None:
            if self._insists or now.awake >= (self._kill_at or 0):
                self._insists, self._kill_at = False, now.awake + 1.0
                return [Kill()]
            return []
        if self._user_stop:
            return self._finish(self._code)
        if self._next is None:
            hangs = self._unanswered and not self._fruitless
            why = "no answer came to the request for another" if hangs else "could not be renewed"
            self._queue.append(f"the token expires and {why}: the command was stopped")
            return self._finish(STOPPED)
        if self._policy == "stop":
            self._queue.append(
                "the token is about to expire: the command was stopped, as --on-expiry stop asks"
            )
            return self._finish(STOPPED)
        return self._replace(self._next, now)

    def _replace(self, lease: Lease, now: Instant) -> list[Action]:
        """Restart the command with a token that is still good for a while.

        The old command may have taken so long to end that the new token is due as well.
        Then another token is minted first.
        """
        left = lease.left(now)
        if left <= 0 and self._on_failure == "stop" and self._has_failed(now):
            self._queue.append(
                "the token has expired and could not be renewed: the command is not started anew"
            )
            return self._finish(STOPPED)
        if left <= 0:
            self._tell_once(
                "none",
                "the token expired before the command could be started anew: waiting for another",
            )
        if (
            self._asked_until is not None
            or left <= 0
            or (lease.is_due(now) and not self._asked_again)
        ):
            # No command runs now. Take the terminal, so that a Ctrl-C reaches this
            # process.
            reclaim: list[Action] = [] if self._alone else [Reclaim(modes=True)]
            self._asked_again = self._alone = True
            return [*reclaim, *self._renew(now, left, wanted=True)]
        generation = self._generation + 1
        meaning = _FIRST_RESTART if generation == 1 else ""
        self._queue.append(
            f"new token, lasting {int(left)} s: starting the command anew (no. {generation}){meaning}"
        )
        said = self._flush()
        self._begin(lease, generation, now)
        return [Reclaim(modes=True), *said, Start(lease.env, generation)]

    def _finish(self, code: int) -> list[Action]:
        return [Reclaim(modes=code < 0), *self._flush(), Finish(code)]

    def _tell_once(self, what: str, line: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._queue.append(line)

    def _flush(self) -> list[Action]:
        said: list[Action] = [Tell(line) for line in self._queue]
        self._queue.clear()
        return said

    # --- when to look again ---

    def wait_s(self, now: Instant) -> float:
        """Return the seconds during which nothing can happen unless an event is reported."""
        if not self.is_stopping:
            soon = self._next_event(now)
        elif self._alone:
            soon = self._next_answer(now)
        else:
            soon = (self._kill_at or 0) - now.awake
            if self._code is not None:
                soon = min(soon, 0.05)  # the end of the last process of a group sends no signal
        return max(0.0, min(TICK_S, soon))

    def _next_event(self, now: Instant) -> float:
        left = self._lease.left(now)
        events = [left] if left > 0 else []
        if self._user_stop or self._refused:
            return min(events, default=TICK_S)
        if left > self._early:
            return left - self._early
        if self._policy == "stop" and left > self._stop_margin():
            events.append(left - self._stop_margin())
        events.append(1.0 if self._deferred else self._next_answer(now))
        return min(events)

    def _next_answer(self, now: Instant) -> float:
        if self._asked_until is None:
            return self._retry_at - now.boot
        given_up = self._asked_until - now.awake
        too_late = max(self._answer_by, self._waking_until) - now.boot
        return min(given_up, too_late) if too_late > 0 else given_up
