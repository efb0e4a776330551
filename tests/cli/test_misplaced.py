"""A token that was pasted in the wrong place, at each place that there is, is not repeated.

The places are generated from the tables: options and arguments of each command, their variables, keys of config.toml.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import click
import pytest

from tests.support.processes import sandboxed
from vertex_env import redaction
from vertex_env.cli.main import app
from vertex_env.cli.options import SettingsOption
from vertex_env.settings import config
from vertex_env.settings.options import OPTIONS

BODY = "aB3xY7kQ9mZ2pL5wR8tV1cN4dF6gH0jS"
PASTED = {
    "access token": f"ya29.{BODY}",
    "refresh token": f"1//0g{BODY}",
    "client secret": f"GOCSPX-{BODY}",
    "API key": f"AIza{BODY}",
    "express key": f"AQ.{BODY}",
    "OpenAI's key": f"sk-proj-{BODY}",
    "JWT": f"eyJhbGciOiJSUzI1NiJ9.eyJ{BODY}.{BODY}",
    "private key": f"-----BEGIN PRIVATE KEY-----\n{BODY}\n-----END PRIVATE KEY-----\n",
    "GitHub's token": f"ghp_{BODY}",
    "GitHub's newer token": f"github_pat_{BODY[:22]}_{BODY}",
    "refresh token in a path": f"google/1//0g{BODY}",
}
"""What people have in their clipboard. In each `BODY` is the part to look for."""


@dataclass
class Case:
    """A place and the call that has *pasted* there."""

    place: str
    args: Sequence[str]
    environ: dict[str, str] = field(default_factory=dict)
    config: str = ""


def cases() -> Iterator[Case]:
    """Each place, with one kind after the other."""
    kinds = cycle(PASTED.values())
    yield Case("a command", [next(kinds)])
    yield Case("an option before the command", [f"--{next(kinds)}"])
    context = click.Context(app)
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        needed = ["true"] if name in ("run", "sandbox") else []
        if name not in ("run", "sandbox", "hook", "completion"):
            yield Case(f"{name}: an argument too many", [name, next(kinds)])
        yield Case(f"{name}: an unknown option", [name, f"--{next(kinds)}"])
        for parameter in command.params:
            yield from places(name, parameter, needed, kinds)
    for option in OPTIONS:
        own = () if option.internal else (option.variable,)
        for variable in (*own, *option.google):
            others = dict.fromkeys(option.google, "")
            args = ["export"] if option.internal else ["status"]
            yield Case(variable, args, {**others, variable: next(kinds)})
    yield Case(
        "VERTEX_ENV_CONFIG", ["status", "--profile", "absent"], {"VERTEX_ENV_CONFIG": next(kinds)}
    )
    yield Case(
        "VERTEX_ENV_CACHE_DIR", ["status"], {"VERTEX_ENV_CACHE_DIR": f"/dev/null/{next(kinds)}"}
    )
    none = {"GOOGLE_APPLICATION_CREDENTIALS": "", "NO_GCE_CHECK": "true"}
    yield Case("CLOUDSDK_CONFIG", ["status"], {**none, "CLOUDSDK_CONFIG": next(kinds)})
    for key in config._KEYS:
        text = f'default-profile = "p"\n[profile.p]\n{key} = {json.dumps(next(kinds))}\n'
        yield Case(f"config.toml: {key}", ["status"], {"VERTEX_ENV_ALLOW_HOST": ""}, text)
    text = f'default-profile = "p"\n[profile.p.set]\nX = {json.dumps(next(kinds))}\n'
    yield Case("config.toml: a template", ["status"], config=text)
    for where, text in {
        "an unknown key": "{} = 1\n",
        "an unknown key in a profile": "[profile.p]\n{} = 1\n",
        "the default profile": "default-profile = {}\n",
        "the name of a profile": "[profile.{}]\n",
        "a profile defined twice": "[profile.{0}]\n[profile.{0}]\n",
    }.items():
        args = ["status"] if "default" in where else ["status", "--profile", "absent"]
        yield Case(f"config.toml: {where}", args, config=text.format(json.dumps(next(kinds))))


def places(
    name: str, parameter: click.Parameter, needed: list[str], kinds: Iterator[str]
) -> Iterator[Case]:
    """A parameter of a command on the command line, and as its variable."""
    if isinstance(parameter, click.Argument):
        yield Case(f"{name}: {parameter.name}", [name, next(kinds)])
        return
    assert isinstance(parameter, click.Option)
    option = parameter.opts[-1]
    yield Case(f"{name}: {option}", [name, f"{option}={next(kinds)}", *needed])
    if not isinstance(parameter, SettingsOption):
        automatic = f"VERTEX_ENV_{name}_{parameter.name}".upper().replace("-", "_")
        variable = str(parameter.envvar or automatic)
        yield Case(variable, [name, *needed], {variable: next(kinds)})


def drive(every: Sequence[Case], folder: Path, *flags: str) -> dict[str, list[str]]:
    """By place, what each case says and what it leaves in files."""
    with sandboxed(folder) as (_, env):
        own = ("HOME", "VERTEX_ENV_CACHE_DIR", "VERTEX_ENV_CONFIG")
        sandbox = {name: value for name, value in env.items() if name not in own}
        # Else `run` would go on in another process, which has all its protection.
        more = {"GITLAB_CI": "true", "VERTEX_ENV_RUN_ON_EXPIRY": "ignore"}
        wanted = [
            {
                "home": str(folder / "homes"),
                "args": case.args,
                "environ": {**sandbox, **more, **case.environ},
                "config": case.config,
            }
            for case in every
        ]
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.misplaced", *flags],
            input=json.dumps(wanted), env=env, cwd=Path(__file__).parents[2], capture_output=True, text=True,
            check=False, timeout=600,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return dict(zip((case.place for case in every), json.loads(done.stdout), strict=True))


QUIET = {
    "export: --refresh",
    "token: --refresh",
    "endpoints: --all-locations",
    "logout: --all",
    "sandbox: --array-401",
    "use: profile",
    "use: an argument too many",
}
"""Flags: Click says of their values only that they take none. And `use`: it says only that its hook is needed."""


def is_in(said: Sequence[str]) -> bool:
    """Whether a part of what was pasted is."""
    return any(part in text for part in (BODY[:12], "-----BEGIN") for text in said)


@pytest.fixture(scope="module")
def every() -> list[Case]:
    found = list(cases())
    assert len({case.place for case in found}) == len(found)
    return found


def test_nothing_repeats_what_was_pasted(every: list[Case], tmp_path: Path) -> None:
    """Neither stderr nor stdout nor a file has it, nor a part of it; and something is said, in our form."""
    results = drive(every, tmp_path)
    assert {place: said for place, said in results.items() if is_in(said)} == {}
    assert [
        place
        for place, (said, _) in results.items()
        if "Traceback" in said or "this is a bug" in said
    ] == []


def test_without_protection_they_are_repeated(every: list[Case], tmp_path: Path) -> None:
    """The control: the same calls repeat it; a setting in one command at least, for not each command uses each."""
    results = drive(every, tmp_path, "--bare")
    settings = {f"--{option.name}" for option in OPTIONS}
    shown: dict[str, bool] = {}
    for place, said in results.items():
        option = place.rpartition(": ")[2]
        group = option if option in settings else place
        shown[group] = shown.get(group, False) or is_in(said)
    assert {group for group, is_shown in shown.items() if not is_shown} == QUIET


OPAQUE = "corp:7h3-key/0f+the=gateway"
"""A key that looks like nothing in particular."""


@pytest.mark.parametrize("flags", [(), ("--bare",)], ids=["protected", "bare"])
def test_values_of_variables_are_not_repeated(flags: tuple[str, ...], tmp_path: Path) -> None:
    """What is in OPENAI_API_KEY and the like is not repeated, whatever it looks like; the control shows it."""
    calls = [
        ["token", "--project", OPAQUE],
        [OPAQUE],
        [f"--{OPAQUE}"],
        ["run", OPAQUE],
        ["hook", OPAQUE],
    ]
    names = (
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "AIDER_OPENAI_API_KEY",
        "GITHUB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
    )
    every = [
        Case(f"{name} {call}", call, {name: OPAQUE})
        for name, call in zip(names, calls, strict=True)
    ]
    results = drive(every, tmp_path, *flags)
    assert [OPAQUE.partition("=")[0] in said for said, _ in results.values()] == [
        bool(flags)
    ] * len(every)


FILES = {
    "as it is": json.dumps(
        {"type": "authorized_user", "client_secret": f"d-{BODY}", "refresh_token": BODY}
    ),
    "in a string": json.dumps(json.dumps({"type": "authorized_user", "client_secret": BODY})),
    # {"type": "authorized_user", … over several lines, as base64 breaks it.
    "in base64": f"ewogICJ0eXBlIjogImF1dGhvcml6ZWRfdXNlciIs\n{BODY}\n{BODY}==\n",
}
"""What a credentials file has in it, where only its path belongs; its secrets look like nothing in particular."""


@pytest.mark.parametrize("flags", [(), ("--bare",)], ids=["protected", "bare"])
def test_the_content_of_a_credentials_file_is_not_repeated(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    """In place of its path, of a setting, and of an argument; the control shows it."""
    every = [
        Case(f"{place}, {kind}", args, environ)
        for kind, text in FILES.items()
        for place, args, environ in (
            ("GOOGLE_APPLICATION_CREDENTIALS", ["token"], {"GOOGLE_APPLICATION_CREDENTIALS": text}),
            ("GOOGLE_CLOUD_PROJECT", ["token"], {"GOOGLE_CLOUD_PROJECT": text}),
            ("--credentials", ["token", "--credentials", text], {}),
            ("--profile", ["status", "--profile", text], {}),
            ("too many", ["ci", text], {}),
            ("run", ["run", text], {}),
        )
    ]
    results = drive(every, tmp_path, *flags)
    assert {place for place, said in results.items() if is_in(said) is not bool(flags)} == set()


def test_a_template_for_a_credentials_file_is_no_secret() -> None:
    """A placeholder or a file's name is none."""
    assert not redaction.looks_secret('{{"refresh_token": "{token}"}}')
    assert not redaction.looks_secret("/home/me/client_secret.json")
