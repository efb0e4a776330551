"""`run` ended early, ended hard, ended by a signal that is sent to process 1, short of descriptors, and beside sudo.

The process that mints for it ends with it.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.support.loopback import external_account_executable, run_cli, write_adc
from tests.support.processes import RUN, Log, Process, children, is_running, sandboxed, until
from tests.support.tools import need, need_namespaces
from vertex_env.program import is_linux

COLD = {"VERTEX_ENV_STORE": "none"}
"""What makes `run` ask a process of its own for the first token, too."""
SLOW = 60.0
"""Seconds that the sandbox waits before each token: longer than any of these tests takes."""

_UNTIE = "from vertex_env import entry, program; program.PARENT = '_UNUSED'; entry.main()"
UNTIED = (sys.executable, "-P", "-c", _UNTIE, "run")
"""`run` that does not tell the process that mints whom it must not outlive."""


def helper_of(pid: int) -> int:
    """The process that mints for `run`, as soon as there is one."""

    def minting() -> list[int]:
        return [
            child
            for child in children(pid)
            if b"export" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]

    return until(minting)[0]


@contextmanager
def first_mint(folder: Path, run: tuple[str, ...] = RUN) -> Iterator[tuple[Process, int]]:
    """A `run` that waits for its first token, and the process that mints."""
    command = [*run, "--", "touch", "started"]
    with (
        sandboxed(folder, delay_s=SLOW) as (_, env),
        Process(command, {**env, **COLD}, folder) as process,
    ):
        yield process, helper_of(process.pid)
        assert not (folder / "started").exists()


# --- the first token ---


@pytest.mark.parametrize("when", ["early", "late"])
@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "KILL", "USR1"])
def test_a_slow_first_token_does_not_outlive_run(tmp_path: Path, name: str, when: str) -> None:
    """A signal ends `run` at once, as that signal; the process that mints goes with it, also if we are killed."""
    with first_mint(tmp_path) as (process, helper):
        time.sleep(0 if when == "early" else 0.5)
        process.send(signal.Signals[f"SIG{name}"])
        assert process.status() == -signal.Signals[f"SIG{name}"]
        until(lambda: not is_running(helper), 5)
        assert process.stderr == ""


def test_a_process_that_mints_would_outlive_us(tmp_path: Path) -> None:
    """The control: it goes on where it was not told whom it must not outlive."""
    with first_mint(tmp_path, UNTIED) as (process, helper):
        time.sleep(0.5)
        process.send(signal.SIGKILL)
        process.status()
        time.sleep(0.5)
        assert is_running(helper)


def test_what_is_ignored_does_not_end_the_first_mint(tmp_path: Path) -> None:
    """Under `nohup` a SIGHUP does nothing, then as later."""
    script = 'trap "" HUP; exec "$@"'
    with first_mint(tmp_path, ("sh", "-c", script, "sh", *RUN)) as (process, helper):
        process.send(signal.SIGHUP)
        time.sleep(0.5)
        assert is_running(helper)
        process.send(signal.SIGTERM)
        assert process.status() == -signal.SIGTERM


def test_a_dead_parent_is_noticed_at_the_start(hour: dict[str, str]) -> None:
    """Who was killed while the process that mints was starting cannot be waited for any more."""
    command = [*RUN[:-1], "export", "--format", "json"]
    told = {number: {**hour, "_VERTEX_ENV_PARENT": f"{number}:-1"} for number in (os.getpid(), 1)}
    done = {
        number: subprocess.run(command, env=env, capture_output=True, check=False)
        for number, env in told.items()
    }
    assert (done[os.getpid()].returncode, done[1].returncode) == (0, -signal.SIGKILL)
    assert (done[os.getpid()].stdout != b"", done[1].stdout) == (True, b"")


SUBJECT = """#!/bin/sh
tr "\\0" "\\n" </proc/$PPID/environ | grep ^_VERTEX_ENV_PARENT= >told
env | grep ^_VERTEX_ENV_PARENT= >got
readlink /proc/self/fd/* >files
readlink "/proc/$PPID/fd/$(sed s/.*:// told)" >leash
echo '{"version": 1, "success": true, "token_type": "urn:ietf:params:oauth:token-type:jwt", "id_token": "x"}'
"""


def test_the_credentials_program_gets_nothing_of_it(tmp_path: Path) -> None:
    """The program that yields a subject token could keep the pipe open, or take the variable for its own."""
    program = tmp_path / "subject"
    program.write_text(SUBJECT)
    program.chmod(0o700)
    more = {**COLD, "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1"}
    with sandboxed(tmp_path) as (google, env):
        adc = write_adc(
            tmp_path / "adc.json", external_account_executable(str(program), google.url)
        )
        env |= {**more, "GOOGLE_APPLICATION_CREDENTIALS": str(adc)}
        with Process([*RUN, "--", "true"], env, tmp_path) as process:
            assert (process.status(), process.stderr) == (0, "")
    told, got, leash, files = (
        (tmp_path / name).read_text() for name in ("told", "got", "leash", "files")
    )
    assert re.fullmatch(r"_VERTEX_ENV_PARENT=\d+:-?\d+\n", told), (
        "the control: the process that mints was told"
    )
    assert leash.startswith("pipe:") == (not is_linux()), "the control: it has the pipe"
    assert got == ""
    assert not leash or leash.strip() not in files.split()


# --- the next ones ---


@pytest.mark.parametrize("tied", [True, False], ids=["run", "control"])
def test_a_renewal_does_not_outlive_run(tmp_path: Path, tied: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    """Killed outright, we take the process that mints with us; the control shows that it would go on."""
    log = Log(tmp_path)
    command = [*(RUN if tied else UNTIED), "--", *log.probe()]
    with (
        sandboxed(tmp_path, lifetime_s=2) as (google, env),
        Process(command, env, tmp_path) as process,
    ):
        log.start()
        google._google.delay = timedelta(seconds=SLOW)
        helper = helper_of(process.pid)
        time.sleep(0.5)
        process.send(signal.SIGKILL)
        process.status()
        until(lambda: log.signals() == ["TERM"])
        if tied:
            until(lambda: not is_running(helper), 5)
        else:
            time.sleep(0.5)
            assert is_running(helper)


@pytest.mark.parametrize("policy", ["stop", "keep"])
def test_an_answer_that_does_not_come(tmp_path: Path, policy: str) -> None:
    """With `stop`, a command does not outlive its token because Google hangs; the control shows that it would."""
    log = Log(tmp_path)
    command = [*RUN, "--on-refresh-failure", policy, "--", *log.probe()]
    with (
        sandboxed(tmp_path, lifetime_s=6) as (google, env),
        Process(command, env, tmp_path) as process,
    ):
        expiry = int(log.start()["expires_at"])
        google._google.delay = timedelta(seconds=SLOW)
        helper = helper_of(process.pid)
        if policy == "keep":
            time.sleep(max(0.0, expiry + 2 - time.time()))
            assert (log.signals(), is_running(helper)) == ([], True)
            return
        assert process.status() == 75
        assert not is_running(helper)
        assert expiry - 0.1 <= log("end")[0]["time"] < expiry + 5
        assert process.stderr == (
            "vertex-env: the token expires and no answer came to the request for another: the command was stopped\n"
        )


# --- as the first process of a container ---

SIGNALLED = """
import os, signal, sys
from importlib.abc import MetaPathFinder
class Signals(MetaPathFinder):
    def find_spec(self, name, *_):
        if name == os.environ["AT"]:
            os.kill(os.getpid(), int(os.environ["SENT"]))
sys.meta_path.insert(0, Signals())
if os.environ["HELD"] == "no":
    from vertex_env.run import child
    child.hold = lambda *_: None
from vertex_env.entry import main
main()
"""
"""`run` that gets a signal while it imports a module, with and without what is to be shown."""


def as_first() -> tuple[str, ...]:
    """The words before a command that make it the first process of a container."""
    return need_namespaces("--pid", "--fork", "--kill-child", "--mount-proc")


STOPPING = ("TERM", "INT", "HUP", "QUIT", "USR1", "PWR")
STOPS = {name: int(signal.Signals[f"SIG{name}"]) for name in STOPPING}
"""What containers are stopped with."""
STOPS["RTMIN+3"] = signal.SIGRTMIN + 3


@pytest.mark.parametrize("name", STOPS)
def test_the_first_process_ends_while_it_mints(tmp_path: Path, name: str) -> None:
    """`docker stop` during a slow first mint: the status is that of the signal, and the command is not started."""
    number = STOPS[name]
    command = [*as_first(), *RUN, "--", "touch", "started"]
    with (
        sandboxed(tmp_path, delay_s=SLOW) as (_, env),
        Process(command, {**env, **COLD}, tmp_path) as process,
    ):
        (first,) = until(lambda: children(process.pid))
        helper_of(first)
        os.kill(first, number)
        assert process.status() == 128 + number
        assert not (tmp_path / "started").exists()


WHILE_IT_IMPORTS = [
    ("cold", "vertex_env.cli.main"),
    ("cold", "vertex_env.run.helper"),
    ("cold", "vertex_env.run.supervisor"),
    ("warm", "vertex_env.run.start"),
    ("warm", "vertex_env.run.supervisor"),
    ("in place", "vertex_env.run.start"),
]


@pytest.mark.parametrize(("start", "at"), WHILE_IT_IMPORTS)
@pytest.mark.parametrize("sent", ["TERM", "RTMIN+3"])
@pytest.mark.parametrize("held", ["yes", "no"])
def test_the_first_process_loses_none(
    hour: dict[str, str], tmp_path: Path, start: str, at: str, sent: str, held: str
) -> None:
    """However early it comes, the command is not started; without `hold`, the kernel would have thrown it away."""
    policy = ("--on-expiry", "ignore") if start == "in place" else ()
    env = {
        **hour,
        **(COLD if start == "cold" else {}),
        "AT": at,
        "HELD": held,
        "SENT": str(STOPS[sent]),
    }
    command = [
        *as_first(),
        sys.executable,
        "-P",
        "-c",
        SIGNALLED,
        "run",
        *policy,
        "--",
        "touch",
        "started",
    ]
    if start != "cold":  # to be remembered
        run_cli("run", *policy, "--", "true", env=env)
    with Process(command, env, tmp_path) as process:
        status = process.status()
    assert process.stderr == ""
    assert (status, (tmp_path / "started").exists()) == (
        (128 + STOPS[sent], False) if held == "yes" else (0, True)
    )


@pytest.mark.parametrize("start", ["warm", "cold", "in place"])
def test_the_first_process_gives_the_command_no_mask(
    hour: dict[str, str], tmp_path: Path, start: str
) -> None:
    """What we have held back is ours alone, also over a start of our own without what was imported to mint."""
    policy = ("--on-expiry", "ignore") if start == "in place" else ()
    for before in ((), (sys.executable, "-S", "-c", BLOCKING)):
        command = [
            *as_first(),
            *before,
            *RUN[:-1],
            "run",
            *policy,
            "--",
            "grep",
            "SigBlk",
            "/proc/self/status",
        ]
        with Process(command, {**hour, **(COLD if start == "cold" else {})}, tmp_path) as process:
            assert process.status() == 0
        blocked = "SigBlk:\t0000000000004000\n" if before else "SigBlk:\t0000000000000000\n"
        assert process.stdout == blocked


BLOCKING = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Starts a command with SIGTERM blocked, which it stays."""


# --- with few descriptors ---

# Without `site`, which opens more at a time than we do.
_FEW = """
import sys
sys.path[:0] = sys.argv.pop(1).split(":")
from vertex_env.entry import main
main()
"""
FEW = (sys.executable, "-S", "-P", "-c", _FEW, ":".join(path for path in sys.path if path))
TOO_MANY = (
    r"vertex-env: error: cannot .+: Too many open files\n"
    r"vertex-env: hint: allow more open files: ulimit -n 256\n"
)


def limited(number: int) -> tuple[str, ...]:
    """The words before a command that leave it descriptors 0 to *number* - 1."""
    return "sh", "-c", f'ulimit -n {number}; exec "$@"', "sh"


@pytest.mark.parametrize("start", ["warm", "cold", "in place"])
def test_few_descriptors(hour: dict[str, str], start: str) -> None:
    """With any number of them `run` works, or fails with its own status, a sentence and a hint."""
    policy = ("--on-expiry", "ignore") if start == "in place" else ()
    env = {**hour, **(COLD if start == "cold" else {})}
    run_cli("run", *policy, "--", "true", env=env)
    ends = []
    for number in range(3, 13):
        usual: dict[str, Any] = {
            "env": env,
            "stdin": subprocess.DEVNULL,
            "capture_output": True,
            "text": True,
        }
        if subprocess.run([*limited(number), *FEW[:3], "-c", ""], check=False, **usual).returncode:
            continue  # Python itself does not start
        done = subprocess.run(
            [*limited(number), *FEW, "run", *policy, "--", "true"], check=False, **usual
        )
        assert (done.returncode, done.stdout) in ((0, ""), (125, ""))
        assert re.fullmatch(TOO_MANY if done.returncode else "", done.stderr), (number, done.stderr)
        ends.append(done.returncode)
    assert ends == sorted(ends, reverse=True)
    assert (ends[0], ends[-1]) == (0 if start == "in place" else 125, 0)


# --- a command of another user ---

AS_USER = """
import os, sys, time
import _ctypes
from vertex_env.run import helper
from vertex_env.run import supervisor
from vertex_env.run import system
from vertex_env.run.lifecycle import Rules
backend = system.choose()
os.setuid(int(sys.argv[1]))
now = time.time()
env = {"OPENAI_API_KEY": "x", "VERTEX_ENV_EXPIRES_AT": str(now + 3600), "VERTEX_ENV_REFRESH_AT": str(now + 3000)}
rules = Rules("auto", "keep", 1.0, 10.0)
supervisor.Supervisor(sys.argv[2:], os.environ, env, helper=(["true"], {}), rules=rules, say=print).run()
"""
"""A supervisor that is this user, whose Python another one could not read."""


@pytest.mark.parametrize("way", ["run -- sudo sleep", "sudo run -- sudo sleep", "run -- sleep"])
def test_sudo_stands_before_us(hour: dict[str, str], tmp_path: Path, way: str) -> None:
    """A command that becomes another user outlives a supervisor that is killed; not so one that we are as well."""
    if os.geteuid() != 0:
        pytest.skip("to become another user takes root")
    with TemporaryDirectory() as folder:  # tmp_path is not for others
        Path(folder).chmod(0o755)
        sudo = Path(folder) / "sudo"
        shutil.copy(need("setpriv"), sudo)
        sudo.chmod(0o4755)
        user, become = ("0" if way.startswith("sudo") else "54321"), [str(sudo), "--reuid=0"]
        command = [*(become if "sudo" in way else []), need("sleep"), "60"]
        argv = [sys.executable, "-P", "-c", AS_USER, user, *command]
        with Process(argv, hour, tmp_path) as process:
            (sleep,) = until(
                lambda: [pid for pid in children(process.pid) if command_of(pid) == "sleep"]
            )
            process.send(signal.SIGKILL)
            process.status()
            if way == "run -- sudo sleep":
                time.sleep(0.5)
                assert is_running(sleep)
                os.kill(sleep, signal.SIGKILL)
            else:
                until(lambda: not is_running(sleep))


def command_of(pid: int) -> str:
    """The name of a process, such as `sleep`."""
    return Path(f"/proc/{pid}/comm").read_text().strip()
