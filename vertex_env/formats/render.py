"""Functions that write an environment as text, one for each format.

Every statement ends in `;`, so that an unquoted eval works too.
"""

import json
import re
from collections.abc import Callable, Iterable

from vertex_env.errors import SettingsError
from vertex_env.vertex.variables import Environment

_PLAIN = re.compile(r"[A-Za-z0-9._~:/@%+=,-]+", re.ASCII)


def sh(env: Environment) -> str:
    r"""Lines for `eval` in sh, dash, bash, zsh and ksh: `export A='it'\''s';`.

    They set all variables or none. A subshell, which the backticks start, first tries
    to set all names. If a name is read-only, the subshell fails. Without the subshell,
    a read-only name would end the eval, or bash would skip the name. bash would then
    set the token beside the URL of another host. The subshell is not written with
    parentheses: in zsh with GLOB_SUBST they would be a pattern.

    Each variable is unset before it is set, which removes its attributes. Otherwise
    bash would not export an array, an integer variable could not hold a URL, and
    `typeset -L5` in ksh would cut the value. With a wrong URL, the token would go to
    another host.
    """
    if not env:
        return ""
    names = " ".join(env)
    given = {name: value for name, value in env.items() if value is not None}
    trial = f"unset {names}" + (
        f" && export {' '.join(f'{name}=' for name in given)}" if given else ""
    )
    return (
        f"if `{trial}`; then\nunset {names};\n"
        + _lines(given, "export {}={};", "", quote_sh)
        + f"else\n{_READ_ONLY}false;\nfi;\n"
    )


_READ_ONLY = """\
echo 'vertex-env: error: nothing is set: a variable of those to set is read-only in this shell' >&2;
echo 'vertex-env: hint: take readonly from the variable that the shell names above, \
or use: vertex-env run -- CMD' >&2;
"""


def quote_sh(value: str) -> str:
    """Quote *value* as one word for a POSIX shell."""
    return "'" + value.replace("'", "'\\''") + "'"


def fish(env: Environment) -> str:
    r"""Lines for `source` in fish, where only `\` and `'` are special within quotes.

    See https://fishshell.com/docs/current/language.html#quotes (2026-11-22). A plain
    `set -e` would delete a universal variable permanently, in every session. So an
    empty global variable hides the universal one instead. A function that calls
    `source` may have a local variable of the same name. That variable is deleted: it
    would hide the URL, and the token would go to another host.
    """
    names = " ".join(env)
    uncover = f"set -el {names}; set -ef {names}; true;\n" if env else ""
    unset = "set -eg {0}; if set -q {0}; set -gx {0} ''; end;"
    text = _lines(
        env,
        "set -gx {} {};",
        unset,
        lambda v: "'" + v.replace("\\", "\\\\").replace("'", "\\'") + "'",
    )
    return uncover + text


def nu(env: Environment) -> str:
    r"""Statements for `source` in nushell.

    Within double quotes, `\u{22}` can stand for any character
    (https://www.nushell.sh/book/working_with_strings.html, 2026-11-22).
    """

    def quote(value: str) -> str:
        return '"' + re.sub(r'["\\\x00-\x1f\x7f]', lambda m: f"\\u{{{ord(m[0]):x}}}", value) + '"'

    return _lines(env, "$env.{} = {};", "hide-env --ignore-errors {};", quote)


def pwsh(env: Environment) -> str:
    """Statements for `Invoke-Expression` in PowerShell.

    Typographic quotes end a string as well
    (https://learn.microsoft.com/en-us/powershell/module/microsoft.powershell.core/about/about_quoting_rules,
    2026-11-22).
    """
    unset = "Remove-Item -ErrorAction Ignore Env:{};"
    return _lines(
        env, "$env:{} = {};", unset, lambda v: "'" + re.sub("(['\u2018-\u201b])", r"\1\1", v) + "'"
    )


def xonsh(env: Environment) -> str:
    """Statements for `execx` in xonsh, which has the strings of Python.

    For xonsh, a variable whose name ends in `PATH` or `DIRS` is a list of folders. It
    would expand `~` and `$` in the value (xonsh 0.25.0 `environ.py`, 2026-11-22), but
    no URL has these characters.
    """
    return _lines(env, "${} = {};", "${{...}}.pop('{}', None);", ascii)


def elvish(env: Environment) -> str:
    """Statements for `eval` in elvish, where a single quote in a string is doubled.

    See https://elv.sh/ref/language.html#single-quoted-string (2026-11-22).
    """
    return _lines(
        env, "set-env {} {};", "unset-env {};", lambda v: "'" + v.replace("'", "''") + "'"
    )


def tcsh(env: Environment) -> str:
    """Statements for `eval` in tcsh.

    tcsh splits and globs the output of backticks, with or without quotes.

    Raises:
        SettingsError: A value has a character that splitting or globbing would change.
    """
    for name, value in env.items():
        if value and not _PLAIN.fullmatch(value):
            raise SettingsError(
                f"the value for {name} cannot be passed through tcsh's eval",
                "use vertex-env run in tcsh, "
                "or leave quotes, spaces and other special characters out",
            )
    return _lines(env, "setenv {} {};", "unsetenv {};", lambda v: f"'{v}'")


def watch(files: Iterable[str]) -> str:
    """A call of direnv's `watch_file`.

    direnv then reloads the environment when one of *files* changes, appears or
    disappears (https://direnv.net/man/direnv-stdlib.1.html, 2026-11-22).
    """
    return "watch_file" + "".join(" " + quote_sh(file) for file in files) + ";\n"


def as_json(env: Environment) -> str:
    """One flat JSON object; null means that the variable is to be unset."""
    return json.dumps(dict(env), indent=2) + "\n"


def dotenv(env: Environment) -> str:
    r"""`NAME=value` lines for the variables to set, which all .env readers read alike.

    Readers differ within single quotes. docker compose takes everything literally.
    python-dotenv 1.2 reads `\\` and `\'` as escapes and replaces `${NAME}`
    (https://github.com/theskumar/python-dotenv `src/dotenv/parser.py`, `variables.py`,
    2026-11-22). So values with such characters are refused.

    Raises:
        SettingsError: A value has a quote, a backslash or `${`.
    """
    lines = []
    for name, value in env.items():
        if value is None:
            continue
        if "'" in value or "\\" in value or "${" in value:
            raise SettingsError(
                f"the value for {name} has a quote, a backslash or ${{, "
                f"which .env readers disagree about",
                "leave it out, or use --format json",
            )
        # A shell that reads the file would replace a ~ by the home folder, at the start
        # and after a colon.
        plain = not value or (_PLAIN.fullmatch(value) and not re.search("(?:^|:)~", value))
        lines.append(f"{name}={value}\n" if plain else f"{name}='{value}'\n")
    return "".join(lines)


def lines(env: Environment) -> str:
    """`set NAME=value` and `unset NAME` lines for hooks, which read them and evaluate nothing."""
    return _lines(env, "set {}={}", "unset {}", str)


def _lines(env: Environment, assign: str, unset: str, quote: Callable[[str], str]) -> str:
    return "".join(
        (unset.format(name) if value is None else assign.format(name, quote(value))) + "\n"
        for name, value in env.items()
    )
