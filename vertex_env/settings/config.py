"""config.toml: its profiles, and error messages with the line of the error."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vertex_env.errors import SettingsError
from vertex_env.files import read_file
from vertex_env.settings.kinds import Found
from vertex_env.settings.options import OPTIONS
from vertex_env.settings.resolve import Layer

MAX_BYTES = 64 << 10
"""Largest size of config.toml. tomllib takes minutes for some texts of a mebibyte."""

MOST_DOTS = 128
"""Most dots in one line.

For a key of n parts, the time that tomllib takes grows with n squared (Python 3.11,
2026-11).
"""

_KEYS = {option.name: option.kind for option in OPTIONS if option.in_profile}


@dataclass(frozen=True, slots=True)
class Config:
    """config.toml: profiles by name, and the default profile."""

    path: Path | None
    """Path of the file; None if there is no home folder for it."""
    default_profile: Found | None = None
    profiles: Mapping[str, Layer] = field(default_factory=dict)

    def layer(self, profile: Found | None) -> Layer:
        """The settings of *profile*, or of the default profile, and `profile` itself.

        Empty if neither is given.

        Raises:
            SettingsError: The profile does not exist.
        """
        wanted = profile or self.default_profile
        if wanted is None:
            return {}
        if not isinstance(wanted.value, str) or wanted.value not in self.profiles:
            known = ", ".join(sorted(self.profiles)) or "none"
            raise SettingsError(
                f"there is no profile {wanted.value!r} (from {wanted.source}) in "
                f"{self.path or 'config.toml: there is no home folder'}",
                f"profiles there: {known}; add one as [profile.NAME]",
            )
        return {**self.profiles[wanted.value], "profile": wanted}


def read_config(path: Path | None) -> Config:
    """Read config.toml at *path*.

    An absent file counts as an empty one, and so does *path* None.

    Raises:
        SettingsError: The file cannot be read, is not TOML, or has an unknown key or
            value. The message names the line.
    """
    try:
        raw = read_file(path, MAX_BYTES) if path else b""
    except OSError as e:
        if path is None or _is_absent(path, e):
            return Config(path)
        raise SettingsError(
            f"cannot read {path}: {e.strerror}", f"check the file, or move it away: ls -ld {path}"
        ) from e
    if not raw or path is None:
        return Config(path)
    import tomllib

    try:
        text = raw.decode("utf-8-sig")
        _check_dots(text, path)
        data = tomllib.loads(text)
    except UnicodeDecodeError as e:
        line = e.object.count(b"\n", 0, e.start) + 1
        raise SettingsError(
            f"{path}:{line} is not valid TOML: not UTF-8", "save the file as UTF-8"
        ) from e
    except (ValueError, RecursionError) as e:
        # tomllib raises its own error, which is a ValueError. It also lets through the
        # error of int() for too many digits, and the RecursionError for too deep a
        # nesting.
        raise SettingsError(
            f"{path} is not valid TOML: {_one_line(e)}",
            "correct the line named, or move the file away",
        ) from e
    lines = _Lines(text, path)

    default = None
    profiles: dict[str, Layer] = {}
    for key, value in data.items():
        source = lines.source(key)
        if key == "default-profile" and isinstance(value, str):
            default = Found(value, source)
        elif key == "profile" and isinstance(value, dict):
            profiles = {name: _profile(name, table, lines) for name, table in value.items()}
        elif key in ("default-profile", "profile"):
            raise SettingsError(
                f"{key} in {source} has a value of the wrong type",
                'write default-profile = "NAME", and a table [profile.NAME] for each profile',
            )
        else:
            raise SettingsError(
                f"unknown key {key!r} in {source}",
                "known there: default-profile, and [profile.NAME] tables",
            )
    return Config(path, default, profiles)


def _is_absent(path: Path, error: OSError) -> bool:
    """Whether *error* means that the file does not exist.

    The home folder of a system user may be /dev/null, which is no folder.
    """
    in_no_folder = isinstance(error, NotADirectoryError) and not path.parent.exists()
    return isinstance(error, FileNotFoundError) or in_no_folder


def _profile(name: str, table: object, lines: "_Lines") -> Layer:
    if not isinstance(table, dict):
        source = lines.source("profile", name)
        raise SettingsError(
            f"profile {name!r} in {source} is not a table",
            "write [profile.NAME], in single brackets",
        )
    layer = {}
    for key, value in table.items():
        source = lines.source("profile", name, key)
        if key not in _KEYS:
            raise SettingsError(
                f"unknown key {key!r} in {source}", "known there: " + ", ".join(_KEYS)
            )
        found = _KEYS[key].from_toml(value)
        if found is None:
            raise SettingsError(
                f"{key} in {source} has a value of the wrong type",
                f"write it as {key} = {_KEYS[key].toml}",
            )
        # An empty list counts as unset, like an empty variable.
        if found != ():
            layer[key] = Found(found, source)
    return layer


def _check_dots(text: str, path: Path) -> None:
    """Refuse a line with so many dots that tomllib would need minutes for its key.

    Raises:
        SettingsError: There is such a line.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MOST_DOTS:
            raise SettingsError(
                f"{path}:{number} has more than {MOST_DOTS} dots in one line",
                "write a list one value a line, or move the file away",
            )


class _Lines:
    """Line numbers of keys in a TOML text, which tomllib does not give.

    They are used in messages only, and decide nothing.
    """

    _KEY = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
    _DOTTED = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
    _LINE = rf"[ \t]*(?:\[\[?[ \t]*(?P<header>{_DOTTED})[ \t]*\]|(?P<key>{_DOTTED})[ \t]*=)"

    _LONGEST = 3
    """Most parts of a key that is looked up: `profile.NAME.OPTION`."""

    def __init__(self, text: str, path: Path) -> None:
        self._path = path
        self._where: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(text.split("\n"), 1):
            if match := re.match(self._LINE, line):
                if match["header"]:
                    table = self._parts(match["header"])
                name = (*table, *self._parts(match["key"] or ""))[: self._LONGEST]
                for length in range(1, len(name) + 1):
                    self._where.setdefault(name[:length], number)

    def _parts(self, dotted: str) -> tuple[str, ...]:
        return tuple(part.strip("\"'") for part in re.findall(self._KEY, dotted))

    def source(self, *key: str) -> str:
        """The place of *key*.

        For `("profile", "work", "project")`, an example is
        `/home/me/.config/vertex-env/config.toml:3`.
        """
        number = self._where.get(key)
        if number is None and len(key) > 1:
            return self.source(*key[:-1])  # the keys of an inline table have the line of the table
        return str(self._path) if number is None else f"{self._path}:{number}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
