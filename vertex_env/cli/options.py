"""Options of the commands: the settings, which many commands share, and parameter types."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vertex_env.cli.invocation import FALSE, Invocation
from vertex_env.settings.kinds import parse_duration
from vertex_env.settings.options import OPTIONS

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    _DurationType = click.ParamType[timedelta]
    NameType = click.Choice[str]
else:  # Click's types cannot be subscripted before 8.4
    _DurationType, NameType = click.ParamType, click.Choice


class Command(click.Command):
    """A command whose help lists the shared settings apart from the command's own options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write two lists of options: the command's own, and the settings."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                (shared if isinstance(parameter, SettingsOption) else own).append(record)
        with formatter.section("Options"):
            formatter.write_dl(own)
        if shared:
            with formatter.section("Settings, each with its variable; also keys in config.toml"):
                formatter.write_dl(shared)


class StatementsCommand(Command):
    """A command whose output a shell may evaluate. In that case it prints `false` on failure.

    If Click rejects the arguments, they are parsed a second time, which skips the
    errors.

    Args:
        is_evaluated: Function of the parameters, such as `{"format_name": "fish"}`. It
            says whether a shell evaluates the output.
    """

    def __init__(
        self, *args: Any, is_evaluated: Callable[[Mapping[str, Any]], bool], **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self._is_evaluated = is_evaluated

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, and note what to print on failure."""
        given = list(args)
        invocation = ctx.ensure_object(Invocation)
        invocation.on_failure = FALSE  # until the parameters are known
        try:
            rest = super().parse_args(ctx, args)
        except click.UsageError:
            self.parse_leniently(ctx.parent, given)
            raise
        invocation.on_failure = FALSE if self._is_evaluated(ctx.params) else ""
        return rest

    def parse_leniently(self, parent: click.Context | None, args: list[str]) -> None:
        """Note what to print on failure, for arguments that contain an error."""
        self.make_context(
            self.name, args, parent, resilient_parsing=True, ignore_unknown_options=True
        )


class NeedsHookError(click.UsageError):
    """The program got a command for the shell's hook.

    The program cannot set variables of its parent, the shell.
    """

    def __init__(self) -> None:
        super().__init__("only the hook can set this shell's variables, and it is not loaded")


class SettingsOption(click.Option):
    """An option for a row of `settings.OPTIONS`.

    Click does not read its variable: `settings` does, and keeps the source of the
    value.
    """


class Duration(_DurationType):
    """A duration: `90m`, `1h30m`, `45s` or seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Parse a duration, or fail as Click does."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as e:
            self.fail(str(e), param, ctx)


def settings_options(function: F) -> F:
    """Add the settings to a command, which gets them as keyword arguments, by field."""
    for option in reversed([o for o in OPTIONS if not o.internal]):
        function = click.option(
            f"--{option.name}",
            option.field,
            cls=SettingsOption,
            metavar=option.metavar,
            multiple=option.many,
            allow_from_autoenv=False,
            help=f"{option.help}  [env: {option.variable}]",
        )(function)
    return function


refresh_option = click.option(
    "--refresh",
    is_flag=True,
    show_envvar=True,
    help="Mint a new token even if the stored one is fresh.",
)
"""The `--refresh` of a command that gives out a token."""


def table_or_json(variable: str) -> Callable[[F], F]:
    """Add `--format` to a command that lists something; *variable* is its environment variable."""
    return click.option(
        "--format",
        "format_name",
        type=click.Choice(["table", "json"]),
        envvar=variable,
        default="table",
        show_default=True,
        show_envvar=True,
        help="For reading, or for programs.",
    )
