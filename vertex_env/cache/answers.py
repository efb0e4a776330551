"""The warm path: give the remembered answer before anything that takes time is imported.

An answer is the text that the ordinary path printed, with places for token and instants, and everything it depended on:
arguments, variables, files. If all of that is as it was and the stored token is fresh, the same text is printed again.
Whatever does not match exactly takes the ordinary path, in `cli`, which prints the same bytes.

The token itself is not in the answer: it is read from the store's file, as `store` reads it.
Imports os, sys, time and a hash; neither Click nor google, keyring, json, re or tomllib.
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
"""Variables that tell one question from another; others that matter are checked by name. Click's has the underscore."""
_OWN_RESULTS = (
    "VERTEX_ENV_EXPIRES_AT",
    "VERTEX_ENV_REFRESH_AT",
    "VERTEX_ENV_STAMP",
    "VERTEX_ENV_VIA",
)
"""What `export` itself sets. In the question, it would change that with each new token."""


def rfc3339(instant: float) -> str:
    """Such as `2026-11-22T12:00:00Z`."""
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(instant))


_MARKS = 5
"""As many texts as `Answer.fill` puts in."""


class Answer:
    """What the ordinary path printed, and what that depended on.

    Args:
        key: Of the identity, to find the token by.
        min_ttl: Least seconds that the token must have left.
        refreshes: Whether the token may be renewed in the background before it is too late.
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


def question_key(args: "Sequence[str]", environ: "Mapping[str, str]") -> str:
    """The question as 32 hexadecimal digits: the arguments, the variables that usually matter, and who asks."""
    chosen = sorted(
        f"{name}={value}"
        for name, value in environ.items()
        if name.startswith(_PREFIXES) and name not in _OWN_RESULTS
    )
    # `export` without a format writes for the calling shell.
    shell = program.read_proc(f"/proc/{os.getppid()}/comm")
    return digest(
        program.__version__, sys.version, program.machine(), shell, str(len(args)), *args, *chosen
    )


def state(names: "Iterable[str]", files: "Iterable[str]", environ: "Mapping[str, str]") -> str:
    """What *names* and *files* are like now, as 32 hexadecimal digits."""
    return digest(*(_seen(name, environ) for name in names), *(file_state(path) for path in files))


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


def file_state(path: str) -> str:
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
    """Whether `fill` and the search for its token can do with it: anybody can make a sum, and none can be NaN."""
    instants = 0 <= answer.min_ttl <= freshness.LATEST and 0 <= answer.until <= freshness.LATEST
    return instants and answer.key.isalnum() and len(answer.marks) == _MARKS and all(answer.marks)


def recall(
    args: "Sequence[str]", environ: "Mapping[str, str]", now: float
) -> tuple[str, bool] | None:
    """The text remembered for *args*, and whether its token should be renewed in the background; else None."""
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
