"""What a forged snapshot, a hostile environment or a read-only variable can do to a shell with the hook: nothing.

Each test that shows an absence has its control: the same drive with the hook's protection taken out shows the presence.
"""

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.shells import Place, Shell, hook_file, settle
from tests.support.tools import need

ASK = "export --format lines"
TRACING = "OPENAI_AGENTS_DISABLE_TRACING"
SHELLS = {"bash": ("--norc", "--noprofile"), "zsh": ("-f",), "fish": ("--no-config",)}
DANGEROUS = """
PATH LD_PRELOAD LD_LIBRARY_PATH DYLD_INSERT_LIBRARIES PROMPT_COMMAND PS0 PS1 PS2 PS4 BASH_ENV ENV IFS FPATH ZDOTDIR
READNULLCMD SHELLOPTS fish_function_path PYTHONSTARTUP PYTHONPATH NODE_OPTIONS PERL5OPT RUBYOPT GIT_SSH_COMMAND LESSOPEN
HTTPS_PROXY OPENAI_PROXY
"""
EVIL = (
    "none",
    "https://evil.example/v1",
    "https://x.googleapis.com@evil.example/v1",
    "https://x.googleapis.com:y@evil.example/v1",
    "https://evil.example#.googleapis.com",
    "https://evil.example?.googleapis.com",
    "https://evil.example\\.googleapis.com",
    "https://evil.example/x.googleapis.com",
    "https://evil.example:443/.googleapis.com",
    "https://x.googleapis.com:443@evil.example",
    "https://x.googleapis.com\\@evil.example",
    "https://xgoogleapis.com/v1",
    "https://googleapis.com/v1",
    "https://x.googleapis.com.evil.example/v1",
    "https://x.googleapis.com.",
    "https://x.googleapis.com:8443/v1",
    "HTTPS://X.GOOGLEAPIS.COM/v1",
    "https://X.googleapis.com/v1",
    "http://x.googleapis.com/v1",
    "ftp://x.googleapis.com/v1",
    "//x.googleapis.com/v1",
    "x.googleapis.com/v1",
    "https://x.googleapis.com/v1?key=1",
    "https://x.googleapis.com/v1#x",
    "https:///x.googleapis.com",
    "http://127.0.0.2:1/v1",
    "http://localhost:1/v1",
    "http://127.0.0.1:1@evil.example/v1",
    "http://127.0.0.1:x@evil.example/v1",
    "http://127.0.0.1.evil.example/v1",
    "http://127.0.0.1@evil.example:1/v1",
    "",
)
GOOD = (
    "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/openapi",
    "https://europe-west4-aiplatform.googleapis.com/v1",
    "https://1.europe-west4-2.prediction.vertexai.goog/v1",
    "http://127.0.0.1:8080/v1",
    "https://127.0.0.1:8443/v1",
)


@pytest.fixture(params=SHELLS)
def name(request: pytest.FixtureRequest) -> str:
    need(str(request.param))
    return str(request.param)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A home with a token, a snapshot, and a program that fails: what a shell has then it has from the snapshot."""
    with settle(tmp_path) as place:
        place.store()
        place.becomes("false")
        yield place


def weakened(place: Place, name: str, *changes: tuple[str, str]) -> Path:
    """A copy of the hook with a protection taken out."""
    text = hook_file(name).read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = place.folder / f"weak-{os.urandom(4).hex()}"
    path.write_text(text)
    return path


PROMPTED = {"bash": "__vertex_env_hook", "zsh": "__vertex_env_hook", "fish": "emit fish_prompt"}
"""What is done at a prompt."""


def drive(  # noqa: PLR0913
    place: Place,
    name: str,
    hook: Path | None = None,
    before: str = "",
    after: str = "",
    env: Mapping[str, str] | None = None,
    *,
    prompted: bool = True,
) -> tuple[dict[str, str], str]:
    """What a command gets in a shell that has sourced *hook*, after its first prompt, and what was said."""
    place.calls_file.unlink(missing_ok=True)
    source = (
        f"source {shlex.quote(str(hook or hook_file(name)))}\n{PROMPTED[name] if prompted else ''}"
    )
    script = f"{before}\n{source}\n{after}\n{need('env')} -0 </dev/null\n"
    argv = [need(name), *SHELLS[name], "-c", script]
    environ = {**place.env, **(env or {})}
    done = subprocess.run(
        argv, env=environ, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL
    )
    said = done.stdout.decode(errors="surrogateescape")
    found = dict(entry.split("=", 1) for entry in said.split("\0") if "=" in entry)
    return found, done.stderr.decode()


def forge(place: Place, change: Callable[[list[str]], list[str]]) -> None:
    """Have somebody else change the snapshot."""
    path = place.cache / "shell.snapshot"
    path.write_text("\n".join([*change(path.read_text().splitlines()), ""]))


def with_line(line: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[:-2], line, *lines[-2:]]


def with_base_url(url: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [
        f"set OPENAI_BASE_URL={url}" if line.startswith("set OPENAI_BASE_URL") else line
        for line in lines
    ]


ANY_NAME = {
    "bash": (("# end\n      *) return 1 ;;", "*) kind=any ;;"),),
    "zsh": (
        (
            '[[ $keys == *" $name "* && $line == $mark && -n $token ]] || return 1',
            "[[ $line == $mark ]] || { changes+=($name= $line); continue; }",
        ),
    ),
    "fish": (("|set OPENAI_AGENTS_DISABLE_TRACING=1|", "|set [A-Za-z_0-9]+=.*|"),),
}
ANY_URL = {
    "bash": ((' || __vertex_env_is_url "$line" || return 1', " || :"),),
    "zsh": ((' || __vertex_env_is_url "$line" || return 1', " || true"),),
    "fish": (("(?:$hosts)$tail", ".*"),),
}


# --- a forged snapshot ---


def test_no_name_but_ours_is_set(name: str, place: Place) -> None:
    """The names that a shell, a loader or an interpreter acts on, and one like ours."""
    whole = (place.cache / "shell.snapshot").read_text()
    weak = weakened(place, name, *ANY_NAME[name])
    shown = 0
    for forged in (
        *DANGEROUS.split(),
        "OPENAI_API_KEY AIDER_OPENAI_API_KEY",
        "OPENAI_API_KEY[0]",
        "",
    ):
        forge(place, with_line(f"set {forged}=/forged"))
        seen, _ = drive(place, name)
        assert place.calls == [ASK], forged
        assert "/forged" not in seen.values(), forged
        assert "OPENAI_API_KEY" not in seen
        seen, _ = drive(place, name, weak)
        shown += seen.get(forged) == "/forged"
        (place.cache / "shell.snapshot").write_text(whole)
    assert shown >= 15  # some are read-only, or set anew by the shell itself


ANY_UNSET = {
    "bash": ((" && $name == OPENAI_* ]] || return 1", " ]] || return 1"),),
    "zsh": (('[[ $name == OPENAI_* || $urls == *" $name "* ]] || return 1', ":"),),
    "fish": (("| (?:$urls))*", "| [A-Z_]+)*"),),
}


def test_no_name_but_ours_is_unset(name: str, place: Place) -> None:
    forge(place, with_line("unset HOME VERTEX_ENV_ALLOW_HOST"))
    seen, _ = drive(place, name)
    assert place.calls == [ASK]
    assert seen["HOME"] == place.env["HOME"]
    seen, _ = drive(place, name, weakened(place, name, *ANY_UNSET[name]))
    assert place.calls == []
    assert "HOME" not in seen


def test_no_other_host_gets_the_token(name: str, place: Place) -> None:
    whole = (place.cache / "shell.snapshot").read_text()
    weak = weakened(place, name, *ANY_URL[name])
    for url in EVIL:
        forge(place, with_base_url(url))
        seen, _ = drive(place, name)
        assert (url, place.calls, "OPENAI_API_KEY" in seen) == (url, [ASK], False)
        seen, _ = drive(place, name, weak)
        assert seen["OPENAI_BASE_URL"] == url
        assert seen["OPENAI_API_KEY"].startswith("stored-")
        (place.cache / "shell.snapshot").write_text(whole)


def test_hosts_that_are_allowed_are_loaded(name: str, place: Place) -> None:
    for url in GOOD:
        forge(place, with_base_url(url))
        seen, said = drive(place, name)
        assert (place.calls, seen.get("OPENAI_BASE_URL"), said) == ([], url, "")


def test_loopback_is_no_exception(name: str, place: Place) -> None:
    """Somebody who can write the file can listen as well; only the shell's own variable allows it."""
    forge(place, lambda lines: [line for line in lines if "ALLOW_HOST" not in line])
    seen, _ = drive(place, name)
    assert place.calls == []
    for allowed in ("", "other.example", "127.0.0.11", "27.0.0.1"):
        seen, _ = drive(place, name, env={"VERTEX_ENV_ALLOW_HOST": allowed})
        assert place.calls == [ASK]
        assert "OPENAI_API_KEY" not in seen
    drive(place, name, env={"VERTEX_ENV_ALLOW_HOST": "other.example,127.0.0.1 third.example"})
    assert place.calls == []


@pytest.mark.parametrize("missing", ["OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_KEY"])
def test_key_and_both_urls_come_together(name: str, place: Place, missing: str) -> None:
    forge(place, lambda lines: [line for line in lines if not line.startswith(f"set {missing}=")])
    seen, _ = drive(place, name, env={"OPENAI_BASE_URL": "https://corp.example/v1"})
    assert place.calls == [ASK]
    assert "OPENAI_API_KEY" not in seen


ANY_WORD = {
    "bash": (("[[ $line == [A-Za-z0-9]* && $line != *[!A-Za-z0-9._/-]* ]] || return 1", ""),),
    "zsh": (("[[ $line == [A-Za-z0-9]* && $line != *[^A-Za-z0-9._/-]* ]] || return 1", ""),),
    "fish": (("(?:$words)=[A-Za-z0-9][A-Za-z0-9._/-]*", "(?:$words)=.*"),),
}


def test_words_have_no_host(name: str, place: Place) -> None:
    whole = (place.cache / "shell.snapshot").read_text()
    weak = weakened(place, name, *ANY_WORD[name])
    for value in ("https://evil.example", "//evil.example", "@evil.example", "x:y", ""):
        forge(place, with_line(f"set OPENAI_BASE_PATH={value}"))
        drive(place, name)
        assert (value, place.calls) == (value, [ASK])
        assert drive(place, name, weak)[0]["OPENAI_BASE_PATH"] == value
        (place.cache / "shell.snapshot").write_text(whole)
    forge(place, with_line("set OPENAI_BASE_PATH=v1/projects/p/chat/completions"))
    assert drive(place, name)[0]["OPENAI_BASE_PATH"] == "v1/projects/p/chat/completions"
    assert place.calls == []


def test_folder_open_to_others_with_a_changed_line(name: str, place: Place) -> None:
    """Another user has changed one line of the file, in place, so that it is still this user's."""
    place.cache.chmod(0o777)
    for path in place.cache.iterdir():
        path.chmod(0o666)
    drive(place, name)
    # zsh sees the mode itself.
    assert place.calls == ([ASK] if name == "zsh" else [])
    forge(place, with_base_url("https://evil.example/v1"))
    seen, _ = drive(place, name)
    assert place.calls == [ASK]
    assert "OPENAI_API_KEY" not in seen
    open_too = (("Uf-77", "U"),) if name == "zsh" else ()
    seen, _ = drive(place, name, weakened(place, name, *ANY_URL[name], *open_too))
    assert seen["OPENAI_BASE_URL"] == "https://evil.example/v1"
    assert seen["OPENAI_API_KEY"].startswith("stored-")


def test_snapshot_that_comes_with_a_repository(name: str, place: Place) -> None:
    """With `XDG_CACHE_HOME=$PWD/.cache`, and files as `git clone` makes them."""
    forge(place, with_line("set PROMPT_COMMAND=touch executed"))
    cloned = place.folder / "clone" / ".cache" / "vertex-env"
    cloned.parent.mkdir(parents=True)
    place.cache.rename(cloned)
    for path in cloned.iterdir():
        if path.suffix != ".mark":
            path.write_text(path.read_text().replace(str(place.cache), str(cloned)))
        path.chmod(0o644)
    env = {"XDG_CACHE_HOME": str(cloned.parent), "VERTEX_ENV_CACHE_DIR": ""}
    forged = cloned / "shell.snapshot"
    lines = [
        line
        for line in forged.read_text().splitlines()
        if not line.startswith("same VERTEX_ENV_CACHE_DIR")
    ]
    forged.write_text("\n".join([*lines, ""]))
    seen, _ = drive(place, name, env=env)
    assert place.calls == [ASK]
    assert "PROMPT_COMMAND" not in seen
    open_too = (("Uf-77", "U"),) if name == "zsh" else ()
    seen, _ = drive(place, name, weakened(place, name, *ANY_NAME[name], *open_too), env=env)
    assert seen["PROMPT_COMMAND"] == "touch executed"


def test_prompt_command_from_a_repository_is_not_executed(place: Place) -> None:
    """At the prompts of a bash with a terminal."""
    executed = place.folder / "executed"
    forge(place, with_line(f"set PROMPT_COMMAND={need('touch')} {executed}"))
    for hook, is_executed in ((None, False), (weakened(place, "bash", *ANY_NAME["bash"]), True)):
        with Shell(
            "bash", place.env, f"source {shlex.quote(str(hook or hook_file('bash')))}\n"
        ) as sh:
            sh.enter()
            sh.enter()
            assert executed.exists() == is_executed


FOLLOWS = {
    "bash": (" && ! -L $folder", ""),
    "zsh": ("(N/U", "(N-/U"),
    "fish": ("path is -l -- $folder $file", "path is -l -- $file"),
}


def test_folder_that_is_a_link(name: str, place: Place) -> None:
    place.cache.rename(place.cache.with_name("real"))
    place.cache.symlink_to("real")
    seen, _ = drive(place, name)
    assert place.calls == [ASK]
    assert "OPENAI_API_KEY" not in seen
    seen, _ = drive(place, name, weakened(place, name, FOLLOWS[name]))
    assert seen["OPENAI_API_KEY"].startswith("stored-")


ANYWHERE = {
    "bash": (
        ('${file%/*} == "$folder" && ', ""),
        ('${name%/*} == "$folder" && ', ""),
    ),
    "zsh": (
        ("${file%/*} == $folder && ", ""),
        ("${name%/*} == $folder && ", ""),
    ),
    "fish": (
        ("file \\S+ [^/ ]+ /", "file \\S+ \\S+ /"),
        ("(?:token|stamp) /.*", "(?:token|stamp) .*"),
        (
            "token .*/(?<token_file>[^/\\n]+)\\nstamp .*/(?<stamp_file>[^/\\n]+)$",
            "token (?<token_file>.*)\\nstamp (?<stamp_file>.*)$",
        ),
        ("set token_file $folder/$token_file", ""),
        ("set stamp_file $folder/$stamp_file", ""),
    ),
}


@pytest.mark.parametrize("kind", ["token", "stamp", "mark"])
@pytest.mark.parametrize("where", ["{}/other", "{}/other/..", "other", "./other"])
def test_files_elsewhere_are_not_read(name: str, place: Place, kind: str, where: str) -> None:
    """Not even this user's own: a file of another account, or of another purpose."""
    (place.cache / "other").mkdir(mode=0o700)
    for path in place.cache.glob(f"*.{kind}"):
        if ".." not in where:
            path.rename(place.cache / "other" / path.name)

    def elsewhere(line: str) -> str:
        if kind == "mark" and line.startswith("file "):
            _, seconds, mark, path = line.split(" ", 3)
            return f"file {seconds} {where.removeprefix('{}/')}/{mark} {path}"
        return line.replace(f"{kind} {place.cache}/", f"{kind} {where.format(place.cache)}/")

    forge(place, lambda lines: [elsewhere(line) for line in lines])
    there = f"cd {shlex.quote(str(place.cache))}"
    drive(place, name, before=there)
    assert place.calls == [ASK]
    seen, _ = drive(place, name, weakened(place, name, *ANYWHERE[name]), before=there)
    assert place.calls == []
    assert seen["OPENAI_API_KEY"].startswith("stored-")


ANY_TIME = {
    "bash": ((" && ! $((__vertex_env_now + 300)) < $name ]]", " ]]"),),
    "zsh": (("[[ ! $((EPOCHSECONDS + 300)) < ${${stored[3]#issued }%%.*} ]] || return 1", ""),),
    "fish": (("test $issued -le $__vertex_env_now; or test", "true; or test"),),
}


def test_token_of_the_future_is_not_loaded(name: str, place: Place) -> None:
    """The clock was set back since it was issued: Python allows for five minutes, and so do the hooks."""
    path = place.stamp.with_suffix(".token")
    weak = weakened(place, name, *ANY_TIME[name])
    first, key, _, *rest = path.read_text().splitlines()
    for ahead, calls in ((7200, [ASK]), (400, [ASK]), (200, [])):
        path.write_text("\n".join([first, key, f"issued {time.time() + ahead!r}", *rest, ""]))
        drive(place, name)
        assert (ahead, place.calls) == (ahead, calls)
        assert drive(place, name, weak)[0]["OPENAI_API_KEY"].startswith("stored-")


def test_header_that_would_carry_other_credentials(name: str, place: Place) -> None:
    """Its value is not in the snapshot: the hook looks for the word."""
    for value, calls in (
        ("X-Note: 1", []),
        ("authorIZATION: Bearer mine", [ASK]),
        ("X-Api-Key: s3cret\nX-B: 2", []),
    ):
        drive(place, name, env={"OPENAI_CUSTOM_HEADERS": value})
        assert (value, place.calls) == (value, calls)


FITS = {
    "bash": (('| "fits $name=${!name-${line:${#name}+6}}")', "| fits*)"),),
    "zsh": (('[[ ${(P)name} == "${line#*=}" ]] || return 1', ":"),),
    "fish": (('contains -- "fits $name=$$name" $pairs; and continue', "continue"),),
}


def test_switch_that_the_user_has_set(name: str, place: Place) -> None:
    """Unset and ours are one state; another value is the user's own, and not replaced by ours."""
    assert f"fits {TRACING}=1" in (place.cache / "shell.snapshot").read_text().splitlines()
    env: dict[str, str]
    for env, calls in (
        ({}, []),
        ({TRACING: "1"}, []),
        ({TRACING: "0"}, [ASK]),
        ({TRACING: "false"}, [ASK]),
    ):
        seen, _ = drive(place, name, env=env)
        assert (env, place.calls) == (env, calls)
        assert seen[TRACING] == env.get(TRACING, "1")
        seen, _ = drive(place, name, weakened(place, name, *FITS[name]), env=env)
        assert (seen[TRACING], place.calls) == ("1", [])


TRACED = {
    "bash": (
        ('[[ $names == *" $name "* || -n ${!name-} && $drop != *" $name"* ]] || return 1', ""),
        ("[[ $name != OPENAI_AGENTS_DISABLE_TRACING || $line == 1 ]] || return 1", ""),
    ),
    "zsh": (
        ("|| [[ -n ${OPENAI_AGENTS_DISABLE_TRACING-} ]] || return 1", ""),
        ("[[ $name != OPENAI_AGENTS_DISABLE_TRACING || $line == 1 ]] || return 1", ""),
        ("[[ $name != OPENAI_AGENTS_DISABLE_TRACING ]] || return 1", ""),
    ),
    "fish": (
        ("contains -- OPENAI_AGENTS_DISABLE_TRACING $names; or test -n", "true; or test -n"),
        ("set OPENAI_AGENTS_DISABLE_TRACING=1|set (?!OPENAI_AGENTS)", "set "),
        ("(?!OPENAI_AGENTS)OPENAI_[", "OPENAI_["),
    ),
}
SWITCH = f"set {TRACING}=1"


@pytest.mark.parametrize(
    ("forged", "value"),
    [
        ([], None),
        ([], ""),
        *(([f"set {TRACING}=0"], value) for value in (None, "", "1")),
        *(([SWITCH, f"set {TRACING}=0"], value) for value in (None, "1")),
        *(([f"unset {TRACING}"], value) for value in (None, "", "1")),
    ],
)
def test_switch_of_tracing_is_set_with_the_key(
    name: str, place: Place, forged: list[str], value: str | None
) -> None:
    """While it is on, openai-agents takes the key to OpenAI at each run."""
    forge(
        place,
        lambda lines: [line for line in lines if line != SWITCH and not line.startswith("fits ")],
    )
    forge(place, lambda lines: [*lines[:-2], *forged, *lines[-2:]])
    env = {} if value is None else {TRACING: value}
    seen, _ = drive(place, name, env=env)
    assert place.calls == [ASK]
    assert "OPENAI_API_KEY" not in seen
    seen, _ = drive(place, name, weakened(place, name, *TRACED[name]), env=env)
    assert place.calls == []
    assert seen["OPENAI_API_KEY"].startswith("stored-")
    assert seen.get(TRACING, "") in ("", "0")


@pytest.mark.parametrize("value", ["0", "1", "true"])
def test_own_switch_of_tracing_is_enough(name: str, place: Place, value: str) -> None:
    forge(
        place,
        lambda lines: [line for line in lines if line != SWITCH and not line.startswith("fits ")],
    )
    seen, _ = drive(place, name, env={TRACING: value})
    assert (seen[TRACING], seen["OPENAI_API_KEY"][:7], place.calls) == (value, "stored-", [])


def test_off_takes_the_inherited_switch_away(name: str, place: Place) -> None:
    """It is part of what the outer shell has set; another value is the user's own."""
    outer, _ = drive(place, name)
    assert outer[TRACING] == "1"
    for value, left in (("1", None), ("0", "0")):
        seen, _ = drive(place, name, after="vertex-env off", env={**outer, TRACING: value})
        assert (seen.get(TRACING), "OPENAI_API_KEY" in seen) == (left, False)


def test_names_in_small_letters_are_others(place: Place) -> None:
    """Also where `nocasematch` has bash compare without regard to case: the key would be there without its URL."""

    def small(lines: list[str]) -> list[str]:
        return [line.replace("set OPENAI_BASE_URL", "set openai_base_url") for line in lines]

    forge(place, small)
    seen, _ = drive(place, "bash", before="shopt -s nocasematch")
    assert place.calls == [ASK]
    assert "OPENAI_API_KEY" not in seen
    weak = weakened(place, "bash", ("shopt -u nocasematch", ":"))
    seen, _ = drive(place, "bash", weak, before="shopt -s nocasematch")
    assert seen["OPENAI_API_KEY"].startswith("stored-")
    assert "OPENAI_BASE_URL" not in seen


# --- variables that cannot be set ---


LEAKS = {
    "bash": (
        ("if builtin unset -v $1; then", "if builtin unset -v $1 || :; then"),
        ('"${@:2}" &&', '"${@:2}";'),
    ),
    "zsh": (("[[ ${(Pt)name} == *readonly* ]] || continue", "continue"),),
    "fish": (('test "$$argv[1]" = $argv[2]; and return', "return"),),
}
"""What lets the rest be set; zsh would stop half way: there what is missing is the order."""
READ_ONLY = {
    "bash": "readonly OPENAI_BASE_URL=https://corp.example/v1; export OPENAI_BASE_URL",
    "zsh": "readonly OPENAI_BASE_URL=https://corp.example/v1; export OPENAI_BASE_URL",
    "fish": "set -lx OPENAI_BASE_URL https://corp.example/v1",
}


@pytest.mark.parametrize("warm", [True, False])
def test_url_that_cannot_be_set_gets_no_key(name: str, place: Place, *, warm: bool) -> None:
    """A client would send it to that host. All is as it was, and that is said once."""
    if not warm:
        (place.cache / "shell.snapshot").unlink()
        place.becomes(
            "printf 'set %s\\n' OPENAI_BASE_URL=https://x.googleapis.com OPENAI_API_KEY=stored-x"
        )
    mine = {"OPENAI_API_KEY": "sk-mine", "OPENAI_ORG_ID": "org"}
    seen, said = drive(place, name, before=READ_ONLY[name], after=PROMPTED[name], env=mine)
    assert seen["OPENAI_BASE_URL"] == "https://corp.example/v1"
    assert {n: seen.get(n) for n in mine} == mine
    assert [
        n for n in seen if n.startswith(("VERTEX_ENV_E", "VERTEX_ENV_R", "VERTEX_ENV_ST"))
    ] == []
    assert (
        said.count("vertex-env: error: ")
        == said.count("vertex-env: hint: ")
        == said.count("OPENAI_BASE_URL")
        == 1
    )
    assert place.calls == ([] if warm else [ASK])
    if warm and name != "zsh":
        leaked, _ = drive(
            place, name, weakened(place, name, *LEAKS[name]), before=READ_ONLY[name], env=mine
        )
        assert leaked["OPENAI_API_KEY"].startswith("stored-")
        assert leaked["OPENAI_BASE_URL"] == "https://corp.example/v1"


@pytest.mark.parametrize(
    "declared", ["OPENAI_BASE_URL=(https://corp.example/v1 x)", "typeset -n OPENAI_BASE_URL=OTHER"]
)
def test_attributes_of_a_variable(place: Place, declared: str) -> None:
    """A child of bash gets the URL, though bash exports no array; the control: without the unset, only the key."""
    seen, _ = drive(place, "bash", before=declared)
    assert seen["OPENAI_BASE_URL"].startswith("http://127.0.0.1:")
    assert seen["OPENAI_API_KEY"].startswith("stored-")
    taken = (("builtin unset -n $1", "true"), ("builtin unset -v $1; then", "true; then"))
    leaked, _ = drive(place, "bash", weakened(place, "bash", *taken), before=declared)
    assert leaked["OPENAI_API_KEY"].startswith("stored-")
    assert "OPENAI_BASE_URL" not in leaked


@pytest.mark.parametrize(
    "declared",
    [
        "typeset -i OPENAI_API_BASE",
        "typeset -a OPENAI_API_BASE=(x)",
        "typeset -F OPENAI_API_KEY",
        "typeset -i X_URL",
    ],
)
def test_attributes_of_a_variable_of_zsh(place: Place, declared: str) -> None:
    """All is set, and nothing evaluated; the control: without the unset, it stops half way, or evaluates the text."""
    file = place.folder / "evaluated"
    place.becomes(f"printf '%s\\n' {shlex.quote(f'set X_URL=path[$(touch {file})1]')}")
    asked = "\n__vertex_env_ask\n"
    seen, _ = drive(place, "zsh", before=declared, after=asked)
    assert seen["OPENAI_API_BASE"] == seen["OPENAI_BASE_URL"]
    assert seen["OPENAI_API_KEY"].startswith("stored-")
    assert (seen["X_URL"][:6], file.exists()) == ("path[$", False)
    hook = weakened(
        place, "zsh", ('builtin unset "${name%=}"\n', '[[ $name == *= ]] || unset "$name"\n')
    )
    left, _ = drive(place, "zsh", hook, before=declared, after=asked)
    assert (
        file.exists()
        if "X_URL" in declared
        else not left.get("OPENAI_API_KEY", "").startswith("stored-")
    )


def test_huge_stamp_is_not_read(place: Place) -> None:
    """At a prompt of zsh, which would read all of it; the control: without the limit, it reads 4 MiB."""
    stamp = next(place.cache.glob("*.stamp"))
    stamp.write_bytes(b"1" * (4 << 20) + b"\n")
    due = {
        "VERTEX_ENV_STAMP": str(stamp),
        "VERTEX_ENV_REFRESH_AT": "9999999999",
        "OPENAI_API_KEY": "sk-mine",
    }
    counted = ("|| at=''", "|| at=''; typeset -gx read_in=${#at}")
    found = []
    for changes in ([counted], [counted, ("(N.UL-256)", "(N.U)")]):
        hook = weakened(place, "zsh", *changes)
        seen, _ = drive(place, "zsh", hook, after="__vertex_env_renew", env=due)
        found.append(seen.get("read_in"))
    assert found == [None, str(4 << 20)]


HALF_WAY = {
    "bash": (
        ("if builtin unset -v $1; then", "if builtin unset -v $1 || :; then"),
        (
            'builtin export "${@:2}" && return',
            'for it in "${@:2}"; do builtin export "$it" || return 3; done; return',
        ),
    ),
    "zsh": (("[[ ${(Pt)name} == *readonly* ]] || continue", "continue"),),
    "fish": (("__vertex_env_off\n    builtin printf", "builtin printf"),),
}
"""What lets it stop at the URL and leave what it has set."""


def test_key_is_the_last_to_be_set(name: str, place: Place) -> None:
    """Even a hook that stops half way leaves no key beside another host's URL; in the old order, it does."""
    weak = weakened(place, name, *HALF_WAY[name])
    before = READ_ONLY[name]
    if name == "zsh":  # which ends there
        before += f"\ntrap '{need('env')} -0' EXIT"
    seen, _ = drive(place, name, weak, before=before, prompted=False)
    assert "VERTEX_ENV_EXPIRES_AT" in seen
    assert "OPENAI_API_KEY" not in seen
    key = [
        line
        for line in (place.cache / "shell.snapshot").read_text().splitlines()
        if "set OPENAI_API_KEY" in line
    ]

    def key_first(lines: list[str]) -> list[str]:
        others = [line for line in lines if line not in key]
        at = next(i for i, line in enumerate(others) if line.startswith("set "))
        return [*others[:at], *key, *others[at:]]

    forge(place, key_first)
    seen, _ = drive(place, name, weak, before=before, prompted=False)
    assert seen["OPENAI_API_KEY"].startswith("stored-")
    assert seen["OPENAI_BASE_URL"] == "https://corp.example/v1"
    seen, _ = drive(place, name, before=before)
    assert "OPENAI_API_KEY" not in seen


# --- the hook's own state, inherited ---


def test_inherited_state_is_not_evaluated_by_off(place: Place) -> None:
    file = place.folder / "evaluated"
    env = {
        "__vertex_env_names": f"DIRSTACK[$(touch${{IFS}}{file})]",
        "__vertex_env_before": "PATH=/forged",
    }
    seen, _ = drive(place, "bash", after="vertex-env off", env=env)
    assert not file.exists()
    assert seen["PATH"] == place.env["PATH"]
    assert [n for n in seen if n.startswith("__vertex_env")] == []
    weak = weakened(
        place,
        "bash",
        ("-z ${__vertex_env_here[1]+set}", "-z ${__vertex_env_names+set}"),
        (
            "case $entry in [0-9]* | *[!A-Za-z0-9_]*) ;; *) builtin unset",
            "case $entry in '') ;; *) builtin unset",
        ),
    )
    drive(place, "bash", weak, after="vertex-env off", env=env)
    assert file.exists()


def test_inherited_state_is_dropped(name: str, place: Place) -> None:
    env = {
        f"__vertex_env_{n}": "HOME"
        for n in ("names", "before", "failed", "retry", "inherited", "here", "now")
    }
    env |= {"__vertex_env_before_OPENAI_API_KEY": "-gx"}
    seen, _ = drive(place, name, after="vertex-env off", env=env)
    assert seen["HOME"] == place.env["HOME"]
    assert "OPENAI_API_KEY" not in seen
    assert place.calls == []


BELIEVED = {
    "bash": (("-z ${__vertex_env_here[1]+set}", "-z ${__vertex_env_names+set}"),),
    "zsh": (("${(t)__vertex_env_before-} != association*", "-z ${__vertex_env_before+set}"),),
    "fish": (
        (
            "if not set -qgu __vertex_env_names; or set -qgx __vertex_env_names",
            "if not set -q __vertex_env_names",
        ),
    ),
}


def test_inherited_state_names_nothing_to_take_away(name: str, place: Place) -> None:
    """A hook that believed it would unset HOME; the variables are fresh, so that nothing is loaded."""
    far = "9999999998"
    env = {"VERTEX_ENV_REFRESH_AT": far, "VERTEX_ENV_EXPIRES_AT": far, "OPENAI_API_KEY": "theirs"}
    env |= {f"__vertex_env_{n}": "HOME" for n in ("names", "before", "here")}
    before = f"trap '{need('env')} -0' EXIT" if name == "zsh" else ""
    seen, _ = drive(place, name, before=before, after="vertex-env off", env=env)
    assert seen["HOME"] == place.env["HOME"]
    seen, _ = drive(
        place,
        name,
        weakened(place, name, *BELIEVED[name]),
        before=before,
        after="vertex-env off",
        env=env,
    )
    assert "HOME" not in seen
    assert place.calls == []
