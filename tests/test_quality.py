"""What tools say of the code: lint, types, layers, shell files. They run with the tests, so nobody forgets them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tools import need

ROOT = Path(__file__).parent.parent
CHECKS = {
    "ruff": ("ruff", "check", "."),
    "format": ("ruff", "format", "--check", "."),
    "mypy": ("mypy",),
    "layers": ("lint-imports",),
}


def run(*argv: str) -> str:
    """What a failing check says; empty when it passes."""
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("name", CHECKS)
def test_checks_pass(name: str) -> None:
    """The tool has nothing to complain about."""
    program, *arguments = CHECKS[name]
    assert run(str(Path(sys.executable).with_name(program)), *arguments) == ""


SHELL = ROOT / "shell"
SHELL_FILES = [*sorted(SHELL.rglob("*.bash")), *sorted(SHELL.rglob("*.sh")), ROOT / ".ci" / "run"]
ZSH_FILES = [*sorted(SHELL.rglob("*.zsh")), SHELL / "completions" / "_vertex-env"]
FISH_FILES = sorted(SHELL.rglob("*.fish"))


@pytest.mark.parametrize("path", SHELL_FILES, ids=lambda path: path.name)
def test_shell_files_are_clean(path: Path) -> None:
    """shellcheck and shfmt have nothing to complain about."""
    assert run(need("shellcheck"), str(path)) == ""
    assert run(need("shfmt"), "-i", "2", "-d", str(path)) == ""


@pytest.mark.parametrize("path", ZSH_FILES, ids=lambda path: path.name)
def test_zsh_files_are_read(path: Path) -> None:
    """There is no linter for zsh; it can read them."""
    assert run(need("zsh"), "-f", "-n", str(path)) == ""


@pytest.mark.parametrize("path", FISH_FILES, ids=lambda path: path.name)
def test_fish_files_are_clean(path: Path) -> None:
    """fish can read them and would not write them otherwise."""
    assert run(need("fish"), "--no-execute", str(path)) == ""
    assert run(need("fish_indent"), "--check", str(path)) == ""


def code_lines(path: Path) -> int:
    """Lines that are neither blank, comment nor docstring."""
    text = path.read_text()
    strings = [
        n
        for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)
    ]
    prose = {line for n in strings for line in range(n.lineno, (n.end_lineno or n.lineno) + 1)}
    lines = text.splitlines()
    return sum(
        1
        for i, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#") and i not in prose
    )


LONGEST = 300
LONGER = {"run/lifecycle.py": 320, "vertex/refusals.py": 312}
"""One state machine and one table, which read worse in two files each."""


def test_no_module_is_too_long_to_read_in_one_sitting() -> None:
    """A person audits a credential tool before trusting it. There is no limit for the whole."""
    package = ROOT / "vertex_env"
    lengths = {str(path.relative_to(package)): code_lines(path) for path in package.rglob("*.py")}
    assert {name: n for name, n in lengths.items() if n > LONGER.get(name, LONGEST)} == {}


def private_imports(text: str) -> list[str]:
    """Private names that *text* takes from another module of the package; ruff finds attributes (SLF001)."""
    imports = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom) and n.module]
    ours = [n for n in imports if str(n.module).partition(".")[0] == "vertex_env"]
    return [
        name.name
        for n in ours
        for name in n.names
        if name.name.startswith("_") and not name.name.endswith("__")
    ]


def test_no_module_takes_the_private_names_of_another() -> None:
    """A line that does is found, which is the control; tests may look inside."""
    paths = (ROOT / "vertex_env").rglob("*.py")
    assert {
        str(path.relative_to(ROOT)): found
        for path in paths
        if (found := private_imports(path.read_text()))
    } == {}
    assert private_imports("from vertex_env.cache.folder import _concerns, kind_of") == [
        "_concerns"
    ]
