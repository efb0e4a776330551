"""Files that only this user can read: their kinds, their folder, and how to read them.

The text of a token's file is defined here too. This module is on the warm path: it
imports os, sys and a hash alone. The functions that write files are in `folder`.
"""

import os
import sys

from vertex_env import freshness

try:
    # Importing hashlib loads OpenSSL, which takes a tenth of Python's start-up time.
    from _blake2 import blake2b
except ImportError:  # pragma: no cover -- an interpreter other than CPython
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES = 65_536
_TOKEN_FIRST_LINE = "vertex-env-token 1"  # noqa: S105 -- a file header
_TOKEN_CHARACTERS = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/=-"
)
"""Characters of an access token (RFC 6750 §2.1)."""

_KIND, _FOLDER, _FILE = 0o170000, 0o040000, 0o100000
"""Bits of a mode that give the file type (inode(7)). Importing the module `stat` would cost time.
"""


def digest(*parts: str) -> str:
    """Hash *parts* to 32 hexadecimal digits; different lists of texts give different digits."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


# --- kinds ---


class Kind:
    """A kind of file in the cache folder: its name, its content, and when it is deleted.

    Args:
        name: File name with `{}` for the variable part, such as `{}.token`.
        what: Regular expression for the variable part.
        secret: Whether the file contains a token.
        identity: Place of the identity's key in the file: its `name` or its `text`.
            `logout` of that identity deletes the file. If it is empty, only
            `logout --all` deletes the file.
        ages: Whether the file is removed when it is older than the longest lifetime of a token.
        stays: Whether `logout --all` leaves the file in place.
    """

    __slots__ = ("_head", "_tail", "ages", "identity", "secret", "stays", "what")

    def __init__(
        self,
        name: str,
        what: str = "",
        *,
        secret: bool = False,
        identity: str = "",
        ages: bool = True,
        stays: bool = False,
    ) -> None:
        self._head, _, self._tail = name.partition("{}")
        self.what = what
        self.secret = secret
        self.identity = identity
        self.ages = ages
        self.stays = stays

    def name(self, of: str = "") -> str:
        """Return the file name for the variable part *of*: `0f3a….token` for `0f3a…`."""
        return f"{self._head}{of}{self._tail}"

    def path(self, folder: str, of: str = "") -> str:
        """Return the path in *folder* of the file with the variable part *of*."""
        return os.path.join(folder, f"{self._head}{of}{self._tail}")

    @property
    def pattern(self) -> str:
        """Regular expression, without groups, for the names of all files of this kind."""
        head, tail = self._head.replace(".", "[.]"), self._tail.replace(".", "[.]")
        return f"{head}(?:{self.what}){tail}"

    def of(self, name: str) -> str:
        """Return the variable part of *name*, a file name of this kind."""
        return name[len(self._head) : len(name) - len(self._tail)]


_HEX = "[0-9a-f]{32,64}"

# tokens/store; {} is the key of the identity
TOKEN = Kind("{}.token", _HEX, secret=True, identity="name")
STAMP = Kind("{}.stamp", _HEX, identity="name")
"""The token's `REFRESH_AT EXPIRES_AT GENERATION`: not secret, so that other programs
can watch the file for a new token."""
FAILURE = Kind("{}.failure", _HEX, identity="name")
KEEPER = Kind("{}.keeper", _HEX, identity="name")
LOCK = Kind("lock-{}", "[0-9a-f]{2}", ages=False, stays=True)
"""A lock file is never deleted: two processes could then hold the same lock."""
PROBE = Kind("probe-{}.tmp", r"[0-9]+")

# tokens/keychain
KEYCHAIN = Kind("{}.keychain", _HEX, identity="name", ages=False)
"""Names the keychain that holds the token, for a token that is not in a file.
`keychain` removes this file together with the token."""
PIN = Kind("keychain.pin", ages=False)

# cache/answers; {} is the hash of the question
ANSWER = Kind("{}.answer", _HEX, identity="text")

# cache/background; {} is the key of the identity
REFRESH = Kind("{}.refresh", _HEX, identity="name")
OLD_REFRESH = Kind("{}.behind", _HEX, identity="name")
"""The name of `REFRESH` files in earlier versions."""

# cache/notes
NOTE = Kind("{}.note", "endpoint-[0-9a-f]{64}|no-metadata")

# cache/snapshots; {} is `-PROFILE` for a snapshot, and the hash of a file's path and
# time stamp for a mark
SNAPSHOT = Kind("shell{}.snapshot", "(?:-[A-Za-z0-9._-]+)?", identity="text")
MARK = Kind("{}.mark", _HEX, ages=False)
"""A mark's modification time is that of the file it stands for, so its age says
nothing. The mark is removed when no snapshot names it."""

KINDS = (
    *(TOKEN, STAMP, FAILURE, KEEPER, LOCK, PROBE, KEYCHAIN, PIN),
    *(ANSWER, REFRESH, OLD_REFRESH, NOTE, SNAPSHOT, MARK),
)
"""All kinds. A file that matches no kind is not vertex-env's. Kinds that are no longer
written stay in this list, so that their files are deleted."""


def temporary_name(name: str, process: int, instant_ns: int) -> str:
    """Return the name of a file while it is written: `keychain.pin.4711.8134567.tmp`.

    The temporary file is of the same kind as the finished one.
    """
    return f"{name}.{process}.{instant_ns}.tmp"


TEMPORARY = r"(?:\.[0-9]+\.[0-9]+)?\.tmp"
"""Regular expression for the end of a temporary name. The first versions wrote it without numbers.
"""


# --- the folder ---


def home_dir(environ: "Mapping[str, str]") -> str | None:
    """Return the user's home folder, such as `/home/me`; None if there is no absolute path.

    The path is `$HOME`, or the system's entry for the user if `HOME` is unset. A
    container's numeric user has no such entry. A relative path would mean a different
    folder in each working directory.
    """
    home = environ.get("HOME") or ""
    if sys.platform == "win32":
        home = home if os.path.isabs(home) else os.path.expanduser("~")
    elif not home:
        import pwd

        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return home if os.path.isabs(home) else None


def cache_dir(environ: "Mapping[str, str]") -> str | None:
    """Return `$VERTEX_ENV_CACHE_DIR`, else `vertex-env` in the user's cache folder.

    The user's cache folder is `$XDG_CACHE_HOME` if that is an absolute path. Otherwise
    it is `~/.cache`, `~/Library/Caches` on macOS, or `%LOCALAPPDATA%` on Windows.
    Returns None if the result is not absolute.
    """
    own = environ.get("VERTEX_ENV_CACHE_DIR")
    if own:
        return own if os.path.isabs(own) else None
    xdg = environ.get("XDG_CACHE_HOME") or ""
    if os.path.isabs(xdg):
        return os.path.join(xdg, "vertex-env")
    local = environ.get("LOCALAPPDATA") or "" if os.name == "nt" else ""
    if os.path.isabs(local):
        return os.path.join(local, "vertex-env", "Cache")
    home = home_dir(environ)
    if home is None:
        return None
    parts = ("Library", "Caches") if sys.platform == "darwin" else (".cache",)
    return os.path.join(home, *parts, "vertex-env")


def is_private_folder(path: str) -> bool:
    """Whether *path* is a directory that only this user can access.

    The path must be absolute and not a link. The folders above it may be links, such as
    a `~/.cache` on another disk. The check is for the folder that the path leads to,
    not for the folders on the way.
    """
    if not os.path.isabs(path):
        return False
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    return status.st_mode & _KIND == _FOLDER and _is_mine(status)


def read_private(path: str) -> bytes | None:
    """Read a regular file; only this user may have access to the file and its folder.

    Returns None for any other file.
    """
    if not is_private_folder(os.path.dirname(path)):
        return None
    # O_NONBLOCK: opening a pipe in the place of the file must not block.
    flags = (
        os.O_RDONLY
        | getattr(os, "O_NOFOLLOW", 0)
        | getattr(os, "O_NONBLOCK", 0)
        | getattr(os, "O_CLOEXEC", 0)
    )
    try:
        fd = os.open(path, flags)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not is_private_file(status) or status.st_size > MAX_BYTES:
            return None
        return os.read(fd, MAX_BYTES)
    except OSError:
        return None
    finally:
        os.close(fd)


def is_private_file(status: os.stat_result) -> bool:
    """Whether *status* is of a regular file that only this user can access.

    *status* must not come from a link that was followed: use `lstat` or `fstat`.
    """
    return status.st_mode & _KIND == _FILE and _is_mine(status)


def _is_mine(status: os.stat_result) -> bool:
    return os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)


# --- tokens ---


def is_token(value: str) -> bool:
    """Whether *value* consists of characters that an access token may have."""
    return bool(value) and _TOKEN_CHARACTERS.issuperset(value)


def format_token(key: str, value: str, issued: float, expiry: float) -> bytes:
    """Format a token's file for `parse_token`."""
    body = f"{_TOKEN_FIRST_LINE}\nkey {key}\nissued {issued!r}\nexpiry {expiry!r}\ntoken {value}\n"
    return f"{body}sum {digest(body)}\n".encode()


def parse_token(data: bytes | None, key: str) -> tuple[str, float, float] | None:
    """Return value, issue instant and expiry; None if *data* is not valid for *key*.

    *data* must be byte for byte what `format_token` writes for *key*.
    """
    try:
        _, _, issued_line, expiry_line, token_line, *_ = (data or b"").decode("ascii").split("\n")
        value, issued, expiry = token_line[6:], float(issued_line[7:]), float(expiry_line[7:])
    except ValueError:
        return None
    if not is_token(value) or not 0 <= issued < expiry <= min(
        issued + freshness.MAX_LIFETIME, freshness.LATEST
    ):
        return None
    return (value, issued, expiry) if format_token(key, value, issued, expiry) == data else None
