"""`token` and `url`: print one value alone, for tools that do not read variables."""

import os
import sys
from typing import Any

import click

from vertex_env.cache import answers
from vertex_env.cli.invocation import now_utc, session_for
from vertex_env.cli.options import Command, refresh_option, settings_options
from vertex_env.cli.output import write
from vertex_env.tokens.token import Token


@click.command(cls=Command)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["text", "json", "header"]),
    envvar="VERTEX_ENV_TOKEN_FORMAT",
    default="text",
    show_default=True,
    show_envvar=True,
    help="The token alone, an object with its expiry, or an Authorization header.",
)
@refresh_option
@settings_options
def token(format_name: str, refresh: bool, **options: Any) -> None:  # noqa: FBT001
    """Print an access token, for tools that take a "key command"."""
    question = answers.question_key(sys.argv[1:], os.environ)
    session = session_for(options, refreshes=True)
    minted = session.token(refresh=refresh)
    # Taken after Google's answer: an earlier instant would make the token seem to last
    # longer.
    now = now_utc()

    def render(token: Token) -> str:
        match format_name:
            case "text":
                return token.value + "\n"
            case "header":
                return f"Authorization: Bearer {token.value}\n"
            case _:
                import json

                seconds = token.expiry.timestamp()
                left = {
                    "expiry": answers.rfc3339(seconds),
                    "expires_in": int(seconds - now.timestamp()),
                }
                return json.dumps({"token": token.value, "token_type": "Bearer", **left}) + "\n"

    write(render(minted))
    if not refresh:
        session.remember(sys.argv[1:], question, render, now)


@click.command(cls=Command)
@settings_options
def url(**options: Any) -> None:
    """Print the base URL alone, for a tool's own settings, without a token.

    It needs no credentials where the settings have the project. With --endpoint the host is looked
    up at Google, which needs a token; the answer is remembered for a day.
    """
    write(session_for(options, anonymous=True).target().base_url + "\n")
