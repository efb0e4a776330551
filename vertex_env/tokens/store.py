"""Where tokens are kept between calls: one 0600 file per identity, in a private 0700 folder.

A damaged file is a cache miss, never an error. A folder that cannot be written means
"not stored", never a failure. Both are harmless, because a token can always be minted
again.
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
"""Seconds to wait for a lock in addition to the time that the lock holder's mint may take."""
_SOON_S = 3600.0
"""Maximum time, in seconds, that a stamp's time may be ahead of the clock. It can be
ahead because each change of the token moves it by at least a second."""


class Store(Protocol):
    """Where tokens are kept, each under the key of its identity.

    Without a store, each call mints a token. A file that cannot be used is a cache
    miss, and a place that cannot be written keeps nothing. If the user chose a place
    that has no fallback, such as a keychain, a StoreError says that the place cannot be
    used.
    """

    def load(self, key: str) -> Token | None:
        """Load the token of *key*, fresh or stale; None if it is missing or damaged.

        Raises:
            StoreError: The chosen place cannot be used.
        """
        ...

    def save(self, key: str, token: Token) -> None:
        """Save *token* under *key*, in place of an earlier one, if the place can be written.

        Raises:
            StoreError: The chosen place cannot be used.
        """
        ...

    def ready(self) -> None:
        """Check that a token could be stored, before it is minted.

        A store without this condition does nothing.

        Raises:
            StoreError: The chosen place cannot be used.
        """
        ...

    def problem(self) -> str | None:
        """Explain in one line why nothing can be stored; None if the store works."""
        ...

    def lock(self, key: str) -> AbstractContextManager[None]:
        """Hold the lock of *key*: one process at a time, as far as locks work in this place.

        The lock is freed at once when its holder dies.
        """
        ...

    def keeper(self, key: str) -> AbstractContextManager[bool]:
        """Claim to be the one process that keeps *key* fresh; yield whether that worked.

        The claim fails if another process has the claim, or if locks do not work in this place.
        """
        ...

    def fail(self, key: str, error: VertexEnvError, at: datetime) -> None:
        """Save the *error* of a failed mint at the instant *at*.

        Processes that wait for the lock read it and do not repeat the same failure one
        after another.
        """
        ...

    def failure(self, key: str, since: datetime, until: datetime) -> VertexEnvError | None:
        """Return the error of a failed mint between *since* and *until*, if there is one."""
        ...


class FileStore:
    """Keeps tokens in files.

    Args:
        folder: The cache folder. It is created on the first save, and used only if it
            is a directory of this user that no other user may enter.
        mint_s: How many seconds a mint, during which the lock is held, may take.
    """

    def __init__(self, folder: Path, mint_s: float = 0.0) -> None:
        self.folder = folder
        self.lock_wait_s = mint_s + LOCK_SLACK_S

    def load(self, key: str) -> Token | None:
        """Load the token of *key*, fresh or stale; None if its file is missing or damaged."""
        return parse_stored(private.read_private(str(self._path(key))), key)

    def save(self, key: str, token: Token) -> None:
        """Save *token* under *key*, if the folder can be written."""
        before = self.load(key)
        if write_private(self._path(key), format_stored(key, token)):
            if before is None or before.value != token.value:
                write_stamp(self.folder, key, token)
            prune(self.folder)

    def delete(self, key: str) -> None:
        """Delete the token of *key*."""
        if is_own_folder(self.folder):
            with suppress(OSError):
                self._path(key).unlink()

    def forget(self, key: str | None) -> None:
        """Delete the token of *key*, or all tokens if *key* is None; keep the lock files.

        The answers and notes that belong to the token are deleted too.

        Raises:
            StoreError: A file stays or may stay, because the folder cannot be read,
                entered or written.
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
        """Do nothing: a token that cannot be stored is minted again."""

    def keys(self) -> list[str]:
        """List the keys of all tokens."""
        return sorted(stored(self.folder, TOKEN))

    def problem(self) -> str | None:
        """Explain why nothing can be stored; None if the folder can be written."""
        path = self.folder / PROBE.name(str(os.getpid()))
        if write_private(path, b"probe"):
            path.unlink(missing_ok=True)
            return None
        return f"nothing can be stored in {self.folder}: it cannot be written, or is not a folder of yours alone"

    def _path(self, key: str) -> Path:
        return self.folder / TOKEN.name(key)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the lock of *key*; go on without a lock if it does not work or takes too long.

        The wait ends after `lock_wait_s` seconds. The lock files are never deleted,
        because then two processes could hold "the" lock. There are 256 of them at most.
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
                # Closing is not enough: a child forked in the meantime would still hold the lock.
                unlock(fd)
                os.close(fd)

    @contextmanager
    def keeper(self, key: str) -> Iterator[bool]:
        """Claim to be the one process that keeps *key* fresh; see `Store`."""
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
        """Save *error* for the processes that wait; see `Store`."""
        met: dict[str, object]
        met = {
            "at": at.timestamp(),
            "kind": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
        }
        write_private(self.folder / FAILURE.name(key), json.dumps(met).encode())

    def failure(self, key: str, since: datetime, until: datetime) -> VertexEnvError | None:
        """Return the error that was saved in that time; see `Store`."""
        try:
            met = json.loads(private.read_private(FAILURE.path(str(self.folder), key)) or b"")
            # After the clock was set back, there can be errors from the future: ignore them.
            meanwhile = since.timestamp() <= freshness.epoch_seconds(met["at"]) <= until.timestamp()
            told = [met["kind"], met["message"], met["hint"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return revive(*told) if meanwhile and all(isinstance(text, str) for text in told) else None


def format_stored(key: str, token: Token) -> bytes:
    """Format *token* for `parse_stored`."""
    return private.format_token(
        key, token.value, token.issued.timestamp(), token.expiry.timestamp()
    )


def parse_stored(data: bytes | None, key: str) -> Token | None:
    """Parse *data*; None if it is not byte for byte what `format_stored` writes for *key*."""
    found = private.parse_token(data, key)
    if found is None:
        return None
    value, issued, expiry = found
    return Token(value, _instant(expiry), _instant(issued))


def write_stamp(folder: Path, key: str, token: Token) -> None:
    """Update the stamp of *key*: a file whose new time shows shells and direnv a new token.

    direnv compares whole seconds, so two changes must not have the same second. mise
    treats a time stamp in the future as a change at each prompt (direnv b00e451
    `internal/cmd/file_times.go`, mise 70e94a1 `src/hook_env.rs`, 2026-11-22).
    """
    path = folder / STAMP.name(key)
    generation, changed, now = 0, 0.0, int(time.time())
    with suppress(OSError, ValueError):
        _, _, count = (private.read_private(str(path)) or b"").decode("ascii").split()
        generation, changed = int(count) % 10**9 + 1, path.lstat().st_mtime
    if changed > now + _SOON_S:
        changed = 0.0  # another program wrote it, or the clock was different
    due = int(freshness.due(*token.seconds))
    data = f"{due} {int(token.expiry.timestamp())} {generation}\n".encode()
    write_private(path, data, at=max(now, int(changed) + 1))


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
