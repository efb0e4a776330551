"""How the program was called, and the session for its command."""

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
"""Output that fails in every shell that evaluates it. Evaluating an empty output would succeed."""


@dataclass(slots=True)
class Invocation:
    """Facts about the call of the running command, for use on failure.

    Args:
        on_failure: Text to print on stdout on failure.
        at_prompt: Whether a shell's hook calls, possibly at each prompt. Then a missing
            network is not reported, because the message would come back at each prompt.
            Other errors are.
    """

    on_failure: str = ""
    at_prompt: bool = False


def current() -> Invocation:
    """The invocation of the running command."""
    return click.get_current_context().ensure_object(Invocation)


def session_for(
    options: Mapping[str, Any],
    *,
    refreshes: bool = False,
    inputs: Inputs | None = None,
    again: str = "",
    anonymous: bool = False,
) -> Session:
    """Open the session for a command.

    Args:
        options: Settings by field, as `open_session` takes them.
        refreshes: Whether to start a background refresh when the token is due.
        inputs: Recorder of the variables and files that are read; a new one by default.
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
    """The current instant."""
    return datetime.now(UTC)
