"""How the program was called, and the session that a command gets for that."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from vertex_env.cache import background
from vertex_env.cli.output import tell
from vertex_env.session import Session, open_session
from vertex_env.settings.inputs import Inputs

FALSE = "false\n"
"""What fails in every shell that evaluates it, where nothing at all would succeed."""


@dataclass(slots=True)
class Invocation:
    """What a command has learnt of how it was called, for when it fails.

    Args:
        on_failure: What to print on stdout then.
        at_prompt: A shell's hook asks, maybe at each prompt: it hears of errors, but not, at each prompt of a train
            ride, that there is no network.
    """

    on_failure: str = ""
    at_prompt: bool = False


def current() -> Invocation:
    """That of the command that is running."""
    return click.get_current_context().ensure_object(Invocation)


def session_for(
    options: Mapping[str, Any],
    *,
    refreshes: bool = False,
    inputs: Inputs | None = None,
    again: str = "",
    anonymous: bool = False,
) -> Session:
    """The session for a command with *options*, the settings by field.

    Args:
        options: As `open_session` takes them.
        refreshes: Start a refresh in the background when the token is due.
        inputs: Gets what was looked at; a new one by default.
        again: See `open_session`.
        anonymous: See `open_session`.
    """
    invocation = current()
    return open_session(
        options,
        Inputs(os.environ) if inputs is None else inputs,
        now_utc,
        warn=lambda line: None if invocation.at_prompt else tell(f"warning: {line}"),
        background_refresh=(lambda: background.start_refresh(sys.argv[1:], os.environ))
        if refreshes
        else None,
        again=again,
        anonymous=anonymous,
    )


def now_utc() -> datetime:
    """The clock."""
    return datetime.now(UTC)
