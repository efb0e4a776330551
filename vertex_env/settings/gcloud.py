"""gcloud's active configuration, which is only ever read as a file: no `gcloud` process is started."""

import re
from collections.abc import Mapping
from pathlib import Path

from vertex_env.files import read_file
from vertex_env.settings.places import gcloud_dir


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
