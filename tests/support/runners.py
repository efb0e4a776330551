"""CI systems, as far as a step can tell: its shell and environment, what becomes of its output, what the next one gets.

Each keeps the log as its users see it, where a mask holds from the line on that asks for it; stdout and stderr are one.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.support.processes import PROGRAM

_AGENT = """#!{python}
import json, sys
read = sys.stdin.read()
with open({record!r}, "a") as file:
    file.write(json.dumps([sys.argv[1:], read]) + "\\n")
print("said by the agent: " + read, file=sys.stderr)
sys.exit({status})
"""


def program(folder: Path, name: str, text: str) -> None:
    """Put a program of that text into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o700)


class Runner:
    """One job.

    Args:
        folder: For its files.
        env: What the job's steps have from outside.
    """

    sign: ClassVar[Mapping[str, str]]
    """How the system is recognised."""
    shell: ClassVar[tuple[str, ...]] = ("bash", "-e")
    tracer: tuple[str, ...] = ()
    """What the shell is started by."""
    prepare = "vertex-env ci"
    """The step that the system's users write."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder / "job"
        self.workspace = self.folder / "workspace"
        self.workspace.mkdir(parents=True)
        self.env = {**env, **self.sign, "PATH": f"{self.folder / 'bin'}:{env['PATH']}"}
        self.variables: dict[str, str] = {}
        self.secrets: list[str] = []
        self.log: list[str] = []
        self.status = 0
        # A script of bash's, as the wrappers of pyenv are: bash reads $BASH_ENV for it, too.
        program(
            self.folder / "bin",
            "vertex-env",
            f'#!/usr/bin/env bash\nexec {shlex.join(PROGRAM)} "$@"\n',
        )
        program(
            self.folder / "bin",
            "show",
            f"#!{sys.executable}\nimport json, os\nprint(json.dumps(dict(os.environ)))\n",
        )

    def step(self, script: str, env: Mapping[str, str] | None = None) -> str:
        """Run *script*; what the log shows of it."""
        file = self.folder / "script.sh"
        file.write_text(script)
        environ = {**self.env, **self.variables, **self.before(), **(env or {})}
        done = subprocess.run(
            [*self.tracer, *self.shell, str(file)], env=environ, cwd=self.workspace, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=60,
        )  # fmt: skip
        start = len(self.log)
        for line in done.stdout.decode().split("\n"):
            self.read(line)
            self.log.append(self.mask(line))
        self.status = done.returncode
        self.after()
        return "\n".join(self.log[start:])

    def before(self) -> dict[str, str]:
        """What the next step has besides."""
        return {}

    def read(self, line: str) -> None:
        """Do what a line of the log asks for."""

    def after(self) -> None:
        """Do what the step has left behind."""

    def mask(self, line: str) -> str:
        """*line* as people see it."""
        for secret in sorted(filter(None, self.secrets), key=len, reverse=True):
            line = line.replace(secret, "***")
        return line

    def later(self, wanted: str = "") -> dict[str, str]:
        """The environment of a later step; what it prints is in the log besides."""
        out = self.folder / "shown"
        self.step(f"show >{shlex.quote(str(out))}\n{wanted}", self.mapped())
        return dict(json.loads(out.read_text()))

    def mapped(self) -> dict[str, str]:
        """What a step has to name to have it."""
        return {}


class Github(Runner):
    """https://github.com/actions/runner `FileCommandManager.cs`, `ActionCommand.cs`, `ActionCommandManager.cs`."""

    sign: ClassVar[Mapping[str, str]] = {"GITHUB_ACTIONS": "true", "CI": "true"}
    shell: ClassVar[tuple[str, ...]] = ("bash", "--noprofile", "--norc", "-eo", "pipefail")

    def before(self) -> dict[str, str]:
        files = {
            name: self.folder / name.lower()
            for name in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH")
        }
        for file in files.values():
            file.write_text("")
        return {
            **{name: str(file) for name, file in files.items()},
            "RUNNER_TEMP": str(self.folder),
        }

    def read(self, line: str) -> None:
        if line.startswith("::add-mask::"):
            value = line.removeprefix("::add-mask::")
            for escape, meaning in (("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
                value = value.replace(escape, meaning)
            self.secrets.append(value)

    def after(self) -> None:
        self.variables |= pairs((self.folder / "github_env").read_text())
        self.outputs = pairs((self.folder / "github_output").read_text())
        for folder in (self.folder / "github_path").read_text().splitlines():
            self.env["PATH"] = f"{folder}:{self.env['PATH']}"


def pairs(text: str) -> dict[str, str]:
    """What a file such as $GITHUB_ENV says: `NAME=VALUE`, or `NAME<<END`, lines of value, `END`."""
    found = {}
    lines = iter(text.split("\n"))
    for line in lines:
        if not line:
            continue
        head = re.match("([^=<]+)(=|<<)(.*)", line)
        assert head is not None, "invalid format"
        if head[2] == "=":
            found[head[1]] = head[3]
            continue
        value = []
        while (part := next(lines)) != head[3]:
            value.append(part)
        found[head[1]] = "\n".join(value)
    return found


class Azure(Runner):
    """https://github.com/microsoft/azure-pipelines-agent `Command.cs`, `CommandStringConvertor.cs`."""

    sign: ClassVar[Mapping[str, str]] = {"TF_BUILD": "True"}

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        super().__init__(folder, env)
        self.hidden: dict[str, str] = {}

    def read(self, line: str) -> None:
        command = re.search(r"##vso\[([a-z]+\.[a-z]+)(?: ([^\]]*))?\](.*)", line)
        if command is None:
            return
        properties = dict(item.split("=", 1) for item in (command[2] or "").split(";") if item)
        value = command[3]
        for escape, meaning in (
            ("%3B", ";"),
            ("%0D", "\r"),
            ("%0A", "\n"),
            ("%5D", "]"),
            ("%AZP25", "%"),
        ):
            value = value.replace(escape, meaning)
        if command[1] == "task.setsecret":
            self.secrets.append(value)
            return
        assert command[1] == "task.setvariable"
        if properties.get("issecret") == "true":
            self.secrets.append(value)
            self.hidden[properties["variable"]] = value
        else:
            self.variables[properties["variable"].upper().replace(".", "_")] = value

    def mapped(self) -> dict[str, str]:
        return self.hidden


class CircleCi(Runner):
    """https://circleci.com/docs/guides/security/set-environment-variable/."""

    sign: ClassVar[Mapping[str, str]] = {"CIRCLECI": "true"}
    shell: ClassVar[tuple[str, ...]] = ("bash", "-eo", "pipefail")

    def before(self) -> dict[str, str]:
        return {"BASH_ENV": str(self.folder / "bash_env")}


class Buildkite(Runner):
    """https://github.com/buildkite/agent `clicommand/redactor_add.go`, `env_set.go`, `env_unset.go`."""

    sign: ClassVar[Mapping[str, str]] = {
        "BUILDKITE": "true",
        "BUILDKITE_AGENT_JOB_API_SOCKET": "/run/job.sock",
    }

    def __init__(self, folder: Path, env: Mapping[str, str], status: int = 0) -> None:
        super().__init__(folder, env)
        self.record = self.folder / "record"
        self.record.write_text("")
        text = _AGENT.format(python=sys.executable, record=str(self.record), status=status)
        program(self.folder / "bin", "buildkite-agent", text)

    @property
    def calls(self) -> list[tuple[list[str], str]]:
        """Arguments and stdin of each call of the agent."""
        return [tuple(json.loads(line)) for line in self.record.read_text().splitlines()]

    def after(self) -> None:
        for argv, stdin in self.calls:
            match argv:
                case ["redactor", "add", "--format", "json"]:
                    self.secrets += json.loads(stdin).values()
                case ["env", "set", "--input-format=json", "--output-format=quiet", "-"]:
                    # It reads line by line.
                    (line,) = stdin.splitlines()
                    assert all(
                        value in self.secrets
                        for value in json.loads(line).values()
                        if "ya29." in value
                    )
                    self.variables |= json.loads(line)
                case ["env", "unset", "--input-format=json", "--output-format=quiet", "-"]:
                    for name in json.loads(stdin):
                        self.env.pop(name, None)
                case _:
                    raise AssertionError(argv)


class TeamCity(Runner):
    """https://www.jetbrains.com/help/teamcity/service-messages.html."""

    sign: ClassVar[Mapping[str, str]] = {"TEAMCITY_VERSION": "2025.07"}
    shell: ClassVar[tuple[str, ...]] = ("sh",)
    passwords: tuple[str, ...] = ("OPENAI_API_KEY", "AUTH", "AIDER_OPENAI_API_KEY")
    """The parameters `env.NAME` that the build configuration declares as passwords."""

    def before(self) -> dict[str, str]:
        return {name: "" for name in self.passwords if name not in self.variables}

    def read(self, line: str) -> None:
        message = re.fullmatch(
            r"##teamcity\[setParameter name='env\.(\w+)' value='((?:[^|'\[\]]|\|.)*)'\]", line
        )
        assert message is not None or "##teamcity" not in line
        if message is None:
            return
        value = re.sub(r"\|0x([0-9a-f]{4})|\|(.)", lambda m: m[2] or chr(int(m[1], 16)), message[2])
        value = value.encode("utf-16", "surrogatepass").decode("utf-16")  # as Java's strings are
        self.variables[message[1]] = value
        if message[1] in self.passwords:
            self.secrets.append(value)


class Gitlab(Runner):
    """One shell for `before_script` and `script`; the log shows the commands as they are written."""

    sign: ClassVar[Mapping[str, str]] = {"GITLAB_CI": "true"}
    shell: ClassVar[tuple[str, ...]] = ("bash", "-eo", "pipefail")
    prepare = 'eval "$(vertex-env ci)"'

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        super().__init__(folder, env)
        self.said: list[str] = []

    def step(self, script: str, env: Mapping[str, str] | None = None) -> str:
        self.said.append(script)
        return super().step("\n".join(self.said), env)


class Jenkins(Gitlab):
    """`sh` traces what it runs, and the next one knows nothing of it, so that each says the same first."""

    sign: ClassVar[Mapping[str, str]] = {"JENKINS_URL": "https://jenkins.example.com/"}
    shell: ClassVar[tuple[str, ...]] = ("sh", "-xe")


RUNNERS: Mapping[str, type[Runner]] = {
    "github": Github,
    "gitlab": Gitlab,
    "azure": Azure,
    "circleci": CircleCi,
    "buildkite": Buildkite,
    "teamcity": TeamCity,
    "jenkins": Jenkins,
}
