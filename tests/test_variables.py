"""The variables that are set and unset, and the templates behind further names."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.fakes import PLANTED, token
from vertex_env.errors import SettingsError
from vertex_env.target import Target
from vertex_env.tokens import Token
from vertex_env.variables import CLIENTS, CONFLICTS, PLACEHOLDERS, check_template, conflicts, environment

URL = "https://aiplatform.googleapis.com/v1/projects/my-project-123/locations/global/endpoints/openapi"
TARGET = Target("my-project-123", "global", "https://aiplatform.googleapis.com")
VERBATIM = Target("", "global", "https://x.googleapis.com", verbatim="https://x.googleapis.com:443/a/b")
BASE: Mapping[str, str | None] = {
    "OPENAI_API_KEY": PLANTED,
    "OPENAI_BASE_URL": URL,
    "OPENAI_API_BASE": URL,
    "VERTEX_ENV_EXPIRES_AT": "1795352400",
    "VERTEX_ENV_REFRESH_AT": "1795352175",
}


def test_what_is_set_and_in_which_order() -> None:
    """Without options: key, both names of the base URL, and the two instants as epoch seconds."""
    assert list(environment(TARGET, token()).items()) == list(BASE.items())


def test_instants_are_whole_seconds() -> None:
    """Hooks compare the instants as text, so that a fraction is cut off, towards the earlier second."""
    expiry = datetime.fromtimestamp(1795352400.999, UTC)
    result = environment(TARGET, Token("t", expiry=expiry, issued=datetime.fromtimestamp(1795348800.999, UTC)))
    assert (result["VERTEX_ENV_EXPIRES_AT"], result["VERTEX_ENV_REFRESH_AT"]) == ("1795352400", "1795352175")


def test_model() -> None:
    """The model has a variable of its own."""
    result = environment(TARGET, token(), model="google/gemini-2.5-flash")
    assert result == {**BASE, "OPENAI_MODEL": "google/gemini-2.5-flash"}


def test_verbatim_base_url() -> None:
    """A base URL that the user gave is what both names get."""
    result = environment(VERBATIM, token())
    assert result["OPENAI_BASE_URL"] == result["OPENAI_API_BASE"] == "https://x.googleapis.com:443/a/b"


# --- what contradicts ---


@pytest.mark.parametrize("name", ["OPENAI_ORG_ID", "OPENAI_ORGANIZATION", "OPENAI_PROJECT_ID", "OPENAI_API_TYPE"])
def test_conflicting_variable_is_unset(name: str) -> None:
    """What clients would send to Google is unset, even if it is empty, and only where it is set."""
    assert environment(TARGET, token(), environ={name: ""}) == {**BASE, name: None}
    assert environment(TARGET, token(), environ={f"{name}_": "x", name.lower(): "x"}) == BASE


def test_conflicts_are_named_in_order() -> None:
    """Names are reported as they stand in the table, the headers last."""
    environ = {"OPENAI_CUSTOM_HEADERS": "Authorization: x", **dict.fromkeys(reversed(CONFLICTS), "x"), "PATH": "/bin"}
    assert conflicts(environ) == [*CONFLICTS, "OPENAI_CUSTOM_HEADERS"]


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
        ("", False),
    ],
)
def test_custom_headers(headers: str, unset: bool) -> None:  # noqa: FBT001
    """Headers that carry Authorization would override the token and are unset; others are the user's own."""
    result = environment(TARGET, token(), environ={"OPENAI_CUSTOM_HEADERS": headers})
    assert result == ({**BASE, "OPENAI_CUSTOM_HEADERS": None} if unset else BASE)


def test_old_values_do_not_matter() -> None:
    """What the environment has under our own names is never read, so that a stale token poisons nothing."""
    stale = dict.fromkeys(BASE, "stale")
    assert environment(TARGET, token(), environ=stale) == BASE


# --- clients ---

PATH = "v1/projects/my-project-123/locations/global/endpoints/openapi"
HOST = "https://aiplatform.googleapis.com"
ADDED: Mapping[str, Mapping[str, str | None]] = {
    "aider": {"AIDER_OPENAI_API_KEY": PLANTED, "AIDER_OPENAI_API_BASE": URL},
    "anything-llm": {"GENERIC_OPEN_AI_API_KEY": PLANTED, "GENERIC_OPEN_AI_BASE_PATH": URL},
    "fabric": {"OPENAI_API_BASE_URL": URL},
    "goose": {"OPENAI_HOST": HOST, "OPENAI_BASE_PATH": f"{PATH}/chat/completions"},
    "open-webui": {"OPENAI_API_BASE_URL": URL, "OPENAI_API_BASE_URLS": None, "OPENAI_API_KEYS": None},
    "promptfoo": {"OPENAI_API_BASE_URL": URL, "OPENAI_API_HOST": None},
    "shell-gpt": {"API_BASE_URL": URL},
}


def test_every_client_is_tested() -> None:
    """The table here has every client of the table there."""
    assert ADDED.keys() == CLIENTS.keys()


@pytest.mark.parametrize("client", ADDED)
def test_client(client: str) -> None:
    """A client's names are added, and those that would win over them are unset where they are set."""
    wanted = ADDED[client]
    assert environment(TARGET, token(), clients=[client]) == {**BASE, **{n: v for n, v in wanted.items() if v}}
    crowded = dict.fromkeys(wanted, "old")
    assert environment(TARGET, token(), clients=[client], environ=crowded) == {**BASE, **wanted}


@pytest.mark.parametrize("clients", [list(ADDED), list(ADDED)[::-1], [*ADDED, *ADDED]], ids=["all", "back", "twice"])
def test_all_clients_together(clients: list[str]) -> None:
    """No client takes away what another one needs, in any order."""
    wanted = {name: value for names in ADDED.values() for name, value in names.items()}
    result = environment(TARGET, token(), clients=clients, environ=dict.fromkeys(wanted, "old"))
    assert result == {**BASE, **wanted}


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
        extra={"OPENAI_BASE_URL": "x", "OPENAI_API_BASE_URLS": "{base_url}", "OPENAI_ORG_ID": "org"},
        environ={"OPENAI_API_BASE_URLS": "old", "OPENAI_ORG_ID": "old"},
    )
    assert result == {
        **BASE,
        "OPENAI_BASE_URL": "x",
        "OPENAI_API_BASE_URL": URL,
        "OPENAI_API_BASE_URLS": URL,
        "OPENAI_ORG_ID": "org",
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


@pytest.mark.parametrize(
    ("target", "template", "option", "example"),
    [
        (TARGET, "{model}", "model", "google/gemini-2.5-flash"),
        (VERBATIM, "x{project}", "project", "my-project-123"),
    ],
)
def test_template_that_needs_what_is_not_set(target: Target, template: str, option: str, example: str) -> None:
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
    with pytest.raises(SettingsError, match="the value for OPENAI_API_KEY has a control character") as e:
        environment(TARGET, token(value=value))
    assert value not in e.value.message + e.value.hint


TEMPLATES = st.lists(
    st.sampled_from([*(f"{{{p}}}" for p in PLACEHOLDERS), "{{", "}}", "{", "}", "!", ":", ".", "[0]", "\n"]) | st.text()
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
    values = dict(zip(PLACEHOLDERS, [PLANTED, URL, "my-project-123", "global", "m", HOST, PATH], strict=True))
    result = environment(TARGET, token(), model="m", extra={name: template})
    assert result[name] == template.format(**values)
    assert re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name)
    assert not re.search("[\x00-\x1f\x7f]", result[name] or "")
