"""Keychains for tests, most with a fault; keyring loads them by name, in this process or in a child.

Items are in the folder `$TESTS_KEYCHAIN`, a file each.
"""

import os
import time
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError, PasswordSetError


def _path(service: str, username: str) -> Path:
    return Path(os.environ["TESTS_KEYCHAIN"]) / f"{service}_{username}"


class Keychain(KeyringBackend):
    """A keychain without fault."""

    priority = 5.0

    def get_password(self, service: str, username: str) -> str | None:
        path = _path(service, username)
        return path.read_text(encoding="utf-8") if path.exists() else None

    def set_password(self, service: str, username: str, password: str) -> None:
        _path(service, username).write_text(password, encoding="utf-8")

    def delete_password(self, service: str, username: str) -> None:
        try:
            _path(service, username).unlink()
        except FileNotFoundError:
            raise PasswordDeleteError("no such item") from None


class LikeWindows(Keychain):
    """The limit of Windows' Credential Manager: https://github.com/jaraco/keyring/issues/540 (2026-11-22)."""

    def set_password(self, service: str, username: str, password: str) -> None:
        if len(password.encode("utf-16-le")) > 2560:
            raise OSError(1783, "The stub received bad data", "CredWrite")
        super().set_password(service, username, password)


class FullWindows(LikeWindows):
    """Takes the first two items of a token."""

    def set_password(self, service: str, username: str, password: str) -> None:
        if username.endswith("-2"):
            raise PasswordSetError("full")
        super().set_password(service, username, password)


class Talkative(Keychain):
    """Refuses tokens, and quotes them."""

    def set_password(self, service: str, username: str, password: str) -> None:
        if "token" in password:
            raise PasswordSetError(f"cannot keep {password!r}")
        super().set_password(service, username, password)


class Garbling(Keychain):
    """Gives back something else than it was given."""

    def get_password(self, service: str, username: str) -> str | None:
        found = super().get_password(service, username)
        return found and found[::-1]


class Hanging(Keychain):
    """Takes items, and never gives one back."""

    def get_password(self, service: str, username: str) -> str | None:  # noqa: ARG002
        time.sleep(600)
        return None


class Weak(Keychain):
    """Not one that keyring recommends, such as a plain file."""

    priority = 0.5
