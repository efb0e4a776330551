"""The cache folder: make it private; write, list and delete its files.

The warm path does not need this module, because it only reads: see `private`.
"""

import os
import re
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from vertex_env import freshness
from vertex_env.cache import private
from vertex_env.cache.private import Kind


def kind_of(name: str) -> Kind | None:
    """Return the kind of the file called *name*; None if the file is not one of vertex-env's.

    A temporary file has the kind of the file that it will replace.
    """
    kinds = private.KINDS
    found = _pattern(kinds).fullmatch(name)
    return None if found is None or found.lastgroup is None else kinds[int(found.lastgroup[1:])]


@cache
def _pattern(kinds: tuple[Kind, ...]) -> re.Pattern[str]:
    """Return a regular expression for the file names of *kinds*.

    The group that matches last is named after the kind's index in *kinds*: `k0`, `k1`.
    """
    names = "|".join(f"(?P<k{i}>{kind.pattern})" for i, kind in enumerate(kinds))
    return re.compile(f"(?:{names})(?:{private.TEMPORARY})?", re.ASCII)


def our_files(folder: Path) -> list[tuple[Path, Kind]]:
    """List the paths in *folder* whose name is that of a vertex-env file, each with its kind.

    A directory with such a name is listed too. The list is empty if the folder is not
    this user's own.
    """
    if not is_own_folder(folder):
        return []
    try:
        found = [(path, kind_of(path.name)) for path in folder.iterdir()]
    except OSError:
        return []
    return [(path, kind) for path, kind in found if kind is not None]


def stored(folder: Path, kind: Kind) -> list[str]:
    """List the variable part of each file name of *kind*, such as the keys of all tokens."""
    return [
        kind.of(path.name)
        for path, its in our_files(folder)
        if its is kind and not path.name.endswith(".tmp")
    ]


def delete_files(folder: Path, key: str | None) -> OSError | None:
    """Delete the files of the identity *key*, or all files but locks if *key* is None.

    Returns the reason why a file stays or may stay; None if all are deleted.
    """
    stays = _unseen(folder)
    # Delete tokens first: if the process is killed half-way, the files that are left
    # hold no secret.
    for path, kind in sorted(our_files(folder), key=lambda one: not one[1].secret):
        if kind.stays or (key is not None and not _concerns(path, kind, key)):
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError as e:
            if not os.path.isdir(path):  # noqa: PTH112 -- Path.is_dir raises without access
                stays = e
    return stays


def _unseen(folder: Path) -> OSError | None:
    """Return the reason why this user's own *folder* cannot be listed, else None."""
    try:
        if is_own_folder(folder):
            os.listdir(folder)  # noqa: PTH208 -- `iterdir` fails only when its first item is read
    except OSError as e:
        return e
    return None


def is_own_folder(folder: Path) -> bool:
    """Whether *folder* is this user's own directory and not a link.

    Other users may have access to it: that is no reason to keep files that are to be deleted.
    """
    try:
        status = folder.lstat()
    except (OSError, ValueError):
        return False
    return folder.is_absolute() and stat.S_ISDIR(status.st_mode) and is_owned(status)


def _concerns(path: Path, kind: Kind, key: str) -> bool:
    """Whether the file at *path* was made for the identity *key*."""
    if kind.identity == "text":
        return key.encode() in (private.read_private(str(path)) or b"")
    return kind.identity == "name" and path.name.startswith(key)


def write_private(path: Path, data: bytes, *, at: int | None = None) -> bool:
    """Write *data* to a 0600 file that replaces *path* atomically; False if that fails.

    Args:
        path: The file to replace.
        data: Its new content.
        at: Its modification time, in epoch seconds; now by default.
    """
    if not make_private(path.parent):
        return False
    temporary = path.with_name(private.temporary_name(path.name, os.getpid(), time.monotonic_ns()))
    try:
        fd = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600
        )
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            temporary.chmod(0o600)  # the umask may have removed more permissions
            if at is not None:
                os.utime(temporary, (at, at))
            os.replace(temporary, path)  # noqa: PTH105 -- the plain system call is intended
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError:
        return False
    return True


def make_private(folder: Path) -> bool:
    """Make *folder*, an absolute path, a 0700 directory of this user's; False if that fails."""
    if not folder.is_absolute():
        return False
    if not private.is_private_folder(str(folder)):
        try:
            if not folder.exists():
                if _belongs_to_another(folder):
                    return False
                _create(folder)
            elif (
                not folder.is_symlink()
                and is_owned(folder.lstat())
                # Root may have named a shared folder such as /tmp, whose mode must stay.
                and all(kind_of(path.name) is not None for path in folder.iterdir())
            ):
                folder.chmod(0o700)
        except (OSError, ValueError):
            return False
    return private.is_private_folder(str(folder))


def _create(folder: Path) -> None:
    """Make *folder* and its missing parent folders, each with mode 0700 under any umask.

    Under a umask of 177, which makes files private, `mkdir` alone makes a folder that
    its own user cannot enter.
    """
    if not folder.parent.exists():
        _create(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return  # another process has made the folder, and sets its mode
    folder.chmod(0o700)


def is_owned(status: os.stat_result) -> bool:
    """Whether the file that *status* describes belongs to this user."""
    return sys.platform == "win32" or status.st_uid == os.geteuid()


def _belongs_to_another(folder: Path) -> bool:
    """Whether root, under `sudo`, would make *folder* in another user's folder.

    Files of root's in a user's home would lock that user out of the cache.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return False
    existing = next((parent for parent in folder.parents if parent.exists()), folder)
    return not is_owned(existing.stat())


def prune(folder: Path) -> None:
    """Remove files that no call can use any more, so that a busy CI host's folder stays small."""
    oldest, marks = time.time() - freshness.MAX_LIFETIME, []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                kind = kind_of(entry.name)
                if kind is private.MARK:
                    # The modification time of a mark is that of the file it stands for,
                    # so look at its ctime.
                    marks += (
                        [entry.name] if entry.stat(follow_symlinks=False).st_ctime < oldest else []
                    )
                elif kind is None or not (kind.ages or entry.name.endswith(".tmp")):
                    continue
                elif entry.stat(follow_symlinks=False).st_mtime < oldest:
                    Path(entry.path).unlink()
    _prune_marks(folder, marks)


def _prune_marks(folder: Path, marks: Sequence[str]) -> None:
    """Remove the files *marks* that no snapshot names."""
    if marks:
        snapshots = [path for path, kind in our_files(folder) if kind is private.SNAPSHOT]
        kept = [private.read_private(str(path)) or b"" for path in snapshots]
        for name in marks:
            if not any(name.encode() in text for text in kept):
                with suppress(OSError):
                    (folder / name).unlink()
