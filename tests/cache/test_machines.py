"""Machines with one home folder whose identity is their own: real host names and boots, in namespaces."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.credentials.test_adc import IMDS
from tests.support import loopback as google
from tests.support.answers import Answers, Handler, Reply
from tests.support.loopback import Completed, Info, clean_environ, write_adc
from tests.support.tools import need_namespaces
from vertex_env import program
from vertex_env.credentials.read import Adc, read_adc

START = "from vertex_env.entry import main; main()"
WITHOUT = "from vertex_env import program; program.machine = lambda: ''; "
"""Takes away what tells machines apart, from question and key."""

BECOME = """\
import os, pathlib, socket, subprocess, sys
what, value, folder, *command = sys.argv[1:]
if what == "name":
    socket.sethostname(value)
else:
    boot = pathlib.Path(folder, "boot-" + value)
    boot.write_text(value + "\\n")
    subprocess.run(["mount", "--bind", boot, "/proc/sys/kernel/random/boot_id"], check=True)
os.execv(command[0], command)
"""


def by_subject(handler: Handler) -> None:
    """The exchange: each subject gets a token of its own name."""
    subject = handler.server.asked[-1].fields["subject_token"]
    known = next((name for name in ("alice", "bob") if name in subject), "nobody")
    handler.send(Reply(body={"access_token": f"ya29.{known}", "expires_in": 3599}))


@pytest.fixture
def answers() -> Iterator[Answers]:
    """What a cloud's own server says, which is not the same on each machine, and the exchange."""
    with Answers({**IMDS, "/v1/token": by_subject}) as answers:
        become(answers, "alice")
        yield answers


def become(answers: Answers, subject: str) -> None:
    """Let the machine be *subject* from now on."""
    answers.routes["/subject"] = Reply(body=subject)
    keys = {"AccessKeyId": subject, "SecretAccessKey": "fake-secret", "Token": "fake-session"}
    answers.routes["/latest/meta-data/iam/security-credentials/fake-role"] = Reply(body=keys)


def command_of(folder: Path, answers: Answers, arguments: str = "") -> str:
    """The command of a program that gives whatever the machine, or `$SUBJECT`, is."""
    file = folder / "program.py"
    file.write_text(
        "import json, os, urllib.request\n"
        f"subject = os.environ.get('SUBJECT') or urllib.request.urlopen({answers.url + '/subject'!r}).read().decode()\n"
        "kind = 'urn:ietf:params:oauth:token-type:jwt'\n"
        "print(json.dumps({'version': 1, 'success': True, 'token_type': kind, 'id_token': subject}))\n"
    )
    return f"{sys.executable} {file} {arguments}"


Build = Callable[[Path, Answers], Info]
KINDS: dict[str, Build] = {
    "url": lambda _, answers: google.external_account_url(answers.url),
    "aws": lambda _, answers: google.external_account_aws(answers.url),
    "executable": lambda folder, answers: google.external_account_executable(
        command_of(folder, answers), answers.url
    ),
    "impersonating url": lambda _, answers: google.impersonated_service_account(
        google.external_account_url(answers.url)
    ),
}


def login(folder: Path, info: Info) -> dict[str, str]:
    """The environment of a login with the credentials *info*."""
    named = {
        "GOOGLE_APPLICATION_CREDENTIALS": str(write_adc(folder / "adc.json", info)),
        "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1",
        "GOOGLE_CLOUD_PROJECT": "sandbox-project",
    }
    return clean_environ(folder / "home") | named


def ask(
    env: dict[str, str], code: str = START, prefix: tuple[str, ...] = (), cwd: Path = Path("/")
) -> Completed:
    """`vertex-env token`, as its console script starts it."""
    command = [*prefix, sys.executable, "-P", "-c", code, "token"]
    ended = subprocess.run(command, env=env, cwd=cwd, capture_output=True, timeout=60, check=False)
    return Completed(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def machine(what: str, value: str, folder: Path) -> tuple[str, ...]:
    """The words before a command for a machine whose *what*, `name` or `boot`, is *value*."""
    return (*need_namespaces("-u", "-m"), sys.executable, "-c", BECOME, what, value, str(folder))


@pytest.mark.parametrize(
    ("kind", "what"), [("url", "name"), ("url", "boot"), ("aws", "boot"), ("executable", "name")]
)
def test_another_machine_has_another_token(
    kind: str, what: str, tmp_path: Path, answers: Answers
) -> None:
    """The credentials file is the same and so is the home folder; the second machine gets its own token.

    The first goes on with its token, which it does not ask for again.
    """
    env = login(tmp_path, KINDS[kind](tmp_path, answers))
    here, there = (machine(what, value, tmp_path) for value in ("one", "two"))
    given = []
    for subject, prefix in (
        ("alice", here),
        ("alice", here),
        ("bob", there),
        ("bob", there),
        ("nobody", here),
    ):
        become(answers, subject)
        given.append(ask(env, prefix=prefix))
    assert [one.stderr for one in given] == [""] * 5
    assert [one.stdout for one in given] == [
        "ya29.alice\n",
        "ya29.alice\n",
        "ya29.bob\n",
        "ya29.bob\n",
        "ya29.alice\n",
    ]
    assert sum(one.path == "/v1/token" for one in answers.asked) == 2


@pytest.mark.parametrize(
    ("kind", "what"), [("url", "name"), ("url", "boot"), ("aws", "boot"), ("executable", "name")]
)
def test_control_without_the_machine(
    kind: str, what: str, tmp_path: Path, answers: Answers
) -> None:
    """The same drive where nothing tells machines apart: the second has the first one's token."""
    env = login(tmp_path, KINDS[kind](tmp_path, answers))
    given = []
    for subject, value in (("alice", "one"), ("bob", "two")):
        become(answers, subject)
        given.append(ask(env, WITHOUT + START, machine(what, value, tmp_path)).stdout)
    assert given == ["ya29.alice\n", "ya29.alice\n"]


# --- programs that answer by a variable ---


@pytest.mark.parametrize(
    "arguments", ["$SUBJECT", "${SUBJECT}", "--from=SUBJECT", "--from SUBJECT", "'a \"$SUBJECT\"'"]
)
def test_a_variable_in_the_command(arguments: str, tmp_path: Path, answers: Answers) -> None:
    """Each value has a token of its own; what the first one got is kept meanwhile."""
    info = google.external_account_executable(command_of(tmp_path, answers, arguments), answers.url)
    env = login(tmp_path, info)
    given = [ask(env | {"SUBJECT": subject}).stdout for subject in ("alice", "bob", "alice")]
    assert given == ["ya29.alice\n", "ya29.bob\n", "ya29.alice\n"]
    assert sum(one.path == "/v1/token" for one in answers.asked) == 2


def test_control_a_variable_that_is_not_in_the_command(tmp_path: Path, answers: Answers) -> None:
    """This cannot be known: it wants `--store none`, as the README says."""
    env = login(
        tmp_path, google.external_account_executable(command_of(tmp_path, answers), answers.url)
    )
    assert [ask(env | {"SUBJECT": subject}).stdout for subject in ("alice", "bob")] == [
        "ya29.alice\n"
    ] * 2
    env["VERTEX_ENV_STORE"] = "none"
    given = [ask(env | {"SUBJECT": subject}).stdout for subject in ("alice", "bob")]
    assert given == ["ya29.alice\n", "ya29.bob\n"]


# --- programs that another folder has, too ---

BLIND = "from vertex_env.credentials import fingerprint as f; f._files_of_command = lambda *_: []; "
"""Takes away what tells one folder's program from another's."""


@pytest.mark.parametrize("command", ["./get", "get", "sh get"])
@pytest.mark.parametrize("code", [START, BLIND + START], ids=["protected", "bare"])
def test_a_program_of_the_folder(command: str, code: str, tmp_path: Path, answers: Answers) -> None:
    """The command names it without its folder, or PATH finds it. Control: without the check, the first one's token."""
    env = login(tmp_path, google.external_account_executable(command, answers.url))
    for name in ("alice", "bob"):
        answer = {
            "version": 1,
            "success": True,
            "token_type": "urn:ietf:params:oauth:token-type:jwt",
            "id_token": name,
        }
        (tmp_path / name).mkdir()
        file = tmp_path / name / "get"
        file.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
        file.chmod(0o700)
    path = env["PATH"]
    given = [
        ask(env | {"PATH": f"{tmp_path / name}:{path}"}, code, cwd=tmp_path / name).stdout
        for name in ("alice", "bob")
    ]
    assert given == ["ya29.alice\n", "ya29.bob\n" if code == START else "ya29.alice\n"]


# --- which credentials are a machine's own ---


def found(folder: Path, info: Info, machine: str, monkeypatch: pytest.MonkeyPatch) -> Adc:
    monkeypatch.setattr(program, "machine", lambda: machine)
    return read_adc(write_adc(folder / "adc.json", info), "a test", os.environ)


@pytest.mark.parametrize("kind", KINDS)
def test_own(kind: str, tmp_path: Path, answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a fingerprint for each machine, and says so."""
    info = KINDS[kind](tmp_path, answers)
    first, second, again = (
        found(tmp_path, info, one, monkeypatch) for one in ("one", "two", "one")
    )
    assert first.fingerprint == again.fingerprint != second.fingerprint
    assert first.of_machine


@pytest.mark.parametrize("kind", ["user", "key", "file", "certificate"])
def test_not_own(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """These are the same everywhere: one request serves all machines."""
    (tmp_path / "subject").write_text("alice")
    build: dict[str, Callable[[], Info]] = {
        "user": google.authorized_user,
        "key": google.service_account,
        "file": lambda: google.external_account_file(tmp_path / "subject"),
        "certificate": lambda: google.external_account_x509(tmp_path),
    }
    info = build[kind]()
    first, second = (found(tmp_path, info, one, monkeypatch) for one in ("one", "two"))
    assert first.fingerprint == second.fingerprint
    assert not first.of_machine


def test_machine_is_this_one() -> None:
    """The name and the boot, as the system gives them."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    assert (
        program.machine()
        == f"{os.uname().nodename} {boot.read_text().strip() if boot.exists() else ''}"
    )
