"""What is printed: stdout whole or not at all, and lines for a person on stderr."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from vertex_env.errors import UnavailableError, VertexEnvError
from vertex_env.redaction import hide, of_environ


def write(text: str) -> None:
    """Write *text* to stdout as a whole.

    Raises:
        UnavailableError: It could not be written, so that nobody takes what arrived for all of it.
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
    """Keep Python from trying again, and complaining with status 120, when it closes stdout."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def tell(line: str) -> None:
    """Say a line, such as `warning: the token expires soon`, to a person."""
    say(f"vertex-env: {line}\n")


def say(text: str) -> None:
    """Write *text* to stderr; a token that was pasted in the wrong place is not repeated there."""
    text = of_environ(os.environ).redact(hide(text))
    with suppress(OSError, AttributeError):
        sys.stderr.write(text)
        sys.stderr.flush()


def tell_error(error: VertexEnvError) -> None:
    """Say what failed and what cures it."""
    error.rewrite(of_environ(os.environ).redact)  # before line breaks are escaped
    for kind, text in (("error", error.message), ("hint", error.hint)):
        # A path may have a line break in it, or what a terminal takes for a command.
        tell(f"{kind}: " + "".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns with a head; what a terminal could take for a command is a `?`."""
    safe = [
        ["".join(c if c.isprintable() else "?" for c in cell) for cell in row]
        for row in (head, *rows)
    ]
    widths = [max(len(row[i]) for row in safe) for i in range(len(head))]
    return "".join(
        "  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() + "\n"
        for row in safe
    )
