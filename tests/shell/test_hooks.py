"""The hooks in real shells at real terminals: there is always a token, and else nobody notices them."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.processes import until
from tests.support.shells import (
    POSIX_SHELLS,
    PROMPT,
    Place,
    Shell,
    backdate,
    hook_file,
    settle,
    source,
)
from tests.support.tools import need
from vertex_env.sandbox.faults import Fault

Open = Callable[..., Shell]

ASK = "export --format lines"
"""How a hook starts the program."""
DUE = "export VERTEX_ENV_REFRESH_AT=0"
TOO_LATE = f"{DUE} VERTEX_ENV_EXPIRES_AT=0"
MISSING = "vertex-env: error: there is no vertex-env on PATH\nvertex-env: hint: put its folder on PATH, or install it\n"
OFFLINE = "vertex-env: no token for now: Google cannot be reached; vertex-env refresh says why\n"


@pytest.fixture(params=POSIX_SHELLS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Place]:
    """A home where nothing has been stored so far."""
    with settle(tmp_path) as place:
        yield place


@pytest.fixture
def place(empty: Place) -> Place:
    """A home with a token that lasts for most of an hour."""
    empty.store()
    return empty


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens shells, and closes them in the end."""
    with ExitStack() as stack:
        yield lambda *args, **more: stack.enter_context(Shell(*args, **more))


def traced(trace: Path) -> tuple[str, ...]:
    """What has strace write to *trace* each process that is started."""
    return (
        need("strace"),
        "-f",
        "-qq",
        "-o",
        str(trace),
        "-e",
        "trace=execve,clone,clone3,fork,vfork",
    )


def started(trace: Path) -> list[str]:
    """The processes in *trace*, but for the shell itself."""
    return re.findall(r"^\d+ +((?:execve|v?fork|clone3?)\(.*)", trace.read_text(), re.MULTILINE)[1:]


# --- there is always a token ---


def test_first_prompt_has_the_stored_token_without_a_process(
    name: str, place: Place, opened: Open, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    sh = opened(name, place.env, source(name), before=traced(trace))
    assert sh.start == ""
    assert started(trace) == []
    assert sh.value("OPENAI_API_KEY") == place.stored
    assert sh.value("OPENAI_BASE_URL").startswith(
        f"{place.google.url}/v1/projects/sandbox-project/"
    )
    assert int(sh.value("VERTEX_ENV_REFRESH_AT")) < int(sh.value("VERTEX_ENV_EXPIRES_AT"))
    assert sh.value("VERTEX_ENV_STAMP") == str(place.stamp)


def test_first_prompt_of_a_login_that_names_no_folder_of_gclouds(
    name: str, empty: Place, opened: Open
) -> None:
    del empty.env["CLOUDSDK_CONFIG"]
    planted = empty.store()
    sh = opened(name, empty.env, source(name))
    assert sh.value("OPENAI_API_KEY") == planted
    assert empty.calls == []


def test_first_prompt_has_a_token_where_none_is_stored(
    name: str, empty: Place, opened: Open
) -> None:
    sh = opened(name, empty.env, source(name))
    assert sh.start == ""
    assert sh.value("OPENAI_API_KEY") == empty.stored != ""
    sh.enter()
    assert empty.calls == [ASK]


def test_shell_within_a_shell_asks_nobody(name: str, place: Place, opened: Open) -> None:
    first = opened(name, place.env, source(name))
    inherited = {
        n: first.value(n)
        for n in ("OPENAI_API_KEY", "VERTEX_ENV_REFRESH_AT", "VERTEX_ENV_EXPIRES_AT")
    }
    shutil.rmtree(place.cache)
    second = opened(name, {**place.env, **inherited}, source(name))
    assert second.value("OPENAI_API_KEY") == inherited["OPENAI_API_KEY"]
    assert place.calls == []


def test_token_is_renewed_behind_the_prompt(name: str, empty: Place, opened: Open) -> None:
    old = empty.store(left_s=225 + 1)  # due in a second
    with empty.held():
        sh = opened(name, empty.env, source(name))
        until(lambda: sh.run("") or empty.calls)
        for _ in range(3):
            sh.enter()  # nobody waits
        assert sh.value("OPENAI_API_KEY") == old
        assert sh.run("jobs") == ""
    until(lambda: empty.stored != old)
    assert sh.value("VERTEX_ENV_EXPIRES_AT") != "unset"
    assert sh.value("OPENAI_API_KEY") == empty.stored
    assert empty.calls == [ASK]
    assert sh.run("jobs") == ""


def test_last_minute_is_worth_waiting_for(name: str, place: Place, opened: Open) -> None:
    sh = opened(name, place.env, source(name))
    old = place.store(left_s=50)
    sh.run(TOO_LATE)
    assert sh.value("OPENAI_API_KEY") == place.stored != old
    assert place.calls == [ASK]


def test_first_command_after_a_night_has_a_fresh_token(
    name: str, tmp_path: Path, opened: Open
) -> None:
    """Before bash 5.3, which cannot tell that a command is about to run, it is the second one."""
    with settle(tmp_path, lifetime_s=6) as place:
        sh = opened(name, place.env, source(name))
        # With one command, because the next may be late already.
        at, old = sh.run('echo "$VERTEX_ENV_REFRESH_AT $OPENAI_API_KEY"').split()
        due = int(at)
        if sh.run("echo $((${BASH_VERSINFO[0]-9} * 100 + ${BASH_VERSINFO[1]-9} < 503))") == "1\n":
            until(lambda: sh.value("OPENAI_API_KEY") != old)
        else:
            until(lambda: time.time() > due + 0.1)  # the clock of time(2) is some ms late
        assert sh.value("OPENAI_API_KEY") not in (old, "unset")


def test_what_is_shown_before_commands_is_kept(place: Place, opened: Open) -> None:
    sh = opened("bash", place.env, f"PS0='<mine>'\n{source('bash') * 2}")
    if "<mine>" not in sh.run(":"):
        pytest.skip("this bash has no PS0")
    assert sh.run("echo here") == "<mine>here\n"
    sh.run("set -eu; ! true")
    place.store()
    sh.run(DUE)
    assert sh.run("echo $OPENAI_API_KEY") == f"<mine>{place.stored}\n"


def test_another_shells_token_is_taken_over_without_a_process(
    name: str, place: Place, opened: Open
) -> None:
    sh = opened(name, place.env, source(name))
    new = place.store()
    sh.run(DUE)
    assert sh.value("OPENAI_API_KEY") == new
    assert place.calls == []


def test_shells_that_are_due_at_once_have_one_token_minted(
    name: str, place: Place, opened: Open
) -> None:
    shells = [opened(name, place.env, source(name)) for _ in range(2)]
    place.store(left_s=50)
    for sh in shells:
        sh.type(TOO_LATE + "\n")
    for sh in shells:
        sh.wait()
    assert {sh.value("OPENAI_API_KEY") for sh in shells} == {place.stored}
    assert place.google.counts["token"] == 1


def test_offline_nobody_waits_twice(name: str, place: Place, opened: Open) -> None:
    sh = opened(name, place.env, source(name))
    old = place.store(left_s=50)
    place.google.fail(Fault(1000, 503))
    assert sh.run(TOO_LATE) == ""
    assert place.calls == [ASK]
    for _ in range(5):
        assert sh.run("") == ""
    assert place.calls == [ASK]
    with place.held():
        sh.run("__vertex_env_retry=0")  # half a minute later
        until(lambda: len(place.calls) == 2)
        sh.enter()
    assert sh.value("OPENAI_API_KEY") != "unset"
    assert place.stored == old


def test_network_that_is_back_heals_it_without_waiting(
    name: str, place: Place, opened: Open
) -> None:
    sh = opened(name, place.env, source(name))
    place.store(left_s=50)
    place.becomes("false")
    sh.run(TOO_LATE)
    new = place.store()
    sh.enter()
    assert sh.value("OPENAI_API_KEY") == new
    assert place.calls == [ASK]


def test_start_without_network_heals(name: str, empty: Place, opened: Open) -> None:
    empty.google.fail(Fault(1000, 503))
    sh = opened(name, empty.env, source(name))
    assert (sh.start, sh.value("OPENAI_API_KEY")) == (OFFLINE, "unset")
    assert [sh.run("") for _ in range(3)] == [""] * 3
    new = empty.store()
    sh.enter()
    assert sh.value("OPENAI_API_KEY") == new
    assert empty.calls == [ASK]


# --- nobody notices ---


def test_thousand_prompts_start_no_process(
    name: str, place: Place, opened: Open, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    sh = opened(name, place.env, source(name), before=traced(trace))
    sh.run("for ((i = 0; i < 1000; i++)); do __vertex_env_hook; done")
    sh.enter()
    assert started(trace) == []


@pytest.mark.parametrize("when", ["", DUE, TOO_LATE], ids=["not due", "due", "too late"])
def test_status_is_kept(name: str, place: Place, opened: Open, when: str) -> None:
    sh = opened(name, place.env, source(name))
    place.becomes("false")
    sh.run(f"{when or ':'}; (exit 7)")
    assert sh.run("echo $?") == "7\n"
    pipestatus = "${PIPESTATUS[*]}" if name == "bash" else "$pipestatus"
    sh.run(f"{when or ':'}; true | false | (exit 3)")
    assert sh.run(f'echo "{pipestatus}"') == "0 1 3\n"


TRAPS = "trap 'echo int' INT; trap 'echo exit' EXIT; trap 'echo usr1' USR1"


def test_traps_are_kept(name: str, place: Place, opened: Open) -> None:
    sh = opened(name, place.env, f"{TRAPS}\n{source(name)}")
    before = sh.run("trap")
    place.store()
    sh.run(DUE)
    assert sh.run("trap") == before
    assert sh.run("kill -INT $$").strip() == "int"
    sh.type("exit 9\n")
    until(lambda: sh.screen.endswith("exit\r\n"))
    assert sh.shell.wait(30) == 9


@pytest.mark.parametrize("trap", ["ERR", "DEBUG"])
def test_trap_runs_as_often_as_without(name: str, place: Place, opened: Open, trap: str) -> None:
    if name == "zsh":
        trap = {"ERR": "ZERR"}.get(trap, trap)
    sh = opened(name, place.env, source(name))
    sh.run(f"trap 'echo trapped' {trap}")
    seen = sh.run("false").count("trapped")
    assert seen == (1 if trap != "DEBUG" else seen)
    place.store()
    sh.run(DUE)
    assert "trapped" in sh.run("false")


OPTIONS = {"bash": "set +o; shopt -p", "zsh": "setopt; unsetopt"}


@pytest.mark.parametrize("aliases", ["", "shopt -u expand_aliases"])
def test_options_are_kept(name: str, place: Place, opened: Open, aliases: str) -> None:
    sh = opened(name, place.env, aliases if name == "bash" else aliases and "unsetopt aliases")
    before = sh.run(OPTIONS[name])
    sh.run(source(name).strip())
    place.store()
    sh.run(DUE)
    place.store(left_s=50)
    sh.run(TOO_LATE)
    assert place.calls == [ASK]
    assert sh.run(OPTIONS[name]) == before


def test_what_is_typed_meanwhile_still_runs(name: str, place: Place, opened: Open) -> None:
    sh = opened(name, place.env, source(name))
    place.store(left_s=50)
    with place.held():
        sh.type(TOO_LATE + "\n")
        until(lambda: place.calls)
        sh.type("echo typed-$((6 * 7))\n")
    sh.wait()
    assert "typed-42" in sh.wait()
    assert sh.value("OPENAI_API_KEY") == place.stored


def test_interrupt_while_it_waits_leaves_a_prompt(name: str, place: Place, opened: Open) -> None:
    sh = opened(name, place.env, source(name))
    place.store(left_s=50)
    with place.held():
        sh.type(TOO_LATE + "\n")
        until(lambda: place.calls)
        sh.type("\x03")
        sh.wait()
        assert sh.run("echo here") == "here\n"
        assert len(place.calls) == 1


def hooks_of(sh: Shell) -> int:
    """How often the hook is called at a prompt."""
    where = "${precmd_functions[*]}" if sh.name == "zsh" else "${PROMPT_COMMAND[*]}"
    return sh.run(f'echo "{where}"').count("__vertex_env_hook")


def test_sourced_twice_is_hooked_once(name: str, place: Place, opened: Open) -> None:
    sh = opened(name, place.env, source(name) * 2)
    assert hooks_of(sh) == 1
    assert sh.value("OPENAI_API_KEY") == place.stored
    assert place.calls == []


@pytest.mark.parametrize(
    "before",
    [
        "unset PROMPT_COMMAND",
        "PROMPT_COMMAND=",
        "PROMPT_COMMAND=others",
        "PROMPT_COMMAND=$'others; \\n'",
        "PROMPT_COMMAND=(others)",
        "PROMPT_COMMAND=(: others)",
        "PROMPT_COMMAND=()",
        "PROMPT_COMMAND=(: others); unset 'PROMPT_COMMAND[0]'",
        "set -u; unset PROMPT_COMMAND",
        "set -u; PROMPT_COMMAND=()",
    ],
)
def test_prompt_command_of_any_form(place: Place, opened: Open, before: str) -> None:
    sh = opened(
        "bash",
        place.env,
        f"others() {{ called=$((${{called-0}} + 1)); }}\n{before}\n{source('bash') * 2}",
    )
    assert sh.start == ""
    assert hooks_of(sh) == 1
    new = place.store()
    assert sh.run(DUE) == ""
    assert sh.value("OPENAI_API_KEY") == new
    arrays = sh.run("echo $((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501))") == "1\n"
    if "others" in before and (arrays or "(:" not in before):
        assert int(sh.run("echo $called")) >= 3


LATER = {
    "bash-preexec": "bash_preexec_imported=defined; preexec_functions=(theirs)",
    "ble.sh": 'BLE_VERSION=0.4.0; blehook() { echo "blehook $*"; }',
}
"""What is there once one of them is loaded: bash-preexec (66e913c `bash-preexec.sh`, 2026-07), which bash-it has too,
and ble.sh (b99cadb `ble.pp`, 2026-03), whose hooks are set by a function."""


@pytest.mark.parametrize("loaded", ["later", "before"])
def test_preexec_of_others_is_found_at_the_first_prompt(
    place: Place, opened: Open, loaded: str
) -> None:
    for name, others in LATER.items():
        rc = [source("bash"), others + "\n"]
        sh = opened("bash", place.env, "".join(rc if loaded == "later" else reversed(rc)))
        if name == "ble.sh":
            assert sh.start == "blehook PREEXEC!=__vertex_env_preexec\n"
        else:
            assert sh.start == ""
            assert sh.run('echo "${preexec_functions[@]}"') == "theirs __vertex_env_preexec\n"
        sh.run(source("bash").strip())
        assert sh.run('echo "${preexec_functions[*]}"').count("__vertex_env_preexec") <= 1


INSTANT = """
typeset -g __p9k_instant_prompt_active=1
exec {__p9k_fd_1}>&1 {__p9k_fd_2}>&2 1>$HOME/output 2>&1
_p9k_on_expand() {
  (( ${+__p9k_instant_prompt_active} )) || return 0
  unset __p9k_instant_prompt_active
  exec 1>&$__p9k_fd_1 2>&$__p9k_fd_2
  [[ ! -s $HOME/output ]] || print "WARNING: Console output during zsh initialization detected."
}
functions -M _p9k_on_expand
setopt prompt_subst
PS1='${$((_p9k_on_expand()))+}'$PS1
"""
"""What matters here of powerlevel10k's instant prompt (604f19a `internal/p10k.zsh`, 2026-03), which takes what is
printed until it expands the first prompt, after all precmd functions, for a mistake in ~/.zshrc."""


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "control"])
def test_message_at_the_start_is_no_output_of_zshrc(
    empty: Place, opened: Open, *, waits: bool
) -> None:
    empty.program.unlink()
    text = hook_file("zsh").read_text()
    file = empty.folder / "hook.zsh"
    file.write_text(
        text if waits else text.replace("${__p9k_instant_prompt_active-}", "${nothing-}")
    )
    sh = opened("zsh", empty.env, f"{INSTANT}source {file}\n")
    assert ("WARNING" in sh.start) is not waits
    if waits:
        assert MISSING in sh.wait()
    assert sh.run("echo here") == "here\n"
    empty.becomes(f'{sys.executable} -P -m vertex_env "$@"')
    sh.enter()
    assert sh.value("OPENAI_API_KEY") == empty.stored != ""


PREEXEC = """
preexec_functions=() bash_preexec_imported=defined
install() {
  PROMPT_COMMAND=$'before\\n'"${PROMPT_COMMAND/install;/}"
  trap 'for f in "${preexec_functions[@]}"; do "$f" "$BASH_COMMAND" || refused=1; done' DEBUG
}
before() { :; }
PROMPT_COMMAND='install;'
"""
"""What matters here of bash-preexec (66e913c `bash-preexec.sh`, 2026-11-22), which rewrites PROMPT_COMMAND at the first
prompt and, under extdebug, does not run a command of which one of the functions returns something else than 0."""


@pytest.mark.parametrize("when", ["before", "after", "both"])
def test_bash_preexec(place: Place, opened: Open, when: str) -> None:
    ours = source("bash")
    rc = {
        "before": ours + PREEXEC.replace("'install;'", '"install;$PROMPT_COMMAND"'),
        "after": PREEXEC + ours,
    }
    sh = opened("bash", place.env, rc.get(when, rc["before"] + ours))
    sh.enter()
    assert hooks_of(sh) == 1
    sh.run("(exit 7)")
    assert sh.run('echo "$? ${refused-}"') == "7 \n"
    new = place.store()
    sh.run(DUE)
    assert sh.value("OPENAI_API_KEY") == new


STRICT = {
    "bash": (
        "set -u",
        "set -e",
        "set -euo pipefail",
        "set -o noclobber",
        "set -f",
        "IFS=:x",
        "shopt -s nocasematch",
    ),
    "zsh": (
        "setopt nounset",
        "setopt ksharrays",
        "setopt shwordsplit",
        "setopt err_return",
        "setopt nounset ksharrays shwordsplit warncreateglobal err_return",
        "setopt sh_glob no_rcs no_unset noclobber extended_glob",
        "IFS=:x",
        "emulate ksh",
        "emulate sh",
    ),
}


@pytest.mark.parametrize(
    ("name", "options"), [(n, o) for n, options in STRICT.items() for o in options]
)
def test_strict_options(place: Place, opened: Open, name: str, options: str) -> None:
    sh = opened(name, place.env, f"{options}\n{source(name) * 2}")
    assert sh.start == ""
    assert sh.value("OPENAI_API_KEY") == place.stored
    sh.run("! true")
    new = place.store()
    assert sh.run(DUE) == ""
    assert sh.value("OPENAI_API_KEY") == new
    place.store(left_s=50)
    assert sh.run(TOO_LATE) == ""
    assert sh.value("OPENAI_API_KEY") == place.stored
    assert sh.run("vertex-env off") == ""
    assert sh.value("OPENAI_API_KEY") == "unset"
    assert place.calls == [ASK]


@pytest.mark.parametrize(
    ("name", "options"), [(n, o) for n, options in STRICT.items() for o in options]
)
def test_strict_options_where_nothing_is_stored(
    empty: Place, opened: Open, name: str, options: str
) -> None:
    """None of the hook's variables is set yet: `set -u` must not make that an error."""
    sh = opened(name, empty.env, f"{options}\n{source(name)}")
    assert sh.start == ""
    assert sh.value("OPENAI_API_KEY") == empty.stored != ""
    assert sh.run("vertex-env off; vertex-env refresh") == ""
    assert sh.value("OPENAI_API_KEY") == empty.stored
    assert empty.calls == [ASK, f"{ASK} --refresh"]


def test_posix_mode(place: Place, opened: Open) -> None:
    sh = opened("bash", place.env, "set -o posix\n" + source("bash"))
    assert (sh.start, sh.value("OPENAI_API_KEY")) == ("", place.stored)
    new = place.store()
    assert sh.run(DUE) == ""
    assert sh.value("OPENAI_API_KEY") == new


def test_path_that_has_lost_everything(name: str, place: Place, opened: Open) -> None:
    sh = opened(name, place.env, source(name))
    sh.run("PATH=/nonexistent")
    new = place.store()
    assert sh.run(DUE) == ""
    assert sh.value("OPENAI_API_KEY") == new
    place.store(left_s=50)
    assert sh.run(TOO_LATE) == MISSING
    for _ in range(3):
        assert sh.run("__vertex_env_retry=0") == ""


def test_program_that_is_missing_is_said_once(name: str, empty: Place, opened: Open) -> None:
    empty.program.unlink()
    sh = opened(name, empty.env, source(name))
    assert sh.start == MISSING
    assert sh.run("") == sh.run("") == ""
    assert sh.run("echo here") == "here\n"
    for command in ("use work", "refresh", "token"):
        assert sh.run(f"vertex-env {command}; echo $?") == f"{MISSING}127\n"
    empty.becomes(f'{sys.executable} -P -m vertex_env "$@"')
    sh.enter()
    assert sh.value("OPENAI_API_KEY") == empty.stored != ""
    assert empty.calls == [ASK]


def test_program_that_goes_away_is_said_once(name: str, place: Place, opened: Open) -> None:
    """Where the shell remembers its path as well."""
    sh = opened(name, place.env, source(name))
    sh.run("vertex-env token")
    away = place.program.rename(place.program.with_name("away"))
    place.store(left_s=50)
    assert sh.run(TOO_LATE) == MISSING
    assert [sh.run("") for _ in range(3)] == [""] * 3
    away.rename(place.program)
    sh.enter()
    assert sh.value("OPENAI_API_KEY") == place.stored


def test_path_that_is_set_after_the_hook(name: str, empty: Place, opened: Open) -> None:
    path = empty.env["PATH"]
    env = {**empty.env, "PATH": path.removeprefix(f"{empty.program.parent}:")}
    sh = opened(name, env, f"{source(name)}PATH={path}\n")
    assert sh.start == ""
    assert sh.value("OPENAI_API_KEY") == empty.stored != ""


# --- a shell without a prompt ---


def without_prompt(name: str, place: Place, line: str, *options: str) -> tuple[str, str]:
    """What a shell of sshd's prints, and its messages: it reads ~/.zshenv, or ~/.bashrc (here because of BASH_ENV)."""
    (place.folder / {"bash": ".bashrc", "zsh": ".zshenv"}[name]).write_text(source(name))
    # https://www.gnu.org/software/bash/manual/html_node/Bash-Startup-Files.html (2026-11): by the remote shell daemon.
    rc = ["--rcfile", str(place.folder / ".bashrc")] if "-i" in options else []
    env = {**place.env, "BASH_ENV": str(place.folder / ".bashrc"), "ZDOTDIR": str(place.folder)}
    argv = [need(name), *(rc if name == "bash" else []), *options, "-c", line]
    done = subprocess.run(
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, done.stderr


KEY = 'echo "${OPENAI_API_KEY-unset} ${VERTEX_ENV_REFRESH_AT+due}"'


def test_without_a_prompt_nobody_is_asked(name: str, empty: Place) -> None:
    empty.google.fail(Fault(1000, 503))
    assert without_prompt(name, empty, KEY) == ("unset \n", "")
    assert empty.calls == []
    empty.google.heal()
    stored = empty.store()
    assert without_prompt(name, empty, KEY) == (f"{stored} due\n", "")
    assert empty.calls == []


def test_without_a_prompt_an_old_token_stays(name: str, place: Place) -> None:
    place.store(left_s=50)
    place.env |= {
        "OPENAI_API_KEY": "old",
        "VERTEX_ENV_REFRESH_AT": "1",
        "VERTEX_ENV_EXPIRES_AT": "2",
    }
    assert without_prompt(name, place, KEY) == ("old due\n", "")
    assert place.calls == []


def test_without_a_prompt_nothing_is_said_of_what_is_read_only(name: str, place: Place) -> None:
    place.folder.joinpath("first").write_text("readonly OPENAI_BASE_URL=https://corp.example\n")
    line = f"source {place.folder}/first; {source(name).strip()}; {KEY}"
    place.env["OPENAI_API_KEY"] = "theirs"
    place.env["VERTEX_ENV_REFRESH_AT"] = "1"
    argv = [need(name), *(["-f"] if name == "zsh" else []), "-c", line]
    done = subprocess.run(
        argv, env=place.env, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    assert place.stored not in done.stdout
    assert place.calls == []


def test_interactive_shell_with_a_command_has_a_token(name: str, empty: Place) -> None:
    """As editors start it. There is no prompt to wait for."""
    out, _ = without_prompt(name, empty, KEY, "-i")
    assert out == f"{empty.stored} due\n"
    assert empty.calls == [ASK]


# --- an environment that direnv has left ---


def left_by_direnv(place: Place) -> dict[str, str]:
    """What a shell inherits in a folder whose .envrc says `use vertex`, an hour later."""
    dead = {
        "OPENAI_API_KEY": "dead",
        "VERTEX_ENV_STAMP": str(place.stamp),
        "DIRENV_DIR": f"-{place.folder}",
    }
    return {
        **place.env,
        **dead,
        "VERTEX_ENV_VIA": "direnv",
        "VERTEX_ENV_REFRESH_AT": "1",
        "VERTEX_ENV_EXPIRES_AT": "2",
    }


@pytest.mark.parametrize("hooked", [False, True], ids=["without", "control"])
def test_shell_without_direnvs_hook_renews_by_itself(
    name: str, place: Place, opened: Open, *, hooked: bool
) -> None:
    """The editor's terminal, tmux, `direnv exec . zsh`: what is inherited says that direnv sets the variables."""
    hook = "_direnv_hook() { :; }\n" if hooked else ""
    sh = opened(name, left_by_direnv(place), hook + source(name))
    assert (sh.value("OPENAI_API_KEY") == "dead") is hooked
    if not hooked:
        assert sh.value("OPENAI_API_KEY") == place.stored
        assert place.calls == []
        old = place.store(left_s=50)
        sh.run(TOO_LATE)
        assert sh.value("OPENAI_API_KEY") == place.stored != old
        before = place.stored
        assert sh.run("vertex-env refresh; echo $?") == "0\n"
        assert sh.value("OPENAI_API_KEY") == place.stored != before
    said = sh.run("vertex-env off; echo $?")
    assert said.endswith("0\n")
    assert ("direnv sets them again" in said) is hooked
    assert [
        sh.value(n) for n in ("OPENAI_API_KEY", "VERTEX_ENV_REFRESH_AT", "VERTEX_ENV_STAMP")
    ] == ["unset"] * 3


# --- how long an attempt is not repeated ---


def pause(sh: Shell) -> int:
    """For how many seconds the hook does nothing more."""
    return int(sh.run("echo $((__vertex_env_retry - $(date +%s)))"))


def test_pause_fits_a_token_that_lives_shorter(name: str, place: Place, opened: Open) -> None:
    sh = opened(name, place.env, source(name))
    place.becomes("false")
    shutil.rmtree(place.cache)
    for life, longest in ((16, 4), (60, 15), (3600, 30)):
        sh.run(
            f"export VERTEX_ENV_EXPIRES_AT={10**9 + life} VERTEX_ENV_REFRESH_AT={10**9 + life - min(225, life // 4)}"
        )
        assert longest - 3 <= pause(sh) <= longest


def test_pause_ends_when_others_set_a_new_token(name: str, place: Place, opened: Open) -> None:
    """As direnv does."""
    sh = opened(name, place.env, source(name))
    place.store(left_s=50)
    place.becomes("false")
    sh.run(TOO_LATE)
    sh.run(TOO_LATE)
    assert place.calls == [ASK]
    sh.run("export VERTEX_ENV_REFRESH_AT=1 VERTEX_ENV_EXPIRES_AT=2")
    until(lambda: place.calls == [ASK, ASK])


@pytest.mark.parametrize(
    "variable", ["REFRESH_AT", "EXPIRES_AT", "STAMP", "PROFILE", "CACHE_DIR", "VIA"]
)
@pytest.mark.parametrize(
    "value", ["a[$(touch {})]", "$(touch {})", "`touch {}`", "../x;touch {}", "x\n$(touch {})", ""]
)
def test_inherited_values_are_never_evaluated(
    name: str, place: Place, opened: Open, tmp_path: Path, variable: str, value: str
) -> None:
    file = tmp_path / "evaluated"
    place.becomes("false")
    env = {**place.env, f"VERTEX_ENV_{variable}": value.format(file)}
    sh = opened(name, env, source(name))
    for line in ("", DUE, TOO_LATE, "vertex-env off", ""):
        sh.run(line)
    assert not file.exists()
    assert sh.run("echo here") == "here\n"


def test_trace_has_no_token(name: str, place: Place, opened: Open) -> None:
    tokens = [place.stored]
    sh = opened(name, place.env, f"set -x\n{source(name) * 2}")
    tokens.append(place.store())
    sh.run(DUE)
    place.store(left_s=50)
    sh.run(TOO_LATE)
    tokens.append(place.stored)
    for command in ("use work", "refresh", "off"):
        sh.run(f"vertex-env {command}")
    key = place.store()
    inherited = {
        **place.env,
        "OPENAI_API_KEY": key,
        "VERTEX_ENV_REFRESH_AT": "9",
        "VERTEX_ENV_EXPIRES_AT": "9",
    }
    inner = opened(name, inherited, f"set -x\n{source(name)}")
    inner.run("vertex-env off")
    assert len(set(tokens)) == 3
    assert "+" in sh.screen
    assert [t for t in (*tokens, key) if t in sh.screen + inner.screen] == []
    assert "x" in sh.run("echo $-")


BUILTINS = {
    "bash": "read mapfile printf set shopt declare type hash unset export",
    "zsh": "read print unset typeset local integer emulate setopt unsetopt zmodload whence zle command exec",
}
"""The builtins of the hooks that people have other things for."""
WORDS = "local return command builtin break if case for while true false"
"""What else bash replaces by an alias where one is read."""


@pytest.mark.parametrize("way", ["source", "eval"])
@pytest.mark.parametrize("others", ["alias", "function"])
def test_builtins_that_mean_something_else(
    name: str, place: Place, opened: Open, others: str, way: str
) -> None:
    called = place.folder / "called"
    define = {
        "alias": "alias {0}='touch {1}; echo {0}'",
        "function": "function {0} {{ touch {1}; echo {0}; }}",
    }[others]
    words = BUILTINS[name] + (f" {WORDS}" if (name, others) == ("bash", "alias") else "")
    rc = "\n".join(define.format(word, called) for word in words.split())
    hook = source(name) if way == "source" else f'eval "$(<{hook_file(name)})"\n'
    sh = opened(name, place.env, f"{rc}\n{hook}")
    assert (sh.start, sh.value("OPENAI_API_KEY")) == ("", place.stored)
    new = place.store()
    assert sh.run(f"\\builtin {DUE}") == ""
    assert sh.value("OPENAI_API_KEY") == new
    assert sh.run("vertex-env refresh") == ""
    assert sh.value("OPENAI_API_KEY") == place.stored != new
    assert sh.run("vertex-env off") == ""
    assert not called.exists()
    assert sh.run("read") == "read\n"
    assert called.exists()


# --- use, refresh, off ---


@pytest.fixture
def work(place: Place) -> Place:
    """A home with a profile in its config.toml, a token for both, and no Python started so far."""
    place.config.write_text(
        '[profile.work]\nproject = "work-project"\nset = ["WORK_URL={base_url}"]\n'
    )
    backdate(place.config)
    return place


def test_use_takes_another_profile(name: str, work: Place, opened: Open) -> None:
    sh = opened(name, work.env, source(name))
    assert sh.run("vertex-env use work; echo $?") == "0\n"
    assert "/projects/work-project/" in sh.value("OPENAI_BASE_URL")
    assert sh.value("VERTEX_ENV_PROFILE") == "work"
    assert sh.value("WORK_URL") == sh.value("OPENAI_BASE_URL")
    assert sh.run("vertex-env off; echo $?") == "0\n"
    assert [sh.value(n) for n in ("OPENAI_BASE_URL", "VERTEX_ENV_PROFILE", "WORK_URL")] == [
        "unset"
    ] * 3


def test_use_of_a_profile_that_is_not_there_changes_nothing(
    name: str, work: Place, opened: Open
) -> None:
    sh = opened(name, work.env, source(name))
    before = sh.run("env | sort | grep -v ^_=")
    said = sh.run("vertex-env use nope")
    assert "nope" in said
    assert "work" in said
    assert sh.run("echo $?") == "78\n"
    assert sh.run("env | sort | grep -v ^_=") == before


def test_refresh_mints_anew(name: str, place: Place, opened: Open) -> None:
    sh = opened(name, place.env, source(name))
    old = place.stored
    assert sh.run("vertex-env refresh; echo $?") == "0\n"
    assert sh.value("OPENAI_API_KEY") == place.stored != old


def test_refresh_that_fails_says_so_and_keeps_the_token(
    name: str, place: Place, opened: Open
) -> None:
    sh = opened(name, place.env, source(name))
    place.google.fail(Fault(1000, 403))
    said = sh.run("vertex-env refresh; echo $?")
    assert "error" in said
    assert said.endswith("77\n")
    assert sh.value("OPENAI_API_KEY") == place.stored


def test_off_gives_back_what_there_was(name: str, place: Place, opened: Open) -> None:
    mine = {"OPENAI_API_KEY": "sk-'my $(own)\\", "OPENAI_ORG_ID": "org", "OPENAI_BASE_URL": ""}
    sh = opened(name, place.env | mine, source(name))
    assert sh.value("OPENAI_API_KEY") == place.stored
    assert sh.value("OPENAI_ORG_ID") == "unset"
    sh.run("vertex-env off")
    assert {n: sh.value(n) for n in mine} == mine
    assert "VERTEX_ENV_REFRESH_AT" not in sh.run("env")
    assert place.calls == []


MODELS = {"AIDER_MODEL": "openai/google/g", "DEFAULT_MODEL": "google/g", "MODEL": "local/google/g"}


def test_off_gives_back_a_common_name(name: str, empty: Place, opened: Open) -> None:
    """MODEL may be another program's. The second shell loads it from the snapshot, by builtins."""
    settings = {"VERTEX_ENV_CLIENT": "aider,gptme,shell-gpt", "VERTEX_ENV_MODEL": "google/g"}
    for _ in range(2):
        sh = opened(name, empty.env | settings | {"MODEL": "mine"}, source(name))
        assert {each: sh.value(each) for each in MODELS} == MODELS
    assert empty.calls == [ASK]
    sh.run("vertex-env off")
    assert [sh.value(each) for each in MODELS] == ["unset", "unset", "mine"]
    # The control: without the client nothing of it is touched.
    other = opened(
        name, empty.env | {"MODEL": "mine", "VERTEX_ENV_MODEL": "google/g"}, source(name)
    )
    assert other.value("OPENAI_MODEL") == "google/g"
    assert [other.value(each) for each in MODELS] == ["unset", "unset", "mine"]


def test_off_within_a_shell_that_inherited_a_token(name: str, place: Place, opened: Open) -> None:
    outer = opened(name, place.env, source(name))
    names = (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "VERTEX_ENV_REFRESH_AT",
        "VERTEX_ENV_EXPIRES_AT",
        "VERTEX_ENV_STAMP",
    )
    sh = opened(name, place.env | {n: outer.value(n) for n in names}, source(name))
    sh.run("vertex-env off")
    assert {sh.value(n) for n in names} == {"unset"}


LEFT_OVER = {
    "OPENAI_ORG_ID": "org",
    "OPENAI_API_HOST": "api.openai.com",
    "OPENAI_API_BASE_URL": "https://api.openai.com/v1",
}


def test_left_over_names_keep_nobody_from_the_snapshot(
    name: str, empty: Place, opened: Open
) -> None:
    """Nor does what we set: a later shell, one within another, and a renewal need builtins only."""
    env = empty.env | LEFT_OVER
    for _ in range(3):
        sh = opened(name, env, source(name))
        assert {sh.value(each) for each in LEFT_OVER} == {"unset"}
        assert sh.value("OPENAI_AGENTS_DISABLE_TRACING") == "1"
    assert empty.calls == [ASK]
    gone = {each: value for each, value in env.items() if each not in LEFT_OVER}
    within = opened(name, gone | {"OPENAI_AGENTS_DISABLE_TRACING": "1"}, source(name))
    assert within.value("OPENAI_API_KEY") == empty.stored
    later = empty.store()
    for each in (sh, within):
        each.run(DUE)
        assert each.value("OPENAI_API_KEY") == later
    assert empty.calls == [ASK]


@pytest.mark.parametrize("command", ["use", "use a b", "refresh now", "off now"])
def test_wrong_number_of_arguments(name: str, place: Place, opened: Open, command: str) -> None:
    sh = opened(name, place.env, source(name))
    said = sh.run(f"vertex-env {command}; echo $?")
    assert "wrong number of arguments" in said
    assert said.endswith("\n2\n")
    assert place.calls == []


@pytest.mark.parametrize(
    "command", ["use --help", "use -h", "use --no-such x", "refresh --help", "off --help"]
)
@pytest.mark.parametrize("via", ["", "direnv"])
def test_options_are_the_programs(
    name: str, place: Place, opened: Open, command: str, via: str
) -> None:
    """It has the help; an option is no profile, and changes nothing. A name is one: the control."""
    place.becomes("""sh -c 'printf "<%s>" "$@"; exit 5' - "$@" """)
    sh = opened(name, place.env, source(name))
    sh.run(f"export VERTEX_ENV_VIA={via}")
    assert (
        sh.run(f"vertex-env {command}; echo $?")
        == "".join(f"<{word}>" for word in command.split()) + "5\n"
    )
    assert "<use>" not in sh.run("vertex-env use work")


def test_other_commands_pass_through(name: str, place: Place, opened: Open) -> None:
    place.becomes("""sh -c 'cat; printf "<%s>" "$@"; exit 5' - "$@" """)
    sh = opened(name, place.env, source(name))
    assert (
        sh.run("echo in | vertex-env token --format 'a b' ''; echo $?")
        == "in\n<token><--format><a b><>5\n"
    )


# --- a snapshot that has gone stale ---


def older(path: Path) -> None:
    """Put a file in its place that is older, as `mv` of a backup does."""
    backup = path.with_name("backup")
    shutil.copy(path, backup)
    backdate(backup, 86400)
    backup.rename(path)


def link(path: Path) -> None:
    """Make it a link to an older file."""
    target = path.with_name("target")
    path.rename(target)
    backdate(target, 86400)
    path.symlink_to(target)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def snapshot(place: Place) -> Path:
    return place.cache / "shell.snapshot"


def token_file(place: Place) -> Path:
    return place.stamp.with_suffix(".token")


def linked(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


STALE: dict[str, Callable[[Place], object]] = {
    "older credentials moved there": lambda p: older(p.adc),
    "older credentials copied there": lambda p: shutil.copystat("/etc/passwd", p.adc),
    "a link to older credentials": lambda p: link(p.adc),
    "no credentials": lambda p: p.adc.unlink(),
    "configuration touched": lambda p: p.config.touch(),
    "configuration removed": lambda p: p.config.unlink(),
    "gcloud configuration appears": lambda p: (p.folder / "sandbox/gcloud/active_config").touch(),
    "token replaced": lambda p: edit(token_file(p), "expiry 1", "expiry 9"),
    "token with another character": lambda p: edit(token_file(p), p.stored, p.stored + "$(id)"),
    "token of another version": lambda p: edit(
        token_file(p), "vertex-env-token 1", "vertex-env-token 2"
    ),
    "token cut": lambda p: token_file(p).write_text("vertex-env-token 1\n"),
    "token is a link": lambda p: linked(token_file(p)),
    "no token": lambda p: token_file(p).unlink(),
    "stamp of another token": lambda p: p.stamp.write_text("1 2 3\n"),
    "stamp is damaged": lambda p: p.stamp.write_text("x y z\n"),
    "stamp is empty": lambda p: p.stamp.write_text(""),
    "stamp is a link": lambda p: linked(p.stamp),
    "snapshot is a link": lambda p: linked(snapshot(p)),
    "snapshot cut": lambda p: edit(snapshot(p), "end\n", ""),
    "snapshot of another version": lambda p: edit(snapshot(p), "snapshot 2", "snapshot 1"),
    "snapshot is a folder": lambda p: (
        snapshot(p).rename(p.cache / "moved").parent.joinpath("shell.snapshot").mkdir()
    ),
    "snapshot sets a strange name": lambda p: edit(
        snapshot(p), "set OPENAI_API_KEY", "set a[$(touch x)]"
    ),
    "snapshot in the last minute": lambda p: p.store(left_s=59),
    "snapshot of yesterday": lambda p: edit(snapshot(p), "file ", "until 1\nfile "),
    "no snapshot": lambda p: snapshot(p).unlink(),
    "other project": lambda p: p.env.update(GOOGLE_CLOUD_PROJECT="other"),
    "no project": lambda p: p.env.pop("GOOGLE_CLOUD_PROJECT"),
    "location": lambda p: p.env.update(VERTEX_ENV_LOCATION="us"),
    "profile": lambda p: p.env.update(VERTEX_ENV_PROFILE="work"),
    "profile elsewhere": lambda p: p.env.update(VERTEX_ENV_PROFILE="../x"),
    "other folder": lambda p: p.env.update(VERTEX_ENV_CACHE_DIR=str(p.folder)),
}


@pytest.mark.parametrize("change", STALE)
def test_stale_snapshot_is_not_loaded(name: str, place: Place, opened: Open, change: str) -> None:
    STALE[change](place)
    place.becomes("false")
    sh = opened(name, place.env, source(name))
    assert place.calls == [ASK]
    assert sh.value("OPENAI_API_KEY") == "unset"


@pytest.mark.parametrize("moved", [False, True], ids=["mark", "control"])
@pytest.mark.parametrize("stamp", ["recent", "whole second"])
def test_what_another_profile_has_seen_makes_no_snapshot_current(
    name: str, place: Place, opened: Open, stamp: str, *, moved: bool
) -> None:
    """Another account's credentials: the first shell to see them has another profile, or can write no snapshot.

    In the control, the mark that the old snapshot names has their time stamp, and the old token is loaded.
    """
    place.config.write_text('[profile.work]\nproject = "work-project"\n')
    backdate(place.config)
    place.store()
    old = place.store(VERTEX_ENV_PROFILE="work")
    (mark,) = re.findall(
        rf"^file \S+ (\S+) {re.escape(str(place.adc))}$", snapshot(place).read_text(), re.MULTILINE
    )
    edit(place.adc, "-refresh-token", "-refresh-token-of-another")
    at = place.adc.stat().st_mtime_ns - 30_000_000_000
    at -= at % 1_000_000_000 if stamp == "whole second" else 0
    os.utime(place.adc, ns=(at, at))
    first = opened(name, {**place.env, "VERTEX_ENV_PROFILE": "work"}, source(name))
    new = first.value("OPENAI_API_KEY")
    if moved:
        os.utime(place.cache / mark, ns=(at, at))
    asked = len(place.calls)
    second = opened(name, place.env, source(name))
    assert second.value("OPENAI_API_KEY") == (old if moved else new)
    assert len(place.calls) == asked + (0 if moved else 1)
    assert new not in ("unset", old)


def test_name_in_other_letters_is_another(name: str, empty: Place, opened: Open) -> None:
    """Even for a shell that was told to match without regard to case."""
    empty.env["VERTEX_ENV_PROJECT"] = "other-project"
    empty.store()
    empty.env["VERTEX_ENV_PROJECT"] = "OTHER-project"
    empty.becomes("false")
    ignore = {"bash": "shopt -s nocasematch\n", "zsh": "setopt nocasematch\n"}[name]
    opened(name, empty.env, ignore + source(name))
    assert empty.calls == [ASK]


def test_changed_credentials_are_noticed_by_the_next_shell_only(
    name: str, place: Place, opened: Open
) -> None:
    """A shell that runs keeps its token until that is due."""
    sh = opened(name, place.env, source(name))
    os.utime(place.adc)
    sh.enter()
    assert place.calls == []


def test_text_is_what_the_program_prints(name: str) -> None:
    assert PROMPT not in hook_file(name).read_text()
