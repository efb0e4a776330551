"""Snapshots that somebody else has written: nushell and xonsh ask Python. Each test has a control without the check."""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.othershells import SHELLS, Place, Shell
from tests.support.tools import need
from vertex_env.cache import private
from vertex_env.sandbox.server import Sandbox

ASK = "export --format lines"
EVIL = "https://evil.example/v1"
GOOGLE = "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/openapi"

CHECKS: Mapping[str, Mapping[str, Sequence[tuple[str, str]]]] = {
    "nu": {
        "owner": [
            (
                '$it.type == $type and $it.user == $me and $it.mode in ["rw-------" "rwx------"]',
                "true",
            )
        ],
        "content": [("if not (__vertex_env_is_harmless $changes) { return null }", "")],
        "place": [
            (
                f"__vertex_env_{reader} $folder (__vertex_env_within $folder $rest {kind})",
                f"__vertex_env_{reader} ($rest | path dirname) ($rest | path basename)",
            )
            for reader, kind in (("read", "token"), ("stamp", "stamp"))
        ],
        "issued": [("if (__vertex_env_is_after $issued ($now + 300)) { return null }", "")],
        "home": [
            ("if $folder !~ '^/' { error make", "if false { error make"),
            ("else if $home !~ '^/' {", "else if false {"),
            ("if $path !~ '^/' { return false }", ""),
        ],
        "fits": [('if $verb == "fits" and $value != $it.value { return null }', "")],
        "undo": [("        __vertex_env_off\n        print -e", "        print -e")],
    },
    "xonsh": {
        "owner": [
            ("return mine and os.path.isabs(path) and is_kind(status.st_mode)", "return True")
        ],
        "content": [("if not self.is_harmless(changes, environ):", "if False:")],
        "place": [
            ("if path != os.path.join(folder, name) or not re.fullmatch(", "if not re.fullmatch(")
        ],
        "issued": [(" or is_after(issued, now + 300)", "")],
        "home": [
            ('return folder.rstrip("/") if os.path.isabs(folder) else None', "return folder"),
            ("return mine and os.path.isabs(path) and", "return mine and"),
        ],
        "fits": [('has != value if verb == "fits" else', 'False if verb == "fits" else')],
        "undo": [("                self.off()\n                print", "                print")],
    },
}
"""Shell to check to the texts that take it out."""


@pytest.fixture(params=SHELLS[1:], ids=lambda shell: shell.name)
def shell(request: pytest.FixtureRequest) -> Shell:
    found: Shell = request.param
    need(found.name)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Sandbox() as google:
        made = Place(tmp_path, google)
        made.prepare()
        yield made


def without(shell: Shell, place: Place, *checks: str) -> str:
    """The statement that reads the hook with *checks* taken out."""
    text = shell.file.read_text()
    for old, new in (pair for check in checks for pair in CHECKS[shell.name][check]):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file = place.home / f"without{shell.suffix}"
    file.write_text(text)
    return f"source {file}"


def change(place: Place, old: str, new: str) -> None:
    """Replace *old* in the snapshot."""
    file = place.one("snapshot")
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def seen(
    shell: Shell, place: Place, source: str, env: Mapping[str, str | None] | None = None
) -> dict[str, str]:
    """What a command gets after *source* and the first prompt, with the calls of the program as `calls`."""
    run = place.script(shell, source, shell.hook, "REPORT", env=env)
    return {**run.reports[0], "calls": " ".join(place.calls)}


def test_another_host_in_an_open_folder(shell: Shell, place: Place) -> None:
    """Others may write there. Either check alone is enough."""
    [url] = [
        line
        for line in place.one("snapshot").read_text().splitlines()
        if line.startswith("set OPENAI_BASE_URL=")
    ]
    change(place, url, f"set OPENAI_BASE_URL={EVIL}")
    forged = place.one("snapshot").read_text()
    cache = place.files / "cache"

    def found(source: str, folder_mode: int, file_mode: int) -> tuple[bool, str]:
        cache.chmod(folder_mode)
        place.one("snapshot").write_text(forged)
        place.one("snapshot").chmod(file_mode)
        got = seen(shell, place, source)
        return got["OPENAI_BASE_URL"] == EVIL, got["calls"]

    assert found(shell.source, 0o777, 0o666) == (False, ASK)
    assert found(without(shell, place, "owner"), 0o777, 0o666) == (False, ASK)
    assert found(without(shell, place, "content"), 0o777, 0o600) == (False, ASK)
    assert found(without(shell, place, "content"), 0o700, 0o666) == (False, ASK)
    assert found(without(shell, place, "owner", "content"), 0o777, 0o666) == (True, "")


def test_a_link_to_a_folder(shell: Shell, place: Place) -> None:
    cache = place.files / "cache"
    cache.rename(place.files / "real")
    cache.symlink_to("real")
    assert seen(shell, place, without(shell, place, "owner"))["calls"] == ""
    assert seen(shell, place, shell.source)["calls"] == ASK


@pytest.mark.parametrize("kind", ["token", "stamp"])
def test_a_file_outside_the_folder(shell: Shell, place: Place, kind: str) -> None:
    """Also one that only this user can read."""
    other = place.home / "other"
    other.mkdir(mode=0o700)
    path = place.one(kind)
    change(place, f"{kind} {path}", f"{kind} {other / path.name}")
    path.rename(other / path.name)
    assert seen(shell, place, without(shell, place, "place"))["calls"] == ""
    assert seen(shell, place, shell.source)["calls"] == ASK


FAR = "9999999998"
"""A shell that took it for REFRESH_AT would not renew its token."""


def forge_stamp(place: Place) -> None:
    """Have others change the stamp, which they can write to."""
    _, ends, number = place.one("stamp").read_text().split()
    place.one("stamp").write_text(f"{FAR} {ends} {number}\n")
    place.one("stamp").chmod(0o666)


def test_a_stamp_of_others(shell: Shell, place: Place) -> None:
    forge_stamp(place)
    got = seen(shell, place, without(shell, place, "owner"))
    assert (got["VERTEX_ENV_REFRESH_AT"], got["calls"]) == (FAR, "")
    got = seen(shell, place, shell.source)
    assert (got["VERTEX_ENV_REFRESH_AT"] != FAR, got["calls"]) == (True, ASK)


def test_a_stamp_of_others_at_renewal(shell: Shell, place: Place) -> None:
    """The shell had its variables before; now they are due, and the stamp has something new."""
    forge_stamp(place)
    stamp = str(place.one("stamp"))
    env = {
        "OPENAI_API_KEY": "old",
        "VERTEX_ENV_REFRESH_AT": FAR,
        "VERTEX_ENV_EXPIRES_AT": "1",
        "VERTEX_ENV_STAMP": stamp,
    }

    def renewed(source: str) -> tuple[str, str]:
        lines = (
            source,
            shell.hook,
            "REPORT",
            shell.assign("VERTEX_ENV_REFRESH_AT", "1"),
            shell.hook,
            "REPORT",
        )
        run = place.script(shell, *lines, env=env)
        assert run.reports[0]["OPENAI_API_KEY"] == "old"
        assert run.reports[1]["OPENAI_API_KEY"] != "old"
        return run.reports[1]["VERTEX_ENV_REFRESH_AT"], " ".join(place.calls)

    assert renewed(without(shell, place, "owner")) == (FAR, "")
    at, calls = renewed(shell.source)
    assert (at != FAR, calls) == (True, ASK)


TRACING = "OPENAI_AGENTS_DISABLE_TRACING"


def test_the_users_own_switch_of_tracing(shell: Shell, place: Place) -> None:
    """Unset and ours are one state; another value is not replaced by ours."""
    whole = place.one("snapshot").read_text()
    assert f"fits {TRACING}=1" in whole.splitlines()
    for value, left, calls in ((None, "1", ""), ("1", "1", ""), ("0", "0", ASK)):
        got = seen(shell, place, shell.source, {TRACING: value})
        assert (value, got[TRACING], got["calls"]) == (value, left, calls)
    place.one("snapshot").write_text(whole)  # Python has written one for `0` since
    got = seen(shell, place, without(shell, place, "fits"), {TRACING: "0"})
    assert (got[TRACING], got["calls"]) == ("1", "")


def test_off_takes_the_inherited_switch_of_tracing_away(shell: Shell, place: Place) -> None:
    """It is part of what the outer shell has set; another value is the user's own."""
    env = {"OPENAI_API_KEY": "old", "VERTEX_ENV_REFRESH_AT": FAR, "VERTEX_ENV_EXPIRES_AT": FAR}
    for value, left in (("1", None), ("0", "0")):
        run = place.script(
            shell, shell.source, "vertex-env off", "REPORT", env={**env, TRACING: value}
        )
        assert (run.reports[0].get(TRACING), run.reports[0].get("OPENAI_API_KEY")) == (left, None)


def test_a_token_from_the_future(shell: Shell, place: Place) -> None:
    """The clock was set back since: nobody knows when it ends."""
    now = time.time()
    key = place.one("token").stem
    place.one("token").write_bytes(
        private.format_token(key, "ya29.future", now + 7200, now + 10800)
    )
    place.one("stamp").write_text(f"{int(now) + 10000} {int(now + 10800)} 5\n")
    assert seen(shell, place, without(shell, place, "issued"))["OPENAI_API_KEY"] == "ya29.future"
    got = seen(shell, place, shell.source)
    assert (got["OPENAI_API_KEY"] != "ya29.future", got["calls"]) == (True, ASK)


def clone(place: Place, folder: Path, written: str, mode: int) -> None:
    """What somebody can put into a repository: a snapshot with all that it needs."""
    folder.mkdir(parents=True, mode=0o700 | mode)
    now = time.time()
    key = "0" * 64
    lines = [
        "vertex-env-snapshot 2",
        "gone NOT_SET",
        f"token {written}/{key}.token",
        f"stamp {written}/{key}.stamp",
    ]
    lines += [
        f"set OPENAI_BASE_URL={GOOGLE}",
        f"set OPENAI_API_BASE={GOOGLE}",
        "set OPENAI_AGENTS_DISABLE_TRACING=1",
    ]
    files = {
        "shell.snapshot": "\n".join([*lines, "set OPENAI_API_KEY=\x1f", "end", ""]),
        f"{key}.token": private.format_token(key, "ya29.cloned", now, now + 3600).decode(),
        f"{key}.stamp": f"{int(now) + 3000} {int(now + 3600)} 5\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600 | mode)
    assert place.calls == []


def test_a_cloned_folder(shell: Shell, place: Place) -> None:
    """`XDG_CACHE_HOME` points into a repository: others have written what is there."""

    def found(source: str, folder: Path) -> tuple[str | None, str]:
        clone(place, folder, str(folder), 0o044)
        file = folder / "shell.snapshot"
        file.write_text(
            file.read_text().replace(
                "set OPENAI_BASE", "set PYTHONSTARTUP=/evil.py\nset OPENAI_BASE"
            )
        )
        got = seen(
            shell,
            place,
            source,
            {"VERTEX_ENV_CACHE_DIR": None, "XDG_CACHE_HOME": str(folder.parent)},
        )
        return got.get("PYTHONSTARTUP"), got["calls"]

    # A folder each, because Python mends it.
    for checks in ((), ("owner",), ("content",)):
        source = without(shell, place, *checks) if checks else shell.source
        assert found(source, place.home / "-".join(("some", *checks)) / "vertex-env") == (None, ASK)
    source = without(shell, place, "owner", "content")
    assert found(source, place.home / "none" / "vertex-env") == ("/evil.py", "")


def test_a_relative_home(shell: Shell, place: Place) -> None:
    """There is no folder then: nothing is read from the one that the shell is in."""
    clone(place, place.home / "cloned" / ".cache" / "vertex-env", "../cloned/.cache/vertex-env", 0)
    env = {"VERTEX_ENV_CACHE_DIR": None, "XDG_CACHE_HOME": None, "HOME": "../cloned"}
    assert seen(shell, place, without(shell, place, "home"), env)["OPENAI_API_KEY"] == "ya29.cloned"
    got = seen(shell, place, shell.source, env)
    assert (got["OPENAI_API_KEY"] != "ya29.cloned", got["calls"]) == (True, ASK)


BASE = (
    f"set OPENAI_BASE_URL={GOOGLE}",
    f"set OPENAI_API_BASE={GOOGLE}",
    "set OPENAI_AGENTS_DISABLE_TRACING=1",
)
KEY = "set OPENAI_API_KEY=\x1f"
REFUSED = re.findall(
    r"\S+",
    """
    PATH LD_PRELOAD LD_LIBRARY_PATH PROMPT_COMMAND PS0 PS1 PS4 BASH_ENV ENV IFS FPATH ZDOTDIR READNULLCMD SHELLOPTS
    PYTHONSTARTUP PYTHONPATH NODE_OPTIONS PERL5OPT RUBYOPT GIT_SSH_COMMAND LESSOPEN XONSHRC HOME HTTPS_PROXY
    VERTEX_ENV_ALLOW_HOST VERTEX_ENV_CACHE_DIR OPENAI_API_HOST OPENAI_CUSTOM_HEADERS openai_model
    """,
)
URLS = {
    GOOGLE: True,
    "https://1.europe-west4-2.prediction.vertexai.goog/v1": True,
    "https://googleapis.com": False,
    "https://evilgoogleapis.com": False,
    "https://aiplatform.googleapis.com.evil.example/v1": False,
    "https://aiplatform.googleapis.com@evil.example/v1": False,
    "https://aiplatform.googleapis.com:443@evil.example/v1": False,
    "https://evil.example/aiplatform.googleapis.com": False,
    "https://evil.example#.googleapis.com": False,
    "https://evil.example?.googleapis.com": False,
    "https://evil.example\\.googleapis.com": False,
    "https://evil.example%2f.googleapis.com": False,
    "https://aiplatform.googleapis.com:8443/v1": False,
    "https://AIPLATFORM.googleapis.com/v1": False,
    "http://aiplatform.googleapis.com/v1": False,
    "HTTPS://aiplatform.googleapis.com/v1": False,
    "https:aiplatform.googleapis.com": False,
    "//aiplatform.googleapis.com": False,
    "https://aiplatform.googleapis.com/v1 https://evil.example": False,
    "http://127.0.0.1:8080/v1": False,
    "https://allowed.example:8443/v1": True,
    "http://allowed.example/v1": False,
    "https://sub.allowed.example/v1": False,
    "http://127.0.0.2:8080/v1": True,
    "evil.example/v1": False,
    "": False,
}
CASES: Mapping[tuple[str, ...], bool] = {
    (*BASE, KEY): True,
    (
        *BASE,
        KEY,
        "set OPENAI_MODEL=google/gemini-2.5-flash",
        "unset OPENAI_ORG_ID",
        "unset API_BASE_URL",
    ): True,
    **{(*BASE, KEY, f"set {name}=x"): False for name in REFUSED},
    **{(*BASE, KEY, f"unset {name}"): False for name in ("PATH", "HOME", "VERTEX_ENV_ALLOW_HOST")},
    **{(*BASE, KEY, f"set OPENAI_HOST={url}"): good for url, good in URLS.items()},
    **{
        tuple(line for line in (*BASE, KEY) if line != left_out): False for left_out in (*BASE, KEY)
    },
    (*BASE, "set OPENAI_API_KEY=ya29.theirs"): False,
    (*BASE, KEY, "set OPENAI_MODEL=\x1f"): False,
    (*BASE, KEY, "set OPENAI_MODEL=https://evil.example"): False,
    (*BASE, KEY, "set OPENAI_BASE_PATH=//evil.example"): False,
    (*BASE, KEY, "set OPENAI_MODEL"): False,
    (BASE[0], BASE[1], "set OPENAI_AGENTS_DISABLE_TRACING=0", KEY): False,
    (*BASE, KEY, "set OPENAI_AGENTS_DISABLE_TRACING=0"): False,
    (*BASE, KEY, "unset OPENAI_AGENTS_DISABLE_TRACING"): False,
}
"""Changes to whether they are harmless where `allowed.example` and 127.0.0.2 are allowed."""


def test_each_change_that_could_hurt(shell: Shell, place: Place) -> None:
    """Names that act on shells and interpreters, hosts of others, a base URL too few."""
    cases = place.home / "cases"
    cases.write_text(json.dumps([list(case) for case in CASES]))
    lines = {
        "nu": [
            f"let cases = open --raw {cases} | from json",
            "let told = $cases | each {|it| try { __vertex_env_is_harmless $it } catch { false } }",
            "print ($told | to json --raw)",
        ],
        "xonsh": [
            "import gc, json",
            "[hook] = [it for it in gc.get_objects() if type(it).__qualname__.endswith('setup.<locals>.Hook')]",
            "def told(it):",
            "    try: return bool(hook.is_harmless(it, __xonsh__.env.detype()))",
            "    except (AttributeError, TypeError): return False",
            "",
            f"print(json.dumps([told(it) for it in json.load(open({str(cases)!r}))]))",
        ],
    }[shell.name]
    allowed = {"VERTEX_ENV_ALLOW_HOST": "Allowed.example, 127.0.0.2"}
    env = {**allowed, "VERTEX_ENV_VIA": "direnv", "OPENAI_AGENTS_DISABLE_TRACING": None}
    run = place.script(shell, shell.source, *lines, env=env)
    told = json.loads(run.ended.stdout)
    assert [case for case, good in zip(CASES, told, strict=True) if good != CASES[case]] == []


def test_a_variable_that_cannot_be_set(shell: Shell, place: Place) -> None:
    """Everything stays as it was: no key of one beside the URL of another."""
    before = {"OPENAI_API_KEY": "mine", "OPENAI_BASE_URL": "https://corp.example/v1"}
    refuse = "__xonsh__.env.register('OPENAI_API_BASE', validate=lambda _: False, convert=lambda it: int(it or 0))"
    env = before if shell.name == "xonsh" else {**before, "VERTEX_ENV_SET": "FILE_PWD=x"}
    first = refuse if shell.name == "xonsh" else ""

    def after(source: str) -> tuple[dict[str, str], str]:
        run = place.script(shell, first, source, shell.hook, "REPORT", env=env)
        return {name: run.reports[0].get(name, "") for name in before}, run.ended.stderr

    got, said = after(shell.source)
    assert got == before
    assert said.count("cannot be set, so none is") == said.count("hint:") == 1
    got, _ = after(without(shell, place, "undo"))
    assert got["OPENAI_BASE_URL"] != before["OPENAI_BASE_URL"]


def test_state_from_the_environment_is_dropped(place: Place) -> None:
    """It can only be a text, where nushell keeps a record."""
    nu = SHELLS[1]
    need("nu")
    source = without(nu, place)
    file = place.home / "without.nu"
    check = 'if ($env.__vertex_env? | describe) !~ "^record" {'
    assert check in file.read_text()
    assert seen(nu, place, source, {"__vertex_env": "[a]"})["OPENAI_API_KEY"].startswith("ya29.")
    file.write_text(file.read_text().replace(check, "if $env.__vertex_env? == null {"))
    assert (
        "OPENAI_API_KEY"
        not in place.script(nu, source, "REPORT", env={"__vertex_env": "[a]"}).reports[0]
    )
