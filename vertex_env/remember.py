"""What is kept of an answer for the next call: the text for the warm path, the snapshot for shells."""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from vertex_env import freshness
from vertex_env.cache import answers, private
from vertex_env.cache.folder import write_private
from vertex_env.cache.snapshots import Kept, write_snapshot
from vertex_env.settings.inputs import Inputs
from vertex_env.tokens.token import Token
from vertex_env.vertex.variables import Environment


class Memory:
    """The answers of one identity.

    Args:
        folder: The store's.
        key: `Identity.key`.
        inputs: What the answers depend on.
    """

    def __init__(self, folder: Path, key: str, inputs: Inputs) -> None:
        self._folder, self._key, self._inputs = folder, key, inputs

    def keep_answer(
        self,
        args: Sequence[str],
        question: str,
        render: Callable[[Token], str],
        now: datetime,
        *,
        min_ttl: float,
        refreshes: bool,
    ) -> None:
        """Keep what was printed, so that the warm path can print it again.

        Args:
            args: The arguments.
            question: `answers.question_key` of them at the beginning; if it has changed, nothing is kept.
            render: What is printed for a token; it is called with one that stands for all.
            now: When it was printed.
            min_ttl: Least seconds that a token must have left.
            refreshes: Whether the warm path may start a refresh in the background.
        """
        inputs = self._inputs
        if question != answers.question_key(args, inputs.environ.unwatched):
            return
        if not inputs.are_anywhere_the_same:
            return  # it depends on the folder that we are in
        if not inputs.are_as_they_were:
            return  # perhaps after we had read it
        token = stand_in()
        expiry = int(token.expiry.timestamp())
        due = expiry - int(freshness.EARLY)
        answer = answers.Answer(
            key=self._key,
            min_ttl=min_ttl,
            refreshes=refreshes,
            names=inputs.names,
            files=[str(path) for path in inputs.files],
            until=inputs.until,
            text=render(token),
            marks=(
                token.value,
                str(expiry),
                str(due),
                str(int(expiry - now.timestamp())),
                answers.rfc3339(expiry),
            ),
        )
        data = answers.format_answer(answer, inputs.environ)
        if data is not None and len(data) <= private.MAX_BYTES:
            write_private(self._folder / private.ANSWER.name(question), data)

    def keep_snapshot(self, environment_for: Callable[[Token], Environment]) -> Kept:
        """Keep what shells load at their start."""
        from vertex_env.formats.snapshot import snapshot

        inputs = self._inputs
        if not inputs.are_anywhere_the_same:
            return Kept.NEVER
        token = stand_in()
        env = environment_for(token)
        names = tuple(
            inputs.environ.names
        )  # not the live table, which grows as values are compared
        found = snapshot(names, inputs.environ.judged, inputs.environ, env, token.value)
        if found is None:
            return Kept.NEVER
        folder = str(self._folder)
        token_path, stamp_path = (
            private.TOKEN.path(folder, self._key),
            private.STAMP.path(folder, self._key),
        )
        return write_snapshot(
            self._folder,
            inputs.environ.get("VERTEX_ENV_PROFILE", ""),
            inputs.files,
            lambda files: found.text(files, token=token_path, stamp=stamp_path, until=inputs.until),
        )


def stand_in() -> Token:
    """One of random letters, that ends at a random instant in nearly 8,000 years: these occur nowhere else."""
    expiry = 250_000_000_000 + int.from_bytes(os.urandom(4), "big") // 2
    return Token(
        os.urandom(16).hex(),
        datetime.fromtimestamp(expiry, UTC),
        datetime.fromtimestamp(expiry - 3600, UTC),
    )
