"""`export`: print the variables on stdout, as statements or as data."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from vertex_env.cache import answers
from vertex_env.cache.snapshots import Kept
from vertex_env.cli.invocation import FALSE, current, now_utc, session_for
from vertex_env.cli.options import NameType, StatementsCommand, refresh_option, settings_options
from vertex_env.cli.output import tell, write
from vertex_env.errors import VertexEnvError
from vertex_env.formats.render import watch
from vertex_env.formats.table import FORMATS, CiSystem, TextFormat, guess_format
from vertex_env.settings.inputs import Inputs
from vertex_env.settings.resolve import as_environ, options_layer
from vertex_env.vertex.variables import Environment


class FormatType(NameType):
    """Type of a format's name.

    Internal formats are accepted, but help, completions and errors do not list them.
    """

    def __init__(self) -> None:
        super().__init__([row.name for row in FORMATS.values() if not row.internal])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or fail as Click does."""
        return value if value in FORMATS else super().convert(value, param, ctx)


def _is_evaluated(params: Mapping[str, Any]) -> bool:
    asked = FORMATS.get(params.get("format_name") or "")
    return asked is None or asked.evaluated


@click.command(cls=StatementsCommand, is_evaluated=_is_evaluated)
@click.option(
    "--format",
    "format_name",
    type=FormatType(),
    envvar="VERTEX_ENV_EXPORT_FORMAT",
    show_envvar=True,
    help="Shell or data format, or a CI system, to do what the command ci does; "
    "without it the calling shell's.",
)
@refresh_option
@settings_options
def export(format_name: str | None, refresh: bool, **options: Any) -> None:  # noqa: FBT001
    """Print statements that set (and unset) the variables."""
    question = answers.question_key(sys.argv[1:], os.environ)
    settings = as_environ(options_layer(options))
    asked = FORMATS.get(format_name or "")
    if isinstance(asked, TextFormat):
        current().at_prompt = asked.at_prompt and not settings and not refresh
    inputs = Inputs(os.environ)
    stamps: list[Path] = []
    try:
        session = session_for(
            options, refreshes=True, inputs=inputs, again=asked.again if asked else ""
        )
        stamps += [session.stamp] if session.stamp else []
        environment = session.environment(refresh=refresh)
    except VertexEnvError:
        if isinstance(asked, TextFormat) and asked.watched:
            # direnv does not try again by itself. So tell it to watch the files that
            # the answer depends on: it tries again when one of them changes. The hook
            # in the shell tries again too, with the same settings.
            current().on_failure = (
                asked.render(settings) + watch(map(str, [*inputs.files, *stamps])) + FALSE
            )
        raise
    if isinstance(asked, CiSystem):
        from vertex_env.cli.ci import hand_over

        hand_over(asked, environment, session.token(), options)
        return  # an answer with effects besides its output cannot be replayed

    form = asked if isinstance(asked, TextFormat) else guess_format(_shells(session.inputs.environ))
    stamp = session.stamp_of(session.token()) if form.stamped else None

    def render(environment: Environment) -> str:
        if form.stamped:
            environment = {"VERTEX_ENV_STAMP": str(stamp) if stamp else None, **environment}
        if not form.watched:
            return form.render(environment)
        files = [*session.inputs.files, *([session.stamp] if session.stamp else [])]
        return form.render({**settings, "VERTEX_ENV_VIA": "direnv", **environment}) + watch(
            map(str, files)
        )

    write(render(environment))
    if form.use and sys.stdout.isatty():
        tell(f"hint: to set these in your shell: {form.use}")
    # A hook calls this command at a prompt, with `--format lines` and without settings.
    # A hook that has a usable snapshot sets the variables from it and does not start
    # this program. So a call from a prompt means that the snapshot is absent or stale.
    # Write a new snapshot then, and remember no answer. With a remembered answer, the
    # warm path would print that answer to the next shell, and nothing would write the
    # snapshot again. If a snapshot is only not possible yet, because a file is too
    # young, keep neither: the next call tries again. If a snapshot is never possible,
    # remember the answer. After `--refresh`, keep neither: a replayed answer would mint
    # no token.
    served = current().at_prompt and session.snapshot() is not Kept.NEVER
    if not served and not refresh:
        target = session.target()
        session.remember(
            sys.argv[1:],
            question,
            lambda token: render(session.environment_for(token, target)),
            now_utc(),
        )


def _shells(environ: Mapping[str, str]) -> list[str]:
    """Names that may identify the calling shell, the most reliable first."""
    names = [environ.get("VERTEX_ENV_SHELL", "")]
    with suppress(OSError, UnicodeDecodeError):
        names.append(Path(f"/proc/{os.getppid()}/comm").read_text(encoding="utf-8"))
    names.append(environ.get("SHELL", ""))
    if os.name == "nt":
        names.append("pwsh")
    return names
