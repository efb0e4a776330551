"""`run` without a terminal: what the command sees, how it ends, and how it is started anew before its token expires.

Restarts take seconds in which nothing happens: these tests, called scenarios, run side by side, and so does a program
that is restarted twenty times meanwhile.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.forking import IN_A_SCRIPT
from tests.support.loopback import run_cli
from tests.support.processes import (
    ON,
    RUN,
    Log,
    Process,
    Scenarios,
    children,
    group,
    is_running,
    is_stopped,
    sandboxed,
    side_by_side,
    until,
)
from tests.support.tools import need
from vertex_env.sandbox.faults import Fault

pytestmark = pytest.mark.usefixtures(
    "results"
)  # scenarios start first, and run beside the other tests

IN_PLACE = ("run", "--on-expiry", "ignore", "--")
EVERY_WAY = {**ON, "in place": (*RUN[:-1], *IN_PLACE)}
COLD = {"VERTEX_ENV_STORE": "none"}
"""What makes `run` ask a process of its own for the first token, too."""


class Many(NamedTuple):
    """A program that is restarted over and over, while the other tests run."""

    process: Process
    log: Log
    descriptors: list[str]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Many]:
    folder = tmp_path_factory.mktemp("many")
    log = Log(folder)
    traced = (RUN[0], "-X", "importtime", *RUN[1:])
    with (
        sandboxed(folder, lifetime_s=1) as (_, env),
        Process([*traced, "--", *log.probe()], env, folder) as process,
    ):
        log.start()
        yield Many(process, log, descriptors(process.pid))


def descriptors(pid: int) -> list[str]:
    return sorted(path.name for path in Path(f"/proc/{pid}/fd").iterdir())


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def seen_in_status(pid: int, name: str) -> int:
    return int(
        re.findall(rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[0]
    )


def output(argv: Sequence[str], env: Mapping[str, str], **more: Any) -> str:
    """What *argv* prints; it has to succeed, and to keep quiet otherwise."""
    usual: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": 60}
    done = subprocess.run(argv, env=env, check=True, **usual | more)
    assert not done.stderr
    return os.fsdecode(done.stdout)


def test_the_supervisor_has_one_thread(many: Many) -> None:
    """Signals are taken and children forked by a process that has nothing else to mind."""
    assert seen_in_status(many.process.pid, "Threads") == 1


def test_a_supervisor_that_waits_costs_little(hour: dict[str, str], tmp_path: Path) -> None:
    """Nothing is done for seconds on end; how long, `test_lifecycle` shows."""
    log = Log(tmp_path)
    with Process([*RUN, "--", *log.probe()], hour, tmp_path) as process:
        log.start()
        time.sleep(0.5)
        before = seen_in_status(process.pid, "voluntary_ctxt_switches")
        time.sleep(2)
        assert seen_in_status(process.pid, "voluntary_ctxt_switches") == before


# --- how it ends ---


@pytest.mark.parametrize("status", [0, 7, 255])
def test_the_exit_status_is_the_commands(hour: dict[str, str], status: int) -> None:
    """Who runs `run` sees the status of the command, and nothing on stderr."""
    done = run_cli("run", "--", "sh", "-c", f"echo out; exit {status}", env=hour)
    assert (done.status, done.stdout, done.stderr) == (status, "out\n", "")


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "INT", "ABRT", "PIPE", "35"])
def test_death_by_a_signal_is_the_same_death(hour: dict[str, str], name: str) -> None:
    """Not an exit status that stands for the signal, but the signal itself."""
    command = ["sh", "-c", f"kill -{name} $$"]
    bare = subprocess.run(command, env=hour, check=False).returncode
    assert bare < 0
    assert run_cli("run", "--", *command, env=hour).status == bare


CANNOT_RUN = {
    "absent": ("nosuch", 127, "nosuch: command not found"),
    "absent file": ("./nosuch", 127, "./nosuch: command not found"),
    "line break": ("no\nsuch", 127, r"'no\nsuch': command not found"),
    "no permission": ("{}/plain", 126, "{}/plain cannot be executed: Permission denied"),
    "folder": ("{}/folder", 126, "{}/folder cannot be executed: Permission denied"),
    "no first line": ("{}/script", 126, "{}/script cannot be executed: Exec format error"),
    "no interpreter": (
        "{}/orphan",
        126,
        "{}/orphan cannot be executed: its interpreter was not found",
    ),
    "no interpreter on PATH": (
        "orphan",
        126,
        "orphan cannot be executed: its interpreter was not found",
    ),
    "not a folder": ("{}/plain/x", 126, "{}/plain/x cannot be executed: Not a directory"),
}


@pytest.mark.parametrize("policy", ["auto", "ignore"])
@pytest.mark.parametrize("kind", CANNOT_RUN)
def test_a_command_that_cannot_run(
    hour: dict[str, str], tmp_path: Path, kind: str, policy: str
) -> None:
    """127 if it was not found, 126 if it was but cannot be executed, as in a shell; in one line, with a hint."""
    (tmp_path / "folder").mkdir()
    for name, text, mode in (
        ("plain", "", 0o600),
        ("script", "echo\n", 0o700),
        ("orphan", "#!/no/such\n", 0o700),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    command, status, message = (
        part.format(tmp_path) if isinstance(part, str) else part for part in CANNOT_RUN[kind]
    )
    # The last folder on PATH is a file: that is no reason to call a command anything but not found.
    env = {**hour, "PATH": f"{hour['PATH']}:{tmp_path}:{tmp_path}/plain"}
    done = run_cli("run", "--on-expiry", policy, "--", str(command), env=env)
    assert (done.status, done.stdout) == (status, "")
    assert re.fullmatch(
        rf"vertex-env: error: {re.escape(str(message))}\nvertex-env: hint: .+\n", done.stderr
    )


OWN_FAILURES = {
    "refused": ({}, "login"),
    "no file": ({"GOOGLE_APPLICATION_CREDENTIALS": "/no/such"}, "/no/such"),
    "bad setting": ({"VERTEX_ENV_LOCATION": "a b"}, "VERTEX_ENV_LOCATION"),
    "no project": ({"GOOGLE_CLOUD_PROJECT": ""}, "project"),
}


@pytest.mark.parametrize("kind", OWN_FAILURES)
def test_failures_of_ours_have_a_status_of_their_own(tmp_path: Path, kind: str) -> None:
    """Without variables the command is not started: status 125, an error, a hint, and nothing on stdout."""
    changed, told = OWN_FAILURES[kind]
    with sandboxed(tmp_path, faults=[Fault(9, 400)]) as (_, env):
        done = run_cli("run", "--", "echo", "started", env={**env, **changed})
    assert (done.status, done.stdout) == (125, "")
    assert re.fullmatch(r"vertex-env: error: .+\nvertex-env: hint: .+\n", done.stderr)
    assert told in done.stderr


@pytest.mark.parametrize(
    "args", [[], ["--"], ["--nosuch"], ["--on-expiry", "x", "--", "true"], ["--grace", "x", "true"]]
)
def test_wrong_usage(hour: dict[str, str], args: list[str]) -> None:
    """Status 2, before anything is asked for or run."""
    done = run_cli("run", *args, env=hour)
    assert (done.status, done.stdout) == (2, "")
    assert re.fullmatch(
        r"vertex-env: error: .+\nvertex-env: hint: see vertex-env run --help\n", done.stderr
    )


def test_an_empty_command_is_an_error_of_ours(hour: dict[str, str]) -> None:
    """It is refused before a token is minted for it."""
    assert run_cli("run", "--", "", env=hour).status == 125


# --- what the command sees ---

ARGUMENTS = ["a b", "", " ", "\n", "-c", "--help", "--on-expiry", "stop", "--", "é", "\udcff", "--"]
SHOW_ARGUMENTS = (sys.executable, "-S", "-c", "import json, sys; print(json.dumps(sys.argv[1:]))")


@pytest.mark.parametrize(
    "options", [("run",), ("run", "--"), IN_PLACE], ids=["bare", "dashes", "in place"]
)
def test_arguments_arrive_as_they_are(hour: dict[str, str], options: tuple[str, ...]) -> None:
    """What follows the command is the command's, whatever it looks like, with or without `--` before it."""
    done = run_cli(*options, *SHOW_ARGUMENTS, *ARGUMENTS, env=hour)
    assert json.loads(done.stdout) == ARGUMENTS


def environ(argv: Sequence[str], env: Mapping[str, str]) -> dict[str, str]:
    entries = output([*argv, "env", "-0"], env).split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


LOCALES: Mapping[str, Mapping[str, str | None]] = {
    "utf-8": {"LANG": "C.UTF-8"},
    "none": {"LANG": None},
    "c": {"LANG": None, "LC_CTYPE": "C"},
    "posix": {"LC_ALL": "POSIX"},
}


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("way", ["run", "in place", "cold"])
def test_the_environment(hour: dict[str, str], way: str, locale: str) -> None:
    """Our variables are set, what contradicts them is unset, and nothing else differs from a bare run."""
    against = {
        "OPENAI_ORG_ID": "org",
        "OPENAI_API_TYPE": "azure",
        "OPENAI_CUSTOM_HEADERS": "Authorization: x",
    }
    odd = {
        "EMPTY": "",
        "LINES": "a\nb=c",
        "LATIN": "\udce9",
        "BASH_FUNC_f%%": "() { :; }",
        "VERTEX_ENV_GENERATION": "7",
    }
    changed: dict[str, str | None] = {
        **against,
        **odd,
        **LOCALES[locale],
        **(COLD if way == "cold" else {}),
    }
    given = {name: value for name, value in {**hour, **changed}.items() if value is not None}
    seen = environ(EVERY_WAY["run" if way == "cold" else way], given)
    ours = {
        name: seen.pop(name)
        for name in seen.keys() - (environ((), given).keys() - {"VERTEX_ENV_GENERATION"})
    }
    assert ours.pop("VERTEX_ENV_GENERATION") == "0"
    assert ours.pop("OPENAI_API_KEY").startswith("ya29.")
    assert ours["OPENAI_BASE_URL"] == ours["OPENAI_API_BASE"]
    assert ours.pop("OPENAI_AGENTS_DISABLE_TRACING") == "1"
    assert ours.keys() == {
        "OPENAI_BASE_URL",
        "OPENAI_API_BASE",
        "VERTEX_ENV_EXPIRES_AT",
        "VERTEX_ENV_REFRESH_AT",
    }
    unchanged = {name: value for name, value in given.items() if name not in against}
    assert seen == {
        name: value for name, value in unchanged.items() if name != "VERTEX_ENV_GENERATION"
    }


SIGNALS = ("grep", "-E", "^(Sig|Shd)(Blk|Ign|Pnd)", "/proc/self/status")
STATES = {
    "signals": SIGNALS,
    "descriptors": ("ls", "/proc/self/fd"),
    "links": ("readlink", "/proc/self/cwd", "/proc/self/fd/0"),
    "limits": ("cat", "/proc/self/limits", "/proc/self/oom_score_adj", "/proc/self/timerslack_ns"),
    "others": ("grep", "-E", "^(Umask|NoNewPrivs|Seccomp|CapEff):", "/proc/self/status"),
}


@pytest.mark.parametrize("way", ["run", "in place"])
@pytest.mark.parametrize("state", STATES)
def test_the_process_is_as_if_run_bare(
    hour: dict[str, str], tmp_path: Path, state: str, way: str
) -> None:
    """Signal dispositions and mask, descriptors (ours are not among them, inherited ones are), limits, folder."""
    with (tmp_path / "inherited").open("w") as file:
        more = {"cwd": tmp_path, "pass_fds": [file.fileno()], "umask": 0o27}
        bare, seen = (
            output([*wrapper, *STATES[state]], hour, **more) for wrapper in ((), EVERY_WAY[way])
        )
    assert seen == bare != ""


@pytest.mark.parametrize("way", ["run", "in place"])
def test_ignored_signals_stay_ignored(hour: dict[str, str], way: str) -> None:
    """As under `nohup`, and as in a background job of a script."""
    ignore = ("sh", "-c", 'trap "" INT QUIT HUP TERM; exec "$@"', "sh")
    bare, seen = (output([*ignore, *wrapper, *SIGNALS], hour) for wrapper in ((), EVERY_WAY[way]))
    assert seen == bare
    ignored = int(seen.partition("SigIgn:\t")[2].split()[0], 16)
    assert ignored & 0x4007 == 0x4007  # a bit a signal, from 1 for SIGHUP


def test_a_reader_that_leaves_ends_the_command(hour: dict[str, str]) -> None:
    """In a pipeline, SIGPIPE ends the command, and us."""
    script = '{ "$@"; echo $? >&2; } | head -n 1'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *RUN, "--", "yes"], env=hour, capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"y\n", b"141\n")


CLOSED = {
    "in": "<&-",
    "out": ">&-",
    "err": "2>&-",
    "in and err": "<&- 2>&-",
    "out and err": ">&- 2>&-",
    "all": "<&- >&- 2>&-",
}
SHOW_DESCRIPTORS = """
import os, sys
said = " ".join(sorted(os.listdir("/proc/self/fd"))), os.environ.get("OPENAI_API_KEY", "")
os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), "\\n".join(said).encode())
"""


@pytest.mark.parametrize("kind", CLOSED)
def test_closed_streams_stay_closed(hour: dict[str, str], tmp_path: Path, kind: str) -> None:
    """A command whose stdin, stdout or stderr is closed runs as if bare, its first token freshly minted."""
    seen = {}
    for name, wrapper in ON.items():
        command = [*wrapper, sys.executable, "-S", "-c", SHOW_DESCRIPTORS, str(tmp_path / name)]
        subprocess.run(
            ["sh", "-c", f'exec "$@" {CLOSED[kind]}', "sh", *command],
            env={**hour, **COLD},
            check=True,
        )
        seen[name] = (tmp_path / name).read_text().splitlines()
    assert seen["run"][0] == seen["bare"][0]
    assert seen["run"][1].startswith("ya29.")


LIMITED = """
import os, resource
from vertex_env.run import system
from vertex_env.errors import ChildError
from vertex_env.run.helper import Helper, HelperError
from vertex_env.run.lifecycle import Rules
from vertex_env.run.supervisor import Supervisor

system.choose().collect_orphans()
free = os.open(os.devnull, os.O_RDONLY)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
try:
    Helper(["true"], {}, system.choose())
except HelperError as e:
    print(e)
try:
    Supervisor(["true"], {}, {}, helper=(["true"], {}), rules=Rules("auto", "keep", 1, 10), say=print)
except ChildError as e:
    print(e.status, e.message, e.hint)
"""


def test_limits_are_no_bug(hour: dict[str, str]) -> None:
    """Where no process can be started, a renewal fails like any other, and a start with a status of ours."""
    said = output([sys.executable, "-P", "-c", LIMITED], hour)
    assert said.startswith("vertex-env: error: cannot run true: Too many open files\n")
    assert (
        "125 cannot start a process for the command: Too many open files allow more open files: ulimit -n"
        in said
    )


def test_ctrl_c_while_it_starts(hour: dict[str, str]) -> None:
    """However early it comes, it leaves no traceback of ours."""
    slow = """
import os, signal, sys
from importlib.abc import MetaPathFinder
class Interrupts(MetaPathFinder):
    def find_spec(self, name, *_):
        if name in ("vertex_env.run.start", "vertex_env.cli.main"):
            os.kill(os.getpid(), signal.SIGINT)
from vertex_env.entry import main
sys.meta_path.insert(0, Interrupts())
main()
"""
    for env in (hour, {**hour, **COLD}):
        argv = [sys.executable, "-P", "-c", slow, "run", "--", "true"]
        done = subprocess.run(
            argv, env=env, capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
        assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def test_a_variable_may_be_large(hour: dict[str, str]) -> None:
    """More than a pipe holds comes through from the process that mints."""
    done = run_cli(
        "run",
        "--set",
        f"LARGE={'x' * 100_000}",
        "--",
        "sh",
        "-c",
        "echo ${#LARGE}",
        env={**hour, **COLD},
    )
    assert (done.stdout, done.status) == ("100000\n", 0)


@pytest.mark.parametrize("kind", ["pipe", "file", "socket"])
def test_data_on_stdin_is_read_by_one_command_only(
    hour: dict[str, str], tmp_path: Path, kind: str
) -> None:
    """It cannot be read twice, so there will be no second start: in place of us, as one line says."""
    (tmp_path / "file").write_text("data")
    ends = socket.socketpair()
    ends[0].sendall(b"data")
    ends[0].close()
    with (tmp_path / "file").open() as file, ends[1]:
        argv = [*RUN, "--", "sh", "-c", "cat; echo; echo $$"]
        stdin: Any = {"pipe": subprocess.PIPE, "file": file, "socket": ends[1]}[kind]
        with subprocess.Popen(
            argv, env=hour, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            out, err = process.communicate(b"data" if kind == "pipe" else None, timeout=30)
    assert out.decode().split() == ["data", str(process.pid)]
    assert re.fullmatch(rb"vertex-env: .*--on-expiry restart.*\n", err)


@pytest.mark.parametrize("kind", ["null", "closed pipe"])
def test_no_data_on_stdin(hour: dict[str, str], tmp_path: Path, kind: str) -> None:
    """Under cron and systemd: nothing could be lost, so the command is supervised."""
    log = Log(tmp_path)
    read, write = os.pipe()
    os.close(write)
    with Process(
        [*RUN, "--", *log.probe()], hour, tmp_path, **({} if kind == "null" else {"stdin": read})
    ) as process:
        assert log.start()["parent"] == process.pid
        assert process.stderr == ""
    os.close(read)


def test_data_on_stdin_is_the_users_affair_with_restart(hour: dict[str, str]) -> None:
    """`--on-expiry restart` supervises even so, and says nothing."""
    argv = [*RUN, "--on-expiry", "restart", "--", "sh", "-c", "cat; echo; echo $$"]
    with subprocess.Popen(
        argv, env=hour, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        out, err = process.communicate(b"data", timeout=30)
    data, pid = out.decode().split()
    assert (data, err) == ("data", b"")
    assert int(pid) != process.pid


def test_ignore_runs_the_command_in_our_place(hour: dict[str, str], tmp_path: Path) -> None:
    """The process is the same, so nothing of ours is left that could be wrong."""
    log = Log(tmp_path)
    with Process([*RUN, "--on-expiry", "ignore", "--", *log.probe()], hour, tmp_path) as process:
        assert log.start()["pid"] == process.pid
        assert children(process.pid) == {}


def test_nothing_is_imported_from_the_current_folder(hour: dict[str, str], tmp_path: Path) -> None:
    """A json.py in the project must not get to see a token: neither we nor the process that mints import it."""
    for name in ("json", "click", "vertex_env", "signal", "encodings"):
        (tmp_path / f"{name}.py").write_text("open('imported', 'w')")
    assert output([*RUN, "--", "ls"], {**hour, **COLD}, cwd=tmp_path).split().count("imported") == 0


# --- signals ---


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "ALRM"])
def test_a_signal_sent_to_us_reaches_the_command_once(
    hour: dict[str, str], tmp_path: Path, name: str
) -> None:
    """It is passed on; a command that does not end by it goes on."""
    log = Log(tmp_path)
    with Process([*RUN, "--", *log.probe("stubborn")], hour, tmp_path) as process:
        log.start()
        process.send(signal.Signals[f"SIG{name}"])
        until(log.signals)
        last = "USR1" if name == "USR2" else "USR2"
        process.send(signal.Signals[f"SIG{last}"])
        until(lambda: last in log.signals())
        assert log.signals() == [name, last]


def test_a_stopped_command_goes_on_with_us(hour: dict[str, str], tmp_path: Path) -> None:
    """SIGCONT is passed on."""
    log = Log(tmp_path)
    with Process([*RUN, "--", *log.probe()], hour, tmp_path) as process:
        pid = log.start()["pid"]
        os.kill(pid, signal.SIGSTOP)
        until(lambda: is_stopped(pid))
        process.send(signal.SIGCONT)
        until(lambda: not is_stopped(pid))


IGNORING = """
import os, signal, sys
signal.signal(signal.Signals[sys.argv[1]], signal.SIG_IGN)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def ignoring(name: str) -> tuple[str, ...]:
    """What starts a command with a signal ignored, as `nohup` does."""
    return sys.executable, "-S", "-c", IGNORING, f"SIG{name}"


@pytest.mark.parametrize("store", ["file", "none"])
def test_ignored_deaths_of_children_do_not_matter(
    hour: dict[str, str], tmp_path: Path, store: str
) -> None:
    """Some daemons leave SIGCHLD ignored to what they start: the end of a child of ours is noticed even so."""
    command = [*ignoring("CHLD"), *RUN, "--", "sh", "-c", "exit 7"]
    with Process(command, {**hour, "VERTEX_ENV_STORE": store}, tmp_path) as process:
        assert process.status() == 7


# --- planned restarts ---

scenario = SCENARIOS = Scenarios()
results = side_by_side


@scenario
def group_ends_before_the_next_start(folder: Path) -> None:
    """The command ends by SIGTERM, with all of its group; then the next one starts, with another token."""
    log = Log(folder)
    with (
        sandboxed(folder, lifetime_s=3) as (_, env),
        Process([*RUN, "--", *log.probe("child")], env, folder) as process,
    ):
        old, new = log.start(), log.start(1)
        assert not is_running(old["child"])
        assert log.signals(pid=old["pid"]) == ["TERM"]
        assert log("end")[0]["time"] < new["time"]
        assert (old["generation"], new["generation"]) == ("0", "1")
        assert old["token"] != new["token"]
        assert int(old["expires_at"]) < int(new["expires_at"])
        assert group(new["group"]) == [new["pid"], new["child"]]
        said = process.stderr
    assert said.endswith(
        "anew (no. 1), its work from the beginning; for a job, use --on-expiry ignore or stop\n"
    )


@scenario
def what_ignores_sigterm_is_killed(folder: Path) -> None:
    """After the grace period, the command itself and what else is in its group; the next one starts alone."""
    log = Log(folder)
    command = [*RUN, "--grace", "0.3s", "--", *log.probe("stubborn", "survivor")]
    with sandboxed(folder, lifetime_s=2) as (_, env), Process(command, env, folder):
        old, new = log.start(), log.start(1)
        assert log.signals(pid=old["pid"]) == ["TERM"]
        assert group(old["group"]) == []
        assert not is_running(old["child"])
        assert new["generation"] == "1"


@scenario
def stubborn_members_of_the_group_are_killed(folder: Path) -> None:
    """A process that the command leaves behind is gone before the next start."""
    log = Log(folder)
    command = [*RUN, "--grace", "0.3s", "--", *log.probe("survivor")]
    with sandboxed(folder, lifetime_s=2) as (_, env), Process(command, env, folder):
        old = log.start()
        until(lambda: log("end"))
        assert is_running(old["child"])
        log.start(1)
        assert not is_running(old["child"])


DAEMON = (
    IN_A_SCRIPT
    + """
import os, time

def leave():
    os.setsid()
    fork(stay)

def stay():
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(60)

fork(leave)
os.wait()
os.execvp(sys.argv[2], sys.argv[2:])
"""
)
"""Leaves a process behind, in a session of its own, and goes on as a command."""


def daemons(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


@scenario
def what_has_left_the_group_is_gone_too(folder: Path) -> None:
    """A process that has made itself independent has the old token as well, and perhaps a port of the next one."""
    log, file = Log(folder), folder / "daemons"
    command = [*RUN, "--", sys.executable, "-S", "-c", DAEMON, str(file), *log.probe()]
    with sandboxed(folder, lifetime_s=3) as (_, env), Process(command, env, folder):
        log.start()
        (daemon,) = until(lambda: daemons(file))
        log.start(1)
        assert not is_running(daemon)


def test_what_has_left_survives_the_end(hour: dict[str, str], tmp_path: Path) -> None:
    """Where nothing is started anew it goes on, as it would have without us."""
    file = tmp_path / "daemons"
    command = [*RUN, "--", sys.executable, "-S", "-c", DAEMON, str(file), "true"]
    with Process(command, hour, tmp_path) as process:
        assert process.status() == 0
        (daemon,) = until(lambda: daemons(file))
        assert is_running(daemon)
        os.kill(daemon, signal.SIGKILL)


def test_children_of_who_became_us_are_none_of_ours(tmp_path: Path) -> None:
    """A script that starts something and then execs `run` keeps what it has started, also over a restart."""
    log = Log(tmp_path)
    script = 'sleep 60 & echo $! > other; exec "$@"'
    with sandboxed(tmp_path, lifetime_s=2) as (_, env):
        command = ["sh", "-c", script, "sh", *RUN, "--", *log.probe()]
        with Process(command, env, tmp_path):
            log.start(1)
            assert is_running(int((tmp_path / "other").read_text()))


@pytest.mark.parametrize("word", ["slow", "stubborn"])
def test_our_death_is_the_commands(hour: dict[str, str], tmp_path: Path, word: str) -> None:
    """Killed outright we cannot pass anything on: the kernel sends the command SIGTERM."""
    log = Log(tmp_path)
    with Process([*RUN, "--", *log.probe(word)], hour, tmp_path) as process:
        command = log.start()["pid"]
        process.send(signal.SIGKILL)
        assert process.status() == -signal.SIGKILL
        until(lambda: log.signals() == ["TERM"])
        if word == "slow":
            until(lambda: not is_running(command))


def test_as_the_first_process(hour: dict[str, str], tmp_path: Path) -> None:
    """In a container: SIGTERM is passed on, orphans are collected, and the status is one."""
    namespace = [need("unshare"), "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        pytest.skip("unshare --pid needs root")
    orphans = "for i in 1 2 3; do (sleep 0 &); done; sleep 0.5; ps=$(grep -ls '^State:.Z' /proc/[0-9]*/status); "
    script = (
        orphans
        + 'echo "zombies: $ps"; trap "exit 3" TERM; echo $$ > up; while :; do sleep 0.05; done'
    )
    with Process([*namespace, *RUN, "--", "sh", "-c", script], hour, tmp_path) as process:
        until((tmp_path / "up").exists)
        (first,) = children(process.pid)
        os.kill(first, signal.SIGTERM)
        assert process.status() == 3
        assert process.stdout == "zombies: \n"


@scenario
def no_new_token_no_restart(folder: Path) -> None:
    """A metadata server gives the same token until shortly before its end: the command is left alone until then."""
    log = Log(folder)
    with sandboxed(folder, lifetime_s=4) as (google, env):
        inside: Any = google._google
        inside.shared = lambda: ("ya29.the-same-as-ever", timedelta(seconds=4))
        del env["GOOGLE_APPLICATION_CREDENTIALS"]
        with Process([*RUN, "--", *log.probe()], env, folder) as process:
            assert log.start()["token"] == "ya29.the-same-as-ever"
            asked = google.counts["token"]
            until(lambda: google.counts["token"] >= asked + 2)
            assert log.signals() == []
            assert "anew" not in process.stderr
            del inside.shared
            assert log.start(1)["token"].startswith("ya29.sandbox-")


@scenario
def a_failed_refresh_leaves_the_command_alone(folder: Path) -> None:
    """Whether Google is down or says no: the command goes on until there is a new token, if need be with an old one."""
    log = Log(folder)
    with (
        sandboxed(folder, lifetime_s=2) as (google, env),
        Process([*RUN, "--", *log.probe()], env, folder) as process,
    ):
        old = log.start()
        google.fail(Fault(1, 503))
        google.fail(Fault(1, 400))
        new = log.start(1)
        assert google.counts["token"] >= 4
        assert log.signals(pid=old["pid"]) == ["TERM"]
        assert log("end")[0]["time"] > int(old["expires_at"])
        assert new["token"] != old["token"]
        said = process.stderr
    told = r"vertex-env: the token .+:\nvertex-env: error: .+\nvertex-env: hint: .+\n"
    assert len(re.findall(told, said)) == 2
    assert "could not be renewed, trying again:" in said
    assert "cannot be renewed until this is cured:" in said
    assert (
        said.count("vertex-env: the token has expired: requests get 401 until it is renewed\n") == 1
    )
    assert len(said.splitlines()) == 8


@scenario
def a_program_that_has_gone_leaves_the_command_alone(folder: Path) -> None:
    """While Python is upgraded under us, tokens cannot be renewed: that is told, and tried again."""
    log = Log(folder)
    python = folder / "python"
    python.symlink_to(sys.executable)
    command = [str(python), *RUN[1:], "--", *log.probe()]
    with (
        sandboxed(folder, lifetime_s=6) as (_, env),
        Process(command, {**env, "PYTHONPATH": os.pathsep.join(sys.path)}, folder) as process,
    ):
        log.start()
        python.unlink()
        until(lambda: f"error: cannot run {python}: No such file" in process.stderr)
        assert log.signals() == []
        python.symlink_to(sys.executable)
        assert log.start(1)["generation"] == "1"


@scenario
def an_end_during_the_renewal_is_final(folder: Path) -> None:
    """The command's status is passed on at once, and the process that mints does not stay behind."""
    log = Log(folder)
    with (
        sandboxed(folder, lifetime_s=2) as (google, env),
        Process([*RUN, "--", *log.probe()], env, folder) as process,
    ):
        command = log.start()["pid"]
        google._google.delay = timedelta(seconds=60)
        (helper,) = until(lambda: children(process.pid).keys() - {command})
        until(lambda: "export --format json --refresh" in command_line(helper))
        assert not re.search(
            "ya29|secret|refresh_token", command_line(helper) + command_line(process.pid)
        )
        os.kill(command, signal.SIGTERM)
        assert process.status() == 143
        until(lambda: not is_running(helper))


@scenario
def a_crash_is_final(folder: Path) -> None:
    """Whatever its generation: only what we stopped is started anew."""
    script = '[ "$VERTEX_ENV_GENERATION" = 0 ] && exec sleep 60; exit 7'
    with (
        sandboxed(folder, lifetime_s=2) as (_, env),
        Process([*RUN, "--", "sh", "-c", script], env, folder) as process,
    ):
        assert process.status() == 7
        assert process.stderr.count("anew") == 1


@scenario
def a_command_that_has_gone_is_told(folder: Path) -> None:
    """Where the next start fails, the status is that of a command that was not found."""
    command = folder / "command"
    command.write_text('#!/bin/sh\nrm "$0"; exec sleep 60\n')
    command.chmod(0o700)
    with (
        sandboxed(folder, lifetime_s=2) as (_, env),
        Process([*RUN, "--", str(command)], env, folder) as process,
    ):
        assert process.status() == 127
        assert process.stderr.endswith(
            f"error: {command}: command not found\nvertex-env: hint: check the name and PATH\n"
        )


@scenario
def options_hold_for_every_start(folder: Path) -> None:
    """What was said on the command line is said to the process that mints, too."""
    options = (
        "--model",
        "google/gemini-2.5-flash",
        "--set",
        "A=<{model}>",
        "--set",
        "B={project}",
        "--client",
        "fabric",
    )
    script = 'echo "$OPENAI_MODEL $A $B $OPENAI_API_BASE_URL"; [ "$VERTEX_ENV_GENERATION" = 1 ] || exec sleep 60'
    command = [*RUN, *options, "--project", "my-project", "--", "sh", "-c", script]
    with sandboxed(folder, lifetime_s=2) as (google, env), Process(command, env, folder) as process:
        assert process.status() == 0
        url = f"{google.url}/v1/projects/my-project/locations/global/endpoints/openapi"
        assert (
            process.stdout
            == f"google/gemini-2.5-flash <google/gemini-2.5-flash> my-project {url}\n" * 2
        )


@scenario
def sigterm_while_stopping_ends_all(folder: Path) -> None:
    """Who ends us while the old command is on its way out gets no new one."""
    log = Log(folder)
    with (
        sandboxed(folder, lifetime_s=2) as (_, env),
        Process([*RUN, "--", *log.probe("slow")], env, folder) as process,
    ):
        log.start()
        until(log.signals)
        process.send(signal.SIGTERM)
        assert process.status() == 143
        assert len(log("start")) == 1


@scenario
def the_second_sigterm_while_stopping_kills(folder: Path) -> None:
    """Who insists does not wait for the end of a long grace period."""
    log = Log(folder)
    command = [*RUN, "--grace", "60s", "--", *log.probe("stubborn", "child")]
    with sandboxed(folder, lifetime_s=2) as (_, env), Process(command, env, folder) as process:
        old = log.start()
        until(log.signals)
        process.send(signal.SIGTERM)
        until(lambda: log.signals() == ["TERM", "TERM"])
        process.send(signal.SIGTERM)
        assert process.status() == -signal.SIGKILL
        assert not is_running(old["child"])
        assert len(log("start")) == 1


@scenario
def a_command_that_takes_sigterm_for_ctrl_c_is_renewed(folder: Path) -> None:
    """Whatever its status: an end that we asked for is planned. Many a Python program ends like this one."""
    script = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.default_int_handler)
print(os.environ["VERTEX_ENV_GENERATION"], flush=True)
time.sleep(60)
"""
    command = [*RUN, "--", sys.executable, "-S", "-c", script]
    with sandboxed(folder, lifetime_s=2) as (_, env), Process(command, env, folder) as process:
        until(lambda: process.stdout == "0\n1\n")


@scenario
def a_reader_that_has_stopped_to_read_holds_up_nothing(folder: Path) -> None:
    """With stderr in a pipe that is full, the command is started anew, and ends when it is told to."""
    log = Log(folder)
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while os.write(write, b"x" * 4096):
            pass
    os.set_blocking(write, True)
    command = [*RUN, "--", *log.probe()]
    with (
        sandboxed(folder, lifetime_s=2) as (_, env),
        Process(command, env, folder, stderr=write) as process,
    ):
        log.start(1)
        process.send(signal.SIGTERM)
        assert process.status() == 143
    os.close(read)
    os.close(write)


@scenario
def stop_ends_the_command_for_an_outer_supervisor(folder: Path) -> None:
    """`--on-expiry stop`: SIGTERM before expiry, then status 75, and one line that says why."""
    log = Log(folder)
    command = [*RUN, "--on-expiry", "stop", "--", *log.probe()]
    with sandboxed(folder, lifetime_s=8) as (_, env), Process(command, env, folder) as process:
        assert process.status() == 75
        assert (log.signals(), len(log("start"))) == (["TERM"], 1)
        assert (
            "vertex-env: the token is about to expire: the command was stopped, as --on-expiry stop"
            in process.stderr
        )


@scenario
def stop_does_not_wait_for_a_token(folder: Path) -> None:
    """`--on-expiry stop` with Google out of reach: the command has ended before its token has."""
    log = Log(folder)
    # It has half of the token's last quarter to end: as long as a machine with much to do may take.
    command = [*RUN, "--on-expiry", "stop", "--grace", "3s", "--", *log.probe()]
    with (
        sandboxed(folder, lifetime_s=16) as (google, env),
        Process(command, env, folder) as process,
    ):
        start = log.start()
        google.fail(Fault(99, 503))
        assert process.status() == 75
        assert log("end")[0]["time"] < int(start["expires_at"])
        assert process.stderr.endswith(
            "vertex-env: the token expires and could not be renewed: the command was stopped\n"
        )


@scenario
def stop_on_failure_ends_a_command_without_a_token(folder: Path) -> None:
    """`--on-refresh-failure stop`: at expiry, and not before, with status 75."""
    log = Log(folder)
    command = [*RUN, "--on-refresh-failure", "stop", "--", *log.probe()]
    with sandboxed(folder, lifetime_s=3) as (google, env), Process(command, env, folder) as process:
        start = log.start()
        google.fail(Fault(99, 503))
        assert process.status() == 75
        assert log("end")[0]["time"] >= int(start["expires_at"])


@scenario
def an_early_end_after_a_restart_is_told(folder: Path) -> None:
    """Perhaps the command cannot be restarted: that it was, is said beside its status."""
    script = '[ "$VERTEX_ENV_GENERATION" = 0 ] && exec sleep 60; exit 7'
    with (
        sandboxed(folder, lifetime_s=2) as (_, env),
        Process([*RUN, "--", "sh", "-c", script], env, folder) as process,
    ):
        assert process.status() == 7
        assert re.search(
            r"start no\. 1 of the command ended after \d\.\d s, by itself\n$", process.stderr
        )


def signalled_then_renewed(folder: Path, name: str, *before: str) -> None:
    log = Log(folder)
    command = [*before, *RUN, "--grace", "0.1s", "--", *log.probe("stubborn")]
    with sandboxed(folder, lifetime_s=2) as (_, env), Process(command, env, folder) as process:
        log.start()
        process.send(signal.Signals[f"SIG{name}"])
        until(lambda: name in log.signals())
        assert log.start(1)["generation"] == "1"


@scenario
def a_hangup_that_is_survived_does_not_end_renewal(folder: Path) -> None:
    """Servers read their configuration again at SIGHUP, and need a token for as long as before."""
    signalled_then_renewed(folder, "HUP")


@scenario
def an_ignored_signal_does_not_end_renewal(folder: Path) -> None:
    """Scripts start background jobs with SIGINT ignored: one that comes means nothing to us, either."""
    signalled_then_renewed(folder, "INT", *ignoring("INT"))


@scenario
def a_hangup_while_stopping_ends_all(folder: Path) -> None:
    """Nobody is left who would want a new command."""
    log = Log(folder)
    with (
        sandboxed(folder, lifetime_s=2) as (_, env),
        Process([*RUN, "--", *log.probe("slow")], env, folder) as process,
    ):
        log.start()
        until(log.signals)
        process.send(signal.SIGHUP)
        assert process.status() == 143
        assert len(log("start")) == 1


test_restarts = SCENARIOS.test()


def test_the_supervisor_imports_little(many: Many) -> None:
    """Neither google-auth nor what belongs to it is in its memory, though it has renewed tokens."""
    many.log.start(1)
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", many.process.stderr, re.MULTILINE))
    assert "vertex_env.run.start" in imported
    assert not {name.partition(".")[0] for name in imported} & {
        "google",
        "requests",
        "urllib3",
        "keyring",
    }


def test_twenty_restarts_leave_nothing_behind(many: Many) -> None:
    """No zombie, no descriptor, no old command; and no token where it does not belong."""
    process, log, at_first = many
    until(lambda: log("start", generation="20"), 120)
    until(lambda: children(process.pid) == {log("start")[-1]["pid"]: "S"})
    until(lambda: descriptors(process.pid) == at_first)
    starts, ends = log("start"), log("end")
    assert [int(start["generation"]) for start in starts] == list(range(len(starts)))
    assert all(end["time"] < start["time"] for end, start in zip(ends, starts[1:], strict=False))
    tokens = {start["token"] for start in starts}
    assert len(tokens) == len(starts)
    said = process.stderr + process.stdout + command_line(process.pid)
    assert not any(token in said for token in tokens)
    process.send(signal.SIGTERM)
    assert process.status() in (
        143,
        -signal.SIGTERM,
    )  # or it comes before the next probe has its handler


MANY_RESTARTS = """
import os, sys, time
from vertex_env.run.lifecycle import Rules
from vertex_env.run.supervisor import Supervisor

HELPER = '''
import json, os, time
with open("count", "a+") as file:
    file.write(".")
    n = file.tell()
expires = time.time() + 100 * n + 100
due = expires if n == 200 else time.time() + 1
print(json.dumps({"OPENAI_API_KEY": f"t{n}", "VERTEX_ENV_EXPIRES_AT": str(expires),
                  "VERTEX_ENV_REFRESH_AT": str(due)}))
'''
COMMAND = '[ "$VERTEX_ENV_GENERATION" = 200 ] && exit 7; sleep 60 & exec sleep 60'

def descriptors():
    return len(os.listdir("/proc/self/fd"))

env = {"OPENAI_API_KEY": "t0", "VERTEX_ENV_EXPIRES_AT": str(time.time() + 100), "VERTEX_ENV_REFRESH_AT": "0"}
helper = [sys.executable, "-S", "-c", HELPER], dict(os.environ)
rules, said = Rules("auto", "keep", 5.0, 10.0), []
supervisor = Supervisor(["sh", "-c", COMMAND], os.environ, env, helper=helper, rules=rules, say=said.append)
before = descriptors()
status = supervisor.run()
children = open("/proc/thread-self/children").read().split()
print(status >> 8, descriptors() - before, children, len([line for line in said if "anew" in line]))
"""


def test_two_hundred_restarts_leave_nothing_behind(hour: dict[str, str], tmp_path: Path) -> None:
    """Neither a descriptor nor a process, dead or alive."""
    # Half a minute on an idle machine.
    assert (
        output([sys.executable, "-c", MANY_RESTARTS], hour, timeout=300, cwd=tmp_path)
        == "7 0 [] 200\n"
    )


A_NIGHT = (
    IN_A_SCRIPT
    + """
import os, signal, sys, time
from vertex_env.run import system
from vertex_env.run.lifecycle import Instant, Rules
from vertex_env.run.supervisor import Supervisor

clock, started = system.choose(), time.monotonic()

def suspended():
    now = clock.now()
    night = 8 * 3600 if now.awake - started > 0.5 else 0
    return Instant(now.wall + night, now.boot + night, now.awake)

HELPER = '''
import json, time
with open("asked", "a+") as file:
    file.write(".")
    if file.tell() < 3:
        raise SystemExit("no network yet")
now = time.time() + 8 * 3600
print(json.dumps({"OPENAI_API_KEY": "t1", "VERTEX_ENV_EXPIRES_AT": str(now + 3600),
                  "VERTEX_ENV_REFRESH_AT": str(now + 3000)}))
'''
COMMAND = '[ "$VERTEX_ENV_GENERATION" = 1 ] && sleep 1 && exit 7; exec sleep 60'
now = time.time()
env = {"OPENAI_API_KEY": "t0", "VERTEX_ENV_EXPIRES_AT": str(now + 3600), "VERTEX_ENV_REFRESH_AT": str(now + 3000)}
helper, said = ([sys.executable, "-S", "-c", HELPER], dict(os.environ)), []
rules = Rules("auto", "keep", 5.0, 10.0)
supervisor = Supervisor(
    ["sh", "-c", COMMAND], os.environ, env, helper=helper, rules=rules, say=said.append, clock=suspended
)

def wake():
    time.sleep(1)
    os.kill(os.getppid(), signal.SIGCONT)

fork(wake)
print(supervisor.run() >> 8, len(open("asked").read()), *said, sep="|")
"""
)


def test_a_night_of_sleep(hour: dict[str, str], tmp_path: Path) -> None:
    """On another clock: when the machine wakes the network takes a while, without a word; then there is one restart."""
    status, asked, *said = (
        output([sys.executable, "-c", A_NIGHT], hour, cwd=tmp_path).strip().split("|")
    )
    assert (status, asked) == ("7", "3")
    assert re.fullmatch(
        r"new token, lasting 359\d s: starting the command anew \(no. 1\), its work .+", said[0]
    )
    assert re.fullmatch(r"start no. 1 of the command ended after 1.\d s, by itself", said[1])
