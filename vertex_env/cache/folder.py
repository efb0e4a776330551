"""The cache folder: made and kept private, and the files in it written, listed and deleted.

Of no use on the warm path, which reads only: see `private`.
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
    """The kind of the file called *name*, or of what it becomes once it is written; None where it is not ours."""
    kinds = private.KINDS
    found = _pattern(kinds).fullmatch(name)
    return None if found is None or found.lastgroup is None else kinds[int(found.lastgroup[1:])]


@cache
def _pattern(kinds: tuple[Kind, ...]) -> re.Pattern[str]:
    """What the name of a file of *kinds* matches; the last group is called after the kind's place in them."""
    names = "|".join(f"(?P<k{i}>{kind.pattern})" for i, kind in enumerate(kinds))
    return re.compile(f"(?:{names})(?:{private.TEMPORARY})?", re.ASCII)


def our_files(folder: Path) -> list[tuple[Path, Kind]]:
    """Our files in *folder*, with whatever else has the name of one; none where it is not this user's own."""
    if not is_own_folder(folder):
        return []
    try:
        found = [(path, kind_of(path.name)) for path in folder.iterdir()]
    except OSError:
        return []
    return [(path, kind) for path, kind in found if kind is not None]


def stored(folder: Path, kind: Kind) -> list[str]:
    """What tells the files of *kind* in *folder* apart, such as the keys of all tokens."""
    return [
        kind.of(path.name)
        for path, its in our_files(folder)
        if its is kind and not path.name.endswith(".tmp")
    ]


def delete_files(folder: Path, key: str | None) -> OSError | None:
    """Delete what came of the identity *key*, or all but locks; why something stays, or may."""
    stays = _unseen(folder)
    # Tokens first: if somebody kills us half-way, what is left is no secret.
    for path, kind in sorted(our_files(folder), key=lambda one: not one[1].secret):
        if kind.stays or (key is not None and not _concerns(path, kind, key)):
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError as e:
            if not os.path.isdir(path):  # noqa: PTH112 -- a Path raises where it cannot be entered
                stays = e
    return stays


def _unseen(folder: Path) -> OSError | None:
    """Why the names in *folder*, if it is this user's own, cannot be read."""
    try:
        if is_own_folder(folder):
            os.listdir(folder)  # noqa: PTH208 -- `iterdir` fails where it is first asked, not before
    except OSError as e:
        return e
    return None


def is_own_folder(folder: Path) -> bool:
    """Whether *folder* is this user's and no link; one that others may enter is, to delete what is in it."""
    try:
        status = folder.lstat()
    except (OSError, ValueError):
        return False
    return folder.is_absolute() and stat.S_ISDIR(status.st_mode) and is_owned(status)


def _concerns(path: Path, kind: Kind, key: str) -> bool:
    """Whether the file at *path* came of the identity *key*."""
    if kind.identity == "text":
        return key.encode() in (private.read_private(str(path)) or b"")
    return kind.identity == "name" and path.name.startswith(key)


def write_private(path: Path, data: bytes, *, at: int | None = None) -> bool:
    """Replace *path* by a 0600 file with *data*, at once and as a whole; False if that cannot be done.

    Args:
        path: Where.
        data: What.
        at: Its time stamp, in epoch seconds; now by default.
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
            temporary.chmod(0o600)  # the umask may have taken more
            if at is not None:
                os.utime(temporary, (at, at))
            os.replace(temporary, path)  # noqa: PTH105 -- the plain call that is meant
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError:
        return False
    return True


def make_private(folder: Path) -> bool:
    """Whether *folder*, an absolute path, is, or could be made, a 0700 directory of this user's."""
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
                and all(
                    kind_of(path.name) is not None for path in folder.iterdir()
                )  # not /tmp, when root has named that
            ):
                folder.chmod(0o700)
        except (OSError, ValueError):
            return False
    return private.is_private_folder(str(folder))


def _create(folder: Path) -> None:
    """Make *folder* and the folders above it that are missing, each with mode 0700 whatever the umask.

    With a umask of 177, which makes files private, `mkdir` alone makes a folder that its own user
    cannot enter.
    """
    if not folder.parent.exists():
        _create(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return  # another process has made it, and sets its mode
    folder.chmod(0o700)


def is_owned(status: os.stat_result) -> bool:
    """Whether what *status* is of is this user's."""
    return sys.platform == "win32" or status.st_uid == os.geteuid()


def _belongs_to_another(folder: Path) -> bool:
    """Whether we are root under `sudo` with somebody else's home: files of root's in there would lock its owner out."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return False
    existing = next((parent for parent in folder.parents if parent.exists()), folder)
    return not is_owned(existing.stat())


def prune(folder: Path) -> None:
    """Remove what no call can use any more, so that the folder of a busy CI host does not grow for ever."""
    oldest, marks = time.time() - freshness.MAX_LIFETIME, []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                kind = kind_of(entry.name)
                if kind is private.MARK:
                    # Its time stamp is that of the file that it stands for.
                    marks += (
                        [entry.name] if entry.stat(follow_symlinks=False).st_ctime < oldest else []
                    )
                elif kind is None or not (kind.ages or entry.name.endswith(".tmp")):
                    continue
                elif entry.stat(follow_symlinks=False).st_mtime < oldest:
                    Path(entry.path).unlink()
    _prune_marks(folder, marks)


def _prune_marks(folder: Path, marks: Sequence[str]) -> None:
    """Remove those of *marks*, file names, that no snapshot names."""
    if marks:
        snapshots = [path for path, kind in our_files(folder) if kind is private.SNAPSHOT]
        kept = [private.read_private(str(path)) or b"" for path in snapshots]
        for name in marks:
            if not any(name.encode() in text for text in kept):
                with suppress(OSError):
                    (folder / name).unlink()
