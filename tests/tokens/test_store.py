"""`store`: private, atomic, and a miss for whatever is not as it was written."""

import multiprocessing
import os
import stat
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support import fakes
from vertex_env.cache import private
from vertex_env.cache.folder import make_private, write_private
from vertex_env.cache.notes import Notes
from vertex_env.tokens.store import FileStore
from vertex_env.tokens.token import Identity, Token

KEY = Identity("authorized_user", "f" * 64, ("scope",)).key
NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, UTC)
TOKEN = Token("ya29.a0_-~+/=", NOW + timedelta(hours=1), NOW)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def file_of(folder: Path) -> Path:
    return folder / f"{KEY}.token"


def test_what_is_saved_is_loaded(folder: Path) -> None:
    """A token comes back with both instants to the microsecond."""
    FileStore(folder).save(KEY, TOKEN)
    assert FileStore(folder).load(KEY) == TOKEN


def test_files_are_private(folder: Path) -> None:
    """0600 in 0700, whatever the umask, and nothing else is left behind."""
    old = os.umask(0)
    try:
        with FileStore(folder).lock(KEY):
            FileStore(folder).save(KEY, TOKEN)
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {
        f"{KEY}.token": 0o600,
        f"{KEY}.stamp": 0o600,
        f"lock-{KEY[:2]}": 0o600,
    }


@pytest.mark.parametrize("umask", [0o177, 0o277], ids=oct)
def test_a_umask_does_not_lock_its_own_user_out(tmp_path: Path, umask: int) -> None:
    """The folder, those above it and the files have their modes even where the umask takes the user's own bits.

    The control: what `mkdir` alone makes has not.
    """
    folder = tmp_path / "above" / "cache"
    old = os.umask(umask)
    try:
        with FileStore(folder).lock(KEY):
            FileStore(folder).save(KEY, TOKEN)
        (tmp_path / "control").mkdir(mode=0o700)
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (folder.parent, folder)}
    assert modes == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert FileStore(folder).load(KEY) == TOKEN
    assert stat.S_IMODE((tmp_path / "control").stat().st_mode) == 0o700 & ~umask


def test_another_key_is_a_miss(folder: Path) -> None:
    """A file under the wrong name is not believed: the key stands in it too."""
    store = FileStore(folder)
    store.save(KEY, TOKEN)
    other = "0" * 64
    file_of(folder).rename(folder / f"{other}.token")
    assert store.load(other) is None
    assert store.load(KEY) is None


def test_every_changed_byte_is_a_miss(folder: Path) -> None:
    """Any byte flipped, removed or doubled, any truncation, and no error."""
    store = FileStore(folder)
    store.save(KEY, TOKEN)
    path = file_of(folder)
    good = path.read_bytes()

    def load(data: bytes) -> Token | None:
        path.write_bytes(data)
        return store.load(KEY)

    assert load(good) == TOKEN
    for i in range(len(good)):
        assert load(good[:i]) is None
        assert load(good[:i] + good[i + 1 :]) is None
        assert load(good[:i] + good[i : i + 1] + good[i:]) is None
        for bit in range(8):
            assert load(good[:i] + bytes([good[i] ^ 1 << bit]) + good[i + 1 :]) is None
    assert load(good + b"\n") is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o620, 0o601])
def test_a_file_that_others_may_touch_is_a_miss(folder: Path, mode: int) -> None:
    """Somebody else could have read it, or written it."""
    store = FileStore(folder)
    store.save(KEY, TOKEN)
    file_of(folder).chmod(mode)
    assert store.load(KEY) is None
    store.save(KEY, TOKEN)
    assert store.load(KEY) == TOKEN


def test_a_link_is_a_miss_and_is_not_written_through(folder: Path, tmp_path: Path) -> None:
    """Neither the file nor the folder may be a symbolic link."""
    elsewhere = tmp_path / "elsewhere"
    store = FileStore(folder)
    store.save(KEY, TOKEN)
    file_of(folder).rename(elsewhere)
    file_of(folder).symlink_to(elsewhere)
    assert store.load(KEY) is None
    before = elsewhere.read_bytes()
    store.save(KEY, TOKEN)
    assert elsewhere.read_bytes() == before
    assert not file_of(folder).is_symlink()

    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    assert FileStore(linked).load(KEY) is None
    FileStore(linked).save("1" * 64, TOKEN)
    assert not (folder / f"{'1' * 64}.token").exists()


def test_a_pipe_in_its_place_does_not_hang(folder: Path) -> None:
    """Nothing but a regular file is read."""
    make_private(folder)
    os.mkfifo(file_of(folder), 0o600)
    assert FileStore(folder).load(KEY) is None


def test_a_huge_file_is_a_miss(folder: Path) -> None:
    """More than a token can be is not read."""
    write_private(file_of(folder), b"x" * 70_000)
    assert private.read_private(str(file_of(folder))) is None


@pytest.mark.parametrize("obstacle", ["file", "nowhere", "loop"])
def test_where_nothing_can_be_written_nothing_fails(tmp_path: Path, obstacle: str) -> None:
    """A place that cannot be used means "not stored"."""
    folder = tmp_path / "cache"
    if obstacle == "file":
        folder.write_text("")
    elif obstacle == "nowhere":
        folder = Path("/proc/nowhere/vertex-env")
    else:
        folder.symlink_to(folder)
    store = FileStore(folder)
    with store.lock(KEY):
        store.save(KEY, TOKEN)
    assert store.load(KEY) is None
    store.delete(KEY)
    notes = Notes(folder)
    notes.save("n", {"a": 1}, timedelta(hours=1))
    assert notes.load("n") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root to give a folder away")
def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    """Under sudo, the user's folder is neither read nor written, and none is made in their home."""
    theirs = tmp_path / "home"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    FileStore(theirs / ".cache" / "vertex-env").save(KEY, TOKEN)
    assert list(theirs.iterdir()) == []

    store = FileStore(tmp_path / "cache")
    store.save(KEY, TOKEN)
    os.chown(tmp_path / "cache", 12345, 12345)
    assert store.load(KEY) is None
    store.save("1" * 64, TOKEN)
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == [
        f"{KEY}.stamp",
        f"{KEY}.token",
    ]


def test_a_folder_left_open_is_closed(folder: Path) -> None:
    """A folder of ours that others may enter is made private, not given up."""
    folder.mkdir(mode=0o755)
    store = FileStore(folder)
    store.save(KEY, TOKEN)
    assert store.load(KEY) == TOKEN
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_old_files_are_removed(folder: Path) -> None:
    """What no call can use any more goes with the next save; locks stay."""
    store = FileStore(folder)
    with store.lock(KEY):
        store.save("1" * 64, TOKEN)
    long_ago = time.time() - 14 * 3600
    for path in folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    store.save(KEY, TOKEN)
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [f"{KEY}.token", f"{KEY}.stamp", f"lock-{KEY[:2]}"]
    )


def _hold(folder: str, ready: str) -> None:
    with FileStore(Path(folder)).lock(KEY):
        Path(ready).touch()
        time.sleep(60)


def test_a_killed_holder_frees_the_lock(folder: Path, tmp_path: Path) -> None:
    """The lock goes with the process, however that ends."""
    ready = tmp_path / "ready"
    holder = multiprocessing.get_context("spawn").Process(
        target=_hold, args=(str(folder), str(ready))
    )
    holder.start()
    while not ready.exists():
        time.sleep(0.01)
    got = threading.Event()

    def wait() -> None:
        with FileStore(folder).lock(KEY):
            got.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not got.wait(0.3)
    holder.kill()
    assert got.wait(10)
    waiter.join()
    holder.join()


def test_notes_expire(folder: Path) -> None:
    """A fact is remembered for as long as was asked, and damage is a miss."""
    notes = Notes(folder)
    notes.save("fact", {"id": "1"}, timedelta(hours=1))
    found = notes.load("fact")
    assert found is not None
    assert found[0] == {"id": "1"}
    assert 3590 < found[1] - time.time() <= 3600
    notes.save("fact", {"id": "1"}, timedelta(0))
    assert notes.load("fact") is None
    write_private(folder / "fact.note", b'{"from": 0, "until": 1e12}')
    assert notes.load("fact") is None
    write_private(folder / "fact.note", b"\xff")
    assert notes.load("fact") is None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "/home/me/.cache/vertex-env"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/vertex-env"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/vertex-env"),
        ({"XDG_CACHE_HOME": "/x", "VERTEX_ENV_CACHE_DIR": "/y"}, "/y"),
    ],
)
def test_where_the_folder_is(environ: dict[str, str], expected: str) -> None:
    """Our variable, then the XDG one where it is absolute, then ~/.cache."""
    assert private.cache_dir({"HOME": "/home/me", **environ}) == expected


def test_a_planted_token_is_not_in_a_repr() -> None:
    """A token cannot reach a log by way of a repr."""
    assert fakes.PLANTED not in repr(fakes.token(fakes.PLANTED))
