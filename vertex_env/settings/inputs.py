"""Recorder of what an answer depends on: variables, files, and how long facts hold."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from vertex_env.cache import answers
from vertex_env.files import changed_since


class Watched(Mapping[str, str]):
    """An environment that records which variables were looked up, whether set or not."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.names: dict[str, None] = {}
        self.judged: dict[str, str] = {}
        """Variable to rule, for variables of which only `is_kept` was looked up."""

    def __getitem__(self, name: str) -> str:
        self.names[name] = None
        return self._environ[name]

    def __iter__(self) -> Iterator[str]:
        raise TypeError(
            "iterating over the environment would make the answer depend on every variable"
        )

    def __len__(self) -> int:
        return len(self._environ)

    @property
    def unwatched(self) -> Mapping[str, str]:
        """The environment without recording, for values that do not change an answer.

        An example is a variable that changes only how a token is minted.
        """
        return self._environ

    def keeps(self, name: str, rule: str) -> bool:
        """Whether the user has set the value of *name*, so that it stays; see `answers.is_kept`.

        Only this fact is recorded, not the value.
        """
        self.judged[name] = rule
        return answers.is_kept(rule, self._environ.get(name, ""))


class Inputs:
    """Recorder of the variables and files that one request reads.

    Args:
        environ: The environment.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = Watched(environ)
        self.started = time.time()
        """Instant when the first input was read, in epoch seconds."""
        self.files: dict[Path, str] = {}
        """Files that were looked up, existing or not, with their first `answers.file_state`.
        """
        self.until = 0.0
        """Instant when a fact first has to be looked up again, in epoch seconds; 0 for never."""

    def saw(self, *paths: Path | None) -> None:
        """Record the files at *paths*, before they are read.

        None stands for a file that has no path, because there is no home folder.
        """
        for path in paths:
            if path is not None and path not in self.files:
                self.files[path] = answers.file_state(str(path))

    def holds_until(self, instant: float) -> None:
        """Record that a fact holds until *instant*, in epoch seconds; 0 if it always holds."""
        if instant:
            self.until = min(instant, self.until or instant)

    @property
    def names(self) -> list[str]:
        """The recorded variables, as in `answers.Answer`.

        An item is `NAME`, or `RULE NAME` if only `is_kept` was looked up.
        """
        return [
            *self.environ.names,
            *(f"{rule} {name}" for name, rule in self.environ.judged.items()),
        ]

    @property
    def are_anywhere_the_same(self) -> bool:
        """Whether every working folder gives the same files: all their paths are absolute."""
        return all(path.is_absolute() for path in self.files)

    @property
    def are_as_they_were(self) -> bool:
        """Whether no file has changed since the first was read, as far as time stamps show."""
        return not any(
            changed_since(path, self.started) or answers.file_state(str(path)) != was
            for path, was in self.files.items()
        )
