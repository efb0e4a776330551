"""Shells whose syntax is their own, driven as a person does: on a terminal, or with a script."""

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

from tests.support.loopback import Completed, clean_environ
from tests.support.tools import need
from vertex_env.formats.shellfiles import HOOKS, shell_dir
from vertex_env.sandbox.server import Sandbox

PATIENCE_S = 60.0
ANSWERS = {b"\x1b[c": b"\x1b[?62;c", b"\x1b[0c": b"\x1b[?62;c", b"\x1b[6n": b"\x1b[1;1R"}
"""What a terminal says of itself when it is asked: these shells wait for it."""


@dataclass(frozen=True)
class Shell:
    """How one shell is started and spoken to."""

    name: str
    suffix: str
    script: Sequence[str]
    """Arguments in front of a script's path."""
    interactive: Callable[[Path], Sequence[str]]
    """Arguments for a terminal, for the path of a start file."""
    prompt: str
    """Statement that makes the prompt `ready>`."""
    assign: Callable[[str, str], str]
    status: str
    """The last command's status as an argument."""
    hook: str
    """Statement that does what is done at a prompt."""
    nothing: str = ""
    """Statement that a script starts with."""
    failing: str = "{}"
    """How a command is written that may fail without ending the script."""
    repeat: str = ""
    """Loop of a thousand rounds around `{}`."""

    @property
    def file(self) -> Path:
        """The integration."""
        return shell_dir() / HOOKS[self.name]

    @property
    def source(self) -> str:
        """Statement that reads it."""
        return f"source {self.file}"

    @property
    def begin(self) -> str:
        """Statements that read it and do what is done at the first prompt, which a script has none of."""
        return f"{self.source}\n{self.hook}"


SHELLS = (
    Shell(
        name="fish",
        suffix=".fish",
        script=("--no-config",),
        interactive=lambda rc: ["--no-config", "-i", "-C", f"source {rc}"],
        prompt="function fish_prompt; printf 'ready> '; end",
        assign=lambda name, value: f"set -gx {name} '{value}'",
        status="$status",
        hook="emit fish_prompt",
        repeat="for i in (string split '' (string repeat -n 1000 x)); {}; end",
    ),
    Shell(
        name="nu",
        suffix=".nu",
        script=("-n",),
        interactive=lambda rc: ["--no-history", "--config", str(rc), "--env-config", os.devnull],
        prompt="$env.PROMPT_COMMAND = 'ready'; $env.config.show_banner = false",
        assign=lambda name, value: f'$env.{name} = "{value}"',
        status="$env.LAST_EXIT_CODE",
        hook="__vertex_env_hook",
        failing="try {{ {} }} catch {{|e| print -e $e.msg }}",
        repeat="for i in 1..1000 {{ {} }}",
    ),
    Shell(
        name="xonsh",
        suffix=".xsh",
        script=("--no-rc",),
        interactive=lambda rc: ["-i", "--shell-type", "readline", "--rc", str(rc)],
        prompt="$PROMPT = 'ready> '",
        assign=lambda name, value: f"${name} = {value!r}",
        status="@($LAST_RETURN_CODE)",
        hook="events.on_pre_prompt.fire()",
        nothing="$XONSH_SUBPROC_RAISE_ERROR = False",
        repeat="for i in range(1000): {}",
    ),
)


class Place:
    """A home with a loopback Google, `vertex-env` on PATH, and `report` to see what a command would get.

    Args:
        home: An empty folder.
        google: What the tokens come from.
    """

    def __init__(self, home: Path, google: Sandbox) -> None:
        self.home, self.google = home, google
        self.files = home / "google"
        self.hold = home / "hold"
        """While it exists, `vertex-env` waits."""
        self._log = home / "log"
        self._count = 0
        tools = home / "tools"
        tools.mkdir(parents=True)
        log, hold, python = (
            shlex.quote(str(path)) for path in (self._log, self.hold, sys.executable)
        )
        self._write(
            tools / "vertex-env",
            f'echo "$*" >>{log}\ni=0\nwhile [ -e {hold} ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done\n'
            f'exec {python} -P -m vertex_env "$@"\n',
        )
        self._write(
            tools / "report",
            'out=$1\nshift\n{ printf "REPORT=%s\\n" "$*"; env; } >"$out.tmp"\nmv "$out.tmp" "$out"\n',
        )
        base = clean_environ(home)
        base |= {
            "PATH": f"{tools}{os.pathsep}{base['PATH']}",
            "TERM": "xterm",
            "XDG_CONFIG_HOME": str(home / "config"),
        }
        self.env = google.environ(str(self.files), base)
        # As old as files usually are: of young ones no snapshot is taken.
        for path in (self.files / "credentials.json", self.files / "config.toml"):
            self.age(path, timedelta(hours=1))

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o700)

    @staticmethod
    def age(path: Path, by: timedelta) -> None:
        """Let *path* have been changed so long ago."""
        then = time.time() - by.total_seconds()
        os.utime(path, (then, then))

    @property
    def calls(self) -> list[str]:
        """With what `vertex-env` was started since the last look."""
        lines = self._log.read_text().splitlines() if self.was_called() else []
        self._log.unlink(missing_ok=True)
        return lines

    def was_called(self) -> bool:
        """Whether it was."""
        return self._log.exists()

    def prepare(self) -> None:
        """Have a token stored, and a snapshot for shells."""
        subprocess.run(
            ["vertex-env", "export", "--format", "lines"],
            env=self.env,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        assert list((self.files / "cache").glob("shell.snapshot"))
        assert self.calls == ["export --format lines"]

    def one(self, suffix: str) -> Path:
        """The only file of this kind in the store."""
        [path] = (self.files / "cache").glob(f"*.{suffix}")
        return path

    def script(
        self, shell: Shell, *lines: str, env: Mapping[str, str | None] | None = None
    ) -> "Run":
        """Run *lines* in a shell without a terminal; `REPORT` in them is a new report."""
        self._count += 1
        folder = self.home / f"script-{self._count}"
        folder.mkdir()
        path = folder / f"script{shell.suffix}"
        reports: list[Path] = []

        def report(_: re.Match[str]) -> str:
            reports.append(folder / f"report-{len(reports)}")
            return f"report {reports[-1]}"

        path.write_text(re.sub("REPORT", report, "\n".join([shell.nothing, *lines]) + "\n"))
        environ = {
            name: value for name, value in {**self.env, **(env or {})}.items() if value is not None
        }
        ended = subprocess.run(
            [need(shell.name), *shell.script, str(path)],
            env=environ,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        completed = Completed(ended.returncode, ended.stdout.decode(), ended.stderr.decode())
        return Run(completed, [read_report(path) for path in reports])


@dataclass(frozen=True)
class Run:
    """What a script did."""

    ended: Completed
    reports: Sequence[Mapping[str, str]]


def read_report(path: Path) -> dict[str, str]:
    """The environment of a command, and its arguments as `REPORT`."""
    if not path.exists():
        return {}
    return dict(line.partition("=")[::2] for line in path.read_text().splitlines() if "=" in line)


def ours(environ: Mapping[str, str]) -> dict[str, str]:
    """What the integration sets."""
    return {
        n: v
        for n, v in environ.items()
        if n.startswith(("OPENAI_", "VERTEX_ENV_E", "VERTEX_ENV_R"))
    }


class Terminal:
    """A shell on a pseudo-terminal, from entering the context until leaving it."""

    def __init__(self, shell: Shell, place: Place, env: Mapping[str, str] | None = None) -> None:
        self._folder = place.home / "terminal"
        self._folder.mkdir()
        rc = self._folder / f"rc{shell.suffix}"
        rc.write_text(f"{shell.source}\n{shell.prompt}\n")
        self._argv = [need(shell.name), *shell.interactive(rc)]
        # Without it xonsh asks where the cursor is, and takes what is typed meanwhile for a part of the answer (0.25.0
        # `shells/readline_shell.py`, 2026-11-22).
        self._env = {**place.env, "SSH_TTY": "/dev/tty", **(env or {})}
        self._count = 0
        self.output = b""
        self._latest = 0.0

    def __enter__(self) -> Self:
        leader, follower = pty.openpty()
        self._leader = leader
        self._child = subprocess.Popen(
            [sys.executable, "-c", _LEAD, *self._argv],
            env=self._env,
            cwd=self._folder,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait(lambda: b"ready" in self.output)
        return self

    def __exit__(self, *_: object) -> None:
        # An interactive nu is the leader of a group of its own; without its terminal it would be busy for ever.
        for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
            with suppress(ProcessLookupError, PermissionError):
                if os.getsid(pid) == self._child.pid:
                    os.kill(pid, signal.SIGKILL)
        self._child.wait()
        # The reader ends with the last one who has the terminal open.
        self._reader.join(timeout=PATIENCE_S)
        os.close(self._leader)

    def _read(self) -> None:
        with suppress(OSError):
            while data := os.read(self._leader, 65536):
                # A question may come in two pieces.
                seen = max(0, len(self.output) - 3)
                asked = {question: self.output.count(question, seen) for question in ANSWERS}
                self.output += data
                self._latest = time.monotonic()
                for question, answer in ANSWERS.items():
                    for _ in range(self.output.count(question, seen) - asked[question]):
                        os.write(self._leader, answer)

    def wait(self, reached: Callable[[], bool]) -> None:
        """Wait until *reached*."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert time.monotonic() < deadline, self.output.decode(errors="replace")
            assert self._child.poll() is None, self.output.decode(errors="replace")
            time.sleep(0.02)

    def type(self, line: str = "") -> None:
        """Type *line* and Enter, once the shell has finished drawing."""
        self.wait(lambda: time.monotonic() - self._latest > 0.1)
        os.write(self._leader, f"{line}\r".encode())

    def enter(self) -> None:
        """Press Enter and wait for the next prompt."""
        prompts = self.output.count(b"ready")
        self.type()
        self.wait(lambda: self.output.count(b"ready") > prompts)

    def report(self, *args: str) -> dict[str, str]:
        """What a command typed now gets."""
        path = self.begin_report(*args)
        self.wait(path.exists)
        return read_report(path)

    def begin_report(self, *args: str) -> Path:
        """Type it, and leave the waiting for the file to the caller."""
        self._count += 1
        path = self._folder / f"report-{self._count}"
        self.type(" ".join(["report", str(path), *args]))
        return path


_LEAD = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSWINSZ, b"\\x18\\x00\\xc8\\x00\\x00\\x00\\x00\\x00")
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
