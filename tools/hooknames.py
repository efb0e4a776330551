"""The names in the hooks, made from the tables in `vertex_env`: `python -m tools.hooknames` writes them.

A hook sets what a stored snapshot says without asking Python, and only names that are in these lists. In each hook they
are the lines between `BEGIN` and `END`; a test tells when they no longer say what the tables do. A further shell is one
more row in `ROWS`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vertex_env.formats.shellfiles import HOOKS, shell_dir
from vertex_env.formats.snapshot import NAMES

BEGIN = "# begin: made by python -m tools.hooknames"
END = "# end"

Row = Callable[[str, Sequence[str]], str]


def spaced(line: str) -> Row:
    """A row whose names stand in one text, with a space before and after each: `" A B "`."""
    return lambda kind, names: line.format(kind=kind, names=f" {' '.join(names)} ")


def joined(line: str, by: str) -> Row:
    """A row whose names have *by* between them: `A|B`."""
    return lambda kind, names: line.format(kind=kind, names=by.join(names))


ROWS: Mapping[str, Row] = {
    "bash": joined("{names}) kind={kind} ;;", " | "),
    "zsh": spaced("builtin local {kind}='{names}'"),
    "fish": joined("set -l {kind} '{names}'", "|"),
    "nu": joined("let {kind} = [{names}]", " "),
    "xonsh": joined('{kind} = "{names}".split()', " "),
    "pwsh": joined("${kind} = '{names}' -split ' '", " "),
}
"""Shell to the line for one list: its name, such as `keys`, and the names in it."""


def path(shell: str) -> Path:
    """The hook of *shell* in the checkout."""
    return shell_dir() / HOOKS[shell]


def text(shell: str) -> str:
    """The hook of *shell* as it has to be: with today's names, indented as its first marker is."""
    before, begin, rest = path(shell).read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path(shell)} has no lines between {BEGIN!r} and {END!r}")
    indent = before.rpartition("\n")[2]
    lines = [begin, *(ROWS[shell](kind, names) for kind, names in NAMES.items()), end]
    return before + f"\n{indent}".join(lines) + after


def main() -> None:
    """Write the hooks."""
    for shell in ROWS:
        path(shell).write_text(text(shell), encoding="utf-8")


if __name__ == "__main__":
    main()
