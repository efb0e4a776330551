"""fish, nushell and xonsh with the integration: real shells, real terminals, tokens that really expire."""

import os
import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.othershells import SHELLS, Place, Shell, Terminal, ours, read_report
from tests.support.tools import need
from vertex_env.sandbox.faults import Fault
from vertex_env.sandbox.server import Sandbox

ASK = "export --format lines"
FAR = "9000000000"


@pytest.fixture(params=SHELLS, ids=lambda shell: shell.name)
def shell(request: pytest.FixtureRequest) -> Shell:
    found: Shell = request.param
    need(found.name)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Sandbox() as google:
        yield Place(tmp_path, google)


# --- on a terminal ---


def test_the_first_prompt_has_the_stored_token(shell: Shell, place: Place) -> None:
    """It comes from the snapshot: the program is not started."""
    place.prepare()
    with Terminal(shell, place) as terminal:
        terminal.enter()
        seen = terminal.report()
    assert seen["OPENAI_API_KEY"].startswith("ya29.sandbox-1-")
    assert seen["OPENAI_BASE_URL"] == seen["OPENAI_API_BASE"]
    assert place.calls == []
    assert b"ya29" not in terminal.output


def test_the_token_changes_by_itself(shell: Shell, tmp_path: Path) -> None:
    """Somebody who only presses Enter has a fresh token all the time, and the status of their last command."""
    with Sandbox(lifetime=timedelta(seconds=4)) as google:
        place = Place(tmp_path, google)
        with Terminal(shell, place) as terminal:
            first = terminal.report()
            assert place.calls == [ASK]
            terminal.type("sh -c 'exit 3'")
            while True:
                terminal.enter()
                seen = terminal.report(shell.status)
                if seen["OPENAI_API_KEY"] != first["OPENAI_API_KEY"]:
                    break
                terminal.type("sh -c 'exit 3'")
    assert seen["REPORT"] == "3"
    assert int(seen["VERTEX_ENV_EXPIRES_AT"]) > int(first["VERTEX_ENV_EXPIRES_AT"])
    assert b"ya29" not in terminal.output


def test_renewal_does_not_keep_anybody_waiting(shell: Shell, place: Place) -> None:
    """While the old token is good, the new one is fetched in the background, and picked up when it is there."""
    place.prepare()
    with Terminal(shell, place) as terminal:
        first = terminal.report()
        place.one("token").unlink()
        place.one("stamp").write_text(f"1 {FAR} 5\n")
        place.hold.touch()
        try:
            terminal.type(shell.assign("VERTEX_ENV_REFRESH_AT", "1"))
            meanwhile = terminal.report()
            terminal.type("jobs >jobs" if shell.name == "fish" else "")
            terminal.enter()
            waiting = terminal.report()
            assert place.calls == [ASK]
        finally:
            place.hold.unlink()
        while (seen := terminal.report())["OPENAI_API_KEY"] == first["OPENAI_API_KEY"]:
            pass
    assert meanwhile["OPENAI_API_KEY"] == waiting["OPENAI_API_KEY"] == first["OPENAI_API_KEY"]
    assert seen["OPENAI_API_KEY"].startswith("ya29.sandbox-2-")
    assert place.calls == []
    if shell.name == "fish":
        assert (place.home / "terminal" / "jobs").read_text() == ""


def test_what_is_typed_meanwhile_is_not_lost(shell: Shell, place: Place) -> None:
    """Also while everybody has to wait for a new token, in the last minute of the old one."""
    place.prepare()
    with Terminal(shell, place) as terminal:
        terminal.report()
        place.one("token").unlink()
        place.one("stamp").unlink()
        terminal.type(shell.assign("VERTEX_ENV_EXPIRES_AT", "1"))
        place.hold.touch()
        try:
            terminal.type(shell.assign("VERTEX_ENV_REFRESH_AT", "1"))
            terminal.wait(place.was_called)
            path = terminal.begin_report()
        finally:
            place.hold.unlink()
        terminal.wait(path.exists)
    assert read_report(path)["OPENAI_API_KEY"].startswith("ya29.sandbox-2-")
    assert place.calls == [ASK]


def test_fish_keeps_the_status_of_a_pipe(place: Place) -> None:
    """Also where the hook has something to do in between."""
    fish = SHELLS[0]
    need("fish")
    with Terminal(fish, place) as terminal:
        terminal.report()
        terminal.type(f"{fish.assign('VERTEX_ENV_REFRESH_AT', '1')}; true | sh -c 'exit 5' | true")
        assert terminal.report("$pipestatus", "$status")["REPORT"] == "0 5 0 0"
    assert ASK in place.calls


# --- what is loaded ---


def test_without_a_snapshot_the_program_is_asked(shell: Shell, place: Place) -> None:
    run = place.script(shell, shell.begin, "REPORT")
    assert run.reports[0]["OPENAI_API_KEY"].startswith("ya29.sandbox-1-")
    assert place.calls == [ASK]
    assert run.ended.stderr == ""


def test_an_inherited_fresh_environment_is_left_alone(shell: Shell, place: Place) -> None:
    """And `off` takes it away."""
    place.prepare()
    inherited = {
        "OPENAI_API_KEY": "theirs",
        "VERTEX_ENV_REFRESH_AT": FAR,
        "VERTEX_ENV_EXPIRES_AT": FAR,
    }
    run = place.script(shell, shell.begin, "REPORT", "vertex-env off", "REPORT", env=inherited)
    assert ours(run.reports[0]) == inherited
    assert ours(run.reports[1]) == {}
    assert place.calls == []


def test_off_leaves_what_an_outer_shell_added_by_set(shell: Shell, place: Place) -> None:
    """A shell cannot know those names; the control: in the shell that has set it, `off` takes it away."""
    place.prepare()
    inherited = {
        "OPENAI_API_KEY": "theirs",
        "VERTEX_ENV_REFRESH_AT": FAR,
        "VERTEX_ENV_EXPIRES_AT": FAR,
    }
    for outer, left in ((inherited, "theirs"), ({}, None)):
        mine = {"LLM_KEY": "theirs"} if outer else {"VERTEX_ENV_SET": "LLM_KEY={token}"}
        run = place.script(
            shell, shell.begin, "REPORT", "vertex-env off", "REPORT", env={**outer, **mine}
        )
        before, after = run.reports
        assert before["LLM_KEY"] == before["OPENAI_API_KEY"]
        assert after.get("LLM_KEY") == left
        assert ours(after) == {}


def change(place: Place, what: str) -> None:
    """Let something that a snapshot depends on be another."""
    match what:
        case "credentials" | "config":
            name = {"credentials": "credentials.json", "config": "config.toml"}[what]
            place.age(place.files / name, timedelta(minutes=30))
        case "appeared":
            (place.files / "gcloud" / "active_config").write_text("default")
            place.age(place.files / "gcloud" / "active_config", timedelta(minutes=30))
        case "token" | "stamp":
            place.one(what).unlink()
        case "cut":
            snapshot = place.one("snapshot")
            snapshot.write_text(snapshot.read_text().removesuffix("end\n"))
        case _:
            pass


def test_a_stale_snapshot_is_not_loaded(shell: Shell, place: Place) -> None:
    """Anything that it depends on is not as it was: the program is asked. With a new token it leaves a new one."""
    place.prepare()
    for what in (
        "credentials",
        "config",
        "appeared",
        "token",
        "nothing",
        "cut",
        "token",
        "nothing",
        "stamp",
    ):
        change(place, what)
        run = place.script(shell, shell.begin, "REPORT")
        assert (what, place.calls) == (what, [] if what == "nothing" else [ASK])
        assert run.reports[0]["OPENAI_API_KEY"].startswith("ya29.sandbox-")
        assert run.ended.stderr == ""
    run = place.script(shell, shell.begin, "REPORT", env={"GOOGLE_CLOUD_PROJECT": "other-project"})
    assert place.calls == [ASK]
    assert "/other-project/" in run.reports[0]["OPENAI_BASE_URL"]


def test_credentials_of_the_same_second_are_others(shell: Shell, place: Place) -> None:
    """They may be of another account, moved there with their time stamp."""
    file = place.files / "credentials.json"
    second = int(file.stat().st_mtime)
    os.utime(file, (second + 0.25, second + 0.25))
    place.prepare()
    other = file.with_name("other.json")
    other.write_text(file.read_text().replace("sandbox-client-id", "other-client-id"))
    os.utime(other, (second + 0.75, second + 0.75))
    other.rename(file)
    place.script(shell, shell.begin, "REPORT")
    assert place.calls == [ASK]


def test_inherited_values_are_not_evaluated(shell: Shell, place: Place) -> None:
    """Whatever somebody has put there is a text, and no reason to complain."""
    place.prepare()
    for name in ("VERTEX_ENV_REFRESH_AT", "VERTEX_ENV_EXPIRES_AT", "VERTEX_ENV_STAMP"):
        for value in ("a[$(touch F)];`touch F`;(touch F);@(open('F', 'w'))", "!"):
            env = {
                "OPENAI_API_KEY": "theirs",
                "VERTEX_ENV_REFRESH_AT": "1",
                "VERTEX_ENV_EXPIRES_AT": FAR,
                name: value,
            }
            due = shell.assign("VERTEX_ENV_REFRESH_AT", "1")
            run = place.script(shell, shell.begin, "REPORT", due, shell.hook, "REPORT", env=env)
            assert [report["OPENAI_API_KEY"][:14] for report in run.reports] == [
                "ya29.sandbox-1"
            ] * 2
            assert run.ended.stderr == ""
    assert list(place.home.rglob("F")) == []


def test_a_hostile_profile_is_not_evaluated(shell: Shell, place: Place) -> None:
    """It is refused by the program, as a profile that is not there."""
    run = place.script(
        shell,
        shell.begin,
        shell.hook,
        "REPORT",
        env={"VERTEX_ENV_PROFILE": "../$(touch F);`touch F`"},
    )
    assert run.ended.stderr.count("there is no profile") == 1
    assert run.reports[0]["VERTEX_ENV_REFRESH_AT"] == "0"
    assert list(place.home.rglob("F")) == []


# --- what it costs ---


def test_nothing_is_started_while_nothing_is_due(shell: Shell, place: Place) -> None:
    """Neither to load the snapshot nor at a thousand prompts."""
    place.prepare()

    def started(*lines: str) -> list[str]:
        trace = place.home / "trace"
        script = place.home / f"idle{shell.suffix}"
        script.write_text("\n".join([*lines, ""]))
        argv = [
            need("strace"),
            "-f",
            "-qq",
            "-e",
            "trace=execve,fork,vfork,clone,clone3",
            "-e",
            "signal=none",
        ]
        argv += ["-o", str(trace), need(shell.name), *shell.script, str(script)]
        subprocess.run(argv, env=place.env, check=True, stdin=subprocess.DEVNULL, timeout=60)
        calls = trace.read_text().splitlines()
        return [
            call
            for call in calls
            if "CLONE_THREAD" not in call and "resumed>" not in call and "ENOENT" not in call
        ]

    assert len(started(shell.source, shell.repeat.format(shell.hook))) == len(started())
    assert place.calls == []


def test_who_is_offline_is_not_kept_waiting(shell: Shell, place: Place) -> None:
    """After a failure it is said once, and prompts go on without asking again."""
    run = place.script(
        shell,
        shell.begin,
        shell.hook,
        shell.hook,
        "REPORT",
        env={"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere"},
    )
    assert run.ended.stderr.count("error:") == 1
    assert "OPENAI_API_KEY" not in run.reports[0]


# --- commands ---


def test_commands_act_on_this_shell(shell: Shell, place: Place) -> None:
    """And off restores what there was before."""
    (place.files / "config.toml").write_text('[profile.work]\nproject = "work-project"\n')
    place.age(place.files / "config.toml", timedelta(hours=1))
    before = {"OPENAI_API_KEY": "mine", "OPENAI_ORG_ID": "org"}
    run = place.script(
        shell,
        shell.begin,
        "REPORT",
        shell.failing.format("vertex-env refresh"),
        "REPORT",
        "vertex-env use work",
        "REPORT",
        shell.failing.format("vertex-env use nosuch"),
        "REPORT",
        "vertex-env off",
        shell.hook,
        "REPORT",
        env={**before, "GOOGLE_CLOUD_PROJECT": None, "VERTEX_ENV_PROJECT": None},
    )
    first, refreshed, work, still, off = run.reports
    assert "OPENAI_API_KEY" not in first or first["OPENAI_API_KEY"] == "mine"
    assert refreshed["VERTEX_ENV_REFRESH_AT"] == first["VERTEX_ENV_REFRESH_AT"] == "0"
    assert "/work-project/" in work["OPENAI_BASE_URL"]
    assert "OPENAI_ORG_ID" not in work or not work["OPENAI_ORG_ID"]
    assert ours(still) == ours(work)
    assert ours(off) == before
    assert "VERTEX_ENV_PROFILE" not in off
    assert "ya29" not in run.ended.stderr + run.ended.stdout


def test_another_profile_leaves_no_name_that_redirects(shell: Shell, place: Place) -> None:
    """On a terminal, with variables set already; the control: before, and after `off`, they are there."""
    (place.files / "config.toml").write_text("[profile.work]\n[profile.home]\n")
    place.age(place.files / "config.toml", timedelta(hours=1))
    mine = {
        "OPENAI_ORG_ID": "org",
        "OPENAI_API_HOST": "api.example.com",
        "OPENAI_CUSTOM_HEADERS": "Authorization: x",
    }
    seen = []
    with Terminal(shell, place, mine) as terminal:
        seen.append(terminal.report())
        for profile in ("work", "home", "work"):
            terminal.type(f"vertex-env use {profile}")
            seen.append(terminal.report())
            assert seen[-1]["VERTEX_ENV_PROFILE"] == profile
        terminal.type("vertex-env off")
        off = terminal.report()
    for each in seen:
        assert each["OPENAI_API_KEY"].startswith("ya29.")
        assert not mine.keys() & each.keys()
    assert ours(off) == mine


def test_refresh_takes_a_new_token(shell: Shell, place: Place) -> None:
    place.prepare()
    run = place.script(shell, shell.begin, "REPORT", "vertex-env refresh", "REPORT")
    assert [report["OPENAI_API_KEY"][:14] for report in run.reports] == [
        "ya29.sandbox-1",
        "ya29.sandbox-2",
    ]
    assert place.calls == [f"{ASK} --refresh"]


def test_other_commands_are_the_programs_own(shell: Shell, place: Place) -> None:
    """With their output, arguments and status."""
    place.prepare()
    run = place.script(
        shell, shell.begin, "vertex-env token --format header", 'vertex-env token "a b"'
    )
    assert run.ended.stdout.startswith("Authorization: Bearer ya29.sandbox-1-")
    assert place.calls == ["token --format header", "token a b"]
    assert run.ended.stderr.startswith("vertex-env: error:")


def test_options_are_the_programs(shell: Shell, place: Place) -> None:
    """An option is no profile; the program has the help. nushell shows that of its own command."""
    place.prepare()
    shown = " | print" if shell.name == "nu" else ""  # its scripts show the last value only
    run = place.script(shell, shell.source, f"vertex-env use --help{shown}", "REPORT")
    assert re.search("usage:.*vertex-env use", run.ended.stdout, re.IGNORECASE | re.DOTALL)
    assert run.reports[0]["OPENAI_API_KEY"].startswith("ya29.")
    wrong = place.script(
        shell, shell.source, shell.failing.format("vertex-env refresh --no-such"), "REPORT"
    )
    assert "no-such" in wrong.ended.stderr
    assert "wrong number" not in wrong.ended.stderr
    assert place.calls == ([] if shell.name == "nu" else ["use --help", "refresh --no-such"])
    # The control: a name is a profile.
    named = place.script(shell, shell.source, shell.failing.format("vertex-env use no-such"))
    assert "there is no profile" in named.ended.stderr


def test_off_gives_back_a_common_name(shell: Shell, place: Place) -> None:
    """MODEL may be another program's. It comes from the snapshot: the program is started once."""
    env = {
        "VERTEX_ENV_CLIENT": "aider,gptme,shell-gpt",
        "VERTEX_ENV_MODEL": "google/g",
        "MODEL": "mine",
    }
    for _ in range(2):
        run = place.script(shell, shell.begin, "REPORT", "vertex-env off", "REPORT", env=env)
        first, off = run.reports
        assert first["AIDER_MODEL"] == "openai/google/g"
        assert (first["DEFAULT_MODEL"], first["MODEL"]) == ("google/g", "local/google/g")
        assert (off["MODEL"], {"AIDER_MODEL", "DEFAULT_MODEL"} & off.keys()) == ("mine", set())
    assert place.calls == [ASK]


DIRENV = {
    "fish": "function __direnv_export_eval; echo direnv; end",
    "nu": "$env.config.hooks.pre_prompt = [{|| direnv export json | from json --strict | default {} | load-env }]",
    "xonsh": "@events.on_postcommand\ndef __direnv_post(**_):\n    pass\n",
}
"""How direnv comes into a shell: `direnv hook fish` (2.32.1), https://www.nushell.sh/cookbook/direnv.html,
https://github.com/74th/xonsh-direnv `xontrib/direnv.py` (2026-11)."""


@pytest.mark.parametrize("hooked", [True, False], ids=["hooked", "control"])
def test_direnv_is_left_to_its_work(shell: Shell, place: Place, *, hooked: bool) -> None:
    """Nothing is loaded, `use` says where to go, and what is due is renewed in the store; only where it has a hook."""
    place.prepare()
    env = {"VERTEX_ENV_VIA": "direnv", "VERTEX_ENV_REFRESH_AT": "1", "VERTEX_ENV_EXPIRES_AT": "2"}
    env |= {"OPENAI_API_KEY": "dead", "VERTEX_ENV_STAMP": str(place.one("stamp"))}
    use = shell.failing.format("vertex-env use nobody")
    lines = [
        DIRENV[shell.name] if hooked else "",
        shell.begin,
        "REPORT",
        use,
        "vertex-env off",
        "REPORT",
    ]
    run = place.script(shell, *lines, env=env)
    assert (run.reports[0]["OPENAI_API_KEY"] == "dead") is hooked
    assert place.calls == (["token"] if hooked else [ASK])
    assert run.ended.stdout == ("direnv\n" if shell.name == "fish" and hooked else "")
    assert ("in this folder direnv sets the variables" in run.ended.stderr) is hooked
    assert ("no profile 'nobody'" in run.ended.stderr) is not hooked
    assert {n: value for n, value in ours(run.reports[1]).items() if value} == {}
    assert ("direnv sets them again" in run.ended.stderr) is hooked


def test_inherited_from_direnv_is_kept_fresh(shell: Shell, place: Place) -> None:
    """A shell without direnv's hook, such as an editor's terminal, has what direnv has set; `refresh` mints."""
    place.prepare()
    env = {
        "VERTEX_ENV_VIA": "direnv",
        "OPENAI_API_KEY": "x",
        "VERTEX_ENV_REFRESH_AT": FAR,
        "VERTEX_ENV_EXPIRES_AT": FAR,
    }
    due = shell.assign("VERTEX_ENV_REFRESH_AT", "1")
    lines = [shell.begin, "REPORT", due, shell.hook, "REPORT", "vertex-env refresh", "REPORT"]
    run = place.script(shell, *lines, env=env | {"VERTEX_ENV_STAMP": str(place.one("stamp"))})
    assert [report["OPENAI_API_KEY"][:14] for report in run.reports] == [
        "x",
        "ya29.sandbox-1",
        "ya29.sandbox-2",
    ]
    assert place.calls == [f"{ASK} --refresh"]


def test_without_a_prompt_nobody_is_asked(shell: Shell, place: Place) -> None:
    """Nor is anything said: so do scp and git run a shell. What is stored is loaded. At a prompt it is asked for."""
    run = place.script(shell, shell.source, "REPORT")
    assert "OPENAI_API_KEY" not in run.reports[0]
    assert "VERTEX_ENV_REFRESH_AT" not in run.reports[0]
    assert (place.calls, run.ended.stderr, run.ended.stdout) == ([], "", "")
    control = place.script(shell, shell.source, shell.hook, "REPORT")
    assert place.calls == [ASK]
    assert control.reports[0]["OPENAI_API_KEY"].startswith("ya29.sandbox-1")
    again = place.script(shell, shell.source, "REPORT")
    assert place.calls == []
    assert again.reports[0]["OPENAI_API_KEY"] == control.reports[0]["OPENAI_API_KEY"]


def test_missing_program_is_said_once_and_found_later(shell: Shell, place: Place) -> None:
    place.prepare()
    place.one("token").unlink()
    path = place.env["PATH"]
    found = {
        "fish": f"set -gx PATH (string split : '{path}')",
        "nu": f"$env.PATH = ('{path}' | split row ':')",
        "xonsh": f"$PATH = {path.split(':')!r}",
    }[shell.name]
    tools = f"{place.home}/tools/"
    lines = [
        shell.begin,
        shell.hook,
        shell.hook,
        found,
        shell.hook,
        f"{tools}report {place.home}/seen",
    ]
    run = place.script(shell, *lines, env={"PATH": path.replace(f"{place.home}/tools:", "")})
    assert run.ended.stderr.splitlines() == [
        "vertex-env: error: there is no vertex-env on PATH",
        "vertex-env: hint: put its folder on PATH, or install it",
    ]
    assert place.calls == [ASK]
    assert read_report(place.home / "seen")["OPENAI_API_KEY"].startswith("ya29.sandbox-2")


def test_network_failure_is_one_line_at_the_first_prompt(shell: Shell, place: Place) -> None:
    place.google.fail(Fault(1000, 503))
    again = shell.assign("VERTEX_ENV_REFRESH_AT", "1")
    run = place.script(shell, shell.begin, shell.hook, again, shell.hook, "REPORT")
    assert run.ended.stderr.splitlines() == [
        "vertex-env: no token for now: Google cannot be reached; vertex-env refresh says why"
    ]
    assert "OPENAI_API_KEY" not in run.reports[0]


def test_fish_functions_do_not_matter(place: Place) -> None:
    """An alias is one."""
    need("fish")
    place.prepare()
    names = ("math", "contains", "printf", "path", "disown", "count", "functions", "true")
    others = "\n".join(
        f"function {name}; command touch {place.home}/called; echo called; end" for name in names
    )
    run = place.script(SHELLS[0], others, SHELLS[0].begin, "REPORT", "vertex-env refresh", "REPORT")
    assert [report["OPENAI_API_KEY"][:14] for report in run.reports] == [
        "ya29.sandbox-1",
        "ya29.sandbox-2",
    ]
    assert not (place.home / "called").exists()
    place.script(SHELLS[0], others, "contains a a")
    assert (place.home / "called").exists()


def test_sourced_twice_is_one_hook(shell: Shell, place: Place) -> None:
    """And what there was before is not forgotten."""
    place.prepare()
    count = {
        "fish": "functions --handlers-type generic | string match '*__vertex_env*' | count",
        "nu": "print ($env.config.hooks.pre_prompt | length) ($env.config.hooks.pre_execution | length)",
        "xonsh": "print(len(events.on_pre_prompt), len(events.on_precommand))",
    }[shell.name]
    again = place.script(
        shell,
        shell.source,
        shell.source,
        count,
        "vertex-env off",
        "REPORT",
        env={"OPENAI_API_KEY": "mine"},
    )
    assert again.ended.stdout == place.script(shell, shell.source, count).ended.stdout
    assert again.ended.stdout
    assert again.reports[0]["OPENAI_API_KEY"] == "mine"


# --- the files ---


@pytest.mark.parametrize("shell", [SHELLS[0], SHELLS[2]], ids=lambda shell: shell.name)
def test_a_trace_has_no_token(shell: Shell, place: Place) -> None:
    need(shell.name)
    place.prepare()
    traced = {"fish": "set -g fish_trace 1", "xonsh": "$XONSH_TRACE_SUBPROC = 1"}[shell.name]
    run = place.script(
        shell, traced, shell.begin, shell.hook, "vertex-env refresh", "vertex-env off"
    )
    assert "ya29" not in run.ended.stderr + run.ended.stdout


def test_fish_file_is_clean() -> None:
    fish, file = need("fish"), str(SHELLS[0].file)
    assert (
        subprocess.run([fish, "--no-execute", file], check=True, capture_output=True).stderr == b""
    )
    subprocess.run([need("fish_indent"), "--check", file], check=True)


def test_nu_file_is_clean() -> None:
    told = subprocess.run(
        [need("nu"), "--ide-check", "100", str(SHELLS[1].file)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert not re.search('"severity":"(Error|Warning)"', told), told


def test_fish_does_not_erase_a_universal_variable(place: Place) -> None:
    """It belongs to every session."""
    need("fish")
    run = place.script(
        SHELLS[0],
        "set -Ux OPENAI_ORG_ID org; set -Ux OPENAI_API_KEY universal",
        SHELLS[0].begin,
        "REPORT",
        "vertex-env off",
        "REPORT",
    )
    assert run.reports[0].get("OPENAI_ORG_ID", "") == ""
    assert ours(run.reports[1]) == {"OPENAI_ORG_ID": "org", "OPENAI_API_KEY": "universal"}
