"""Output: stdout as a whole or not at all, and messages for a person on stderr."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from vertex_env.errors import UnavailableError, VertexEnvError
from vertex_env.redaction import hide, of_environ


def write(text: str) -> None:
    """Write *text* to stdout as a whole.

    Raises:
        UnavailableError: stdout did not take the whole text. The error keeps readers
            from taking a part of it for the whole.
    """
    try:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
    except (OSError, AttributeError) as e:
        abandon_stdout()
        if isinstance(e, BrokenPipeError):
            raise
        reason = e.strerror if isinstance(e, OSError) else "it is closed"
        raise UnavailableError(
            f"cannot write to stdout: {reason}", "free space, or redirect stdout elsewhere"
        ) from e


def abandon_stdout() -> None:
    """Redirect stdout to /dev/null.

    Otherwise Python would try to write again at its end, fail, and end with status 120.
    """
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def tell(line: str) -> None:
    """Write a line, such as `warning: the token expires soon`, to stderr."""
    say(f"vertex-env: {line}\n")


def say(text: str) -> None:
    """Write *text* to stderr, with secrets hidden that were pasted by mistake."""
    text = of_environ(os.environ).redact(hide(text))
    with suppress(OSError, AttributeError):
        sys.stderr.write(text)
        sys.stderr.flush()


def tell_error(error: VertexEnvError) -> None:
    """Write what failed and what fixes it to stderr."""
    error.rewrite(of_environ(os.environ).redact)  # before line breaks are escaped
    for kind, text in (("error", error.message), ("hint", error.hint)):
        # A path may contain a line break, or a control sequence for the terminal.
        tell(f"{kind}: " + "".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align *rows* in columns under *head*; a `?` replaces each control character."""
    safe = [
        ["".join(c if c.isprintable() else "?" for c in cell) for cell in row]
        for row in (head, *rows)
    ]
    widths = [max(len(row[i]) for row in safe) for i in range(len(head))]
    return "".join(
        "  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() + "\n"
        for row in safe
    )
