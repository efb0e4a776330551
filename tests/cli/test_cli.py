"""The command line: streams, exit statuses, help and formats, of the program run as a user runs it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from tests.support.loopback import clean_environ, run_cli
from tests.support.processes import (
    PROGRAM,
    Log,
    Process,
    Terminal,
    children,
    is_running,
    sandboxed,
    until,
)
from vertex_env.formats.table import FORMATS, TEXT_FORMATS
from vertex_env.sandbox.faults import Fault

COMMANDS = ("export", "ci", "token", "url", "run", "endpoints", "sandbox", "demo")
TWO_LINES = r"vertex-env: error: [^\n]+\nvertex-env: hint: [^\n]+\n"


# --- success ---


def test_a_url_is_one_line_and_mints_nothing(tmp_path: Path) -> None:
    """The line is that of `export`, which does mint: the control."""
    with sandboxed(tmp_path) as (google, env):
        done = run_cli("url", "--project", "other-project", "--api", "responses", env=env)
        base = f"{google.url}/v1/projects/other-project/locations/global"
        assert (done.status, done.stdout, done.stderr) == (0, f"{base}/publishers/openai/v1\n", "")
        plain = run_cli("url", env=env).stdout
        assert google.counts["token"] == 0
        exported = json.loads(run_cli("export", "--format", "json", env=env).stdout)
        assert plain == exported["OPENAI_BASE_URL"] + "\n"
        assert google.counts["token"] == 1


@pytest.mark.parametrize(
    "args", [("url",), ("url", "--api", "responses", "--model", "google/gemini-2.5-flash")]
)
def test_a_url_that_cannot_be_given(hour: dict[str, str], args: tuple[str, ...]) -> None:
    """stdout is empty, so that no half of one lands in a file."""
    env = {**hour, "GOOGLE_APPLICATION_CREDENTIALS": "/no/such", "GOOGLE_CLOUD_PROJECT": ""}
    done = run_cli(*args, env=env if args == ("url",) else hour)
    assert (done.status, done.stdout) == (78, "")
    assert re.fullmatch(TWO_LINES, done.stderr)


@pytest.mark.parametrize("way", ["option", "options", "variable", "config string", "config list"])
def test_two_clients(hour: dict[str, str], tmp_path: Path, way: str) -> None:
    """Named in any of the ways, both have their names set, that of the model as well."""
    config = tmp_path / "config.toml"
    config.write_text(
        '[profile.string]\nclient = "aider,shell-gpt"\n[profile.list]\nclient = ["aider", "shell-gpt"]\n'
    )
    more, env = {
        "option": (("--client", "aider,shell-gpt"), {}),
        "options": (("--client", "aider", "--client", "shell-gpt"), {}),
        "variable": ((), {"VERTEX_ENV_CLIENT": "aider,shell-gpt"}),
        "config string": (("--profile", "string"), {"VERTEX_ENV_CONFIG": str(config)}),
        "config list": (("--profile", "list"), {"VERTEX_ENV_CONFIG": str(config)}),
    }[way]
    env |= {"AIDER_MODEL": "gpt-5"}
    model = "google/gemini-2.5-flash"
    done = run_cli("export", "--format", "json", "--model", model, *more, env={**hour, **env})
    found = json.loads(done.stdout)
    assert (found["AIDER_MODEL"], found["DEFAULT_MODEL"]) == (f"openai/{model}", model)
    assert found["API_BASE_URL"] == found["AIDER_OPENAI_API_BASE"] == found["OPENAI_BASE_URL"]
    without = json.loads(run_cli("export", "--format", "json", "--model", model, env=hour).stdout)
    assert not {"AIDER_MODEL", "DEFAULT_MODEL"} & without.keys()


# --- commands of the hook ---


@pytest.mark.parametrize("command", ["use", "refresh", "off"])
def test_a_command_of_the_hook_has_help(hour: dict[str, str], command: str) -> None:
    """Without the hook as well."""
    done = run_cli(command, "--help", env=hour)
    assert (done.status, done.stderr) == (0, "")
    assert f"Usage: vertex-env {command}" in done.stdout
    assert "vertex-env hook --help" in done.stdout


@pytest.mark.parametrize("args", [("use", "work"), ("refresh",), ("off",)])
def test_a_command_of_the_hook_without_it(hour: dict[str, str], args: tuple[str, ...]) -> None:
    """It names the hook, and no hidden command; `--help` lists what it suggests."""
    done = run_cli(*args, env=hour)
    assert (done.status, done.stdout) == (2, "")
    assert re.fullmatch(TWO_LINES, done.stderr)
    assert "vertex-env hook" in done.stderr
    assert "keep-fresh" not in done.stderr


def test_a_misspelt_command(hour: dict[str, str]) -> None:
    """A hidden command is not suggested; one that is shown is: the control."""
    assert "keep" not in run_cli("keepfresh", env=hour).stderr.replace("'keepfresh'", "")
    near = run_cli("statu", env=hour).stderr
    assert "no such command 'statu'" in near
    assert ("'status'" in near) == hasattr(click.exceptions, "NoSuchCommand")  # Click 8.4 or newer


SUCCESSES = {
    **{f"export {name}": ("export", "--format", name) for name in TEXT_FORMATS},
    "export": ("export",),
    "token": ("token",),
    "refresh": ("token", "--refresh"),
    "url": ("url",),
    "endpoints": ("endpoints", "--location", "us-central1"),
    "all endpoints": ("endpoints", "--all-locations", "--format", "json"),
    "run": ("run", "--on-expiry", "restart", "--", "echo", "out"),
    "sandbox": ("sandbox", "--", "echo", "out"),
    "version": ("--version",),
    "help": ("--help",),
    **{f"help {name}": (name, "--help") for name in COMMANDS},
}


@pytest.mark.parametrize("name", SUCCESSES)
def test_what_works_is_quiet_and_reads_nothing(hour: dict[str, str], name: str) -> None:
    """Nothing on stderr, which tools read together with stdout; what is in stdin is still there for somebody else."""
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stdin:
        with os.fdopen(write, "wb") as pipe:
            pipe.write(b"data")
        done = run_cli(*SUCCESSES[name], env=hour, stdin=stdin)
        assert stdin.read() == b"data"
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.endswith("\n")


def options(text: str) -> dict[str, str]:
    """What a help page says, by option."""
    entries = re.split(
        r"^  (?:-\w, )?(--[a-z0-9-]+)", text.partition("Options:")[2], flags=re.MULTILINE
    )[1:]
    return dict(zip(entries[::2], entries[1::2], strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_variable_of_each_option(hour: dict[str, str], command: str) -> None:
    """Whoever sets something once and for all finds the name there."""
    said = options(run_cli(command, "--help", env=hour).stdout)
    assert "--help" in said
    for option, text in said.items():
        end = option.removeprefix("--").upper().replace("-", "_")
        expected = rf"VERTEX_ENV_(?:{command.upper()}_)?{end}\b"
        assert option == "--help" or re.search(expected, " ".join(text.split())), option


OWN_VARIABLES = {
    "VERTEX_ENV_TOKEN_FORMAT": ("header", ("token",), r"Authorization: Bearer ya29\."),
    "VERTEX_ENV_EXPORT_FORMAT": ("fish", ("export",), r"(?s).*set -gx OPENAI_API_KEY"),
    "VERTEX_ENV_ENDPOINTS_ALL_LOCATIONS": ("1", ("endpoints",), r"(?s)ID .*europe-west4"),
    "VERTEX_ENV_ENDPOINTS_FORMAT": ("json", ("endpoints", "--location", "us-central1"), r"\["),
    "VERTEX_ENV_RUN_ON_EXPIRY": (
        "ignore",
        ("run", "sh", "-c", "cat /proc/$PPID/cmdline"),
        r"(?!.*vertex_env\0run)",
    ),
    "VERTEX_ENV_SANDBOX_LIFETIME": (
        "90s",
        ("sandbox", "--", *PROGRAM, "token", "--format=json"),
        r'.*"expires_in": [89]\d',
    ),
    "VERTEX_ENV_SANDBOX_FAIL": (
        "1x503",
        ("sandbox", "--", "sh", "-c", f"{' '.join(PROGRAM)} token || echo failed"),
        "failed",
    ),
}


@pytest.mark.parametrize("name", OWN_VARIABLES)
def test_variables_of_options_work(hour: dict[str, str], name: str) -> None:
    """What the help page promises."""
    value, args, expected = OWN_VARIABLES[name]
    assert re.match(expected, run_cli(*args, env={**hour, name: value}).stdout)


@pytest.mark.parametrize("name", ["VERTEX_ENV_VERSION", "VERTEX_ENV_HELP", "VERTEX_ENV_TOKEN_HELP"])
def test_variables_of_nothing_do_nothing(hour: dict[str, str], name: str) -> None:
    """`VERTEX_ENV_VERSION=1.2` in a container must not turn each command into `--version`."""
    assert run_cli("token", env={**hour, name: "1"}).stdout.startswith("ya29.")


def test_formats_of_a_token(hour: dict[str, str]) -> None:
    """The token alone, a header to put into a file, or all that is known of it."""
    text, header, data = (
        run_cli("token", "--format", name, env=hour).stdout for name in ("text", "header", "json")
    )
    token = text.removesuffix("\n")
    assert re.fullmatch(r"ya29\.\S+", token)
    assert header == f"Authorization: Bearer {token}\n"
    fields = json.loads(data)
    assert fields.keys() == {"token", "token_type", "expiry", "expires_in"}
    assert (fields["token"], fields["token_type"]) == (token, "Bearer")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", fields["expiry"])
    left = (datetime.fromisoformat(fields["expiry"]) - datetime.now(UTC)).total_seconds()
    assert abs(left - fields["expires_in"]) < 60
    assert 3000 < left <= 3600


def test_a_shell_evaluates_what_is_exported(hour: dict[str, str]) -> None:
    """The variables arrive, what contradicts them goes, quoted or not."""
    env = {**hour, "OPENAI_ORG_ID": "mine"}
    for quoted in ('"$({} export)"', "$({} export)"):
        script = f"eval {quoted.format(' '.join(PROGRAM))}; echo ${{OPENAI_API_KEY%%-*}} ${{OPENAI_ORG_ID-unset}}"
        done = subprocess.run(
            ["sh", "-c", script], env=env, capture_output=True, text=True, check=True
        )
        assert (done.stdout, done.stderr) == ("ya29.sandbox unset\n", "")


# --- failure ---

USAGE = {
    "command": ("frob",),
    "option": ("--frob",),
    "option of a command": ("token", "--frob"),
    "argument": ("token", "frob"),
    "format": ("token", "--format", "yaml"),
    "export format": ("export", "--format", "yaml"),
    "no value": ("export", "--project"),
    "no command to run": ("run",),
    "policy": ("run", "--on-expiry", "frob", "--", "true"),
    "grace": ("run", "--grace", "soon", "--", "true"),
    "nothing for the sandbox": ("sandbox",),
    "fault": ("sandbox", "--fail", "frob", "--", "true"),
    "no fault": ("sandbox", "--fail", "0x503", "--", "true"),
    "fault that is none": ("sandbox", "--fail", "3x200", "--", "true"),
    "no refusal": ("sandbox", "--refuse", "2x200", "--", "true"),
    "delay": ("sandbox", "--delay", "frob", "--", "true"),
    "lifetime": ("sandbox", "--lifetime", "-1", "--", "true"),
    "argument of demo": ("demo", "frob"),
}


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage(hour: dict[str, str], name: str) -> None:
    """Status 2, one line that says what is wrong, one that says where to look."""
    done = run_cli(*USAGE[name], env=hour)
    assert done.status == 2
    assert done.stdout == ("false\n" if USAGE[name][0] == "export" else "")
    assert re.fullmatch(
        r"vertex-env: error: [^\n]+[^.\n]\nvertex-env: hint: see vertex-env( \w+)? --help\n",
        done.stderr,
    )


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of somebody whose login has expired."""
    with sandboxed(tmp_path_factory.mktemp("refusing"), faults=[Fault(1000, 400)]) as (_, env):
        yield env


Failure = tuple[tuple[str, ...], Mapping[str, str], int]
WRONG = {"VERTEX_ENV_LOCATION": "$(id)"}
FAILED_EXPORTS: Mapping[str, Failure] = {
    "refused": ((), {}, 77),
    "setting": ((), WRONG, 78),
    "credentials": ((), {"GOOGLE_APPLICATION_CREDENTIALS": "/no/such"}, 78),
    "usage": (("--frob",), {}, 2),
    "no value": (("--project",), {}, 2),
    "format": (("--format", "frob"), {}, 2),
    "variable": ((), {"VERTEX_ENV_EXPORT_FORMAT": "frob"}, 2),
    "fish": (("--format", "fish"), WRONG, 78),
    "fish by variable": ((), {**WRONG, "VERTEX_ENV_EXPORT_FORMAT": "fish"}, 78),
    "fish, not json": (("--format=fish",), {**WRONG, "VERTEX_ENV_EXPORT_FORMAT": "json"}, 78),
    "the last one counts": (("--format", "json", "--format", "sh"), WRONG, 78),
    "a project called so": (("--project", "--format", "json"), {}, 2),
}
FAILED_DATA: Mapping[str, Failure] = {
    "refused": (("--format", "json"), {}, 77),
    "setting": (("--format=dotenv",), WRONG, 78),
    "usage": (("--format=json", "--frob"), {}, 2),
    "json by variable": ((), {**WRONG, "VERTEX_ENV_EXPORT_FORMAT": "json"}, 78),
    "json, not fish": (("--format", "json"), {**WRONG, "VERTEX_ENV_EXPORT_FORMAT": "fish"}, 78),
}


@pytest.mark.parametrize("name", FAILED_EXPORTS)
def test_a_failed_export_is_the_command_false(refusing: dict[str, str], name: str) -> None:
    """An `eval` of nothing would succeed."""
    args, changed, status = FAILED_EXPORTS[name]
    done = run_cli("export", *args, env={**refusing, **changed})
    assert (done.status, done.stdout) == (status, "false\n")
    assert re.fullmatch(TWO_LINES, done.stderr)


@pytest.mark.parametrize("quote", ['"', ""])
@pytest.mark.parametrize("args", ["", "--frob"])
def test_a_failed_export_fails_where_it_is_evaluated(
    refusing: dict[str, str], quote: str, args: str
) -> None:
    """Quoted or not, `eval` has a status that a script can go by."""
    script = f"eval {quote}$({' '.join(PROGRAM)} export {args} 2>/dev/null){quote}"
    assert subprocess.run(["sh", "-c", script], env=refusing, check=False).returncode == 1


@pytest.mark.parametrize("name", FAILED_DATA)
def test_failed_data_is_empty(refusing: dict[str, str], name: str) -> None:
    """What is not evaluated stays empty."""
    args, changed, status = FAILED_DATA[name]
    done = run_cli("export", *args, env={**refusing, **changed})
    assert (done.status, done.stdout) == (status, "")
    assert re.fullmatch(TWO_LINES, done.stderr)


FLAGGED = """
import click, sys
from vertex_env.cli.main import execute
from vertex_env.cli.options import StatementsCommand
from vertex_env.cli.export import export
export.callback = lambda **options: sys.exit("not parsed")
export.params.append(click.Option(["--frob"], is_flag=True))
export.params.append(click.Option(["--times"], type=int))
sys.argv[1:], lenient = sys.argv[2:], sys.argv[1] == "lenient"
if not lenient:
    StatementsCommand.parse_leniently = lambda *_: None
sys.exit(execute(sys.argv[1:]))
"""
"""The program, whose `export` has two more options; without `lenient` what is wrong is not parsed a second time."""


def flagged(*args: str, lenient: bool = True) -> str:
    """What it prints, after a usage error at the end."""
    argv = [
        sys.executable,
        "-P",
        "-c",
        FLAGGED,
        "lenient" if lenient else "strict",
        *args,
        "--times",
        "many",
    ]
    done = subprocess.run(
        argv, env=clean_environ(Path("/nonexistent")), capture_output=True, text=True, check=False
    )
    assert re.fullmatch(TWO_LINES, done.stderr)
    assert done.returncode == 2
    return done.stdout


@pytest.mark.parametrize("before", [("export",), ("--verbose", "export")])
def test_what_is_evaluated_is_parsed_as_everything_is(before: tuple[str, ...]) -> None:
    """A new flag before the format takes no value, and a wrong option of the program is before the command."""
    for args in (
        ("--frob", "--format", "json"),
        ("--frob", "--format=dotenv"),
        ("--times", "2", "--format", "github"),
    ):
        assert flagged(*before, *args) == ""
        assert flagged(*before, *args, "--format", "fish") == "false\n"  # control
    assert flagged("export", "--format", "json", lenient=False) == "false\n"  # control
    assert flagged("--verbose", "token") == ""


@pytest.fixture(scope="module")
def unavailable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of somebody whose network has failed."""
    with sandboxed(tmp_path_factory.mktemp("unavailable"), faults=[Fault(1000, 503)]) as (_, env):
        yield env


HOOKS_CALLS = {
    "as in shell/": (("--format", "lines"), {}, True),
    "in one word": (("--format=lines",), {}, True),
    "by its variable": ((), {"VERTEX_ENV_EXPORT_FORMAT": "lines"}, True),
    "with a setting": (("--format", "lines", "--location", "global"), {}, False),
    "on refresh": (("--format", "lines", "--refresh"), {}, False),
    "another format": (("--format", "json"), {}, False),
}


@pytest.mark.parametrize("name", HOOKS_CALLS)
def test_a_hook_hears_of_no_network_only_when_a_person_asks(
    unavailable: dict[str, str], name: str
) -> None:
    """At each prompt it would be noise; `use`, `refresh` and a person's own call say it: the control."""
    args, more, quiet = HOOKS_CALLS[name]
    done = run_cli("export", *args, env={**unavailable, **more})
    assert (done.status, done.stdout) == (75, "")
    assert re.fullmatch("" if quiet else TWO_LINES, done.stderr)


INTERNAL = [row.name for row in FORMATS.values() if row.internal]


def test_internal_formats_are_not_named(hour: dict[str, str]) -> None:
    """Help and errors name the others; `SUCCESSES` has all of them, which are accepted."""
    assert INTERNAL == ["lines", "direnv"]
    shown = re.search(
        r"--format \[([^]]+)\]", " ".join(run_cli("export", "--help", env=hour).stdout.split())
    )
    error = run_cli("export", "--format", "yaml", env=hour).stderr
    said = re.findall(r"'(\w+)'", error.partition(" is not one of ")[2])
    assert shown is not None
    assert shown[1].replace(" ", "").split("|") == [
        name for name in FORMATS if name not in INTERNAL
    ]
    assert said == [name for name in FORMATS if name not in INTERNAL]


UNWRITABLE = {
    "token": ("token",),
    "export": ("export",),
    "failed export": ("export", "--frob"),
    "endpoints": ("endpoints", "--location", "us-central1"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_stdout_that_takes_nothing(hour: dict[str, str], name: str) -> None:
    """A full disk is told, in our words, and by the exit status: nobody takes what arrived for all of it."""
    with Path("/dev/full").open("w") as full:
        argv = [*PROGRAM, *UNWRITABLE[name]]
        done = subprocess.run(
            argv, env=hour, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert re.fullmatch(TWO_LINES, done.stderr)
    assert done.returncode == (2 if name == "failed export" else 75)


@pytest.mark.parametrize("name", ["token", "export", "endpoints"])
def test_stdout_that_is_closed(hour: dict[str, str], name: str) -> None:
    """The same for a stdout that does not exist."""
    script = 'exec "$@" >&-'
    argv = ["sh", "-c", script, "sh", *PROGRAM, *UNWRITABLE[name]]
    done = subprocess.run(argv, env=hour, stderr=subprocess.PIPE, text=True, check=False)
    assert re.fullmatch(TWO_LINES, done.stderr)
    assert done.returncode == 75


@pytest.mark.parametrize("name", ["token", "export", "endpoints", "help", "version"])
def test_a_reader_that_has_gone(hour: dict[str, str], name: str) -> None:
    """`vertex-env ... | head -c 0` is nobody's failure."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as pipe:
        argv = [*PROGRAM, *SUCCESSES[name]]
        done = subprocess.run(
            argv, env=hour, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("args", "status"), [(("token",), 0), (("token", "--frob"), 2), (("run", "--", "true"), 125)]
)
def test_a_closed_stderr(
    refusing: dict[str, str], hour: dict[str, str], args: tuple[str, ...], status: int
) -> None:
    """Nobody hears what is said; the exit status is the same."""
    env = refusing if args[0] == "run" else hour
    argv = ["sh", "-c", 'exec "$@" 2>&-', "sh", *PROGRAM, *args]
    assert (
        subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, check=False).returncode == status
    )


BREAK = """
import vertex_env.session
def broken(*_, **__):
    raise RuntimeError("ya29.planted-in-an-exception")
vertex_env.session.open_session = broken
"""


@pytest.mark.parametrize(
    "command", [("token",), ("export",), ("export", "--format=json"), ("run", "--", "echo", "out")]
)
def test_a_bug_of_ours(hour: dict[str, str], tmp_path: Path, command: tuple[str, ...]) -> None:
    """Status 70 and where to look; the exception's text, which may hold a token, is not shown."""
    (tmp_path / "sitecustomize.py").write_text(BREAK)
    broken = {
        "PYTHONPATH": f"{tmp_path}:{hour.get('PYTHONPATH', '')}",
        "VERTEX_ENV_CACHE_DIR": str(tmp_path / "empty"),
    }
    done = run_cli(*command, env={**hour, **broken})
    assert (done.status, done.stdout) == (70, "false\n" if command == ("export",) else "")
    assert re.fullmatch(TWO_LINES, done.stderr)
    assert re.match("vertex-env: error: this is a bug: RuntimeError at ", done.stderr)
    assert "planted" not in done.stderr


@pytest.mark.parametrize("command", [("token",), ("export",), ("run", "--", "echo", "out")])
def test_ctrl_c_while_minting(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Status 130 at once, nothing half done, no process left behind, not a word; `run` ends by the signal, as bare."""
    with (
        sandboxed(tmp_path, delay_s=60) as (google, env),
        Process([*PROGRAM, *command], env, tmp_path) as process,
    ):
        until(lambda: google.counts["token"])
        helpers = children(process.pid)
        assert len(helpers) == (command[0] == "run")
        process.send(signal.SIGINT)
        assert process.status() == (-signal.SIGINT if command[0] == "run" else 130)
        assert (process.stdout, process.stderr.strip()) == (
            "false\n" if command == ("export",) else "",
            "",
        )
        until(lambda: not any(map(is_running, helpers)))


# --- the sandbox ---


@pytest.fixture
def tidy(hour: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose folder for temporary files has to be empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    yield {**hour, "TMPDIR": str(folder)}
    until(lambda: not list(folder.iterdir()))


@pytest.mark.parametrize(
    ("script", "status"), [("exit 9", 9), ("kill -TERM $$", -15), ("kill -KILL $$", -9)]
)
def test_the_sandbox_ends_as_the_command(tidy: dict[str, str], script: str, status: int) -> None:
    """Exit status or signal, and nothing stays on the disk."""
    assert run_cli("sandbox", "--", "sh", "-c", script, env=tidy).status == status


CHATS = """
import json, os, urllib.error, urllib.request
google = os.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"]

token = ""

def ask(path, **body):
    request = urllib.request.Request(google + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    request.add_header("Authorization", "Bearer " + token)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)

told = []
for token in ("garbage", *[ask("token", grant_type="refresh_token", refresh_token="fake")[1]["access_token"]] * 3):
    status, body = ask("v1/projects/p/locations/global/endpoints/openapi/chat/completions", model="google/g")
    told.append([status, type(body).__name__])
print(json.dumps(told))
"""
"""Asks with a wrong token, then three times with a good one; prints status and type each time."""


@pytest.mark.parametrize(("options", "first"), [((), "dict"), (("--array-401",), "list")])
def test_the_sandbox_refuses_chats_as_told(
    tidy: dict[str, str], options: tuple[str, ...], first: str
) -> None:
    """So often, in the shapes that Google's endpoint has."""
    done = run_cli(
        "sandbox",
        "--refuse",
        "429",
        "--refuse",
        "403",
        *options,
        "--",
        sys.executable,
        "-c",
        CHATS,
        env=tidy,
    )
    assert (done.status, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [[401, first], [429, "list"], [403, "list"], [200, "dict"]]


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1"])
def test_the_sandbox_passes_signals_on(tidy: dict[str, str], tmp_path: Path, name: str) -> None:
    """The command ends as it likes; then the sandbox is tidied up, too."""
    log = Log(tmp_path)
    with Process([*PROGRAM, "sandbox", "--", *log.probe()], tidy, tmp_path) as process:
        log.start()
        process.send(signal.Signals[f"SIG{name}"])
        until(log.signals)
        if name == "USR1":
            process.send(signal.SIGTERM)
        assert process.status() == 128 + signal.Signals[f"SIG{'TERM' if name == 'USR1' else name}"]
        assert log.signals() == (["USR1", "TERM"] if name == "USR1" else [name])


def test_ctrl_c_in_the_sandbox(tidy: dict[str, str], tmp_path: Path) -> None:
    """The terminal tells the command itself: one SIGINT."""
    log = Log(tmp_path)
    with Terminal([*PROGRAM, "sandbox", "--", *log.probe("stubborn")], tidy) as terminal:
        log.start()
        terminal.type("\x03")
        until(log.signals)
        os.kill(terminal.job, signal.SIGUSR2)
        until(lambda: "USR2" in log.signals())
        assert log.signals() == ["INT", "USR2"]
        os.kill(terminal.job, signal.SIGHUP)
        os.kill(log.start()["pid"], signal.SIGKILL)
        assert terminal.report()["status"] == -signal.SIGKILL


@pytest.mark.parametrize(("command", "status"), [("nosuch", 127), ("/", 126)])
def test_a_command_that_the_sandbox_cannot_run(
    tidy: dict[str, str], command: str, status: int
) -> None:
    """As with `run`."""
    done = run_cli("sandbox", "--", command, env=tidy)
    assert (done.status, done.stdout) == (status, "")
    assert re.fullmatch(TWO_LINES, done.stderr)


def test_the_sandbox_is_as_asked_for(tidy: dict[str, str]) -> None:
    """Two failures, then tokens of the given life, each after the given delay."""
    ask = f"{' '.join(PROGRAM)} token --format json"
    script = (
        f"{ask} 2>/dev/null; echo $?; {ask} 2>/dev/null; echo $?; date +%s%N; {ask}; date +%s%N"
    )
    args = ("--fail", "503", "--fail", "1x400", "--lifetime", "2m", "--delay", "0.3s")
    first, second, before, data, after = run_cli(
        "sandbox", *args, "--", "sh", "-c", script, env=tidy
    ).stdout.split("\n")[:5]
    assert (first, second) == ("75", "77")
    assert 60 < json.loads(data)["expires_in"] <= 120
    assert int(after) - int(before) > 0.3e9


def test_the_sandbox_hides_what_there_is_of_google(tidy: dict[str, str]) -> None:
    """The user's own settings and keys do not get in: they might be real."""
    foreign = {
        "GOOGLE_CLOUD_PROJECT": "real",
        "VERTEX_ENV_LOCATION": "real",
        "OPENAI_API_KEY": "real",
        "KEPT": "real",
    }
    done = run_cli("sandbox", "--", "env", env={**tidy, **foreign})
    assert [line for line in done.stdout.splitlines() if line.endswith("=real")] == ["KEPT=real"]


@pytest.mark.parametrize("args", [("--help",), ("--version",), ("export", "--help")])
def test_help_on_a_full_disk(hour: dict[str, str], args: tuple[str, ...]) -> None:
    """Not a bug of ours."""
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        done = subprocess.run(
            [*PROGRAM, *args], env=hour, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 75
    assert done.stderr.startswith("vertex-env: error: cannot write to stdout: ")


def test_a_path_with_a_line_break_stays_on_its_line(tmp_path: Path) -> None:
    """Nor does it reach the terminal as a command."""
    env = clean_environ(tmp_path) | {"CLOUDSDK_CONFIG": "/nowhere/a\nb\x1b[31m"}
    done = run_cli("token", env=env)
    assert done.status == 78
    assert re.fullmatch(TWO_LINES, done.stderr)
    assert "/nowhere/a\\nb\\x1b[31m" in done.stderr


def test_the_sandbox_refuses_tokens_without_a_life(hour: dict[str, str]) -> None:
    """They would be of no use, and `0s` is most likely meant otherwise."""
    done = run_cli("sandbox", "--lifetime", "0s", "--", "true", env=hour)
    assert (done.status, done.stdout) == (2, "")
