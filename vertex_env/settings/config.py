"""Configuration in files: our config.toml, and gcloud's active configuration, which is only ever read as a file."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vertex_env.cache import private
from vertex_env.errors import SettingsError
from vertex_env.files import read_file
from vertex_env.settings.options import OPTIONS, Found, Layer

MAX_BYTES = 64 << 10
"""Of config.toml. tomllib takes minutes for some texts of a mebibyte."""

MOST_DOTS = 128
"""In one line: for a key of n parts tomllib (Python 3.11, 2026-11) takes time that grows with n squared."""

_KEYS = {option.name: option for option in OPTIONS if not option.internal and option.name != "profile"}


def config_path(environ: Mapping[str, str]) -> Path | None:
    """`$VERTEX_ENV_CONFIG`, else `vertex-env/config.toml` in the user's configuration folder; None without a home."""
    if environ.get("VERTEX_ENV_CONFIG"):
        return Path(environ["VERTEX_ENV_CONFIG"])
    base = _base(environ, "XDG_CONFIG_HOME", "APPDATA", ".config")
    return base and base / "vertex-env" / "config.toml"


def gcloud_dir(environ: Mapping[str, str]) -> Path | None:
    r"""The folder of gcloud: `$CLOUDSDK_CONFIG`, `%APPDATA%\gcloud` on Windows, else `~/.config/gcloud`.

    None without a home.

    google-auth 2.62.2 `google/auth/_cloud_sdk.py` get_config_path (2026-11-22). XDG_CONFIG_HOME plays no part in it.
    """
    if environ.get("CLOUDSDK_CONFIG"):
        return Path(environ["CLOUDSDK_CONFIG"])
    base = _base(environ, None, "APPDATA", ".config")
    return base and base / "gcloud"


def home(environ: Mapping[str, str]) -> Path | None:
    """The user's home folder; see `private.home_dir`."""
    found = private.home_dir(environ)
    return None if found is None else Path(found)


def no_home(environ: Mapping[str, str]) -> str:
    """Why there is no home folder, such as `HOME is not set, and the user is unknown`."""
    return "HOME is not an absolute path" if environ.get("HOME") else "HOME is not set, and the user is unknown"


def cache_folder(environ: Mapping[str, str]) -> tuple[Path | None, str | None]:
    """The folder of tokens, answers and facts; where it is not absolute, None and why nothing is stored."""
    found = private.cache_dir(environ)
    if found is not None:
        return Path(found), None
    why = no_home(environ)
    if environ.get("VERTEX_ENV_CACHE_DIR"):
        why = "VERTEX_ENV_CACHE_DIR is not an absolute path"
    return None, f"nothing is stored: {why}; set HOME, XDG_CACHE_HOME or VERTEX_ENV_CACHE_DIR to an absolute path"


def _base(environ: Mapping[str, str], xdg: str | None, windows: str, fallback: str) -> Path | None:
    # The XDG specification has relative paths ignored.
    if xdg and environ.get(xdg) and Path(environ[xdg]).is_absolute():
        return Path(environ[xdg])
    if os.name == "nt" and environ.get(windows):
        return Path(environ[windows])
    found = home(environ)
    return found and found / fallback


@dataclass(frozen=True, slots=True)
class Config:
    """config.toml: profiles by name, and the one to use when none is named."""

    path: Path | None
    """None where there is no place for it."""
    default_profile: Found | None = None
    profiles: Mapping[str, Layer] = field(default_factory=dict)

    def layer(self, profile: Found | None) -> Layer:
        """What the profile has, with `profile` itself; empty when none is asked for.

        Raises:
            SettingsError: There is no such profile.
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
    """config.toml at *path*; an absent file is an empty one, and so is one that has no place.

    Raises:
        SettingsError: It cannot be read, is not TOML, or has a key or a value we do not know; with its line.
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
        raise SettingsError(f"{path}:{line} is not valid TOML: not UTF-8", "save the file as UTF-8") from e
    except (ValueError, RecursionError) as e:
        # Besides its own error tomllib lets out what int() raises on too many digits, and too deep a nesting.
        raise SettingsError(
            f"{path} is not valid TOML: {_one_line(e)}", "correct the line named, or move the file away"
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
                f"unknown key {key!r} in {source}", "known there: default-profile, and [profile.NAME] tables"
            )
    return Config(path, default, profiles)


def _is_absent(path: Path, error: OSError) -> bool:
    """Whether *error* means that there is no such file; in the home of a system's user, /dev/null, nothing is."""
    in_no_folder = isinstance(error, NotADirectoryError) and not path.parent.exists()
    return isinstance(error, FileNotFoundError) or in_no_folder


def _profile(name: str, table: object, lines: "_Lines") -> Layer:
    if not isinstance(table, dict):
        source = lines.source("profile", name)
        raise SettingsError(f"profile {name!r} in {source} is not a table", "write [profile.NAME], in single brackets")
    layer = {}
    for key, value in table.items():
        source = lines.source("profile", name, key)
        if key not in _KEYS:
            raise SettingsError(f"unknown key {key!r} in {source}", "known there: " + ", ".join(_KEYS))
        found = _value(key, value, source)
        # An empty list counts as unset, as an empty variable does.
        if found != ():
            layer[key] = Found(found, source)
    return layer


def _value(key: str, value: object, source: str) -> str | tuple[str, ...]:
    """A TOML value as the option would be given: a list for repeated ones, `set` also as a table.

    One string does for a list, too: `client = "aider,goose"`.
    """
    if isinstance(value, str):
        return (value,) if _KEYS[key].many else value
    if isinstance(value, int) and not isinstance(value, bool) and not _KEYS[key].many:
        return str(value)
    if isinstance(value, list) and (_KEYS[key].many or key == "impersonate") and all(isinstance(v, str) for v in value):
        return tuple(value)
    if isinstance(value, dict) and key == "set" and all(isinstance(v, str) for v in value.values()):
        return tuple(f"{name}={template}" for name, template in value.items())
    raise SettingsError(
        f"{key} in {source} has a value of the wrong type",
        f'write it as {key} = ["…", "…"]' if _KEYS[key].many else f'write it as {key} = "…"',
    )


def _check_dots(text: str, path: Path) -> None:
    """Refuse a line with a key that tomllib would need minutes for.

    Raises:
        SettingsError: There is one.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MOST_DOTS:
            raise SettingsError(
                f"{path}:{number} has more than {MOST_DOTS} dots in one line",
                "write a list one value a line, or move the file away",
            )


class _Lines:
    """Where keys stand in a TOML text, which tomllib does not tell. For messages only; it never decides anything."""

    _KEY = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
    _DOTTED = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
    _LINE = rf"[ \t]*(?:\[\[?[ \t]*(?P<header>{_DOTTED})[ \t]*\]|(?P<key>{_DOTTED})[ \t]*=)"

    _LONGEST = 3
    """Parts of the longest key that is asked for: `profile.NAME.OPTION`."""

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
        """Such as `/home/me/.config/vertex-env/config.toml:3`, for `("profile", "work", "project")`."""
        number = self._where.get(key)
        if number is None and len(key) > 1:
            return self.source(*key[:-1])  # the table's line: an inline table has no others
        return str(self._path) if number is None else f"{self._path}:{number}"


def gcloud_files(environ: Mapping[str, str]) -> tuple[str, list[Path]]:
    """Name of gcloud's active configuration, and the files that tell it and its properties, there or not.

    `$CLOUDSDK_ACTIVE_CONFIG_NAME`, else the file `active_config`, names `configurations/config_NAME`
    (https://cloud.google.com/sdk/docs/configurations, 2026-11-22).
    """
    folder = gcloud_dir(environ)
    if folder is None:
        return environ.get("CLOUDSDK_ACTIVE_CONFIG_NAME") or "default", []
    files = [folder / "active_config"]
    name = environ.get("CLOUDSDK_ACTIVE_CONFIG_NAME") or _read(files[0]).strip() or "default"
    if re.fullmatch(r"[a-z][-a-z0-9]*", name) is not None:
        files.append(folder / "configurations" / f"config_{name}")
    return name, files


def read_gcloud(environ: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Name and properties of gcloud's active configuration, such as `("default", {"core/project": "p"})`.

    What cannot be read counts as empty: the file is gcloud's, and gcloud says what is wrong with it.
    """
    name, files = gcloud_files(environ)
    text = _read(files[1]) if len(files) > 1 else ""
    if not text:
        return name, {}
    import configparser

    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return name, {}
    return name, {f"{section}/{key}": value for section in parser.sections() for key, value in parser.items(section)}


def _read(path: Path) -> str:
    try:
        return read_file(path).decode()
    except (OSError, ValueError):
        return ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
