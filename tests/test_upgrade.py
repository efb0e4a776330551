"""An upgrade in place: what the version before has left goes on under this one, without a word.

The version before is the commit before the modules were moved into rooms. Each test uses it first. Then the files of
the package are replaced, as an installer does, while shells and processes of the old version go on.
"""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest

from tests.shell.test_direnv import allow, waiting
from tests.support import keychains, othershells
from tests.support.loopback import Completed, run_cli
from tests.support.processes import RUN, Log, Process, Scenarios, children, side_by_side, until
from tests.support.shells import POSIX_SHELLS, Place, Shell, backdate, settle
from tests.support.tools import missing, need
from vertex_env.sandbox.faults import Fault
from vertex_env.sandbox.server import Sandbox

ROOT = Path(__file__).parent.parent
BEFORE = "c8fa5bb34ac4f328204ea465dc258b9c35bb422d"
KEY = "OPENAI_API_KEY"
HOUR, SHORT = timedelta(hours=1), timedelta(seconds=12)
"""A token of SHORT is due three seconds before its end."""


@cache
def before() -> bytes:
    """The version before: an archive of its package and of its shell files."""
    git = (need("git"), "-C", str(ROOT))
    if subprocess.run(
        [*git, "cat-file", "-e", f"{BEFORE}^{{commit}}"], capture_output=True, check=False
    ).returncode:
        missing(f"the history has no {BEFORE}, as in a shallow clone or without .git")
    archive = [*git, "archive", BEFORE, "vertex_env", "shell"]
    return subprocess.run(archive, capture_output=True, check=True).stdout


class Installation:
    """A folder with the package, which `PYTHONPATH` names: the version before, until the upgrade."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with tarfile.open(fileobj=io.BytesIO(before())) as archive:
            archive.extractall(folder, filter="data")
        assert self._has("vertex_env.warm")
        assert not self._has("vertex_env.cache")

    def upgrade(self) -> None:
        """Replace the files by those of this version."""
        self._remove()
        for name in ("vertex_env", "shell"):
            shutil.copytree(
                ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        assert self._has("vertex_env.cache")
        assert not self._has("vertex_env.warm")

    def _remove(self) -> None:
        for name in ("vertex_env", "shell"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _has(self, module: str) -> bool:
        """Whether a program of this installation finds *module*."""
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(self.folder)}, check=False
        )
        return done.returncode == 0


@dataclass
class Home:
    """A home with the version before, whose first token lives for SHORT."""

    place: Place
    installed: Installation

    def run(self, *args: str) -> Completed:
        """What the installed program says."""
        return run_cli(*args, env=self.place.env)

    def saved(self, name: str) -> Path:
        """The integration for *name* that its user has saved to a file."""
        path = self.place.folder / f"saved-{name}"
        if not path.exists():
            path.write_text(self.run("hook", name).stdout)
        return path

    def lives(self, lifetime: timedelta) -> None:
        """Let tokens live so long from now on."""
        self.place.google._google.lifetime = lifetime


@contextmanager
def at_home(folder: Path) -> Iterator[Home]:
    """A home with the version before."""
    with settle(folder) as place:
        installed = Installation(folder / "installed")
        place.env["PYTHONPATH"] = str(installed.folder)
        found = Home(place, installed)
        found.lives(SHORT)
        yield found


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with at_home(tmp_path) as home:
        yield home


SCENARIOS = Scenarios()
results = side_by_side
test_goes_on = SCENARIOS.test()
"""What waits until a token is due."""


def each(names: Sequence[str]) -> Callable[[Callable[[Path, str], None]], None]:
    """A scenario for each of *names*."""

    def add(function: Callable[[Path, str], None]) -> None:
        for name in names:

            def scenario(folder: Path, name: str = name) -> None:
                function(folder, name)

            scenario.__name__ = f"{function.__name__}_{name}"
            SCENARIOS(scenario)

    return add


def stored(home: Home) -> str:
    """The token in the only file with one, as either version writes it."""
    [path] = home.place.cache.glob("*.token")
    [token] = re.findall(r"^token (\S+)$", path.read_text(), re.MULTILINE)
    return str(token)


# --- saved hooks ---


@each(POSIX_SHELLS)
def saved_hook_of(folder: Path, name: str) -> None:
    """It renews when due and sets back what there was, in the shell that was open and in a new one."""
    need(name)
    with at_home(folder) as home, ExitStack() as stack:
        see_saved_hook(home, name, stack)


def see_saved_hook(home: Home, name: str, stack: ExitStack) -> None:
    rc = f"source {shlex.quote(str(home.saved(name)))}\n"
    mine = {KEY: "mine", "OPENAI_BASE_URL": "https://mine.example/v1"}
    open_ = stack.enter_context(Shell(name, {**home.place.env, **mine}, rc))
    first = open_.value(KEY)
    assert first == stored(home)
    home.installed.upgrade()
    home.lives(HOUR)
    said = [open_.start]

    def is_renewed() -> bool:
        said.append(open_.run(""))
        return open_.value(KEY) != first

    until(is_renewed)
    assert open_.value(KEY) == stored(home) == home.place.stored
    calls = home.place.calls
    later = stack.enter_context(Shell(name, home.place.env, rc))
    assert later.value(KEY) == stored(home)
    assert home.place.calls == calls  # from the snapshot that the new version has written
    assert {*said, later.start, later.run("")} == {""}
    assert later.run("vertex-env refresh") == ""
    assert later.value(KEY) == stored(home) != open_.value(KEY)
    assert open_.run("vertex-env off") == ""
    assert {variable: open_.value(variable) for variable in mine} == mine
    assert open_.value("VERTEX_ENV_REFRESH_AT") == "unset"
    # The control: a shell whose hook has something to say shows it.
    home.place.program.unlink()
    assert "there is no vertex-env" in later.run("vertex-env refresh")


@pytest.mark.parametrize("name", POSIX_SHELLS)
def test_the_snapshot_of_the_version_before(home: Home, name: str) -> None:
    """A new shell loads the token that the old version has stored, with the saved hook and with the new one."""
    home.lives(HOUR)
    saved = home.saved(name)
    assert home.run("export", "--format", "lines").stderr == ""
    token = stored(home)
    home.installed.upgrade()
    for hook in (saved, home.installed.folder / "shell" / f"vertex-env.{name}"):
        with Shell(name, home.place.env, f"source {shlex.quote(str(hook))}\n") as sh:
            assert (sh.start, sh.value(KEY)) == ("", token)
    assert home.place.google.counts["token"] == 1


@dataclass(frozen=True)
class Saved(othershells.Shell):
    """A shell whose integration was saved to a file."""

    path: Path = Path()

    @property
    def file(self) -> Path:
        return self.path


@each([shell.name for shell in othershells.SHELLS])
def saved_hook_of_another(tmp_path: Path, name: str) -> None:
    """The same for fish, nu and xonsh."""
    need(name)
    [shell] = (shell for shell in othershells.SHELLS if shell.name == name)
    with Sandbox(lifetime=SHORT) as google:
        place = othershells.Place(tmp_path / "home", google)
        installed = Installation(tmp_path / "installed")
        place.env["PYTHONPATH"] = str(installed.folder)
        path = tmp_path / f"saved{shell.suffix}"
        path.write_text(run_cli("hook", shell.name, env=place.env).stdout)
        saved = Saved(
            **{field.name: getattr(shell, field.name) for field in fields(shell)}, path=path
        )
        mine = {KEY: "mine", "OPENAI_BASE_URL": "https://mine.example/v1"}
        with othershells.Terminal(saved, place, mine) as terminal:
            first = terminal.report()
            assert first[KEY].startswith("ya29.sandbox-1-")
            installed.upgrade()
            google._google.lifetime = HOUR
            until(lambda: terminal.report()[KEY] != first[KEY], othershells.PATIENCE_S)
            assert terminal.report()[KEY].startswith("ya29.sandbox-2-")
            terminal.type("vertex-env off")
            restored = terminal.report()
            assert {variable: restored[variable] for variable in mine} == mine
            assert b"vertex-env: " not in terminal.output
            assert b"Traceback" not in terminal.output
            # The control: what the program says is on the terminal.
            terminal.type("vertex-env nonsense")
            terminal.wait(lambda: b"vertex-env: " in terminal.output)


# --- direnv ---


@contextmanager
def project(home: Home, line: str) -> Iterator[Shell]:
    """A shell of somebody with the saved library for direnv who has entered a folder with *line* in its .envrc."""
    library = home.place.folder / ".config" / "direnv" / "lib" / "vertex-env.sh"
    library.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(home.saved("direnv"), library)
    folder = home.place.folder / "project"
    folder.mkdir(exist_ok=True)
    allow(home.place, line)
    with Shell("bash", home.place.env, f'eval "$({need("direnv")} hook bash)"\n') as sh:
        sh.entered = sh.run(f"cd {shlex.quote(str(folder))}")
        yield sh


@SCENARIOS
def direnv_and_a_process_that_waits(folder: Path) -> None:
    """`keep-fresh` of the version before renews the token and ends; direnv loads that; the next one is the new one."""
    line = "use vertex --keep-fresh --min-ttl 1s"
    with at_home(folder) as home, project(home, line) as sh:
        first = sh.value(KEY)
        assert first == stored(home)
        [old] = until(lambda: waiting(home.place))
        until(lambda: list(home.place.cache.glob("*.keeper")))  # it has loaded all that it needs
        home.installed.upgrade()
        home.lives(HOUR)
        until(lambda: stored(home) != first)
        until(lambda: old not in waiting(home.place))
        sh.enter()
        assert sh.value(KEY) == stored(home)
        assert home.place.google.counts["token"] == 2
        until(lambda: len(waiting(home.place)) == 1)
        assert "vertex-env: " not in sh.screen
        assert "Traceback" not in sh.screen
        # The control: what the library and the program say is on the screen.
        home.place.program.unlink()
        home.place.cache.joinpath("shell.snapshot").unlink(missing_ok=True)
        assert "vertex-env: " in sh.run("direnv reload; true") + sh.run("")


# --- what is stored ---

WRITE = (
    ("token",),
    ("export",),
    ("export", "--format", "lines"),
    ("export", "--format", "json"),
    ("export", "--format", "direnv"),
    ("export", "--location", "us-central1", "--endpoint", "sandbox-llama"),
    ("url", "--location", "us-central1", "--endpoint", "sandbox-llama"),
    ("endpoints", "--location", "us-central1"),
    ("run", "--", "true"),
    ("status",),
)
"""Commands that leave something."""


def kinds(home: Home) -> set[str]:
    """The kinds of files that are kept, such as `.token`; of a lock, nothing."""
    return {path.suffix for path in home.place.cache.iterdir()}


def test_files_of_the_version_before(home: Home) -> None:
    """Each command says the same with them as before, with the same token, and not a word more."""
    home.lives(HOUR)
    old = [home.run(*args) for args in WRITE]
    assert {"", ".token", ".stamp", ".answer", ".snapshot", ".mark", ".note"} <= kinds(home)
    home.installed.upgrade()
    new = [home.run(*args) for args in WRITE]
    token = stored(home)
    assert [(done.status, done.stderr) for done in new] == [
        (done.status, done.stderr) for done in old
    ]
    assert [done.stderr for done in new] == [""] * len(WRITE)
    for args, was, now in zip(WRITE, old, new, strict=True):
        if args != ("status",):  # it shows how long the token is still good
            assert now.stdout == was.stdout, args
    assert token in new[0].stdout
    assert home.place.google.counts["token"] == 1


def test_a_failure_that_the_version_before_has_noted(home: Home) -> None:
    """It is about another instant: a token is minted, without a word. The control: it had failed."""
    home.place.google.fail(Fault(1, 400))
    failed = home.run("token")
    assert (failed.status, failed.stdout) == (77, "")
    assert "hint: " in failed.stderr
    assert ".failure" in kinds(home)
    home.installed.upgrade()
    done = home.run("token")
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.strip() == stored(home)


def test_a_keychain_that_the_version_before_has_used(home: Home, tmp_path: Path) -> None:
    """Its token is used, and `logout --all` deletes it there as well."""
    items = tmp_path / "items"
    items.mkdir()
    shutil.copy(keychains.__file__, home.installed.folder)
    home.lives(HOUR)
    home.place.env |= {"PYTHON_KEYRING_BACKEND": "keychains.Keychain", "TESTS_KEYCHAIN": str(items)}
    home.place.env["VERTEX_ENV_STORE"] = "keyring"
    old = home.run("token")
    assert (old.status, old.stderr) == (0, "")
    assert {".keychain", ".pin", ".stamp"} <= kinds(home)
    assert list(items.iterdir())
    home.installed.upgrade()
    assert home.run("token") == old
    assert home.place.google.counts["token"] == 1
    done = home.run("logout", "--all")
    assert (done.status, done.stderr) == (0, "")
    assert (list(items.iterdir()), kinds(home)) == ([], {""})


OLD_NAMES = (
    *(
        f"{'a' * 64}.{kind}"
        for kind in ("token", "behind", "failure", "stamp", "keeper", "mark", "keychain")
    ),
    *(f"{'a' * 64}.{kind}.tmp" for kind in ("token", "stamp")),
    f"{'a' * 64}.token.4711.5.tmp",
    f"{'b' * 32}.answer",
    "keychain.pin",
    f"endpoint-{'c' * 64}.note",
    "no-metadata.note",
    "shell.snapshot",
    "shell-work.snapshot",
    "probe-4711.tmp",
)
"""A file of each kind that the version before may leave."""


def test_logout_deletes_all_that_the_version_before_has_left(home: Home) -> None:
    """Nothing but locks is left; the control: a file that is not ours."""
    home.lives(HOUR)
    for args in WRITE:
        home.run(*args)
    for name in OLD_NAMES:
        path = home.place.cache / name
        path.touch(mode=0o600)
        backdate(path)
    other = home.place.cache / "notes.txt"
    other.touch()
    home.installed.upgrade()
    done = home.run("logout", "--all")
    assert (done.status, done.stderr) == (0, "")
    left = {path.name for path in home.place.cache.iterdir()}
    assert {name for name in left if not re.fullmatch(r"lock-[0-9a-f]{2}", name)} == {other.name}


# --- processes that go on ---


@SCENARIOS
def supervisor_of_the_version_before(tmp_path: Path) -> None:
    """The process that mints for it is this version's: the command gets a new token, and its status is passed on."""
    log = Log(tmp_path)
    argv = [*RUN, "--on-expiry", "restart", "--", *log.probe("reads")]
    read, write = os.pipe()
    with at_home(tmp_path) as home, Process(argv, home.place.env, tmp_path, stdin=read) as run:
        first = log.start()
        assert first["token"] == stored(home)
        home.installed.upgrade()
        home.lives(HOUR)
        second = log.start(1)
        assert second["generation"] == "1"
        assert second["token"] == stored(home) == home.place.stored != first["token"]
        # On a machine with much to do, the token may have expired meanwhile.
        said = r"(vertex-env: the token has expired: .*\n)?vertex-env: new token, lasting \d+ s: starting the .*\n"
        assert re.fullmatch(said, run.stderr)
        os.write(write, b"exit 7\n")
        assert run.status() == 7
    os.close(read)
    os.close(write)


@SCENARIOS
def supervisor_of_the_version_before_whose_command_is_gone(tmp_path: Path) -> None:
    """It says so, and ends as it always did."""
    command = tmp_path / "command"
    command.write_text("#!/bin/sh\nexec sleep 60\n")
    command.chmod(0o700)
    argv = [*RUN, "--on-expiry", "restart", "--", str(command)]
    with at_home(tmp_path) as home, Process(argv, home.place.env, tmp_path) as run:
        until(lambda: "sleep" in [name(child) for child in children(run.pid)])
        home.installed.upgrade()
        home.lives(HOUR)
        command.unlink()
        assert run.status() == 127
        assert "Traceback" not in run.stderr
        said = f"vertex-env: error: {command}: command not found\nvertex-env: hint: check the name and PATH\n"
        assert run.stderr.endswith("\n" + said)


def name(pid: int) -> str:
    """The name of a process; empty if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def test_how_a_supervisor_starts_the_process_that_mints(home: Home) -> None:
    """Both versions understand what either says, and answer in JSON."""
    env = {**home.place.env, "_VERTEX_ENV_PARENT": f"{os.getpid()}:-1"}
    answers = []
    for _ in range(2):
        done = run_cli("export", "--format", "json", "--refresh", env=env)
        assert (done.status, done.stderr) == (0, "")
        answers.append(json.loads(done.stdout))
        home.installed.upgrade()
    assert answers[0].keys() == answers[1].keys()
    assert answers[0][KEY] != answers[1][KEY] == stored(home)
