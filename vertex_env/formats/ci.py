"""Plans for CI systems: how to mask values in the log, and how to pass variables to later steps.

A plan says what to do, and `cli` does it. A token never appears in a log. Some systems
let a step name the values to mask. There, the plan masks first and passes the values
afterwards. Other systems cannot mask. There, the plan passes a *command* that gets the
variables, in place of their values. Then no file contains a token either, and each step
has a fresh one. All of this as of 2026-11-22.

- github: `::add-mask::` and `$GITHUB_ENV`
  (https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands).
  How the runner reads them: https://github.com/actions/runner
  `src/Runner.Common/ActionCommand.cs`, `src/Runner.Worker/FileCommandManager.cs`.
  Random delimiters: https://github.com/actions/toolkit
  `packages/core/src/file-command.ts`.
- azure: `task.setsecret` and `task.setvariable`. The environment of later steps does
  not contain a secret variable. A step has to name it:
  `env: {OPENAI_API_KEY: $(OPENAI_API_KEY)}`
  (https://learn.microsoft.com/en-us/azure/devops/pipelines/scripts/logging-commands).
  `%` as `%AZP25`: https://github.com/microsoft/azure-pipelines-agent
  `CommandStringConvertor.cs`.
- buildkite: the job's own API, through the agent, which reads JSON from stdin
  (https://buildkite.com/docs/agent/v3/cli-redactor,
  https://buildkite.com/docs/agent/v3/cli-env).
- teamcity: `setParameter`. TeamCity masks the value only if the build configuration
  declares a password parameter of that name
  (https://www.jetbrains.com/help/teamcity/service-messages.html,
  https://www.jetbrains.com/help/teamcity/typed-parameters.html).
- circleci: `$BASH_ENV`, which bash reads at the start of each step. CircleCI masks only
  values that it knows before the job
  (https://circleci.com/docs/guides/security/env-vars/,
  https://circleci.com/docs/guides/security/set-environment-variable/).
- gitlab: the whole script runs in one shell. GitLab masks only CI/CD variables. A
  dotenv report is an artifact that can be downloaded
  (https://docs.gitlab.com/ci/variables/,
  https://gitlab.com/gitlab-org/gitlab/-/issues/347160).
- jenkins: every `sh` step is a shell of its own, run with `-xe`. Jenkins masks only
  bound credentials
  (https://www.jenkins.io/doc/pipeline/steps/workflow-durable-task-step/,
  https://plugins.jenkins.io/credentials-binding/).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from vertex_env.errors import SettingsError
from vertex_env.formats.render import quote_sh
from vertex_env.tokens.token import Token
from vertex_env.vertex.variables import Environment

_AGENT = "buildkite-agent"
_QUIET = ("--input-format=json", "--output-format=quiet", "-")
_GUIDE = "shell/ci/README.md has an example for each system"
_TEAMCITY_SPECIAL = re.compile(r"[|'\[\]]|[^\x00-\x7f]")
_LONGEST = 12 * 60
"""Longest lifetime of an impersonated account's token, in minutes."""
_BEGIN, _END = "# vertex-env ci: begin\n", "# vertex-env ci: end\n"
_RUN = "let each step renew its token: vertex-env run -- COMMAND"


@dataclass(frozen=True, slots=True)
class Call:
    """A program to run.

    It gets secrets on its stdin, because every user of the machine can read arguments.
    """

    argv: tuple[str, ...]
    stdin: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions that give the variables to the later steps of the job, in the order of the fields."""

    calls: tuple[Call, ...] = ()
    stdout: str = field(default="", repr=False)
    file: str | None = None
    """Path of the file to append to; None for none."""
    text: str = field(default="", repr=False)
    """Text to append."""
    once: bool = False
    """Whether the text, a block between marks, replaces an earlier block (`without_block`)."""


@dataclass(frozen=True, slots=True)
class Job:
    """Input of a plan: the variables, and the facts about the step.

    Args:
        env: The variables.
        token: The token that some of them contain.
        environ: The environment of the step.
        again: A command that prints statements for a POSIX shell.
        settings: Environment variables for that command.
        delimiter: A line that occurs nowhere else.
        agent: Whether `buildkite-agent` is on `PATH`.
    """

    env: Environment = field(repr=False)
    token: Token
    environ: Mapping[str, str] = field(repr=False)
    again: Sequence[str]
    settings: Mapping[str, str]
    delimiter: str
    agent: bool

    @property
    def secrets(self) -> dict[str, str]:
        """The variables that contain the token, by name, sorted by length.

        The first has the shortest value, which is the token alone.
        """
        found = {
            name: value
            for name, value in self.env.items()
            if value is not None and self.token.value in value
        }
        return dict(sorted(found.items(), key=lambda item: len(item[1])))

    @property
    def values(self) -> dict[str, str]:
        """The variables for a system that cannot unset any: an empty value replaces unsetting."""
        return {name: value or "" for name, value in self.env.items()}


def check_lasts(token: Token, wanted: timedelta, now: datetime) -> None:
    """Refuse a token that expires before the job ends.

    This is an error of the settings: another try would return no longer token.

    Raises:
        SettingsError: The token expires too early.
    """
    left = timedelta(seconds=int(token.remaining(now).total_seconds()))
    if left >= wanted:
        return
    minutes = -(-int(wanted.total_seconds()) // 60) + 5
    longer = (
        f"vertex-env ci --impersonate ACCOUNT --lifetime {minutes}m "
        f"(beyond 1h the organization has to allow it: "
        f"constraints/iam.allowServiceAccountCredentialLifetimeExtension), or "
        if minutes <= _LONGEST
        else ""
    )
    raise SettingsError(f"a new token lasts {left}, but the job may take {wanted}", longer + _RUN)


def lasts(token: Token, now: datetime) -> str:
    """Say how long the token lasts, in a line for a person."""
    left = timedelta(seconds=int(token.remaining(now).total_seconds()))
    return (
        f"the token lasts {left}, until {token.expiry:%Y-%m-%dT%H:%M:%SZ}; "
        f"in a step that takes longer: vertex-env run"
    )


def github(job: Job) -> Plan:
    """Write masks as commands into the log, and variables into the file of the job."""
    masks = [f"::add-mask::{value.replace('%', '%25')}\n" for value in _once(job)]
    blocks = [
        f"{name}<<{job.delimiter}\n{value}\n{job.delimiter}\n" for name, value in job.values.items()
    ]
    return Plan(stdout="".join(masks), file=_file(job, "GITHUB_ENV"), text="\n" + "".join(blocks))


def azure(job: Job) -> Plan:
    """Write commands into the log; a variable that contains the token becomes a secret variable."""

    def escape(value: str) -> str:
        return value.replace("%", "%AZP25")

    lines = [f"##vso[task.setsecret]{escape(value)}\n" for value in _once(job)]
    for name, value in job.values.items():
        secret = ";issecret=true" if name in job.secrets else ""
        lines.append(f"##vso[task.setvariable variable={name}{secret}]{escape(value)}\n")
    return Plan(stdout="".join(lines))


def buildkite(job: Job) -> Plan:
    """Call the agent: first with the secrets to mask, then with the variables."""
    if not job.agent or not job.environ.get("BUILDKITE_AGENT_JOB_API_SOCKET"):
        raise SettingsError(
            f"this job has no API to tell secrets to: no {_AGENT} on PATH, "
            f"or no BUILDKITE_AGENT_JOB_API_SOCKET",
            'in a pre-command hook of the agent: eval "$(vertex-env export)"',
        )
    given = {name: value for name, value in job.env.items() if value is not None}
    unset = [name for name, value in job.env.items() if value is None]
    calls = [
        Call((_AGENT, "redactor", "add", "--format", "json"), json.dumps(job.secrets) + "\n"),
        Call((_AGENT, "env", "set", *_QUIET), json.dumps(given) + "\n"),
    ]
    if unset:
        calls.append(Call((_AGENT, "env", "unset", *_QUIET), json.dumps(unset) + "\n"))
    return Plan(calls=tuple(calls))


def teamcity(job: Job) -> Plan:
    """Write service messages into the log, if the parameters for the secrets are declared."""
    for name in job.secrets:
        # A declared parameter is in the environment of each step, even if it is empty.
        # The environment does not show whether it is a password parameter.
        if name not in job.environ:
            raise SettingsError(
                f"the build configuration has no parameter env.{name}, "
                f"so TeamCity would not mask its value",
                f"""add to params: password("env.{name}", ""); {_GUIDE}""",
            )

    def escape(match: re.Match[str]) -> str:
        if match[0].isascii():
            return "|" + match[0]
        units = match[0].encode("utf-16-be").hex()
        return "".join(f"|0x{units[i : i + 4]}" for i in range(0, len(units), 4))

    lines = [
        f"##teamcity[setParameter name='env.{name}' "
        f"value='{_TEAMCITY_SPECIAL.sub(escape, value)}']\n"
        for name, value in job.values.items()
    ]
    return Plan(stdout="".join(lines))


def circleci(job: Job) -> Plan:
    """Append a command to the file that bash reads at the start of each step."""
    # bash ignores -e in this file. So the block ends with `exit` on failure: a step
    # without a token must not go on with another provider's key.
    block = _BEGIN + _statement(job, " || exit") + _END
    return Plan(file=_file(job, "BASH_ENV"), text=block, once=True)


def without_block(text: bytes) -> bytes:
    """Remove from *text*, the content of `$BASH_ENV`, the block that an earlier step appended.

    With an old and a new block, each step and each bash script would start the program
    twice.
    """
    return re.sub(
        rb"^%b.*?^%b" % (_BEGIN.encode(), _END.encode()), b"", text, flags=re.DOTALL | re.MULTILINE
    )


def statement(job: Job) -> Plan:
    """Print a command that the script evaluates: for GitLab and Jenkins."""
    return Plan(stdout=_statement(job))


def _once(job: Job) -> list[str]:
    """Each secret value once: most variables that contain the token are equal to it."""
    return list(dict.fromkeys([job.token.value, *job.secrets.values()]))


def _file(job: Job, variable: str) -> str:
    path = job.environ.get(variable)
    if not path:
        raise SettingsError(
            f"{variable} is not set: there is no file for the variables of later steps", _GUIDE
        )
    return path


def _statement(job: Job, otherwise: str = "") -> str:
    """A statement for a shell that sets the variables and does not contain the token.

    The statement turns tracing off (`set -x`, `set -v`), for the rest of the script. Tracing
    would show the variables now, and later the token in each command that has it as an argument. The
    statement empties `BASH_ENV` for the command. bash reads `$BASH_ENV` for every
    script, also for a script that the command starts, such as the program of an
    executable-sourced credential. That script would start the command again.
    """
    settings = [f"{name}={quote_sh(value)}" for name, value in job.settings.items()]
    return (
        f'set +xv; eval "$({" ".join(["BASH_ENV=", *settings, *map(quote_sh, job.again)])})"'
        f"{otherwise};\n"
    )
