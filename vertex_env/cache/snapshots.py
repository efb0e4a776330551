"""What shells load at their start, on disk: the snapshot, and a mark for each file that it depends on.

A mark is an empty file with the time stamp of the file it stands for: bash and zsh can compare the stamps of two files
and cannot read that of one. Its name covers that path and that stamp, so a mark never gets another stamp: snapshots of
other profiles name it too, and would become current again. `formats.snapshot` has the text.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path

from vertex_env.cache.answers import file_state
from vertex_env.cache.folder import kind_of, write_private
from vertex_env.cache.private import MARK, SNAPSHOT, digest, is_private_file

_SETTLED_S = 2.0
"""A file younger than this may change once more within the second, and some shells see whole seconds only."""


class Kept(Enum):
    """What has become of a snapshot."""

    WRITTEN = "written"
    NOT_YET = "not yet"
    """There can be one soon, when the files are a little older."""
    NEVER = "never"
    """It does not say what shells would have to know, or cannot be written."""


def write_snapshot(
    folder: Path,
    profile: str,
    files: Mapping[Path, str],
    text: Callable[[Mapping[str, tuple[int, str] | None]], str | None],
) -> Kept:
    """Write the snapshot for shells whose `$VERTEX_ENV_PROFILE` is *profile*.

    Args:
        folder: The store's.
        profile: May be empty.
        files: Those that were looked at, there or not, with what `answers.file_state` saw.
        text: Makes it, for the files' time stamps and marks; None where something cannot be told in it.
    """
    name = SNAPSHOT.name(f"-{profile}" if profile else "")
    if kind_of(name) is not SNAPSHOT:
        return Kept.NEVER
    marked: dict[str, tuple[int, str] | None] = {}
    for path, seen in files.items():
        try:
            status = path.stat()
        except OSError:
            marked[str(path)] = None
            continue
        if time.time() - status.st_mtime < _SETTLED_S:
            return Kept.NOT_YET
        if _is_coarse(status.st_mtime_ns) or file_state(str(path)) != seen:
            return Kept.NEVER
        mark = _mark(folder, path, status.st_mtime_ns)
        if mark is None:
            return Kept.NEVER
        marked[str(path)] = int(status.st_mtime), mark
    told = text(marked)
    done = told is not None and write_private(
        folder / name, told.encode("utf-8", "surrogateescape")
    )
    return Kept.WRITTEN if done else Kept.NEVER


def _is_coarse(mtime_ns: int) -> bool:
    """Whether another file may well have the same time stamp and take this one's place without a shell noticing.

    Whole seconds come from archives, image layers, and Nix and Guix, whose stores have the same one on every file.
    """
    return mtime_ns % 1_000_000_000 == 0


def _mark(folder: Path, path: Path, mtime_ns: int) -> str | None:
    """Name of the mark of *path* then; None where the file system's time stamps are too coarse for it."""
    mark = folder / MARK.name(digest(str(path), str(mtime_ns)))
    with suppress(OSError):
        status = mark.lstat()
        if is_private_file(status) and status.st_mtime_ns == mtime_ns:
            return mark.name
    if not write_private(mark, b""):
        return None
    with suppress(OSError):
        os.utime(mark, ns=(mtime_ns, mtime_ns))
        if mark.stat().st_mtime_ns == mtime_ns:
            return mark.name
    return None
