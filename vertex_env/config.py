"""Configuration in files: our config.toml, and gcloud's active configuration, which is only ever read as a file."""

import configparser
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vertex_env.errors import SettingsError
from vertex_env.settings import OPTIONS, Found, Layer

_KEYS = {option.name: option for option in OPTIONS if not option.internal and option.name != "profile"}


def config_path(environ: Mapping[str, str]) -> Path:
    """`$VERTEX_ENV_CONFIG`, else `vertex-env/config.toml` in the user's configuration folder."""
    if environ.get("VERTEX_ENV_CONFIG"):
        return Path(environ["VERTEX_ENV_CONFIG"])
    return _base(environ, "XDG_CONFIG_HOME", "APPDATA", ".config") / "vertex-env" / "config.toml"


def gcloud_dir(environ: Mapping[str, str]) -> Path:
    r"""The folder of gcloud: `$CLOUDSDK_CONFIG`, `%APPDATA%\gcloud` on Windows, else `~/.config/gcloud`.

    google-auth 2.62.2 `google/auth/_cloud_sdk.py` get_config_path (2026-11-22). XDG_CONFIG_HOME plays no part in it.
    """
    if environ.get("CLOUDSDK_CONFIG"):
        return Path(environ["CLOUDSDK_CONFIG"])
    return _base(environ, "", "APPDATA", ".config") / "gcloud"


def home(environ: Mapping[str, str]) -> Path:
    """The user's home folder, `$HOME` first."""
    return Path(environ["HOME"]) if environ.get("HOME") else Path("~").expanduser()


def _base(environ: Mapping[str, str], xdg: str, windows: str, fallback: str) -> Path:
    # The XDG specification has relative paths ignored.
    if environ.get(xdg) and Path(environ[xdg]).is_absolute():
        return Path(environ[xdg])
    if os.name == "nt" and environ.get(windows):
        return Path(environ[windows])
    return home(environ) / fallback


@dataclass(frozen=True, slots=True)
class Config:
    """config.toml: profiles by name, and the one to use when none is named."""

    path: Path
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
                f"there is no profile {wanted.value!r} (from {wanted.source}) in {self.path}",
                f"profiles there: {known}; add one as [profile.NAME]",
            )
        return {**self.profiles[wanted.value], "profile": wanted}


def read_config(path: Path) -> Config:
    """config.toml at *path*; an absent file is an empty one.

    Raises:
        SettingsError: It cannot be read, is not TOML, or has a key or a value we do not know; with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except FileNotFoundError:
        return Config(path)
    except OSError as e:
        raise SettingsError(
            f"cannot read {path}: {e.strerror}", f"check the file, or move it away: ls -ld {path}"
        ) from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise SettingsError(
            f"{path} is not valid TOML: {_one_line(e)}", "correct the line named, or move the file away"
        ) from e
    lines = _Lines(text, path)

    default = None
    profiles: dict[str, Layer] = {}
    for key, value in data.items():
        if key == "default-profile" and isinstance(value, str):
            default = Found(value, lines.source((), key))
        elif key == "profile" and isinstance(value, dict) and all(isinstance(table, dict) for table in value.values()):
            profiles = {name: _profile(name, table, lines) for name, table in value.items()}
        else:
            raise SettingsError(
                f"unknown key {key!r} in {lines.source((), key)}",
                "known there: default-profile, and [profile.NAME] tables",
            )
    return Config(path, default, profiles)


def _profile(name: str, table: Mapping[str, object], lines: "_Lines") -> Layer:
    layer = {}
    for key, value in table.items():
        source = lines.source(("profile", name), key)
        if key not in _KEYS:
            raise SettingsError(f"unknown key {key!r} in {source}", "known there: " + ", ".join(_KEYS))
        layer[key] = Found(_value(key, value, source), source)
    return layer


def _value(key: str, value: object, source: str) -> str | tuple[str, ...]:
    """A TOML value as the option would be given: a list for repeated ones, `set` also as a table."""
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


class _Lines:
    """Where keys stand in a TOML text, which tomllib does not tell. For messages only; it never decides anything."""

    def __init__(self, text: str, path: Path) -> None:
        self._path = path
        self._where: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(text.splitlines(), 1):
            if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
                table = self._parts(header[1])
                self._where.setdefault(table, number)
            elif key := re.match(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*'|\s*\.\s*)+?)\s*=""", line):
                self._where.setdefault((*table, *self._parts(key[1])), number)

    @staticmethod
    def _parts(dotted: str) -> tuple[str, ...]:
        return tuple(part.strip("\"'") for part in re.findall(r"""[\w-]+|"[^"]*"|'[^']*'""", dotted))

    def source(self, table: tuple[str, ...], key: str) -> str:
        """Such as `/home/me/.config/vertex-env/config.toml:3`."""
        wanted = (*table, key)
        number = next((n for name, n in self._where.items() if name[: len(wanted)] == wanted), None)
        return str(self._path) if number is None else f"{self._path}:{number}"


def read_gcloud(environ: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Name and properties of gcloud's active configuration, such as `("default", {"core/project": "p"})`.

    `$CLOUDSDK_ACTIVE_CONFIG_NAME`, else the file `active_config`, names `configurations/config_NAME`, an INI file
    (https://cloud.google.com/sdk/docs/configurations, 2026-11-22). What cannot be read counts as empty: the file is
    gcloud's, and gcloud says what is wrong with it.
    """
    folder = gcloud_dir(environ)
    name = environ.get("CLOUDSDK_ACTIVE_CONFIG_NAME") or _read(folder / "active_config").strip() or "default"
    if re.fullmatch(r"[a-z][-a-z0-9]*", name) is None:
        return name, {}
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(_read(folder / "configurations" / f"config_{name}"))
    except configparser.Error:
        return name, {}
    return name, {f"{section}/{key}": value for section in parser.sections() for key, value in parser.items(section)}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
