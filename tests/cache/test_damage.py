"""Whatever stands in the cache folder is a miss and never an error: odd values with a good sum, and no files at all."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.support.fakes import token
from tests.support.loopback import clean_environ, run_cli
from vertex_env.cache import answers as warm
from vertex_env.cache import background, private
from vertex_env.cache.folder import write_private
from vertex_env.cache.notes import Notes
from vertex_env.errors import VertexEnvError
from vertex_env.run import start as run
from vertex_env.run.lifecycle import Rules
from vertex_env.sandbox.server import Sandbox
from vertex_env.tokens.keychain import KeyringStore
from vertex_env.tokens.store import FileStore

KEY = "a" * 64
QUESTION = "b" * 32
NOW = 1_800_000_000.0
NAMES = [
    *(f"{KEY}.{kind}" for kind in ("token", "stamp", "failure", "keychain", "refresh", "keeper")),
    *(f"{QUESTION}.{kind}" for kind in ("answer", "mark")),
    *(
        "no-metadata.note",
        f"endpoint-{KEY}.note",
        "shell.snapshot",
        "keychain.pin",
        f"lock-{KEY[:2]}",
    ),
]
"""A file of each kind."""

ODD_NUMBERS = [
    float("nan"),
    float("inf"),
    float("-inf"),
    -1.0,
    1e18,
    1e300,
    10**400,
    -(10**400),
    True,
    "1",
    None,
    [],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    return folder


# --- what can stand in a file's place ---


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(path.parent, os.O_RDONLY)
        try:  # a socket's path may not exceed 107 bytes
            listener.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


def _full_folder(path: Path) -> None:
    path.mkdir()
    (path / "precious").write_text("")


def _open_file(path: Path) -> None:
    path.touch()
    path.chmod(0o666)


PLACES: Mapping[str, Callable[[Path], None]] = {
    "folder": lambda path: path.mkdir(),
    "full folder": _full_folder,
    "FIFO": lambda path: os.mkfifo(path, 0o600),
    "socket": _socket,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path.name),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "open to all": _open_file,
    "unreadable": lambda path: path.touch(0o000),
    "empty": lambda path: path.touch(0o600),
}


def put(path: Path, place: str) -> None:
    """Have *place* of `PLACES` where *path* is."""
    if path.is_file() or path.is_symlink():
        path.unlink()
    PLACES[place](path)


def read_all(folder: Path) -> None:
    """Call every reader of the cache; each of them misses."""
    env = {"VERTEX_ENV_CACHE_DIR": str(folder)}
    store, now = FileStore(folder), datetime.now(UTC)
    assert store.load(KEY) is None
    assert store.failure(KEY, datetime.fromtimestamp(0, UTC), now + timedelta(days=1)) is None
    assert KeyringStore(folder).load(KEY) is None
    for name in ("no-metadata", f"endpoint-{KEY}"):
        assert Notes(folder).load(name) is None
    assert (
        warm.parse_answer(private.read_private(private.ANSWER.path(str(folder), QUESTION)), env)
        is None
    )
    assert warm.recall(["token"], env, NOW) is None


def write_all(folder: Path) -> None:
    """Call every writer; what cannot be written is not stored."""
    store, now = FileStore(folder), datetime.now(UTC)
    with store.lock(KEY), store.keeper(KEY):
        store.save(KEY, token(issued=now))
        store.fail(KEY, VertexEnvError("message", "hint"), now)
        Notes(folder).save("no-metadata", {}, timedelta(hours=1))
        background.claim_refresh(str(folder), KEY, NOW)
    store.problem()


@pytest.mark.parametrize("place", PLACES)
def test_no_file_is_a_miss(folder: Path, place: str) -> None:
    """Nothing waits, nothing raises, and what a folder or a link leads to stays."""
    for name in NAMES:
        put(folder / name, place)
    if os.geteuid() == 0 and place == "unreadable":
        (folder / f"{KEY}.token").write_bytes(b"")  # root can read it
    read_all(folder)
    write_all(folder)
    KeyringStore(folder).forget(KEY)
    KeyringStore(folder).forget(None)
    left = {path.name for path in folder.iterdir()} - {f"lock-{KEY[:2]}"}
    assert left == (set(NAMES) - {f"lock-{KEY[:2]}"} if "folder" in place else set())
    assert place != "full folder" or (folder / NAMES[0] / "precious").exists()


def test_pipe_does_not_let_everybody_refresh(folder: Path) -> None:
    """It cannot keep when the last refresh was; a file does, which shows that the question is asked."""
    assert background.claim_refresh(str(folder), KEY, NOW)
    assert not background.claim_refresh(str(folder), KEY, NOW)
    put(folder / f"{KEY}.refresh", "FIFO")
    assert not background.claim_refresh(str(folder), KEY, NOW)


def test_folder_that_is_a_link_is_not_used(folder: Path) -> None:
    """Neither read nor written nor emptied, though it leads to our own; a link above it is the user's affair."""
    FileStore(folder).save(KEY, token(issued=datetime.now(UTC)))
    linked = folder.with_name("linked")
    linked.symlink_to(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    read_all(linked)
    write_all(linked)
    assert FileStore(linked).keys() == []
    KeyringStore(linked).forget(None)
    FileStore(linked).delete(KEY)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    above = folder.with_name("above")
    above.symlink_to(folder.parent)
    assert FileStore(above / "cache").load(KEY) is not None


def test_relative_folder_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By no reader and no writer, whatever gave it to them."""
    FileStore(folder).save(KEY, token(issued=datetime.now(UTC)))
    monkeypatch.chdir(folder.parent)
    before = sorted(folder.iterdir())
    for relative in (Path("cache"), Path("new"), Path("~")):
        read_all(relative)
        write_all(relative)
        FileStore(relative).forget(None)
    assert sorted(folder.iterdir()) == before
    assert list(folder.parent.iterdir()) == [folder]


# --- values that nobody writes, with a good sum ---

numbers = st.sampled_from(ODD_NUMBERS) | st.floats() | st.integers()
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
fields = st.sampled_from(
    ["from", "until", "fact", "at", "kind", "message", "hint", "backend", "expiry"]
)
records = st.dictionaries(fields, values, max_size=9)
quick = examples(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(name=st.sampled_from(NAMES), data=st.binary(max_size=300))
def test_arbitrary_bytes_are_a_miss(folder: Path, name: str, data: bytes) -> None:
    """In a file of any kind."""
    write_private(folder / name, data)
    read_all(folder)
    (folder / name).unlink()


@quick
@given(
    issued=st.floats() | st.sampled_from([1e18, 253_402_300_000.0, 0.0]),
    life=st.floats() | st.just(3600.0),
)
def test_impossible_instants_of_a_token_are_a_miss(
    folder: Path, issued: float, life: float
) -> None:
    """What is loaded has dates; the sum of each is good."""
    write_private(
        folder / f"{KEY}.token", private.format_token(KEY, "ya29.x", issued, issued + life)
    )
    found = FileStore(folder).load(KEY)
    assert found is None or (found.due <= found.expiry and warm.rfc3339(found.expiry.timestamp()))


@pytest.mark.parametrize("issued", [1e18, -1e18, 253_402_300_790.0, float("nan"), float("inf")])
def test_no_date_can_be_made_of_these(folder: Path, issued: float) -> None:
    """Each token is a miss; control: a date of its expiry is an error."""
    write_private(
        folder / f"{KEY}.token", private.format_token(KEY, "ya29.x", issued, issued + 3600)
    )
    assert FileStore(folder).load(KEY) is None
    with pytest.raises((ValueError, OverflowError, OSError)):
        datetime.fromtimestamp(issued + 3600, UTC)


@quick
@given(record=records)
def test_odd_records_are_a_miss(folder: Path, record: Mapping[str, Any]) -> None:
    """As notes, failures and in the keychain's notes; what is not missed is of the right types."""
    data = json.dumps(record).encode()
    for name in ("no-metadata.note", f"{KEY}.failure", f"{KEY}.keychain", "keychain.pin"):
        write_private(folder / name, data)
    note = Notes(folder).load("no-metadata")
    assert note is None or (type(note[0]) is dict and int(note[1]) > 0)
    met = FileStore(folder).failure(KEY, datetime.fromtimestamp(0, UTC), datetime.now(UTC))
    assert met is None or (type(met.message), type(met.hint)) == (str, str)
    assert KeyringStore(folder).load(KEY) is None
    KeyringStore(folder).forget(None)
    assert not (folder / f"{KEY}.keychain").exists()


@pytest.mark.parametrize("odd", ODD_NUMBERS, ids=repr)
def test_note_without_a_sensible_end_is_a_miss(folder: Path, odd: object) -> None:
    """Control: the same note with a sensible one is none."""
    note = {"from": 0, "until": 2e9, "fact": {"id": "1"}}
    for changed, found in (({}, ({"id": "1"}, 2e9)), ({"until": odd}, None), ({"fact": odd}, None)):
        write_private(folder / "fact.note", json.dumps(note | changed).encode())
        assert Notes(folder).load("fact") == found


@pytest.mark.parametrize("field", ["message", "hint", "kind", "at"])
@pytest.mark.parametrize("odd", [*ODD_NUMBERS[:-3], None, [], {}], ids=repr)
def test_failure_with_odd_fields_is_a_miss(folder: Path, field: str, odd: object) -> None:
    """Control: the same one without them is none."""
    met = {"at": 1000, "kind": "RefusedError", "message": "it said no", "hint": "ask"}
    store, since, until = (
        FileStore(folder),
        datetime.fromtimestamp(500, UTC),
        datetime.fromtimestamp(2000, UTC),
    )
    write_private(folder / f"{KEY}.failure", json.dumps(met).encode())
    assert str(store.failure(KEY, since, until)) == "it said no"
    write_private(folder / f"{KEY}.failure", json.dumps(met | {field: odd}).encode())
    assert store.failure(KEY, since, until) is None


def remembered(folder: Path, **changed: object) -> dict[str, str]:
    """The variables of somebody for whom `token` is remembered, but for what is *changed* in the answer."""
    env = {"HOME": "/h", "VERTEX_ENV_CACHE_DIR": str(folder)}
    good = {
        "key": KEY,
        "min_ttl": 300.0,
        "until": 0.0,
        "marks": ("<T>", "<E>", "<D>", "<R>", "<W>"),
    }
    fields = {
        "refreshes": True,
        "names": ["HOME"],
        "files": ["/etc/passwd"],
        "text": "<T>\n",
        **good,
        **changed,
    }
    data = warm.format_answer(warm.Answer(**fields), env)  # type: ignore[arg-type]
    if data is not None:
        write_private(
            Path(private.ANSWER.path(str(folder), warm.question_key(["token"], env))), data
        )
    write_private(
        Path(private.TOKEN.path(str(folder), KEY)),
        private.format_token(KEY, "ya29.x", NOW, NOW + 3600),
    )
    return env


@pytest.mark.parametrize(
    "changed",
    [
        *({field: odd} for field in ("min_ttl", "until") for odd in ODD_NUMBERS[:6]),
        {"marks": ()}, {"marks": ("<T>",)}, {"marks": ("",) * 5}, {"marks": ("<T>",) * 6},
        {"key": f"../cache/{KEY}"}, {"key": ""}, {"key": "\0"}, {"names": ["\0", "A=B"], "key": "."},
    ],
    ids=repr,
)  # fmt: skip
def test_odd_answers_are_a_miss(folder: Path, changed: Mapping[str, object]) -> None:
    """Though their sum is good. Control: without the change it is printed."""
    assert warm.recall(["token"], remembered(folder), NOW) == ("ya29.x\n", False)
    assert warm.recall(["token"], remembered(folder, **changed), NOW) is None


@pytest.mark.parametrize("files", [["\0"], ["x" * 5000], ["/" + "x/" * 3000]])
def test_files_of_an_answer_may_have_any_name(folder: Path, files: list[str]) -> None:
    """One that cannot exist is absent."""
    assert warm.recall(["token"], remembered(folder, files=files), NOW) == ("ya29.x\n", False)


PACKED = run.pack(
    {"A": "1", "B": None}, {"VERTEX_ENV_PROJECT": "p"}, Rules("auto", "keep", 10.0, 7.5)
)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "\x1d" * 9, PACKED.replace("auto", "odd"), PACKED.replace("keep", "odd"),
        PACKED.replace("10.0", "nan"),
        PACKED.replace("7.5", "nan"), PACKED.replace("\x1d7.5", ""),
        PACKED.replace("10.0", "-1"), PACKED.replace("10.0", "ten"), PACKED.replace("=p", ""), PACKED + "\0",
        PACKED.replace("A=", "="), PACKED.replace("VERTEX_ENV_PROJECT=", "="),
    ],
)  # fmt: skip
def test_odd_answer_of_run_is_none(text: str) -> None:
    """What `run` remembers is taken apart only if it is whole."""
    assert run.unpack(PACKED)[0] == {"A": "1", "B": None}
    with pytest.raises(ValueError):  # noqa: PT011 -- whichever
        run.unpack(text)


def test_stamp_from_the_far_future_is_replaced(folder: Path) -> None:
    """A stamp is set one second ahead of the last one: not of one that has no successor."""
    store = FileStore(folder)
    path = folder / f"{KEY}.stamp"
    for stamp in (2**31 + 10**9, 2**33):
        write_private(path, b"1 2 " + b"9" * 4000)
        os.utime(path, (stamp, stamp))
        store.save(KEY, token(f"ya29.{stamp}", issued=datetime.now(UTC)))
        assert abs(path.stat().st_mtime - datetime.now(UTC).timestamp()) < 60


# --- a module that a note names ---

PROGRAM = """
import sys
from pathlib import Path
from vertex_env.tokens.keychain import KeyringStore
from vertex_env.cache.folder import write_private
folder = Path(sys.argv[1])
for name in (f"{'a' * 64}.keychain", "keychain.pin"):
    write_private(folder / name, b'{"backend": "planted.Keychain", "expiry": 1}')
store = KeyringStore(folder)
print(store.load("a" * 64))
store.forget(None)
"""
UNPROTECTED = (
    f"from vertex_env.tokens import keychain\nkeychain.KNOWN |= {{'planted.Keychain'}}\n{PROGRAM}"
)


@pytest.mark.parametrize(
    ("program", "ran"), [(PROGRAM, False), (UNPROTECTED, True)], ids=["protected", "control"]
)
def test_note_does_not_name_a_module_to_run(tmp_path: Path, program: str, *, ran: bool) -> None:
    """The same user's programs can write the note, but not what runs in us by it."""
    (tmp_path / "planted.py").write_text(
        "import os, pathlib\npathlib.Path(os.environ['MARKER']).touch()\n"
    )
    env = {**clean_environ(tmp_path), "MARKER": str(tmp_path / "marker")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(tmp_path), env.get("PYTHONPATH"))))
    argv = [sys.executable, "-P", "-c", program, str(tmp_path / "cache")]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "None\n")
    assert (tmp_path / "marker").exists() == ran


# --- the program ---


@pytest.fixture(scope="module")
def google() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def odd_file(path: Path) -> None:
    """A file that is private, and whose content has the right form and is impossible."""
    key = path.stem
    records: Mapping[str, object] = {
        ".failure": {"at": float("nan"), "kind": ["RefusedError"], "message": {}, "hint": 1},
        ".keychain": {"backend": "os.path", "expiry": 10**400},
        ".pin": {"backend": "os.path"},
        ".note": {"from": 0, "until": float("inf"), "fact": {"id": [], "host": {}}},
    }
    data = json.dumps(records.get(path.suffix, {})).encode()
    if path.suffix == ".token":
        data = private.format_token(key, "ya29.forged", 1e18, 1e18 + 3600)
    elif path.suffix == ".answer":
        _, _, body = (path.read_bytes() if path.exists() else b"\n").decode().partition("\n")
        body = body.replace("300.0", "nan", 1)
        data = f"{private.digest(body)}\n{body}".encode()
    elif path.suffix == ".stamp":
        data = b"9" * 4000 + b" x"
    write_private(path, data)


@pytest.mark.parametrize("place", ["folder", "FIFO", "socket", "loop", "odd"])
def test_program_does_without_what_is_damaged(google: Sandbox, tmp_path: Path, place: str) -> None:
    """Status 0, a new token and not a word; `logout --all` ends as well."""
    env = google.environ(str(tmp_path), clean_environ(tmp_path))
    folder = Path(env["VERTEX_ENV_CACHE_DIR"])
    asked = (["token"], ["export", "--format", "sh"], ["run", "--", "true"], ["status"])
    for args in asked:
        assert run_cli(*args, env=env).status == 0
    (key,) = FileStore(folder).keys()
    kinds = ("failure", "keychain", "refresh", "keeper")
    names = [
        *(path.name for path in folder.iterdir()),
        *(f"{key}.{kind}" for kind in kinds),
        *NAMES,
    ]
    for args in (*asked, ["logout", "--all"]):
        for name in names:
            if place == "odd":
                odd_file(folder / name)
            elif not (folder / name).exists() or (folder / name).is_file():
                put(folder / name, place)
        done = run_cli(*args, env=env)
        assert (args, done.status, done.stderr) == (args, 0, "")
        assert "forged" not in done.stdout
