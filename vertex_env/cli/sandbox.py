"""`sandbox` and `demo`: a simulated Google on loopback, which needs no account."""

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import click

from vertex_env.cli.options import Command, Duration
from vertex_env.cli.output import tell_error, write
from vertex_env.errors import VertexEnvError

Texts = tuple[str, ...]
_DURATION: Mapping[str, Any] = {
    "type": Duration(),
    "show_default": True,
    "show_envvar": True,
    "metavar": "DURATION",
}
_FAULTS: Mapping[str, Any] = {"multiple": True, "show_envvar": True, "metavar": "[N]xSTATUS"}


@click.command(cls=Command, context_settings={"allow_interspersed_args": False})
@click.option("--lifetime", default="1h", help="How long its tokens live.", **_DURATION)
@click.option("--fail", help="Fail N requests for a token, such as 3x503.", **_FAULTS)
@click.option("--refuse", help="Fail N chat completions, such as 2x429.", **_FAULTS)
@click.option(
    "--array-401", is_flag=True, show_envvar=True, help="Put a chat's 401 in a JSON array, too."
)
@click.option("--delay", default="0s", help="Wait before each token.", **_DURATION)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def sandbox(
    lifetime: timedelta,
    fail: Texts,
    refuse: Texts,
    delay: timedelta,
    command: Texts,
    *,
    array_401: bool,
) -> None:
    """Run COMMAND against an embedded loopback Google: no account, no network."""
    import tempfile

    from vertex_env.run import start as run
    from vertex_env.run.child import die_like
    from vertex_env.sandbox.faults import Fault
    from vertex_env.sandbox.server import Sandbox

    run.check_command(command)
    if lifetime < timedelta(seconds=1):
        raise click.BadParameter("a token lives for a second at least", param_hint="'--lifetime'")
    faults = {}
    for name, texts in (("--fail", fail), ("--refuse", refuse)):
        try:
            faults[name] = [Fault.parse(text) for text in texts]
        except ValueError as e:
            raise click.BadParameter(str(e), param_hint=f"'{name}'") from e
    with (
        tempfile.TemporaryDirectory(prefix="vertex-env-sandbox-") as folder,
        Sandbox(
            lifetime=lifetime,
            faults=faults["--fail"],
            delay=delay,
            refusals=faults["--refuse"],
            array_401=array_401,
        ) as google,
    ):
        status = _run_child(command, google.environ(folder, os.environ))
    die_like(status)


def _run_child(command: Sequence[str], environ: Mapping[str, str]) -> int:
    from vertex_env.run import start as run

    try:
        return run.run_once(command, environ)
    except VertexEnvError as e:
        tell_error(e)
        sys.exit(run.failure(e))


@click.command(cls=Command)
def demo() -> None:
    """See it all in 20 seconds, on the sandbox: mint, export, chat, a restart before expiry."""
    from vertex_env.sandbox.demo import tell

    tell(os.environ, lambda line: write(line + "\n"))
