"""Interactive bash and zsh on a pseudo-terminal, with the hooks, on a sandbox."""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.processes import Terminal, sandboxed, until
from tests.support.tools import need
from vertex_env.cache.snapshots import Kept
from vertex_env.formats.shellfiles import HOOKS, shell_dir
from vertex_env.sandbox.server import Sandbox
from vertex_env.session import Session, open_session
from vertex_env.settings.inputs import Inputs
from vertex_env.tokens.token import Token

PROMPT = "(ready)> "
POSIX_SHELLS = ("bash", "zsh")


def hook_file(name: str) -> Path:
    """What a user sources in the shell *name*."""
    return shell_dir() / HOOKS[name]


def source(name: str) -> str:
    """The line that does so."""
    return f"source {shlex.quote(str(hook_file(name)))}\n"


def now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


class Place:
    """A user's home on a sandbox: the environment of a login, the program on PATH, and what has become of it.

    Args:
        folder: The home.
        google: The sandbox.
        env: For children.
    """

    def __init__(self, folder: Path, google: Sandbox, env: Mapping[str, str]) -> None:
        self.folder, self.google = folder, google
        self.cache = Path(env["VERTEX_ENV_CACHE_DIR"])
        self.adc = Path(env["GOOGLE_APPLICATION_CREDENTIALS"])
        self.config = Path(env["VERTEX_ENV_CONFIG"])
        for path in (self.adc, self.config):
            backdate(path)
        self.calls_file, self._held = folder / "calls", folder / "held"
        self.program = folder / "bin" / "vertex-env"
        self.program.parent.mkdir()
        self.becomes(f'{sys.executable} -P -m vertex_env "$@"')
        self.env = {**env, "PATH": f"{self.program.parent}:{env['PATH']}", "TERM": "dumb"}

    def becomes(self, command: str) -> None:
        """Have the program note its arguments, wait while it is held, and then be *command*."""
        log, held = (shlex.quote(str(path)) for path in (self.calls_file, self._held))
        wait = f"while [ -e {held} ]; do sleep 0.05; done"
        self.program.write_text(f'#!/bin/sh\necho "$*" >>{log}\n{wait}\nexec {command}\n')
        self.program.chmod(0o700)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody gets an answer from the program until this is left."""
        self._held.touch()
        try:
            yield
        finally:
            self._held.unlink()

    @property
    def calls(self) -> list[str]:
        """The arguments of each time that the program was started."""
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def session(self, **environ: str) -> Session:
        """What the program makes of it."""
        return open_session({}, Inputs({**self.env, **environ}), now, print)

    def store(self, left_s: float = 3000, life_s: float = 3600, **environ: str) -> str:
        """Have a token stored that lasts for *left_s* of its *life_s* seconds, and the snapshot; gives its value."""
        session = self.session(**environ)
        expiry = now() + timedelta(seconds=left_s)
        token = Token(f"stored-{os.urandom(6).hex()}", expiry, expiry - timedelta(seconds=life_s))
        assert session.store is not None
        session.store.save(session.identity.key, token)
        assert session.snapshot() is Kept.WRITTEN
        return token.value

    @property
    def stored(self) -> str:
        """The token that is stored for a login without further settings."""
        session = self.session()
        token = session.store.load(session.identity.key) if session.store else None
        return token.value if token else ""

    @property
    def stamp(self) -> Path:
        """The stamp of that login."""
        stamp = self.session().stamp
        assert stamp is not None
        return stamp


def backdate(path: Path, seconds: float = 60) -> None:
    """Let a file be older than it is: what has just been written may yet change within the second."""
    at = path.stat().st_mtime - seconds
    os.utime(path, (at, at))


@contextmanager
def settle(folder: Path, lifetime_s: float = 3600, delay_s: float = 0) -> Iterator[Place]:
    """A home on a sandbox of its own, without a token so far."""
    with sandboxed(folder, lifetime_s, delay_s=delay_s) as (google, env):
        yield Place(folder, google, env)


class Shell(Terminal):
    """A shell at its prompt.

    Args:
        name: `bash` or `zsh`.
        env: Its environment.
        rc: What it reads at its start, after its prompt has been set.
        before: Words before its command, such as those of `strace`.
    """

    entered = ""
    """What it said when it went into a folder."""

    def __init__(
        self,
        name: str,
        env: Mapping[str, str],
        rc: str,
        before: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        folder = Path(env["HOME"]) / f"rc-{os.urandom(4).hex()}"
        folder.mkdir()
        quiet = (
            "unset HISTFILE MAILCHECK\n"
            if name == "bash"
            else "unset HISTFILE\nunsetopt prompt_cr prompt_sp\n"
        )
        file = folder / (".zshrc" if name == "zsh" else "bashrc")
        file.write_text(f"PS1={shlex.quote(PROMPT)} PS2=\n{quiet}{rc}")
        arguments = ["--noprofile", "--rcfile", str(file)] if name == "bash" else ["-d"]
        # Wide enough that no line is broken; a later change would have the prompt drawn anew.
        wide = ("sh", "-c", 'stty cols 5000; exec "$@"', "-")
        command = [*wide, *before, need(name), *arguments, "-i"]
        super().__init__(
            command, {**env, "ZDOTDIR": str(folder)} if name == "zsh" else env, "leader"
        )
        self._prompts = 0
        self.start = self.wait()

    def wait(self, prompts: int = 1) -> str:
        """What was printed until the shell has asked for input so many times more."""
        self._prompts += prompts
        until(lambda: self.screen.count(PROMPT) >= self._prompts and not self.is_cooked())
        return self.screen.split(PROMPT)[self._prompts - 1].replace("\r", "")

    def run(self, line: str) -> str:
        """What a command printed."""
        self.type(line + "\n")
        return self.wait().partition("\n")[2]

    def value(self, name: str) -> str:
        """The value of a variable that is exported, or `unset`."""
        return self.run(f"{need('printenv')} {name} || echo unset").partition("\n")[0]

    def enter(self) -> None:
        """Only press Enter."""
        self.run("")
