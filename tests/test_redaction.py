"""What a server repeats, and what a program that reports errors sends: no secret, in whatever spelling."""

import base64
import copy
import html
import json
import pickle
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

import openai
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import vertex_env
from tests.support import loopback as google
from tests.support.answers import Answers, Asked, Handler, Reply
from tests.support.loopback import IAM_URL, GoogleProxy, Info, clean_environ, run_cli, write_adc
from tests.support.neighbour import _FLAVOR as FLAVOR
from tests.support.neighbour import routes as metadata_routes
from tests.support.processes import Process, sandboxed, until
from vertex_env import api, redaction
from vertex_env.errors import ChildError, SettingsError, VertexEnvError, clean
from vertex_env.redaction import Secrets, hide, looks_secret
from vertex_env.run.helper import HelperError, ask_helper
from vertex_env.sandbox.server import Sandbox
from vertex_env.vertex.endpoints import http_get
from vertex_env.vertex.refusals import Who

OURS = str(Path(vertex_env.__file__).parent)


def shifted(text: str, by: int, encode: Callable[[bytes], bytes] = base64.b64encode) -> str:
    """*text* in base64 after *by* other bytes, and before some."""
    return encode(b"id:"[:by] + text.encode() + b"; end").decode()


SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "raw": str,
    "URL": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "lower-case URL": lambda text: re.sub(
        "%..", lambda found: found[0].lower(), quote(text, safe="")
    ),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON with escaped slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "HTML": html.escape,
    "HTML with numbers": lambda text: re.sub(
        r"[!-/:-@[-`{-~]", lambda found: f"&#{ord(found[0])};", text
    ),
    "HTML with other numbers": lambda text: re.sub(
        r"[/+']", lambda found: f"&#x{ord(found[0]):02X};", text
    ),
    "HTML with names": lambda text: (
        html.escape(text).replace("&#x27;", "&apos;").replace("+", "&plus;")
    ),
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
@given(
    st.text(st.characters(codec="utf-8"), min_size=8),
    st.sampled_from(sorted(SPELLINGS)),
    st.text(),
    st.text(),
)
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


KEY = "aB3xY7kQ9mZ2pL5wR8tV1cN4dF6gH0jS"


STARTS = (
    "ya29.",
    "1//0g",
    "4/0A",
    "AIza",
    "AQ.",
    "GOCSPX-",
    "eyJ",
    "sk-proj-",
    "ghp_",
    "hf_",
    "glpat-",
    "github_pat_",
)


@pytest.mark.parametrize("before", ["%20", "%3D", "TOKEN_", "'", "x=", "google/", "https://h/"])
def test_a_token_behind_other_characters(before: str) -> None:
    """An escape, an underscore or a slash may be there. Control: words with the shape within stay."""
    # After a name with an underscore, those with a slash are paths.
    for start in (start for start in STARTS if before != "TOKEN_" or "/" not in start):
        text = f"{before}{start}{KEY}"
        assert KEY not in hide(text), text
        assert looks_secret(text), text
    words = f"{before}task-runner-of-2026-11-25 a_heyJude-and-others /tmp/run_1//with-a-long-name"
    assert hide(words) == words


SHAPED = {
    "-----BEGIN": f"-----BEGIN PRIVATE KEY-----\n{KEY}",
    "ya29%2": f"ya29%2E{KEY}",
    "1%2": f"1%2F%2F0g{KEY}",
    "4/": f"4/0A{KEY}",
    "4%2": f"4%2F0A{KEY}",
    "MII": f"MII{KEY}{KEY}",
    "client_secret": f'{{"client_secret": "{KEY}"}}',
    "refresh_token": f'{{"refresh_token": "{KEY}"}}',
    "private_key": f'{{"private_key": "{KEY}"}}',
    "github_pat_": "github_pat_" + "aB3" * 7 + "x_" + "cD4" * 19 + "yz",
}
"""By the mark that it has: a secret of that shape. The others are their mark and `KEY`."""


@pytest.mark.parametrize("mark", redaction._MARKS)
def test_each_shape_is_found_by_its_mark(mark: str) -> None:
    """It is seen where no other mark is in the text, and hidden. Control: without the mark it is not."""
    text = SHAPED.get(mark, f"{mark}{KEY}")
    others = [other for other in redaction._MARKS if other in text and other not in mark]
    assert others == []
    assert looks_secret(text)
    assert KEY not in hide(text)
    assert not looks_secret(text.replace(mark, "zz"))


@pytest.mark.parametrize("gap", ["\n", "\r\n", "\t", " ", "\\\n"], ids=ascii)
def test_a_token_in_more_lines_than_one(gap: str) -> None:
    """Neither part is repeated, nor as `repr` writes them. Control: the words of a message that follow stay."""
    for text in (
        f"ya29.{KEY}{gap}{KEY} is wrong",
        repr(f"ya29.{KEY}{gap}{KEY}"),
        f"sk-proj-{KEY}{gap}{KEY}",
    ):
        assert KEY not in hide(text), text
    words = f"{gap}GOOGLE_APPLICATION_CREDENTIALS or google/gemini-2.5-flash-lite is wrong"
    assert hide(f"ya29.{KEY}{words}") == f"[hidden]{words}"


def test_settings_do_not_show_a_misplaced_token() -> None:
    """Their repr is in logs. Control: an ordinary value is in it."""
    shown = repr(api.Settings(project=f"ya29.{KEY}", model=f"sk-proj-{KEY}", location="global"))
    assert KEY not in shown
    assert "location='global'" in shown


def test_secrets_of_a_request_and_its_answer() -> None:
    """What was sent in a form, JSON, a header or a URL; what an answer names a secret, at any depth. Not the rest."""
    secrets = Secrets()
    form = b"grant_type=refresh_token&client_id=my-client-id&refresh_token=form-token&client_secret=form%2Fsecret"
    basic = base64.b64encode(b"my-client-id:basic-secret").decode()
    headers = {
        "Authorization": f"Basic {basic}",
        "Accept": "application/json",
        "x-goog-api-client": "gl-python/3.13",
    }
    secrets.add_request(
        "https://user:url-password@h.example/x?code=1&api_key=query-key", form, headers
    )
    signed = {
        "url": "https://sts",
        "headers": [{"key": "x-amz-security-token", "value": "aws-session"}],
    }
    secrets.add_request(
        "https://h/x", f"subject_token={quote_plus(quote(json.dumps(signed)))}", None
    )
    secrets.add_body(
        json.dumps(
            [{"a": {"id_token": ["deep-token"], "Assertion": "an-assertion", "scope": "a-scope"}}]
        )
    )
    secrets.add_body(
        json.dumps(
            {"accessToken": "camel-token", "tokenType": "not-secret", "secret": {"x": "nested-1"}}
        )
    )
    secrets.add_body("[" * 100_000)
    secrets.add_environ(
        {"CORP_API_KEY": "env-secret", "MONKEY": "not-secret", "SHORT_TOKEN": "short"}
    )
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
    "error",
    [
        SettingsError("no ya29.abc", "try AIza0123456789abcdefgh"),
        ChildError("no ya29.abc", "try", 127),
    ],
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
HEADER = "h3ader/of+no=kind"


def user(_: Path, __: str) -> Info:
    return google.authorized_user() | {"refresh_token": REFRESH, "client_secret": CLIENT}


def key(_: Path, base: str) -> Info:
    return google.service_account() | {"token_uri": f"{base}/token"}


def pool(folder: Path, base: str) -> Info:
    (folder / "subject").write_text(SUBJECT)
    own = {"client_id": "my-client-id", "client_secret": CLIENT}
    return google.external_account_file(folder / "subject", base) | own


def workforce(_: Path, base: str) -> Info:
    return google.external_account_authorized_user(base) | {
        "refresh_token": REFRESH,
        "client_secret": CLIENT,
    }


def impersonated(folder: Path, base: str) -> Info:
    return google.impersonated_service_account(user(folder, base))


def program(folder: Path, base: str) -> Info:
    answer = {
        "version": 1,
        "success": True,
        "token_type": "urn:ietf:params:oauth:token-type:jwt",
        "id_token": SUBJECT,
    }
    (folder / "program.py").write_text(f"print({json.dumps(json.dumps(answer))})")
    return google.external_account_executable(f"{sys.executable} {folder / 'program.py'}", base)


def subject_url(_: Path, base: str) -> Info:
    info = google.external_account_url(base)
    info["credential_source"]["headers"] = {"X-Corp-Key": HEADER}
    return info


def aws(_: Path, base: str) -> Info:
    return google.external_account_aws(base)


def x509(folder: Path, base: str) -> Info:
    return google.external_account_x509(folder / "certificates", base)


def gdch(_: Path, base: str) -> Info:
    return google.gdch_service_account(base)


KINDS = {
    "user": user,
    "key": key,
    "pool": pool,
    "workforce": workforce,
    "impersonated": impersonated,
    "impersonation": impersonated,
    "program": program,
    "URL": subject_url,
    "URL's server": subject_url,
    "AWS": aws,
    "AWS's server": aws,
    "x509": x509,
    "GDCH": gdch,
}
ROLE = "/latest/meta-data/iam/security-credentials/role"
REPEATING = {
    "impersonation": [
        urlsplit(IAM_URL.format("target@sandbox-project.iam.gserviceaccount.com")).path
    ],
    "URL's server": ["/subject"],
    "AWS's server": [ROLE],
}
"""Which path repeats what it was sent; for the other kinds it is that of the exchange."""
GIVEN: Mapping[str, Reply] = {
    "/token": Reply(body={"access_token": "s0urce/token+of.no-kind==", "expires_in": 3599}),
    "/subject": Reply(body=SUBJECT),
    "/latest/api/token": Reply(body="iMds/t0ken+of-no-kind"),
    "/latest/meta-data/placement/availability-zone": Reply(body="us-east-2b"),
    "/latest/meta-data/iam/security-credentials": Reply(body="role"),
    ROLE: Reply(
        body={
            "AccessKeyId": "id",
            "SecretAccessKey": "aWs/s3cret+key",
            "Token": "s3ss10n/of+no=kind",
        }
    ),
}
"""What servers of other clouds say, and what begins an impersonation."""
NAMES = ("refresh_token", "client_secret", "assertion", "subject_token")


def echo(spell: Callable[[str], str], which: int) -> Callable[[Handler], None]:
    """A route that refuses, and repeats the secret no. *which* of the request."""

    def route(handler: Handler) -> None:
        asked = handler.server.asked[-1]
        sent = list(secrets_in(asked))
        # A JWT's last part is what makes it valid, and looks like nothing.
        secret = sent[which % len(sent)]
        secret = secret.rpartition(".")[2] if secret.startswith("eyJ") else secret
        assert isinstance(handler.server, Repeating)
        handler.server.repeated.append(secret)
        said = f"Bad <{spell(secret)}> was sent"
        oauth = {"error": "invalid_grant", "error_description": said}
        api = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": said}}
        handler.send(Reply(400, api if asked.path.endswith(":generateAccessToken") else oauth))

    return route


def secrets_in(asked: Asked) -> Iterator[str]:
    """The secrets that a request has, in its form or in its headers."""
    for name in NAMES:
        if name in asked.fields:
            yield asked.fields[name]
    headers = {name.lower(): value for name, value in asked.headers.items()}
    for name in ("x-corp-key", "x-aws-ec2-metadata-token"):
        if name in headers:
            yield headers[name]
    scheme, _, credential = headers.get("authorization", "").partition(" ")
    if credential:
        yield credential
    if scheme == "Basic":
        yield base64.b64decode(credential).decode().partition(":")[2]
    if "aws4_request" in asked.fields.get("subject_token_type", ""):
        signed = json.loads(unquote(asked.fields["subject_token"]))
        yield from (
            each["value"]
            for each in signed["headers"]
            if each["key"] in ("x-amz-security-token", "Authorization")
        )


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
    with Repeating(GIVEN) as answers, GoogleProxy(answers.url, tmp_path / "proxy") as proxy:
        adc = write_adc(tmp_path / "adc.json", KINDS[request.param](tmp_path, answers.url))
        environ = (
            clean_environ(tmp_path / "home")
            | proxy.environ
            | {"GOOGLE_APPLICATION_CREDENTIALS": str(adc)}
        )
        environ |= {"GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1"}
        for name, value in (environ | {"VERTEX_ENV_PROJECT": "sandbox-project"}).items():
            monkeypatch.setenv(name, value)

        def ask(spelling: str, which: int) -> tuple[set[str], VertexEnvError]:
            api._holders.clear()
            spell = SPELLINGS[spelling]
            paths = REPEATING.get(request.param, ["/token", "/v1/token", "/v1/oauthtoken"])
            answers.routes |= dict.fromkeys(paths, echo(spell, which))
            with pytest.raises(VertexEnvError) as caught:
                vertex_env.token()
            spelled = spell(answers.repeated[-1])
            return {spelled[i : i + 10] for i in range(len(spelled) - 10)}, caught.value

        yield ask
    api._holders.clear()


def leaving(error: BaseException, folder: Path) -> str:
    """All that is left of *error*: in a log, in a report with variables, in other processes, in our files."""
    report = traceback.TracebackException(
        type(error), error, error.__traceback__, capture_locals=True
    )
    files = [path for path in (folder / "home").rglob("*") if path.is_file()]
    return "\n".join(
        [
            str(error),
            repr(error),
            repr(vars(error)),
            repr(pickle.dumps(error)),
            repr(vars(copy.copy(error))),
        ]
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
    spelling: str,
    which: int,
    repeat: Callable[[str, int], tuple[set[str], VertexEnvError]],
    tmp_path: Path,
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
    monkeypatch.setattr(redaction, "hide", str)  # a certificate looks like a key
    monkeypatch.setattr("vertex_env.vertex.refusals.one_line", lambda text, _=None: text or "")
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


PROTECTED = "from vertex_env.entry import main; main()"
BARE = (
    "from tests.support.misplaced import take_protection_off; take_protection_off(); " + PROTECTED
)


@pytest.mark.parametrize("program", [PROTECTED, BARE], ids=["protected", "bare"])
def test_what_the_metadata_server_repeats(program: str, tmp_path: Path) -> None:
    """Nothing secret is sent to it, so what it names a secret itself; the control shows it."""
    given = "m3tadata/token+of=no-kind"
    refusal = Reply(
        400,
        {"error": "x", "error_description": f"Bad <{given}> was given", "access_token": given},
        FLAVOR,
    )
    routes = metadata_routes("googleapis.com")
    with Answers(
        {path: refusal if path.endswith("/token") else reply for path, reply in routes.items()}
    ) as answers:
        env = clean_environ(tmp_path) | {
            "NO_GCE_CHECK": "",
            "GCE_METADATA_HOST": answers.url.removeprefix("http://"),
        }
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, "token"],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode
    assert f"Bad <{given if program == BARE else '[hidden]'}> was given" in done.stderr
    assert (given in done.stderr) == (program == BARE)


@pytest.mark.parametrize("is_bare", [False, True], ids=["protected", "bare"])
def test_what_the_endpoints_api_repeats(monkeypatch: pytest.MonkeyPatch, *, is_bare: bool) -> None:
    """The token by its value, in a refusal and in a name; the control shows it."""
    token = "b3arer/token+of.no-kind"
    refusal = Reply(
        400,
        {
            "error": {
                "code": 400,
                "status": "INVALID_ARGUMENT",
                "message": f"Bad <{token}> was sent",
            }
        },
    )
    if is_bare:
        monkeypatch.setattr(Secrets, "redact", lambda _, text: text)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Answers({"/refused": refusal, "/given": Reply(body={"name": f"<{token}>"})}) as answers:
        get = http_get(token, Who("authorized_user", None, "/adc.json"), None, 10)
        with pytest.raises(VertexEnvError) as caught:
            get(f"{answers.url}/refused", {})
        given = get(f"{answers.url}/given", {})
        assert {asked.headers["Authorization"] for asked in answers.asked} == {f"Bearer {token}"}
    shown = token if is_bare else "[hidden]"
    assert f"Bad <{shown}> was sent" in caught.value.message
    assert given == {"name": f"<{shown}>"}


LEAK = "import sys; sys.exit('no ya29.' + 'x' * 20 + ' here')"


@pytest.mark.parametrize("is_bare", [False, True], ids=["protected", "bare"])
def test_what_a_helper_of_run_says(monkeypatch: pytest.MonkeyPatch, *, is_bare: bool) -> None:
    """It hides secrets itself; this is for what it says when it breaks down. The rest is passed on."""
    if is_bare:
        monkeypatch.setattr(redaction, "hide", str)
    with pytest.raises(HelperError) as caught:
        ask_helper([sys.executable, "-c", LEAK], {})
    assert str(caught.value) == f"no {'ya29.' + 'x' * 20 if is_bare else '[hidden]'} here\n"


@pytest.mark.parametrize("is_bare", [False, True], ids=["protected", "bare"])
def test_what_the_supervisor_says(tmp_path: Path, *, is_bare: bool) -> None:
    """The same at a renewal, while the command runs: without it the supervisor repeats what the helper says."""
    argv = f"[sys.executable, '-c', {LEAK!r}]"
    broken = f"import sys; from vertex_env.run import helper; helper.helper_argv = lambda: {argv}; "
    program = broken + ("helper.clean = str; " if is_bare else "") + PROTECTED
    with sandboxed(tmp_path, lifetime_s=4) as (_, env):
        assert run_cli("token", env=env).status == 0
        command = [
            sys.executable,
            "-P",
            "-c",
            program,
            "run",
            "--on-expiry",
            "restart",
            "--",
            "sleep",
            "60",
        ]
        with Process(command, env, tmp_path) as process:
            until(lambda: " here" in process.stderr)
            assert ("no [hidden] here" in process.stderr) == (not is_bare)
            assert ("ya29." in process.stderr) == is_bare


def test_without_modules_long_words_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """While Python is upgraded there are no patterns; what the errors then are about can be read."""
    text = "cannot start it\nrun: gcloud auth application-default login, not ya29.0123456789abcdef here"
    assert clean(text) == text.replace("ya29.0123456789abcdef", "[hidden]")
    monkeypatch.setitem(sys.modules, "vertex_env.redaction", None)
    assert clean(text) == text.replace("ya29.0123456789abcdef", "[hidden]")
    assert clean("https://h.example/?key=opaque0123") == "[hidden]"


@pytest.mark.parametrize("program", [PROTECTED, BARE], ids=["protected", "bare"])
@pytest.mark.parametrize("path", ["supervised", "in place"])
def test_a_token_for_a_command(program: str, path: str, tmp_path: Path) -> None:
    """`run TOKEN`, by what it looks like and by its value in a variable; a token is stored, so that no helper is asked.

    The lean process that supervises says it.
    """
    opaque = "corp:7h3-key/0f+the-gateway"
    with sandboxed(tmp_path) as (_, env):
        assert run_cli("token", env=env).status == 0
        policy = ["--on-expiry", "ignore" if path == "in place" else "restart"]
        for pasted in ("ya29.aB3xY7kQ9mZ2pL5wR8tV", opaque):
            command = [sys.executable, "-P", "-c", program, "run", *policy, "--", pasted]
            done = subprocess.run(
                command,
                env=env | {"GITHUB_TOKEN": opaque},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 127
            assert ("[hidden]" in done.stderr) == (program == PROTECTED)
            assert (pasted in done.stderr) == (program == BARE)


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
    "a setting's name": lambda: vertex_env.token(None, **{"ya29.pasted-0123456789": "x"}),
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
def test_reports_have_no_secrets(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert {secret for name in FAILING for secret in shown(FAILING[name], *secrets)} >= set(
        secrets[:2]
    )


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
    assert "in parse" in "".join(report.format())


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


def test_a_clients_401_of_an_expired_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token ends while the request is on its way: a real 401, whose report has no token in frames of ours."""
    with Sandbox(lifetime=timedelta(seconds=2)) as running:
        for name, value in running.environ(str(tmp_path), clean_environ(tmp_path)).items():
            monkeypatch.setenv(name, value)
        api._holders.clear()
        sent: list[str] = []

        def dawdle(request: Any) -> None:
            sent.append(request.headers["Authorization"].removeprefix("Bearer "))
            time.sleep(2.5)

        with openai.DefaultHttpxClient(event_hooks={"request": [dawdle]}) as slow:
            url = vertex_env.base_url()
            client = openai.OpenAI(
                base_url=url, api_key=vertex_env.token, max_retries=0, http_client=slow
            )
            with pytest.raises(openai.AuthenticationError) as caught:
                client.chat.completions.create(
                    model="google/gemini-3-flash",
                    messages=[{"role": "user", "content": "good morning"}],
                )
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert sent[0].startswith("ya29.")
    assert sent[0] not in "\n".join(of_ours(report))
    # The control: such a report has it elsewhere, in the client's variables.
    assert sent[0] in "".join(report.format()) + str(caught.value.request.headers["Authorization"])
    api._holders.clear()
