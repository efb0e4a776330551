"""Snapshots: files that shells load at their start, with a mark for each file they depend on.

A mark is an empty file with the modification time of the file it stands for. Marks are
needed because bash and zsh can compare the times of two files but cannot read the time
of one. The mark's name is a hash of that file's path and time, so a mark never gets
another time. If a mark's time could change, old snapshots of other profiles that name
the mark would become current again. `formats.snapshot` makes the snapshot's text.
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
"""Minimum age of a file, in seconds. A younger file may change again within the same
second, and some shells compare whole seconds only."""


class Kept(Enum):
    """Result of writing a snapshot."""

    WRITTEN = "written"
    NOT_YET = "not yet"
    """A later call can write the snapshot, when the files are a little older."""
    NEVER = "never"
    """The snapshot cannot be written, or its text cannot express a value that shells need."""


def write_snapshot(
    folder: Path,
    profile: str,
    files: Mapping[Path, str],
    text: Callable[[Mapping[str, tuple[int, str] | None]], str | None],
) -> Kept:
    """Write the snapshot for shells whose `$VERTEX_ENV_PROFILE` is *profile*.

    Args:
        folder: The cache folder, which is also the store's.
        profile: Name of the profile; may be empty.
        files: Files that the call read, whether they exist or not, each with its
            `answers.file_state` then.
        text: Makes the text of the snapshot from each file's time stamp and mark;
            returns None if the text cannot express a value.
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
    """Whether the time stamp is in whole seconds.

    Another file may well have the same time stamp then. A shell would not notice if
    such a file took the place of this one. Whole seconds come from archives, image
    layers, Nix and Guix. The stores of Nix and Guix give every file the same time
    stamp.
    """
    return mtime_ns % 1_000_000_000 == 0


def _mark(folder: Path, path: Path, mtime_ns: int) -> str | None:
    """Make the mark of *path* for that time, and return its name.

    None if the mark cannot be written, or the file system's time stamps are too coarse for it.
    """
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
