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
from pathlib import Path

from vertex_env import freshness
from vertex_env.cache import private

_PERISHABLE = (".token", ".note", ".answer", ".behind", ".failure", ".stamp", ".snapshot", ".keeper", ".tmp")

_OURS = re.compile(
    r"(lock-[0-9a-f]{2}|[0-9a-f]{32,64}\.(token|answer|behind|failure|stamp|keeper|mark|keychain)|keychain\.pin"
    r"|(endpoint-[0-9a-f]{64}|no-metadata)\.note|shell(-[A-Za-z0-9._-]+)?\.snapshot|probe-\d+)(\.tmp|(\.\d+){2}\.tmp)?",
    re.ASCII,
)
"""Names of our files: whoever points the folder at one with others in it must not lose those."""


def our_files(folder: Path) -> list[Path]:
    """Our files in *folder*, with whatever else has the name of one; none where it is not this user's own."""
    if not is_own_folder(folder):
        return []
    try:
        return [path for path in folder.iterdir() if _is_ours(path.name)]
    except OSError:
        return []


def unseen(folder: Path) -> OSError | None:
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


def concerns(path: Path, key: str) -> bool:
    """Whether the file at *path* came of the identity *key*: it has the name, or is an answer or snapshot for it."""
    if path.name.startswith(key):
        return True
    return path.suffix in (".answer", ".snapshot") and key.encode() in (private.read_private(str(path)) or b"")


def write_private(path: Path, data: bytes, *, at: int | None = None) -> bool:
    """Replace *path* by a 0600 file with *data*, at once and as a whole; False if that cannot be done.

    Args:
        path: Where.
        data: What.
        at: Its time stamp, in epoch seconds; now by default.
    """
    if not make_private(path.parent):
        return False
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{time.monotonic_ns()}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
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
                and all(_is_ours(path.name) for path in folder.iterdir())  # not /tmp, when root has named that
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


def _is_ours(name: str) -> bool:
    return _OURS.fullmatch(name) is not None


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
                if not entry.name.endswith((*_PERISHABLE, ".mark")) or not _is_ours(entry.name):
                    continue
                status = entry.stat(follow_symlinks=False)
                if entry.name.endswith(".mark"):
                    # Its time stamp is that of the file that it stands for.
                    marks += [entry.name] if status.st_ctime < oldest else []
                elif status.st_mtime < oldest:
                    Path(entry.path).unlink()
    _prune_marks(folder, marks)


def _prune_marks(folder: Path, marks: Sequence[str]) -> None:
    """Remove those of *marks*, file names, that no snapshot names."""
    if marks:
        kept = [private.read_private(str(path)) or b"" for path in folder.glob("*.snapshot")]
        for name in marks:
            if not any(name.encode() in text for text in kept):
                with suppress(OSError):
                    (folder / name).unlink()
