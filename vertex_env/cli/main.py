"""The main function of the command line. Only `cli` prints or exits.

stdout gets the requested output, in one piece and only when it is complete. On failure
stdout stays empty, with one exception: the line `false`, which makes
`eval "$(vertex-env export)"` fail. stderr gets messages for a person. On success it
stays empty, except that `ci` says how long the token lasts.
"""

import errno
import sys
from contextlib import suppress
from importlib import import_module
from itertools import dropwhile
from pathlib import Path

import click

from vertex_env.cli.invocation import Invocation
from vertex_env.cli.options import NeedsHookError, StatementsCommand
from vertex_env.cli.output import abandon_stdout, tell_error, write
from vertex_env.errors import Exit, UnavailableError, VertexEnvError
from vertex_env.program import __version__

COMMANDS = {
    "export": "export.export",
    "token": "token.token",
    "url": "token.url",
    "run": "run.run_command",
    "ci": "ci.ci_command",
    "endpoints": "endpoints.endpoints",
    "status": "status.status",
    "logout": "status.logout",
    "hook": "shell.hook",
    "use": "shell.use",
    "refresh": "shell.refresh",
    "off": "shell.off",
    "completion": "shell.completion",
    "keep-fresh": "shell.keep_fresh",
    "sandbox": "sandbox.sandbox",
    "demo": "sandbox.demo",
}
"""Command to its module and its name in that module. The module is imported on first use."""


class Commands(click.Group):
    """The group of commands. For a misspelt name it suggests only commands that `--help` shows."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, or fail as Click does.

        The error may stand before the name of a command. If that command prints
        statements, it parses the rest leniently, to learn what to print on failure.
        """
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError:
            # The options of the group take no value.
            words = list(dropwhile(lambda word: word.startswith("-"), given))
            command = self.get_command(ctx, words[0]) if words else None
            if isinstance(command, StatementsCommand):
                command.parse_leniently(ctx, words[1:])
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- Click's signature
        """Names of all commands, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command *cmd_name* and return it; None if there is none."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module, name = COMMANDS[cmd_name].split(".")
            self.add_command(getattr(import_module(f"vertex_env.cli.{module}"), name))
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. Click from 8.4 on suggests hidden commands, too; remove them."""
        if args[0] not in COMMANDS:
            for name in COMMANDS:
                self.get_command(ctx, name)  # any of them may be suggested
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as e:
            suggested = getattr(e, "possibilities", None) or []
            shown = [name for name in suggested if not self.commands[name].hidden]
            if len(shown) < len(suggested):
                raise click.UsageError(e.message, ctx) from e
            raise


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "VERTEX_ENV",
        "max_content_width": 110,
    },
    no_args_is_help=True,
)
@click.version_option(__version__, message="vertex-env %(version)s", allow_from_autoenv=False)
def app() -> None:
    """Vertex AI for OpenAI clients: fresh Google access tokens as OPENAI_API_KEY.

    Clients that ignore OPENAI_BASE_URL send the token or the prompt to OpenAI: pi, cline -P openai,
    Codex with its default provider, Goose without --client goose.

    \b
      eval "$(vertex-env export)"          variables for this shell
      vertex-env run -- python app.py      a child that never sees an expired token
      vertex-env token                     for tools that take a "key command"
      vertex-env url                       for tools that want the base URL in a file
      vertex-env ci                        variables for the later steps of a CI job
      vertex-env demo                      see it all on a sandbox, without an account
    """  # noqa: D301 -- Click needs the control character


def execute(args: list[str]) -> int:
    """Run the command line and return the exit status."""
    invocation = Invocation()
    try:
        # app.main would end with status 1 when the reader of stdout has closed it.
        with app.make_context("vertex-env", list(args), obj=invocation) as context:
            app.invoke(context)
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.exceptions.NoArgsIsHelpError as e:
        click.echo(e.ctx.get_help(), err=True)
        return Exit.USAGE
    except click.UsageError as e:
        command = e.ctx.command_path if e.ctx else "vertex-env"
        hint = f"see {command} --help"
        if isinstance(e, NeedsHookError):
            hint = (
                'load it: eval "$(vertex-env hook bash)"; '
                "vertex-env hook --help has it for other shells"
            )
        return _fail(invocation, VertexEnvError(_sentence(e.format_message()), hint), Exit.USAGE)
    except VertexEnvError as e:
        return _fail(invocation, e, e.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail(invocation, None, Exit.INTERRUPTED)
    except BrokenPipeError:
        abandon_stdout()  # the reader has closed stdout, so report nothing
        return Exit.OK
    except Exception as e:  # noqa: BLE001 -- the last handler: report a bug
        return _fail(invocation, *_unexpected(e))
    return Exit.OK


def _fail(invocation: Invocation, error: VertexEnvError | None, status: int) -> int:
    if error is not None and not (invocation.at_prompt and isinstance(error, UnavailableError)):
        tell_error(error)
    if invocation.on_failure:
        with suppress(VertexEnvError, BrokenPipeError):
            write(invocation.on_failure)
    return status


def _unexpected(error: Exception) -> tuple[VertexEnvError, int]:
    """Error message and exit status for an exception that is not a VertexEnvError."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        # Only Click's help and version get here: all other output goes through `write`,
        # which handles this.
        abandon_stdout()
        full = UnavailableError(
            "cannot write to stdout: no space left", "free space, or redirect stdout elsewhere"
        )
        return full, full.exit_code
    return _bug(error), Exit.BUG


def _bug(error: Exception) -> VertexEnvError:
    """Error message for an unexpected exception, without its text, which might contain a token."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    where = next(
        (
            f"{Path(f.filename).name}:{f.lineno}"
            for f in reversed(frames)
            if "vertex_env" in f.filename
        ),
        "?",
    )
    last = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return VertexEnvError(
        f"this is a bug: {type(error).__name__} at {where} ({last}), vertex-env {__version__}, "
        f"Python {sys.version.split()[0]}",
        "please report this line to the project, with what you ran",
    )


def _sentence(text: str) -> str:
    """Change Click's message to the form of all messages: lower case, one line, no full stop."""
    line = " ".join(text.split()).rstrip(".")
    return line[:1].lower() + line[1:]
