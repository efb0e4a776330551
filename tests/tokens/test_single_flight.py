"""One mint at a time: for a herd that starts at once, when Google fails, and when the one that mints is killed."""

import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.forks import Forks
from tests.support.kills import KEY, Counted, broker, now
from tests.support.loopback import clean_environ
from vertex_env.errors import UnavailableError
from vertex_env.sandbox.faults import Fault
from vertex_env.sandbox.server import Sandbox
from vertex_env.tokens.keychain import KeyringStore
from vertex_env.tokens.store import FileStore

PROGRAM = [sys.executable, "-P", "-c", "from vertex_env.entry import main; main()"]


@pytest.fixture
def google() -> Iterator[Sandbox]:
    with Sandbox(delay=timedelta(seconds=0.3)) as sandbox:
        yield sandbox


@pytest.fixture
def env(google: Sandbox, tmp_path: Path) -> dict[str, str]:
    return google.environ(str(tmp_path / "g"), clean_environ(tmp_path))


@pytest.fixture
def forks(env: dict[str, str], tmp_path: Path) -> Iterator[Forks]:
    with Forks(env, str(tmp_path)) as forks:
        forks.run("--version", env=env)  # it is there when the herd starts
        yield forks


# --- a herd ---


def test_200_at_once_make_one_request(google: Sandbox, env: dict[str, str], forks: Forks) -> None:
    """All print the same token, and nothing else."""
    runs = forks.run_at_once(200, "token", env=env)
    assert {(run.status, run.stderr) for run in runs} == {(0, "")}
    assert len({run.stdout for run in runs}) == 1
    assert runs[0].stdout.startswith("ya29.sandbox-1-")
    assert google.counts["token"] == 1


def test_real_processes_at_once_make_one_request(google: Sandbox, env: dict[str, str]) -> None:
    """The same with interpreters that each start for themselves, some for `export`."""
    commands = [
        [*PROGRAM, *args]
        for args in (("token",), ("export", "--format", "json"))
        for _ in range(10)
    ]
    processes = [
        subprocess.Popen(
            c, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for c in commands
    ]
    ended = [(process.communicate(timeout=120), process.returncode) for process in processes]
    assert {(err, status) for (_, err), status in ended} == {(b"", 0)}
    assert len({out for (out, _), _ in ended}) == 2
    assert google.counts["token"] == 1


def test_a_herd_that_wants_new_tokens_shares_them(
    google: Sandbox, env: dict[str, str], forks: Forks
) -> None:
    """With --refresh whoever waits for the lock takes the token that was minted meanwhile."""
    old = forks.run("token", env=env).stdout
    runs = forks.run_at_once(200, "token", "--refresh", env=env)
    assert {(run.status, run.stderr) for run in runs} == {(0, "")}
    assert old not in {run.stdout for run in runs}
    # One for all that were there when it was minted. On a busy machine some come later, and ask for another.
    assert google.counts["token"] - 1 == len({run.stdout for run in runs}) <= 20


@pytest.mark.parametrize(("status", "expected", "most"), [(503, 75, 12), (403, 77, 4)])
def test_a_herd_fails_together(
    google: Sandbox, env: dict[str, str], forks: Forks, status: int, expected: int, most: int
) -> None:
    """Those who wait do not each find out for themselves, and who comes later does not hear of it."""
    google.fail(Fault(1000, status))
    runs = forks.run_at_once(50, "export", "--format", "sh", env=env)
    assert {(run.status, run.stdout) for run in runs} == {(expected, "false\n")}
    assert len({run.stderr for run in runs}) == 1
    # google-auth itself asks three times where trying again may help.
    assert google.counts["token"] <= most
    google._google.faults.clear()
    assert forks.run("export", "--format", "sh", env=env).status == 0


# --- failures as seen by the broker ---


@pytest.mark.parametrize("later", [timedelta(seconds=1), timedelta(hours=-3), timedelta(days=1)])
def test_an_old_failure_is_not_met_again(tmp_path: Path, later: timedelta) -> None:
    """Nor where the clock was set back after it, perhaps because it was the cause."""
    with pytest.raises(UnavailableError):
        broker(tmp_path / "c", Counted(UnavailableError("m", "h"))).token()
    source = Counted()
    broker(tmp_path / "c", source, lambda: now() + later).token()
    assert source.count == 1


FROM_THE_FUTURE = b'{"at": 9e99, "kind": "UnavailableError", "message": "", "hint": ""}'


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b"1", b'{"at": "x"}', FROM_THE_FUTURE])
def test_a_damaged_note_of_a_failure_is_none(tmp_path: Path, record: bytes) -> None:
    """It is only there to save time."""
    store = FileStore(tmp_path / "c")
    with store.lock(KEY):
        path = tmp_path / "c" / f"{KEY}.failure"
        path.write_bytes(record)
        path.chmod(0o600)
    assert broker(tmp_path / "c", Counted()).token().value


# --- killed ---


def test_a_thousand_kills_leave_a_store_that_works(tmp_path: Path) -> None:
    """Whatever instant SIGKILL finds it at: the next call has a token at once, and it is one that was minted."""
    folder = tmp_path / "cache"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", "-m", "tests.support.kills", str(folder), "1000"]
    ended = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert int(ended.stdout) > 500
    leftovers = sorted(path for path in folder.iterdir() if path.suffix == ".tmp")
    long_ago = time.time() - 14 * 3600
    for path in leftovers:
        os.utime(path, (long_ago, long_ago))
    broker(folder, Counted()).token(refresh=True)
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]


def test_the_program_killed_thirty_times(env: Mapping[str, str], google: Sandbox) -> None:
    """At any instant, from starting Python to printing: the next call prints a token."""
    dice = random.Random(7)
    for _ in range(30):
        command = [*PROGRAM, "token", "--refresh"]
        process = subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(dice.random() * 0.7)
        process.kill()
        process.wait()
    for command in ([*PROGRAM, "token"], [*PROGRAM, "token", "--refresh"], [*PROGRAM, "token"]):
        ended = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=20, check=False
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith("ya29.sandbox-")
    assert google.counts["token"] >= 2


def test_leftovers_of_the_killed_are_removed(tmp_path: Path) -> None:
    """Half-written files are no obstacle, and go once they are old."""
    folder = tmp_path / "cache"
    broker(folder, Counted()).token()
    old, young = (folder / f"{KEY}.token.{i}.{i}.tmp" for i in (1, 2))
    for path in (old, young):
        path.write_bytes(b"vertex-env-tok")
    os.utime(old, (0, 0))
    broker(folder, Counted()).token(refresh=True)
    assert not old.exists()
    assert young.exists()


# --- the lock ---


def test_locks_of_different_identities_do_not_wait(tmp_path: Path) -> None:
    """There are 256 of them; two with one lock only wait, and both go on."""
    store = FileStore(tmp_path / "cache")
    with store.lock("a" * 64), store.lock("b" * 64):
        pass
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["lock-aa", "lock-bb"]


@pytest.mark.parametrize("what", ["folder", "link"])
def test_without_a_lock_it_goes_on(tmp_path: Path, what: str) -> None:
    """Something else in the lock's place costs a mint at worst."""
    folder = tmp_path / "cache"
    store = FileStore(folder)
    with store.lock("b" * 64):
        pass
    if what == "folder":
        (folder / "lock-aa").mkdir()
    else:
        (folder / "lock-aa").symlink_to(tmp_path / "elsewhere")
    assert broker(folder, Counted()).token().value
    assert not (tmp_path / "elsewhere").exists()


def test_lengths_of_waits_add_up() -> None:
    """A holder that needs all the time it may take for a mint still lets the others in before they give up."""
    pauses = itertools.accumulate(
        itertools.repeat(None, 50), lambda p, _: min(p * 1.5, 0.1), initial=0.01
    )
    assert max(pauses) == 0.1
    for mint_s in (1.0, 10.0, 300.0):
        for kind in (FileStore, KeyringStore):
            assert kind(Path("/cache"), mint_s).lock_wait_s == mint_s + 20
