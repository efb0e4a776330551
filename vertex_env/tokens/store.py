"""Where tokens are kept between calls: one 0600 file an identity, in a 0700 folder of the user's own.

Damage of any kind is a miss, never an error, and a place that cannot be written means "not stored", never a failure:
a token can always be minted again.
"""

import json
import os
import re
import shlex
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from vertex_env import freshness
from vertex_env.cache import private
from vertex_env.errors import StoreError, VertexEnvError, revive
from vertex_env.tokens.token import Token

if sys.platform != "win32":
    import fcntl

_LOCK_WAIT_S = 30.0
_SOON_S = 3600.0
"""A stamp may be so far ahead of the clock: each change of the token moves it by a second at least."""


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
    """Keeps nothing.

    Args:
        why: What `problem` says, where that was not the user's choice.
    """

    def __init__(self, why: str | None = None) -> None:
        self._why = why

    def load(self, key: str) -> Token | None:  # noqa: ARG002, D102
        return None

    def save(self, key: str, token: Token) -> None:  # noqa: D102
        pass

    def delete(self, key: str) -> None:  # noqa: D102
        pass

    def forget(self, key: str | None) -> None:  # noqa: D102
        pass

    def problem(self) -> str | None:  # noqa: D102
        return self._why

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
        return self._parse(private.read_private(str(self._path(key))), key)

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
        path = Path(private.stamp_path(str(self.folder), key))
        generation, changed, now = 0, 0.0, int(time.time())
        with suppress(OSError, ValueError):
            _, _, count = (private.read_private(str(path)) or b"").decode("ascii").split()
            generation, changed = int(count) % 10**9 + 1, path.lstat().st_mtime
        if changed > now + _SOON_S:
            changed = 0.0  # it was not written by us, or with another clock
        due = int(freshness.due(*token.seconds))
        data = f"{due} {int(token.expiry.timestamp())} {generation}\n".encode()
        write_private(path, data, at=max(now, int(changed) + 1))

    def delete(self, key: str) -> None:
        """Forget the token under *key*."""
        if is_own_folder(self.folder):
            with suppress(OSError):
                self._path(key).unlink()

    def forget(self, key: str | None) -> None:
        """Forget the token under *key*, or all, with the answers and notes that came of them; locks stay.

        Raises:
            StoreError: A file stays, or may, because the folder cannot be read, entered or written.
        """
        stays = _unseen(self.folder)
        for each in self.keys() if key is None else [key]:
            self.delete(each)
        for path in our_files(self.folder):
            if path.name.startswith("lock-") or (key is not None and not _concerns(path, key)):
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError as e:
                if not os.path.isdir(path):  # noqa: PTH112 -- a Path raises where it cannot be entered
                    stays = e
        if stays is not None:
            raise StoreError(
                f"a token may be left in {self.folder}, which cannot be written: {stays.strerror}",
                f"make it writable, then try again: chmod u+rwx {shlex.quote(str(self.folder))}",
            )

    def ready(self) -> None:
        """Never in the way: what cannot be kept is minted again."""

    def keys(self) -> list[str]:
        """Keys of all tokens."""
        return sorted(path.stem for path in our_files(self.folder) if path.suffix == ".token")

    def problem(self) -> str | None:
        """Why nothing is stored, if that is so."""
        path = self.folder / f"probe-{os.getpid()}.tmp"
        if write_private(path, b"probe"):
            path.unlink(missing_ok=True)
            return None
        return f"nothing can be stored in {self.folder}: it cannot be written, or is not a folder of yours alone"

    def _path(self, key: str) -> Path:
        return Path(private.token_path(str(self.folder), key))

    @staticmethod
    def _format(key: str, token: Token) -> bytes:
        return private.format_token(key, token.value, token.issued.timestamp(), token.expiry.timestamp())

    @staticmethod
    def _parse(data: bytes | None, key: str) -> Token | None:
        found = private.parse_token(data, key)
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
        met: dict[str, object]
        met = {"at": at.timestamp(), "kind": type(error).__name__, "message": error.message, "hint": error.hint}
        write_private(self.folder / f"{key}.failure", json.dumps(met).encode())

    def failure(self, key: str, since: datetime, until: datetime) -> VertexEnvError | None:
        """What was noted then; see `Store`."""
        try:
            met = json.loads(private.read_private(str(self.folder / f"{key}.failure")) or b"")
            # A clock that was set back leaves notes from the future.
            meanwhile = since.timestamp() <= epoch_seconds(met["at"]) <= until.timestamp()
            told = [met["kind"], met["message"], met["hint"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return revive(*told) if meanwhile and all(isinstance(text, str) for text in told) else None

    def _prune(self) -> None:
        """Remove what no call can use any more, so that the folder of a busy CI host does not grow for ever."""
        oldest, marks = time.time() - freshness.MAX_LIFETIME, []
        with suppress(OSError), os.scandir(self.folder) as entries:
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
        self._prune_marks(marks)

    def _prune_marks(self, marks: Sequence[str]) -> None:
        """Remove those of *marks*, file names, that no snapshot names."""
        if marks:
            kept = [private.read_private(str(path)) or b"" for path in self.folder.glob("*.snapshot")]
            for name in marks:
                if not any(name.encode() in text for text in kept):
                    with suppress(OSError):
                        (self.folder / name).unlink()


class Notes:
    """Small facts that cost a request and are no secrets, each remembered for a while.

    Args:
        folder: As for `FileStore`; without one nothing is remembered.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def path(self, name: str) -> Path | None:
        """The file of the fact under *name*."""
        return self.folder and self.folder / f"{name}.note"

    def load(self, name: str) -> tuple[dict[str, Any], float] | None:
        """The fact under *name*, such as `{"id": "123", "host": "…"}`, and the epoch second until which it holds."""
        path = self.path(name)
        try:
            note = json.loads((path and private.read_private(str(path))) or b"")
            fact, until = note["fact"], epoch_seconds(note["until"])
            holds = epoch_seconds(note["from"]) <= time.time() < until
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return (fact, until) if holds and isinstance(fact, dict) else None

    def save(self, name: str, fact: Mapping[str, Any], keep: timedelta) -> None:
        """Remember *fact* for *keep*."""
        now, path = time.time(), self.path(name)
        note = {"from": now, "until": now + keep.total_seconds(), "fact": dict(fact)}
        if path is not None:
            write_private(path, json.dumps(note).encode())


def epoch_seconds(value: object) -> float:
    """*value*, found in a file, as epoch seconds.

    Raises:
        ValueError: It is no number, or no instant: NaN, infinite, or an integer of a thousand digits.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= freshness.LATEST:
        raise ValueError("not an instant")
    return float(value)


def our_files(folder: Path) -> list[Path]:
    """Our files in *folder*, with whatever else has the name of one; none where it is not this user's own."""
    if not is_own_folder(folder):
        return []
    try:
        return [path for path in folder.iterdir() if _is_ours(path.name)]
    except OSError:
        return []


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
    return folder.is_absolute() and stat.S_ISDIR(status.st_mode) and _owned(status)


def _concerns(path: Path, key: str) -> bool:
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
                and _owned(folder.lstat())
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
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o600)
    except OSError:
        return None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        return None
    if _owned(status):
        os.fchmod(fd, 0o600)  # the umask may have taken more, and the next process opens it too
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
