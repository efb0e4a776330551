"""`run`: start a command that never sees an expired token."""

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import click

from vertex_env.cache import answers
from vertex_env.cli.invocation import now_utc, session_for
from vertex_env.cli.options import Command, Duration, settings_options
from vertex_env.cli.output import say, tell, tell_error
from vertex_env.errors import Exit, VertexEnvError
from vertex_env.settings.resolve import as_environ, options_layer
from vertex_env.tokens.token import Token
from vertex_env.vertex.variables import Environment

if TYPE_CHECKING:
    from vertex_env.run.lifecycle import OnFailure, Policy


@click.command(cls=Command, name="run", context_settings={"allow_interspersed_args": False})
@click.option(
    "--on-expiry",
    type=click.Choice(["auto", "restart", "ignore", "stop"]),
    default="auto",
    show_default=True,
    show_envvar=True,
    help="Before the token expires: restart the command, but not while it holds the terminal or "
    "when its stdin is a pipe (auto); restart it always; run it in place of ourselves (ignore); "
    "stop it with status 75.",
)
@click.option(
    "--grace",
    type=Duration(),
    default="10s",
    show_default=True,
    show_envvar=True,
    metavar="DURATION",
    help="How long the command may take to end after SIGTERM.",
)
@click.option(
    "--on-refresh-failure",
    "on_failure",
    type=click.Choice(["keep", "stop"]),
    envvar="VERTEX_ENV_RUN_ON_REFRESH_FAILURE",
    default="keep",
    show_default=True,
    show_envvar=True,
    help="If the token expires and there is no new one: keep the command running, or stop it with "
    "status 75.",
)
@settings_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run_command(
    on_expiry: "Policy",
    grace: timedelta,
    on_failure: "OnFailure",
    command: tuple[str, ...],
    **options: Any,
) -> None:
    """Run COMMAND with the variables, and start it anew before its token expires."""
    from vertex_env.run import start as run
    from vertex_env.run.helper import HelperError

    try:
        run.check_command(command)
        _run(on_expiry, on_failure, grace, command, options)
    except HelperError as e:
        # The helper process, which is started by this program, has already written the
        # error, with hint.
        say(str(e))
        sys.exit(Exit.RUN_FAILURE)
    except VertexEnvError as e:
        tell_error(e)
        sys.exit(run.failure(e))


def _run(
    policy: "Policy",
    on_failure: "OnFailure",
    grace: timedelta,
    command: Sequence[str],
    options: Mapping[str, Any],
) -> NoReturn:
    from vertex_env.run import start as run
    from vertex_env.run.helper import ask_helper, helper_argv
    from vertex_env.run.lifecycle import Rules

    overlay = as_environ(options_layer(options))
    # includes `--` if that belongs to `run` and not to the command
    own = sys.argv[1 : -len(command)]
    question = answers.question_key(own, os.environ)
    in_place = policy == "ignore"
    session = session_for(
        options, again="" if in_place else "run renews the token (not so with --on-expiry ignore)"
    )
    rules = Rules(
        policy,
        on_failure,
        grace.total_seconds(),
        session.settings.mint_timeout.value.total_seconds(),
    )
    if session.adc.is_pipe:
        environment: Environment = session.environment()  # the helper could not read a pipe again
    elif session.broker.stored() is not None and session.settings.endpoint.value is None:
        environment = session.environment()
        target = session.target()

        def render(token: Token) -> str:
            return run.pack(session.environment_for(token, target), overlay, rules)

        if "--" in own and own.index("--") == len(own) - 1:
            session.remember(own, question, render, now_utc(), refreshes=False)
    else:
        # Mint in a helper process: here, google-auth would stay in the supervisor's
        # memory.
        environment = ask_helper(helper_argv(), {**os.environ, **overlay})
    if rules.policy != "ignore" and run.can_supervise():
        run.start_lean(command, run.pack(environment, overlay, rules))
    run.start(command, environment, overlay, rules=rules, say=tell)
