"""Where tokens are kept between calls: one 0600 file an identity, in a 0700 folder of the user's own.

Damage of any kind is a miss, never an error, and a place that cannot be written means "not stored", never a failure:
a token can always be minted again.
"""

import json
import os
import re
import stat
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from vertex_env.tokens import Token

if sys.platform != "win32":
    import fcntl

_HEADER = "vertex-env-token 1"
_MAX_BYTES = 65_536
_MAX_LIFETIME_S = 13 * 3600
"""Twelve hours are the most that Google gives; an hour for clocks that disagree."""
_LOCK_WAIT_S = 20.0
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+", re.ASCII)
"""RFC 6750 §2.1."""


class Store(Protocol):
    """What the broker needs. `load` gives None for whatever cannot be used; `save` and `delete` never raise."""

    def load(self, key: str) -> Token | None: ...  # noqa: D102
    def save(self, key: str, token: Token) -> None: ...  # noqa: D102
    def delete(self, key: str) -> None: ...  # noqa: D102
    def lock(self, key: str) -> AbstractContextManager[None]:
        """Held by one process at a time; freed at once when that dies."""
        ...


class NullStore:
    """Keeps nothing."""

    def load(self, key: str) -> Token | None:  # noqa: ARG002, D102
        return None

    def save(self, key: str, token: Token) -> None:  # noqa: D102
        pass

    def delete(self, key: str) -> None:  # noqa: D102
        pass

    def lock(self, key: str) -> AbstractContextManager[None]:  # noqa: ARG002, D102
        return nullcontext()


class FileStore:
    """Keeps tokens in files.

    Args:
        folder: Made on the first save; used only if it is a directory of this user's that nobody else may enter.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: str) -> Token | None:
        """The token under *key*, fresh or not; None if there is none or anything about its file is not as it was."""
        data = read_private(self._folder / f"{key}.token")
        return None if data is None else _parse(data, key)

    def save(self, key: str, token: Token) -> None:
        """Keep *token* under *key*, if the place can be written."""
        if write_private(self._folder / f"{key}.token", _format(key, token)):
            self._prune()

    def delete(self, key: str) -> None:
        """Forget the token under *key*."""
        with suppress(OSError):
            (self._folder / f"{key}.token").unlink()

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the lock of *key*, or go on without one where locks do not work or take longer than 20 s.

        The files stay: to unlink a lock file is to let two processes hold "the" lock. There are 256 of them at most.
        """
        fd = _open_lock(self._folder / f"lock-{key[:2]}") if make_private(self._folder) else None
        try:
            yield
        finally:
            if fd is not None:
                os.close(fd)

    def _prune(self) -> None:
        """Remove what no call can use any more, so that the folder of a busy CI host does not grow for ever."""
        oldest = time.time() - _MAX_LIFETIME_S
        with suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.name.endswith((".token", ".tmp")) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                        Path(entry.path).unlink()


class Notes:
    """Small facts that cost a request and are no secrets, each remembered for a while.

    Args:
        folder: As for `FileStore`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, name: str) -> dict[str, Any] | None:
        """The fact under *name*, such as `{"id": "123", "host": "…"}`, or None."""
        data = read_private(self._folder / f"{name}.note")
        try:
            note = json.loads(data or b"")
            return dict(note["fact"]) if note["from"] <= time.time() < note["until"] else None
        except (ValueError, TypeError, KeyError):
            return None

    def save(self, name: str, fact: Mapping[str, Any], keep: timedelta) -> None:
        """Remember *fact* for *keep*."""
        now = time.time()
        note = {"from": now, "until": now + keep.total_seconds(), "fact": dict(fact)}
        write_private(self._folder / f"{name}.note", json.dumps(note).encode())


def cache_dir(environ: Mapping[str, str], home: Path) -> Path:
    """`$VERTEX_ENV_CACHE_DIR`, else `vertex-env` in the user's cache folder.

    That folder is `$XDG_CACHE_HOME` or `~/.cache`, `~/Library/Caches` on macOS, `%LOCALAPPDATA%` on Windows.
    """
    if environ.get("VERTEX_ENV_CACHE_DIR"):
        return Path(environ["VERTEX_ENV_CACHE_DIR"])
    if Path(environ.get("XDG_CACHE_HOME") or ".").is_absolute():
        return Path(environ["XDG_CACHE_HOME"]) / "vertex-env"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "vertex-env"
    if os.name == "nt" and environ.get("LOCALAPPDATA"):
        return Path(environ["LOCALAPPDATA"]) / "vertex-env" / "Cache"
    return home / ".cache" / "vertex-env"


def read_private(path: Path) -> bytes | None:
    """Content of a regular file that only this user can read or write, in a folder of theirs; else None."""
    if not _is_private_folder(path.parent):
        return None
    # O_NONBLOCK: a pipe in the file's place must not keep us waiting.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        fd = os.open(path, flags)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not _is_mine(status) or status.st_size > _MAX_BYTES:
            return None
        return os.read(fd, _MAX_BYTES)
    except OSError:
        return None
    finally:
        os.close(fd)


def write_private(path: Path, data: bytes) -> bool:
    """Replace *path* by a 0600 file with *data*, at once and as a whole; False if that cannot be done."""
    if not make_private(path.parent):
        return False
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{time.monotonic_ns()}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            os.replace(temporary, path)  # noqa: PTH105 -- the plain call that is meant
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError:
        return False
    return True


def make_private(folder: Path) -> bool:
    """Whether *folder* is, or could be made, a 0700 directory of this user's."""
    if not _is_private_folder(folder):
        try:
            if not folder.exists():
                if _belongs_to_another(folder):
                    return False
                folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                folder.mkdir(mode=0o700, exist_ok=True)
            elif not folder.is_symlink() and _owned(folder.lstat()):
                folder.chmod(0o700)
        except OSError:
            return False
    return _is_private_folder(folder)


def _is_private_folder(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and _is_mine(status)


def _is_mine(status: os.stat_result) -> bool:
    return os.name == "nt" or (_owned(status) and not status.st_mode & 0o077)


def _owned(status: os.stat_result) -> bool:
    return sys.platform == "win32" or status.st_uid == os.geteuid()


def _belongs_to_another(folder: Path) -> bool:
    """Whether we are root under `sudo` with somebody else's home: files of root's in there would lock its owner out."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return False
    existing = next((parent for parent in folder.parents if parent.exists()), folder)
    return not _owned(existing.stat())


def _open_lock(path: Path) -> int | None:
    """A descriptor that holds the lock at *path* until it is closed, or None where there can be none."""
    if sys.platform == "win32":
        return None
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags, 0o600)
    except OSError:
        return None
    deadline, pause = time.monotonic() + _LOCK_WAIT_S, 0.01
    while time.monotonic() < deadline:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        except OSError:
            break  # a file system without locks
        else:
            return fd
    os.close(fd)
    return None


def _format(key: str, token: Token) -> bytes:
    body = (
        f"{_HEADER}\nkey {key}\nissued {token.issued.timestamp()!r}\nexpiry {token.expiry.timestamp()!r}\n"
        f"token {token.value}\n"
    )
    return f"{body}crc32 {zlib.crc32(body.encode()):08x}\n".encode()


def _parse(data: bytes, key: str) -> Token | None:
    """The token in *data*, if it is byte for byte what `_format` writes for *key*."""
    try:
        header, found, issued, expiry, value, _, end = data.decode("ascii").split("\n")
        token = Token(value.removeprefix("token "), _instant(expiry, "expiry "), _instant(issued, "issued "))
    except (ValueError, OverflowError, OSError):
        return None
    sound = (
        (header, found, end) == (_HEADER, f"key {key}", "")
        and _TOKEN.fullmatch(token.value) is not None
        and timedelta(0) < token.lifetime <= timedelta(seconds=_MAX_LIFETIME_S)
        and _format(key, token) == data
    )
    return token if sound else None


def _instant(line: str, prefix: str) -> datetime:
    return datetime.fromtimestamp(float(line.removeprefix(prefix)), UTC)
