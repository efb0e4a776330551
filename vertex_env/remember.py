"""Results that one call keeps for the next: an answer for the warm path, a snapshot for shells.

The remembered answer works as follows. The ordinary path prints its text for the real
token. It then renders the same text a second time for a stand-in token: random letters,
with a random expiry thousands of years from now. Five parts of the text depend on a
token: its value, its expiry in epoch seconds, the instant when it is due, the seconds
that it has left, and its expiry as `2026-11-22T12:00:00Z`. The stand-in's five parts
are called marks. They are random, so they occur in the text only where the token
belongs. The answer file holds the text, the marks, and a state: a digest of the
variables and of the metadata of the files that were read. The file is named after the
question key, a digest of the arguments, the calling shell, the program's version and
the variables that usually matter. The next call computes the same question key, finds
the file, and compares the state. If the state is unchanged and the stored token is
fresh, the warm path puts the stored token's five texts in place of the marks and prints
the result. So no answer contains a token, and a new token makes no answer invalid. The
snapshot is made from a stand-in token too.
"""

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
    """The remembered answers of one identity.

    Args:
        folder: The folder of the store.
        key: `Identity.key`.
        inputs: The variables and files that the answers depend on.
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
        """Keep the printed text, so that the warm path can print it again.

        Args:
            args: The arguments of the program.
            question: `answers.question_key` of the arguments, computed before the
                settings were read. If it has changed, nothing is kept.
            render: Makes the printed text for a token. It is called with the stand-in
                token.
            now: The instant of the printing.
            min_ttl: Least time that a token must have left, in seconds.
            refreshes: Whether the warm path may start a background refresh.
        """
        inputs = self._inputs
        if question != answers.question_key(args, inputs.environ.unwatched):
            return
        if not inputs.are_anywhere_the_same:
            return  # the answer depends on the working folder
        if not inputs.are_as_they_were:
            return  # a file may have changed after it was read
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
        """Keep a snapshot, which shells load at their start."""
        from vertex_env.formats.snapshot import snapshot

        inputs = self._inputs
        if not inputs.are_anywhere_the_same:
            return Kept.NEVER
        token = stand_in()
        env = environment_for(token)
        names = tuple(inputs.environ.names)  # a copy: the live table grows as values are compared
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
    """A token for the marks: random letters, with a random expiry within nearly 8,000 years.

    No other text in an answer is equal to its value or to its instants.
    """
    expiry = 250_000_000_000 + int.from_bytes(os.urandom(4), "big") // 2
    return Token(
        os.urandom(16).hex(),
        datetime.fromtimestamp(expiry, UTC),
        datetime.fromtimestamp(expiry - 3600, UTC),
    )
