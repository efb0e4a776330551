"""What a server repeats, and what a program that reports errors sends: no secret, in whatever spelling."""

import base64
import copy
import html
import json
import pickle
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import openai
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import vertex_env
from tests import google
from tests.answers import Answers, Handler, Reply
from tests.google import GoogleProxy, Info, clean_environ, run_cli, write_adc
from vertex_env import api, redaction
from vertex_env.errors import ChildError, SettingsError, VertexEnvError
from vertex_env.helper import HelperError, ask_helper
from vertex_env.redaction import Secrets, hide, looks_secret
from vertex_env.sandbox import Sandbox

OURS = str(Path(vertex_env.__file__).parent)


def shifted(text: str, by: int, encode: Callable[[bytes], bytes] = base64.b64encode) -> str:
    """*text* in base64 after *by* other bytes, and before some."""
    return encode(b"id:"[:by] + text.encode() + b"; end").decode()


SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "raw": str,
    "URL": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "lower-case URL": lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text, safe="")),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON with escaped slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "HTML": html.escape,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64, later": lambda text: shifted(text, 1),
    "base64, still later": lambda text: shifted(text, 2),
    "URL's base64": lambda text: shifted(text, 1, base64.urlsafe_b64encode),
    "base64 in a URL": lambda text: quote(shifted(text, 2), safe=""),
}
"""How a server may repeat what it was sent."""

SECRET = 'sEcret/0f+a "kind" no-pattern&knows=?'


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_is_hidden(spelling: str) -> None:
    """By value: nothing in this one looks like a token."""
    spelled, secrets = SPELLINGS[spelling](SECRET), Secrets()
    text = f"Bad: <{spelled}> was sent"
    assert hide(text) == text
    secrets.add(SECRET)
    assert secrets.redact(text) == "Bad: <[hidden]> was sent"


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=8), st.sampled_from(sorted(SPELLINGS)), st.text(), st.text())
@example("\n\n\n\n\n\n\n\n", "raw", "", "")
def test_whatever_the_secret_is(secret: str, spelling: str, before: str, after: str) -> None:
    """Neither it nor its spelling is left, whatever stands around it."""
    secrets = Secrets()
    secrets.add(secret)
    spelled = SPELLINGS[spelling](secret)
    if spelled in redaction.HIDDEN or spelled in before + after:
        return
    result = secrets.redact(f"{before} {spelled} {after}")
    assert spelled not in result.replace(redaction.HIDDEN, "\0")


@pytest.mark.parametrize(
    "text",
    [
        "oauth2.googleapis.com refused the service account credentials of robot@p.iam.gserviceaccount.com in /key.json",
        "run: gcloud iam service-accounts keys create FILE --iam-account=ACCOUNT",
        "https://aiplatform.googleapis.com/v1/projects/my-project-123/locations/global/endpoints/openapi",
        "/tmp/pytest-of-root/pytest-42/test_with_a_long_name_that_has_digits_0123456789/adc.json",
        "task-runner-with-a-long-name and sk-learn-project and heyJude-and-others",
        "~/a1//b//c and 11//3",
    ],
)
def test_words_stay(text: str) -> None:
    """Names and commands can be read."""
    assert hide(text) == text
    assert not looks_secret(text)


def test_secrets_of_a_request_and_its_answer() -> None:
    """What was sent in a form, JSON, a header or a URL; what an answer names a secret, at any depth. Not the rest."""
    secrets = Secrets()
    form = b"grant_type=refresh_token&client_id=my-client-id&refresh_token=form-token&client_secret=form%2Fsecret"
    basic = base64.b64encode(b"my-client-id:basic-secret").decode()
    headers = {"Authorization": f"Basic {basic}", "Accept": "application/json", "x-goog-api-client": "gl-python/3.13"}
    secrets.add_request("https://user:url-password@h.example/x?code=1&api_key=query-key", form, headers)
    signed = {"url": "https://sts", "headers": [{"key": "x-amz-security-token", "value": "aws-session"}]}
    secrets.add_request("https://h/x", f"subject_token={quote_plus(quote(json.dumps(signed)))}", None)
    secrets.add_body(json.dumps([{"a": {"id_token": ["deep-token"], "Assertion": "an-assertion", "scope": "a-scope"}}]))
    secrets.add_body(json.dumps({"accessToken": "camel-token", "tokenType": "not-secret", "secret": {"x": "nested-1"}}))
    secrets.add_body("[" * 100_000)
    secrets.add_environ({"CORP_API_KEY": "env-secret", "MONKEY": "not-secret", "SHORT_TOKEN": "short"})
    hidden = (
        "form-token form/secret basic-secret url-password query-key aws-session deep-token an-assertion camel-token "
        "nested-1 env-secret"
    )
    assert set(secrets.redact(hidden).split()) == {"[hidden]"}
    shown = "refresh_token my-client-id application/json gl-python/3.13 a-scope not-secret short h.example"
    assert secrets.redact(shown) == shown


def test_secrets_do_not_show_themselves() -> None:
    """Not in a repr, a pickle or a copy, alone or in what has them."""
    secrets = Secrets()
    secrets.add(SECRET)
    assert repr([secrets]) == f"[Secrets({len(secrets._values)})]"
    assert b"sEcret" not in pickle.dumps(secrets)
    assert copy.deepcopy(secrets).redact(SECRET) == SECRET


@pytest.mark.parametrize(
    "error", [SettingsError("no ya29.abc", "try AIza0123456789abcdefgh"), ChildError("no ya29.abc", "try", 127)]
)
def test_errors_hide_what_looks_like_a_token(error: VertexEnvError) -> None:
    """Their copies and pickles as well, which are the same otherwise."""
    assert error.message == "no [hidden]"
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (repr(other), vars(other)) == (repr(error), vars(error))
        assert "ya29" not in repr(other) + str(vars(other))


# --- servers that repeat what they were sent ---

REFRESH = "rF3sh0paque/Token+of-no-kind=="
CLIENT = "cL1entPassw0rd~of-no-kind"
SUBJECT = "sUbj3ct:of/no+kind.at-all"


def user(_: Path, __: str) -> Info:
    return google.authorized_user() | {"refresh_token": REFRESH, "client_secret": CLIENT}


def key(_: Path, base: str) -> Info:
    return google.service_account() | {"token_uri": f"{base}/token"}


def pool(folder: Path, base: str) -> Info:
    (folder / "subject").write_text(SUBJECT)
    own = {"client_id": "my-client-id", "client_secret": CLIENT}
    return google.external_account_file(folder / "subject", base) | own


def workforce(_: Path, base: str) -> Info:
    return google.external_account_authorized_user(base) | {"refresh_token": REFRESH, "client_secret": CLIENT}


def impersonated(folder: Path, base: str) -> Info:
    return google.impersonated_service_account(user(folder, base))


KINDS = {"user": user, "key": key, "pool": pool, "workforce": workforce, "impersonated": impersonated}
NAMES = ("refresh_token", "client_secret", "assertion", "subject_token")


def echo(spell: Callable[[str], str], which: int) -> Callable[[Handler], None]:
    """A route that refuses, and repeats the secret no. *which* of the request."""

    def route(handler: Handler) -> None:
        asked = handler.server.asked[-1]
        scheme, _, basic = asked.headers.get("Authorization", "").partition(" ")
        sent = [asked.fields[name] for name in NAMES if name in asked.fields]
        if scheme == "Basic":
            sent += [basic, base64.b64decode(basic).decode().partition(":")[2]]
        # A JWT's last part is what makes it valid, and looks like nothing.
        secret = sent[which % len(sent)]
        secret = secret.rpartition(".")[2] if secret.startswith("eyJ") else secret
        assert isinstance(handler.server, Repeating)
        handler.server.repeated.append(secret)
        handler.send(Reply(400, {"error": "invalid_grant", "error_description": f"Bad <{spell(secret)}> was sent"}))

    return route


class Repeating(Answers):
    """Answers that know what they have repeated."""

    def __init__(self, routes: Mapping[str, Any]) -> None:
        super().__init__(routes)
        self.repeated: list[str] = []


@pytest.fixture(params=KINDS)
def repeat(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, int], tuple[set[str], VertexEnvError]]]:
    """Asks for a token with one kind of credentials; gives parts of what was repeated, and the error."""
    routes: dict[str, Any] = {}
    with Repeating(routes) as answers, GoogleProxy(answers.url, tmp_path / "proxy") as proxy:
        adc = write_adc(tmp_path / "adc.json", KINDS[request.param](tmp_path, answers.url))
        environ = clean_environ(tmp_path / "home") | proxy.environ | {"GOOGLE_APPLICATION_CREDENTIALS": str(adc)}
        for name, value in (environ | {"VERTEX_ENV_PROJECT": "sandbox-project"}).items():
            monkeypatch.setenv(name, value)

        def ask(spelling: str, which: int) -> tuple[set[str], VertexEnvError]:
            api._holders.clear()
            spell = SPELLINGS[spelling]
            answers.routes |= dict.fromkeys(("/token", "/v1/token", "/v1/oauthtoken"), echo(spell, which))
            with pytest.raises(VertexEnvError) as caught:
                vertex_env.token()
            spelled = spell(answers.repeated[-1])
            return {spelled[i : i + 10] for i in range(len(spelled) - 10)}, caught.value

        yield ask
    api._holders.clear()


def leaving(error: BaseException, folder: Path) -> str:
    """All that is left of *error*: in a log, in a report with variables, in other processes, in our files."""
    report = traceback.TracebackException(type(error), error, error.__traceback__, capture_locals=True)
    files = [path for path in (folder / "home").rglob("*") if path.is_file()]
    return "\n".join(
        [str(error), repr(error), repr(vars(error)), repr(pickle.dumps(error)), repr(vars(copy.copy(error)))]
        + list(of_ours(report))
        + [path.read_text(errors="replace") for path in files]
    )


def of_ours(report: traceback.TracebackException | None) -> Iterator[str]:
    """The exception's text and the variables of our frames, of it and of those that it came of."""
    while report is not None:
        yield from report.format_exception_only()
        for frame in report.stack:
            if frame.filename.startswith(OURS):
                yield str(frame.locals)
        report = report.__cause__ or report.__context__


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_a_server_repeats(
    spelling: str, which: int, repeat: Callable[[str, int], tuple[set[str], VertexEnvError]], tmp_path: Path
) -> None:
    """The message says all but that; no part of it is anywhere."""
    parts, error = repeat(spelling, which)
    assert "Bad <[hidden]" in error.message
    left = leaving(error, tmp_path)
    assert ".failure" in "".join(path.name for path in (tmp_path / "home").rglob("*.failure"))
    assert {part for part in parts if part in left} == set()
    assert error.__context__ is None


@pytest.mark.parametrize("spelling", ["raw", "URL", "base64, later"])
def test_without_redaction_it_shows(
    spelling: str,
    repeat: Callable[[str, int], tuple[set[str], VertexEnvError]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control."""
    monkeypatch.setattr(Secrets, "redact", lambda _, text: text)
    monkeypatch.setattr("vertex_env.diagnosis.one_line", lambda text, _=None: text or "")
    parts, error = repeat(spelling, 0)
    left = leaving(error, tmp_path)
    assert {part for part in parts if part in left}


def test_the_program_does_not_repeat_it_either(tmp_path: Path) -> None:
    """End to end, on stderr and in the note for those who wait."""
    with Repeating({"/token": echo(SPELLINGS["base64, later"], 0)}) as answers:
        adc = write_adc(tmp_path / "adc.json", workforce(tmp_path, answers.url))
        answers.routes["/v1/oauthtoken"] = answers.routes["/token"]
        env = clean_environ(tmp_path / "home") | {"GOOGLE_APPLICATION_CREDENTIALS": str(adc)}
        env["GOOGLE_CLOUD_PROJECT"] = "sandbox-project"
        for args in (("token",), ("run", "--", "true")):
            done = run_cli(*args, env=env)
            assert "Bad <[hidden]> was sent" in done.stderr


def test_what_a_helper_of_run_says() -> None:
    """It hides secrets itself; this is for what it says when it breaks down. The rest is passed on."""
    script = "import sys; sys.exit('no ya29.' + 'x' * 20 + ' here')"
    with pytest.raises(HelperError) as caught:
        ask_helper([sys.executable, "-c", script], {})
    assert str(caught.value) == "no [hidden] here\n"


# --- what error trackers send ---


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with Sandbox() as running:
        for name, value in running.environ(str(tmp_path), clean_environ(tmp_path)).items():
            monkeypatch.setenv(name, value)
        api._holders.clear()
        yield running
    api._holders.clear()


FAILING: Mapping[str, Callable[[], object]] = {
    "a setting": lambda: vertex_env.token(project="ya29.pasted-0123456789"),
    "an unknown setting": lambda: vertex_env.token(projcet="ya29.pasted-0123456789"),
    "a template": lambda: vertex_env.environment(set=("X={model}",)),
    "an endpoint": lambda: vertex_env.environment(endpoint="not-there", location="us-central1"),
    "a URL": lambda: vertex_env.base_url(endpoint="not-there", location="us-central1"),
    "a file": lambda: vertex_env.token(credentials="broken.json"),
}


def shown(ask: Callable[[], object], *secrets: str) -> list[str]:
    """Which of *secrets* a report of what *ask* raises has in our frames."""
    try:
        ask()
    except Exception as e:  # noqa: BLE001 -- any
        report = traceback.TracebackException(type(e), e, e.__traceback__, capture_locals=True)
        text = "\n".join(of_ours(report))
        assert any(frame.filename.startswith(OURS) for frame in report.stack)
    else:
        pytest.fail("nothing was raised")
    return [secret for secret in secrets if secret in text]


def secrets_of(folder: Path) -> list[str]:
    refresh = google.authorized_user()["refresh_token"]
    (folder / "broken.json").write_text(json.dumps(google.authorized_user()) + "}")
    return [vertex_env.token(), "ya29.pasted", refresh]


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("name", FAILING)
def test_reports_have_no_secrets(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither variables of our frames nor the exceptions that it came of; the lines of the traceback are there."""
    secrets = secrets_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert shown(FAILING[name], *secrets) == []


@pytest.mark.usefixtures("sandbox")
def test_reports_without_shelter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: as they were, each kind of secret is in some."""
    secrets = secrets_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "_cleaned", lambda error: error)
    assert {secret for name in FAILING for secret in shown(FAILING[name], *secrets)} >= set(secrets[:2])


def handle_and_fail() -> None:
    """What a caller may do in an except clause."""
    mine = "my own variable"
    try:
        int(mine)
    except ValueError:
        vertex_env.token(project="NOT A PROJECT")


@pytest.mark.usefixtures("sandbox")
def test_the_callers_own_exception_stays() -> None:
    """What the caller was handling is the context, with its variables, and our lines are in the traceback."""
    with pytest.raises(VertexEnvError) as caught:
        handle_and_fail()
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert report.__context__ is not None
    assert "my own variable" in "".join(report.__context__.format())
    assert "in _check" in "".join(report.format())


@pytest.mark.usefixtures("sandbox")
def test_a_clients_401(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client with a token that Google no longer takes: our frames have it neither then nor at the next try."""
    token = vertex_env.token()
    client = openai.OpenAI(base_url=vertex_env.base_url(), api_key=vertex_env.token, max_retries=0)
    ask: Callable[[], object] = lambda: client.chat.completions.create(  # noqa: E731
        model="google/gemini-3-flash", messages=[{"role": "user", "content": "good morning"}]
    )
    assert ask()
    holder = next(iter(api._holders.values()))
    assert holder._token is not None
    object.__setattr__(holder._token, "value", stale := f"{token}-stale")
    with pytest.raises(openai.AuthenticationError) as caught:
        ask()
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert stale not in "\n".join(of_ours(report))
    assert stale not in repr(vars(holder)) + repr(vertex_env.token) + repr(api._holders)
    # When it cannot be renewed, our frames are in the client's traceback.
    holder._token = None
    monkeypatch.setenv("VERTEX_ENV_PROJECT", "ya29.pasted-0123456789")
    assert shown(ask, "ya29.pasted", stale, token) == []
