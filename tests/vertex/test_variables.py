"""The variables that are set and unset, and the templates behind further names."""

import os
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.support.fakes import PLANTED, token
from tests.support.tools import need
from vertex_env.cache.answers import is_kept
from vertex_env.errors import SettingsError
from vertex_env.formats.render import sh
from vertex_env.tokens.token import Token
from vertex_env.vertex.reserved import ACTED_ON, acted_on_by
from vertex_env.vertex.target import Target
from vertex_env.vertex.variables import (
    CLIENTS,
    JUDGED,
    PLACEHOLDERS,
    REDIRECTS,
    SETTABLE,
    SHARED,
    TRACING,
    UNSETTABLE,
    check_template,
    environment,
    to_unset,
)

URL = "https://aiplatform.googleapis.com/v1/projects/my-project-123/locations/global/endpoints/openapi"
TARGET = Target("my-project-123", "global", "https://aiplatform.googleapis.com")
VERBATIM = Target(
    "", "global", "https://x.googleapis.com", verbatim="https://x.googleapis.com:443/a/b"
)
UNSET: Mapping[str, str | None] = dict.fromkeys(
    (
        *("OPENAI_ORG_ID", "OPENAI_ORGANIZATION", "OPENAI_PROJECT_ID", "OPENAI_API_TYPE"),
        *("OPENAI_API_BASE_URL", "OPENAI_API_BASE_URLS", "OPENAI_API_HOST", "OPENAI_API_KEYS"),
        *("OPENAI_BASE_PATH", "OPENAI_HOST", "OPENAI_CUSTOM_HEADERS"),
        *("AIDER_OPENAI_API_BASE", "GENERIC_OPEN_AI_BASE_PATH", "API_BASE_URL"),
    )
)
BASE: Mapping[str, str | None] = {
    **UNSET,
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OPENAI_BASE_URL": URL,
    "OPENAI_API_BASE": URL,
    "VERTEX_ENV_EXPIRES_AT": "1795352400",
    "VERTEX_ENV_REFRESH_AT": "1795352175",
    "OPENAI_API_KEY": PLANTED,
}


def test_what_is_set_and_in_which_order() -> None:
    """What is unset, the switch of tracing, both names of the base URL, the instants, and the key."""
    assert list(environment(TARGET, token()).items()) == list(BASE.items())


def test_the_token_comes_last() -> None:
    """Whatever carries a host, the user's own names included, is before whatever carries the token."""
    extra = {"A_KEY": "Bearer {token}", "A_URL": "{base_url}"}
    result = environment(TARGET, token(), model="m", clients=[*CLIENTS], extra=extra)
    first_key = next(n for n, value in result.items() if PLANTED in (value or ""))
    names, unset = list(result), [n for n, value in result.items() if value is None]
    assert names[-1] == "OPENAI_API_KEY"
    after = names[names.index(first_key) :]
    assert {"A_KEY", "AIDER_OPENAI_API_KEY", "GENERIC_OPEN_AI_API_KEY", "OPENAI_API_KEY"} == set(
        after
    )
    before = names[: names.index("VERTEX_ENV_EXPIRES_AT")]
    hosts = [name for name, value in result.items() if value and "googleapis" in value]
    assert {"A_URL", "API_BASE_URL", "OPENAI_BASE_URL"} <= set(hosts) <= set(before)
    assert names[: len(unset)] == unset != []


def test_instants_are_whole_seconds() -> None:
    """Hooks compare the instants as text, so that a fraction is cut off, towards the earlier second."""
    expiry = datetime.fromtimestamp(1795352400.999, UTC)
    result = environment(
        TARGET, Token("t", expiry=expiry, issued=datetime.fromtimestamp(1795348800.999, UTC))
    )
    assert (result["VERTEX_ENV_EXPIRES_AT"], result["VERTEX_ENV_REFRESH_AT"]) == (
        "1795352400",
        "1795352175",
    )


def test_model() -> None:
    """The model has a variable of its own."""
    result = environment(TARGET, token(), model="google/gemini-2.5-flash")
    assert result == {**BASE, "OPENAI_MODEL": "google/gemini-2.5-flash"}


def test_verbatim_base_url() -> None:
    """A base URL that the user gave is what both names get."""
    result = environment(VERBATIM, token())
    assert (
        result["OPENAI_BASE_URL"] == result["OPENAI_API_BASE"] == "https://x.googleapis.com:443/a/b"
    )


# --- what contradicts ---


def test_what_is_unset_does_not_depend_on_what_is_set() -> None:
    """A shell in which they are gone already gets the same text as the one before."""
    assert to_unset([], {}, []) == list(UNSET)


def test_every_name_of_openais_that_redirects_a_client_is_unset() -> None:
    """The table of clients says which: a new row there needs no second one."""
    for names in CLIENTS.values():
        for name in names:
            if name.startswith("OPENAI_") and name != "OPENAI_API_KEY":
                assert name in REDIRECTS
                assert environment(TARGET, token())[name] is None
            elif name.endswith(("URL", "BASE", "PATH", "HOST")):
                assert name in SHARED


def test_tables_of_names_are_complete() -> None:
    """With every client, nothing is set or unset that the tables for the hooks do not have."""
    for clients in ([], [*CLIENTS]):
        result = environment(TARGET, token(), model="m", clients=clients)
        assert {n for n, value in result.items() if value is not None} <= set(SETTABLE)
        assert {n for n, value in result.items() if value is None} <= set(UNSETTABLE)
    everything = {*environment(TARGET, token(), model="m", clients=[*CLIENTS]), "VERTEX_ENV_STAMP"}
    assert set(SETTABLE) <= everything
    assert {name for name in SETTABLE if acted_on_by(name)} <= {
        n for n in SETTABLE if n.startswith("VERTEX_ENV_")
    }
    assert list(SETTABLE) == sorted(SETTABLE)
    assert list(UNSETTABLE) == sorted(UNSETTABLE)


@pytest.mark.parametrize("name", JUDGED)
def test_value_of_the_users_own_is_kept(name: str) -> None:
    """It is neither set nor unset."""
    wanted = {n: value for n, value in BASE.items() if n != name}
    assert environment(TARGET, token(), kept=[name]) == wanted


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("", False),
        ("1", False),
        ("0", True),
        ("false", True),
        ("true", True),
        (" 1", True),
        ("2", True),
    ],
)
def test_tracing(value: str, kept: bool) -> None:  # noqa: FBT001
    """Unset, empty and 1 are one state; whatever else the user has said stands."""
    assert is_kept(JUDGED[TRACING], value) is kept


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("https://api.openai.com/v1", False),
        ("api.openai.com", False),
        ("api.openai.com:443/v1", False),
        ("HTTPS://API.OPENAI.COM./v1?x#y", False),
        ("https://me:pw@eu.api.openai.com:443", False),
        (" https://api.openai.com?x", False),
        ("https://api.openai.com\\@corp.example", False),
        ("", False),
        ("https://api.openai.com@corp.example/v1", True),
        ("https://corp.example/api.openai.com", True),
        ("https://corp.example/?u=https://api.openai.com", True),
        ("https://api.openai.com.corp.example/", True),
        ("https://notopenai.com/", True),
        ("http://localhost:8000/api", True),
        ("default", True),
    ],
)
def test_shared_names(value: str, kept: bool) -> None:  # noqa: FBT001
    """Another program's back end is left alone; OpenAI's host is not."""
    assert {JUDGED[name] for name in SHARED} == {"url"}
    assert is_kept("url", value) is kept


@pytest.mark.parametrize(
    ("headers", "unset"),
    [
        ("Authorization: Bearer sk-1", True),
        ("authorization:x", True),
        ("AUTHORIZATION : x", True),
        ("\tAuthorization: x", True),
        ("X-Goog-User-Project: p\nAuthorization: Bearer x", True),
        ("X-Goog-User-Project: p\r\nAuthorization: Bearer x\r\n", True),
        ("X-A: b\n\n  authorization:", True),
        ("X-Goog-User-Project: p", False),
        ("X-Authorization: x", False),
        ("Authorization-Info: x", False),
        ("X-Note: Authorization: x", False),
        ("Proxy-Authorization: x", False),
        ("", True),
    ],
)
def test_custom_headers(headers: str, unset: bool) -> None:  # noqa: FBT001
    """Headers that carry Authorization would override the token and are unset; others are the user's own."""
    assert is_kept(JUDGED["OPENAI_CUSTOM_HEADERS"], headers) is not unset


# --- clients ---

PATH = "v1/projects/my-project-123/locations/global/endpoints/openapi"
HOST = "https://aiplatform.googleapis.com"
ADDED: Mapping[str, Mapping[str, str | None]] = {
    "aider": {"AIDER_OPENAI_API_KEY": PLANTED, "AIDER_OPENAI_API_BASE": URL},
    "anything-llm": {"GENERIC_OPEN_AI_API_KEY": PLANTED, "GENERIC_OPEN_AI_BASE_PATH": URL},
    "fabric": {"OPENAI_API_BASE_URL": URL},
    "gptme": {},
    "goose": {"OPENAI_HOST": HOST, "OPENAI_BASE_PATH": f"{PATH}/chat/completions"},
    "open-webui": {
        "OPENAI_API_BASE_URL": URL,
        "OPENAI_API_BASE_URLS": None,
        "OPENAI_API_KEYS": None,
    },
    "promptfoo": {"OPENAI_API_BASE_URL": URL, "OPENAI_API_HOST": None},
    "shell-gpt": {"API_BASE_URL": URL},
}


MODEL_OF: Mapping[str, Mapping[str, str]] = {
    "aider": {"AIDER_MODEL": "openai/google/gemini-2.5-flash"},
    "gptme": {"MODEL": "local/google/gemini-2.5-flash"},
    "shell-gpt": {"DEFAULT_MODEL": "google/gemini-2.5-flash"},
}


def test_every_client_is_tested() -> None:
    """The table here has every client of the table there."""
    assert ADDED.keys() == CLIENTS.keys()


@pytest.mark.parametrize("client", [name for name in ADDED if name != "gptme"])
def test_client(client: str) -> None:
    """A client's names are added, and those that would win over them are unset; there is no model."""
    assert environment(TARGET, token(), clients=[client]) == {**BASE, **ADDED[client]}


@pytest.mark.parametrize("client", ADDED)
def test_client_with_a_model(client: str) -> None:
    """The name that the tool takes its model from gets it, in the tool's own spelling."""
    model = "google/gemini-2.5-flash"
    given = environment(TARGET, token(), clients=[client], model=model)
    assert given == {**BASE, **ADDED[client], **MODEL_OF.get(client, {}), "OPENAI_MODEL": model}


def test_a_client_that_takes_nothing_but_a_model() -> None:
    """Without one nothing would be set for it, and it would ask for a model of its own."""
    with pytest.raises(SettingsError) as e:
        environment(TARGET, token(), clients=["gptme"])
    assert "client gptme needs a model" in e.value.message
    assert "--model" in e.value.hint


def test_no_model_of_a_client_is_ever_unset() -> None:
    """MODEL may be another program's: it is set if asked for, and left alone otherwise."""
    names = {name for models in MODEL_OF.values() for name in models}
    assert names == {"AIDER_MODEL", "DEFAULT_MODEL", "MODEL"}
    assert not names & {*UNSETTABLE, *JUDGED}


@pytest.mark.parametrize(
    "clients", [list(ADDED), list(ADDED)[::-1], [*ADDED, *ADDED]], ids=["all", "back", "twice"]
)
def test_all_clients_together(clients: list[str]) -> None:
    """No client takes away what another one needs, in any order."""
    wanted = {
        name: value
        for names in (*ADDED.values(), *MODEL_OF.values())
        for name, value in names.items()
    }
    model = "google/gemini-2.5-flash"
    result = environment(TARGET, token(), clients=clients, model=model)
    assert result == {**BASE, **wanted, "OPENAI_MODEL": model}


# --- templates ---


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{base_url}/chat/completions", f"{URL}/chat/completions"),
        ("Bearer {token}", f"Bearer {PLANTED}"),
        ("{project}@{location}", "my-project-123@global"),
        ("{model}", "google/gemini-2.5-flash"),
        ("{host}", HOST),
        ("{host}/{path}", URL),
        ("/{path}/", f"/{PATH}/"),
        ("{{}}", "{}"),
        ("{{token}}", "{token}"),
        ('{{"url": "{base_url}"}}', f'{{"url": "{URL}"}}'),
        ("{token:}", PLANTED),
        ("", ""),
        ("$HOME `id` 'x' \\n é", "$HOME `id` 'x' \\n é"),
        ("%s {host} %d", f"%s {HOST} %d"),
    ],
)
def test_template(template: str, value: str) -> None:
    """Placeholders are filled in, doubled braces are braces, the rest is taken as it is."""
    check_template("X", template)
    result = environment(TARGET, token(), model="google/gemini-2.5-flash", extra={"X": template})
    assert result == {**BASE, "OPENAI_MODEL": "google/gemini-2.5-flash", "X": value}


def test_template_for_a_verbatim_base_url() -> None:
    """Host and path come from the base URL, however it was made."""
    result = environment(VERBATIM, token(), extra={"HOST": "{host}", "URL_PATH": "{path}"})
    assert (result["HOST"], result["URL_PATH"]) == ("https://x.googleapis.com:443", "a/b")


def test_template_wins() -> None:
    """What the user sets stands, against our own names, a client's, and what would be unset."""
    result = environment(
        TARGET,
        token(),
        clients=["open-webui"],
        extra={
            "OPENAI_BASE_URL": "x",
            "OPENAI_API_BASE_URLS": "{base_url}",
            "OPENAI_ORG_ID": "org",
            TRACING: "0",
        },
    )
    assert result == {
        **BASE,
        "OPENAI_BASE_URL": "x",
        "OPENAI_API_BASE_URL": URL,
        "OPENAI_API_BASE_URLS": URL,
        "OPENAI_ORG_ID": "org",
        TRACING: "0",
    }


def test_values_are_not_templates() -> None:
    """Braces in a value that is filled in are not filled in again."""
    result = environment(TARGET, token(value="{host}{{"), extra={"X": "{token}"})
    assert result["X"] == "{host}{{"


BAD_TEMPLATES = {
    "conversion": "{token!r}",
    "format": "{token:>99}",
    "nested format": "{token:{host}}",
    "attribute": "{host.__class__}",
    "index": "{host[0]}",
    "number": "{0}",
    "empty": "{}",
    "unknown": "{secret}",
    "upper case": "{TOKEN}",
    "space": "{ token }",
    "keyword of Python": "{self}",
    "single brace": "{",
    "single closing brace": "}",
    "unclosed": "{token",
    "conversion of nothing": "{token!}",
    "unknown conversion": "{token!x}",
    "line break in the name": "{to\nken}",
    "escape in the name": "{to\x1bken}",
    "line break": "a\nEVIL=1",
    "carriage return": "a\r",
    "tab": "a\tb",
    "NUL": "a\0",
    "escape": "\x1b[31m",
    "delete": "a\x7f",
    "next line": "a\x85",
    "line separator": "a\u2028",
    "a byte that is not UTF-8": "a\udcff",
}


@pytest.mark.parametrize("template", BAD_TEMPLATES.values(), ids=BAD_TEMPLATES.keys())
def test_bad_template_is_refused_early(template: str) -> None:
    """Only bare known names are filled in and only text is set; both are known before a token is minted."""
    with pytest.raises(SettingsError, match="for X") as e:
        check_template("X", template)
    assert e.value.message.isprintable()
    with pytest.raises(SettingsError, match="for X"):
        environment(TARGET, token(), extra={"X": template})


BAD_NAMES = [
    "",
    "1X",
    "A B",
    "A-B",
    "A.B",
    "A;id",
    "A$(id)",
    "A\n",
    "\nA",
    "A'",
    "É",
    "A\u0661",
    "A=B",
    "a/b",
    "A\0",
    "{token}",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_name_is_refused(name: str) -> None:
    """Only what every shell takes for a name becomes one, even for a caller that has not checked it."""
    with pytest.raises(SettingsError, match="is not a name for a variable") as e:
        check_template(name, "x")
    assert e.value.message.isprintable()
    with pytest.raises(SettingsError, match="is not a name for a variable"):
        environment(TARGET, token(), extra={name: "x"})


REFUSED = """
PATH path Path LD_PRELOAD LD_LIBRARY_PATH DYLD_INSERT_LIBRARIES PS0 PS1 PS2 PS3 PS4 PROMPT PROMPT_COMMAND
BASH_ENV BASH_FUNC_x ENV IFS FPATH fpath CDPATH cdpath ZDOTDIR READNULLCMD NULLCMD SHELLOPTS BASHOPTS
fish_function_path fish_user_paths PYTHONSTARTUP PYTHONPATH PYTHONINSPECT NODE_OPTIONS NODE_PATH PERL5OPT
PERL5LIB PERL5DB RUBYOPT RUBYLIB GIT_SSH_COMMAND GIT_EXTERNAL_DIFF LESSOPEN LESSCLOSE EDITOR VISUAL PAGER
BROWSER SHELL HOME TERMINFO JAVA_TOOL_OPTIONS PSModulePath PATHEXT ComSpec NU_LIB_DIRS DIRENV_DIFF
precmd_functions VERTEX_ENV_ALLOW_HOST _VERTEX_ENV_START GCONV_PATH npm_config_script_shell
ELIXIR_ERL_OPTIONS IPYTHONDIR
"""


@pytest.mark.parametrize("name", REFUSED.split())
def test_name_that_something_acts_on_is_refused(name: str) -> None:
    """A profile that somebody else wrote gets no shell, loader or interpreter to run a program."""
    with pytest.raises(
        SettingsError, match=f"--set does not set {name}, whose value is read by .*"
    ) as e:
        check_template(name, "x")
    assert e.value.hint
    with pytest.raises(SettingsError, match="whose value is read by"):
        environment(TARGET, token(), extra={name: "x"})


HARMLESS = """
APP_ENV NODE_ENV ENVIRONMENT LLM_URL MODEL pythonpath PYTHOX node_options GITHUB_TOKEN HTTP_HOST PATHS
MY_PATH LLM_PS1 GOOGLE_CLOUD_PROJECT X ANTHROPIC_BASE_URL OPENAI_API_BASE_URLS OPENAI_ORG_ID URL HOST PORT
"""


@pytest.mark.parametrize("name", HARMLESS.split())
def test_harmless_name_is_not_refused(name: str) -> None:
    """Only the exact name, in its case, or one that begins so."""
    check_template(name, "x")


KNOWN_TO_SHELLS = {
    "zsh": (
        "-fic",
        "zmodload zsh/zle zsh/parameter zsh/datetime zsh/langinfo zsh/mapfile; print -l ${(k)parameters}",
    ),
    "bash": ("-ic", "compgen -v"),
    "ksh": ("-ic", "set | sed 's/=.*//'"),
    "mksh": ("-ic", "typeset + | sed 's/.* //'"),
    "fish": ("-ic", "set -n"),
}
"""How each shell lists the variables that it knows."""


@pytest.mark.parametrize("shell", KNOWN_TO_SHELLS)
def test_what_a_shell_knows_is_refused(shell: str, tmp_path: Path) -> None:
    """Each variable that it has by itself; zsh computes the values of some: `HISTSIZE='a[$(id)]'` runs id."""
    argv = [need(shell), *KNOWN_TO_SHELLS[shell]]
    environ = {"HOME": str(tmp_path), "PATH": os.defpath, "TERM": "dumb"}
    done = subprocess.run(
        argv,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    names = [name for name in done.stdout.split() if re.fullmatch(r"[A-Za-z_]\w*", name)]
    assert {"PATH", "PWD"} <= set(names)
    # What it has told of the machine in HOST, zsh does not read again.
    assert [name for name in names if not acted_on_by(name) and name != "HOST"] == []


def test_zsh_would_compute_the_value(tmp_path: Path) -> None:
    """The control: such a name in the statements, which `--set` refuses, has zsh run a command."""
    evil = "path[$(touch ran)]"
    with pytest.raises(SettingsError, match="whose value is read by a shell"):
        check_template("HISTSIZE", evil)
    for name, ran in (("X_URL", False), ("HISTSIZE", True)):
        subprocess.run(
            [need("zsh"), "-fc", sh({name: evil})], cwd=tmp_path, capture_output=True, check=False
        )
        assert (tmp_path / "ran").exists() == ran


def test_refused_names_are_written_as_the_check_reads_them() -> None:
    """Names of variables, with at most one `*`, which is at the end; none is there twice."""
    names = [name for names in ACTED_ON.values() for name in names.split()]
    assert [name for name in names if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\*?", name)] == []
    assert len(names) == len(set(names))
    assert all(acted_on_by(name.replace("*", "x")) for name in names)


@pytest.mark.parametrize(
    ("target", "template", "option", "example"),
    [
        (TARGET, "{model}", "model", "google/gemini-2.5-flash"),
        (VERBATIM, "x{project}", "project", "my-project-123"),
    ],
)
def test_template_that_needs_what_is_not_set(
    target: Target, template: str, option: str, example: str
) -> None:
    """A template for something that is not set is refused, rather than filled with nothing."""
    with pytest.raises(SettingsError, match=f"the template for X needs a {option}") as e:
        environment(target, token(), extra={"X": template})
    assert e.value.hint == f"add --{option}, for example --{option} {example}"


PLACES = "placeholders are {token}, {base_url}, {project}, {location}, {model}, {host}, {path}"


@pytest.mark.parametrize(
    ("name", "template", "message", "hint"),
    [
        (
            "A-B",
            "x",
            "'A-B' is not a name for a variable",
            "give --set NAME=TEMPLATE, for example --set LLM_URL={base_url}/chat/completions",
        ),
        (
            "X",
            "{tokn}",
            "the template for X has an unknown placeholder: 'tokn'",
            f"{PLACES}; write {{{{ and }}}} for braces",
        ),
        (
            "X",
            "}",
            "the template for X is malformed: Single '}' encountered in format string",
            f"{PLACES}; write {{{{ and }}}} for braces",
        ),
        (
            "X",
            "a\nb",
            "the value for X has a control character, or a byte that is not UTF-8",
            "leave line breaks and control characters out",
        ),
    ],
    ids=["name", "placeholder", "malformed", "control character"],
)
def test_what_is_said_of_a_bad_template(name: str, template: str, message: str, hint: str) -> None:
    """The message names the variable and what is wrong, the hint what would be right."""
    with pytest.raises(SettingsError) as e:
        check_template(name, template)
    assert (e.value.message, e.value.hint) == (message, hint)


@pytest.mark.parametrize("value", ["a\nb", "a\0b", "a\x1bb", "a\u2029b"])
def test_control_characters_in_the_token_are_refused(value: str) -> None:
    """Whatever minted it, a token with a line break reaches no shell, and the message does not show it."""
    with pytest.raises(
        SettingsError, match="the value for OPENAI_API_KEY has a control character"
    ) as e:
        environment(TARGET, token(value=value))
    assert value not in e.value.message + e.value.hint


TEMPLATES = st.lists(
    st.sampled_from(
        [*(f"{{{p}}}" for p in PLACEHOLDERS), "{{", "}}", "{", "}", "!", ":", ".", "[0]", "\n"]
    )
    | st.text()
).map("".join)


@given(name=st.sampled_from(["X", "", "X Y"]) | st.text(max_size=3), template=TEMPLATES)
@examples(deadline=None, max_examples=500)
def test_templates_agree_with_their_check(name: str, template: str) -> None:
    """What the check lets pass can be filled, to printable text under a plain name; what it refuses cannot."""
    try:
        check_template(name, template)
    except SettingsError:
        with pytest.raises(SettingsError):
            environment(TARGET, token(), model="m", extra={name: template})
        return
    values = dict(
        zip(PLACEHOLDERS, [PLANTED, URL, "my-project-123", "global", "m", HOST, PATH], strict=True)
    )
    result = environment(TARGET, token(), model="m", extra={name: template})
    assert result[name] == template.format(**values)
    assert re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name)
    assert not re.search("[\x00-\x1f\x7f]", result[name] or "")
