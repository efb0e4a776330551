"""Each format: its exact text, and what real shells and readers make of it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.support.fakes import token
from tests.support.tools import need
from vertex_env.errors import SettingsError
from vertex_env.formats.table import TEXT_FORMATS, guess_format
from vertex_env.vertex.target import Target
from vertex_env.vertex.variables import Environment, environment

# --- the exact text ---

ODD: Environment = {
    "A": "ya29.a0-_~/+=",
    "B": 'it\'s "q" $HOME `id` \\n',
    "C": "",
    "D": None,
    "E": "é\u2019x",
}

READ_ONLY = """\
echo 'vertex-env: error: nothing is set: a variable of those to set is read-only in this shell' >&2;
echo 'vertex-env: hint: take readonly from the variable that the shell names above, or use: vertex-env run -- CMD' >&2;
"""

GOLDEN: Mapping[str, str] = {
    "sh": f"""\
if `unset A B C D E && export A= B= C= E=`; then
unset A B C D E;
export A='ya29.a0-_~/+=';
export B='it'\\''s "q" $HOME `id` \\n';
export C='';
export E='é\u2019x';
else
{READ_ONLY}false;
fi;
""",
    "fish": """\
set -el A B C D E; set -ef A B C D E; true;
set -gx A 'ya29.a0-_~/+=';
set -gx B 'it\\'s "q" $HOME `id` \\\\n';
set -gx C '';
set -eg D; if set -q D; set -gx D ''; end;
set -gx E 'é\u2019x';
""",
    "nu": """\
$env.A = "ya29.a0-_~/+=";
$env.B = "it's \\u{22}q\\u{22} $HOME `id` \\u{5c}n";
$env.C = "";
hide-env --ignore-errors D;
$env.E = "é\u2019x";
""",
    "pwsh": """\
$env:A = 'ya29.a0-_~/+=';
$env:B = 'it''s "q" $HOME `id` \\n';
$env:C = '';
Remove-Item -ErrorAction Ignore Env:D;
$env:E = 'é\u2019\u2019x';
""",
    "xonsh": """\
$A = 'ya29.a0-_~/+=';
$B = 'it\\'s "q" $HOME `id` \\\\n';
$C = '';
${...}.pop('D', None);
$E = '\\xe9\\u2019x';
""",
    "elvish": """\
set-env A 'ya29.a0-_~/+=';
set-env B 'it''s "q" $HOME `id` \\n';
set-env C '';
unset-env D;
set-env E 'é\u2019x';
""",
    "json": """\
{
  "A": "ya29.a0-_~/+=",
  "B": "it's \\"q\\" $HOME `id` \\\\n",
  "C": "",
  "D": null,
  "E": "\\u00e9\\u2019x"
}
""",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_text(name: str) -> None:
    """The whole output, byte for byte."""
    assert TEXT_FORMATS[name].render(ODD) == GOLDEN[name]


def test_text_for_tcsh() -> None:
    """Tcsh gets what survives its backticks: plain values, in quotes."""
    assert TEXT_FORMATS["tcsh"].render({"A": "ya29.a0-_~/+=", "C": "", "D": None}) == (
        "setenv A 'ya29.a0-_~/+=';\nsetenv C '';\nunsetenv D;\n"
    )


def test_text_for_dotenv() -> None:
    """Plain values have no quotes, which `docker run --env-file` would keep; what is unset is left out."""
    env = {
        "A": "ya29.a0-_/+=",
        "B": "a b#c $x",
        "C": "",
        "D": None,
        "E": "~/x",
        "F": "a:~b",
        "G": "a~b",
    }
    assert (
        TEXT_FORMATS["dotenv"].render(env)
        == "A=ya29.a0-_/+=\nB='a b#c $x'\nC=\nE='~/x'\nF='a:~b'\nG=a~b\n"
    )


@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_text_of_nothing(name: str) -> None:
    """No variables, no statements."""
    assert TEXT_FORMATS[name].render({}) == ("{}\n" if name == "json" else "")


@pytest.mark.parametrize("name", [name for name, row in TEXT_FORMATS.items() if row.evaluated])
def test_statements_end_in_a_semicolon(name: str) -> None:
    """An unquoted eval joins the lines; each statement is closed, so that they do not run into one another."""
    lines = TEXT_FORMATS[name].render({"A": "x", "B": None, "C": ""}).splitlines()
    if name in ("sh", "direnv"):
        assert [lines.pop(0)[-5:], lines.pop(3), *lines[3:5]] == [
            " then",
            "else",
            *READ_ONLY.splitlines(),
        ]
        assert lines.pop() == "fi;"
        del lines[3:5]
        assert lines.pop() == "false;"
    assert len(lines) == (4 if name == "fish" else 3)
    assert all(line.endswith(";") for line in lines)


@pytest.mark.parametrize(
    "value",
    ["a b", "it's", '"', "$x", "`x`", "\\", "!x", "*", "a;b", "#", "é", "{a}", "a\nb", "(", "^x"],
)
def test_tcsh_refuses_what_does_not_survive(value: str) -> None:
    """Tcsh takes backtick output apart, whatever the quotes: such values are an error that names the variable."""
    with pytest.raises(
        SettingsError, match="the value for B cannot be passed through tcsh's eval"
    ) as e:
        TEXT_FORMATS["tcsh"].render({"A": "x", "B": value})
    assert "vertex-env run" in e.value.hint


@pytest.mark.parametrize("value", ["it's", "a\\b", "${HOME}", "x${A}"])
def test_dotenv_refuses_what_readers_disagree_about(value: str) -> None:
    """No way of quoting means the same to all readers: such values are an error that names the variable."""
    with pytest.raises(SettingsError, match="the value for B has a quote, a backslash or"):
        TEXT_FORMATS["dotenv"].render({"A": "x", "B": value})


# --- which format ---


@pytest.mark.parametrize(
    ("shells", "name"),
    [
        (["bash"], "sh"),
        (["-zsh"], "sh"),
        (["/usr/bin/fish"], "fish"),
        (["fish\n"], "fish"),
        (["-fish"], "fish"),
        (["/opt/homebrew/bin/nu"], "nu"),
        (["C:\\Program Files\\nu\\bin\\nu.exe"], "nu"),
        (["pwsh"], "pwsh"),
        (["powershell.exe"], "pwsh"),
        (["PowerShell.EXE"], "pwsh"),
        (["csh"], "tcsh"),
        (["-tcsh"], "tcsh"),
        (["xonsh"], "xonsh"),
        (["elvish"], "elvish"),
        (["dash"], "sh"),
        (["ksh93"], "sh"),
        (["mksh"], "sh"),
        (["busybox"], "sh"),
        (["", "python3", "/usr/bin/fish"], "fish"),
        (["fish", "bash"], "fish"),
        (["nushell-thing", "make"], "sh"),
        (["", "-", "/", "\n"], "sh"),
        ([], "sh"),
    ],
    ids=str,
)
def test_guess(shells: Sequence[str], name: str) -> None:
    """The first name that is a shell's decides; without any, sh."""
    assert guess_format(shells).name == name


SH = ["sh", "bash", "zsh", "dash", "ksh", "ksh93", "mksh", "ash", "busybox", "yash", "rbash"]


@pytest.mark.parametrize("shell", SH)
def test_guess_of_a_shell_of_its_own_format(shell: str) -> None:
    """Every shell that reads what sh reads is known as one: a login shell further on does not count."""
    assert guess_format([shell, "/usr/bin/fish"]).name == "sh"


@given(st.lists(st.text() | st.sampled_from(["fish", "nu", "-csh", "sh"])))
@examples(deadline=None, max_examples=200)
def test_guess_is_always_a_format(shells: list[str]) -> None:
    """Whatever the process is called, there is a renderer for the guess, and a way to use it."""
    assert guess_format(shells).use


# --- real shells ---


class Shell(NamedTuple):
    program: str
    flags: tuple[str, ...]
    format: str
    call: str = ""
    """What stands before an external command."""
    script: str = "script"
    """Name of the file to run."""


SHELLS: Mapping[str, Shell] = {
    "sh": Shell("sh", ("-eu",), "sh"),
    "dash": Shell("dash", ("-eu",), "sh"),
    "bash": Shell("bash", ("--norc", "-eu"), "sh"),
    "bash, posix": Shell("bash", ("--posix", "-eu", "-o", "pipefail"), "sh"),
    "zsh": Shell("zsh", ("-f", "-eu"), "sh"),
    "zsh, odd options": Shell(
        "zsh",
        (
            "-f",
            "-eu",
            "-o",
            "rcquotes",
            "-o",
            "extendedglob",
            "-o",
            "globsubst",
            "-o",
            "shwordsplit",
        ),
        "sh",
    ),
    "ksh": Shell("ksh", ("-eu",), "sh"),
    "mksh": Shell("mksh", ("-eu",), "sh"),
    "busybox": Shell("busybox", ("sh", "-eu"), "sh"),
    "fish": Shell("fish", ("--no-config",), "fish"),
    "nu": Shell("nu", ("--no-config-file",), "nu", call="^"),
    "xonsh": Shell("xonsh", ("--no-rc",), "xonsh"),
    "elvish": Shell("elvish", ("-norc",), "elvish"),
}
POSIX = [name for name, shell in SHELLS.items() if shell.format == "sh"]

# Values with everything that some shell treats as syntax.
NASTY = [
    *[
        "plain",
        "ya29.a0-_~",
        "sp ace",
        "q'uote",
        'd"q',
        "$HOME `id` $(id)",
        "back\\slash",
        "end\\",
        "new\nline",
        "tab\t",
    ],
    *[
        "!hist",
        "*?[x]",
        "é✓",
        "-n",
        "~",
        "#c",
        "%s",
        "a;b&c|d<e>f",
        "{a,b}",
        "",
        " lead",
        "trail ",
        "\\'",
        "''",
        "\\\\",
    ],
    *[
        'it\'s "q" $HOME `id` \\n \\ !! %PATH% #x ;&|<>(){}[]*?~',
        "tab\there",
        "line1\nline2\n",
        "'",
        "a\r\nb",
    ],
    *[
        "\u2018typo\u2019 \u201equotes\u201c \u201a\u201b",
        "${HOME}",
        "$env.HOME",
        "(id)",
        "\\u{41}\\x41\\101",
        "\U0001f511",
    ],
    *["\ufeff", "\u202e", "\u2028\u0085\xa0", "=x", "^x", "@x", "a" * 20_000],
]
CONTROL = [
    "".join(map(chr, range(1, 0x20))),
    "\x7f\x80\x9f",
    "a\x1b[31mb",
    "\x03",
    "\n",
    "\r",
    "\n\n'\n",
]

DUMP = "import json, os; print(json.dumps({n: v for n, v in os.environ.items() if n.startswith('T_')}))"


class Place:
    """A folder with a `vertex-env` that says what it is told, whatever its arguments but for the format's name."""

    def __init__(self, folder: Path, env: Environment, status: int = 0) -> None:
        self.folder = folder
        self._write("dump", f"#!{sys.executable} -IS\n{DUMP}\n", mode=0o755)
        self._write("vertex-env", f'#!/bin/sh\ncat "$0.${{3-sh}}"\nexit {status}\n', mode=0o755)
        for name in {"sh", "json", *(shell.format for shell in SHELLS.values())}:
            text = (
                TEXT_FORMATS[name].render(env)
                if status == 0
                else "false\n"
                if TEXT_FORMATS[name].evaluated
                else ""
            )
            self._write(f"vertex-env.{name}", text)

    def _write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.folder / name
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        path.chmod(mode)

    def run(
        self, shell: Shell, lines: str, environ: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run *lines* as a script file; `DUMP` in them is a child that prints its variables."""
        self._write(shell.script, lines.replace("DUMP", f"{shell.call}{self.folder}/dump"))
        return subprocess.run(
            [need(shell.program), *shell.flags, str(self.folder / shell.script)],
            env={
                "PATH": f"{self.folder}:{os.environ['PATH']}",
                "HOME": str(self.folder),
                "LC_ALL": "C.UTF-8",
                **environ,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def seen(
    shell: Shell, load: str, values: Sequence[str], names: Sequence[str] = ()
) -> tuple[dict[str, str], Environment]:
    """What a child of *shell* sees after *load*, and what it should see."""
    env = {
        **dict(zip(names or [f"T_{i}" for i in range(len(values))], values, strict=True)),
        "T_GONE": None,
        "T_NEVER": None,
    }
    with tempfile.TemporaryDirectory() as folder:
        done = Place(Path(folder), env).run(
            shell, f"{load}\nDUMP\n", {"T_GONE": "here", "T_0": "old"}
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    return found, {name: value for name, value in env.items() if value is not None}


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("values", [NASTY, CONTROL], ids=["nasty", "control characters"])
def test_round_trip(name: str, values: Sequence[str]) -> None:
    """A child of the real shell sees every value as it was, with the very line that users are told; None is unset."""
    shell = SHELLS[name]
    found, wanted = seen(shell, TEXT_FORMATS[shell.format].use, values)
    assert found == wanted


@pytest.mark.parametrize("values", [NASTY, CONTROL], ids=["nasty", "control characters"])
def test_round_trip_of_nu_statements(values: Sequence[str]) -> None:
    """Nushell can also `source` a file with statements, as its own parser wants one."""
    found, wanted = seen(SHELLS["nu"], "source vertex-env.nu", values)
    assert found == wanted


def test_round_trip_in_pwsh() -> None:
    """PowerShell sees every value as it was, but for an empty one, which it unsets before version 7.5."""
    pwsh = Shell(
        "pwsh", ("-NoProfile", "-NonInteractive", "-File"), "pwsh", call="& ", script="script.ps1"
    )
    values = [value for value in NASTY if value]
    if shutil.which("pwsh") is None:  # not `need`: no registry has it
        pytest.skip("pwsh is not installed")
    with tempfile.TemporaryDirectory() as folder:
        env = {**{f"T_{i}": value for i, value in enumerate(values)}, "T_GONE": None}
        place = Place(Path(folder), {})
        (Path(folder) / "vertex-env.pwsh").write_text(
            TEXT_FORMATS["pwsh"].render(env), encoding="utf-8"
        )
        done = place.run(pwsh, f"{TEXT_FORMATS['pwsh'].use}\nDUMP\n", {"T_GONE": "here"})
    assert json.loads(done.stdout) == {
        name: value for name, value in env.items() if value is not None
    }


TOKENS = [
    "plain",
    "ya29.a0AfH6SMB-_x.y~z",
    "https://aiplatform.googleapis.com/v1/a:b@c%d,e",
    "~",
    "-n",
    "=x",
    "",
    "1795352400",
]


@pytest.mark.parametrize("name", POSIX)
@pytest.mark.parametrize("load", ["eval $(vertex-env export)", "eval `vertex-env export`"])
def test_unquoted_eval(name: str, load: str) -> None:
    """Tokens and URLs survive when the quotes are forgotten."""
    found, wanted = seen(SHELLS[name], load, TOKENS)
    assert found == wanted


@pytest.mark.parametrize(
    "load", ["eval (vertex-env export --format fish)", "vertex-env export --format fish | source -"]
)
def test_other_ways_in_fish(load: str) -> None:
    """Fish users who write `eval (…)`, which joins the lines with spaces, get the same."""
    found, wanted = seen(SHELLS["fish"], load, TOKENS)
    assert found == wanted


def test_round_trip_in_tcsh() -> None:
    """Tcsh's eval with backticks brings tokens and URLs over whole, long ones too."""
    tcsh = Shell("tcsh", ("-f",), "tcsh")
    env: Environment = {
        **{f"T_{i}": value for i, value in enumerate([*TOKENS, "x" * 12_288])},
        "T_GONE": None,
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), {})
        (Path(folder) / "vertex-env.tcsh").write_text(
            TEXT_FORMATS["tcsh"].render(env), encoding="utf-8"
        )
        done = place.run(tcsh, f"{TEXT_FORMATS['tcsh'].use}\nDUMP\n", {"T_GONE": "here"})
    assert json.loads(done.stdout) == {
        name: value for name, value in env.items() if value is not None
    }


# Names that fish (PATH) and xonsh (PATH, DIRS) take for lists of folders; two of the clients have such.
LISTS = {
    "T_BASE_PATH": "v1/projects/p/chat/completions",
    "T_URL_PATH": "https://aiplatform.googleapis.com:443/v1/projects/p:q",
    "T_DIRS": "https://a.b/c",
    "T_NONE_PATH": "",
}


@pytest.mark.parametrize("name", SHELLS)
def test_names_that_shells_treat_as_lists(name: str) -> None:
    """A URL under a name that ends in PATH or DIRS stays as it was, also where the shell makes a list of it."""
    found, wanted = seen(
        SHELLS[name], TEXT_FORMATS[SHELLS[name].format].use, list(LISTS.values()), list(LISTS)
    )
    del found["T_0"]
    assert found == wanted


BYTES = ["\udcff", "a\udc80\udc83\udc85'\udca0", "\udc81\udc82\udc88 x"]


@pytest.mark.parametrize("name", [*POSIX, "fish", "xonsh"])
def test_bytes_that_are_not_utf8(name: str) -> None:
    """Where a shell can hold any bytes it gets them, though `environment` refuses such values."""
    found, wanted = seen(SHELLS[name], TEXT_FORMATS[SHELLS[name].format].use, BYTES)
    assert found == wanted


ANYTHING = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
SYNTAX = st.text("'\"\\$`!{}()[]<>|&;*?~#^=@%-+ \t\n\u2018\u2019ax", max_size=12)


@pytest.mark.parametrize(
    "name",
    ["bash", "zsh", "zsh, odd options", "fish", "dash", "ksh", "mksh", "busybox", "elvish", "nu"],
)
def test_round_trip_of_anything(name: str) -> None:
    """Hypothesis finds no value, of any characters, that comes out of the real shell otherwise than it went in."""
    shell = SHELLS[name]
    need(shell.program)

    @given(st.lists(ANYTHING | SYNTAX, min_size=1, max_size=80))
    @examples(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
    def batch(values: list[str]) -> None:
        found, wanted = seen(shell, TEXT_FORMATS[shell.format].use, values)
        assert found == wanted

    batch()


@given(
    st.dictionaries(
        st.from_regex("T_[A-Z]{1,3}", fullmatch=True), st.none() | ANYTHING | SYNTAX, max_size=5
    )
)
@examples(deadline=None, max_examples=200)
def test_round_trip_of_json(env: dict[str, str | None]) -> None:
    """A JSON reader sees every value, and null for what is unset."""
    assert json.loads(TEXT_FORMATS["json"].render(env)) == env


@given(
    st.dictionaries(st.from_regex("T_[A-Z]{1,3}", fullmatch=True), ANYTHING | SYNTAX, max_size=30)
)
@examples(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
def test_dotenv_file_in_a_shell(values: dict[str, str]) -> None:
    """A shell that reads the .env file, as many tools do, sees the values that were not refused."""
    kept = {}
    for name, value in values.items():
        try:
            TEXT_FORMATS["dotenv"].render({name: value})
        except SettingsError:
            continue
        kept[name] = value
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), {})
        (Path(folder) / "env").write_bytes(TEXT_FORMATS["dotenv"].render(kept).encode())
        done = place.run(SHELLS["sh"], f"set -a\n. {folder}/env\nDUMP\n", {})
    assert json.loads(done.stdout) == kept


# --- failure ---


@pytest.mark.parametrize("name", [name for name in SHELLS if name != "fish"])
def test_failure_stops_the_script(name: str, tmp_path: Path) -> None:
    """When export fails, so does the line that users are told: a strict script ends there. Fish has no such mode."""
    shell = SHELLS[name]
    done = Place(tmp_path, {}, status=1).run(
        shell, f"{TEXT_FORMATS[shell.format].use}\necho went on\n", {}
    )
    assert done.stdout == ""
    assert done.returncode != 0


SEEN_TO_FAIL = {
    **{
        name: (SHELLS[name], f"{TEXT_FORMATS['sh'].use} && echo went on || echo failed")
        for name in POSIX
    },
    "fish": (SHELLS["fish"], f"{TEXT_FORMATS['fish'].use}; and echo went on; or echo failed"),
    "fish, eval": (
        SHELLS["fish"],
        "eval (vertex-env export --format fish); and echo went on; or echo failed",
    ),
}


@pytest.mark.parametrize(("shell", "lines"), SEEN_TO_FAIL.values(), ids=SEEN_TO_FAIL.keys())
def test_failure_is_seen(shell: Shell, lines: str, tmp_path: Path) -> None:
    """When export fails, the status of the line tells, although an eval of nothing would succeed."""
    done = Place(tmp_path, {}, status=1).run(shell, lines, {})
    assert (done.stdout, done.returncode) == ("failed\n", 0)


def test_failure_is_seen_in_tcsh(tmp_path: Path) -> None:
    """Tcsh sees the status of the eval as well."""
    place = Place(tmp_path, {}, status=1)
    (tmp_path / "vertex-env.tcsh").write_text("false\n", encoding="utf-8")
    done = place.run(
        Shell("tcsh", ("-f",), "tcsh"),
        f"{TEXT_FORMATS['tcsh'].use} && echo went on || echo failed",
        {},
    )
    assert done.stdout == "failed\n"


@pytest.mark.parametrize("name", SHELLS)
def test_going_on_after_success(name: str) -> None:
    """The counterpart: with output that loads, every shell goes on, even if unsetting comes last."""
    shell = SHELLS[name]
    then = {"fish": "; and DUMP", "sh": " && DUMP"}.get(shell.format, "\nDUMP")
    with tempfile.TemporaryDirectory() as folder:
        done = Place(Path(folder), {"T_A": "x", "T_B": None, "T_C": None}).run(
            shell, TEXT_FORMATS[shell.format].use + then, {"T_B": "here"}
        )
    assert json.loads(done.stdout) == {"T_A": "x"}


def test_universal_variables_of_fish_are_kept(tmp_path: Path) -> None:
    """What a fish user has set for all sessions is hidden in this one, not deleted from the others."""
    place = Place(tmp_path, {"T_ORG": None})
    fish = Shell("fish", (), "fish")  # --no-config would leave out universal variables
    assert place.run(fish, "set -Ux T_ORG org-1", {}).returncode == 0
    done = place.run(fish, f"{TEXT_FORMATS['fish'].use}\nDUMP", {})
    assert json.loads(done.stdout) == {"T_ORG": ""}
    assert json.loads(place.run(fish, "DUMP", {}).stdout) == {"T_ORG": "org-1"}


# --- a variable that cannot be set ---

LOADS = ['eval "$(vertex-env export)"', "eval $(vertex-env export)"]
BESIDE: Environment = {
    "T_GONE": None,
    "T_URL": "https://x.googleapis.com",
    "T_AT": "1795352400",
    "T_KEY": "ya29.t",
}
MINE = {"T_URL": "https://corp.example/v1", "T_GONE": "here", "T_KEY": "sk-mine"}


@pytest.mark.parametrize("name", POSIX)
@pytest.mark.parametrize("load", LOADS, ids=["quoted", "unquoted"])
@pytest.mark.parametrize("fixed", ["T_URL", "T_GONE", "T_AT", "T_KEY"])
def test_read_only_variable(name: str, load: str, fixed: str, tmp_path: Path) -> None:
    """Nothing is set or unset beside it, no shell ends because of it, and both shell and program say so."""
    lines = f"readonly {fixed}\n{load} && echo went on || echo failed\nDUMP\n"
    done = Place(tmp_path, BESIDE).run(SHELLS[name], lines, MINE)
    said, found = done.stdout.splitlines()
    assert (said, json.loads(found)) == ("failed", MINE)
    assert fixed in done.stderr.splitlines()[0]
    assert [line.partition(": ")[2] for line in done.stderr.splitlines()[1:]] == [
        "error: nothing is set: a variable of those to set is read-only in this shell",
        "hint: take readonly from the variable that the shell names above, or use: vertex-env run -- CMD",
    ]


@pytest.mark.parametrize("load", LOADS, ids=["quoted", "unquoted"])
@pytest.mark.parametrize("order", [1, -1], ids=["key last", "key first"])
def test_read_only_variable_without_the_trial(load: str, order: int, tmp_path: Path) -> None:
    """The control: statements alone leave the token beside the other host in bash, in any order."""
    place = Place(tmp_path, {})
    statements = [f"export {name}='{value}';\n" for name, value in BESIDE.items() if value]
    (tmp_path / "vertex-env.sh").write_text("".join(statements[::order]))
    done = place.run(Shell("bash", (), "sh"), f"readonly T_URL\n{load}\nDUMP\n", MINE)
    assert json.loads(done.stdout)["T_URL"] == "https://corp.example/v1"
    assert json.loads(done.stdout)["T_KEY"] == "ya29.t"


ATTRIBUTES = {
    **{f"{name}, array": (name, "T_URL=(https://corp.example/v1 x)") for name in ("bash", "zsh")},
    **{f"{name}, integer": (name, "typeset -i T_URL") for name in ("bash", "ksh", "mksh", "zsh")},
    **{f"{name}, width": (name, "typeset -L5 T_URL") for name in ("ksh", "mksh", "zsh")},
    "ksh, associative array": ("ksh", "typeset -A T_URL"),
}


@pytest.mark.parametrize(("name", "line"), ATTRIBUTES.values(), ids=ATTRIBUTES.keys())
def test_attributes_of_a_variable(name: str, line: str, tmp_path: Path) -> None:
    """A child gets the URL beside the token, whatever the shell's variable was declared as."""
    lines = f"unset T_URL\n{line}\n{LOADS[0]}\nDUMP\n"
    done = Place(tmp_path, BESIDE).run(SHELLS[name], lines, MINE)
    assert json.loads(done.stdout) == {n: value for n, value in BESIDE.items() if value}


@pytest.mark.parametrize(
    ("name", "line"), [ATTRIBUTES["bash, array"], ATTRIBUTES["ksh, width"]], ids=["bash", "ksh"]
)
def test_attributes_that_stay(name: str, line: str, tmp_path: Path) -> None:
    """The control: without the unset in front, the token goes to a child without its URL."""
    place = Place(tmp_path, {})
    (tmp_path / "vertex-env.sh").write_text(
        "".join(f"export {n}='{v}';\n" for n, v in BESIDE.items() if v)
    )
    found = json.loads(
        place.run(SHELLS[name], f"unset T_URL\n{line}\n{LOADS[0]}\nDUMP\n", MINE).stdout
    )
    assert found["T_KEY"] == "ya29.t"
    assert found.get("T_URL") != BESIDE["T_URL"]


@pytest.mark.parametrize("scope", ["-lx", "-fx", "-l"])
def test_local_variable_of_fish(scope: str, tmp_path: Path) -> None:
    """It does not cover the URL; the control: without the line in front, it does."""
    lines = f"function f; set {scope} T_URL https://corp.example/v1; {TEXT_FORMATS['fish'].use}; DUMP; end; f"
    place = Place(tmp_path, BESIDE)
    assert json.loads(place.run(SHELLS["fish"], lines, {}).stdout)["T_URL"] == BESIDE["T_URL"]
    text = tmp_path / "vertex-env.fish"
    text.write_text(text.read_text().partition("\n")[2])
    leaked = json.loads(place.run(SHELLS["fish"], lines, {}).stdout)
    assert leaked["T_KEY"] == "ya29.t"
    assert leaked.get("T_URL") != BESIDE["T_URL"]


@pytest.mark.parametrize(
    ("order", "leaks"), [(1, False), (-1, True)], ids=["key last", "key first"]
)
def test_order_where_a_shell_stops_half_way(order: int, leaks: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Zsh at a prompt stops at the first that fails: what the order alone is for, and the control."""
    statements = [f"export {name}='{value}';\n" for name, value in BESIDE.items() if value]
    lines = f'readonly T_URL\neval "$(cat {tmp_path}/text)"\necho "<$T_KEY>"\n'
    (tmp_path / "text").write_text("".join(statements[::order]))
    done = subprocess.run(
        [need("zsh"), "-f", "-i"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **MINE},
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ("<ya29.t>" if leaks else "<sk-mine>") in done.stdout


# --- from the environment on ---


def test_export_as_a_shell_sees_it(tmp_path: Path) -> None:
    """The whole way, from token and target to a child of a shell."""
    target = Target("my-project-123", "global", "https://aiplatform.googleapis.com")
    env = environment(
        target,
        token(),
        clients=["goose"],
        extra={"T_URL": "{host}/{path}", "T_ODD": "it's {location}"},
    )
    show = "echo $OPENAI_BASE_URL $OPENAI_BASE_PATH ${OPENAI_ORG_ID-unset}"
    load = f"{TEXT_FORMATS['sh'].use}\n{show}\nDUMP\n"
    done = Place(tmp_path, env).run(SHELLS["dash"], load, {"OPENAI_ORG_ID": "org"})
    path = "v1/projects/my-project-123/locations/global/endpoints/openapi"
    first, second = done.stdout.splitlines()
    assert first == f"https://aiplatform.googleapis.com/{path} {path}/chat/completions unset"
    assert json.loads(second) == {
        "T_URL": f"https://aiplatform.googleapis.com/{path}",
        "T_ODD": "it's global",
    }


@pytest.mark.parametrize("name", [name for name, row in TEXT_FORMATS.items() if row.use])
def test_how_to_use_names_the_command(name: str) -> None:
    """The line that users are told calls export, with a format where it is not the default's."""
    assert re.search(r"vertex-env export( --format (?!sh)[a-z]+)?[^a-z-]*", TEXT_FORMATS[name].use)
    assert name in {shell.format for shell in SHELLS.values()} | {"pwsh", "tcsh"}
