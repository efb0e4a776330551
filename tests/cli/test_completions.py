"""The completions are what the command line says of itself, and the real shells complete with them."""

import os
import select
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.forking import fork_on_terminal
from tests.support.tools import need
from tools import completions

CASES = {
    "vertex-env stat": {"status"},
    "vertex-env export --form": {"--format"},
    "vertex-env export --format d": {"dotenv"},
    "vertex-env export --format g": {"github", "gitlab"},
    "vertex-env run --on-expiry re": {"restart"},
    "vertex-env export --client go": {"goose"},
    "vertex-env hook xo": {"xonsh"},
    "vertex-env use wo": {"work"},
    "vertex-env export --profile wo": {"work"},
}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    config = tmp_path / "config.toml"
    config.write_text('[profile.work]\nproject = "my-project"\n\n[profile.robot]\n')
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "VERTEX_ENV_CONFIG": str(config),
        "TERM": "dumb",
    }


@pytest.mark.parametrize("shell", completions.TEXTS)
def test_the_files_say_what_the_command_line_says(shell: str) -> None:
    """If not: python -m tools.completions."""
    assert completions.path(shell).read_text() == completions.TEXTS[shell]()


def run(argv: list[str], environ: dict[str, str]) -> set[str]:
    done = subprocess.run(
        argv, env=environ, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    assert done.stderr == ""
    return set(done.stdout.split("\n")) - {""}


@pytest.mark.parametrize("line", CASES)
def test_bash_completes(line: str, environ: dict[str, str]) -> None:
    """What is offered is exactly what fits."""
    words = line.split()
    script = f"""
        set -u
        . {completions.path("bash")}
        COMP_WORDS=({" ".join(words)}) COMP_CWORD={len(words) - 1}
        _vertex_env
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert run([need("bash"), "--norc", "-c", script], environ) == CASES[line]


def test_bash_completes_the_command_to_run(environ: dict[str, str]) -> None:
    """After the dashes the words are no longer ours."""
    script = f"""
        . {completions.path("bash")}
        COMP_WORDS=(vertex-env run -- unam) COMP_CWORD=3
        _vertex_env
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert "uname" in run([need("bash"), "--norc", "-c", script], environ)


@pytest.mark.parametrize("line", CASES)
def test_fish_completes(line: str, environ: dict[str, str]) -> None:
    """What is offered is exactly what fits."""
    script = f"source {completions.path('fish')}; complete -C '{line}'"
    found = {
        entry.split("\t")[0] for entry in run([need("fish"), "--no-config", "-c", script], environ)
    }
    assert found == CASES[line]


def test_zsh_completes(environ: dict[str, str], tmp_path: Path) -> None:
    """On a terminal, where its completion works only: each Tab leaves one word, or the beginning of two."""
    (tmp_path / ".zshrc").write_text(
        f"fpath=({completions.path('zsh').parent} $fpath)\nautoload -Uz compinit && compinit -u -D\nPS1='READY>'\n"
        "unsetopt auto_list list_beep; setopt no_always_last_prompt\n"
    )
    zsh = need("zsh")
    pid, terminal = fork_on_terminal(
        lambda: os.execve(zsh, [zsh, "-o", "no_global_rcs", "-i"], environ)
    )
    try:
        read_until(terminal, "READY>")
        for line, found in CASES.items():
            os.write(terminal, f"{line}\t".encode())
            time.sleep(0.05)
            # The line as it stands then, printed: what the screen shows of it is full of cursor movements.
            os.write(terminal, b"\x01print -r -- '=\x05='\n")
            expected = line.rsplit(" ", 1)[0] + " " + os.path.commonprefix(sorted(found))  # noqa: RUF071 -- of words
            assert f"\n={expected}" in read_until(terminal, "\n=", "READY>").replace("\r", ""), line
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def read_until(terminal: int, *texts: str) -> str:
    """What comes from *terminal* until all of *texts* have come, one after the other."""
    seen, deadline = "", time.monotonic() + 20
    rest = list(texts)
    position = 0
    while rest:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, seen
        seen += os.read(terminal, 65536).decode(errors="replace")
        while rest and (at := seen.find(rest[0], position)) >= 0:
            position = at + len(rest.pop(0))
    return seen
