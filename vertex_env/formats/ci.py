"""What each CI system wants: how values are masked in its log, and how variables reach the later steps of a job.

A plan says what is to be done, `cli` does it. A token never stands in a log: where a system masks what it is told to,
that comes first; where it cannot, a *command* that gets the variables is handed over in place of their values, so that
there is no token in a file either, and each step has a fresh one. All of this as of 2026-11-22.

- github: `::add-mask::` and `$GITHUB_ENV`
  (https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands; how the runner reads them:
  https://github.com/actions/runner `src/Runner.Common/ActionCommand.cs`, `src/Runner.Worker/FileCommandManager.cs`;
  random delimiters: https://github.com/actions/toolkit `packages/core/src/file-command.ts`).
- azure: `task.setsecret` and `task.setvariable`. A secret variable is not in the environment of later steps: they have
  to name it, `env: {OPENAI_API_KEY: $(OPENAI_API_KEY)}`
  (https://learn.microsoft.com/en-us/azure/devops/pipelines/scripts/logging-commands; `%` as `%AZP25`:
  https://github.com/microsoft/azure-pipelines-agent `CommandStringConvertor.cs`).
- buildkite: the job's own API, through the agent, which reads JSON from stdin
  (https://buildkite.com/docs/agent/v3/cli-redactor, https://buildkite.com/docs/agent/v3/cli-env).
- teamcity: `setParameter`. The value is masked if, and only if, the build configuration declares a password parameter
  of that name (https://www.jetbrains.com/help/teamcity/service-messages.html,
  https://www.jetbrains.com/help/teamcity/typed-parameters.html).
- circleci: `$BASH_ENV`, which bash reads at the start of each step. Only values known beforehand are masked
  (https://circleci.com/docs/guides/security/env-vars/, https://circleci.com/docs/guides/security/set-environment-variable/).
- gitlab: the script is one shell; only CI/CD variables are masked, and a dotenv report is an artifact that can be
  downloaded (https://docs.gitlab.com/ci/variables/, https://gitlab.com/gitlab-org/gitlab/-/issues/347160).
- jenkins: every `sh` is a shell of its own, run with `-xe`; only bound credentials are masked
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
"""Minutes that an impersonated account's token can live."""
_BEGIN, _END = "# vertex-env ci: begin\n", "# vertex-env ci: end\n"
_RUN = "let each step renew its token: vertex-env run -- COMMAND"


@dataclass(frozen=True, slots=True)
class Call:
    """A program to run, which gets what is secret on its stdin: everybody on the machine can read arguments."""

    argv: tuple[str, ...]
    stdin: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do so that the later steps of the job have the variables, in this order."""

    calls: tuple[Call, ...] = ()
    stdout: str = field(default="", repr=False)
    file: str | None = None
    """File to append to."""
    text: str = field(default="", repr=False)
    """What to append."""
    once: bool = False
    """Whether the text, a block between marks, replaces the one that is there (`without_block`)."""


@dataclass(frozen=True, slots=True)
class Job:
    """What there is to hand over, and where.

    Args:
        env: The variables.
        token: The token that is in some of them.
        environ: The environment of the step.
        again: Command that prints statements for a POSIX shell.
        settings: Variables for that command.
        delimiter: A line that occurs nowhere else.
        agent: Whether there is an agent to talk to on `PATH`.
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
        """Name to value of the variables with the token in them, the shortest, the token alone, first."""
        found = {
            name: value
            for name, value in self.env.items()
            if value is not None and self.token.value in value
        }
        return dict(sorted(found.items(), key=lambda item: len(item[1])))

    @property
    def values(self) -> dict[str, str]:
        """The variables where none can be unset: empty is as near as it gets."""
        return {name: value or "" for name, value in self.env.items()}


def check_lasts(token: Token, wanted: timedelta, now: datetime) -> None:
    """Refuse a token that ends before the job does.

    That is a matter of settings, since another try would bring no other token.

    Raises:
        SettingsError: It does.
    """
    left = timedelta(seconds=int(token.remaining(now).total_seconds()))
    if left >= wanted:
        return
    minutes = -(-int(wanted.total_seconds()) // 60) + 5
    longer = (
        f"vertex-env ci --impersonate ACCOUNT --lifetime {minutes}m (beyond 1h the organization has to allow it: "
        f"constraints/iam.allowServiceAccountCredentialLifetimeExtension), or "
        if minutes <= _LONGEST
        else ""
    )
    raise SettingsError(f"a new token lasts {left}, but the job may take {wanted}", longer + _RUN)


def lasts(token: Token, now: datetime) -> str:
    """How long the token lasts, for a person."""
    left = timedelta(seconds=int(token.remaining(now).total_seconds()))
    return (
        f"the token lasts {left}, until {token.expiry:%Y-%m-%dT%H:%M:%SZ}; "
        f"in a step that takes longer: vertex-env run"
    )


def github(job: Job) -> Plan:
    """Masks as commands in the log, variables in the file of the job."""
    masks = [f"::add-mask::{value.replace('%', '%25')}\n" for value in _once(job)]
    blocks = [
        f"{name}<<{job.delimiter}\n{value}\n{job.delimiter}\n" for name, value in job.values.items()
    ]
    return Plan(stdout="".join(masks), file=_file(job, "GITHUB_ENV"), text="\n" + "".join(blocks))


def azure(job: Job) -> Plan:
    """Commands in the log; what has the token in it is a secret variable."""

    def escape(value: str) -> str:
        return value.replace("%", "%AZP25")

    lines = [f"##vso[task.setsecret]{escape(value)}\n" for value in _once(job)]
    for name, value in job.values.items():
        secret = ";issecret=true" if name in job.secrets else ""
        lines.append(f"##vso[task.setvariable variable={name}{secret}]{escape(value)}\n")
    return Plan(stdout="".join(lines))


def buildkite(job: Job) -> Plan:
    """Calls of the agent, which is told the secrets first."""
    if not job.agent or not job.environ.get("BUILDKITE_AGENT_JOB_API_SOCKET"):
        raise SettingsError(
            f"this job has no API to tell secrets to: no {_AGENT} on PATH, or no BUILDKITE_AGENT_JOB_API_SOCKET",
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
    """Service messages in the log, if the parameters that TeamCity masks are declared."""
    for name in job.secrets:
        # A declared parameter is in the environment of each step, whatever its value; whether it is a password
        # parameter cannot be seen from here.
        if name not in job.environ:
            raise SettingsError(
                f"the build configuration has no parameter env.{name}, so TeamCity would not mask its value",
                f"""add to params: password("env.{name}", ""); {_GUIDE}""",
            )

    def escape(match: re.Match[str]) -> str:
        if match[0].isascii():
            return "|" + match[0]
        units = match[0].encode("utf-16-be").hex()
        return "".join(f"|0x{units[i : i + 4]}" for i in range(0, len(units), 4))

    lines = [
        f"##teamcity[setParameter name='env.{name}' value='{_TEAMCITY_SPECIAL.sub(escape, value)}']\n"
        for name, value in job.values.items()
    ]
    return Plan(stdout="".join(lines))


def circleci(job: Job) -> Plan:
    """A command in the file that bash reads at the start of each step."""
    # bash takes no notice of -e in this file. A step that has no token must not go on with a key for somebody else.
    block = _BEGIN + _statement(job, " || exit") + _END
    return Plan(file=_file(job, "BASH_ENV"), text=block, once=True)


def without_block(text: bytes) -> bytes:
    """*text*, the content of `$BASH_ENV`, without the block that an earlier step has appended.

    Each statement in the file starts the program once more, for each step and each bash script.
    """
    return re.sub(
        rb"^%b.*?^%b" % (_BEGIN.encode(), _END.encode()), b"", text, flags=re.DOTALL | re.MULTILINE
    )


def statement(job: Job) -> Plan:
    """A command for the script to evaluate: GitLab and Jenkins."""
    return Plan(stdout=_statement(job))


def _once(job: Job) -> list[str]:
    """Each secret value once; most variables with the token are the token."""
    return list(dict.fromkeys([job.token.value, *job.secrets.values()]))


def _file(job: Job, variable: str) -> str:
    path = job.environ.get(variable)
    if not path:
        raise SettingsError(
            f"{variable} is not set: there is no file for the variables of later steps", _GUIDE
        )
    return path


def _statement(job: Job, otherwise: str = "") -> str:
    """What a shell evaluates to have the variables, without the token in it.

    Tracing stays off: it would show the variables now, and the token in each later command that has it as an argument.
    bash reads `$BASH_ENV` for every script, also for one that the command starts, such as the program of an
    executable-sourced credential: that would start the command again.
    """
    settings = [f"{name}={quote_sh(value)}" for name, value in job.settings.items()]
    return f'set +x; eval "$({" ".join(["BASH_ENV=", *settings, *map(quote_sh, job.again)])})"{otherwise};\n'
