"""What is kept for shells: when there is a snapshot, what it depends on, the stamp, and that no secret is in either."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support import loopback as google
from tests.support.loopback import run_cli, write_adc
from tests.support.shells import Place, backdate, now, settle
from vertex_env.cache import private
from vertex_env.cache.snapshots import Kept
from vertex_env.errors import SettingsError
from vertex_env.formats.shellfiles import COMPLETIONS, HOOKS, shell_dir
from vertex_env.freshness import MAX_LIFETIME
from vertex_env.session import Session
from vertex_env.tokens.store import FileStore
from vertex_env.tokens.token import Token
from vertex_env.vertex.variables import TRACING

ASK = ("export", "--format", "lines")
KEY = "0123456789abcdef" * 4


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with settle(tmp_path) as place:
        yield place


def snapshots(place: Place) -> set[str]:
    """The names of those that there are."""
    return {path.name for path in place.cache.glob("*.snapshot")}


def text(place: Place) -> str:
    return (place.cache / "shell.snapshot").read_text()


def sets(lines: str) -> dict[str, str]:
    """The variables that *lines* set."""
    return dict(
        line.removeprefix("set ").split("=", 1)
        for line in lines.splitlines()
        if line.startswith("set ")
    )


# --- whether there is one ---


def test_snapshot_is_what_the_program_has_printed(place: Place) -> None:
    done = run_cli(*ASK, env=place.env)
    printed, kept = sets(done.stdout), sets(text(place))
    assert printed.pop("OPENAI_API_KEY") == place.stored
    assert kept.pop("OPENAI_API_KEY") == "\x1f"
    session = place.session()
    assert session.store is not None
    stored = session.store.load(session.identity.key)
    assert stored is not None
    assert printed.pop("VERTEX_ENV_STAMP") == str(place.stamp)
    assert int(printed.pop("VERTEX_ENV_EXPIRES_AT")) == int(stored.expiry.timestamp())
    assert place.stamp.read_text().split()[0] == printed.pop("VERTEX_ENV_REFRESH_AT")
    assert printed == kept
    assert text(place).startswith("vertex-env-snapshot 2\n")
    assert text(place).endswith("end\n")
    assert (place.cache / "shell.snapshot").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "arguments", [("export",), ("export", "--format", "sh"), ("token",), (*ASK, "--location", "us")]
)
def test_only_a_hook_writes_one(place: Place, arguments: tuple[str, ...]) -> None:
    assert run_cli(*arguments, env=place.env).status == 0
    assert snapshots(place) == set()


@pytest.mark.parametrize(
    "environ",
    [
        {"VERTEX_ENV_STORE": "none"},
        {"VERTEX_ENV_STORE": "keyring"},
        {"VERTEX_ENV_MIN_TTL": "10m"},
        {"VERTEX_ENV_CACHE_DIR": "relative"},
        {"VERTEX_ENV_CONFIG": "relative/config.toml"},
    ],
    ids=str,
)
def test_what_shells_could_not_keep_to_has_none(
    place: Place, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert place.session(**environ).snapshot() is Kept.NEVER
    assert snapshots(place) == set()
    assert list(tmp_path.rglob("*.snapshot")) == []


def test_account_of_a_machine_has_none(place: Place) -> None:
    del place.env["GOOGLE_APPLICATION_CREDENTIALS"]
    session = place.session()
    assert session.adc.kind == "metadata"
    assert session.snapshot() is Kept.NEVER
    assert snapshots(place) == set()


@pytest.mark.parametrize("kind", ["url", "aws", "executable", "file"])
def test_subject_of_a_machine_has_none(place: Place, kind: str) -> None:
    """Shells cannot tell one machine from another; a subject token in a file is the control."""
    subject = place.folder / "subject"
    subject.write_text("a subject")
    info = {
        "url": google.external_account_url(place.google.url),
        "aws": google.external_account_aws(place.google.url),
        "executable": google.external_account_executable("/bin/true"),
        "file": google.external_account_file(subject),
    }[kind]
    for path in (subject, write_adc(place.adc, info)):
        backdate(path)
    given = place.session(AWS_ACCESS_KEY_ID="AKIAFAKE").snapshot()
    assert (given, snapshots(place)) == (
        (Kept.WRITTEN, {"shell.snapshot"}) if kind == "file" else (Kept.NEVER, set())
    )


def test_file_that_may_change_within_the_second_is_worth_another_try(place: Place) -> None:
    place.config.touch()
    assert place.session().snapshot() is Kept.NOT_YET
    assert snapshots(place) == set()
    backdate(place.config)
    assert place.session().snapshot() is Kept.WRITTEN
    assert snapshots(place) == {"shell.snapshot"}


@pytest.mark.parametrize("old", ["damaged", "first format"])
def test_damaged_one_is_written_anew(place: Place, old: str) -> None:
    """A shell that could not use it asks again: it gets a new one, and not the same answer for ever."""
    for _ in range(2):
        assert run_cli(*ASK, env=place.env).status == 0
    whole = text(place)
    first = whole.replace("vertex-env-snapshot 2", "vertex-env-snapshot 1")
    (place.cache / "shell.snapshot").write_text("damaged\n" if old == "damaged" else first)
    assert run_cli(*ASK, env=place.env).status == 0
    assert text(place) == whole


def test_file_that_has_changed_since_it_was_read_has_none(place: Place) -> None:
    session = place.session()
    backdate(place.config, 120)
    session.snapshot()
    assert snapshots(place) == set()


def test_file_whose_time_stamp_others_may_have_has_none(place: Place) -> None:
    """Another account's file in its place, with the whole second of an archive or of a Nix store, would pass for it."""
    seconds = int(place.adc.stat().st_mtime)
    os.utime(place.adc, (seconds, seconds))
    assert place.session().snapshot() is Kept.NEVER
    assert snapshots(place) == set()


def marks(place: Place) -> dict[str, int]:
    """The marks with their time stamps."""
    return {path.name: path.stat().st_mtime_ns for path in place.cache.glob("*.mark")}


def test_mark_keeps_its_time_stamp(place: Place) -> None:
    """A file that is as it was again has its old mark again."""
    place.store()
    before, was = marks(place), place.adc.stat().st_mtime_ns
    backdate(place.adc)
    place.store()
    assert before.items() < marks(place).items()
    both = marks(place)
    os.utime(place.adc, ns=(was, was))
    place.store()
    assert marks(place) == both


def test_marks_that_no_snapshot_names_are_removed_in_the_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.store()
    old = set(marks(place))
    backdate(place.adc)
    place.store()
    (gone,) = old - set(re.findall(r"\w+\.mark", text(place)))
    session = place.session()
    assert session.store is not None
    token = session.store.load(session.identity.key)
    assert token is not None
    session.store.save(session.identity.key, token)
    assert gone in marks(place)
    later = time.time() + MAX_LIFETIME + 1
    monkeypatch.setattr(time, "time", lambda: later)
    for path in place.cache.glob("*.snapshot"):
        os.utime(path, (later, later))
    session.store.save(session.identity.key, token)
    assert set(marks(place)) == set(re.findall(r"\w+\.mark", text(place)))
    assert gone not in marks(place)


@pytest.mark.parametrize("profile", ["work", "a.b-c_d"])
def test_each_profile_has_its_own(place: Place, profile: str) -> None:
    place.config.write_text(f'[profile."{profile}"]\nproject = "work-project"\n')
    backdate(place.config)
    place.store()
    place.store(VERTEX_ENV_PROFILE=profile)
    assert snapshots(place) == {"shell.snapshot", f"shell-{profile}.snapshot"}
    assert "work-project" in (place.cache / f"shell-{profile}.snapshot").read_text()
    assert "work-project" not in text(place)


@pytest.mark.parametrize("profile", ["my work", "é", "a/b", "x\ny"])
def test_profile_that_is_no_name_for_a_file_has_none(place: Place, profile: str) -> None:
    place.config.write_text(f'[profile.{json.dumps(profile)}]\nproject = "work-project"\n')
    backdate(place.config)
    with suppress(SettingsError):  # it may as well be refused
        place.session(VERTEX_ENV_PROFILE=profile).snapshot()
    assert snapshots(place) == set()


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\nend\nset PATH=x"])
def test_value_with_a_line_break_has_none(place: Place, value: str) -> None:
    path = place.adc.rename(place.adc.with_name(value.replace("/", "")))
    place.env["GOOGLE_APPLICATION_CREDENTIALS"] = str(path)
    place.session().snapshot()
    assert snapshots(place) == set()


def test_path_with_a_line_break_has_none(place: Place) -> None:
    path = place.adc.rename(place.adc.with_name("a\nb"))
    place.env["GOOGLE_APPLICATION_CREDENTIALS"] = str(path)
    place.session().snapshot()
    assert snapshots(place) == set()


def test_folder_that_cannot_be_written_is_no_failure(place: Place) -> None:
    place.cache.write_text("not a folder")
    place.session().snapshot()
    assert run_cli(*ASK, env=place.env).status == 0


# --- what it depends on ---


def test_it_names_every_variable_and_file(place: Place) -> None:
    place.store()
    lines = text(place).splitlines()
    assert "same GOOGLE_CLOUD_PROJECT=sandbox-project" in lines
    (gone,) = (line.split()[1:] for line in lines if line.startswith("gone "))
    assert {"VERTEX_ENV_LOCATION", "VERTEX_ENV_PROFILE"} <= set(gone)
    files = [line.split(" ", 3) for line in lines if line.startswith("file ")]
    assert {path for *_, path in files} == {str(place.adc), str(place.config)}
    for _, seconds, mark, path in files:
        seen = Path(path).stat()
        assert int(seconds) == int(seen.st_mtime)
        assert (place.cache / mark).stat().st_mtime_ns == seen.st_mtime_ns
        assert (place.cache / mark).read_bytes() == b""
    assert any(line.startswith("none ") and line.endswith("/active_config") for line in lines)


@pytest.mark.parametrize("unset", ["CLOUDSDK_CONFIG", "VERTEX_ENV_CONFIG"])
def test_shells_can_read_every_line(place: Place, unset: str) -> None:
    del place.env[unset]
    place.store()
    name, path = r"[A-Za-z_][A-Za-z0-9_]*", r"/\S+"
    line = rf"(file -?\d+ \w+\.mark|none|token|stamp) {path}|(same|set|fits|lacks) {name}=.*|(gone|unset)( {name})+|end"
    first, *lines = text(place).splitlines()
    assert first == "vertex-env-snapshot 2"
    assert [each for each in lines if not re.fullmatch(line, each)] == []


def gone(place: Place) -> list[str]:
    """The variables that have to be unset."""
    (names,) = (line.split()[1:] for line in text(place).splitlines() if line.startswith("gone "))
    return names


LEFT_OVER = {
    "OPENAI_ORG_ID": "planted-org",
    "OPENAI_API_HOST": "planted.example",
    "OPENAI_API_BASE_URL": "https://planted.example/v1",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
}


def test_what_is_unset_or_set_changes_no_snapshot(place: Place) -> None:
    """A shell that has them and one that unset them write the same bytes, without their values."""
    place.store()
    before = text(place)
    place.env |= LEFT_OVER
    assert place.session().snapshot() is Kept.WRITTEN
    assert text(place) == before
    assert "planted" not in before
    (unset,) = (line.split()[1:] for line in before.splitlines() if line.startswith("unset "))
    assert {"OPENAI_API_HOST", "OPENAI_API_BASE_URL", "OPENAI_ORG_ID"} <= set(unset)
    assert not {"OPENAI_API_HOST", "OPENAI_ORG_ID", "OPENAI_AGENTS_DISABLE_TRACING"} & set(
        gone(place)
    )


def test_what_the_user_keeps_is_left_alone(place: Place) -> None:
    """The control: tracing that is wanted is another snapshot, a back end of the user's is not."""
    place.store()
    before = text(place)
    place.env["API_BASE_URL"] = "https://mine.example/api"
    assert place.session().snapshot() is Kept.WRITTEN
    assert text(place) == before
    assert "lacks API_BASE_URL=openai.com" in before.splitlines()
    place.env[TRACING] = "0"
    assert place.session().snapshot() is Kept.WRITTEN
    assert [line for line in text(place).splitlines() if TRACING in line] == [f"same {TRACING}=0"]


def test_hosts_of_openais_have_no_snapshot(place: Place) -> None:
    """Python unsets them; the next shell finds them gone."""
    place.env["API_BASE_URL"] = "https://api.openai.com/v1"
    assert place.session().snapshot() is Kept.NEVER
    assert snapshots(place) == set()
    assert "unset API_BASE_URL\n" in run_cli(*ASK, env=place.env).stdout


HEADERS = "OPENAI_CUSTOM_HEADERS"


def test_header_that_is_unset_has_none(place: Place) -> None:
    """Which of the user's headers are ours to unset only Python tells."""
    place.env[HEADERS] = "Authorization: Bearer mine"
    assert place.session().snapshot() is Kept.NEVER
    assert snapshots(place) == set()
    assert f"unset {HEADERS}\n" in run_cli(*ASK, env=place.env).stdout


def test_secret_in_a_variable_is_kept_nowhere(place: Place) -> None:
    """Neither in a snapshot nor in a remembered answer: what was decided by is enough."""
    place.env[HEADERS] = "X-Api-Key: s3cret-one"
    place.env |= {
        name: f"s3cret-{name}"
        for name in ("OPENAI_ORG_ID", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY")
    }
    place.env |= {
        "API_BASE_URL": "https://me:s3cret@backend.example",
        "HTTPS_PROXY": "http://me:s3cret@127.0.0.1:1",
    }
    place.env["OPENAI_API_BASE_URL"] = "https://me:s3cret@backend.example"
    place.store()
    for arguments in (
        ASK,
        ("export",),
        ("export", "--format", "json", "--client", "open-webui"),
        ("token",),
    ):
        assert run_cli(*arguments, env=place.env).status == 0
    assert f"lacks {HEADERS}=authorization" in text(place).splitlines()
    assert len(list(place.cache.iterdir())) > 4
    assert [path for path in place.cache.iterdir() if b"s3cret" in path.read_bytes()] == []


@pytest.mark.parametrize(
    "environ",
    [
        {"VERTEX_ENV_SET": "LLM_URL={base_url}"},
        {"VERTEX_ENV_SET": "OPENAI_MODEL=s3cret"},
        {"CLOUDSDK_AUTH_ACCESS_TOKEN": "s3cret"},
    ],
    ids=str,
)
def test_what_hooks_would_not_set_is_left_to_the_remembered_answer(
    place: Place, environ: dict[str, str]
) -> None:
    session = place.session(**environ)
    session.inputs.environ.get("CLOUDSDK_AUTH_ACCESS_TOKEN")
    assert session.snapshot() is Kept.NEVER
    assert snapshots(place) == set()


def test_what_ages_says_until_when(place: Place) -> None:
    session = place.session()
    session.inputs.until = time.time() + 100
    session.snapshot()
    assert f"until {int(session.inputs.until)}" in text(place).splitlines()


# --- the stamp ---


def token(value: str, life: timedelta = timedelta(hours=1)) -> Token:
    issued = now()
    return Token(value, issued + life, issued)


def stamp_of(store: FileStore) -> tuple[str, float]:
    path = Path(private.STAMP.path(str(store.folder), KEY))
    return path.read_text(), path.stat().st_mtime


def test_stamp_says_when_the_token_is_due_and_when_it_ends(tmp_path: Path) -> None:
    store, saved = FileStore(tmp_path / "cache"), token("t0")
    store.save(KEY, saved)
    said, _ = stamp_of(store)
    end = saved.expiry.timestamp()
    assert said == f"{int(end - 225)} {int(end)} 0\n"


def test_stamp_is_replaced_only_when_the_token_has_changed(tmp_path: Path) -> None:
    store, first = FileStore(tmp_path / "cache"), token("t0")
    store.save(KEY, first)
    before = stamp_of(store)
    store.save(KEY, first)
    store.save(KEY, token("t0", timedelta(hours=2)))
    assert stamp_of(store) == before
    store.save(KEY, token("t1"))
    assert stamp_of(store) != before


def test_each_stamp_has_a_whole_second_of_its_own_and_a_number(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "cache")
    seen = []
    for i in range(4):
        store.save(KEY, token(f"t{i}"))
        seen.append(stamp_of(store))
    assert [text.split()[2] for text, _ in seen] == ["0", "1", "2", "3"]
    assert len({at for _, at in seen}) == 4
    assert all(at == int(at) for _, at in seen)
    assert seen == sorted(seen, key=lambda s: s[1])


def test_stamp_is_not_in_the_future(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "cache")
    for i in range(2):
        store.save(KEY, token(f"t{i}"))
    assert stamp_of(store)[1] <= time.time() + 1


@pytest.mark.parametrize(
    "damage", [b"", b"x y z\n", b"1 2\n", b"\xff\n", b"1 2 99999999999999999999x\n"]
)
def test_damaged_stamp_is_replaced(tmp_path: Path, damage: bytes) -> None:
    store = FileStore(tmp_path / "cache")
    store.save(KEY, token("t0"))
    path = Path(private.STAMP.path(str(store.folder), KEY))
    path.write_bytes(damage)
    store.save(KEY, token("t1"))
    assert re.fullmatch(r"\d{10} \d{10} 0\n", path.read_text())


def test_logout_removes_it_all(place: Place) -> None:
    place.store()
    stamp = place.stamp
    assert stamp.exists()
    assert run_cli("logout", env=place.env).status == 0
    assert not stamp.exists()
    assert snapshots(place) == set()


def test_logout_of_all_removes_it_all(place: Place) -> None:
    place.store()
    assert run_cli("logout", "--all", env=place.env).status == 0
    assert [path.name for path in place.cache.iterdir() if not path.name.startswith("lock-")] == []


def test_token_is_in_one_file_only(place: Place) -> None:
    planted = place.store()
    for arguments in (ASK, ("export", "--format", "direnv"), ("export",), ("token",)):
        assert planted in run_cli(*arguments, env=place.env).stdout
    where = [
        path
        for path in place.folder.rglob("*")
        if path.is_file() and planted.encode() in path.read_bytes()
    ]
    assert [path.suffix for path in where] == [".token"]
    assert {path.stat().st_mode & 0o077 for path in place.cache.iterdir()} == {0}


# --- what shells and direnv are told ---


def test_lines(place: Place) -> None:
    place.env["OPENAI_ORG_ID"] = "org"
    planted = place.store()
    done = run_cli(*ASK, env=place.env)
    assert done.stderr == ""
    assert f"set OPENAI_API_KEY={planted}\n" in done.stdout
    assert "unset OPENAI_ORG_ID\n" in done.stdout
    assert all(re.match(r"set [A-Z_]+=|unset [A-Z_]+$", line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("fault", ["config", "credentials"])
def test_lines_of_a_failure_are_none(place: Place, fault: str) -> None:
    getattr(place, {"credentials": "adc"}.get(fault, fault)).write_text("nonsense")
    done = run_cli(*ASK, env=place.env)
    assert done.status == 78
    assert done.stdout == ""
    assert "error" in done.stderr


def test_nothing_stored_has_no_stamp(place: Place) -> None:
    done = run_cli(*ASK, env=place.env | {"VERTEX_ENV_STORE": "none"})
    assert done.status == 0
    assert "unset VERTEX_ENV_STAMP\n" in done.stdout


def test_token_that_could_not_be_stored_has_no_stamp(place: Place) -> None:
    place.cache.write_text("not a folder")
    assert "unset VERTEX_ENV_STAMP\n" in run_cli(*ASK, env=place.env).stdout


def test_token_that_could_not_replace_another_has_no_stamp(place: Place) -> None:
    place.store(left_s=10)
    before = place.stamp.read_text()
    session = place.session()
    assert session.stamp_of(token("later")) is None
    place.store()
    assert place.stamp.read_text() != before
    assert place.session().stamp_of(place.session().token()) == place.stamp


def direnv(place: Place, *arguments: str) -> tuple[int, dict[str, str], list[str]]:
    """Status, variables and watched files that bash has after it has evaluated what direnv would."""
    done = run_cli("export", "--format", "direnv", *arguments, env=place.env)
    script = 'watch_file() { printf "watch %s\\0" "$@"; }\neval "$1"; s=$?; env -0; printf "status %s" $s'
    said = subprocess.run(
        ["bash", "-c", script, "-", done.stdout],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
    ).stdout.decode()
    *parts, status = said.split("\0")
    watched = [part.removeprefix("watch ") for part in parts if part.startswith("watch ")]
    variables = dict(
        part.split("=", 1) for part in parts if "=" in part and not part.startswith("watch ")
    )
    assert (done.status == 0) == (status == "status 0")
    return done.status, variables, watched


def test_direnv_gets_settings_and_what_to_watch(place: Place) -> None:
    planted = place.store()
    status, variables, watched = direnv(place, "--set", "MINE=it's")
    assert status == 0
    assert variables["OPENAI_API_KEY"] == planted
    assert variables["VERTEX_ENV_VIA"] == "direnv"
    assert variables["VERTEX_ENV_SET"] == "MINE=it's"
    assert {str(place.adc), str(place.config), str(place.stamp)} <= set(watched)
    assert len(watched) == len(set(watched))


def test_direnv_hears_of_a_failure_and_what_to_watch(place: Place) -> None:
    place.adc.unlink()
    status, variables, watched = direnv(place, "--project", "other-project")
    assert status != 0
    assert {str(place.adc), str(place.config)} <= set(watched)
    assert (
        variables["VERTEX_ENV_PROJECT"] == "other-project"
    )  # with which the hook in the shell tries again
    assert "OPENAI_API_KEY" not in variables


def test_direnv_watches_the_stamp_of_a_token_that_is_yet_to_come(place: Place) -> None:
    place.env["VERTEX_ENV_ALLOW_HOST"] = ""  # found out after the credentials
    status, _, watched = direnv(place)
    assert status != 0
    session = place.session()
    assert isinstance(session, Session)
    assert str(session.stamp) in watched


@pytest.mark.parametrize("shell", HOOKS)
def test_hook_prints_the_file(place: Place, shell: str) -> None:
    file = shell_dir() / HOOKS[shell]
    done = run_cli("hook", shell, env=place.env)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout == file.read_text()


@pytest.mark.parametrize("shell", COMPLETIONS)
def test_completion_prints_the_file(place: Place, shell: str) -> None:
    file = shell_dir() / COMPLETIONS[shell]
    done = run_cli("completion", shell, env=place.env)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout == file.read_text()


@pytest.mark.parametrize("command", ["hook", "completion"])
def test_shell_that_nobody_knows_is_an_error(place: Place, command: str) -> None:
    done = run_cli(command, "cmd", env=place.env)
    assert (done.status, done.stdout) == (2, "")
    assert "bash" in done.stderr
