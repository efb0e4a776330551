"""Kinds of settings: accepted values, their notation in each place, and their completion.

A kind parses and checks a value. Its error message names the setting and the source. It
is the only code that knows how its values are written in a variable, in config.toml and
as a keyword of the Python API.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, Literal, TypeVar

from vertex_env.errors import SettingsError
from vertex_env.redaction import looks_secret
from vertex_env.vertex.target import fits
from vertex_env.vertex.variables import check_template

V_co = TypeVar("V_co", covariant=True)
C = TypeVar("C", bound=str)

Raw = str | tuple[str, ...]
"""A raw value: one text, or the items of a list."""

Completes = Literal["files", "profiles"]

_MISPLACED = (
    "leave it out: the access token is minted, and a --set template has {token} where it belongs"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A raw value in a layer, and its source.

    A source looks like `--project`, `GOOGLE_CLOUD_PROJECT` or `config.toml:3`.
    """

    value: Raw
    source: str

    @property
    def texts(self) -> tuple[str, ...]:
        """The value as a list; a single text becomes a list of one."""
        return (self.value,) if isinstance(self.value, str) else self.value


class Kind(ABC, Generic[V_co]):
    """A kind of setting."""

    metavar = "VALUE"
    """Placeholder for the value in the help."""
    many = False
    """Whether it is a list: the option repeats, and one value may have several items."""
    is_file = False
    """Whether it is the path of a file."""
    choices: tuple[str, ...] = ()
    """All values, if there are few; completion offers them."""
    completes: Completes | None = None
    """Source of completion if there are no `choices`."""
    separator = ","
    """Separator between the items of a list in a variable."""
    toml = '"…"'
    """Notation in config.toml, for a hint."""
    keyword = "str | None = None"
    """Type and default of the keyword in the Python API."""

    def parse(self, name: str, found: Found) -> V_co:
        """The parsed value of *found* for the setting *name*, such as `quota-project`.

        Raises:
            SettingsError: The value is not of this kind, or contains a token or a key.
        """
        for text in found.texts:
            # As a whole: an item of a list may be a part of a key, which looks like no key.
            _refuse_secret(name, text, found.source)
        return self.read(name, found)

    @abstractmethod
    def read(self, name: str, found: Found) -> V_co:
        """Parse texts that contain no secret; see `parse`."""

    def split(self, text: str) -> Raw:
        """Convert a variable's *text* to the value of an option; empty if it has no item."""
        return text

    def from_toml(self, value: object) -> Raw | None:
        """Convert a value in config.toml to the value of an option; None if its type is wrong."""
        if isinstance(value, str):
            return value
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


class One(Kind[V_co]):
    """A kind with a single text."""

    def read(self, name: str, found: Found) -> V_co:  # noqa: D102
        (text,) = found.texts
        return self.check(name, text, found.source)

    @abstractmethod
    def check(self, name: str, text: str, source: str) -> V_co:
        """The parsed value of *text*, which may be an item of a list.

        Raises:
            SettingsError: The text is not of this kind.
        """


class Text(One[str]):
    """A text that matches a pattern.

    Args:
        shape: A regular expression for the whole text. None accepts any text that is
            not empty and has no NUL.
        hint: Description of the shape, for the error about another text.
        flags: Flags of the regular expression.
        expand: Function from a short form to the long one, called before the shape is
            checked.
        wrong: Function that finds a problem in a text of the right shape. It returns
            the problem and a hint, or None.
        completes: Source of completion.
    """

    def __init__(
        self,
        shape: str | None = None,
        hint: str = "",
        *,
        flags: int = re.ASCII,
        expand: Callable[[str], str] = str,
        wrong: Callable[[str], tuple[str, str] | None] = lambda _: None,
        completes: Completes | None = None,
    ) -> None:
        self._shape, self._hint, self._flags, self._expand, self._wrong = (
            shape,
            hint,
            flags,
            expand,
            wrong,
        )
        self.completes = completes

    def fits(self, text: str) -> bool:
        """Whether *text* matches the shape."""
        return self._shape is None or fits(self._shape, text, self._flags)

    def check(self, name: str, text: str, source: str) -> str:  # noqa: D102
        text = self._expand(text)
        if not self.fits(text):
            raise SettingsError(f"{name} {text!r} from {source} is not valid", self._hint)
        if (wrong := self._wrong(text)) is not None:
            raise SettingsError(f"{name} {text!r} from {source} {wrong[0]}", wrong[1])
        if not text or "\0" in text:
            raise SettingsError(
                f"{name} from {source} is empty or has a NUL",
                f"leave --{name} out to use the default",
            )
        return text


class File(Text):
    """The path of a file. The source of the value decides what a relative path starts from."""

    metavar = "FILE"
    is_file = True
    keyword = "str | os.PathLike[str] | None = None"

    def __init__(self) -> None:
        super().__init__(completes="files")


class Choice(One[C]):
    """One of a few words."""

    def __init__(self, *choices: C) -> None:
        self.choices: tuple[C, ...] = choices
        self.metavar = "|".join(choices)

    def check(self, name: str, text: str, source: str) -> C:  # noqa: D102
        for choice in self.choices:
            if text == choice:
                return choice
        raise SettingsError(
            f"{name} {text!r} from {source} is unknown", "choose one of " + ", ".join(self.choices)
        )


class Duration(One[timedelta]):
    """A duration such as `90m`.

    Args:
        least: Shortest accepted duration.
        most: Longest accepted duration.
    """

    metavar = "DURATION"
    keyword = "timedelta | str | None = None"

    def __init__(self, least: timedelta = timedelta(0), most: timedelta = timedelta.max) -> None:
        self._least, self._most = least, most

    def check(self, name: str, text: str, source: str) -> timedelta:  # noqa: D102
        try:
            value = parse_duration(text)
        except ValueError as e:
            raise SettingsError(
                f"{name} from {source}: {e}", "give a duration such as 90m, 1h30m or 45s"
            ) from e
        if not self._least <= value <= self._most:
            raise SettingsError(
                f"{name} {text!r} from {source} is out of range",
                f"give one between {_written(self._least)} and {_written(self._most)}",
            )
        return value


class Many(Kind[V_co]):
    """A list of texts."""

    many = True
    toml = '["…", "…"]'
    keyword = "str | tuple[str, ...] = ()"

    def from_toml(self, value: object) -> Raw | None:
        """Accept one string for a list, too: `client = "aider,goose"`."""
        return (value,) if isinstance(value, str) else _strings(value)


class Listed(Many[tuple[str, ...]]):
    """A list of items, separated by commas; in a variable, also by spaces."""

    def __init__(self, item: One[str]) -> None:
        self.item = item
        self.choices = item.choices

    def read(self, name: str, found: Found) -> tuple[str, ...]:
        """The items without the blank ones: `aider, goose,` has two. An empty list is an error."""
        items = [item.strip(" ") for text in found.texts for item in text.split(",")]
        return tuple(
            self.item.check(name, item, found.source)
            for item in [item for item in items if item] or [""]
        )

    def split(self, text: str) -> Raw:  # noqa: D102
        return tuple(part for part in re.split(r"[,\s]+", text) if part)


class Chain(Kind[tuple[str, ...]]):
    """Items separated by commas, none of them blank: delegates, then the account."""

    def __init__(self, item: One[str]) -> None:
        self.item = item

    def read(self, name: str, found: Found) -> tuple[str, ...]:  # noqa: D102
        parts = ",".join(found.texts).split(",")
        return tuple(self.item.check(name, part.strip(), found.source) for part in parts)

    def from_toml(self, value: object) -> Raw | None:
        """Accept a list, too."""
        items = _strings(value)
        return super().from_toml(value) if items is None else items


class Templates(Many[Mapping[str, str]]):
    """Templates of variables, each `NAME=TEMPLATE`.

    A template may contain commas, so in a variable each template has its own line.
    """

    separator = "\n"
    keyword = "tuple[str, ...] = ()"

    def read(self, name: str, found: Found) -> Mapping[str, str]:  # noqa: D102
        templates = {}
        for item in found.texts:
            variable, equals, template = item.partition("=")
            if not equals:
                raise SettingsError(
                    f"{item!r} from {found.source} is not NAME=TEMPLATE",
                    f"for example --{name} LLM_URL={{base_url}}/chat/completions",
                )
            try:
                check_template(variable, template)
            except SettingsError as e:
                raise SettingsError(f"{e.message}, from {found.source}", e.hint) from e
            templates[variable] = template
        return templates

    def split(self, text: str) -> Raw:  # noqa: D102
        return tuple(line for line in text.split("\n") if line)

    def from_toml(self, value: object) -> Raw | None:
        """Accept a table, too."""
        if isinstance(value, dict) and all(
            isinstance(template, str) for template in value.values()
        ):
            return tuple(f"{name}={template}" for name, template in value.items())
        return super().from_toml(value)


def parse_duration(text: str) -> timedelta:
    """Parse `90m`, `1h30m`, `45s`, `0.5s` or plain seconds.

    Raises:
        ValueError: The text is none of these.
    """
    if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", text, re.ASCII):
        return timedelta(seconds=float(text))
    match = re.fullmatch(
        r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)s)?", text, re.ASCII
    )
    if match is None or not text:
        raise ValueError(f"{text!r} is not a duration such as 90m, 1h30m or 45s")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _written(duration: timedelta) -> str:
    """The notation of a duration, such as `12h`, `5m` or `1s`."""
    seconds = duration.total_seconds()
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _strings(value: object) -> tuple[str, ...] | None:
    """*value* as a tuple, if it is a list of strings; else None."""
    is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return tuple(value) if is_list else None  # type: ignore[arg-type]


def _refuse_secret(name: str, text: str, source: str) -> None:
    """Refuse a secret: a setting's value is printed, and kept in remembered answers."""
    if looks_secret(text):
        raise SettingsError(f"{name} from {source} has a token or a key in it", _MISPLACED)
