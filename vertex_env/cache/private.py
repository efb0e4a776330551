"""Files that only this user can read: their kinds, where their folder is, how they are read, and the text of a token's.

On the warm path: imports os, sys and a hash alone. What writes them is in `folder`.
"""

import os
import sys

from vertex_env import freshness

try:
    # hashlib loads OpenSSL, which takes as long as a tenth of starting Python.
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
"""RFC 6750 §2.1."""

_KIND, _FOLDER, _FILE = 0o170000, 0o040000, 0o100000
"""The bits of a mode that tell what it is (inode(7)); the module `stat` would be one more to import."""


def digest(*parts: str) -> str:
    """32 hexadecimal digits for *parts*, different for any two lists of texts."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


# --- kinds ---


class Kind:
    """A kind of file in the cache folder: what it is called, and what becomes of it.

    Args:
        name: Such as `{}.token`, with `{}` for what tells one file of the kind from another.
        what: A regular expression for that.
        secret: Whether a token is in it.
        identity: Where the identity that it came of is found, for the `logout` of that one: in its `name` or its
            `text`. A file of another kind goes with `logout --all` only.
        ages: Whether it is removed when it was written longer ago than any token lasts.
        stays: Whether it outlives `logout --all`.
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
        """The file's name, such as `0f3a….token` where *of* is `0f3a…`."""
        return f"{self._head}{of}{self._tail}"

    def path(self, folder: str, of: str = "") -> str:
        """The file's path in *folder*."""
        return os.path.join(folder, f"{self._head}{of}{self._tail}")

    @property
    def pattern(self) -> str:
        """A regular expression without groups for the names of all files of this kind."""
        head, tail = self._head.replace(".", "[.]"), self._tail.replace(".", "[.]")
        return f"{head}(?:{self.what}){tail}"

    def of(self, name: str) -> str:
        """What `name` was given, for *name*, which is of this kind."""
        return name[len(self._head) : len(name) - len(self._tail)]


_HEX = "[0-9a-f]{32,64}"

# tokens/store; {} is the identity's key
TOKEN = Kind("{}.token", _HEX, secret=True, identity="name")
STAMP = Kind("{}.stamp", _HEX, identity="name")
"""`REFRESH_AT EXPIRES_AT GENERATION` of the token: no secret, for others to see that it has changed."""
FAILURE = Kind("{}.failure", _HEX, identity="name")
KEEPER = Kind("{}.keeper", _HEX, identity="name")
LOCK = Kind("lock-{}", "[0-9a-f]{2}", ages=False, stays=True)
"""To delete the file of a lock is to let two processes hold it."""
PROBE = Kind("probe-{}.tmp", r"[0-9]+")

# tokens/keychain
KEYCHAIN = Kind("{}.keychain", _HEX, identity="name", ages=False)
"""Where the token is that is in no file: `keychain` removes it, with the token."""
PIN = Kind("keychain.pin", ages=False)

# cache/answers; {} is the question
ANSWER = Kind("{}.answer", _HEX, identity="text")

# cache/background; {} is the identity's key
REFRESH = Kind("{}.refresh", _HEX, identity="name")
OLD_REFRESH = Kind("{}.behind", _HEX, identity="name")
"""Its name in earlier versions."""

# cache/notes
NOTE = Kind("{}.note", "endpoint-[0-9a-f]{64}|no-metadata")

# cache/snapshots; {} is `-PROFILE`, and the path and time stamp of a file
SNAPSHOT = Kind("shell{}.snapshot", "(?:-[A-Za-z0-9._-]+)?", identity="text")
MARK = Kind("{}.mark", _HEX, ages=False)
"""Its age is that of the file that it stands for: it goes when no snapshot names it any more."""

KINDS = (
    *(TOKEN, STAMP, FAILURE, KEEPER, LOCK, PROBE, KEYCHAIN, PIN),
    *(ANSWER, REFRESH, OLD_REFRESH, NOTE, SNAPSHOT, MARK),
)
"""All of them: a file of no kind is not ours. A kind that is written no more stays here, to be deleted."""


def temporary_name(name: str, process: int, instant_ns: int) -> str:
    """What a file is called while it is written, such as `keychain.pin.4711.8134567.tmp`: it is of the same kind."""
    return f"{name}.{process}.{instant_ns}.tmp"


TEMPORARY = r"(?:\.[0-9]+\.[0-9]+)?\.tmp"
"""A regular expression for the end of such a name; the numbers were not there at first."""


# --- the folder ---


def home_dir(environ: "Mapping[str, str]") -> str | None:
    """The user's home folder, such as `/home/me`: `$HOME`, else what the system says; None where that is not absolute.

    A container's numeric user has none, and a relative one would be another in each folder that we are called from.
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
    """`$VERTEX_ENV_CACHE_DIR`, else `vertex-env` in the user's cache folder; None where that is not absolute.

    The user's cache folder is `$XDG_CACHE_HOME` where that is absolute, or `~/.cache`; `~/Library/Caches` on macOS,
    `%LOCALAPPDATA%` on Windows.
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
    """Whether *path* is absolute and a directory, not a link, of this user's, that nobody else may enter.

    The folders above it may be links, such as a `~/.cache` on another disk: what they lead to is checked, not the way.
    """
    if not os.path.isabs(path):
        return False
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    return status.st_mode & _KIND == _FOLDER and _is_mine(status)


def read_private(path: str) -> bytes | None:
    """Content of a regular file that only this user can read or write, in a folder of theirs; else None."""
    if not is_private_folder(os.path.dirname(path)):
        return None
    # O_NONBLOCK: a pipe in the file's place must not keep us waiting.
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
    """Whether *status*, not followed through a link, is of a regular file of this user's that nobody else may open."""
    return status.st_mode & _KIND == _FILE and _is_mine(status)


def _is_mine(status: os.stat_result) -> bool:
    return os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)


# --- tokens ---


def is_token(value: str) -> bool:
    """Whether *value* can be an access token at all."""
    return bool(value) and _TOKEN_CHARACTERS.issuperset(value)


def format_token(key: str, value: str, issued: float, expiry: float) -> bytes:
    """What `parse_token` reads."""
    body = f"{_TOKEN_FIRST_LINE}\nkey {key}\nissued {issued!r}\nexpiry {expiry!r}\ntoken {value}\n"
    return f"{body}sum {digest(body)}\n".encode()


def parse_token(data: bytes | None, key: str) -> tuple[str, float, float] | None:
    """Value, issued and expiry, if *data* is byte for byte what `format_token` writes for *key*; else None."""
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
