"""The formats of `export --format`, one row each: statements for shells, data, and CI systems.

To add a format, add a row here, and a function: in `render` for a text, in `ci` for a
CI system.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from vertex_env.errors import SettingsError
from vertex_env.formats import ci, render
from vertex_env.formats.ci import Job, Plan
from vertex_env.vertex.variables import Environment


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A format in which the variables leave the program.

    Args:
        name: Its name, as in `--format fish`.
        evaluated: Whether a shell evaluates the output. On failure the output is then
            `false`; otherwise it is empty.
        again: Why the credentials are read again later, so that they cannot be a pipe;
            empty if they are read once.
        internal: Whether only the files in `shell/` use it. Help and completions do not
            list an internal format.
    """

    name: str
    evaluated: bool
    again: str = ""
    internal: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class TextFormat(Format):
    """A format that is printed.

    Args:
        render: Function that makes the text.
        shells: Programs that evaluate the text, such as `bash` and `zsh`; used to guess
            the format.
        use: The command that sets the variables in the shell. A person who prints them
            sees it as hint.
        stamped: Whether the text also sets `VERTEX_ENV_STAMP`.
        watched: Whether it is the format for direnv: it also names files to watch, and
            keeps the settings for later.
        at_prompt: Whether a hook asks for it at each prompt. For such a format, a
            missing network is not reported.
    """

    render: Callable[[Environment], str]
    shells: tuple[str, ...] = ()
    use: str = ""
    stamped: bool = False
    watched: bool = False
    at_prompt: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CiSystem(Format):
    """A CI system, which passes the variables to later steps.

    Args:
        sign: The variable that identifies the system.
        plan: Function that says what to do. It raises `SettingsError` if the step is
            not set up for it.
    """

    sign: str
    plan: Callable[[Job], Plan]


_EVALUATED = "what the job evaluates reads it again"

_ROWS: tuple[Format, ...] = (
    TextFormat(
        name="sh",
        render=render.sh,
        evaluated=True,
        shells=(
            "sh",
            "bash",
            "zsh",
            "dash",
            "ksh",
            "ksh93",
            "mksh",
            "ash",
            "busybox",
            "yash",
            "rbash",
        ),
        use='eval "$(vertex-env export)"',
    ),
    TextFormat(
        name="fish",
        render=render.fish,
        evaluated=True,
        shells=("fish",),
        use="vertex-env export --format fish | source",
    ),
    TextFormat(
        name="nu",
        render=render.nu,
        evaluated=True,
        shells=("nu",),
        use="vertex-env export --format json | from json | load-env",
    ),
    TextFormat(
        name="pwsh",
        render=render.pwsh,
        evaluated=True,
        shells=("pwsh", "powershell"),
        use="vertex-env export --format pwsh | Out-String | Invoke-Expression",
    ),
    TextFormat(
        name="xonsh",
        render=render.xonsh,
        evaluated=True,
        shells=("xonsh",),
        use="execx($(vertex-env export --format xonsh))",
    ),
    TextFormat(
        name="elvish",
        render=render.elvish,
        evaluated=True,
        shells=("elvish",),
        use="eval (vertex-env export --format elvish | slurp)",
    ),
    TextFormat(
        name="tcsh",
        render=render.tcsh,
        evaluated=True,
        shells=("tcsh", "csh"),
        use="eval `vertex-env export --format tcsh`",
    ),
    TextFormat(name="json", render=render.as_json, evaluated=False),
    TextFormat(name="dotenv", render=render.dotenv, evaluated=False),
    TextFormat(
        name="lines",
        render=render.lines,
        evaluated=False,
        again="the shell's hook renews the token",
        internal=True,
        stamped=True,
        at_prompt=True,
    ),
    TextFormat(
        name="direnv",
        render=render.sh,
        evaluated=True,
        again="direnv renews the token",
        internal=True,
        stamped=True,
        watched=True,
    ),
    CiSystem(name="github", plan=ci.github, evaluated=False, sign="GITHUB_ACTIONS"),
    CiSystem(name="gitlab", plan=ci.statement, evaluated=True, sign="GITLAB_CI", again=_EVALUATED),
    CiSystem(name="azure", plan=ci.azure, evaluated=False, sign="TF_BUILD"),
    CiSystem(
        name="circleci",
        plan=ci.circleci,
        evaluated=False,
        sign="CIRCLECI",
        again="each step of the job reads it",
    ),
    CiSystem(name="buildkite", plan=ci.buildkite, evaluated=False, sign="BUILDKITE"),
    CiSystem(name="teamcity", plan=ci.teamcity, evaluated=False, sign="TEAMCITY_VERSION"),
    CiSystem(
        name="jenkins", plan=ci.statement, evaluated=True, sign="JENKINS_URL", again=_EVALUATED
    ),
)

FORMATS: Mapping[str, Format] = {row.name: row for row in _ROWS}
TEXT_FORMATS: Mapping[str, TextFormat] = {
    row.name: row for row in _ROWS if isinstance(row, TextFormat)
}
CI_SYSTEMS: Mapping[str, CiSystem] = {row.name: row for row in _ROWS if isinstance(row, CiSystem)}


def guess_format(shells: Iterable[str]) -> TextFormat:
    """The format for the first item of *shells* that names a shell.

    An item looks like `-zsh`, `/usr/bin/fish` or `nu.exe`. Without a match the format
    is sh: it is right for most shells, and other shells report a clear error.
    """
    known = {shell: row for row in TEXT_FORMATS.values() for shell in row.shells}
    for shell in shells:
        name = re.split(r"[/\\]", shell.strip())[-1].removeprefix("-").lower().removesuffix(".exe")
        if name in known:
            return known[name]
    return TEXT_FORMATS["sh"]


def detect(environ: Mapping[str, str]) -> CiSystem | None:
    """The known CI system that this program runs in; None for none."""
    return next(
        (
            s
            for s in CI_SYSTEMS.values()
            if environ.get(s.sign, "").lower() not in ("", "0", "false")
        ),
        None,
    )


def recognise(environ: Mapping[str, str]) -> CiSystem:
    """The known CI system that this program runs in.

    Raises:
        SettingsError: There is none.
    """
    found = detect(environ)
    if found is None:
        raise SettingsError(
            f"no CI system is recognised: "
            f"none of {', '.join(s.sign for s in CI_SYSTEMS.values())} is set",
            'in the step\'s own script: eval "$(vertex-env export)"; '
            "or name one: vertex-env export --format " + "|".join(CI_SYSTEMS),
        )
    return found
