"""Tokens in the operating system's keychain; the only importer of keyring.

The keychain has the token. A file has the data that is not secret: the name of the
keychain, and the token's expiry. There is no fallback: if the keychain fails, the token
is not stored elsewhere. Nothing opens a prompt: a locked keychain is an error.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from typing import Any

from vertex_env import freshness
from vertex_env.cache import private
from vertex_env.cache.folder import is_own_folder, prune, stored, write_private
from vertex_env.cache.private import KEYCHAIN, PIN
from vertex_env.deadline import in_time
from vertex_env.errors import StoreError
from vertex_env.freshness import epoch_seconds
from vertex_env.tokens.store import FileStore, format_stored, parse_stored, write_stamp
from vertex_env.tokens.token import Token

SERVICE = "vertex-env"
TIMEOUT_S = 3.0
"""Timeout of each call to the keychain, in seconds. On a machine without a desktop,
some keychains never answer (https://github.com/cli/cli `internal/keyring/keyring.go`
has the same limit, 2026-11-22)."""

_WINDOWS_LIMIT = 1200
"""Maximum characters per item: Windows keeps 2,560 bytes of UTF-16.

https://github.com/jaraco/keyring/issues/540 (2026-11-22).
"""

_MOST_ITEMS = 64
"""Maximum number of items per token; the longest valid token needs fewer."""

_SECRET_SERVICE = "keyring.backends.SecretService.Keyring"  # noqa: S105 -- a class
KNOWN = frozenset(
    (
        _SECRET_SERVICE,
        "keyring.backends.libsecret.Keyring",
        "keyring.backends.kwallet.DBusKeyring",
        "keyring.backends.kwallet.DBusKeyringKWallet4",
        "keyring.backends.macOS.Keyring",
        "keyring.backends.Windows.WinVaultKeyring",
    )
)
"""Keychains that may be loaded by name: those of keyring itself (25.7.0
`keyring/backends`, 2026-11)."""

_CURE = "unlock or set up the keychain, or choose --store file"


class KeyringStore(FileStore):
    """Keeps tokens in the keychain.

    `load` and `save` raise StoreError if the keychain cannot be used. The user chose
    the keychain, so there is no fallback.

    Args:
        folder: The cache folder, for the locks and for data that is not secret.
        mint_s: As for `FileStore`.
    """

    def load(self, key: str) -> Token | None:
        """Load the token of *key*; None if it is missing or damaged."""
        meta = self._read(KEYCHAIN.name(key))
        backend = None if meta is None else _load_backend(meta["backend"])
        text, token = "", None
        for _, part in _items(backend, key) if backend is not None else ():
            text += part
            token = parse_stored(text.encode(errors="replace"), key)
            if token is not None or len(text) > private.MAX_BYTES:
                break
        return token

    def save(self, key: str, token: Token) -> None:
        """Save *token* under *key*.

        Nothing is saved if the folder cannot be written, because `delete` finds the
        token by its file there.
        """
        backend = self._backend()
        text = format_stored(key, token).decode()
        limit = _WINDOWS_LIMIT if "Windows" in _name(backend) else len(text)
        parts = [text[i : i + limit] for i in range(0, len(text), limit)]
        old = self._read(KEYCHAIN.name(key))
        if old is not None and old["backend"] != _name(backend):
            with suppress(StoreError):
                self.delete(key)
        # Write the file before the items: if the process is killed in between, `delete`
        # still finds them.
        if not self._write(
            KEYCHAIN.name(key), {"backend": _name(backend), "expiry": token.expiry.timestamp()}
        ):
            return
        for i, part in enumerate(parts):
            _ask(backend, backend.set_password, SERVICE, f"{key}-{i}", part)
        _remove(backend, key, len(parts))
        write_stamp(self.folder, key, token)
        self._prune()

    def delete(self, key: str) -> None:
        """Delete the token of *key*."""
        super().delete(key)
        path = self.folder / KEYCHAIN.name(key)
        if is_own_folder(self.folder) and os.path.lexists(path):
            # Use the pinned keychain if the token's own file names none.
            known = [
                meta["backend"]
                for meta in (self._read(path.name), self._read(PIN.name()))
                if meta is not None
            ]
            backend = next(filter(None, map(_load_backend, known)), None)
            if backend is not None:
                _remove(backend, key)
            with suppress(OSError):
                path.unlink()

    def forget(self, key: str | None) -> None:
        """Delete as `FileStore` does, and delete the tokens in the keychain.

        If a keychain fails, the tokens in all other places are deleted first, and then the
        error is raised. The file that names that keychain stays, so that a second call can
        find the token.
        """
        failure = None
        for each in self.keys() if key is None else [key]:
            try:
                self.delete(each)
            except StoreError as e:
                failure = e
        if failure is not None:
            raise failure
        super().forget(key)

    def ready(self) -> None:
        """Check that the keychain can be used; see `Store`."""
        backend = self._backend()
        _ask(backend, backend.get_password, SERVICE, "probe")

    def keys(self) -> list[str]:
        """List the keys of all tokens."""
        return sorted({*super().keys(), *self._known()})

    def _known(self) -> list[str]:
        """List the keys of tokens that are, or may be, in a keychain."""
        return stored(self.folder, KEYCHAIN)

    def problem(self) -> str | None:
        """Explain why the keychain or the folder cannot be used; None if both can."""
        try:
            self.ready()
        except StoreError as e:
            return e.message
        return super().problem()

    def _backend(self) -> Any:
        """Return the pinned keychain; without one, pin the one that keyring prefers.

        A keychain is pinned after a test: a value that was written can be read back.
        """
        pinned = self._read(PIN.name())
        backend = None if pinned is None else _load_backend(pinned["backend"])
        if backend is not None:
            return backend
        backend = _bounded(_best_backend)
        name, value = f"probe-{os.getpid()}", os.urandom(8).hex()
        _ask(backend, backend.set_password, SERVICE, name, value)
        if _ask(backend, backend.get_password, SERVICE, name) != value:
            # keyring's `null` backend accepts every value and keeps none.
            raise StoreError(f"the keychain {_name(backend)} does not keep what it is given", _CURE)
        _ask(backend, backend.delete_password, SERVICE, name)
        self._write(PIN.name(), {"backend": _name(backend)})
        return backend

    def _prune(self) -> None:
        """Remove old files, and the keychain items of tokens that expired long ago.

        Without this, the items of an identity that is no longer used would stay for ever.
        """
        prune(self.folder)
        oldest = time.time() - freshness.MAX_LIFETIME
        for key in self._known():
            meta = self._read(KEYCHAIN.name(key))
            if meta is not None and meta["expiry"] < oldest:
                with suppress(StoreError):
                    self.delete(key)

    def _read(self, name: str) -> Mapping[str, Any] | None:
        try:
            found = json.loads(private.read_private(str(self.folder / name)) or b"")
            return {
                "backend": str(found["backend"]),
                "expiry": epoch_seconds(found.get("expiry", 0)),
            }
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def _write(self, name: str, value: Mapping[str, object]) -> bool:
        return write_private(self.folder / name, json.dumps(value).encode())


def _best_backend() -> Any:
    """Return the keychain that keyring prefers.

    Raises:
        StoreError: keyring finds no usable keychain.
    """
    import keyring

    backend = keyring.get_keyring()
    # A chain of keychains asks each of them in turn, and each may prompt: use only the first.
    backend = next(iter(getattr(backend, "backends", ())), backend)
    if backend.priority < 1:
        raise StoreError("there is no keychain on this machine that keyring can use", _CURE)
    return backend


def _load_backend(name: str) -> Any | None:
    """Load the keychain with the class *name*, such as `keyring.backends.SecretService.Keyring`.

    *name* comes from a file, and loading a class runs its module. For that reason only
    keyring's own classes are loaded by name. Other classes must be among those that
    keyring itself offers, through its configuration or as installed plug-ins. Returns
    None if there is no such class.

    Raises:
        StoreError: The keychain cannot be used now.
    """
    from keyring import core

    def load() -> Any | None:
        if name not in KNOWN:
            return next((backend for backend in _offered() if _name(backend) == name), None)
        if name == _SECRET_SERVICE:
            _check_secret_service()
        try:
            return core.load_keyring(name)
        except RuntimeError:
            raise
        except Exception:  # noqa: BLE001 -- the import may raise anything if the class is missing
            return None

    return _bounded(load)


def _offered() -> Iterator[Any]:
    """Yield the keychains that keyring offers: the preferred one, then all usable ones."""
    import keyring
    from keyring.backend import get_all_keyring

    # If keyring's configuration names a missing module, the import may raise anything.
    with suppress(Exception):
        yield keyring.get_keyring()
    yield from get_all_keyring()


def _items(backend: Any, key: str, start: int = 0) -> Iterator[tuple[str, str]]:
    """Yield the name and content of each keychain item of *key*, up to the first missing item.

    A long token is split into several numbered items; *start* is the first number to read.
    """

    def get(name: str) -> Any:
        try:
            return backend.get_password(SERVICE, name)
        except UnicodeDecodeError:
            return ""  # the item exists but is damaged

    for name in (f"{key}-{i}" for i in range(start, _MOST_ITEMS)):
        part = _ask(backend, get, name)
        if not isinstance(part, str):
            return
        yield name, part


def _remove(backend: Any, key: str, start: int = 0) -> None:
    """Delete the items of *key* from number *start* on, the last item first.

    If this fails half-way, the items that are left have no gap, so a later call finds them.
    """
    for name, _ in reversed(list(_items(backend, key, start))):
        _ask(backend, backend.delete_password, SERVICE, name)


def _name(backend: object) -> str:
    return f"{type(backend).__module__}.{type(backend).__qualname__}"


def _ask(backend: Any, what: Callable[..., Any], *arguments: str) -> Any:
    """Call *what*, a method of *backend*, with a timeout; raise if the call would open a prompt.

    Raises:
        StoreError: The call failed or timed out, or the keychain is locked.
    """
    if _name(backend) == _SECRET_SERVICE:
        _bounded(_check_secret_service)
    return _bounded(lambda: what(*arguments))


def _check_secret_service() -> None:
    """Raise if the default collection is locked or missing.

    keyring would open a prompt for it, even to read. Source: keyring 25.7.0
    `keyring/backends/SecretService.py` get_preferred_collection (2026-11-22).
    """
    import secretstorage

    try:
        connection = secretstorage.dbus_init()
    except (secretstorage.SecretServiceNotAvailableException, OSError):
        raise StoreError("there is no D-Bus session, and so no Secret Service", _CURE) from None
    with closing(connection) as bus:
        if not secretstorage.check_service_availability(bus):
            raise StoreError("no Secret Service answers on D-Bus", _CURE)
        try:
            collection = secretstorage.Collection(bus, "/org/freedesktop/secrets/aliases/default")
            locked = collection.is_locked()
        except secretstorage.exceptions.ItemNotFoundException:
            raise StoreError("the Secret Service has no default collection yet", _CURE) from None
        if locked:
            raise StoreError("the keychain is locked", _CURE)


def _bounded(question: Callable[[], Any]) -> Any:
    """Call *question* with a timeout, and return its result.

    Raises:
        StoreError: *question* failed or timed out. Libraries below keyring may raise any exception.
    """

    def ask() -> tuple[Any, StoreError | None]:
        try:
            return question(), None
        except StoreError as e:
            return None, e
        except BaseException as e:  # noqa: BLE001 -- libraries below keyring may raise anything
            # Show the exception's type only: its text might quote the secret that was to be stored.
            return None, StoreError(f"the keychain cannot be used: {type(e).__name__}", _CURE)

    try:
        answer, failed = in_time(ask, TIMEOUT_S)
    except TimeoutError:
        answer, failed = (
            None,
            StoreError(f"the keychain did not answer within {TIMEOUT_S:.0f} s", _CURE),
        )
    if failed is not None:
        raise failed
    return answer
