"""What an answer depends on: the variables and files that were looked at, and until when the facts in it hold."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from vertex_env.cache import answers as warm
from vertex_env.files import changed_since


class Watched(Mapping[str, str]):
    """An environment that knows which variables were looked at, set or not."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.names: dict[str, None] = {}
        self.judged: dict[str, str] = {}
        """Variables of which only `is_kept` was looked at, to its rule."""

    def __getitem__(self, name: str) -> str:
        self.names[name] = None
        return self._environ[name]

    def __iter__(self) -> Iterator[str]:
        raise TypeError("whoever goes through all variables depends on all of them")

    def __len__(self) -> int:
        return len(self._environ)

    @property
    def unwatched(self) -> Mapping[str, str]:
        """The environment itself, for what does not change an answer, such as how a token is minted."""
        return self._environ

    def keeps(self, name: str, rule: str) -> bool:
        """Whether the value of *name* is the user's own (`warm.is_kept`); that is all that is looked at."""
        self.judged[name] = rule
        return warm.is_kept(rule, self._environ.get(name, ""))


class Inputs:
    """The recorder that one request hands down.

    Args:
        environ: The environment.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = Watched(environ)
        self.started = time.time()
        """When the first input was read, in epoch seconds."""
        self.files: dict[Path, str] = {}
        """Files that were looked at, there or not, and what they were like at first (`warm.file_state`)."""
        self.until = 0.0
        """When the first of the facts in use has to be looked up anew, in epoch seconds; 0 without any."""

    def saw(self, *paths: Path | None) -> None:
        """Note that the files at *paths* matter, before they are read; None is a file that has no place."""
        for path in paths:
            if path is not None and path not in self.files:
                self.files[path] = warm.file_state(str(path))

    def holds_until(self, instant: float) -> None:
        """Note that a fact in use holds until *instant*, in epoch seconds; 0 for one that always holds."""
        if instant:
            self.until = min(instant, self.until or instant)

    @property
    def names(self) -> list[str]:
        """The variables, as `warm.Answer` has them: `NAME`, or `RULE NAME` where only `is_kept` matters."""
        return [
            *self.environ.names,
            *(f"{rule} {name}" for name, rule in self.environ.judged.items()),
        ]

    @property
    def are_anywhere_the_same(self) -> bool:
        """Whether the files are the same ones in each working folder."""
        return all(path.is_absolute() for path in self.files)

    @property
    def are_as_they_were(self) -> bool:
        """Whether no file has changed since the first of them was read, as far as time stamps can tell."""
        return not any(
            changed_since(path, self.started) or warm.file_state(str(path)) != was
            for path, was in self.files.items()
        )
