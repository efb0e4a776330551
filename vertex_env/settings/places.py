"""Paths: config.toml, gcloud's folder, the home folder, and the cache folder."""

import os
from collections.abc import Mapping
from pathlib import Path

from vertex_env.cache import private


def config_path(environ: Mapping[str, str]) -> Path | None:
    """Path of config.toml; None without a home folder.

    It is `$VERTEX_ENV_CONFIG`, or else `vertex-env/config.toml` in the user's
    configuration folder.
    """
    if environ.get("VERTEX_ENV_CONFIG"):
        return Path(environ["VERTEX_ENV_CONFIG"])
    base = _base(environ, "XDG_CONFIG_HOME", "APPDATA", ".config")
    return base and base / "vertex-env" / "config.toml"


def gcloud_dir(environ: Mapping[str, str]) -> Path | None:
    r"""Folder of gcloud's files; None without a home folder.

    It is `$CLOUDSDK_CONFIG`, or else `%APPDATA%\gcloud` on Windows and
    `~/.config/gcloud` elsewhere. XDG_CONFIG_HOME has no effect on it (google-auth
    2.62.2 `google/auth/_cloud_sdk.py` get_config_path, 2026-11-22).
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
    """Reason for no home folder, such as `HOME is not set, and the user is unknown`."""
    return (
        "HOME is not an absolute path"
        if environ.get("HOME")
        else "HOME is not set, and the user is unknown"
    )


def cache_folder(environ: Mapping[str, str]) -> tuple[Path | None, str | None]:
    """The folder of tokens, answers and facts.

    If its path is not absolute: None, and the reason why nothing is stored.
    """
    found = private.cache_dir(environ)
    if found is not None:
        return Path(found), None
    why = no_home(environ)
    if environ.get("VERTEX_ENV_CACHE_DIR"):
        why = "VERTEX_ENV_CACHE_DIR is not an absolute path"
    return (
        None,
        (
            f"nothing is stored: {why}; "
            "set HOME, XDG_CACHE_HOME or VERTEX_ENV_CACHE_DIR to an absolute path"
        ),
    )


def _base(environ: Mapping[str, str], xdg: str | None, windows: str, fallback: str) -> Path | None:
    # The XDG specification says that relative paths are ignored.
    if xdg and environ.get(xdg) and Path(environ[xdg]).is_absolute():
        return Path(environ[xdg])
    if os.name == "nt" and environ.get(windows):
        return Path(environ[windows])
    found = home(environ)
    return found and found / fallback
