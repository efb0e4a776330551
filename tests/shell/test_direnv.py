"""`use vertex` in direnv, alone and with our hook: its folders always have a token, and nobody reloads by hand."""

import hashlib
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import until
from tests.support.shells import POSIX_SHELLS, Place, Shell, backdate, hook_file, settle, source
from tests.support.tools import need
from vertex_env.sandbox.faults import Fault
from vertex_env.settings.options import OPTIONS, Option
from vertex_env.tokens.store import FileStore

Enter = Callable[..., Shell]

KEY = "OPENAI_API_KEY"
RELOAD = "direnv: loading "
ORDERS = ("before", "after", "without")
"""Where our hook is sourced, seen from direnv's."""


@pytest.fixture(params=POSIX_SHELLS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def prepared(home: Path, **settings: Any) -> Iterator[Place]:
    """A home with our library for direnv and a folder `project`; *settings* are those of `settle`."""
    need("direnv")
    with settle(home, **settings) as place:
        library = home / ".config" / "direnv" / "lib" / "vertex-env.sh"
        library.parent.mkdir(parents=True)
        library.symlink_to(hook_file("direnv"))
        (home / "project").mkdir()
        yield place


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Place]:
    """A home where nothing has been stored so far."""
    with prepared(tmp_path) as place:
        yield place


@pytest.fixture
def place(empty: Place) -> Place:
    """A home with a token that lasts for most of an hour."""
    empty.store()
    return empty


def allow(place: Place, line: str) -> None:
    """Put *line* into .envrc and trust it."""
    envrc = place.folder / "project" / ".envrc"
    envrc.write_text(line + "\n")
    # What `direnv allow` does, without a process.
    trusted = hashlib.sha256(f"{envrc}\n{line}\n".encode()).hexdigest()
    file = place.folder / ".local" / "share" / "direnv" / "allow" / trusted
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{envrc}\n")
    # `direnv reload` touches them, and direnv sees no change within a second.
    backdate(envrc)
    backdate(file)


@pytest.fixture
def enter() -> Iterator[Enter]:
    """Opens a shell with direnv and goes into the folder of the project; closes all in the end."""
    with ExitStack() as stack:

        def enter(
            name: str, place: Place, line: str = "use vertex", order: str = "without"
        ) -> Shell:
            allow(place, line)
            direnv = f'eval "$({need("direnv")} hook {name})"\n'
            ours = source(name)
            rc = {"before": ours + direnv, "after": direnv + ours, "without": direnv}[order]
            sh = stack.enter_context(Shell(name, place.env, rc))
            sh.entered = sh.run(f"cd {shlex.quote(str(place.folder / 'project'))}")
            return sh

        yield enter


@pytest.mark.parametrize("order", ORDERS)
def test_loads_on_entering_and_then_is_quiet(
    name: str, place: Place, enter: Enter, order: str
) -> None:
    sh = enter(name, place, order=order)
    assert sh.entered.count(RELOAD) == 1
    assert "error" not in sh.entered
    assert [sh.run("") for _ in range(3)] == [""] * 3
    assert sh.value(KEY) == place.stored
    assert sh.value("VERTEX_ENV_VIA") == "direnv"


@pytest.mark.parametrize("order", ORDERS)
def test_token_that_another_process_has_minted_is_loaded_once(
    name: str, place: Place, enter: Enter, order: str
) -> None:
    sh = enter(name, place, order=order)
    new = place.store()
    assert sh.run("").count(RELOAD) == 1
    assert sh.value(KEY) == new
    assert [sh.run("") for _ in range(2)] == [""] * 2
    assert sh.value("VERTEX_ENV_STAMP") == str(place.stamp)


@pytest.mark.parametrize("order", ["before", "after"])
def test_hook_renews_in_time(name: str, place: Place, enter: Enter, order: str) -> None:
    sh = enter(name, place, order=order)
    old = place.store(left_s=50, life_s=90)  # too late, but not for a token of a minute and a half
    assert sh.run("").count(RELOAD) == 1
    until(lambda: sh.value(KEY) != old)
    assert sh.value(KEY) == place.stored
    assert place.google.counts["token"] == 1
    assert sh.run("jobs") == ""


@pytest.mark.parametrize("order", ["before", "after"])
def test_last_minute_is_worth_waiting_for(
    name: str, place: Place, enter: Enter, order: str
) -> None:
    sh = enter(name, place, order=order)
    session = place.session()
    FileStore(place.cache).delete(session.identity.key)
    said = sh.run("export VERTEX_ENV_REFRESH_AT=0 VERTEX_ENV_EXPIRES_AT=0")
    assert said.count(RELOAD) <= 1
    sh.enter()
    assert sh.value(KEY) == place.stored != ""
    assert place.google.counts["token"] == 1


def test_leaving_gives_back_what_there_was(name: str, place: Place, enter: Enter) -> None:
    place.env |= {KEY: "sk-mine", "OPENAI_ORG_ID": "org"}
    sh = enter(name, place)
    assert (sh.value(KEY), sh.value("OPENAI_ORG_ID")) == (place.stored, "unset")
    sh.run("cd ..")
    assert (sh.value(KEY), sh.value("OPENAI_ORG_ID")) == ("sk-mine", "org")
    assert "VERTEX_ENV_REFRESH_AT" not in sh.run("env")


@pytest.mark.parametrize("order", ["before", "after"])
def test_leaving_gives_back_what_our_hook_had_loaded(
    name: str, place: Place, enter: Enter, order: str
) -> None:
    place.config.write_text('[profile.work]\nproject = "work-project"\n')
    backdate(place.config)
    place.store()
    sh = enter(name, place, "use vertex --profile work", order)
    assert "/work-project/" in sh.value("OPENAI_BASE_URL")
    said = sh.run("vertex-env use work; echo $?")
    assert "direnv sets the variables" in said
    assert said.endswith("1\n")
    said = sh.run("vertex-env off; echo $?")
    assert "direnv sets them again when it reloads" in said
    assert said.endswith("0\n")
    assert [sh.value(each) for each in (KEY, "OPENAI_BASE_URL")] == ["unset"] * 2
    assert sh.run("") == ""
    sh.run("cd ..")
    assert "/sandbox-project/" in sh.value("OPENAI_BASE_URL")
    assert sh.value("VERTEX_ENV_VIA") == "unset"
    new = place.store()
    sh.run("export VERTEX_ENV_REFRESH_AT=0")
    assert sh.value(KEY) == new


# --- failures heal ---


def test_credentials_that_appear_heal_it(name: str, place: Place, enter: Enter) -> None:
    away = place.adc.rename(place.adc.with_name("away"))
    sh = enter(name, place)
    assert "no token for now" in sh.entered
    assert sh.value(KEY) == "unset"
    assert sh.run("") == ""
    away.rename(place.adc)
    assert sh.run("").count(RELOAD) == 1
    assert sh.value(KEY) == place.stored


def test_configuration_that_is_corrected_heals_it(name: str, place: Place, enter: Enter) -> None:
    place.config.write_text("nonsense\n")
    sh = enter(name, place)
    assert "no token for now" in sh.entered
    place.config.write_text("")
    backdate(place.config, 120)
    assert sh.run("").count(RELOAD) == 1
    assert sh.value(KEY) == place.stored


@pytest.mark.parametrize("line", ["use vertex", "use vertex --quota-project other-project"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_outage_that_ends_heals_it(
    name: str, empty: Place, enter: Enter, order: str, line: str
) -> None:
    empty.google.fail(Fault(1000, 503))
    sh = enter(name, empty, line, order)
    assert "no token for now" in sh.entered
    sh.enter()
    assert sh.value(KEY) == "unset"
    empty.google.heal()
    sh.run("__vertex_env_retry=0")  # half a minute later
    until(lambda: sh.value(KEY) != "unset")
    assert sh.run("") == ""


@pytest.mark.parametrize("order", ORDERS)
def test_program_that_is_missing_is_said_once_and_found_later(
    name: str, empty: Place, enter: Enter, order: str
) -> None:
    away = empty.program.rename(empty.program.with_name("away"))
    sh = enter(name, empty, order=order)
    # Outside of the folder, the hook has said so at the first prompt.
    assert sh.entered.count("there is no vertex-env on PATH") == 1
    assert sh.entered.count("put its folder on PATH, or install it") == 1
    assert "no token for now" not in sh.entered
    assert [sh.run("") for _ in range(3)] == [""] * 3
    if order != "without":
        assert sh.run("vertex-env refresh").count("there is no vertex-env on PATH") == 1
    away.rename(empty.program)
    if order == "without":
        sh.run("direnv reload")
    until(lambda: sh.value(KEY) != "unset")
    assert sh.value(KEY) == empty.stored


def test_colleague_without_the_program_sees_nothing(empty: Place, enter: Enter) -> None:
    """With the line that README has for them; with the program it is `use vertex`."""
    away = empty.program.rename(empty.program.with_name("away"))
    sh = enter("bash", empty, "has vertex-env && use vertex")
    assert "vertex-env" not in sh.entered.replace(str(empty.folder), "")
    away.rename(empty.program)
    sh.run("direnv reload")
    assert sh.value(KEY) == empty.stored != ""


@pytest.mark.parametrize("order", ["before", "after"])
def test_short_tokens_do_not_stay_dead_after_one_failure(
    name: str, tmp_path: Path, enter: Enter, order: str
) -> None:
    """Half a minute without another attempt would be twice the life of such a token."""
    with prepared(tmp_path, lifetime_s=16) as place:
        place.store(left_s=5, life_s=16)
        sh = enter(name, place, order=order)
        program = place.program.read_text()
        place.becomes("false")
        until(lambda: sh.run("") or "token" in place.calls)
        place.program.write_text(program)
        healed = time.monotonic()
        until(lambda: int(sh.value("VERTEX_ENV_EXPIRES_AT")) > time.time() + 5)
        assert time.monotonic() - healed < 20


# --- settings ---

VALUES = {
    "profile": "work",
    "project": "other-project",
    "location": "us",
    "endpoint": "3456789012345678901",
    "model": "google/gemini-2.5-flash",
    "api": "responses",
    "api-version": "v1beta1",
    "base-url": "https://aiplatform.googleapis.com/v1/x",
    "allow-host": "127.0.0.1",
    "credentials": "other.json",
    "impersonate": "robot@sandbox-project.iam.gserviceaccount.com",
    "lifetime": "30m",
    "scope": "cloud-platform",
    "quota-project": "other-project",
    "store": "none",
    "min-ttl": "1m",
    "mint-timeout": "20s",
    "client": "aider",
    "set": "MY_URL={base_url}/it's",
}
GIVEN = [option for option in OPTIONS if not option.internal]


@pytest.mark.parametrize("option", GIVEN, ids=lambda option: option.name)
def test_settings(place: Place, enter: Enter, option: Option[Any]) -> None:
    place.config.write_text('[profile.work]\nproject = "work-project"\n')
    backdate(place.config)
    project = place.folder / "project"
    (project / "other.json").write_text(place.adc.read_text())
    words = ["--" + option.name, VALUES[option.name]]
    if option.name == "lifetime":
        words += ["--impersonate", VALUES["impersonate"]]
    if option.name == "endpoint":
        FileStore(place.cache).forget(
            None
        )  # for Google to be asked, which wants a token of its own
        words += ["--location", "europe-west4"]
    sh = enter("bash", place, "use vertex " + " ".join(map(shlex.quote, words)))
    assert "error" not in sh.entered
    assert sh.value(KEY) != "unset"
    assert sh.value(option.variable) == VALUES[option.name]
    assert sh.run("") == ""
    if option.name == "set":
        assert sh.value("MY_URL") == sh.value("OPENAI_BASE_URL") + "/it's"


@pytest.mark.parametrize("order", ["before", "after"])
def test_token_that_nothing_stores_is_renewed(
    name: str, tmp_path: Path, enter: Enter, order: str
) -> None:
    with prepared(tmp_path, lifetime_s=6) as place:
        sh = enter(name, place, "use vertex --store none", order)
        old = sh.value(KEY)
        until(lambda: sh.value(KEY) != old)
        assert sh.value(KEY) != "unset"


@pytest.mark.parametrize("order", ["before", "after"])
def test_option_that_is_none_is_not_tried_at_each_prompt(
    name: str, place: Place, enter: Enter, order: str
) -> None:
    sh = enter(name, place, "use vertex --nope", order)
    assert "no such option" in sh.entered
    assert "".join(sh.run("") for _ in range(5)).count(RELOAD) <= 1


def test_wrong_setting_is_said(name: str, place: Place, enter: Enter) -> None:
    sh = enter(name, place, "use vertex --location nowhere!")
    assert "nowhere!" in sh.entered
    assert sh.value(KEY) == "unset"
    assert sh.run("") == ""


@pytest.mark.parametrize("line", ["use vertex --profile nobody", "use vertex --format sh"])
def test_failure_leaves_nobody_with_the_key_of_another_folder(
    name: str, place: Place, enter: Enter, line: str
) -> None:
    place.env |= {
        KEY: "outside",
        "OPENAI_BASE_URL": "https://outside.example",
        "OPENAI_API_BASE": "outside",
    }
    sh = enter(name, place, line)
    assert [sh.value(each) for each in (KEY, "OPENAI_BASE_URL", "OPENAI_API_BASE")] == ["unset"] * 3
    sh.run("cd ..")
    assert sh.value(KEY) == "outside"


@pytest.mark.parametrize("word", ["--help", "-h", "--format json", "--format=lines"])
def test_what_is_no_setting_is_said_and_not_evaluated(
    place: Place, enter: Enter, word: str
) -> None:
    sh = enter("bash", place, f"use vertex {word}")
    assert "use vertex takes settings" in sh.entered
    assert "command not found" not in sh.entered
    assert "syntax error" not in sh.entered
    assert place.stored not in sh.entered


@pytest.mark.parametrize("options", ["x", "v", "xv"])
def test_trace_has_no_token(place: Place, enter: Enter, options: str) -> None:
    sh = enter("bash", place, f"set -{options}\nuse vertex\n: done")
    # The control: it is still on.
    assert ("+ : done" in sh.entered, "\n: done" in sh.entered) == ("x" in options, "v" in options)
    assert sh.value(KEY) == place.stored
    assert place.stored not in sh.entered


def test_stamp_that_is_a_pipe_keeps_nobody_waiting(place: Place, enter: Enter) -> None:
    stamp = place.stamp
    stamp.unlink()
    os.mkfifo(stamp)
    assert enter("bash", place).value(KEY) == place.stored


# --- what others have set ---


def library(place: Place, *replaced: tuple[str, str]) -> None:
    """Give direnv our library with some texts replaced."""
    text = hook_file("direnv").read_text()
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new)
    file = place.folder / ".config" / "direnv" / "lib" / "vertex-env.sh"
    file.unlink()
    file.write_text(text)


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "control"])
def test_read_only_url_gets_no_key(place: Place, enter: Enter, *, checked: bool) -> None:
    """Whatever the statements are: these set the key though the URL cannot be."""
    statements = ('eval "$statements" ||', "export OPENAI_API_KEY=leaked ||")
    library(
        place, statements, *([] if checked else [("if ! unset OPENAI", "if unset nothing OPENAI")])
    )
    sh = enter(
        "bash",
        place,
        "readonly OPENAI_BASE_URL=https://corp.example/v1\nexport OPENAI_BASE_URL\nuse vertex",
    )
    assert sh.value("OPENAI_BASE_URL") == "https://corp.example/v1"
    assert sh.value(KEY) == ("unset" if checked else "leaked")
    assert ("hint: take the readonly out" in sh.entered) is checked


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "control"])
def test_stamp_from_outside_is_forgotten(place: Place, enter: Enter, *, checked: bool) -> None:
    place.env["VERTEX_ENV_STAMP"] = "/tmp/theirs"
    library(
        place,
        *([] if checked else [("OPENAI_API_BASE VERTEX_ENV_STAMP; then", "OPENAI_API_BASE; then")]),
    )
    assert enter("bash", place, "use vertex --profile nobody").value("VERTEX_ENV_STAMP") == (
        "unset" if checked else "/tmp/theirs"
    )


# --- a process that waits ---


def waiting(place: Place) -> list[str]:
    """The processes that wait for the token of *place* to be due."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"keep-fresh" in (process / "cmdline").read_bytes():
                found += [process.name] * (
                    str(place.cache).encode() in (process / "environ").read_bytes()
                )
    return found


@pytest.mark.parametrize(
    "line", ["use vertex --keep-fresh --min-ttl 1s", "use vertex --min-ttl 1s --keep-fresh"]
)
def test_keep_fresh_renews_without_our_hook(
    name: str, empty: Place, enter: Enter, line: str
) -> None:
    old = empty.store(left_s=15 + 7, life_s=60)  # due in seven seconds
    shells = [enter(name, empty, line)]
    assert shells[0].value(KEY) == old  # it did not wait
    shells.append(enter(name, empty, line))
    until(lambda: empty.stored != old)
    until(lambda: not waiting(empty))
    for sh in shells:
        sh.enter()
        assert sh.value(KEY) == empty.stored
    assert empty.google.counts["token"] == 1
    until(lambda: len(waiting(empty)) == 1)  # for both, until the next is due
    assert [sh.run("") for sh in shells] == [""] * 2
