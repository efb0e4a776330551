"""The warm path: the same bytes as the ordinary path, at once, or nothing."""

import errno
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.forking import IN_A_SCRIPT
from tests.support.forks import Ended, Forks
from tests.support.loopback import Completed, clean_environ, run_cli
from vertex_env.cache import answers as warm
from vertex_env.cache import background, private
from vertex_env.cache.folder import write_private
from vertex_env.sandbox.server import Sandbox
from vertex_env.session import open_session
from vertex_env.settings.inputs import Inputs
from vertex_env.tokens.store import FileStore
from vertex_env.tokens.token import Token
from vertex_env.vertex.variables import SETTABLE

PROGRAM = ("-P", "-c", "from vertex_env.entry import main; main()")
HOUR = timedelta(hours=1)
SOMEBODY = 12345

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root to give a file away")


@pytest.fixture
def google() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def env(google: Sandbox, tmp_path: Path) -> dict[str, str]:
    return google.environ(str(tmp_path / "g"), clean_environ(tmp_path))


def run_warm(
    *args: str, env: Mapping[str, str], cwd: str | Path = "/", prefix: tuple[str, ...] = ()
) -> Completed:
    """The program as its console script starts it."""
    ended = subprocess.run(
        [*prefix, sys.executable, *PROGRAM, *args],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Completed(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def is_hit(*args: str, env: Mapping[str, str]) -> bool:
    """Whether the program answers *args* without importing the command line."""
    return "vertex_env.cli.main" not in imported(*PROGRAM, *args, env=env)


def imported(*command: str, env: Mapping[str, str]) -> set[str]:
    """Names of the modules that an interpreter imports for *command*, `site` and what it brings included."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(re.findall(r"^import time:.*\|\s*([\w.]+)$", ended.stderr, re.MULTILINE))


def cache(env: Mapping[str, str]) -> Path:
    return Path(env["VERTEX_ENV_CACHE_DIR"])


def answers(env: Mapping[str, str]) -> list[Path]:
    return sorted(cache(env).glob("*.answer"))


def key_of(env: Mapping[str, str]) -> str:
    """Of the identity that a run with *env* has."""
    session = open_session({}, Inputs(env), lambda: datetime.now(UTC), lambda _: None, lambda: None)
    return session.identity.key


def store_token(env: Mapping[str, str], left_s: float, value: str = "ya29.stored") -> None:
    """Store an hour's token that has *left_s* seconds left."""
    expiry = datetime.now(UTC) + timedelta(seconds=left_s)
    FileStore(cache(env)).save(key_of(env), Token(value, expiry, expiry - HOUR))


def wait_for(condition: object, timeout_s: float = 30) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


# --- a hit ---


@pytest.mark.parametrize(
    "args", [("export",), ("export", "--format", "json"), ("token",), ("token", "--format=json")]
)
def test_a_hit_imports_next_to_nothing(env: dict[str, str], args: tuple[str, ...]) -> None:
    """Besides what starting Python imports: a handful of our modules, and a hash."""
    assert run_warm(*args, env=env).status == 0
    more = imported(*PROGRAM, *args, env=env) - imported("-P", "-c", "pass", env=env)
    ours = {name for name in more if name.startswith("vertex_env")}
    names = ("", ".entry", ".program", ".cache", ".cache.private", ".cache.answers", ".freshness")
    assert ours == {f"vertex_env{name}" for name in names}
    heavy = {
        "click",
        "google",
        "keyring",
        "json",
        "re",
        "tomllib",
        "datetime",
        "typing",
        "pathlib",
        "subprocess",
    }
    assert not {name.partition(".")[0] for name in more} & heavy
    assert more - ours <= {"_blake2", "gc", "time"}


@pytest.mark.parametrize(
    "args", [("export", "--format", "sh"), ("token",), ("token", "--format", "header")]
)
def test_a_hit_prints_what_a_miss_did(
    env: dict[str, str], args: tuple[str, ...], google: Sandbox
) -> None:
    """Byte for byte, from one token request, and with nothing on stderr."""
    missed = run_warm(*args, env=env)
    assert missed.status == 0
    assert is_hit(*args, env=env)
    assert run_warm(*args, env=env) == missed == run_cli(*args, env=env)
    assert google.counts["token"] == 1


def test_each_own_result_is_named() -> None:
    """A variable that `export` sets and that is not named there would make each shell ask anew."""
    own = {name for name in SETTABLE if name.startswith("VERTEX_ENV_")}
    assert own
    assert own <= set(warm._OWN_RESULTS)


def test_what_export_sets_is_no_part_of_the_question(env: dict[str, str]) -> None:
    """A shell within a shell, which inherits the expiry of an older token, is answered as well."""
    printed = run_warm("export", "--format", "json", env=env).stdout
    inner = {
        **env,
        **{
            name: value
            for name, value in json.loads(printed).items()
            if name.startswith("VERTEX_ENV_")
        },
    }
    assert is_hit("export", "--format", "json", env=inner)
    inner = {**inner, "VERTEX_ENV_EXPIRES_AT": "1"}
    assert is_hit("export", "--format", "json", env=inner)


LEFT_OVER = {
    "OPENAI_ORG_ID": "org",
    "OPENAI_API_HOST": "api.openai.com",
    "OPENAI_API_BASE_URL": "https://api.openai.com/v1",
    "OPENAI_CUSTOM_HEADERS": "Authorization: x",
    "API_BASE_URL": "https://api.openai.com/v1",
}


def test_what_export_sets_and_unsets_changes_no_answer(env: dict[str, str]) -> None:
    """The second `eval`, and the one in a shell within, are warm and print the same bytes."""
    outer = env | LEFT_OVER
    first = run_warm("export", "--format", "json", env=outer)
    changes: dict[str, str | None] = json.loads(first.stdout)
    assert {name for name, value in changes.items() if value is None} >= LEFT_OVER.keys()
    assert changes["OPENAI_AGENTS_DISABLE_TRACING"] == "1"
    inner = {n: v for n, v in {**outer, **changes}.items() if v is not None}
    stamped = {**inner, "VERTEX_ENV_STAMP": "/x", "VERTEX_ENV_VIA": "direnv"}
    emptied = {**inner, **dict.fromkeys(LEFT_OVER, "")}
    for after in (inner, stamped, emptied, outer, env):
        assert is_hit("export", "--format", "json", env=after)
        assert run_warm("export", "--format", "json", env=after) == first
        assert run_cli("export", "--format", "json", env=after) == first


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_AGENTS_DISABLE_TRACING", "0"),
        ("API_BASE_URL", "https://mine.example/api"),
        ("OPENAI_CUSTOM_HEADERS", "X-Api-Key: k"),
    ],
)
def test_what_the_user_keeps_is_another_answer(env: dict[str, str], name: str, value: str) -> None:
    """The control: it stays, so the answer without it is not printed; its exact value does not matter."""
    args = ("export", "--format", "json")
    assert name in json.loads(run_warm(*args, env=env).stdout)
    assert not is_hit(*args, env={**env, name: value})
    assert name not in json.loads(run_warm(*args, env={**env, name: value}).stdout)
    assert is_hit(*args, env={**env, name: value + "1"})
    assert not is_hit(*args, env=env)


def test_an_answer_has_no_secrets(env: dict[str, str]) -> None:
    """Neither the token nor the value of a variable that was looked at."""
    env |= {
        "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer planted-header",
        "OPENAI_ORG_ID": "planted-org",
    }
    for args in (("export",), ("export", "--format=json"), ("token",), ("token", "--format=json")):
        assert run_warm(*args, env=env).status == 0
    assert len(answers(env)) == 4
    value = run_warm("token", env=env).stdout.strip()
    for path in cache(env).iterdir():
        content = path.read_bytes()
        assert (value.encode() in content) == (path.suffix == ".token")
        for secret in (b"planted", b"sandbox-not-a-secret", b"sandbox-not-a-refresh-token"):
            assert secret not in content


# --- the same as the ordinary path ---


class Desk:
    """Somebody at work: files and variables that change, and the program asked in between."""

    def __init__(self, google: Sandbox, folder: Path, forks: Forks) -> None:
        self.folder = folder
        self.forks = forks
        self.env = google.environ(str(folder), clean_environ(folder / "home"))
        self.caller = "bash"
        self.adc = Path(self.env["GOOGLE_APPLICATION_CREDENTIALS"])
        self.login = self.adc.read_text()
        self.files = {
            "config": Path(self.env["VERTEX_ENV_CONFIG"]),
            "home config": folder / "home/.config/vertex-env/config.toml",
            "active": folder / "gcloud/active_config",
            "default": folder / "gcloud/configurations/config_default",
            "work": folder / "gcloud/configurations/config_work",
            "well-known": folder / "gcloud/application_default_credentials.json",
        }

    def change(self, what: str, value: str | None) -> None:
        """Do what *what* and *value* say."""
        if what in self.files:
            self._write(self.files[what], value)
        elif what == "caller":
            self.caller = value or "python"
        elif what == "adc":
            self._change_adc(value)
        elif what == "token":
            for path in cache(self.env).glob("*.token"):
                path.unlink()
                if value is not None:
                    now = datetime.now(UTC)
                    FileStore(cache(self.env)).save(path.stem, Token(value, now + HOUR, now))
        elif value is None:
            self.env.pop(what, None)
        else:
            self.env[what] = value.replace("FOLDER", str(self.folder))

    def _change_adc(self, how: str | None) -> None:
        if how is None:
            self.adc.unlink(missing_ok=True)
        elif how == "touch":
            self.adc.touch()
        else:
            content = self.login.replace("not-a-refresh-token", f"not-a-refresh-{how}")
            if how == "token":
                self._write(self.adc, content)
            else:
                # In place, of equal size, with the old time of modification.
                before = self.adc.stat() if self.adc.exists() else None
                self.adc.write_text(content)
                if before:
                    os.utime(self.adc, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _write(self, path: Path, content: str | None) -> None:
        if content is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(self.login if content == "LOGIN" else content)
        new.replace(path)

    def ask(self, args: list[str]) -> tuple[Ended, Ended]:
        """What the program prints, and what the ordinary path prints in the same situation."""
        given = self.forks.run(*args, env=self.env, caller=self.caller)
        before = {path: path.read_bytes() for path in answers(self.env)}
        reference = self.forks.run(*args, env=self.env, caller=self.caller, warm=False)
        # The reference must not mend what the program itself has remembered.
        for path in answers(self.env):
            if path not in before:
                path.unlink()
            elif path.read_bytes() != before[path]:
                write_private(path, before[path])
        return given, reference


CHANGES: dict[str, list[str | None]] = {
    "VERTEX_ENV_LOCATION": [None, "us-central1", "not a location"],
    "VERTEX_ENV_PROJECT": [None, "other-project"],
    "VERTEX_ENV_PROFILE": [None, "work", "absent"],
    "VERTEX_ENV_CLIENT": [None, "promptfoo,goose"],
    "VERTEX_ENV_SET": [None, "LLM={host}/x\nKEY=Bearer {token}"],
    "VERTEX_ENV_MIN_TTL": [None, "30m", "2h"],
    "VERTEX_ENV_SHELL": [None, "fish"],
    "VERTEX_ENV_EXPORT_FORMAT": [None, "nu"],
    "VERTEX_ENV_TOKEN_FORMAT": [None, "header"],
    "VERTEX_ENV_TOKEN_REFRESH": [None, "1"],
    "VERTEX_ENV_CONFIG": [None, "FOLDER/config.toml"],
    "VERTEX_ENV_EXPIRES_AT": [None, "1", "2"],
    "GOOGLE_CLOUD_PROJECT": [None, "sandbox-project", "third-project"],
    "GOOGLE_CLOUD_QUOTA_PROJECT": [None, "quota-project"],
    "GOOGLE_APPLICATION_CREDENTIALS": [None, "FOLDER/credentials.json"],
    "CLOUDSDK_CORE_PROJECT": [None, "fourth-project"],
    "CLOUDSDK_ACTIVE_CONFIG_NAME": [None, "work"],
    "NO_GCE_CHECK": [None, "true"],
    "OPENAI_ORG_ID": [None, "org"],
    "OPENAI_API_KEYS": [None, "k"],
    "OPENAI_API_HOST": [None, "h"],
    "OPENAI_CUSTOM_HEADERS": [None, "X-A: b", "authorization: x"],
    "OPENAI_AGENTS_DISABLE_TRACING": [None, "", "1", "0"],
    "API_BASE_URL": [None, "https://api.openai.com/v1", "https://mine.example"],
    "VERTEX_ENV_STAMP": [None, "/x"],
    "SHELL": [None, "/bin/fish", "/bin/zsh"],
    "HOME": [None, "FOLDER/home", "FOLDER/home2"],
    "XDG_CONFIG_HOME": [None, "FOLDER/xdg"],
    "_VERTEX_ENV_COMPLETE": [None, "bash_source"],
    "caller": ["bash", "fish", "nu", "make"],
    "config": [None, "", '[profile.work]\nlocation = "europe-west4"\n', "not TOML"],
    "home config": [None, 'default-profile = "a"\n[profile.a]\nproject = "home-project"\n'],
    "active": [None, "default", "work"],
    "default": [None, "[core]\nproject = one-project\n", "[core]\nproject = two-project\n"],
    "work": [None, "[core]\nproject = work-project\n[ai]\nregion = us-east1\n"],
    "well-known": [None, "LOGIN"],
    "adc": [None, "token", "other", "third", "touch"],
    "token": [None, "ya29.replaced"],
}
QUESTIONS = [
    ["export"],
    ["export", "--format", "json"],
    ["export", "--format=sh", "--location", "us-east5"],
    ["export", "--client", "promptfoo", "--set", "A={token}-{project}"],
    ["export", "--format", "dotenv", "--set", "A=x {token} 250000000000"],
    ["export", "--format", "tcsh", "--set", "A=x {token}"],
    ["export", "--format", "pwsh", "--model", "google/gemini-2.5-flash"],
    ["export", "--no-such-option"],
    ["token"],
    ["token", "--format", "json"],
    ["token", "--min-ttl", "50m"],
    ["token", "--help"],
]


def without_seconds(text: str, *, refreshed: bool = False) -> str:
    """*text* but for what is different a second later; and, if each call mints, but for the token."""
    text = re.sub(r'("expires_in": )\d+', r"\1N", text)
    return (
        re.sub(r"ya29\.sandbox-[\w-]+|(?<=\"expiry\": \")[^\"]+", "T", text) if refreshed else text
    )


def test_the_warm_path_equals_the_ordinary_path(
    google: Sandbox, env: dict[str, str], tmp_path: Path
) -> None:
    """Whatever has changed since: the same bytes and the same status as the ordinary path would give."""
    outcomes: list[bool] = []
    change = st.sampled_from(list(CHANGES)).flatmap(
        lambda what: st.tuples(st.just(what), st.sampled_from(CHANGES[what]))
    )
    # Mostly the same few questions, so that there is something to remember.
    steps = st.lists(
        st.tuples(st.lists(change, max_size=2), st.integers(0, 2)), min_size=3, max_size=8
    )

    with Forks(env, str(tmp_path)) as forks:

        @settings(
            max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        @given(st.lists(st.sampled_from(QUESTIONS), min_size=3, max_size=3), steps)
        def equal(
            questions: list[list[str]], steps: list[tuple[list[tuple[str, str | None]], int]]
        ) -> None:
            with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
                desk = Desk(google, Path(folder), forks)
                for changes, which in [([], 0), *steps]:
                    for what, value in changes:
                        desk.change(what, value)
                    if changes:
                        time.sleep(0.03)  # what changed just before a run began is not remembered
                    for _ in range(2):
                        given, reference = desk.ask(questions[which])
                        new = (
                            questions[which][0] == "token"
                            and "VERTEX_ENV_TOKEN_REFRESH" in desk.env
                        )
                        assert without_seconds(given.stdout, refreshed=new) == without_seconds(
                            reference.stdout, refreshed=new
                        )
                        assert given.status == reference.status
                        assert given.stderr == reference.stderr
                        outcomes.append(given.hit)

        equal()
    assert outcomes.count(True) > 80, "hardly anything was remembered, so that this shows little"
    assert outcomes.count(False) > 80


@pytest.mark.parametrize("how", ["replaced", "in place", "deleted", "link switched"])
def test_the_token_of_another_account_is_not_given_out(
    env: dict[str, str], how: str, tmp_path: Path
) -> None:
    """After a new login: not even where the file has the old size and the old time of modification."""
    adc = Path(env["GOOGLE_APPLICATION_CREDENTIALS"])
    mine, yours = tmp_path / "mine.json", tmp_path / "yours.json"
    shutil.copy(adc, mine)
    yours.write_text(adc.read_text().replace("not-a-refresh-token", "not-a-refresh-other"))
    os.utime(yours, ns=(mine.stat().st_atime_ns, mine.stat().st_mtime_ns))
    adc.unlink()
    if how == "link switched":
        adc.symlink_to(mine)
    else:
        shutil.copy2(mine, adc)
    time.sleep(0.03)
    first = run_warm("token", env=env)
    assert is_hit("token", env=env)
    before = adc.stat()
    if how == "replaced":
        Path(shutil.copy2(yours, tmp_path / "new")).replace(adc)
    elif how == "in place":
        adc.write_bytes(yours.read_bytes())
        os.utime(adc, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        adc.unlink()
    if how == "link switched":
        adc.symlink_to(yours)
    second = run_warm("token", env=env)
    assert second.stdout != first.stdout
    if how == "deleted":
        assert (second.status, second.stdout) == (78, "")
    else:
        after = adc.stat()
        assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        assert second.status == 0
        assert second == run_cli("token", env=env)


def test_a_folder_that_turned_into_a_file_is_not_an_absent_file(
    env: dict[str, str], tmp_path: Path
) -> None:
    """A config.toml that is not there is one thing, a path that leads nowhere another: the ordinary path complains."""
    folder = tmp_path / "settings"
    env["VERTEX_ENV_CONFIG"] = str(folder / "config.toml")
    assert run_warm("token", env=env).status == 0
    folder.write_text("")
    assert run_warm("token", env=env).status == run_cli("token", env=env).status == 78


# --- what is not remembered ---


FILE_KEYRING = """
import json, pathlib, keyring.backend

class Keyring(keyring.backend.KeyringBackend):
    priority = 9
    path = pathlib.Path({path!r})
    def _all(self):
        return json.loads(self.path.read_text()) if self.path.exists() else {{}}
    def get_password(self, service, name):
        return self._all().get(name)
    def set_password(self, service, name, value):
        self.path.write_text(json.dumps(self._all() | {{name: value}}))
    def delete_password(self, service, name):
        rest = self._all()
        rest.pop(name, None)
        self.path.write_text(json.dumps(rest))
"""


@pytest.mark.parametrize("store", ["none", "keyring"])
def test_without_the_file_store_nothing_is_remembered(
    env: dict[str, str], store: str, tmp_path: Path
) -> None:
    """Neither token nor answer is in a file where the user wants it elsewhere."""
    (tmp_path / "filekeyring.py").write_text(
        FILE_KEYRING.format(path=str(tmp_path / "keychain.json"))
    )
    env["PYTHONPATH"] = os.pathsep.join(
        [str(tmp_path), *filter(None, [env.get("PYTHONPATH"), str(Path.cwd())])]
    )
    env["PYTHON_KEYRING_BACKEND"] = "filekeyring.Keyring"
    for _ in range(2):
        ended = run_warm("token", "--store", store, env=env)
        assert (ended.status, ended.stderr) == (0, "")
    assert not is_hit("token", "--store", store, env=env)
    found = [path.name for path in cache(env).iterdir()] if cache(env).exists() else []
    assert not [name for name in found if name.endswith((".answer", ".token"))]
    for name in found:
        assert ended.stdout.strip() not in (cache(env) / name).read_text()


@pytest.mark.parametrize("what", ["credentials", "config", "cache"])
def test_a_relative_path_is_not_remembered(env: dict[str, str], what: str, tmp_path: Path) -> None:
    """In another folder it would mean another file."""
    variable = {
        "credentials": "GOOGLE_APPLICATION_CREDENTIALS",
        "config": "VERTEX_ENV_CONFIG",
        "cache": "VERTEX_ENV_CACHE_DIR",
    }[what]
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    if what != "cache":
        shutil.copy(env[variable], here / "file")
    env[variable] = "file"
    for _ in range(2):
        assert run_warm("token", env=env, cwd=here).status == 0
    assert not list(Path(cache(env) if what != "cache" else here / "file").glob("*.answer"))
    if what == "credentials":
        assert run_warm("token", env=env, cwd=there).status == 78


@pytest.mark.parametrize("how", ["edited", "created", "deleted", "link switched"])
def test_a_file_that_changes_meanwhile_is_not_remembered(tmp_path: Path, how: str) -> None:
    """What was read may be what it was before: the next call looks again."""
    with Sandbox(delay=timedelta(seconds=1)) as google:
        env = google.environ(str(tmp_path / "g"), clean_environ(tmp_path))
        config = Path(env["VERTEX_ENV_CONFIG"])
        old, new = '[profile.a]\nlocation = "us-east1"\n', '[profile.a]\nlocation = "us-west1"\n'
        config.unlink()
        (tmp_path / "old.toml").write_text(f'default-profile = "a"\n{old}')
        (tmp_path / "new.toml").write_text(f'default-profile = "a"\n{new}')
        if how == "link switched":
            config.symlink_to(tmp_path / "old.toml")
        elif how != "created":
            shutil.copy(tmp_path / "old.toml", config)
        time.sleep(0.05)
        args = ("export", "--format", "json")
        process = subprocess.Popen(
            [sys.executable, *PROGRAM, *args], env=env, stdout=subprocess.PIPE
        )
        wait_for(lambda: google.counts["token"])
        if how in ("deleted", "link switched"):
            config.unlink()
        if how == "link switched":
            config.symlink_to(tmp_path / "new.toml")
        elif how != "deleted":
            shutil.copy(tmp_path / "new.toml", config)
        assert process.communicate(timeout=60)[0]
        assert process.returncode == 0
        assert run_warm(*args, env=env).stdout == run_cli(*args, env=env).stdout


def test_a_caller_that_changes_meanwhile_is_not_remembered(tmp_path: Path) -> None:
    """A caller may become another program, or end: the answer for fish is not that for what comes after."""
    with Sandbox(delay=timedelta(seconds=1)) as google:
        env = google.environ(str(tmp_path / "g"), clean_environ(tmp_path))
        script = tmp_path / "caller.py"
        script.write_text(
            "import subprocess, sys\n"
            "def be(name): open('/proc/self/comm', 'w').write(name)\n"
            "be('fish')\n"
            "first = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)\n"
            "sys.stdin.readline()\n"
            "be('bash')\n"
            "first.communicate()\n"
            "sys.stdout.buffer.write(subprocess.run(sys.argv[1:], stdout=subprocess.PIPE).stdout)\n"
        )
        command = [sys.executable, "-P", str(script), sys.executable, *PROGRAM, "export"]
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        wait_for(lambda: google.counts["token"])
        out, _ = process.communicate("\n", timeout=60)
        assert "\nexport OPENAI_API_KEY=" in out


# --- damage ---


def remembered(
    folder: Path, env: Mapping[str, str], now: float, **more: object
) -> tuple[Path, Path]:
    """An answer and a token as the program would have left them for `token`; their files."""
    key = "a" * 64
    fields: dict[str, object] = {"min_ttl": 300.0, "refreshes": True, "until": 0.0, **more}
    answer = warm.Answer(
        key=key,
        names=["HOME", "OPENAI_ORG_ID"],
        files=["/etc/passwd", "/nowhere/at/all"],
        text="<T> <E>\n",
        marks=["<T>", "<E>", "<D>", "<R>", "<W>"],
        **fields,  # type: ignore[arg-type]
    )
    data = warm.format_answer(answer, env)
    assert data is not None
    paths = (
        Path(private.ANSWER.path(str(folder), warm.question_key(["token"], env))),
        Path(private.TOKEN.path(str(folder), key)),
    )
    assert write_private(paths[0], data)
    assert write_private(paths[1], private.format_token(key, "ya29.x", now, now + 3600))
    return paths


@pytest.fixture
def desk(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """Variables that name a folder for the cache, and that folder."""
    return {"HOME": "/h", "VERTEX_ENV_CACHE_DIR": str(tmp_path / "cache")}, tmp_path / "cache"


NOW = 1_800_000_000.0


def test_every_changed_byte_of_an_answer_is_a_miss(desk: tuple[dict[str, str], Path]) -> None:
    """Any bit flipped, byte removed or doubled, any truncation."""
    env, folder = desk
    good = remembered(folder, env, NOW)[0].read_bytes()
    assert warm.recall(["token"], env, NOW) == (f"ya29.x {int(NOW) + 3600}\n", False)
    for i in range(len(good)):
        damaged = [good[:i], good[:i] + good[i + 1 :], good[:i] + good[i : i + 1] + good[i:]]
        damaged += [good[:i] + bytes([good[i] ^ 1 << bit]) + good[i + 1 :] for bit in range(8)]
        assert all(warm.parse_answer(data, env) is None for data in damaged)
    assert warm.parse_answer(good + b"\n", env) is None
    assert warm.parse_answer(b"", env) is None
    assert warm.parse_answer(b"\xff" * 1000, env) is None


@pytest.mark.parametrize("which", [0, 1], ids=["answer", "token"])
@pytest.mark.parametrize(
    "what",
    [
        "0644", "0620", "0602", "link", "hard link of another's", "pipe", "folder", "socket", "empty", "huge", "owner",
        "absent",
    ],
)  # fmt: skip
def test_what_is_not_a_private_file_is_a_miss(
    desk: tuple[dict[str, str], Path], which: int, what: str
) -> None:
    """Others could have written it, or it would keep us waiting."""
    env, folder = desk
    path = remembered(folder, env, NOW)[which]
    if what.startswith("0"):
        path.chmod(int(what, 8))
    elif what in ("owner", "hard link of another's"):
        if os.geteuid() != 0:
            pytest.skip("needs to be root to give a file away")
        os.chown(path, SOMEBODY, SOMEBODY)
    elif what == "huge":
        with path.open("ab") as file:
            file.truncate(private.MAX_BYTES + 1)
    else:
        elsewhere = folder.parent / "elsewhere"
        path.rename(elsewhere)
        if what == "link":
            path.symlink_to(elsewhere)
        elif what == "pipe":
            os.mkfifo(path, 0o600)
        elif what == "folder":
            path.mkdir(mode=0o700)
        elif what == "socket":
            os.mknod(path, 0o140600)
        elif what == "empty":
            path.touch(mode=0o600)
    assert warm.recall(["token"], env, NOW) is None


@pytest.mark.parametrize("what", ["0755", "0710", "link", "owner", "file"])
def test_what_is_not_a_private_folder_is_a_miss(
    desk: tuple[dict[str, str], Path], what: str
) -> None:
    """Nothing in a folder that others may enter is believed."""
    env, folder = desk
    remembered(folder, env, NOW)
    if what.startswith("0"):
        folder.chmod(int(what, 8))
    elif what == "owner":
        if os.geteuid() != 0:
            pytest.skip("needs to be root to give a folder away")
        os.chown(folder, SOMEBODY, SOMEBODY)
    else:
        folder.rename(folder.with_name("elsewhere"))
        if what == "link":
            folder.symlink_to(folder.with_name("elsewhere"))
        else:
            folder.write_text("")
    assert warm.recall(["token"], env, NOW) is None


@as_root
def test_what_another_user_left_is_neither_used_nor_changed(
    env: dict[str, str], google: Sandbox
) -> None:
    """A cache prepared by somebody else, with a token that would go to them."""
    first = run_warm("token", env=env)
    for path in [cache(env), *cache(env).iterdir()]:
        os.chown(path, SOMEBODY, SOMEBODY)
    before = {path.name: path.read_bytes() for path in cache(env).iterdir()}
    second = run_warm("token", env=env)
    assert (second.status, second.stderr) == (0, "")
    assert second.stdout != first.stdout
    assert google.counts["token"] == 2
    assert {path.name: path.read_bytes() for path in cache(env).iterdir()} == before
    # In a folder of ours, single files of theirs are passed over, and replaced.
    os.chown(cache(env), 0, 0)
    third = run_warm("token", env=env)
    assert third.stdout not in (first.stdout, second.stdout)
    assert run_warm("token", env=env) == third


# --- time ---


@pytest.mark.parametrize(
    ("at_s", "hit"),
    [
        pytest.param(-24 * 3600, False, id="clock set back by a day"),
        pytest.param(-301, False, id="clock set back by more than five minutes"),
        pytest.param(-300, True, id="clock set back by five minutes"),
        pytest.param(0, True, id="new"),
        pytest.param(3299.9, True, id="five minutes left, and a bit"),
        pytest.param(3300, False, id="five minutes left"),
        pytest.param(3600, False, id="expired"),
        pytest.param(24 * 3600, False, id="clock set forward by a day"),
    ],
)
def test_when_an_answer_is_given(
    desk: tuple[dict[str, str], Path], at_s: float, *, hit: bool
) -> None:
    """By the clock, no token is given out that is about to expire, has expired, or is from the future."""
    env, folder = desk
    remembered(folder, env, NOW)
    assert (warm.recall(["token"], env, NOW + at_s) is not None) == hit


def test_an_answer_ends_with_the_facts_in_it(desk: tuple[dict[str, str], Path]) -> None:
    """An endpoint's host is looked up anew after a day, also where tokens are younger."""
    env, folder = desk
    remembered(folder, env, NOW, until=NOW + 10)
    assert warm.recall(["token"], env, NOW + 9.9) is not None
    assert warm.recall(["token"], env, NOW + 10) is None


@pytest.mark.parametrize(("at_s", "late"), [(2699.9, False), (2700, True), (3299, True)])
@pytest.mark.parametrize("refreshes", [True, False])
def test_when_the_next_token_is_fetched_behind(
    desk: tuple[dict[str, str], Path], at_s: float, *, late: bool, refreshes: bool
) -> None:
    """In the ten minutes before it is too late, and never for a source that would give the same one."""
    env, folder = desk
    remembered(folder, env, NOW, refreshes=refreshes)
    found = warm.recall(["token"], env, NOW + at_s)
    assert found is not None
    assert found[1] == (late and refreshes)


def test_at_most_one_refresh_a_minute(tmp_path: Path) -> None:
    """Half-open: sixty seconds later is the next minute; a clock that was set back does not stop it for longer."""
    folder = str(tmp_path)
    times = [0, 1, 59.9, 60, 61, 119.9, 120, -3600, -3599]
    assert [background.claim_refresh(folder, "k", NOW + t) for t in times] == [
        True, False, False, True, False, False, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("what", ["pipe", "link", "folder"])
def test_no_refresh_without_a_marker(tmp_path: Path, what: str) -> None:
    """Where none can be left, there would be no end of them."""
    path = tmp_path / "k.refresh"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
    if what == "pipe":
        # Writing to it would not fail; it only must not hang.
        background.claim_refresh(str(tmp_path), "k", NOW)
    else:
        assert not background.claim_refresh(str(tmp_path), "k", NOW)
    assert not (tmp_path / "elsewhere").exists()
    assert not background.claim_refresh(str(tmp_path / "nowhere"), "k", NOW)


ASK_LEAVE = (
    IN_A_SCRIPT
    + """
import os, time
from vertex_env.cache import background

def ask(folder, go):
    while time.monotonic() < go:
        pass
    os.write(1, b"1" if background.claim_refresh(folder, "k", 2e9) else b"0")

for folder in sys.argv[1:]:
    go, pids = time.monotonic() + 0.02, []
    for _ in range(8):
        pids.append(fork(lambda: ask(folder, go)))
    for pid in pids:
        os.waitpid(pid, 0)
    os.write(1, b"\\n")
"""
)


def test_one_of_many_at_once_may_refresh(tmp_path: Path) -> None:
    """All the shells of a terminal that starts: one of them renews the token.

    They are forks of a process without threads, so that none has a lock that nobody releases.
    """
    folders = [tmp_path / str(i) for i in range(20)]
    for folder in folders:
        folder.mkdir(mode=0o700)
    argv = [sys.executable, "-P", "-c", ASK_LEAVE, *map(str, folders)]
    said = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
    assert [sorted(line) for line in said.splitlines()] == [["0"] * 7 + ["1"]] * len(folders)


# --- in the background ---


@pytest.mark.parametrize("path", ["warm", "ordinary"])
def test_nobody_waits_for_a_refresh(tmp_path: Path, path: str) -> None:
    """The stored token is printed while the next one is on its way, and no descriptor of the caller's is kept open."""
    with Sandbox(delay=timedelta(seconds=2)) as google:
        env = google.environ(str(tmp_path / "g"), clean_environ(tmp_path))
        store_token(env, 3600)
        assert run_warm("token", env=env).stdout == "ya29.stored\n"
        assert is_hit("token", env=env)
        store_token(env, 400, "ya29.late")
        if path == "ordinary":
            answers(env)[0].unlink()
        r, w = os.pipe()
        command = [sys.executable, *PROGRAM, "token"]
        process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[w]
        )
        os.close(w)
        out, err = process.communicate(timeout=60)  # until nobody has them open any more
        assert (process.returncode, out, err) == (0, b"ya29.late\n", b"")
        assert select.select([r], [], [], 0)[0]
        assert os.read(r, 1) == b""
        os.close(r)
        assert FileStore(cache(env)).load(key_of(env)).value == "ya29.late", "it was waited for"  # type: ignore[union-attr]
        # Within the minute no other is started.
        assert run_warm("token", env=env).stdout == "ya29.late\n"
        wait_for(lambda: FileStore(cache(env)).load(key_of(env)).value != "ya29.late")  # type: ignore[union-attr]
        assert google.counts["token"] == 1
        assert run_warm("token", env=env).stdout.startswith("ya29.sandbox-1-")


def test_a_refresh_that_fails_is_silent(tmp_path: Path) -> None:
    """The stored token is good for a while; the next attempt is a minute later."""
    env = Sandbox.environ(_away(), str(tmp_path / "g"), clean_environ(tmp_path))
    store_token(env, 400)
    for _ in range(2):
        ended = run_warm("token", env=env)
        assert (ended.status, ended.stdout, ended.stderr) == (0, "ya29.stored\n", "")


def test_a_metadata_server_is_not_asked_behind(env: dict[str, str], google: Sandbox) -> None:
    """It would give the same token again."""
    del env["GOOGLE_APPLICATION_CREDENTIALS"]
    store_token(env, 260)
    for _ in range(2):
        assert run_warm("token", env=env).stdout == "ya29.stored\n"
    assert is_hit("token", env=env)
    assert not list(cache(env).glob("*.refresh"))
    assert google.counts["token"] == 0


# --- where nothing can be stored ---


def _obstruct(folder: Path, what: str) -> tuple[str, ...]:
    """Make *folder* useless; what to put before the command."""
    if what == "file":
        folder.write_text("")
    elif what == "loop":
        folder.symlink_to(folder)
    elif what == "link":
        (folder.parent / "other").mkdir(mode=0o700)
        folder.symlink_to(folder.parent / "other")
    elif what == "owner":
        folder.mkdir(mode=0o700)
        os.chown(folder, SOMEBODY, SOMEBODY)
    elif what in ("read-only", "full"):
        folder.mkdir(mode=0o700)
        options = "ro,mode=700" if what == "read-only" else "size=8k,mode=700"
        script = f'mount -t tmpfs -o {options} none "$0" || exit 99; head -c 99999 /dev/zero 2>&- >"$0/x"; exec "$@"'
        return ("unshare", "-m", "sh", "-c", script, str(folder))
    elif what == "limit":
        return ("sh", "-c", 'ulimit -f 0; exec "$@"', "sh")
    return ()


@pytest.mark.parametrize(
    "what", ["file", "loop", "link", "owner", "read-only", "full", "limit", "nowhere"]
)
def test_where_nothing_can_be_stored_all_else_works(
    env: dict[str, str], google: Sandbox, what: str
) -> None:
    """The right output, status 0, and not a word; nothing of anybody else's is touched."""
    if what in ("owner", "read-only", "full") and os.geteuid() != 0:
        pytest.skip("needs to be root")
    if what == "nowhere":
        env["VERTEX_ENV_CACHE_DIR"] = "/proc/nowhere/vertex-env"
    prefix = _obstruct(cache(env), what)
    if (
        prefix
        and subprocess.run([*prefix, "true"], env=env, capture_output=True, check=False).returncode
        != 0
    ):
        pytest.skip("mounting is not permitted here")
    for i in (1, 2):
        # Not --format text: with the file size limit, pytest's own files do not matter, as stdout is a pipe.
        ended = run_warm("token", env=env, prefix=prefix)
        assert (ended.status, ended.stderr) == (0, "")
        assert ended.stdout.startswith(f"ya29.sandbox-{i}-")
        assert google.counts["token"] == i
    if what == "link":
        assert not list((cache(env).parent / "other").iterdir())


def test_a_folder_with_other_files_is_left_as_it_is(env: dict[str, str]) -> None:
    """Whoever points us at their home folder, or at /tmp, loses neither files nor the way in."""
    folder = cache(env)
    folder.mkdir()
    folder.chmod(0o755)
    names = [".bashrc", "notes.tmp", "my.note", "api.token", "an.answer"]
    long_ago = time.time() - 30 * 24 * 3600
    for name in names:
        (folder / name).write_text("mine")
        os.utime(folder / name, (long_ago, long_ago))
    for _ in range(2):
        assert run_warm("token", env=env).status == 0
        assert run_cli("logout", "--all", env=env).status == 0
        assert {path.name for path in folder.iterdir()} >= set(names)
        assert folder.stat().st_mode & 0o777 in (0o755, 0o700)
        folder.chmod(0o700)  # and where it is private already


# --- out of reach ---


class _away(Sandbox):  # noqa: N801
    """A Google that does not answer: nobody listens there."""

    def __init__(self) -> None:
        super().__init__()
        self.url = "http://127.0.0.1:1"


@pytest.mark.parametrize("args", [("token",), ("export", "--format", "sh")])
def test_offline_the_stored_token_is_printed_with_a_warning(
    tmp_path: Path, args: tuple[str, ...]
) -> None:
    """With more than a minute left; with less it is an error that fails an eval, too."""
    env = _away().environ(str(tmp_path / "g"), clean_environ(tmp_path))
    store_token(env, 120)
    ended = run_warm(*args, env=env)
    assert ended.status == 0
    assert "ya29.stored" in ended.stdout
    assert re.fullmatch(
        r"vertex-env: warning: .*; using the stored token, which lasts 1[01]\d s more\n",
        ended.stderr,
    )
    store_token(env, 55)
    ended = run_warm(*args, env=env)
    assert (ended.status, ended.stdout) == (75, "false\n" if args[0] == "export" else "")
    assert "ya29.stored" not in ended.stderr


# --- a stdout that cannot be written ---


def test_a_closed_stdout_is_told_by_the_ordinary_path(env: dict[str, str]) -> None:
    """Also on a hit: what was not written must not pass for written."""
    assert run_warm("token", env=env).status == 0
    assert is_hit("token", env=env)
    for redirection, status in ((">/dev/full", 75), (">&-", 75)):
        prefix = ("sh", "-c", f'exec "$@" {redirection}', "sh")
        ended = run_warm("token", env=env, prefix=prefix)
        assert (ended.status, ended.stdout) == (status, "")
        assert "cannot write to stdout" in ended.stderr


def test_errno_tells_absent_files_apart() -> None:
    """ENOENT and ENOTDIR are two states."""
    missing, not_a_folder = warm.file_state("/nowhere"), warm.file_state("/etc/passwd/x")
    assert missing == f"absent {errno.ENOENT}"
    assert missing != not_a_folder


def test_threads_may_recall(desk: tuple[dict[str, str], Path]) -> None:
    """Nothing in it is shared."""
    env, folder = desk
    remembered(folder, env, NOW)
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(warm.recall(["token"], env, NOW)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


# --- run ---


def test_a_double_dash_of_the_command_is_not_ours(env: dict[str, str]) -> None:
    """`run npm start -- --port 1`: what comes before the dashes is the command, the second time as well."""
    assert run_warm("token", env=env).status == 0
    for _ in range(3):
        ended = run_warm("run", "--on-expiry", "ignore", "echo", "one", "--", "two", env=env)
        assert (ended.status, ended.stdout) == (0, "one -- two\n")


def test_a_run_leaves_the_refresh_to_others(env: dict[str, str]) -> None:
    """It starts none in the background, so it must not keep an `export` from doing so."""
    store_token(env, 400)
    for _ in range(2):
        assert run_warm("run", "--on-expiry", "ignore", "--", "true", env=env).status == 0
    assert not list(cache(env).glob("*.refresh"))
