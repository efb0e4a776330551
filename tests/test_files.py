"""What is no regular file in the place of one: nothing hangs, nothing fills the memory, and stdin is not read."""

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.loopback import run_cli
from tests.support.processes import PROGRAM, sandboxed
from tests.support.shells import POSIX_SHELLS, Shell, settle, source
from tests.support.tools import need
from vertex_env.files import MAX_BYTES, is_descriptor, is_pipe, read_file, read_pipe

SETTINGS = b'[profile.p]\nproject = "p"\n'
NOT_REGULAR = "it is not a regular file"


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_stdin(path: Path) -> None:
    path.symlink_to("/dev/stdin")


def make_socket(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as listening, chdir(path.parent):
        listening.bind(path.name)  # the whole path may be too long


@contextmanager
def chdir(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


PLACES: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "pipe": (make_fifo, NOT_REGULAR),
    "device": (make_zero, NOT_REGULAR),
    "stdin": (make_stdin, NOT_REGULAR),
    "socket": (make_socket, NOT_REGULAR),
    "folder": (Path.mkdir, "Is a directory"),
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A path with something else than a file, and what is said of it."""
    make, said = PLACES[request.param]
    path = tmp_path / "config"
    make(path)
    return path, said


# --- the reader ---


def test_not_a_file(place: tuple[Path, str]) -> None:
    path, said = place
    with pytest.raises(OSError, match=said):
        read_file(path)


@pytest.mark.parametrize("make", [make_fifo, make_zero])
def test_control_a_plain_read_does_not_end(make: Callable[[Path], None], tmp_path: Path) -> None:
    """The control: Python's own read hangs or takes all the memory that it may have."""
    make(tmp_path / "config")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))"
    read = f"{limit}; open({str(tmp_path / 'config')!r}, 'rb').read()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", read], capture_output=True, timeout=3, check=False
        )
    except subprocess.TimeoutExpired:
        assert make is make_fifo
    else:
        assert b"MemoryError" in done.stderr


def test_who_waits_to_write_to_a_pipe_goes_on_waiting(tmp_path: Path) -> None:
    """To look at a pipe must not wake the program at its other end."""
    make_fifo(tmp_path / "pipe")
    with subprocess.Popen(["sh", "-c", f"echo x >{shlex.quote(str(tmp_path / 'pipe'))}"]) as writer:
        time.sleep(0.2)
        with pytest.raises(OSError, match=NOT_REGULAR):
            read_file(tmp_path / "pipe")
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(0.2)
        assert (tmp_path / "pipe").read_text() == "x\n"


def test_size(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * MAX_BYTES)
    assert len(read_file(file)) == MAX_BYTES
    file.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(OSError, match="it is too large"):
        read_file(file)


def test_links_are_followed(tmp_path: Path) -> None:
    """As managers of dotfiles make them."""
    (tmp_path / "file").write_bytes(SETTINGS)
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "another").symlink_to(tmp_path / "link")
    assert read_file(tmp_path / "another") == SETTINGS
    assert not is_descriptor(tmp_path / "another")


@pytest.mark.parametrize(
    "name", ["/dev/stdin", "/dev/fd/7", "/proc/self/fd/0", "/dev/../dev/stdout"]
)
def test_descriptors(name: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(name)
    assert is_descriptor(Path(name))
    assert is_descriptor(tmp_path / "link")


# --- the reader of pipes ---


def test_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    """The writer may come late and write in pieces."""
    pipe = tmp_path / "pipe"
    make_fifo(pipe)
    with subprocess.Popen(
        ["sh", "-c", f"sleep 0.2; (echo one; sleep 0.2; echo two) >{shlex.quote(str(pipe))}"]
    ):
        assert is_pipe(pipe)
        assert read_pipe(pipe, 10) == b"one\ntwo\n"


@pytest.mark.parametrize("has_writer", [False, True])
def test_pipe_without_an_end(*, has_writer: bool, tmp_path: Path) -> None:
    make_fifo(tmp_path / "pipe")
    held = os.open(tmp_path / "pipe", os.O_RDWR) if has_writer else -1
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"its end did not come within 0\.2 s"):
        read_pipe(tmp_path / "pipe", 0.2)
    assert 0.15 < time.monotonic() - started < 1
    if has_writer:
        os.close(held)


def test_pipe_that_brings_too_much() -> None:
    reading, writing = os.pipe()

    def write() -> None:
        os.write(writing, b"x" * (2 * MAX_BYTES))
        os.close(writing)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    with pytest.raises(OSError, match="it is too large"):
        read_pipe(Path(f"/dev/fd/{reading}"), 10)
    while os.read(reading, 1 << 16):
        pass  # until it is closed: a thread that is alive need not write any more
    thread.join()
    os.close(reading)


def test_file_behind_a_descriptor(tmp_path: Path) -> None:
    """A shell may have put a here-document into a file without a name."""
    (tmp_path / "file").write_bytes(SETTINGS)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    assert is_pipe(Path(f"/dev/fd/{fd}"))
    assert read_pipe(Path(f"/dev/fd/{fd}"), 1) == SETTINGS
    os.close(fd)


# --- settings ---


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A login on a sandbox."""
    with sandboxed(tmp_path / "login") as (_, env):
        yield env


def test_config(place: tuple[Path, str], env: dict[str, str]) -> None:
    """config.toml that is no file is an error that names it; what is on stdin stays there."""
    path, said = place
    reading, writing = os.pipe()
    os.write(writing, SETTINGS)
    ended = run_cli("token", env=env | {"VERTEX_ENV_CONFIG": str(path)}, stdin=reading, timeout=20)
    os.close(writing)
    assert os.read(reading, 1000) == SETTINGS
    os.close(reading)
    assert (ended.status, ended.stdout) == (78, "")
    assert ended.stderr == (
        f"vertex-env: error: cannot read {path}: {said}\n"
        f"vertex-env: hint: check the file, or move it away: ls -ld {path}\n"
    )


@pytest.mark.parametrize("name", ["active_config", "configurations/config_default"])
def test_gclouds_files(name: str, place: tuple[Path, str], env: dict[str, str]) -> None:
    """They count as absent: gcloud itself says what is wrong with them."""
    file = Path(env["CLOUDSDK_CONFIG"], name)
    file.parent.mkdir(exist_ok=True)
    place[0].rename(file)
    ended = run_cli("token", env=env, timeout=20)
    assert (ended.status, ended.stderr) == (0, "")


@pytest.mark.parametrize("name", POSIX_SHELLS)
@pytest.mark.parametrize("variable", ["VERTEX_ENV_CONFIG", "GOOGLE_APPLICATION_CREDENTIALS"])
def test_shell_starts(name: str, variable: str, tmp_path: Path) -> None:
    """A pipe in the place of a file does not keep a shell with the hook from its prompt."""
    make_fifo(tmp_path / "pipe")
    with settle(tmp_path) as home:
        started = time.monotonic()
        with Shell(name, home.env | {variable: str(tmp_path / "pipe")}, source(name)) as sh:
            assert time.monotonic() - started < 8
            assert str(tmp_path / "pipe") in sh.start
            assert "vertex-env: hint: " in sh.start
            assert sh.value("OPENAI_API_KEY") == "unset"


# --- credentials from a pipe ---


@pytest.fixture
def key(env: dict[str, str]) -> str:
    """The command that shows the login's credentials, as `sops -d` would."""
    return f"cat {shlex.quote(env.pop('GOOGLE_APPLICATION_CREDENTIALS'))}"


def in_bash(command: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    done = ["bash", "--norc", "-c", command]
    return subprocess.run(
        [need("bash"), *done[1:]], env=env, capture_output=True, text=True, timeout=40, check=False
    )


def vertex_env(*args: str) -> str:
    return shlex.join((*PROGRAM, *args))


def kept(env: Mapping[str, str]) -> list[str]:
    """What is left in the folder of the store, but for locks."""
    folder = Path(env["VERTEX_ENV_CACHE_DIR"])
    return (
        [path.name for path in folder.glob("*") if not path.name.startswith("lock-")]
        if folder.exists()
        else []
    )


@pytest.mark.parametrize(
    "args",
    [
        ("token",),
        ("export",),
        ("export", "--format", "json"),
        ("token", "--store", "file"),
        ("endpoints",),
    ],
    ids=" ".join,
)
def test_one_read_is_enough(args: tuple[str, ...], key: str, env: dict[str, str]) -> None:
    """Credentials that a command decrypts make a token, and nothing is kept of it."""
    program = f"{vertex_env(*args)} --location us-central1"
    done = in_bash(f"f() {{ GOOGLE_APPLICATION_CREDENTIALS=$1 {program}; }}; f <({key})", env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    assert kept(env) == []


def test_control_a_file_is_kept(key: str, env: dict[str, str]) -> None:
    """The control: of the same credentials in a file, token and answer are kept."""
    file = key.removeprefix("cat ")
    assert in_bash(f"{vertex_env('token', '--credentials', file)}", env).returncode == 0
    assert {name.rpartition(".")[2] for name in kept(env)} >= {"token"}


def test_option(key: str, env: dict[str, str]) -> None:
    done = in_bash(f"{vertex_env('token')} --credentials <({key})", env)
    assert (done.returncode, done.stderr) == (0, "")
    status = in_bash(f"{vertex_env('status', '--format', 'json')} --credentials <({key})", env)
    store = json.loads(status.stdout)["settings"]["store"]
    assert (store["value"], store["source"].rpartition(", ")[2]) == ("none", "a pipe")


def test_named_pipe(key: str, env: dict[str, str], tmp_path: Path) -> None:
    make_fifo(tmp_path / "pipe")
    pipe = shlex.quote(str(tmp_path / "pipe"))
    done = in_bash(f"{key} >{pipe} & {vertex_env('token')} --credentials {pipe}", env)
    assert (done.returncode, done.stderr, kept(env)) == (0, "", [])


def test_run_in_place(key: str, env: dict[str, str]) -> None:
    """The command gets its one token, and is not started anew."""
    command = vertex_env("run", "--on-expiry", "ignore", "--credentials")
    done = in_bash(f"{command} <({key}) -- printenv OPENAI_API_KEY", env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    assert kept(env) == []


CURE = (
    """vertex-env: hint: write the credentials to a file, or use: eval "$(vertex-env export)"\n"""
)


@pytest.mark.parametrize(
    ("args", "rest", "reason", "status"),
    [
        (("run",), " -- true", "run renews the token (not so with --on-expiry ignore)", 125),
        (
            ("run", "--on-expiry", "restart"),
            " -- true",
            "run renews the token (not so with --on-expiry ignore)",
            125,
        ),
        (("ci", "--job-timeout", "30m"), "", "the steps of a long job renew the token", 78),
        (("export", "--format", "lines"), "", "the shell's hook renews the token", 78),
        (("export", "--format", "direnv"), "", "direnv renews the token", 78),
        (("export", "--format", "circleci"), "", "each step of the job reads it", 78),
        (("ci",), "", "what the job evaluates reads it again", 78),
        (("export", "--format", "jenkins"), "", "what the job evaluates reads it again", 78),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_reads_again_refuses(
    args: tuple[str, ...], rest: str, reason: str, status: int, key: str, env: dict[str, str]
) -> None:
    """What has to read the credentials later says so at once, and does not read them now."""
    env |= {"GITLAB_CI": "true"} if args[0] == "ci" else {}
    done = in_bash(f"{vertex_env(*args)} --credentials <({key}){rest}", env)
    assert done.returncode == status
    assert f" is a pipe, which can be read only once, but {reason}\n{CURE}" in done.stderr
    assert "OPENAI_API_KEY" not in done.stdout
    assert kept(env) == []


def test_control_a_file_is_taken_by_these(key: str, env: dict[str, str]) -> None:
    """The control: with a file each of them works."""
    file = key.removeprefix("cat ")
    for command in (
        "run {} -- true",
        "ci --job-timeout 30m {}",
        "ci {}",
        "export --format jenkins {}",
        "export --format lines {}",
        "export --format direnv {}",
    ):
        name, *args = command.format(f"--credentials {file}").split()
        assert in_bash(vertex_env(name, *args), env | {"GITLAB_CI": "true"}).returncode == 0, (
            command
        )


def test_stdin_is_not_for_credentials(key: str, env: dict[str, str]) -> None:
    """A script that is piped into a shell would lose its next lines."""
    done = in_bash(f"{key} | ({vertex_env('token')} --credentials /dev/stdin; cat)", env)
    assert "cannot be read: stdin is never read\n" in done.stderr
    assert json.loads(done.stdout)["type"]  # all of it was still there


def test_second_read(key: str, env: dict[str, str]) -> None:
    """What has been read once is told from an empty file."""
    done = in_bash(
        f"f() {{ cat $1 >/dev/null; {vertex_env('token')} --credentials $1; }}; f <({key})", env
    )
    assert "is empty: it is a pipe, which can be read only once\n" in done.stderr
    assert done.returncode == 78
