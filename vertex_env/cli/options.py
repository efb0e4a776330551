"""What the commands' options are made of: the settings, which many commands share, and the types of their own."""

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
else:  # until 8.4 Click's types cannot be subscripted
    _DurationType, NameType = click.ParamType, click.Choice


class Command(click.Command):
    """A command whose help keeps the settings, which many commands share, apart from its own options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write two lists of options."""
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
    """A command whose output a shell may evaluate: where that is so, it prints `false` on failure.

    Click parses its arguments, also where they are wrong: then a second time, past what is wrong.

    Args:
        is_evaluated: Whether a shell evaluates the output, from the parameters such as `{"format_name": "fish"}`.
    """

    def __init__(
        self, *args: Any, is_evaluated: Callable[[Mapping[str, Any]], bool], **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self._is_evaluated = is_evaluated

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and note what is to be printed on failure."""
        given = list(args)
        invocation = ctx.ensure_object(Invocation)
        invocation.on_failure = FALSE  # until more is known
        try:
            rest = super().parse_args(ctx, args)
        except click.UsageError:
            self.parse_leniently(ctx.parent, given)
            raise
        invocation.on_failure = FALSE if self._is_evaluated(ctx.params) else ""
        return rest

    def parse_leniently(self, parent: click.Context | None, args: list[str]) -> None:
        """Note the same from a command line that has something wrong in it."""
        self.make_context(
            self.name, args, parent, resilient_parsing=True, ignore_unknown_options=True
        )


class NeedsHookError(click.UsageError):
    """A command of the hook has reached the program, which cannot set its parent's variables."""

    def __init__(self) -> None:
        super().__init__("only the hook can set this shell's variables, and it is not loaded")


class SettingsOption(click.Option):
    """An option of `settings.OPTIONS`; its variable is read there, to keep where the value came from."""


class Duration(_DurationType):
    """`90m`, `1h30m`, `45s` or seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Parse, or fail as Click does."""
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as e:
            self.fail(str(e), param, ctx)


def settings_options(function: F) -> F:
    """Add the shared options to a command; it gets them as keyword arguments, by field."""
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


def table_or_json(variable: str) -> Callable[[F], F]:
    """The `--format` of a command that lists something; *variable* is the one that stands for it."""
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
