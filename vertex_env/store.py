"""Where tokens are kept between calls: one 0600 file an identity, in a 0700 folder of the user's own.

Damage of any kind is a miss, never an error, and a place that cannot be written means "not stored", never a failure:
a token can always be minted again.
"""

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from vertex_env import freshness, warm
from vertex_env.errors import VertexEnvError, revive
from vertex_env.tokens import Token

if sys.platform != "win32":
    import fcntl

_LOCK_WAIT_S = 30.0


_PERISHABLE = (".token", ".note", ".answer", ".behind", ".failure", ".stamp", ".snapshot", ".keeper", ".tmp")

_OURS = re.compile(
    r"(lock-[0-9a-f]{2}|[0-9a-f]{32,64}\.(token|answer|behind|failure|stamp|keeper|mark|keychain)|keychain\.pin"
    r"|(endpoint-[0-9a-f]{64}|no-metadata)\.note|shell(-[A-Za-z0-9._-]+)?\.snapshot|probe-\d+)(\.tmp|(\.\d+){2}\.tmp)?",
    re.ASCII,
)
"""Names of our files: whoever points the folder at one with others in it must not lose those."""


class Store(Protocol):
    """What the broker needs. `load` gives None for whatever cannot be used; `save` and `delete` never raise."""

    def load(self, key: str) -> Token | None: ...  # noqa: D102
    def save(self, key: str, token: Token) -> None: ...  # noqa: D102
    def delete(self, key: str) -> None: ...  # noqa: D102
    def forget(self, key: str | None) -> None: ...  # noqa: D102
    def problem(self) -> str | None: ...  # noqa: D102
    def ready(self) -> None:
        """Find out before a token is minted whether it could be kept, where that is a condition.

        Raises:
            StoreError: It could not.
        """
        ...

    def lock(self, key: str) -> AbstractContextManager[None]:
        """Held by one process at a time; freed at once when that dies."""
        ...

    def keeper(self, key: str) -> AbstractContextManager[bool]:
        """Whether nobody else keeps *key* fresh while this is held."""
        ...

    def fail(self, key: str, error: VertexEnvError, at: datetime) -> None:
        """Tell those who wait for the lock what minting met, so that they need not all meet it one after another."""
        ...

    def failure(self, key: str, since: datetime, until: datetime) -> VertexEnvError | None:
        """What minting met between *since* and *until*, if it did."""
        ...


class NullStore:
    """Keeps nothing."""

    def load(self, key: str) -> Token | None:  # noqa: ARG002, D102
        return None

    def save(self, key: str, token: Token) -> None:  # noqa: D102
        pass

    def delete(self, key: str) -> None:  # noqa: D102
        pass

    def forget(self, key: str | None) -> None:  # noqa: D102
        pass

    def problem(self) -> str | None:  # noqa: D102
        return None

    def ready(self) -> None:  # noqa: D102
        pass

    def lock(self, key: str) -> AbstractContextManager[None]:  # noqa: ARG002, D102
        return nullcontext()

    def keeper(self, key: str) -> AbstractContextManager[bool]:  # noqa: ARG002, D102
        return nullcontext(enter_result=False)

    def fail(self, key: str, error: VertexEnvError, at: datetime) -> None:  # noqa: D102
        pass

    def failure(self, key: str, since: datetime, until: datetime) -> VertexEnvError | None:  # noqa: ARG002, D102
        return None


class FileStore:
    """Keeps tokens in files.

    Args:
        folder: Made on the first save; used only if it is a directory of this user's that nobody else may enter.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, key: str) -> Token | None:
        """The token under *key*, fresh or not; None if there is none or anything about its file is not as it was."""
        return self._parse(warm.read_private(str(self._path(key))), key)

    def save(self, key: str, token: Token) -> None:
        """Keep *token* under *key*, if the place can be written."""
        before = self.load(key)
        if write_private(self._path(key), self._format(key, token)):
            if before is None or before.value != token.value:
                self._stamp(key, token)
            self._prune()

    def _stamp(self, key: str, token: Token) -> None:
        """Say that the token under *key* has changed, for shells and direnv to see.

        direnv compares whole seconds, so that two changes must not share one; mise takes a time stamp in the future for
        a change at each prompt (direnv b00e451 `internal/cmd/file_times.go`, mise 70e94a1 `src/hook_env.rs`,
        2026-11-22).
        """
        path = Path(warm.stamp_path(str(self.folder), key))
        generation, changed = 0, 0.0
        with suppress(OSError, ValueError):
            _, _, count = (warm.read_private(str(path)) or b"").decode("ascii").split()
            generation, changed = int(count) + 1, path.stat().st_mtime
        due = int(freshness.due(*token.seconds))
        data = f"{due} {int(token.expiry.timestamp())} {generation}\n".encode()
        write_private(path, data, at=max(int(time.time()), int(changed) + 1))

    def delete(self, key: str) -> None:
        """Forget the token under *key*."""
        with suppress(OSError):
            self._path(key).unlink()

    def forget(self, key: str | None) -> None:
        """Forget the token under *key*, or all, with the answers and notes that came of them; locks stay."""
        for each in self.keys() if key is None else [key]:
            self.delete(each)
        with suppress(OSError):
            if self.folder.is_symlink() or not _owned(self.folder.lstat()):
                return
            for path in self.folder.iterdir():
                if not _is_ours(path.name) or path.name.startswith("lock-"):
                    continue
                if key is not None and not _concerns(path, key):
                    continue
                with suppress(OSError):
                    path.unlink()

    def ready(self) -> None:
        """Never in the way: what cannot be kept is minted again."""

    def keys(self) -> list[str]:
        """Keys of all tokens."""
        return sorted(path.stem for path in self.folder.glob("*.token") if _is_ours(path.name))

    def problem(self) -> str | None:
        """Why nothing is stored, if that is so."""
        path = self.folder / f"probe-{os.getpid()}.tmp"
        if write_private(path, b"probe"):
            path.unlink(missing_ok=True)
            return None
        return f"nothing can be stored in {self.folder}: it cannot be written, or is not a folder of yours alone"

    def _path(self, key: str) -> Path:
        return Path(warm.token_path(str(self.folder), key))

    @staticmethod
    def _format(key: str, token: Token) -> bytes:
        return warm.format_token(key, token.value, token.issued.timestamp(), token.expiry.timestamp())

    @staticmethod
    def _parse(data: bytes | None, key: str) -> Token | None:
        found = warm.parse_token(data, key)
        if found is None:
            return None
        value, issued, expiry = found
        return Token(value, _instant(expiry), _instant(issued))

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the lock of *key*, or go on without one where locks do not work or take longer than 30 s.

        The files stay: to unlink a lock file is to let two processes hold "the" lock. There are 256 of them at most.
        """
        fd = _open_lock(self.folder / f"lock-{key[:2]}") if make_private(self.folder) else None
        try:
            yield
        finally:
            if fd is not None:
                # Closing alone would leave it to a child that was forked meanwhile, if there is one.
                _unlock(fd)
                os.close(fd)

    @contextmanager
    def keeper(self, key: str) -> Iterator[bool]:
        """See `Store`."""
        fd = _open_lock(self.folder / f"{key}.keeper", wait_s=0.0) if make_private(self.folder) else None
        try:
            yield fd is not None
        finally:
            if fd is not None:
                os.close(fd)

    def fail(self, key: str, error: VertexEnvError, at: datetime) -> None:
        """Note *error* for those who wait; see `Store`."""
        met = {"at": at.timestamp(), "kind": type(error).__name__, "message": error.message, "hint": error.hint}
        write_private(self.folder / f"{key}.failure", json.dumps(met).encode())

    def failure(self, key: str, since: datetime, until: datetime) -> VertexEnvError | None:
        """What was noted then; see `Store`."""
        try:
            met = json.loads(warm.read_private(str(self.folder / f"{key}.failure")) or b"")
            # A clock that was set back leaves notes from the future.
            meanwhile = since.timestamp() <= met["at"] <= until.timestamp()
            return revive(met["kind"], met["message"], met["hint"]) if meanwhile else None
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    def _prune(self) -> None:
        """Remove what no call can use any more, so that the folder of a busy CI host does not grow for ever."""
        oldest = time.time() - freshness.MAX_LIFETIME
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    if not entry.name.endswith(_PERISHABLE) or not _is_ours(entry.name):
                        continue
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        Path(entry.path).unlink()


class Notes:
    """Small facts that cost a request and are no secrets, each remembered for a while.

    Args:
        folder: As for `FileStore`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """The file of the fact under *name*."""
        return self.folder / f"{name}.note"

    def load(self, name: str) -> tuple[dict[str, Any], float] | None:
        """The fact under *name*, such as `{"id": "123", "host": "…"}`, and the epoch second until which it holds."""
        data = warm.read_private(str(self.path(name)))
        try:
            note = json.loads(data or b"")
            holds = note["from"] <= time.time() < note["until"]
            return (dict(note["fact"]), float(note["until"])) if holds else None
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    def save(self, name: str, fact: Mapping[str, Any], keep: timedelta) -> None:
        """Remember *fact* for *keep*."""
        now = time.time()
        note = {"from": now, "until": now + keep.total_seconds(), "fact": dict(fact)}
        write_private(self.path(name), json.dumps(note).encode())


def _concerns(path: Path, key: str) -> bool:
    """Whether the file at *path* came of the identity *key*: it has the name, or is an answer or snapshot for it."""
    if path.name.startswith(key):
        return True
    return path.suffix in (".answer", ".snapshot") and key.encode() in (warm.read_private(str(path)) or b"")


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
    """Whether *folder* is, or could be made, a 0700 directory of this user's."""
    if not warm.is_private_folder(str(folder)):
        try:
            if not folder.exists():
                if _belongs_to_another(folder):
                    return False
                folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                folder.mkdir(mode=0o700, exist_ok=True)
            elif (
                not folder.is_symlink()
                and _owned(folder.lstat())
                and all(_is_ours(path.name) for path in folder.iterdir())  # not /tmp, when root has named that
            ):
                folder.chmod(0o700)
        except OSError:
            return False
    return warm.is_private_folder(str(folder))


def _is_ours(name: str) -> bool:
    return _OURS.fullmatch(name) is not None


def _owned(status: os.stat_result) -> bool:
    return sys.platform == "win32" or status.st_uid == os.geteuid()


def _belongs_to_another(folder: Path) -> bool:
    """Whether we are root under `sudo` with somebody else's home: files of root's in there would lock its owner out."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return False
    existing = next((parent for parent in folder.parents if parent.exists()), folder)
    return not _owned(existing.stat())


def _open_lock(path: Path, wait_s: float = _LOCK_WAIT_S) -> int | None:
    """A descriptor that holds the lock at *path* until it is closed, or None where there can be none."""
    if sys.platform == "win32":
        return None
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags, 0o600)
    except OSError:
        return None
    deadline, pause = time.monotonic() + wait_s, 0.01
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                break
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        except OSError:
            break  # a file system without locks
        else:
            return fd
    os.close(fd)
    return None


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _unlock(fd: int) -> None:
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
