"""gcloud's active configuration, read from its files: no `gcloud` process is started."""

import re
from collections.abc import Mapping
from pathlib import Path

from vertex_env.files import read_file
from vertex_env.settings.places import gcloud_dir


def gcloud_files(environ: Mapping[str, str]) -> tuple[str, list[Path]]:
    """Name of gcloud's active configuration, and the files that decide about it.

    These are the file with the name and the file with the properties. They need not
    exist. `$CLOUDSDK_ACTIVE_CONFIG_NAME`, or else the content of the file
    `active_config`, is the NAME in `configurations/config_NAME`
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
    """Name and properties of gcloud's active configuration.

    An example is `("default", {"core/project": "p"})`. An unreadable file counts as
    empty: gcloud itself reports what is wrong with its files.
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
    return name, {
        f"{section}/{key}": value
        for section in parser.sections()
        for key, value in parser.items(section)
    }


def _read(path: Path) -> str:
    try:
        return read_file(path).decode()
    except (OSError, ValueError):
        return ""
