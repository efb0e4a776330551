"""`--store keyring`: tokens are in the keychain and nowhere else, and what cannot be done is an error and no prompt."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import secretstorage
from jeepney.io.blocking import open_dbus_connection  # type: ignore[import-untyped]
from secretstorage.util import add_match_rules

from tests.support import keychains
from tests.support.fakes import PLANTED, token
from tests.support.loopback import Completed, clean_environ, run_cli
from tests.support.tools import need
from vertex_env.cache import private
from vertex_env.cache.folder import write_private
from vertex_env.errors import StoreError
from vertex_env.sandbox.server import Sandbox
from vertex_env.tokens.keychain import SERVICE, KeyringStore
from vertex_env.tokens.store import FileStore
from vertex_env.tokens.token import Token

KEY, OTHER = "a" * 64, "b" * 64
LONG = "ya29." + "0123456789" * 1200
SESSION = """
if [ "$1" = unlocked ]; then
  printf password | gnome-keyring-daemon --unlock --components=secrets >&2
fi
echo "$DBUS_SESSION_BUS_ADDRESS"
cat >&2
"""
PROMPTER = """
[D-BUS Service]
Name=org.gnome.keyring.SystemPrompter
Exec=/bin/sh -c 'touch {marker}; exit 1'
"""


# --- the Secret Service of gnome-keyring ---


@dataclass(frozen=True)
class Desktop:
    """A D-Bus session with a Secret Service of its own."""

    environ: Mapping[str, str]
    prompted: Path
    """There once anybody was asked for a password."""

    @contextmanager
    def collection(self) -> Iterator[secretstorage.Collection]:
        """The default collection, which has to be there."""
        with closing(open_dbus_connection(bus=self.environ["DBUS_SESSION_BUS_ADDRESS"])) as bus:
            add_match_rules(bus)
            yield secretstorage.Collection(bus, "/org/freedesktop/secrets/aliases/default")

    def items(self) -> dict[str, bytes]:
        """Names and contents of our items."""
        with self.collection() as found:
            ours = found.search_items({"service": SERVICE})
            return {item.get_attributes()["username"]: item.get_secret() for item in ours}

    def lock(self) -> None:
        """As when somebody locks it in Seahorse."""
        with self.collection() as found:
            found.lock()


@contextmanager
def new_desktop(state: str) -> Iterator[Desktop]:
    """A session whose keyring is `unlocked`, or `new`: without any collection."""
    program, _ = need("dbus-run-session"), need("gnome-keyring-daemon")
    # Not in pytest's folder: the path of a socket may not exceed 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="keyring-"))
    services = home / "share" / "dbus-1" / "services"
    services.mkdir(parents=True)
    (home / "run").mkdir(mode=0o700)
    prompted = home / "prompted"
    (services / "org.gnome.keyring.SystemPrompter.service").write_text(
        PROMPTER.format(marker=prompted)
    )
    environ = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "XDG_DATA_HOME": str(home / "share"),
        "XDG_RUNTIME_DIR": str(home / "run"),
    }
    try:
        with subprocess.Popen(
            [program, "--", "sh", "-c", SESSION, "sh", state],
            env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        ) as session:  # fmt: skip
            assert session.stdout is not None
            address = session.stdout.readline().strip()
            assert address
            yield Desktop({**environ, "DBUS_SESSION_BUS_ADDRESS": address}, prompted)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def shared_desktop() -> Iterator[Desktop]:
    with new_desktop("unlocked") as desktop:
        yield desktop


@pytest.fixture
def desktop(shared_desktop: Desktop) -> Iterator[Desktop]:
    """An unlocked one in which we have nothing."""
    with shared_desktop.collection() as found:
        for item in found.search_items({"service": SERVICE}):
            item.delete()
    yield shared_desktop
    assert not shared_desktop.prompted.exists()


@pytest.fixture
def google() -> Iterator[Sandbox]:
    with Sandbox(lifetime=timedelta(hours=1)) as sandbox:
        yield sandbox


def login(google: Sandbox, folder: Path, desktop: Desktop | None = None) -> dict[str, str]:
    """The variables of somebody with a keychain, and a home in *folder*."""
    environ = google.environ(str(folder), clean_environ(folder))
    of_bus = () if desktop is None else ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR")
    return {
        **environ,
        **{name: desktop.environ[name] for name in of_bus if desktop},
        "VERTEX_ENV_STORE": "keyring",
    }


def minted(*args: str, env: Mapping[str, str]) -> str:
    """What `token` prints when nothing is wrong."""
    done = run_cli("token", *args, env=env)
    assert (done.status, done.stderr) == (0, "")
    return done.stdout.strip()


def check_refused(done: Completed, message: str) -> None:
    """Status 1, nothing on stdout, one line that has *message*, and one with a hint."""
    assert (done.status, done.stdout) == (1, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith("vertex-env: error: ")
    assert message in error
    assert hint.startswith("vertex-env: hint: ")
    assert "ya29." not in done.stderr


def files_with(text: str, folder: Path) -> list[Path]:
    return [
        path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()
    ]


def names(folder: Path) -> list[str]:
    """The files in the cache, but for locks, and for failures as seen by those who waited."""
    files = [path for path in (folder / "cache").iterdir() if path.suffix != ".failure"]
    return sorted(path.name for path in files if not path.name.startswith("lock-"))


def test_the_token_is_in_the_keychain_and_in_no_file(
    google: Sandbox, desktop: Desktop, tmp_path: Path
) -> None:
    """Every later process has it from there, whatever it prints; no answer is remembered."""
    env = login(google, tmp_path, desktop)
    value = minted(env=env)
    assert [value.encode() in secret for secret in desktop.items().values()] == [True]
    assert minted(env=env) == value
    assert value in run_cli("export", "--format", "json", env=env).stdout
    assert value in run_cli("run", "--", "sh", "-c", "echo $OPENAI_API_KEY", env=env).stdout
    assert run_cli("status", env=env).status == 0
    assert google.counts["token"] == 1
    assert files_with(value, tmp_path) == []
    assert {Path(name).suffix for name in names(tmp_path)} == {".keychain", ".pin", ".stamp"}
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "cache").iterdir()}
    assert modes == {0o600}


def test_stdin_is_not_read(google: Sandbox, desktop: Desktop, tmp_path: Path) -> None:
    """Neither by us nor by what asks for a password."""
    reading, writing = os.pipe()
    os.write(writing, b"untouched")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert run_cli("token", env=login(google, tmp_path, desktop), stdin=pipe).status == 0
        assert pipe.read() == b"untouched"


def test_refresh_replaces_the_token(google: Sandbox, desktop: Desktop, tmp_path: Path) -> None:
    """The old one is gone."""
    env = login(google, tmp_path, desktop)
    old = minted(env=env)
    new = minted("--refresh", env=env)
    assert new != old
    assert minted(env=env) == new
    (secret,) = desktop.items().values()
    assert new.encode() in secret
    assert old.encode() not in secret


def test_many_processes_mint_once(google: Sandbox, desktop: Desktop, tmp_path: Path) -> None:
    """Started cold at once, they all have the same token."""
    env = login(google, tmp_path, desktop)
    with ThreadPoolExecutor(6) as pool:
        values = set(pool.map(lambda _: minted(env=env), range(6)))
    assert len(values) == 1
    assert google.counts["token"] == 1


@pytest.mark.parametrize("everything", [False, True], ids=["logout", "logout --all"])
def test_logout_leaves_nothing_of_ours(
    google: Sandbox, desktop: Desktop, tmp_path: Path, *, everything: bool
) -> None:
    """Items, what is known about them, file tokens and answers; other identities' only with `--all`."""
    env = login(google, tmp_path, desktop)
    with_scope = {**env, "VERTEX_ENV_SCOPE": "openid"}
    minted(env=env)
    minted(env=with_scope)
    minted("--store", "file", env=env)
    minted("--store", "file", env=with_scope)
    assert len(desktop.items()) == 2
    assert len(names(tmp_path)) == 2 + 1 + 2 + 2 + 2
    done = run_cli("logout", *(["--all"] if everything else []), env=env)
    assert (done.status, done.stdout, done.stderr) == (0, "", "")
    count = google.counts["token"]
    if everything:
        assert names(tmp_path) == []
        assert desktop.items() == {}
    else:
        assert len(names(tmp_path)) == 1 + 1 + 1 + 1 + 1
        assert len(desktop.items()) == 1
        minted(env=with_scope)
        minted("--store", "file", env=with_scope)
        assert google.counts["token"] == count
    minted(env=env)
    assert google.counts["token"] == count + 1


def test_a_damaged_item_is_a_miss(
    desktop: Desktop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever somebody did to it; the next one is kept as if nothing had been."""
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", desktop.environ["DBUS_SESSION_BUS_ADDRESS"])
    write_private(
        tmp_path / "keychain.pin", b'{"backend": "keyring.backends.SecretService.Keyring"}'
    )
    store, saved = KeyringStore(tmp_path), now_minted()
    store.save(KEY, saved)
    (good,) = desktop.items().values()
    for change in (b"", good[:-1], good.replace(b"ya29.", b"ya30."), b"\xff\xfe\x00", None):
        assert store.load(KEY) == saved
        with desktop.collection() as found:
            (item,) = found.search_items({"service": SERVICE})
            item.delete() if change is None else item.set_secret(change)
        assert store.load(KEY) is None
        store.save(KEY, saved)
        assert list(desktop.items().values()) == [good]
    with desktop.collection() as found:
        (item,) = found.search_items({"service": SERVICE})
        item.set_secret(b"\xff")
    store.forget(None)
    assert desktop.items() == {}


def test_a_locked_keychain_is_an_error_without_a_prompt(google: Sandbox, tmp_path: Path) -> None:
    """Before anything is minted, and nothing is kept elsewhere instead."""
    with new_desktop("unlocked") as desktop:
        env = login(google, tmp_path, desktop)
        minted(env=env)
        before = names(tmp_path)
        desktop.lock()
        check_refused(run_cli("token", env=env), "locked")
        check_refused(run_cli("token", "--refresh", env=env), "locked")
        check_refused(run_cli("logout", env=env), "locked")
        assert names(tmp_path) == before
        assert run_cli("export", "--format", "sh", env=env).stdout == "false\n"
        check_refused(run_cli("token", env=login(google, tmp_path / "cold", desktop)), "locked")
        assert names(tmp_path / "cold") == []
        assert google.counts["token"] == 1
        status = run_cli("status", env=env)
        assert status.status == 0
        assert "locked" in status.stderr
        assert not desktop.prompted.exists()
        # The same question by keyring itself: the marker would have told.
        ask = "import keyring; keyring.get_password('vertex-env', 'x')"
        assert (
            subprocess.run(
                [sys.executable, "-c", ask], env=env, capture_output=True, check=False
            ).returncode
            != 0
        )
        assert desktop.prompted.exists()


def test_a_missing_collection_is_not_created(google: Sandbox, tmp_path: Path) -> None:
    """To create one is to ask for a password."""
    with new_desktop("new") as desktop:
        check_refused(
            run_cli("token", env=login(google, tmp_path, desktop)), "no default collection"
        )
        assert not desktop.prompted.exists()
    assert google.counts["token"] == 0


@pytest.mark.parametrize(
    "address", [None, "unix:path=/nowhere/bus", "nonsense"], ids=["none", "stale", "malformed"]
)
@pytest.mark.parametrize("known", [False, True], ids=["cold", "warm"])
def test_no_session_is_an_error(
    google: Sandbox, desktop: Desktop, tmp_path: Path, address: str | None, *, known: bool
) -> None:
    """As over ssh or in cron, whether or not there was a keychain before."""
    env = login(google, tmp_path, desktop)
    if known:
        minted(env=env)
    del env["DBUS_SESSION_BUS_ADDRESS"]
    env |= {} if address is None else {"DBUS_SESSION_BUS_ADDRESS": address}
    check_refused(run_cli("token", env=env), "D-Bus" if known else "no keychain")
    assert google.counts["token"] == int(known)
    assert FileStore(tmp_path / "cache").keys() == []


def test_logout_removes_what_is_in_files_though_the_keychain_is_out_of_reach(
    google: Sandbox, desktop: Desktop, tmp_path: Path
) -> None:
    """It fails, but only for what it could not do, which a later call then does."""
    env = login(google, tmp_path, desktop)
    minted(env=env)
    minted("--store", "file", env=env)
    minted("--store", "file", "--scope", "openid", env=env)
    check_refused(
        run_cli("logout", "--all", env={**env, "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}),
        "D-Bus",
    )
    assert FileStore(tmp_path / "cache").keys() == []
    assert len(desktop.items()) == 1
    assert run_cli("logout", "--all", env=env).status == 0
    assert desktop.items() == {}
    assert names(tmp_path) == []


def test_without_a_folder_nothing_is_left_in_the_keychain(
    google: Sandbox, desktop: Desktop, tmp_path: Path
) -> None:
    """What `logout` could not find again is not stored."""
    env = login(google, tmp_path, desktop)
    (tmp_path / "cache").write_text("")
    assert minted(env=env) != minted(env=env)
    assert desktop.items() == {}


# --- keychains with a fault ---


@pytest.fixture
def faulty(google: Sandbox, tmp_path: Path) -> dict[str, str]:
    """The variables with which a child finds the classes of `tests/support/keychains.py` as `keychains`."""
    modules, items = tmp_path / "modules", tmp_path / "items"
    modules.mkdir()
    items.mkdir()
    shutil.copy(Path(keychains.__file__), modules)
    env = login(google, tmp_path)
    path = os.pathsep.join(filter(None, (str(modules), env.get("PYTHONPATH"))))
    return {
        **env,
        "PYTHONPATH": path,
        "TESTS_KEYCHAIN": str(items),
        **preferring("keychains.Keychain"),
    }


def install(faulty: Mapping[str, str]) -> None:
    """Make `keychains` a plug-in of keyring, as one that pip has installed: keyring offers it, preferred or not."""
    info = Path(faulty["PYTHONPATH"].split(os.pathsep)[0]) / "keychains-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: keychains\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[keyring.backends]\nkeychains = keychains\n")


def preferring(name: str) -> dict[str, str]:
    return {"PYTHON_KEYRING_BACKEND": name}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("keyring.backends.null.Keyring", "no keychain"),
        ("keyring.backends.fail.Keyring", "no keychain"),
        ("keyring.backends.chainer.ChainerBackend", "no keychain"),
        ("keychains.Weak", "no keychain"),
        ("keychains.Garbling", "does not keep"),
        ("keychains.Nothing", "AttributeError"),
        ("nowhere.Keychain", "ModuleNotFoundError"),
        ("keyring.backends.macOS.Keyring", "RuntimeError"),
    ],
)
def test_what_does_not_keep_tokens_is_refused(
    google: Sandbox, faulty: Mapping[str, str], tmp_path: Path, name: str, message: str
) -> None:
    """Before one is minted: what is no keychain, what loses things, and names that are wrong."""
    check_refused(run_cli("token", env={**faulty, **preferring(name)}), message)
    assert google.counts["token"] == 0
    assert names(tmp_path) == []


def test_a_keychain_that_hangs_is_given_up(google: Sandbox, faulty: Mapping[str, str]) -> None:
    """After three seconds, whether something is asked of it for the first time or is known to be there."""
    hanging = {**faulty, **preferring("keychains.Hanging")}
    started = time.monotonic()
    check_refused(run_cli("token", env=hanging, timeout=40), "did not answer within 3 s")
    assert time.monotonic() - started < 30
    assert google.counts["token"] == 0
    write_private(
        Path(faulty["VERTEX_ENV_CACHE_DIR"]) / "keychain.pin",
        json.dumps({"backend": "keychains.Hanging"}).encode(),
    )
    check_refused(run_cli("token", env=faulty, timeout=40), "did not answer within 3 s")
    assert google.counts["token"] == 0


def test_an_error_does_not_quote_the_token(
    google: Sandbox, faulty: Mapping[str, str], tmp_path: Path
) -> None:
    """Though the keychain's own does."""
    check_refused(
        run_cli("token", env={**faulty, **preferring("keychains.Talkative")}), "PasswordSetError"
    )
    assert google.counts["token"] == 1
    assert files_with("ya29.", tmp_path / "cache") == []


def test_another_preference_does_not_hide_the_token(faulty: Mapping[str, str]) -> None:
    """The keychain that has proved itself stays the one, until `logout --all`, as long as it is installed."""
    install(faulty)
    first = minted(env=faulty)
    for name in ("keychains.LikeWindows", "keyring.backends.null.Keyring", "nowhere.Keychain"):
        assert minted(env={**faulty, **preferring(name)}) == first
    second = minted("--refresh", env={**faulty, **preferring("keyring.backends.null.Keyring")})
    assert minted(env=faulty) == second
    assert run_cli("logout", "--all", env=faulty).status == 0
    assert list(Path(faulty["TESTS_KEYCHAIN"]).iterdir()) == []
    check_refused(
        run_cli("token", env={**faulty, **preferring("keyring.backends.null.Keyring")}),
        "no keychain",
    )


def test_an_uninstalled_keychain_is_replaced(google: Sandbox, faulty: Mapping[str, str]) -> None:
    """With what was in it out of reach, the token is minted again."""
    first = minted(env=faulty)
    module = Path(faulty["PYTHONPATH"].split(os.pathsep)[0]) / "keychains.py"
    module.rename(module.with_name("others.py"))
    others = {**faulty, **preferring("others.Keychain")}
    second = minted(env=others)
    assert second != first
    assert minted(env=others) == second
    assert google.counts["token"] == 2
    assert run_cli("logout", "--all", env=others).status == 0
    assert list(Path(faulty["TESTS_KEYCHAIN"]).iterdir()) == []


# --- in this process ---


@pytest.fixture
def items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the keychain's items."""
    folder = tmp_path / "items"
    folder.mkdir()
    monkeypatch.setenv("TESTS_KEYCHAIN", str(folder))
    return folder


def pinned(tmp_path: Path, name: str) -> KeyringStore:
    """A store that has settled on the keychain *name* of `tests/support/keychains.py`."""
    backend = getattr(keychains, name)
    pin = {"backend": f"{backend.__module__}.{backend.__qualname__}"}
    write_private(tmp_path / "cache" / "keychain.pin", json.dumps(pin).encode())
    return KeyringStore(tmp_path / "cache")


def now_minted(value: str = PLANTED) -> Token:
    return token(value, issued=datetime.now(UTC))


@pytest.mark.parametrize("name", ["Keychain", "LikeWindows"])
@pytest.mark.parametrize("value", [PLANTED, LONG], ids=["short", "long"])
def test_what_is_saved_is_loaded(tmp_path: Path, items: Path, name: str, value: str) -> None:
    """A token comes back whole, under its key alone, and goes when it is deleted."""
    store = pinned(tmp_path, name)
    saved = now_minted(value)
    store.save(KEY, saved)
    assert KeyringStore(tmp_path / "cache").load(KEY) == saved
    assert store.load(OTHER) is None
    assert store.keys() == [KEY]
    assert len(list(items.iterdir())) == (11 if (name, value) == ("LikeWindows", LONG) else 1)
    store.delete(KEY)
    assert store.load(KEY) is None
    assert list(items.iterdir()) == []


def test_a_shorter_token_leaves_nothing_of_a_longer(tmp_path: Path, items: Path) -> None:
    """Items that are not overwritten are deleted."""
    store = pinned(tmp_path, "LikeWindows")
    store.save(KEY, now_minted(LONG))
    short = now_minted()
    store.save(KEY, short)
    assert store.load(KEY) == short
    assert len(list(items.iterdir())) == 1


def test_items_in_disorder_are_a_miss(tmp_path: Path, items: Path) -> None:
    """Parts of two tokens do not make a third, nor do parts without the rest."""
    store = pinned(tmp_path, "LikeWindows")
    store.save(KEY, now_minted(LONG))
    first = {path: path.read_text() for path in items.iterdir()}
    store.save(KEY, now_minted(LONG.swapcase()))
    for path, text in first.items():
        new = path.read_text()
        for change in (text, text + new, new[1:], "é" + new[1:], ""):
            path.write_text(change)
            assert change == new or store.load(KEY) is None
        path.unlink()
        assert store.load(KEY) is None
        path.write_text(new)
    assert store.load(KEY) is not None


def test_of_large_items_no_more_are_read(tmp_path: Path, items: Path) -> None:
    """What is longer than any token is a miss; the next item, which never answers, is not asked for."""
    store = pinned(tmp_path, "Keychain")
    store.save(KEY, now_minted())
    (first,) = items.iterdir()
    second = first.with_name(first.name.removesuffix("0") + "1")
    os.mkfifo(second)
    first.write_text("x" * (private.MAX_BYTES + 1))
    assert store.load(KEY) is None
    # The control.
    first.write_text("x")
    with pytest.raises(StoreError, match="did not answer"):
        store.load(KEY)
    second.write_text("")  # lets the reader go


def test_a_half_saved_token_is_found_again(tmp_path: Path, items: Path) -> None:
    """A keychain that is full in the middle leaves nothing that `delete` does not know."""
    store = pinned(tmp_path, "FullWindows")
    with pytest.raises(StoreError):
        store.save(KEY, now_minted(LONG))
    assert len(list(items.iterdir())) == 2
    assert store.load(KEY) is None
    store.forget(KEY)
    assert list(items.iterdir()) == []


META = [
    b"", b"\xff", b"null", b"[]", b"{}", b'"backend"', b"[" * 60_000, b'{"backend": 3, "expiry": 1}',
    b'{"backend": "", "expiry": 1}', b'{"backend": "..", "expiry": 1}', b'{"backend": "json", "expiry": 1}',
    b'{"backend": "nowhere.Keychain", "expiry": 1}', b'{"backend": "tests.support.keychains.No", "expiry": 1}',
    b'{"backend": "tests.support.keychains.Path", "expiry": 1}', b'{"backend": "\\ud800.\\u0000", "expiry": 1}',
    b'{"backend": "tests.support.keychains.Keychain", "expiry": "x"}',
    b'{"backend": "tests.support.keychains.Keychain", "expiry": []}',
    b'{"backend": "tests.support.keychains.Keychain", "expiry": 1' + b"0" * 400 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("data", META, ids=lambda data: repr(data[:50]))
def test_damaged_metadata_is_a_miss(tmp_path: Path, items: Path, data: bytes) -> None:
    """And the next token is saved as if nothing had been; nothing of the old one stays."""
    store = pinned(tmp_path, "Keychain")
    store.save(KEY, now_minted("ya29.old"))
    write_private(tmp_path / "cache" / f"{KEY}.keychain", data)
    assert store.load(KEY) is None
    new = now_minted()
    store.save(KEY, new)
    assert store.load(KEY) == new
    write_private(tmp_path / "cache" / f"{KEY}.keychain", data)
    store.forget(None)
    assert list(items.iterdir()) == []
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_pin_is_made_anew(faulty: Mapping[str, str], tmp_path: Path) -> None:
    """From what keyring prefers now."""
    folder, damaged = tmp_path / "cache", META[:-3]
    for i, data in enumerate(damaged):
        write_private(folder / str(i) / "keychain.pin", data)
    program = (
        "import sys, pathlib; from vertex_env.tokens.keychain import KeyringStore\n"
        "for folder in pathlib.Path(sys.argv[1]).iterdir(): KeyringStore(folder).ready()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(folder)],
        env=faulty,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("", "")
    pins = [json.loads(path.read_bytes()) for path in folder.glob("*/keychain.pin")]
    assert pins == [{"backend": "keychains.Keychain"}] * len(damaged)


def test_items_of_tokens_that_ended_are_removed(tmp_path: Path, items: Path) -> None:
    """Those of an identity that nobody asks for any more would stay for ever."""
    store = pinned(tmp_path, "Keychain")
    store.save(OTHER, token(issued=datetime.now(UTC) - timedelta(hours=20)))
    store.save(KEY, now_minted())
    assert [path.name for path in items.iterdir()] == [f"{SERVICE}_{KEY}-0"]
    assert store.keys() == [KEY]


def test_no_traceback_quotes_the_token(tmp_path: Path, items: Path) -> None:
    """Not even one that somebody prints with all its causes."""
    store = pinned(tmp_path, "Talkative")
    with pytest.raises(StoreError) as caught:
        store.save(KEY, now_minted())
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(store)
    assert PLANTED not in told
    assert list(items.iterdir()) == []


@pytest.mark.usefixtures("items")
def test_tokens_saved_at_once_do_not_mix(tmp_path: Path) -> None:
    """Whoever loads meanwhile gets one of them, or nothing."""
    store = pinned(tmp_path, "LikeWindows")
    tokens = [now_minted(f"ya29.{i}." + "x" * 5000) for i in range(4)]

    def save(one: Token) -> None:
        for _ in range(5):
            store.save(KEY, one)

    def load(_: object) -> list[Any]:
        return [store.load(KEY) for _ in range(20)]

    with ThreadPoolExecutor(6) as pool:
        saves = [pool.submit(save, one) for one in tokens]
        found = [each for loads in pool.map(load, range(2)) for each in loads]
        for each in saves:
            each.result()
    assert {each for each in found if each is not None} <= set(tokens)
