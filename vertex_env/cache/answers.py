"""The warm path: print a remembered answer again, before anything slow is imported.

The ordinary path, in `cli`, saves each answer that can be repeated. An answer is the
text that was printed, with marks in place of the token and its instants. The answer
also lists its inputs (arguments, variables, files) with a digest of their state. The
next call with the same arguments reads the answer, compares the inputs with their state
now, and reads the stored token. If no input has changed and the token is fresh, it
replaces the marks and prints the text. If anything differs, the call takes the ordinary
path, which prints the same bytes.

The answer does not contain the token: the token is read from the store's file, in the
format of `store`.
This module imports os, sys, time and a hash, but not Click, google, keyring, json, re or tomllib.
"""

import os
import sys
from time import gmtime, strftime

from vertex_env import freshness, program
from vertex_env.cache.private import ANSWER, TOKEN, cache_dir, digest, parse_token, read_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_ANSWER_FIRST_LINE = "vertex-env-answer 2"
_PREFIXES = ("VERTEX_ENV_", "_VERTEX_ENV_", "GOOGLE_", "CLOUDSDK_", "GCLOUD_", "GCE_")
"""Prefixes of the variables that are part of every question (see `question_key`).

Other relevant variables are checked by name. Click's own variable starts with the underscore.
"""
_OWN_RESULTS = (
    "VERTEX_ENV_EXPIRES_AT",
    "VERTEX_ENV_REFRESH_AT",
    "VERTEX_ENV_STAMP",
    "VERTEX_ENV_VIA",
)
"""Variables that `export` itself sets. They are left out of the question, which would
otherwise change with each new token."""


def rfc3339(instant: float) -> str:
    """Format *instant*, in epoch seconds, such as `2026-11-22T12:00:00Z`."""
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(instant))


_MARKS = 5
"""Number of marks in an answer: one for each text that `Answer.fill` puts in."""


class Answer:
    """Text that the ordinary path printed, with the inputs that the text depends on.

    Args:
        key: Key of the identity, by which its token is found.
        min_ttl: Minimum time that the token must have left, in seconds.
        refreshes: Whether a background refresh may renew the token before it is too late.
        names: Variables that the call read, set or not; `RULE NAME` where only the
            result of `is_kept` matters.
        files: Absolute paths that the call read, whether they exist or not.
        until: When a fact in the text must be looked up again, in epoch seconds; 0 for never.
        text: The printed text, with `marks` in place of five values: the token, its
            expiry, its due instant, its remaining seconds, and its expiry as a date.
        marks: Texts that occur nowhere else in `text`.
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
        """Return the text for one token, with the marks replaced."""
        due = freshness.due(issued, expiry)
        texts = (value, str(int(expiry)), str(int(due)), str(int(expiry - now)), rfc3339(expiry))
        text = self.text
        for mark, filling in zip(self.marks, texts, strict=True):
            text = text.replace(mark, filling)
        return text


def question_key(args: "Sequence[str]", environ: "Mapping[str, str]") -> str:
    """Hash the question to 32 hexadecimal digits: arguments, common variables, calling shell."""
    chosen = sorted(
        f"{name}={value}"
        for name, value in environ.items()
        if name.startswith(_PREFIXES) and name not in _OWN_RESULTS
    )
    # `export` without a format writes for the calling shell, so the shell is part of the question.
    shell = program.read_proc(f"/proc/{os.getppid()}/comm")
    return digest(
        program.__version__, sys.version, program.machine(), shell, str(len(args)), *args, *chosen
    )


def state(names: "Iterable[str]", files: "Iterable[str]", environ: "Mapping[str, str]") -> str:
    """Hash the present state of the variables *names* and of *files*, as 32 hexadecimal digits."""
    return digest(*(_seen(name, environ) for name in names), *(file_state(path) for path in files))


def _seen(name: str, environ: "Mapping[str, str]") -> str:
    """Return the relevant state of *name*, which is `NAME` or `RULE NAME`."""
    rule, _, variable = name.rpartition(" ")
    if rule:
        return f"{name} {is_kept(rule, environ.get(variable, ''))}"
    return f"{name}={environ[name]}" if name in environ else f"{name} unset"


def is_kept(rule: str, value: str) -> bool:
    """Whether a variable's *value* is the user's own, so that it stays as it is.

    An empty value counts as unset. A value that vertex-env itself sets or unsets is
    never kept, so it does not change the answer.

    Args:
        rule: `tracing`: any value but `1` is kept. `headers`: header lines are kept if
            none is `Authorization`, which would override the token. `url`: a URL is
            kept if its host is not OpenAI's.
        value: The variable's value; empty if it is unset.
    """
    if rule == "tracing":
        return value not in ("", "1")
    if rule == "headers":
        names = [line.partition(":")[0].strip().lower() for line in value.splitlines()]
        return value != "" and "authorization" not in names
    return value != "" and not _host(value).endswith(".openai.com")


def _host(url: str) -> str:
    """Return the host of *url*, which may lack the scheme.

    Example: `api.openai.com` for `https://me@API.openai.com:443/v1`.
    """
    _, scheme, rest = url.strip().partition("://")
    authority = rest if scheme else url.strip()
    for end in "/\\?#":
        authority = authority.partition(end)[0]
    return authority.rpartition("@")[2].partition(":")[0].rstrip(".").lower()


def file_state(path: str) -> str:
    """Return a fingerprint of the file's metadata; it changes whenever the file does."""
    try:
        s = os.stat(path)
    except OSError as e:
        # A folder that must not be entered is another state than a missing file.
        return f"absent {e.errno}"
    except ValueError:
        return "absent"
    return f"{s.st_mtime_ns}:{s.st_ctime_ns}:{s.st_size}:{s.st_ino}:{s.st_dev}:{s.st_mode}"


def format_answer(answer: Answer, environ: "Mapping[str, str]") -> bytes | None:
    """Format *answer* for `parse_answer`; None if a list item contains a separator."""
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
    """Parse *data*; None if it is damaged or an input of the answer has changed."""
    try:
        found, body = (data or b"").decode("utf-8", "surrogateescape").split("\n", 1)
        header, seen, key, min_ttl, refreshes, until, names, files, marks, text = body.split(
            "\n", 9
        )
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
    """Check that `recall` can use *answer*: its instants are in range, its key and marks are valid.

    The checksum alone is not enough, because any program can compute one. The range
    check also excludes NaN.
    """
    instants = 0 <= answer.min_ttl <= freshness.LATEST and 0 <= answer.until <= freshness.LATEST
    return instants and answer.key.isalnum() and len(answer.marks) == _MARKS and all(answer.marks)


def recall(
    args: "Sequence[str]", environ: "Mapping[str, str]", now: float
) -> tuple[str, bool] | None:
    """Return the remembered text for *args*, and whether to renew its token in the background.

    Returns None if there is no usable answer or no fresh token.
    """
    folder = cache_dir(environ)
    if folder is None:
        return None
    answer = parse_answer(read_private(ANSWER.path(folder, question_key(args, environ))), environ)
    if answer is None or (answer.until and now >= answer.until):
        return None
    stored = parse_token(read_private(TOKEN.path(folder, answer.key)), answer.key)
    if stored is None:
        return None
    value, issued, expiry = stored
    if not freshness.is_fresh(issued, expiry, answer.min_ttl, now):
        return None
    renew = answer.refreshes and now >= freshness.background_refresh(issued, expiry, answer.min_ttl)
    if renew:
        from vertex_env.cache.background import claim_refresh

        renew = claim_refresh(folder, answer.key, now)
    return answer.fill(value, issued, expiry, now), renew
