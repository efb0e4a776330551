"""`status` and `logout`: what is set and stored, from where, and how to be rid of it; never a token."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes import PLANTED
from tests.support.loopback import Completed, clean_environ, run_cli
from tests.support.tools import need
from vertex_env.sandbox.server import Sandbox
from vertex_env.settings.options import OPTIONS
from vertex_env.tokens.store import FileStore
from vertex_env.tokens.token import Token

SHOWN = {option.name for option in OPTIONS if not option.internal}


@pytest.fixture(scope="module")
def google() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def env(google: Sandbox, tmp_path: Path) -> dict[str, str]:
    return google.environ(str(tmp_path), clean_environ(tmp_path))


def run(*args: str, env: Mapping[str, str]) -> Completed:
    """What works and does not warn."""
    done = run_cli(*args, env=env)
    assert (done.status, done.stderr) == (0, "")
    return done


def report(*args: str, env: Mapping[str, str]) -> Any:
    return json.loads(run("status", "--format", "json", *args, env=env).stdout)


def cells(*args: str, env: Mapping[str, str]) -> dict[str, list[str]]:
    """The table's rows by their first column."""
    head, *rows = (
        re.split(r"  +", line) for line in run("status", *args, env=env).stdout.splitlines()
    )
    assert head == ["SETTING", "VALUE", "FROM"]
    return {row[0]: row[1:] for row in rows}


def cache(env: Mapping[str, str]) -> dict[str, bytes]:
    """The files in the cache that are not locks."""
    files = Path(env["VERTEX_ENV_CACHE_DIR"]).iterdir()
    return {path.name: path.read_bytes() for path in files if not path.name.startswith("lock-")}


def keep(env: Mapping[str, str], *, age: timedelta) -> Token:
    """Put a planted token of an hour that was minted *age* ago in the place of the one that is there."""
    run("token", env=env)
    store = FileStore(Path(env["VERTEX_ENV_CACHE_DIR"]))
    (key,) = store.keys()
    issued = datetime.now(UTC) - age
    token = Token(PLANTED, issued + timedelta(hours=1), issued)
    store.save(key, token)
    return token


# --- status ---


def test_every_setting_has_its_source(env: Mapping[str, str], tmp_path: Path) -> None:
    """Options, variables, a profile, Google's variables and defaults, in the table and as JSON."""
    (tmp_path / "config.toml").write_text(
        '[profile.work]\nlocation = "europe-west4"\nmin-ttl = "90s"\n'
    )
    env = {
        **env,
        "VERTEX_ENV_PROFILE": "work",
        "GOOGLE_CLOUD_QUOTA_PROJECT": "payer-1",
        "VERTEX_ENV_CLIENT": "aider",
    }
    args = ("--model", "google/gemini-3-flash", "--set", "A={base_url}", "--set", "B={host}")
    found = report(*args, env=env)["settings"]
    assert found.keys() == SHOWN
    expected = {
        "profile": ("work", "VERTEX_ENV_PROFILE"),
        "project": ("sandbox-project", "GOOGLE_CLOUD_PROJECT"),
        "model": ("google/gemini-3-flash", "--model"),
        "quota-project": ("payer-1", "GOOGLE_CLOUD_QUOTA_PROJECT"),
        "endpoint": (None, "default"),
        "store": ("file", "default"),
    }
    assert {name: (found[name]["value"], found[name]["source"]) for name in expected} == expected
    assert found["location"]["value"] == "europe-west4"
    assert found["location"]["source"].startswith(str(tmp_path / "config.toml"))
    assert found["min-ttl"]["source"].startswith(str(tmp_path / "config.toml"))
    rows = cells(*args, env=env)
    assert rows.keys() == SHOWN | {"identity", "base URL", "token", "stored in"}
    assert rows["project"] == ["sandbox-project", "GOOGLE_CLOUD_PROJECT"]
    assert rows["endpoint"] == ["-", "default"]
    assert rows["min-ttl"][0] == "90s"
    assert rows["client"] == ["aider", "VERTEX_ENV_CLIENT"]
    assert rows["set"] == ["A={base_url}, B={host}", "--set"]


def test_gclouds_configuration_and_the_credentials_are_sources(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    """Where the variables say nothing."""
    gcloud = tmp_path / "gcloud" / "configurations"
    gcloud.mkdir(parents=True)
    (gcloud / "config_default").write_text("[core]\nproject = from-gcloud\n")
    credentials = Path(env["GOOGLE_APPLICATION_CREDENTIALS"])
    credentials.write_text(
        json.dumps({**json.loads(credentials.read_text()), "quota_project_id": "from-adc"})
    )
    env = {name: value for name, value in env.items() if name != "GOOGLE_CLOUD_PROJECT"}
    found = report(env=env)
    project, payer = found["settings"]["project"], found["settings"]["quota-project"]
    assert (project["value"], payer["value"]) == ("from-gcloud", "from-adc")
    assert "gcloud" in project["source"]
    assert str(credentials) in payer["source"]
    assert "/projects/from-gcloud/" in found["base_url"]


def test_the_identity_is_told(env: Mapping[str, str]) -> None:
    """Whose token, from which file; who is impersonated rather than who does that."""
    found = report(env=env)["identity"]
    assert found["kind"] == "external_account_authorized_user"
    assert env["GOOGLE_APPLICATION_CREDENTIALS"] in found["credentials"]
    robot = "robot@my-project.iam.gserviceaccount.com"
    assert report("--impersonate", robot, env=env)["identity"]["principal"] == robot
    assert cells("--impersonate", robot, env=env)["identity"][0] == robot


@pytest.mark.parametrize(
    ("age", "shown", "fresh"),
    [
        pytest.param(timedelta(minutes=1), r"lasts 0:5[89]:\d\d", True, id="fresh"),
        pytest.param(timedelta(minutes=50), r"lasts 0:0?[89]:\d\d|lasts 0:10:00", True, id="due"),
        pytest.param(
            timedelta(minutes=57),
            r"lasts 0:0[23]:\d\d, to be renewed at the next use",
            False,
            id="stale",
        ),
        pytest.param(timedelta(minutes=61), "expired", False, id="expired"),
    ],
)
def test_the_stored_tokens_state(
    google: Sandbox, env: Mapping[str, str], age: timedelta, shown: str, *, fresh: bool
) -> None:
    """Until when it lasts and whether it will be used; `status` neither shows nor renews it, nor changes a file."""
    kept = keep(env, age=age)
    before, count = cache(env), google.counts["token"]
    value, *expiry = cells(env=env)["token"]
    assert re.fullmatch(shown, value)
    found = report(env=env)["token"]
    assert found.keys() == {"expiry", "expires_in", "fresh"}
    assert [found["expiry"]] == expiry == [kept.expiry.strftime("%Y-%m-%dT%H:%M:%SZ")]
    assert abs(found["expires_in"] - kept.remaining(datetime.now(UTC)).total_seconds()) < 30
    assert found["fresh"] == fresh
    assert (
        PLANTED
        not in run("status", env=env).stdout + run("status", "--format", "json", env=env).stdout
    )
    assert cache(env) == before
    assert google.counts["token"] == count


@pytest.mark.parametrize("store", ["file", "none"])
def test_without_a_token(google: Sandbox, env: Mapping[str, str], store: str) -> None:
    """There is none to tell of; nothing is asked for and no file is left."""
    count = google.counts["token"]
    assert cells("--store", store, env=env)["token"] == ["none stored"]
    found = report("--store", store, env=env)
    assert found["token"] is None
    assert found["store"]["kind"] == store
    assert found["store"]["problem"] is None
    assert google.counts["token"] == count
    assert store == "none" or cache(env) == {}


def test_the_token_is_that_of_the_identity(env: Mapping[str, str]) -> None:
    """Another's is none."""
    run("token", env=env)
    assert report(env=env)["token"]["fresh"]
    assert report("--scope", "openid", env=env)["token"] is None


def test_a_store_that_cannot_be_used_is_told(env: Mapping[str, str]) -> None:
    """A warning, and no failure: tokens are minted all the same."""
    Path(env["VERTEX_ENV_CACHE_DIR"]).write_text("")
    done = run_cli("status", env=env)
    assert done.status == 0
    assert re.fullmatch(
        r"vertex-env: warning: nothing can be stored in [^\n]*/cache: [^\n]*\n", done.stderr
    )
    done = run_cli("status", "--format", "json", env=env)
    assert done.status == 0
    assert "nothing can be stored" in json.loads(done.stdout)["store"]["problem"]
    run("token", env=env)


def test_variables_in_the_way_are_named(env: Mapping[str, str]) -> None:
    """But not their values, which may be secrets."""
    conflicting = {
        "OPENAI_ORG_ID": "planted-org",
        "OPENAI_PROJECT_ID": "planted-project",
        "OPENAI_CUSTOM_HEADERS": "X-Trace: 1\nAuthorization: Bearer planted-bearer",
        "OPENAI_API_KEY": "planted-key",
        "OPENAI_API_HOST": "planted.example",
        "API_BASE_URL": "https://planted-user@api.openai.com/v1",
    }
    env = {**env, **conflicting}
    done = run_cli("status", env=env)
    assert done.status == 0
    names = [line.split()[2] for line in done.stderr.splitlines()]
    first = ["API_BASE_URL", "OPENAI_API_HOST", "OPENAI_CUSTOM_HEADERS"]
    assert sorted(names) == [*first, "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"]
    as_json = run_cli("status", "--format", "json", env=env)
    assert sorted(json.loads(as_json.stdout)["unset"]) == sorted(names)
    assert "planted-" not in done.stdout + done.stderr + as_json.stdout + as_json.stderr


def test_variables_that_stay_in_the_way_are_named(env: Mapping[str, str]) -> None:
    """A shared name with a host of the user's own is not unset, but somebody should know."""
    kept = {"API_BASE_URL": "https://planted.example/v1", "OPENAI_AGENTS_DISABLE_TRACING": "0"}
    done = run_cli("status", env={**env, **kept})
    assert done.status == 0
    said = done.stderr.replace("vertex-env: warning: ", "").splitlines()
    tracing, shared = sorted(said, key=len, reverse=True)
    assert (
        shared
        == "API_BASE_URL is set and stays: shell-gpt sends the token to its host; --client shell-gpt sets it"
    )
    assert tracing.startswith(
        "OPENAI_AGENTS_DISABLE_TRACING is set and stays: openai-agents sends the token"
    )
    assert sorted(report(env={**env, **kept})["kept"]) == sorted(kept)


def test_variables_that_are_not_in_the_way_are_not_named(env: Mapping[str, str]) -> None:
    """Nor what `export` has set before, or what `--client` sets."""
    ours = json.loads(run("export", "--format", "json", "--client", "shell-gpt", env=env).stdout)
    after = {**env, **{name: value for name, value in ours.items() if value is not None}}
    assert run_cli("status", env=after).stderr == ""
    mine = {"API_BASE_URL": "https://planted.example/v1", "OPENAI_AGENTS_DISABLE_TRACING": "true"}
    assert run_cli("status", "--client", "shell-gpt", env={**env, **mine}).stderr == ""


def test_what_has_no_base_url_says_why(env: Mapping[str, str]) -> None:
    """The rest is told all the same: to find such a mistake is what `status` is for."""
    found = report("--endpoint", "llama", env=env)
    assert found["base_url"].startswith("none: endpoint ")
    without = {name: value for name, value in env.items() if name != "GOOGLE_CLOUD_PROJECT"}
    assert report(env=without)["base_url"].startswith("none: no project is set")
    assert (
        "dedicated"
        in report("--endpoint", "llama", "--location", "us-central1", env=env)["base_url"]
    )


def test_an_impossible_combination_is_an_error(env: Mapping[str, str]) -> None:
    """Not a bug, and nothing on stdout."""
    done = run_cli("status", "--lifetime", "1h", env=env)
    assert (done.status, done.stdout) == (78, "")
    assert "impersonate" in done.stderr
    done = run_cli("status", "--location", "nowhere!", env=env)
    assert (done.status, done.stdout) == (78, "")


def test_nothing_in_a_setting_moves_the_terminal(env: Mapping[str, str], tmp_path: Path) -> None:
    """A file's name may have control characters, and the table prints it."""
    strange = tmp_path / "a\x1b[2Jb.json"
    strange.write_bytes(Path(env["GOOGLE_APPLICATION_CREDENTIALS"]).read_bytes())
    done = run("status", env={**env, "GOOGLE_APPLICATION_CREDENTIALS": str(strange)})
    assert "\x1b" not in done.stdout
    assert "a?[2Jb.json" in done.stdout


# --- logout ---


def sign_in_everywhere(env: Mapping[str, str]) -> dict[str, str]:
    """Tokens and answers of two identities, and the variables of the second."""
    other = {**env, "VERTEX_ENV_SCOPE": "openid"}
    for each in (env, other):
        run("token", env=each)
        run("export", "--format", "sh", env=each)
    assert (
        sorted(Path(name).suffix for name in cache(env))
        == [".answer"] * 4 + [".stamp"] * 2 + [".token"] * 2
    )
    return other


def test_logout_forgets_this_identity_alone(google: Sandbox, env: Mapping[str, str]) -> None:
    """Its token and the answers that came of it; the other goes on as before."""
    other = sign_in_everywhere(env)
    theirs = run("token", env=other).stdout
    ours = run("token", env=env).stdout
    assert run("logout", env=env).stdout == ""
    left = cache(env)
    assert sorted(Path(name).suffix for name in left) == [".answer"] * 2 + [".stamp", ".token"]
    assert not any(ours.strip().encode() in content for content in left.values())
    count = google.counts["token"]
    assert run("token", env=other).stdout == theirs
    assert google.counts["token"] == count
    assert run("token", env=env).stdout != ours
    assert google.counts["token"] == count + 1


def test_logout_of_all_leaves_locks(env: Mapping[str, str]) -> None:
    """Everything else goes, whoever it was for; to do so twice, or before there is anything, is no error."""
    run("logout", "--all", env=env)
    run("logout", env=env)
    sign_in_everywhere(env)
    (Path(env["VERTEX_ENV_CACHE_DIR"]) / f"{'a' * 64}.token.123.456.tmp").write_text(PLANTED)
    for _ in range(2):
        assert run("logout", "--all", env=env).stdout == ""
        assert cache(env) == {}
    assert report(env=env)["token"] is None


def test_logout_of_all_needs_no_credentials(env: Mapping[str, str], tmp_path: Path) -> None:
    """They may be gone by then, and a setting may be wrong."""
    sign_in_everywhere(env)
    Path(env["GOOGLE_APPLICATION_CREDENTIALS"]).unlink()
    (tmp_path / "config.toml").write_text("nonsense")
    broken = {**env, "VERTEX_ENV_LOCATION": "nowhere!"}
    run("logout", "--all", env=broken)
    assert cache(env) == {}


def test_logout_without_credentials_cannot_tell_whose_token(env: Mapping[str, str]) -> None:
    """An error, and nothing is deleted."""
    sign_in_everywhere(env)
    before = cache(env)
    Path(env["GOOGLE_APPLICATION_CREDENTIALS"]).unlink()
    done = run_cli("logout", env=env)
    assert (done.status, done.stdout) == (78, "")
    assert cache(env) == before


@pytest.mark.parametrize("mode", [0o500, 0o600, 0o400, 0o000], ids=oct)
@pytest.mark.parametrize("everything", [False, True], ids=["logout", "logout --all"])
def test_logout_says_that_it_cannot_delete(
    env: Mapping[str, str], mode: int, *, everything: bool
) -> None:
    """In a folder that cannot be written, entered or read the token stays, and the status says so.

    The control: where it can be written, it goes without a word.
    """
    run("token", env=env)
    folder = Path(env["VERTEX_ENV_CACHE_DIR"])
    caps = "-dac_override,-dac_read_search"
    less = (f"--inh-caps={caps}", f"--bounding-set={caps}") if os.geteuid() == 0 else ()
    prefix = (need("setpriv"), *less) if less else ()
    argv = [
        *prefix,
        sys.executable,
        "-P",
        "-m",
        "vertex_env",
        "logout",
        *(["--all"] if everything else []),
    ]
    folder.chmod(mode)
    try:
        refused = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        folder.chmod(0o700)
        assert list(folder.glob("*.token"))
    finally:
        folder.chmod(0o700)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"a token may be left in {folder}" in refused.stderr
    assert f"hint: make it writable, then try again: chmod u+rwx {folder}" in refused.stderr
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(folder.glob("*.token"))


def test_logout_touches_nothing_but_its_folder(env: Mapping[str, str], tmp_path: Path) -> None:
    """A link in it is removed, and what that leads to stays."""
    run("token", env=env)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("")
    folder = Path(env["VERTEX_ENV_CACHE_DIR"])
    (folder / f"{'a' * 64}.answer").symlink_to(precious)
    (folder / f"{'b' * 64}.token").symlink_to(precious / "file")
    (folder / f"{'c' * 64}.answer").mkdir()
    run("logout", "--all", env=env)
    assert (precious / "file").exists()
    left = {path.name for path in folder.iterdir() if not path.name.startswith("lock-")}
    assert left == {f"{'c' * 64}.answer"}


FOREIGN = ["thesis.tex", "my.keychain", "bank.answer", f"{'a' * 64}.token.bak", "github.token"]


@pytest.mark.parametrize("name", FOREIGN)
def test_logout_does_not_empty_a_folder_that_is_not_ours(
    env: Mapping[str, str], tmp_path: Path, name: str
) -> None:
    """A cache folder that is a link, or set to somebody's work by mistake, keeps what we did not write."""
    work = tmp_path / "work"
    work.mkdir()
    (work / name).write_text("")
    (tmp_path / "link").symlink_to(work)
    for folder in (tmp_path / "link", work):
        run("logout", "--all", env={**env, "VERTEX_ENV_CACHE_DIR": str(folder)})
        assert (work / name).exists()
