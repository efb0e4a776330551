"""The back-end for POSIX itself; the other tests of `run` show what that does on it, with the back-end forced."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.forking import IN_A_SCRIPT
from tests.support.processes import PROGRAM, RUN, Log, Process, is_running, sandboxed, until, warmed
from tests.support.tools import need
from vertex_env.program import FORCED, HANDED_OVER
from vertex_env.run import posix
from vertex_env.run.posix import Posix

NUMBERS = "NUMBERS = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGCONT}\n"
START = f"""{IN_A_SCRIPT}
import os, signal, time
from tests.support.tools import need
from vertex_env.run import posix
from vertex_env.run.posix import Posix
{NUMBERS}
backend = Posix()
"""


def said(script: str, **more: str) -> str:
    """What a process says that has made a back-end; it may end by a signal."""
    argv = [sys.executable, "-P", "-c", START + script]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=30, env={**os.environ, **more}, check=False
    )
    assert not done.stderr
    return f"{done.stdout.strip()} {done.returncode}"


# --- signals ---


def test_signals_arrive_once_and_in_wait_only() -> None:
    """They wait until they are asked for, and have no effect before or after."""
    script = """
backend.block(NUMBERS, {signal.SIGTTOU})
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM):
    os.kill(os.getpid(), number)
found = [backend.wait(1), backend.wait(1), backend.wait(0)]
print(sorted((one.number, one.code) for one in found if one), found[2])
os.kill(os.getpid(), signal.SIGHUP)
print(backend.wait(5).number)
"""
    assert (
        said(script)
        == f"[({signal.SIGUSR1.value}, None), ({signal.SIGTERM.value}, None)] None\n1 0"
    )


def test_a_signal_ends_the_wait() -> None:
    """At once, not at its time-out, and whether it comes before it or within."""
    script = """
backend.block(NUMBERS, ())
seconds = []
for pause in (0, 0.2):
    start = time.monotonic()
    fork(lambda: (time.sleep(pause), os.kill(os.getppid(), signal.SIGUSR1)))
    while (one := backend.wait(20)).number != signal.SIGUSR1:
        pass
    seconds.append(time.monotonic() - start)
print(max(seconds) < 10)
"""
    assert said(script) == "True 0"


@pytest.mark.parametrize("noted", [True, False])
def test_a_full_pipe_loses_no_signal(*, noted: bool) -> None:
    """The pipe only ends the wait; control: without the handler's note, the signal is lost."""
    script = """
made, posix._pipe = posix._pipe, lambda: pipes.append(made()) or pipes[-1]
pipes = []
if not NOTED:
    Posix._note = lambda *_: None
backend.block(NUMBERS, ())
try:
    while True:
        os.write(pipes[0][1], bytes(65536))
except BlockingIOError:
    pass
os.kill(os.getpid(), signal.SIGTERM)
one = backend.wait(1)
print(one and one.number)
"""
    assert said(script.replace("NOTED", str(noted))) == ("15 0" if noted else "None 0")


@pytest.mark.parametrize("sent", ["blocked", "unblocked"])
def test_a_signal_between_fork_and_exec(sent: str) -> None:
    """It ends the child, as it would a moment later; control: where handlers stay Python's own, it is lost."""
    script = """
backend.block(NUMBERS, ())
if SPOILT:
    backend._before.clear()
pid = fork(lambda: (os.kill(os.getpid(), signal.SIGTERM), backend.unblock()))
print(os.waitpid(pid, 0)[1])
"""
    assert said(script.replace("SPOILT", str(sent == "unblocked"))) == (
        "15 0" if sent == "blocked" else "0 0"
    )


def test_the_child_gets_what_was_there_before() -> None:
    """What was ignored is ignored again, and the mask is the one from before; faults were never touched."""
    script = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
backend.block({*NUMBERS, signal.SIGSEGV}, ())
print(signal.getsignal(signal.SIGSEGV) == signal.SIG_DFL, signal.SIGSEGV in signal.pthread_sigmask(0, ()))
backend.unblock()
print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
print([one.name for one in signal.pthread_sigmask(signal.SIG_BLOCK, ())])
"""
    assert said(script) == "True False\nTrue True\n['SIGUSR2'] 0"


# --- the watcher ---

TIED = """
tied, parent = backend.tie(), os.getpid()
def sleep():
    tied(parent)
    os.setpgid(0, 0)
    os.dup2(2, 1)
    os.execvp("sleep", ["sleep", "60"])
pid = fork(sleep)
time.sleep(0.2)
print(pid, flush=True)
"""


@pytest.mark.parametrize("how", ["tied", "untied", "stopped", "twice"])
def test_the_tie(how: str) -> None:
    """A process whose parent is killed ends, even if it is stopped; control: one that was untied goes on."""
    more = {
        "tied": "",
        "untied": "backend.untie()\n",
        "stopped": "os.kill(pid, signal.SIGSTOP)\n",
        "twice": "os.kill(pid, signal.SIGKILL)\nos.waitpid(pid, 0)\nbackend.untie()\n" + TIED,
    }[how]
    argv = [
        sys.executable,
        "-P",
        "-c",
        START + TIED + more + "os.kill(os.getpid(), signal.SIGKILL)\n",
    ]
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, text=True, timeout=30, check=False, start_new_session=True
    )
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout.split()[-1])
    if how == "untied":
        with pytest.raises(AssertionError):
            until(lambda: not is_running(pid), seconds=1)
        os.kill(pid, signal.SIGKILL)
    else:
        until(lambda: not is_running(pid))


def test_a_watcher_that_was_killed_is_replaced() -> None:
    """It is replaced before the next start. It is never a child of this process, and keeps no open descriptor."""
    script = """
backend.tie()
def is_mine(name):
    try:
        return open(f"/proc/{name}/cmdline").read().endswith(sys.argv[-1] + chr(0))
    except OSError:  # it has ended since it was listed
        return False
names = filter(str.isdecimal, os.listdir("/proc"))
(watcher,) = [int(name) for name in names if int(name) != os.getpid() and is_mine(name)]
time.sleep(0.2)
print(len(os.listdir(f"/proc/{watcher}/fd")))
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("none")
os.kill(watcher, signal.SIGKILL)
time.sleep(0.2)
backend.tie()
print(backend._can_tell(b"0\\n"))
"""
    argv = [sys.executable, "-P", "-c", START + script, f"mark-{os.getpid()}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.split(), done.stderr) == (["1", "none", "True"], "")


# --- clocks ---


@pytest.mark.parametrize("slept_s", [0, 600])
def test_sleep_is_seen_by_two_clocks(monkeypatch: pytest.MonkeyPatch, slept_s: float) -> None:
    """As on macOS, where Python's monotonic clock stands still meanwhile; control: no sleep."""
    awake = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: awake() - slept_s)
    now = Posix().now()
    assert now.boot - now.awake == pytest.approx(slept_s, abs=1)
    assert now.wall == pytest.approx(time.time(), abs=5)


# --- files without a name ---


@pytest.mark.parametrize("folder", ["there", "absent", "relative"])
def test_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """It is the user's alone, is not inherited, and needs no `TMPDIR` that is of use."""
    (tmp_path / "there").mkdir()
    monkeypatch.setenv("TMPDIR", "there" if folder == "relative" else str(tmp_path / folder))
    fd = Posix().memory()
    try:
        status = os.fstat(fd)
        assert (stat.S_IMODE(status.st_mode), status.st_nlink, os.get_inheritable(fd)) == (
            0o600,
            0,
            False,
        )
        assert list((tmp_path / "there").iterdir()) == []
    finally:
        os.close(fd)


def test_no_place_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error that is told, and no loop."""
    monkeypatch.setattr(posix, "_FOLDERS", (str(tmp_path / "absent"),))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError):
        Posix().memory()


# --- as a whole ---

TAKEN_AWAY = """
import os, signal, sys, time
del os.memfd_create, signal.sigtimedwait, signal.sigwaitinfo, time.CLOCK_BOOTTIME
sys.modules["_ctypes"] = None

def refuse(event, args):
    if event in ("open", "os.listdir") and str(args[0]).startswith("/proc"):
        os.write(2, f"{args[0]} is read\\n".encode())
        os._exit(99)

sys.addaudithook(refuse)
"""
"""Python on Linux without what macOS lacks; as `sitecustomize`."""


@pytest.mark.parametrize("is_forced", [True, False])
def test_nothing_is_used_that_macos_lacks(tmp_path: Path, *, is_forced: bool) -> None:
    """A command is started anew without any of it; control: the back-end for Linux cannot do without."""
    (tmp_path / "sitecustomize.py").write_text(TAKEN_AWAY)
    with sandboxed(tmp_path, lifetime_s=3) as (_, env):
        path = os.pathsep.join([str(tmp_path), env.get("PYTHONPATH", "")])
        more = {"PYTHONPATH": path, FORCED: "posix" if is_forced else ""}
        script = 'test "$VERTEX_ENV_GENERATION" = 1 && exit 7; exec sleep 60'
        with Process([*RUN, "--", "sh", "-c", script], {**env, **more}, tmp_path) as process:
            assert process.status() == (7 if is_forced else 99)


def test_our_end_leaves_no_watcher(tmp_path: Path) -> None:
    """It has ended as soon as the supervisor has, however that ended, and nobody waits for its descriptors."""
    log = Log(tmp_path)
    with warmed(tmp_path) as env:
        argv = [*RUN, "--", *log.probe()]
        process = subprocess.Popen(
            argv,
            env={**env, FORCED: "posix"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        command = log.start()["pid"]
        process.send_signal(signal.SIGKILL)
        assert process.communicate(timeout=30)[0] == ""  # ends when nobody has stdout open any more
        until(lambda: not is_running(command))


# --- Windows ---

ON_WINDOWS = """
import os, shutil, subprocess, sys
from vertex_env.run import child
from vertex_env.run import start as run
from vertex_env.errors import ChildError
from vertex_env.run.lifecycle import Rules

sys.platform = "win32"
try:
    run.start(sys.argv[2:], {"OPENAI_API_KEY": "x"}, {}, rules=Rules(sys.argv[1], "keep", 1, 10), say=print)
except ChildError as e:
    print(e.message)
    sys.exit(e.status)
"""


@pytest.mark.parametrize("policy", ["auto", "restart", "stop", "ignore"])
@pytest.mark.parametrize(("command", "status"), [('exit "$(($OPENAI_API_KEY))"', 7), ("", 127)])
def test_windows_runs_the_command_once(policy: str, command: str, status: int) -> None:
    """It says that nothing is started anew, unless that is what was asked for, and passes the status on."""
    argv = [
        sys.executable,
        "-P",
        "-c",
        ON_WINDOWS,
        policy,
        *(("sh", "-c", command) if command else ("nosuch",)),
    ]
    env = {**os.environ, "x": "7"}
    done = subprocess.run(
        argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (status, "")
    said = "the command cannot be started anew on Windows: it runs once, with a token that is not renewed "
    assert done.stdout.startswith(said) is (policy != "ignore")
    assert done.stdout.endswith("nosuch: command not found\n") is (status == 127)


# --- what is handed over ---


@pytest.mark.parametrize("back_end", ["", "posix"])
@pytest.mark.parametrize("what", ["nothing", "a file", "nonsense"])
def test_a_start_that_cannot_read_what_it_was_handed_fails(
    tmp_path: Path, what: str, back_end: str
) -> None:
    """It never starts itself again: it mints nothing, and executes nothing."""
    (tmp_path / "file").write_text("auto\x1dkeep\x1d1\x1d\x1dOPENAI_API_KEY=x")
    before = {
        "nothing": "exec 9<&-",
        "a file": "exec 9<file",
        "nonsense": "exec 9<>gone; echo nonsense >&9; rm gone",
    }[what]
    with sandboxed(tmp_path) as (google, env):
        script = f'{before}; {HANDED_OVER}=9:2:$$ exec "$@"'
        argv = ["sh", "-c", script, "sh", *PROGRAM, "run", "--", "touch", "ran"]
        with Process(argv, {**env, FORCED: back_end}, tmp_path) as process:
            assert process.status() == 125
        assert process.stderr.startswith(
            "vertex-env: error: the variables that were handed over to this process"
        )
        assert google.counts["token"] == 0
    assert not (tmp_path / "ran").exists()


def test_a_start_without_proc(tmp_path: Path) -> None:
    """A container may have no /proc: the command starts all the same, with one token."""
    if os.geteuid() != 0:
        pytest.skip("unshare --mount needs root")
    hidden = [
        need("unshare"),
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs none /proc && exec "$@"',
        "sh",
    ]
    with sandboxed(tmp_path) as (google, env):
        more = {
            FORCED: "",
            "VERTEX_ENV_STORE": "none",
        }  # nothing is remembered that would end a loop
        with Process(
            [*hidden, *RUN, "--", "sh", "-c", "exit 7"], {**env, **more}, tmp_path
        ) as process:
            assert process.status() == 7
        assert google.counts["token"] == 1


def handed(env: Mapping[str, str], folder: Path, shown: str) -> int:
    """Status of a start with variables handed over by a file without a name."""
    script = f'exec 9<>gone; cat handed >&9; rm gone; {HANDED_OVER}=9:3:$$ exec "$@"'
    argv = ["sh", "-c", script, "sh", *PROGRAM, "run", "--", "sh", "-c", shown]
    with Process(argv, env, folder) as process:
        return process.status()


def test_what_can_be_read_is_used(tmp_path: Path) -> None:
    """The control of the test before."""
    (tmp_path / "handed").write_text("restart\x1dkeep\x1d1\x1d10\x1d\x1dOPENAI_API_KEY=handed")
    with sandboxed(tmp_path) as (google, env):
        assert handed(env, tmp_path, 'test "$OPENAI_API_KEY" = handed && exit 7') == 7
        assert google.counts["token"] == 0
