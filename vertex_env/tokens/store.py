"""Where tokens are kept between calls: one 0600 file an identity, in a 0700 folder of the user's own.

Damage of any kind is a miss, never an error, and a place that cannot be written means "not stored", never a failure:
a token can always be minted again.
"""

import json
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from vertex_env import freshness
from vertex_env.cache import private
from vertex_env.cache.folder import delete_files, is_own_folder, make_private, prune, stored, write_private
from vertex_env.cache.locks import open_lock, unlock
from vertex_env.cache.private import FAILURE, KEEPER, LOCK, PROBE, STAMP, TOKEN
from vertex_env.errors import StoreError, VertexEnvError, revive
from vertex_env.tokens.token import Token

LOCK_WAIT_S = 30.0
_SOON_S = 3600.0
"""A stamp may be so far ahead of the clock: each change of the token moves it by a second at least."""


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
            prune(self.folder)

    def _stamp(self, key: str, token: Token) -> None:
        """Say that the token under *key* has changed, for shells and direnv to see.

        direnv compares whole seconds, so that two changes must not share one; mise takes a time stamp in the future for
        a change at each prompt (direnv b00e451 `internal/cmd/file_times.go`, mise 70e94a1 `src/hook_env.rs`,
        2026-11-22).
        """
        path = self.folder / STAMP.name(key)
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
        for each in self.keys() if key is None else [key]:
            self.delete(each)
        stays = delete_files(self.folder, key)
        if stays is not None:
            raise StoreError(
                f"a token may be left in {self.folder}, which cannot be written: {stays.strerror}",
                f"make it writable, then try again: chmod u+rwx {shlex.quote(str(self.folder))}",
            )

    def ready(self) -> None:
        """Never in the way: what cannot be kept is minted again."""

    def keys(self) -> list[str]:
        """Keys of all tokens."""
        return sorted(stored(self.folder, TOKEN))

    def problem(self) -> str | None:
        """Why nothing is stored, if that is so."""
        path = self.folder / PROBE.name(str(os.getpid()))
        if write_private(path, b"probe"):
            path.unlink(missing_ok=True)
            return None
        return f"nothing can be stored in {self.folder}: it cannot be written, or is not a folder of yours alone"

    def _path(self, key: str) -> Path:
        return self.folder / TOKEN.name(key)

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
        fd = open_lock(self.folder / LOCK.name(key[:2]), LOCK_WAIT_S) if make_private(self.folder) else None
        try:
            yield
        finally:
            if fd is not None:
                # Closing alone would leave it to a child that was forked meanwhile, if there is one.
                unlock(fd)
                os.close(fd)

    @contextmanager
    def keeper(self, key: str) -> Iterator[bool]:
        """See `Store`."""
        fd = open_lock(self.folder / KEEPER.name(key), wait_s=0.0) if make_private(self.folder) else None
        try:
            yield fd is not None
        finally:
            if fd is not None:
                os.close(fd)

    def fail(self, key: str, error: VertexEnvError, at: datetime) -> None:
        """Note *error* for those who wait; see `Store`."""
        met: dict[str, object]
        met = {"at": at.timestamp(), "kind": type(error).__name__, "message": error.message, "hint": error.hint}
        write_private(self.folder / FAILURE.name(key), json.dumps(met).encode())

    def failure(self, key: str, since: datetime, until: datetime) -> VertexEnvError | None:
        """What was noted then; see `Store`."""
        try:
            met = json.loads(private.read_private(FAILURE.path(str(self.folder), key)) or b"")
            # A clock that was set back leaves notes from the future.
            meanwhile = since.timestamp() <= freshness.epoch_seconds(met["at"]) <= until.timestamp()
            told = [met["kind"], met["message"], met["hint"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return revive(*told) if meanwhile and all(isinstance(text, str) for text in told) else None


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
