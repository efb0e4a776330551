"""Values and fakes for tests of the core: tokens, a clock, a source and a store that keep everything in memory."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta

from vertex_env.errors import VertexEnvError
from vertex_env.tokens.token import Token

PLANTED = "ya29.planted-0123456789abcdefghijklmnopqrstuvwxyz"
"""The value of a fake token. No captured output, log or file outside the store may contain it."""

START = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
"""The instant at which tests begin, unless they say otherwise."""


def token(value: str = PLANTED, lifetime_s: float = 3600, issued: datetime = START) -> Token:
    """A token of *lifetime_s* seconds, an hour as Google gives."""
    return Token(value, expiry=issued + timedelta(seconds=lifetime_s), issued=issued)


class FakeClock:
    """A `tokens.Now` that stands still until told."""

    def __init__(self, start: datetime = START) -> None:
        self.now = start

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass; negative if somebody sets the clock back."""
        self.now += timedelta(seconds=seconds)


class FakeSource:
    """A source that gives *answers* one by one, raising those that are exceptions.

    Asked once more than it has answers, it fails the test.
    """

    def __init__(self, answers: Iterable[Token | Exception]) -> None:
        self._answers = list(answers)
        self._given: list[Token | Exception] = []

    @property
    def count(self) -> int:
        """How many answers were given, refusals included."""
        return len(self._given)

    def mint(self) -> Token:
        """The next token."""
        assert self._answers, f"the source was asked for more than its {self.count} answers"
        # Both calls are atomic, so that threads neither share an answer nor lose a count.
        answer = self._answers.pop(0)
        self._given.append(answer)
        if isinstance(answer, Exception):
            raise answer
        return answer


class MemoryStore:
    """A store that forgets everything with the process."""

    def __init__(self) -> None:
        self.tokens: dict[str, Token] = {}
        self.failures: dict[str, tuple[VertexEnvError, datetime]] = {}

    def load(self, key: str) -> Token | None:
        """The token saved under *key*, if any."""
        return self.tokens.get(key)

    def save(self, key: str, token: Token) -> None:
        """Keep *token* under *key*, in place of what was there."""
        self.tokens[key] = token

    def problem(self) -> str | None:
        """None: it always works."""
        return None

    def ready(self) -> None:
        """It is."""

    def fail(self, key: str, error: VertexEnvError, at: datetime) -> None:
        """Note *error*."""
        self.failures[key] = error, at

    def failure(self, key: str, since: datetime, until: datetime) -> VertexEnvError | None:
        """What was noted then."""
        error, at = self.failures.get(key, (None, since))
        return error if since <= at <= until else None

    def keeper(self, key: str) -> AbstractContextManager[bool]:  # noqa: ARG002 -- Store's signature
        """No other process can reach this store."""
        return nullcontext(enter_result=True)

    def lock(self, key: str) -> AbstractContextManager[None]:  # noqa: ARG002 -- Store's signature
        """No other process can reach this store."""
        return nullcontext()
