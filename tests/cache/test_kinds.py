"""The cache folder's files: each is of a kind in the table, and `logout --all` leaves nothing but locks."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cache.test_answers import FILE_KEYRING
from tests.support.fakes import START
from tests.support.loopback import run_cli
from tests.support.processes import until
from tests.support.shells import Place, settle
from vertex_env.cache import private
from vertex_env.cache.folder import delete_files, kind_of, our_files, prune
from vertex_env.cache.private import KINDS, Kind
from vertex_env.formats.table import CI_SYSTEMS, TEXT_FORMATS
from vertex_env.sandbox.faults import Fault

KEY = "0123456789abcdef" * 4
LATE = 400.0
"""Seconds that a token has left which is renewed in the background."""


def dropped(folder: Path) -> None:
    """What is left by a process that was killed while it wrote, and what earlier versions left."""
    for name in (
        "probe-4711.tmp",
        "probe-4711.tmp.4711.99.tmp",
        f"{KEY}.token.4711.99.tmp",
        f"{KEY}.answer.tmp",
        f"{KEY}.behind",
    ):
        (folder / name).touch(0o600)


def write_everything(place: Place) -> None:
    """Run each command that writes to the cache folder, in each way that it writes in."""
    env = place.env

    def ok(*args: str, **more: str) -> None:
        done = run_cli(*args, env={**env, **more})
        assert done.status == 0, (args, done.stderr)

    for name in TEXT_FORMATS:
        for _ in range(2):  # the second one is answered from what the first has left
            ok("export", "--format", name)
    for name in CI_SYSTEMS:
        files = {variable: str(place.folder / variable) for variable in ("GITHUB_ENV", "BASH_ENV")}
        run_cli("export", "--format", name, env={**env, **files})
        run_cli("ci", env={**env, **files, CI_SYSTEMS[name].sign: "true"})
    ok("export", "--format", "lines", VERTEX_ENV_PROFILE="")
    place.config.write_text("[profile.work]\n")
    os.utime(place.config, (START.timestamp(), START.timestamp() + 0.5))
    ok("export", "--format", "lines", VERTEX_ENV_PROFILE="work")
    for name in ("text", "json", "header"):
        ok("token", "--format", name)
    ok("token", "--refresh")
    for policy in ("ignore", "auto"):
        ok("run", "--on-expiry", policy, "--", "true")
    for args in (["endpoints", "--all-locations"], ["url"], ["status"]):
        ok(*args, VERTEX_ENV_LOCATION="us-central1")
    listed = run_cli("endpoints", "--location", "us-central1", "--format", "json", env=env)
    ok("url", "--location", "us-central1", "--endpoint", str(json.loads(listed.stdout)[0]["id"]))
    ok("token", "--store", "keyring")
    in_the_background(place)


def in_the_background(place: Place) -> None:
    """Have a token renewed that nobody waits for, one kept fresh, and one refused."""
    old = place.store(left_s=LATE)
    assert run_cli("token", env=place.env).stdout == f"{old}\n"
    until(lambda: place.stored != old)
    place.store(left_s=15, life_s=60)  # which is due
    assert run_cli("keep-fresh", env=place.env).status == 0
    place.google.fail(Fault(1, 400))
    assert run_cli("token", "--refresh", env=place.env).status == 77


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A home in which every command that writes has been run."""
    folder = tmp_path_factory.mktemp("home")
    with settle(folder) as place:
        (folder / "filekeyring.py").write_text(
            FILE_KEYRING.format(path=str(folder / "keychain.json"))
        )
        modules = [str(folder), *filter(None, [place.env.get("PYTHONPATH")])]
        place.env |= {
            "PYTHONPATH": os.pathsep.join(modules),
            "PYTHON_KEYRING_BACKEND": "filekeyring.Keyring",
        }
        write_everything(place)
        dropped(place.cache)
        yield place


@pytest.fixture
def copied(written: Place, tmp_path: Path) -> Path:
    """The folder that all of that has left, once more."""
    return Path(shutil.copytree(written.cache, tmp_path / "cache"))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def kinds(folder: Path) -> set[Kind | None]:
    return {kind_of(path.name) for path in folder.iterdir()}


def test_every_file_is_of_a_kind(written: Place) -> None:
    """And there is one of each: no row of the table is for nothing."""
    assert kinds(written.cache) == set(KINDS)


def test_a_token_is_in_files_of_a_secret_kind_alone(written: Place) -> None:
    """A token of this login is in one of them, which shows that it is looked for."""
    for value in (written.stored, "ya29."):
        having = {
            kind_of(path.name)
            for path in written.cache.iterdir()
            if value.encode() in path.read_bytes()
        }
        assert having == {kind for kind in KINDS if kind.secret}


def test_logout_of_all_leaves_nothing_but_locks(written: Place, copied: Path) -> None:
    env = {**written.env, "VERTEX_ENV_CACHE_DIR": str(copied)}
    keychain = written.folder / "keychain.json"
    assert json.loads(keychain.read_text()) != {}
    done = run_cli("logout", "--all", env=env)
    assert (done.status, done.stdout, done.stderr) == (0, "", "")
    assert kinds(copied) == {private.LOCK}
    assert json.loads(keychain.read_text()) == {}


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if not kind.stays], ids=lambda kind: kind.name("X")
)
def test_a_kind_that_is_not_in_the_table_is_left_over(
    copied: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: with the row nothing of it is."""
    ours = {path.name for path, its in our_files(copied) if its is kind}
    others = tuple(one for one in KINDS if one is not kind)
    monkeypatch.setattr(private, "KINDS", others)
    assert ours
    assert delete_files(copied, None) is None
    assert {name for name in names(copied) if not name.startswith("lock-")} == ours
    monkeypatch.setattr(private, "KINDS", KINDS)
    assert delete_files(copied, None) is None
    assert kinds(copied) == {private.LOCK}


def test_logout_of_one_identity_leaves_those_of_others(written: Place, copied: Path) -> None:
    """What has its key in the name or the text goes, with what was half written; facts stay."""
    key, other = written.session().identity.key, "f" * 64
    for path, kind in our_files(copied):
        if kind.identity == "name" and path.name.startswith(key):
            shutil.copy2(path, copied / path.name.replace(key, other))
    assert delete_files(copied, key) is None
    left = {kind for kind in KINDS if not kind.identity} | {
        kind for kind in KINDS if kind.identity == "name"
    }
    assert kinds(copied) - {private.ANSWER} == left
    assert not any(key in name for name in names(copied))


def test_what_perishes_is_removed_with_age(copied: Path) -> None:
    """And nothing else; locks stay, and what the keychain has to find again."""
    for path in copied.iterdir():
        os.utime(path, (0, 0))
    prune(copied)
    old = {kind for kind in KINDS if kind.ages}
    assert kinds(copied) == set(KINDS) - old
    assert not [name for name in names(copied) if name.endswith(".tmp")]


@pytest.mark.parametrize(
    "name",
    [
        ".bashrc", "notes.tmp", "my.note", "api.token", "an.answer", "lock-xy", f"{KEY}.token.bak", f"{KEY}xtoken",
        f"{KEY}.token\n", "shell-a/b.snapshot", "keychainxpin", "probe-.tmp", f"{KEY}.token.1.tmp", ".tmp", "",
    ],
)  # fmt: skip
def test_what_has_another_name_is_not_ours(name: str) -> None:
    """Control: each of our own file names has a kind, and so has a half-written file."""
    assert kind_of(name) is None
    for kind in KINDS:
        for what in {"lock-{}": ["0f"]}.get(
            kind.name("{}"), ["", KEY, "4711", "no-metadata", "-work"]
        ):
            own = kind.name(what)
            if kind_of(own) is kind:
                assert kind.of(own) == what
                assert kind_of(private.temporary_name(own, 1, 2)) is kind
                break
        else:
            pytest.fail(f"no name of {kind.name('{}')}")
