"""Where tokens are kept between calls: one 0600 file an identity, in a 0700 folder of the user's own.

Damage of any kind is a miss, never an error, and a place that cannot be written means "not stored", never a failure:
a token can always be minted again.
"""

import json
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from vertex_env import freshness
from vertex_env.cache import private
from vertex_env.cache.folder import (
    delete_files,
    is_own_folder,
    make_private,
    prune,
    stored,
    write_private,
)
from vertex_env.cache.locks import open_lock, unlock
from vertex_env.cache.private import FAILURE, KEEPER, LOCK, PROBE, STAMP, TOKEN
from vertex_env.errors import StoreError, VertexEnvError, revive
from vertex_env.tokens.token import Token

LOCK_SLACK_S = 20.0
"""Waiting for a lock ends so long after its holder's mint has had its time."""
_SOON_S = 3600.0
"""A stamp may be so far ahead of the clock: each change of the token moves it by a second at least."""


class Store(Protocol):
    """Where tokens are kept, each under the key of its identity. Without a store each is minted when it is asked for.

    A file that cannot be used is a miss, and a place that cannot be written keeps nothing. Where a place was chosen and
    nothing may take its turn, as with a keychain, a StoreError says that it cannot be used.
    """

    def load(self, key: str) -> Token | None:
        """The token under *key*, fresh or not; None if there is none, or it is not as it was saved.

        Raises:
            StoreError: The chosen place cannot be used.
        """
        ...

    def save(self, key: str, token: Token) -> None:
        """Keep *token* under *key* in place of what was there, if that can be done.

        Raises:
            StoreError: The chosen place cannot be used.
        """
        ...

    def ready(self) -> None:
        """Find out before a token is minted whether it could be kept, where that is a condition.

        Raises:
            StoreError: The chosen place cannot be used.
        """
        ...

    def problem(self) -> str | None:
        """Why nothing can be kept, in a line; None if that is not so."""
        ...

    def lock(self, key: str) -> AbstractContextManager[None]:
        """Held by one process at a time, if locks work there; freed at once when that dies."""
        ...

    def keeper(self, key: str) -> AbstractContextManager[bool]:
        """Whether nobody else keeps *key* fresh while this is held; False where locks do not work."""
        ...

    def fail(self, key: str, error: VertexEnvError, at: datetime) -> None:
        """Tell those who wait for the lock what minting met, so that they need not all meet it one after another."""
        ...

    def failure(self, key: str, since: datetime, until: datetime) -> VertexEnvError | None:
        """What minting met between *since* and *until*, if it did."""
        ...


class FileStore:
    """Keeps tokens in files.

    Args:
        folder: Made on the first save; used only if it is a directory of this user's that nobody else may enter.
        mint_s: How long a mint may take, for which a lock is held.
    """

    def __init__(self, folder: Path, mint_s: float = 0.0) -> None:
        self.folder = folder
        self.lock_wait_s = mint_s + LOCK_SLACK_S

    def load(self, key: str) -> Token | None:
        """The token under *key*, fresh or not; None if there is none or anything about its file is not as it was."""
        return parse_stored(private.read_private(str(self._path(key))), key)

    def save(self, key: str, token: Token) -> None:
        """Keep *token* under *key*, if the place can be written."""
        before = self.load(key)
        if write_private(self._path(key), format_stored(key, token)):
            if before is None or before.value != token.value:
                write_stamp(self.folder, key, token)
            prune(self.folder)

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

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the lock of *key*, or go on without one where locks do not work or take longer than `lock_wait_s`.

        The files stay: to unlink a lock file is to let two processes hold "the" lock. There are 256 of them at most.
        """
        fd = (
            open_lock(self.folder / LOCK.name(key[:2]), self.lock_wait_s)
            if make_private(self.folder)
            else None
        )
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
        fd = (
            open_lock(self.folder / KEEPER.name(key), wait_s=0.0)
            if make_private(self.folder)
            else None
        )
        try:
            yield fd is not None
        finally:
            if fd is not None:
                os.close(fd)

    def fail(self, key: str, error: VertexEnvError, at: datetime) -> None:
        """Note *error* for those who wait; see `Store`."""
        met: dict[str, object]
        met = {
            "at": at.timestamp(),
            "kind": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
        }
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


def format_stored(key: str, token: Token) -> bytes:
    """What `parse_stored` reads."""
    return private.format_token(
        key, token.value, token.issued.timestamp(), token.expiry.timestamp()
    )


def parse_stored(data: bytes | None, key: str) -> Token | None:
    """The token in *data*, if that is byte for byte what `format_stored` gives for *key*; else None."""
    found = private.parse_token(data, key)
    if found is None:
        return None
    value, issued, expiry = found
    return Token(value, _instant(expiry), _instant(issued))


def write_stamp(folder: Path, key: str, token: Token) -> None:
    """Say that the token under *key* has changed, for shells and direnv to see.

    direnv compares whole seconds, so that two changes must not share one; mise takes a time stamp in the future for
    a change at each prompt (direnv b00e451 `internal/cmd/file_times.go`, mise 70e94a1 `src/hook_env.rs`,
    2026-11-22).
    """
    path = folder / STAMP.name(key)
    generation, changed, now = 0, 0.0, int(time.time())
    with suppress(OSError, ValueError):
        _, _, count = (private.read_private(str(path)) or b"").decode("ascii").split()
        generation, changed = int(count) % 10**9 + 1, path.lstat().st_mtime
    if changed > now + _SOON_S:
        changed = 0.0  # it was not written by us, or with another clock
    due = int(freshness.due(*token.seconds))
    data = f"{due} {int(token.expiry.timestamp())} {generation}\n".encode()
    write_private(path, data, at=max(now, int(changed) + 1))


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
