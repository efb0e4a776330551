"""The warm path: give the remembered answer before anything that takes time is imported.

An answer is the text that the ordinary path printed, with places for token and instants, and everything it depended on:
arguments, variables, files. If all of that is as it was and the stored token is fresh, the same text is printed again.
Whatever does not match exactly takes the ordinary path, in `cli`, which prints the same bytes.

The token itself is not in the answer: it is read from the store, by the functions here that `store` uses as well.
Imports os, sys, time and a hash; neither Click nor google, keyring, json, re or tomllib.
"""

import os
import sys
from time import gmtime, strftime

from vertex_env import freshness
from vertex_env.version import __version__

try:
    # hashlib loads OpenSSL, which takes as long as a tenth of starting Python.
    from _blake2 import blake2b
except ImportError:  # pragma: no cover -- an interpreter other than CPython
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_BYTES = 65_536
_TOKEN_FIRST_LINE = "vertex-env-token 1"  # noqa: S105 -- a file header
_ANSWER_FIRST_LINE = "vertex-env-answer 2"
_TOKEN_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/=-")
"""RFC 6750 §2.1."""
_PREFIXES = ("VERTEX_ENV_", "_VERTEX_ENV_", "GOOGLE_", "CLOUDSDK_", "GCLOUD_", "GCE_")
"""Variables that tell one question from another; others that matter are checked by name. Click's has the underscore."""
_OWN_RESULTS = ("VERTEX_ENV_EXPIRES_AT", "VERTEX_ENV_REFRESH_AT", "VERTEX_ENV_STAMP", "VERTEX_ENV_VIA")
"""What `export` itself sets: were it a part of the question, each new token would make a new one in every shell."""

_KIND, _FOLDER, _FILE = 0o170000, 0o040000, 0o100000
"""The bits of a mode that tell what it is (inode(7)); the module `stat` would be one more to import."""

HANDED_OVER = "_VERTEX_ENV_START"
"""Variable by which `run`, grown large while it minted, tells its leaner successor where the variables are."""

PARENT = "_VERTEX_ENV_PARENT"
"""Variable by which `run` tells a process that mints for it whom it must not outlive."""

FORCED = "_VERTEX_ENV_BACKEND"
"""Variable that tests set to `posix`, to have on Linux nothing that macOS lacks. The command gets it like any other."""

REFRESH_GAP_S = 60.0
"""At most one refresh behind the user's back in so long."""


def is_linux() -> bool:
    """Whether there is what only Linux has: /proc, prctl(2), memory files, siginfo, a clock that sees sleep."""
    return sys.platform == "linux" and os.environ.get(FORCED) != "posix"


def own_argv(*args: str) -> list[str]:
    """How we start ourselves with *args*, whatever `PATH` and the folder that we are in say."""
    return [sys.executable, "-P", "-m", "vertex_env", *args]


def digest(*parts: str) -> str:
    """32 hexadecimal digits for *parts*, different for any two lists of texts."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def rfc3339(instant: float) -> str:
    """Such as `2026-11-22T12:00:00Z`."""
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(instant))


# --- private files ---


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
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
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


def token_path(folder: str, key: str) -> str:
    """Where the token of the identity *key* is kept."""
    return os.path.join(folder, f"{key}.token")


def stamp_path(folder: str, key: str) -> str:
    """Where `REFRESH_AT EXPIRES_AT GENERATION` of that token are: no secret, for others to see that it has changed."""
    return os.path.join(folder, f"{key}.stamp")


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
    if not is_token(value) or not 0 <= issued < expiry <= min(issued + freshness.MAX_LIFETIME, freshness.LATEST):
        return None
    return (value, issued, expiry) if format_token(key, value, issued, expiry) == data else None


# --- answers ---

_MARKS = 5
"""As many texts as `Answer.fill` puts in."""


class Answer:
    """What the ordinary path printed, and what that depended on.

    Args:
        key: Of the identity, to find the token by.
        min_ttl: Least seconds that the token must have left.
        refreshes: Whether the token may be renewed behind the user's back before it is too late.
        names: Variables that were looked at, set or not; as `RULE NAME` where only `is_kept` matters.
        files: Absolute paths that were looked at, there or not.
        until: When a fact in it has to be looked up anew, in epoch seconds; 0 for never.
        text: What was printed, with `marks` in place of token, expiry, due, remaining seconds, and expiry in words.
        marks: Texts that occur nowhere else.
    """

    def __init__(  # noqa: PLR0913
        self,
        *,
        key: str,
        min_ttl: float,
        refreshes: bool,
        names: "Iterable[str]",
        files: "Iterable[str]",
        until: float,
        text: str,
        marks: "Sequence[str]",
    ) -> None:
        self.key = key
        self.min_ttl = min_ttl
        self.refreshes = refreshes
        self.names = tuple(names)
        self.files = tuple(files)
        self.until = until
        self.text = text
        self.marks = tuple(marks)

    def fill(self, value: str, issued: float, expiry: float, now: float) -> str:
        """The text for a token."""
        due = freshness.due(issued, expiry)
        texts = (value, str(int(expiry)), str(int(due)), str(int(expiry - now)), rfc3339(expiry))
        text = self.text
        for mark, filling in zip(self.marks, texts, strict=True):
            text = text.replace(mark, filling)
        return text


def answer_path(folder: str, question: str) -> str:
    """Where the answer to *question* is kept."""
    return os.path.join(folder, f"{question}.answer")


def ask(args: "Sequence[str]", environ: "Mapping[str, str]") -> str:
    """The question as 32 hexadecimal digits: the arguments, the variables that usually matter, and who asks."""
    chosen = sorted(
        f"{name}={value}" for name, value in environ.items() if name.startswith(_PREFIXES) and name not in _OWN_RESULTS
    )
    # `export` without a format writes for the calling shell.
    shell = _read(f"/proc/{os.getppid()}/comm")
    return digest(__version__, sys.version, machine(), shell, str(len(args)), *args, *chosen)


def machine() -> str:
    """What tells this machine from another one with the same home folder: name and, on Linux, boot.

    Such a machine may have another account.
    """
    name = os.uname().nodename if os.name == "posix" else os.environ.get("COMPUTERNAME", "")
    return f"{name} {_read('/proc/sys/kernel/random/boot_id').strip()}"


def _read(path: str) -> str:
    """What a file of /proc says; empty where there is none."""
    if not is_linux():
        return ""
    try:
        with open(path, "rb") as file:
            return file.read(256).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def state(names: "Iterable[str]", files: "Iterable[str]", environ: "Mapping[str, str]") -> str:
    """What *names* and *files* are like now, as 32 hexadecimal digits."""
    return digest(*(_seen(name, environ) for name in names), *(look(path) for path in files))


def _seen(name: str, environ: "Mapping[str, str]") -> str:
    """What matters of *name*, which is `NAME` or `RULE NAME`."""
    rule, _, variable = name.rpartition(" ")
    if rule:
        return f"{name} {is_kept(rule, environ.get(variable, ''))}"
    return f"{name}={environ[name]}" if name in environ else f"{name} unset"


def is_kept(rule: str, value: str) -> bool:
    """Whether a variable's *value* is the user's own and stays.

    An empty value counts as unset. What we set or unset ourselves is never kept, so that it changes no answer.

    Args:
        rule: `tracing`: all but `1` is kept. `headers`: header lines without `Authorization`, which would override the
            token. `url`: a host that is not OpenAI's.
        value: Its value; empty if it is unset.
    """
    if rule == "tracing":
        return value not in ("", "1")
    if rule == "headers":
        names = [line.partition(":")[0].strip().lower() for line in value.splitlines()]
        return value != "" and "authorization" not in names
    return value != "" and not _host(value).endswith(".openai.com")


def _host(url: str) -> str:
    """The host in *url*, which may lack the scheme: `api.openai.com` for `https://me@API.openai.com:443/v1`."""
    _, scheme, rest = url.strip().partition("://")
    authority = rest if scheme else url.strip()
    for end in "/\\?#":
        authority = authority.partition(end)[0]
    return authority.rpartition("@")[2].partition(":")[0].rstrip(".").lower()


def look(path: str) -> str:
    """What tells the file at *path* from what it was or will be."""
    try:
        s = os.stat(path)
    except OSError as e:
        return f"absent {e.errno}"  # a folder that may not be entered is not the same as none
    except ValueError:
        return "absent"
    return f"{s.st_mtime_ns}:{s.st_ctime_ns}:{s.st_size}:{s.st_ino}:{s.st_dev}:{s.st_mode}"


def format_answer(answer: Answer, environ: "Mapping[str, str]") -> bytes | None:
    """What `parse_answer` reads; None where something in it cannot be written in lines."""
    lists = (answer.names, answer.files, answer.marks)
    if any("\n" in item or "\x1f" in item for group in lists for item in group):
        return None
    head = "\n".join(
        (
            state(answer.names, answer.files, environ),
            answer.key,
            repr(answer.min_ttl),
            str(int(answer.refreshes)),
            repr(answer.until),
            *("\x1f".join(group) for group in lists),
        )
    )
    body = f"{_ANSWER_FIRST_LINE}\n{head}\n{answer.text}"
    return f"{digest(body)}\n{body}".encode("utf-8", "surrogateescape")


def parse_answer(data: bytes | None, environ: "Mapping[str, str]") -> Answer | None:
    """The answer in *data*, if it is as it was written and everything it depended on is as it was; else None."""
    try:
        found, body = (data or b"").decode("utf-8", "surrogateescape").split("\n", 1)
        header, seen, key, min_ttl, refreshes, until, names, files, marks, text = body.split("\n", 9)
        answer = Answer(
            key=key,
            min_ttl=float(min_ttl),
            refreshes=refreshes == "1",
            names=names.split("\x1f") if names else (),
            files=files.split("\x1f") if files else (),
            until=float(until),
            text=text,
            marks=marks.split("\x1f"),
        )
    except ValueError:
        return None
    if found != digest(body) or header != _ANSWER_FIRST_LINE or not _is_sound(answer):
        return None
    return answer if state(answer.names, answer.files, environ) == seen else None


def _is_sound(answer: Answer) -> bool:
    """Whether `fill` and the search for its token can do with it: anybody can make a sum, and none can be NaN."""
    instants = 0 <= answer.min_ttl <= freshness.LATEST and 0 <= answer.until <= freshness.LATEST
    return instants and answer.key.isalnum() and len(answer.marks) == _MARKS and all(answer.marks)


def recall(args: "Sequence[str]", environ: "Mapping[str, str]", now: float) -> tuple[str, bool] | None:
    """The text remembered for *args*, and whether its token should be renewed behind the user's back; else None."""
    folder = cache_dir(environ)
    if folder is None:
        return None
    answer = parse_answer(read_private(answer_path(folder, ask(args, environ))), environ)
    if answer is None or (answer.until and now >= answer.until):
        return None
    stored = parse_token(read_private(token_path(folder, answer.key)), answer.key)
    if stored is None:
        return None
    value, issued, expiry = stored
    if not freshness.is_fresh(issued, expiry, answer.min_ttl, now):
        return None
    renew = answer.refreshes and now >= freshness.behind(issued, expiry, answer.min_ttl)
    if renew and not may_refresh(folder, answer.key, now):
        renew = False
    return answer.fill(value, issued, expiry, now), renew


# --- behind the user's back ---


def may_refresh(folder: str, key: str, now: float) -> bool:
    """Whether nobody has started a refresh of *key* lately; from now on somebody has."""
    if os.name != "posix":
        return False
    import fcntl

    if not is_private_folder(folder):
        return False
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(os.path.join(folder, f"{key}.behind"), flags, 0o600)
    except OSError:
        return False
    try:
        # Shells that start at once all come here: whoever has the lock is the one to go.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(fd)
        if not is_private_file(status):
            return False  # a pipe keeps no time of the last refresh
        if status.st_size and 0 <= now - status.st_mtime < REFRESH_GAP_S:
            return False
        os.write(fd, b"\n")
        os.utime(fd, (now, now))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def refresh_behind(args: "Sequence[str]", environ: "Mapping[str, str]") -> None:
    """Start `vertex-env ARGS --refresh`, detached: nobody waits for it, and it holds none of our descriptors.

    One left open would keep `$(…)` waiting, and direnv, which waits for its descriptor 3 to close.
    """
    if os.name != "posix":
        return
    argv = own_argv(args[0], "--refresh", *args[1:])
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)
    ]
    actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited()]
    try:
        os.posix_spawn(sys.executable, argv, dict(environ), file_actions=actions, setsid=True)
    except (OSError, NotImplementedError):
        return  # the token is renewed when it is too late


def _inherited() -> "Iterable[int]":
    """Descriptors besides the first three that a child would get; to close another one is an error on macOS."""
    try:
        found = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        found = list(range(256))
    for fd in found:
        try:
            if fd > 2 and os.get_inheritable(fd):  # noqa: PLR2004
                yield fd
        except OSError:
            pass  # the one that listed them
