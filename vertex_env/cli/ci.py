"""`ci`: pass the variables to the later steps of a CI job."""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, BinaryIO

import click

from vertex_env import program
from vertex_env.cli.invocation import now_utc, session_for
from vertex_env.cli.options import Duration, StatementsCommand, settings_options
from vertex_env.cli.output import tell, write
from vertex_env.errors import SettingsError, UnavailableError
from vertex_env.formats import ci
from vertex_env.formats.table import CiSystem, detect, recognise
from vertex_env.settings.options import OPTIONS
from vertex_env.settings.resolve import as_environ, environ_layer, options_layer
from vertex_env.tokens.token import Token
from vertex_env.vertex.variables import Environment


def _is_evaluated(_: Mapping[str, Any]) -> bool:
    system = detect(os.environ)
    return system is not None and system.evaluated


@click.command(cls=StatementsCommand, name="ci", is_evaluated=_is_evaluated)
@click.option(
    "--job-timeout",
    type=Duration(),
    show_envvar=True,
    metavar="DURATION",
    help="Fail now if a new token would not last as long.",
)
@settings_options
def ci_command(job_timeout: timedelta | None, **options: Any) -> None:
    """Set the variables for a CI job's later steps, masked in its log; say how long the
    token lasts.

    \b
    GitHub Actions, Azure Pipelines, Buildkite, TeamCity:  vertex-env ci
    CircleCI, with a fresh token for each step:            vertex-env ci
    GitLab, Jenkins, for the rest of the script:           eval "$(vertex-env ci)"
    """  # noqa: D301 -- Click needs the control character
    system = recognise(os.environ)
    again = "the steps of a long job renew the token" if job_timeout is not None else system.again
    session = session_for(options, again=again)
    environment = session.environment()
    stored, now = session.token(), now_utc()
    # An earlier job on this machine may have left a stored token. It is good enough for
    # a shell, but in CI no step renews it. So mint a new one if it has less time left
    # than the job timeout, or less than half of its life.
    if stored.remaining(now) < max(job_timeout or timedelta(), (stored.expiry - stored.issued) / 2):
        environment = session.environment(refresh=True)
    if job_timeout is not None:
        ci.check_lasts(session.token(), job_timeout, now_utc())
    hand_over(system, environment, session.token(), options)
    tell(ci.lasts(session.token(), now_utc()))


def _settings_elsewhere(options: Mapping[str, Any]) -> dict[str, str]:
    """The settings of the step, for a step that may run in another folder.

    An example is `{"VERTEX_ENV_PROFILE": "work"}`. Paths in them are absolute. If
    `VERTEX_ENV_CONFIG` names the file with the profiles, it is included.
    """
    config = os.environ.get("VERTEX_ENV_CONFIG")
    settings = as_environ({**environ_layer(os.environ), **options_layer(options)})
    if config:
        # do not follow links
        settings["VERTEX_ENV_CONFIG"] = os.path.abspath(config)  # noqa: PTH100
    for name in [
        option.variable for option in OPTIONS if option.kind.is_file and option.variable in settings
    ]:
        named = os.path.expanduser(settings[name])  # noqa: PTH111 -- as `adc` does
        settings[name] = os.path.abspath(named)  # noqa: PTH100 -- do not follow links
    return settings


def hand_over(
    system: CiSystem, environment: Environment, token: Token, options: Mapping[str, Any]
) -> None:
    """Carry out the plan of *system*, so that later steps have the variables."""
    import shutil
    import stat

    job = ci.Job(
        # Some systems cannot unset a variable, and make it empty instead. So a variable to
        # unset is passed only if it is set.
        env={
            name: value
            for name, value in environment.items()
            if value is not None or name in os.environ
        },
        token=token,
        environ=os.environ,
        again=program.own_argv("export", "--format", "sh"),
        settings=_settings_elsewhere(options),
        delimiter=f"ghadelimiter_{os.urandom(16).hex()}",
        agent=shutil.which("buildkite-agent") is not None,
    )
    plan = system.plan(job)
    for call in plan.calls:
        _call(call)
    try:
        # Open the file before anything is printed, so that a failure leaves stdout
        # empty. Write to the file only when all secrets are masked. Do not wait for the
        # reader of a pipe: none reads before the step ends.
        access = os.O_RDWR if plan.once else os.O_WRONLY
        flags = access | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
        with os.fdopen(
            os.open(plan.file or os.devnull, flags, 0o600), "r+b" if plan.once else "wb", 0
        ) as file:
            if plan.file and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SettingsError(
                    f"{plan.file} is not a regular file", "check that the job may write there"
                )
            write(plan.stdout)
            text = plan.text.encode("utf-8", "surrogateescape")
            file.write(_make_room(file, text) if plan.once else text)
    except OSError as e:
        if isinstance(e, BrokenPipeError):
            raise
        raise SettingsError(
            f"cannot write to {plan.file}: {e.strerror}", "check that the job may write there"
        ) from e


def _make_room(file: BinaryIO, block: bytes) -> bytes:
    """Remove the block of an earlier call from *file*; return the bytes to append."""
    before = file.read() or b""
    if block in before:
        return b""  # an unchanged block: leave the file as it is
    kept = ci.without_block(before)
    gap = b"" if kept.endswith(b"\n") or not kept else b"\n"
    if kept == before:
        return gap + block
    file.truncate(0)
    return kept + gap + block


def _call(call: ci.Call) -> None:
    """Run a program that gets secrets. Hide its output, which may repeat the secrets."""
    import subprocess

    name = " ".join(call.argv[:3])
    try:
        subprocess.run(  # noqa: S603
            call.argv, input=call.stdin.encode(), capture_output=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as e:
        reason = (
            f"status {e.returncode}"
            if isinstance(e, subprocess.CalledProcessError)
            else type(e).__name__
        )
        raise UnavailableError(
            f"{name} failed: {reason}",
            'update the agent, or in a pre-command hook: eval "$(vertex-env export)"',
        ) from None
