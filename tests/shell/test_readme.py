"""What the README says of shells works when it is pasted: into the real shells, with an empty home folder."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support import loopback as google
from tests.support.tools import need
from vertex_env.sandbox.server import Sandbox

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(
    r"```(\w+)\n(.*?)```", README.split("### Shells")[1].split("### CI")[0], re.DOTALL
)


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A home folder with nothing in it, and the program on PATH."""
    with Sandbox(lifetime=timedelta(hours=1)) as sandbox:
        base = google.clean_environ(tmp_path)
        env = sandbox.environ(str(tmp_path / "google"), base)
        programs = tmp_path / "bin"
        programs.mkdir()
        program = programs / "vertex-env"
        root = shlex.quote(base["PYTHONPATH"]) if "PYTHONPATH" in base else ""
        program.write_text(
            f'#!/bin/sh\nPYTHONPATH={root} exec {shlex.quote(sys.executable)} -P -m vertex_env "$@"\n'
        )
        program.chmod(0o755)
        config = tmp_path / ".config" / "vertex-env" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(
            '[profile.work]\nmodel = "google/gemini-2.5-flash"\nallow-host = ["127.0.0.1"]\n'
        )
        yield {**env, "PATH": f"{programs}:{env['PATH']}", "VERTEX_ENV_CONFIG": str(config)}


def block(language: str, containing: str) -> str:
    """The README's block in *language* that has this in it."""
    (text,) = (text for name, text in BLOCKS if name == language and containing in text)
    return str(text)


def run(argv: list[str], env: dict[str, str], folder: Path) -> str:
    """What the program prints; it has no terminal, so shells complain about that."""
    done = subprocess.run(
        argv,
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def paste(shell: list[str], text: str, env: dict[str, str], folder: Path) -> None:
    """Paste *text* twice into an interactive shell, and once into the next one, with the hook."""
    run([*shell, f"{text.rstrip()}\n{text}"], env, folder)
    run([*shell, text], env, folder)


@pytest.mark.parametrize(
    ("shell", "language", "containing", "guard", "file"),
    [
        ("bash", "sh", "hook $shell", r"grep .* \|\| ", ".bashrc"),
        ("fish", "fish", "hook fish", r"grep .*; or ", ".config/fish/config.fish"),
        ("nu", "nu", "hook nu", r"(?m)^if .*? \{ (.*) \}$", ".config/nushell/config.nu"),
    ],
)
def test_without_the_guard_there_are_three_lines(  # noqa: PLR0913, PLR0917
    env: dict[str, str],
    tmp_path: Path,
    shell: str,
    language: str,
    containing: str,
    guard: str,
    file: str,
) -> None:
    """The control of what is below: the block without its guard, pasted as often."""
    text, found = re.subn(
        guard, lambda match: match[1] if match.lastindex else "", block(language, containing)
    )
    assert found == 1
    paste([need(shell), "--login" if shell == "nu" else "-i", "-c"], text, env, tmp_path)
    assert len((tmp_path / file).read_text().splitlines()) == 3


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_bash_and_zsh(env: dict[str, str], tmp_path: Path, shell: str) -> None:
    """A new shell has the variables at its first prompt, and the completions."""
    text = block("sh", "hook $shell").replace("shell=bash;", f"shell={shell};")
    paste([need(shell), "-i", "-c"], text, env, tmp_path)
    assert (tmp_path / f".{shell}rc").read_text() == f". ~/.config/vertex-env/hook.{shell}\n"
    assert [*(tmp_path / ".config" / "vertex-env").glob("hook*")] == [
        tmp_path / ".config" / "vertex-env" / f"hook.{shell}"
    ]
    script = 'echo "${#OPENAI_API_KEY} $(type vertex-env)"'
    assert run([need(shell), "-i", "-c", script], env, tmp_path).startswith("189 vertex-env is a ")
    if shell == "bash":
        assert "vertex_env" in run(["bash", "-i", "-c", "complete -p vertex-env"], env, tmp_path)


def test_fish(env: dict[str, str], tmp_path: Path) -> None:
    """The same."""
    fish = need("fish")
    paste([fish, "-i", "-c"], block("fish", "hook fish"), env, tmp_path)
    start = "status is-interactive; and source ~/.config/fish/vertex-env.fish\n"
    assert (tmp_path / ".config" / "fish" / "config.fish").read_text() == start
    script = "__vertex_env_hook; string length $OPENAI_API_KEY; type -t vertex-env"
    assert run([fish, "-i", "-c", script], env, tmp_path) == "189\nfunction"
    assert "restart" in run(
        [fish, "-c", 'complete -C "vertex-env run --on-expiry "'], env, tmp_path
    )


def test_nu(env: dict[str, str], tmp_path: Path) -> None:
    """The same."""
    nu = need("nu")
    paste([nu, "--login", "-c"], block("nu", "hook nu"), env, tmp_path)
    assert (tmp_path / ".config" / "nushell" / "config.nu").read_text() == "source vertex-env.nu\n"
    assert (
        run(
            [nu, "--login", "-c", "__vertex_env_hook; $env.OPENAI_API_KEY | str length"],
            env,
            tmp_path,
        )
        == "189"
    )


def test_xonsh(env: dict[str, str], tmp_path: Path) -> None:
    """The same."""
    line = re.search(r"xonsh: `(.*?)`\.", README)
    assert line is not None
    xonsh = need("xonsh")
    env = {**env, "XONSH_HISTORY_BACKEND": "dummy"}
    paste([xonsh, "--interactive", "--shell-type", "dumb", "-c"], line[1], env, tmp_path)
    assert [path.name for path in (tmp_path / ".config" / "xonsh" / "rc.d").iterdir()] == [
        "vertex-env.py"
    ]
    script = "events.on_pre_prompt.fire(); print(len(${...}.get('OPENAI_API_KEY', '')))"
    assert run(
        [xonsh, "--interactive", "--shell-type", "dumb", "-c", script], env, tmp_path
    ).endswith("189")


def test_direnv(env: dict[str, str], tmp_path: Path) -> None:
    """The folder has the profile's variables."""
    direnv = need("direnv")
    project = tmp_path / "project"
    project.mkdir()
    paste(["bash", "-i", "-c"], block("sh", "hook direnv"), env, project)
    assert (project / ".envrc").read_text() == "use vertex --profile work\n"
    script = 'echo "${#OPENAI_API_KEY} $OPENAI_MODEL"'
    assert (
        run([direnv, "exec", ".", "sh", "-c", script], env, project)
        == "189 google/gemini-2.5-flash"
    )


def test_mise(env: dict[str, str], tmp_path: Path) -> None:
    """Set on entering a folder, kept fresh there by the hook, and gone on leaving."""
    mise = need("mise")
    recipe = r"`(VERTEX_ENV_PROFILE = .*?)` and\s+`(_.source = .*?)`; in `(.*?)`, `(.*?)`\."
    words = re.search(recipe, README, re.DOTALL)
    assert words is not None
    project = tmp_path / "project"
    project.mkdir()
    (project / "mise.toml").write_text(f"[env]\n{words[1]}\n{words[2]}\n")
    (project / words[3]).write_text(words[4] + "\n")
    env |= {
        "PATH": f"{Path(mise).parent}:{env['PATH']}",
        "MISE_TRUSTED_CONFIG_PATHS": str(tmp_path),
    }
    script = """
        eval "$(vertex-env hook bash)"
        eval "$(mise activate bash)"
        cd project && _mise_hook
        echo "${#OPENAI_API_KEY} $OPENAI_MODEL"
        VERTEX_ENV_REFRESH_AT=0 VERTEX_ENV_EXPIRES_AT=0
        __vertex_env_hook
        echo "$((VERTEX_ENV_REFRESH_AT > 0)) $OPENAI_MODEL"
        cd .. && _mise_hook
        echo "$OPENAI_MODEL"
    """
    printed = run([need("bash"), "--norc", "-c", script], env, tmp_path)
    assert printed == "189 google/gemini-2.5-flash\n1 google/gemini-2.5-flash"


def test_xonsh_says_at_a_prompt_that_the_program_is_missing(
    env: dict[str, str], tmp_path: Path
) -> None:
    """And nothing while it starts; the control is the line that asks the program each time."""
    line = re.search(r"xonsh: `(.*?)`\.", README)
    assert line is not None
    start = [need("xonsh"), "--interactive", "--shell-type", "dumb", "-c"]
    env = {**env, "XONSH_HISTORY_BACKEND": "dummy"}
    run([*start, line[1]], env, tmp_path)
    (tmp_path / "bin" / "vertex-env").unlink()
    script = "events.on_pre_prompt.fire(); events.on_pre_prompt.fire()"
    ours = [
        text for text in said([*start, script], env, tmp_path).splitlines() if "vertex-env" in text
    ]
    assert ours == [
        "vertex-env: error: there is no vertex-env on PATH",
        "vertex-env: hint: put its folder on PATH, or install it",
    ]
    (tmp_path / ".xonshrc").write_text("exec($(vertex-env hook xonsh))\n")
    assert "command not found: 'vertex-env'" in said([*start, "pass"], env, tmp_path)


def said(argv: list[str], env: dict[str, str], folder: Path) -> str:
    """What the program says on stderr."""
    return subprocess.run(
        argv,
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    ).stderr
