"""Tokens in the operating system's keychain; the only importer of keyring.

The keychain has the token, a file has what is no secret: in which keychain, and until when. Nothing is ever written
elsewhere instead, and nothing prompts: a locked keychain is an error.
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
"""For each question to the keychain: some never answer on a machine without a desktop
(https://github.com/cli/cli `internal/keyring/keyring.go` has the same limit, 2026-11-22)."""

_WINDOWS_LIMIT = 1200
"""Characters an item: Windows keeps 2,560 bytes of UTF-16.

https://github.com/jaraco/keyring/issues/540 (2026-11-22).
"""

_MOST_ITEMS = 64
"""More than the longest token that is read needs."""

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
"""Keychains that are loaded by name: keyring's own (25.7.0 `keyring/backends`, 2026-11)."""

_CURE = "unlock or set up the keychain, or choose --store file"


class KeyringStore(FileStore):
    """Keeps tokens in the keychain.

    `load` and `save` raise StoreError where the keychain cannot be used: it was chosen, and there is no way round it.

    Args:
        folder: For what is no secret, and for the locks.
        mint_s: As for `FileStore`.
    """

    def load(self, key: str) -> Token | None:
        """The token under *key*; None if there is none or anything about it is not as it was."""
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
        """Keep *token* under *key*, if the folder can be written: `delete` has to find it."""
        backend = self._backend()
        text = format_stored(key, token).decode()
        limit = _WINDOWS_LIMIT if "Windows" in _name(backend) else len(text)
        parts = [text[i : i + limit] for i in range(0, len(text), limit)]
        old = self._read(KEYCHAIN.name(key))
        if old is not None and old["backend"] != _name(backend):
            with suppress(StoreError):
                self.delete(key)
        # First, so that what is saved when somebody kills us half-way is found as well.
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
        """Forget the token under *key*."""
        super().delete(key)
        path = self.folder / KEYCHAIN.name(key)
        if is_own_folder(self.folder) and os.path.lexists(path):
            # The pinned one where the file does not tell.
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
        """As `FileStore` does; where a keychain cannot be reached, all that is elsewhere goes before that is told."""
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
        """See `Store`."""
        backend = self._backend()
        _ask(backend, backend.get_password, SERVICE, "probe")

    def keys(self) -> list[str]:
        """Keys of all tokens."""
        return sorted({*super().keys(), *self._known()})

    def _known(self) -> list[str]:
        """Keys of tokens that are, or may be, in a keychain."""
        return stored(self.folder, KEYCHAIN)

    def problem(self) -> str | None:
        """What is wrong with the keychain, if anything."""
        try:
            self.ready()
        except StoreError as e:
            return e.message
        return super().problem()

    def _backend(self) -> Any:
        """The keychain: the one that has proved before that it keeps what it is given, else the best that does now."""
        pinned = self._read(PIN.name())
        backend = None if pinned is None else _load_backend(pinned["backend"])
        if backend is not None:
            return backend
        backend = _bounded(_best_backend)
        name, value = f"probe-{os.getpid()}", os.urandom(8).hex()
        _ask(backend, backend.set_password, SERVICE, name, value)
        if _ask(backend, backend.get_password, SERVICE, name) != value:
            # keyring's `null` takes everything and keeps nothing.
            raise StoreError(f"the keychain {_name(backend)} does not keep what it is given", _CURE)
        _ask(backend, backend.delete_password, SERVICE, name)
        self._write(PIN.name(), {"backend": _name(backend)})
        return backend

    def _prune(self) -> None:
        """Remove the items of tokens that ended as well: those of an identity that is no more would stay for ever."""
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
    """The keychain that keyring prefers, if it is one."""
    import keyring

    backend = keyring.get_keyring()
    # Several at once are asked one after the other, each of which may prompt: take the first of them.
    backend = next(iter(getattr(backend, "backends", ())), backend)
    if backend.priority < 1:
        raise StoreError("there is no keychain on this machine that keyring can use", _CURE)
    return backend


def _load_backend(name: str) -> Any | None:
    """The keychain whose class is called *name*, such as `keyring.backends.SecretService.Keyring`; None if none is.

    *name* comes from a file, and to load a class is to run its module: only keyring's own are loaded by name. Another
    one is found among those that keyring itself offers, by its configuration or as an installed plug-in.

    Raises:
        StoreError: It cannot be used here and now.
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
        except Exception:  # noqa: BLE001 -- whatever importing raises in a version of keyring that has it no more
            return None

    return _bounded(load)


def _offered() -> Iterator[Any]:
    """The keychains that keyring offers: the preferred one first, then all that are installed and can be used."""
    import keyring
    from keyring.backend import get_all_keyring

    # A configuration that names what is not installed raises whatever an import raises.
    with suppress(Exception):
        yield keyring.get_keyring()
    yield from get_all_keyring()


def _items(backend: Any, key: str, start: int = 0) -> Iterator[tuple[str, str]]:
    """Name and content of each item that the token under *key* was split into, up to the first that is missing."""

    def get(name: str) -> Any:
        try:
            return backend.get_password(SERVICE, name)
        except UnicodeDecodeError:
            return ""  # damaged, but there

    for name in (f"{key}-{i}" for i in range(start, _MOST_ITEMS)):
        part = _ask(backend, get, name)
        if not isinstance(part, str):
            return
        yield name, part


def _remove(backend: Any, key: str, start: int = 0) -> None:
    """Delete the items of *key* from number *start* on, the last first: what is left if that fails is found again."""
    for name, _ in reversed(list(_items(backend, key, start))):
        _ask(backend, backend.delete_password, SERVICE, name)


def _name(backend: object) -> str:
    return f"{type(backend).__module__}.{type(backend).__qualname__}"


def _ask(backend: Any, what: Callable[..., Any], *arguments: str) -> Any:
    """Call *what*, a question to *backend*, but not while it would have to prompt.

    Raises:
        StoreError: It failed, is locked, or did not answer in time.
    """
    if _name(backend) == _SECRET_SERVICE:
        _bounded(_check_secret_service)
    return _bounded(lambda: what(*arguments))


def _check_secret_service() -> None:
    """Refuse a locked or missing collection, with which keyring would start a prompt, even to read.

    keyring 25.7.0 `keyring/backends/SecretService.py` get_preferred_collection (2026-11-22).
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
    """What *question* returns, if it does so in time.

    Raises:
        StoreError: It did not, or it failed; libraries below keyring raise whatever they like.
    """

    def ask() -> tuple[Any, StoreError | None]:
        try:
            return question(), None
        except StoreError as e:
            return None, e
        except BaseException as e:  # noqa: BLE001 -- see above
            # The type alone: the text might quote what was to be kept.
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
