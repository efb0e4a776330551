"""Without a home folder nothing is kept, nothing is left in the working folder, and all else works."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.support.loopback import Completed, clean_environ
from tests.support.tools import need
from vertex_env.sandbox.server import Sandbox

NOBODY = 54321
"""A user that no passwd file has, as a container's may be."""

UNPROTECTED = """
import os, pathlib
import vertex_env.cli.main
os.path.isabs = lambda path: True
pathlib.PurePath.is_absolute = lambda path: True
from vertex_env import entry
entry.main()
"""
"""With every folder taken for an absolute one."""

HOMES: Mapping[str, dict[str, str]] = {
    "none": {},
    "empty": {"HOME": ""},
    "relative": {"HOME": "relative"},
    "tilde": {"HOME": "~"},
    "relative cache": {"HOME": "/nonexistent", "VERTEX_ENV_CACHE_DIR": "cache"},
    "relative XDG": {"HOME": "relative", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config"},
}


@cache
def become(uid: int) -> tuple[str, ...]:
    """The command that starts another as *uid*, who may read all files where Python itself is in root's home."""
    if uid == os.geteuid():
        return ()
    ids = (need("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
    readers = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    for prefix in (ids, (*ids, *readers)):
        argv = [*prefix, sys.executable, "-c", "import vertex_env.cli.main"]
        if subprocess.run(argv, capture_output=True, check=False).returncode == 0:
            return prefix
    pytest.skip("no other user can start this Python here")


class Container:
    """A user *uid* with credentials in a file, in a working folder of theirs; both are outside of any home."""

    def __init__(self, folder: Path, google: Sandbox, uid: int) -> None:
        self.uid = uid
        self.work, self._files = folder / "work", folder / "files"
        self.work.mkdir()
        self._files.mkdir()
        env = google.environ(str(self._files), clean_environ(self._files))
        shutil.rmtree(self._files / "gcloud")
        for name in ("HOME", "VERTEX_ENV_CACHE_DIR", "VERTEX_ENV_CONFIG", "CLOUDSDK_CONFIG"):
            env.pop(name, None)
        self.env = env
        for path in (folder, *folder.rglob("*")):
            os.chown(path, uid, uid)

    def run(self, *args: str, start: Sequence[str] = ("-m", "vertex_env"), **env: str) -> Completed:
        """What `vertex-env ARGS` does there."""
        argv = [*become(self.uid), sys.executable, "-P", *start, *args]
        done = subprocess.run(
            argv,
            env={**self.env, **env},
            cwd=self.work,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Completed(done.returncode, done.stdout, done.stderr)

    def left(self) -> list[str]:
        """Whatever is in the working folder now."""
        return sorted(str(path.relative_to(self.work)) for path in self.work.rglob("*"))


@pytest.fixture(scope="module")
def google() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def container(google: Sandbox) -> Iterator[Container]:
    # Not in pytest's folder, which is root's alone.
    folder = Path(tempfile.mkdtemp(prefix="vertex-env-test-"))
    try:
        yield Container(folder, google, NOBODY if os.geteuid() == 0 else os.geteuid())
    finally:
        shutil.rmtree(folder)


def need_nobody(home: str) -> None:
    """Skip what needs a user that does not exist."""
    if home in ("none", "empty") and os.geteuid() != 0:
        pytest.skip("only root can become a user that does not exist")


@pytest.mark.parametrize("home", HOMES)
def test_nothing_is_left_in_the_working_folder(
    container: Container, google: Sandbox, home: str
) -> None:
    """Each call mints, says nothing, and leaves nothing; `status` says why, and what cures it."""
    need_nobody(home)
    before = google.counts["token"]
    asked = (["token"], ["export", "--format", "sh"], ["export", "--format", "lines"])
    for count, args in enumerate(asked, 1):
        done = container.run(*args, **HOMES[home])
        assert (args, done.status, done.stderr) == (args, 0, "")
        assert google.counts["token"] == before + count
    for args in (
        ["logout"],
        ["logout", "--all"],
        ["token", "--store", "keyring"],
        ["token", "--store", "file"],
    ):
        done = container.run(*args, **HOMES[home])
        assert (args, done.status, done.stderr) == (args, 0, "")
    done = container.run("status", **HOMES[home])
    assert done.status == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("vertex-env: warning: nothing is stored: ")
    assert line.endswith("set HOME, XDG_CACHE_HOME or VERTEX_ENV_CACHE_DIR to an absolute path")
    assert [
        row.split()[1:3]
        for row in done.stdout.splitlines()
        if row.startswith(("store ", "stored in"))
    ] == [
        ["none", "no"],
        ["in", "none"],
    ]
    assert container.left() == []


@pytest.mark.parametrize("home", ["relative", "tilde", "relative cache"])
def test_run_leaves_nothing_there(tmp_path: Path, google: Sandbox, home: str) -> None:
    """As ourselves: what `run` starts cannot read a Python in root's home as another user."""
    ours = Container(tmp_path, google, os.geteuid())
    for arguments in ((), ("--on-expiry", "ignore")):
        done = ours.run("run", *arguments, "--", "true", **HOMES[home])
        assert (done.status, done.stdout, done.stderr) == (0, "", "")
    assert ours.left() == []


@pytest.mark.parametrize("home", ["relative", "tilde", "relative cache", "relative XDG"])
def test_without_the_rule_a_token_is_left_there(container: Container, home: str) -> None:
    """The control of the test above."""
    assert container.run("token", start=("-c", UNPROTECTED), **HOMES[home]).status == 0
    assert [name for name in container.left() if name.endswith(".token")]


def test_choice_of_none_is_not_warned_of(container: Container) -> None:
    """Nobody misses what they did not want."""
    done = container.run("status", "--store", "none", **HOMES["relative"])
    assert (done.status, done.stderr) == (0, "")
    assert "--store" in done.stdout


@pytest.mark.parametrize("variable", ["VERTEX_ENV_CACHE_DIR", "XDG_CACHE_HOME", "HOME"])
def test_an_absolute_path_cures_it(container: Container, google: Sandbox, variable: str) -> None:
    """Each of the three that the warning names."""
    place = container.work.with_name("place")
    place.mkdir()
    os.chown(place, container.uid, container.uid)
    before = google.counts["token"]
    first = container.run("token", **{variable: str(place)})
    assert (first.status, first.stderr) == (0, "")
    assert container.run("token", **{variable: str(place)}).stdout == first.stdout
    assert google.counts["token"] == before + 1
    assert [path.name for path in place.rglob("*.token")]
    assert container.left() == []


@pytest.mark.parametrize("home", ["/dev/null", "/nonexistent"])
def test_home_of_a_system_user_is_no_error(container: Container, home: str) -> None:
    """Debian's daemons have these: what cannot be written there is not stored."""
    if os.geteuid() != 0:
        pytest.skip("needs a user that may not write anywhere")
    for args in (["token"], ["export", "--format", "sh"], ["logout", "--all"]):
        done = container.run(*args, HOME=home)
        assert (args, done.status, done.stderr) == (args, 0, "")
    done = container.run("status", HOME=home)
    assert done.status == 0
    assert done.stderr.startswith("vertex-env: warning: nothing can be stored in " + home)
    assert container.left() == []


def test_files_in_no_home_are_named(container: Container) -> None:
    """A path in the home is an error without one, and so is a profile; the cures do not need a home."""
    need_nobody("none")
    done = container.run("token", "--credentials", "~/adc.json")
    assert (done.status, done.stdout) == (78, "")
    assert "are in no home folder: HOME is not set, and the user is unknown" in done.stderr
    done = container.run("token", "--profile", "work")
    assert (done.status, done.stdout) == (78, "")
    assert "config.toml: there is no home folder" in done.stderr
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "GCE_METADATA_IP"):
        container.env.pop(name, None)
    done = container.run("token", NO_GCE_CHECK="true")
    assert (done.status, done.stdout) == (78, "")
    assert "no home folder, no metadata server" in done.stderr
    assert "--credentials FILE" in done.stderr
    assert container.left() == []
