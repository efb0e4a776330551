"""What goes wrong with credentials, end to end: the shipped program, real google-auth, Google's own addresses.

Each failure has the exit code of errors.py, one `error:` and one `hint:` line on stderr, and nothing on stdout.
"""

import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import loopback as google
from tests.support.answers import Answers, Handler, Reply
from tests.support.fakes import PLANTED
from tests.support.loopback import (
    GoogleProxy,
    Info,
    clean_environ,
    gcloud_marker,
    run_cli,
    write_adc,
)

BAD_FILE = 78
REFUSED = 77
UNAVAILABLE = 75

TARGET = "target@sandbox-project.iam.gserviceaccount.com"
ROBOT = "vertex@sandbox-project.iam.gserviceaccount.com"
SUBJECT = "fake-subject-token"
SECRETS = (
    PLANTED,
    SUBJECT,
    google.authorized_user()["refresh_token"],
    google.authorized_user()["client_secret"],
    *google.service_account()["private_key"].split("\n")[1:-1],
    "eyJ",  # how the assertion that a key is exchanged with begins, like every JWT
    "Traceback",
)
"""What no output may contain."""

FROM = "{adc} (from GOOGLE_APPLICATION_CREDENTIALS)"
FILE = f"the credentials file {FROM}"
LOGIN = "gcloud auth application-default login"
DROP = "drop GOOGLE_APPLICATION_CREDENTIALS: a login has a file of its own"
LOG_IN = f"run: {LOGIN}, and {DROP}"
IMPERSONATE = f"run: {LOGIN} --impersonate-service-account=ACCOUNT, and {DROP}"
LOG_IN_TO_POOL = f"run: {LOGIN} --login-config=FILE, and {DROP}"
NEW_KEY = "make a new key: gcloud iam service-accounts keys create FILE --iam-account=ACCOUNT"
NEW_POOL_FILE = "make the file anew: gcloud iam workload-identity-pools create-cred-config --help"
NEW_GDCH_FILE = "ask the administrator of the air-gapped cloud for a new file"
LOOK = "see what it is: ls -l {adc}"
URLS = "correct the URLs in the credentials file, and HTTPS_PROXY"
BUNDLE = "correct it where it is named: REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, or ca_cert_path in the credentials file"


def environ(tmp_path: Path, adc: Path | None, *more: Mapping[str, str]) -> dict[str, str]:
    """The environment of a user whose credentials are in *adc*."""
    named = {} if adc is None else {"GOOGLE_APPLICATION_CREDENTIALS": str(adc)}
    result = clean_environ(tmp_path / "home") | {"GOOGLE_CLOUD_PROJECT": "sandbox-project"} | named
    for one in more:
        result |= one
    return result


def check(env: Mapping[str, str], status: int, error: str, hint: str) -> None:
    """`vertex-env token` fails with *status* and says these two lines.

    In them `{adc}` is the credentials file, and `{any}` what a library says, which differs between its versions.
    """
    ended = run_cli("token", env=env, timeout=30)
    said = f"vertex-env: error: {error}\nvertex-env: hint: {hint}\n"
    said = said.replace("{adc}", env.get("GOOGLE_APPLICATION_CREDENTIALS", ""))
    if "{any}" in said:
        before, after = said.split("{any}")
        assert re.fullmatch(f"{re.escape(before)}[^\n]+{re.escape(after)}", ended.stderr), (
            ended.stderr
        )
    else:
        assert ended.stderr == said
    assert (ended.stdout, ended.status) == ("", status)
    assert [secret for secret in SECRETS if secret in ended.stderr] == []
    assert not gcloud_marker(Path(env["HOME"])).exists()


# --- the credentials file ---

TYPES = (
    "known types: authorized_user, service_account, impersonated_service_account, external_account, "
    "external_account_authorized_user, gdch_service_account"
)


@pytest.mark.parametrize(
    ("content", "error", "hint"),
    [
        pytest.param(b"", "is empty", LOG_IN, id="empty"),
        pytest.param(b" \r\n\t", "is empty", LOG_IN, id="whitespace"),
        pytest.param(b"{", "is not JSON", LOG_IN, id="no JSON"),
        pytest.param(b"\xff{}", "is not JSON", LOG_IN, id="no UTF-8"),
        pytest.param(b"[" * 100_000, "is not JSON", LOG_IN, id="deep"),
        pytest.param(b'{"type": ' + b"9" * 5000 + b"}", "is not JSON", LOG_IN, id="a long number"),
        pytest.param(b" " * (1 << 20) + b"{}", "cannot be read: it is too large", LOOK, id="large"),
        pytest.param(b"null", "is not a JSON object", LOG_IN, id="null"),
        pytest.param(b"[]", "is not a JSON object", LOG_IN, id="list"),
        pytest.param(b'"x"', "is not a JSON object", LOG_IN, id="text"),
        pytest.param(b"{}", "has no field 'type'", LOG_IN, id="no type"),
        pytest.param(
            b'{"type": "x\\n\\u001b"}', "has the unknown type 'x\\n\\x1b'", TYPES, id="unknown type"
        ),
        pytest.param(
            b'{"type": ["x"]}', "has the unknown type ['x']", TYPES, id="type of a wrong type"
        ),
        pytest.param(
            b'{"installed": {"client_id": "x", "client_secret": "fake-client-secret"}}',
            "is an OAuth client, not credentials",
            f"to log in with it: {LOGIN} --client-id-file=FILE",
            id="client secrets",
        ),
    ],
)
def test_content(content: bytes, error: str, hint: str, tmp_path: Path) -> None:
    """A file that is no credentials file is named, with what is wrong and what makes a right one."""
    adc = tmp_path / "adc.json"
    adc.write_bytes(content)
    check(environ(tmp_path, adc), BAD_FILE, f"{FILE} {error}", hint)


def test_byte_order_mark(tmp_path: Path) -> None:
    """What a Windows editor puts in front does no harm."""
    adc = tmp_path / "adc.json"
    adc.write_bytes(b"\xef\xbb\xbf" + json.dumps(google.authorized_user()).encode())
    with Answers() as answers, GoogleProxy(answers.url, tmp_path / "proxy") as proxy:
        ended = run_cli("token", env=environ(tmp_path, adc, proxy.environ))
    assert (ended.stdout, ended.stderr) == (PLANTED + "\n", "")


def make_nothing(_: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("name", "make", "error", "hint"),
    [
        pytest.param(
            "adc.json",
            make_nothing,
            "does not exist",
            f"correct the path, or {LOG_IN}",
            id="absent",
        ),
        pytest.param(
            "adc.json", Path.mkdir, "is a directory", "name the JSON file in it", id="directory"
        ),
        pytest.param(
            "/dev/zero",
            make_nothing,
            "cannot be read: it is not a regular file",
            LOOK,
            id="without end",
        ),
        pytest.param(
            f"{__file__}/adc",
            make_nothing,
            "cannot be read: Not a directory",
            LOOK,
            id="below a file",
        ),
    ],
)
def test_place(
    name: str, make: Callable[[Path], None], error: str, hint: str, tmp_path: Path
) -> None:
    """Something else in the file's place is told, and nothing hangs."""
    adc = tmp_path / name
    make(adc)
    check(environ(tmp_path, adc), BAD_FILE, f"{FILE} {error}", hint)


def test_path_with_line_breaks(tmp_path: Path) -> None:
    """A path cannot add lines to what we say, nor control the terminal."""
    adc = tmp_path / "a\nvertex-env: hint: \x1b[31mb"
    error = (
        f"the credentials file {str(adc)!r} (from GOOGLE_APPLICATION_CREDENTIALS) does not exist"
    )
    check(environ(tmp_path, adc), BAD_FILE, error, f"correct the path, or {LOG_IN}")


def test_well_known_file(tmp_path: Path) -> None:
    """Of the file that a login writes, no variable has to be dropped."""
    adc = tmp_path / "home" / ".config" / "gcloud" / "application_default_credentials.json"
    adc.parent.mkdir(parents=True)
    adc.touch()
    error = f"the credentials file {adc} (from gcloud's well-known place) is empty"
    check(environ(tmp_path, None), BAD_FILE, error, f"run: {LOGIN}")


def test_none_at_all(tmp_path: Path) -> None:
    """Without a file and a metadata server, a login is what is missing."""
    known = tmp_path / "home" / ".config" / "gcloud" / "application_default_credentials.json"
    searched = f"no GOOGLE_APPLICATION_CREDENTIALS, no {known}, no metadata server"
    error = f"there are no Application Default Credentials: {searched}"
    check(environ(tmp_path, None), BAD_FILE, error, f"run: {LOGIN}")


USER = f"the authorized user credentials in {FROM}"
KEY = f"the service account credentials of {ROBOT} in {FROM}"
POOL = f"the external account credentials in {FROM}"
GDCH = f"the gdch service account credentials in {FROM}"


def pool(tmp_path: Path, **source: object) -> Info:
    """Workload identity, with a credential source of *source* in place of a good one."""
    subject = tmp_path / "subject"
    subject.write_text(SUBJECT)
    info = google.external_account_file(subject)
    return info | {"credential_source": source} if source else info


def user(**changed: object) -> Info:
    return google.authorized_user() | changed


def key(**changed: object) -> Info:
    return google.service_account() | changed


def gdch(**changed: object) -> Info:
    return google.gdch_service_account("https://oauth2.googleapis.com") | changed


def impersonated(**changed: object) -> Info:
    return google.impersonated_service_account(user()) | changed


@pytest.mark.parametrize(
    ("info", "error", "hint"),
    [
        pytest.param(
            key(private_key="no PEM"),
            f"{KEY} cannot be used: {{any}}",
            f"correct the file, or {NEW_KEY}",
            id="bad PEM",
        ),
        pytest.param(
            gdch(private_key=key()["private_key"]),
            f"{GDCH} cannot be used: google-auth expects something else there ({{any}})",
            f"correct the file, or {NEW_GDCH_FILE}",
            id="gdch with an RSA key",
        ),
        pytest.param(
            gdch(format_version="2"),
            f"{GDCH} cannot be used: {{any}}",
            f"correct the file, or {NEW_GDCH_FILE}",
            id="gdch of another version",
        ),
        pytest.param(
            gdch(ca_cert_path="/nonexistent/ca"),
            "there is no TLS CA certificate bundle /nonexistent/ca",
            BUNDLE,
            id="gdch with an absent CA",
        ),
        *(
            pytest.param(
                key(token_uri=url),
                f"{FILE} has a malformed field 'token_uri' (its type is service_account)",
                NEW_KEY,
                id=id_,
            )
            for id_, url in {
                "no URL": "junk",
                "strange scheme": "ftp://x/",
                "broken address": "https://[::/",
            }.items()
        ),
        pytest.param(
            user(expiry=5),
            f"{USER} cannot be used: google-auth expects something else there ({{any}})",
            f"correct the file, or {LOG_IN}",
            id="expiry of a wrong type",
        ),
        pytest.param(
            user(universe_domain="s3nsapis.fr"),
            f"{USER} cannot be used: {{any}}",
            f"correct the file, or {LOG_IN}",
            id="user of another universe",
        ),
        pytest.param(
            user(universe_domain="evil.example/x"),
            f"{FILE} has a malformed field 'universe_domain' (its type is authorized_user)",
            LOG_IN,
            id="universe that would break URLs",
        ),
        pytest.param(
            impersonated(
                service_account_impersonation_url=f"https://iamcredentials.googleapis.com/{TARGET}"
            ),
            f"{FILE} has a malformed field 'service_account_impersonation_url' "
            "(its type is impersonated_service_account)",
            IMPERSONATE,
            id="impersonation URL of something else",
        ),
        pytest.param(
            impersonated(delegates="a@b.c"),
            f"{FILE} has a malformed field 'delegates' (its type is impersonated_service_account)",
            IMPERSONATE,
            id="delegates that are no list",
        ),
        pytest.param(
            impersonated(source_credentials={"type": "authorized_user"}),
            f"source_credentials in {FILE} lacks the field 'client_id' (its type is authorized_user)",
            IMPERSONATE,
            id="source without a field",
        ),
        pytest.param(
            impersonated(source_credentials=impersonated()),
            f"{FILE} impersonates twice",
            "name the account in between in 'delegates'",
            id="impersonated twice",
        ),
    ],
)
def test_field(info: Info, error: str, hint: str, tmp_path: Path) -> None:
    """A wrong value is told with where it stands, and without asking Google."""
    adc = write_adc(tmp_path / "adc.json", info)
    with Answers() as answers, GoogleProxy(answers.url, tmp_path / "proxy") as proxy:
        check(environ(tmp_path, adc, proxy.environ), BAD_FILE, error, hint)
    assert (proxy.requests, proxy.refused) == ([], [])


@pytest.mark.parametrize(
    ("source", "error", "hint"),
    [
        pytest.param(
            {"nothing": "known"},
            f"{POOL} cannot be used: Missing credential_source. {{any}}",
            f"correct the file, or {NEW_POOL_FILE}",
            id="unknown",
        ),
        pytest.param(
            {"file": "/nonexistent/subject"},
            f"the subject token /nonexistent/subject, which {FILE} names, cannot be read: No such file or directory",
            "see whether the job that writes it has done so: ls -l /nonexistent/subject",
            id="absent",
        ),
        pytest.param(
            {"file": "/tmp"},
            f"the subject token /tmp, which {FILE} names, cannot be read: Is a directory",
            "see whether the job that writes it has done so: ls -l /tmp",
            id="directory",
        ),
        pytest.param(
            {"file": "/dev/zero"},
            f"the subject token /dev/zero, which {FILE} names, cannot be read: it is not a regular file",
            "see whether the job that writes it has done so: ls -l /dev/zero",
            id="without end",
        ),
        pytest.param(
            {"file": __file__, "format": {"type": "json", "subject_token_field_name": "x"}},
            f"{POOL} cannot be used: Unable to parse subject_token from JSON file '{{any}}' using key 'x'",
            f"correct the file, or {NEW_POOL_FILE}",
            id="in a file that is no JSON",
        ),
    ],
)
def test_subject_token(source: Mapping[str, object], error: str, hint: str, tmp_path: Path) -> None:
    """A subject token that is not where the file says is told from a bad file."""
    adc = write_adc(tmp_path / "adc.json", pool(tmp_path, **source))
    check(environ(tmp_path, adc), BAD_FILE, error, hint)


# --- the program that gives a subject token ---

PROGRAM = f"the program named in {FROM}"
BY_HAND = "run the command in that file by hand to see"
ALLOWED = {"GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1"}
NOT_AIP = "what it printed is not what https://google.aip.dev/auth/4117 asks for"


def program(tmp_path: Path, text: str) -> str:
    """A command that runs *text*."""
    file = tmp_path / "program"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o700)
    return str(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            f"echo {SUBJECT}; echo {SUBJECT} >&2; exit 3", "{any}return code 3", id="fails"
        ),
        pytest.param(f"echo {SUBJECT}", NOT_AIP, id="no JSON"),
        pytest.param("true", NOT_AIP, id="nothing"),
        pytest.param("printf '\\377'", NOT_AIP, id="no UTF-8"),
        pytest.param(
            f'echo \'{{"version": 1, "success": true, "token_type": "urn:ietf:params:oauth:token-type:jwt",'
            f' "token": "{SUBJECT}"}}\'',
            NOT_AIP,
            id="no id_token",
        ),
        pytest.param(
            """echo '{"version": 1, "success": false, "code": "401", "message": "Caller not authorized."}'""",
            "{any}code: 401, message: Caller not authorized",
            id="says no",
        ),
    ],
)
def test_program(text: str, said: str, tmp_path: Path) -> None:
    """What a program printed in place of a subject token may contain one, and is kept back."""
    adc = write_adc(
        tmp_path / "adc.json", google.external_account_executable(program(tmp_path, text))
    )
    check(
        environ(tmp_path, adc, ALLOWED),
        BAD_FILE,
        f"{PROGRAM} gave no subject token: {said}",
        BY_HAND,
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        pytest.param(
            "/nonexistent/program",
            "[Errno 2] No such file or directory: '/nonexistent/program'",
            id="absent",
        ),
        pytest.param("/tmp", "[Errno 13] Permission denied: '/tmp'", id="directory"),
        pytest.param("echo 'x", "No closing quotation", id="open quote"),
    ],
)
def test_program_that_cannot_start(command: str, said: str, tmp_path: Path) -> None:
    """A command that cannot even be started is told with the reason."""
    adc = write_adc(tmp_path / "adc.json", google.external_account_executable(command))
    check(
        environ(tmp_path, adc, ALLOWED),
        BAD_FILE,
        f"{PROGRAM} gave no subject token: {said}",
        BY_HAND,
    )


def test_program_not_allowed(tmp_path: Path) -> None:
    """Programs run only where the user has allowed it; this one did not."""
    ran = tmp_path / "ran"
    adc = write_adc(
        tmp_path / "adc.json", google.external_account_executable(program(tmp_path, f"touch {ran}"))
    )
    allow = "if you trust that file: export GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1"
    check(environ(tmp_path, adc), BAD_FILE, f"{PROGRAM} is not allowed to run yet", allow)
    assert not ran.exists()


# --- what is answered ---

OAUTH, STS = "oauth2.googleapis.com", "sts.googleapis.com"
KINDS: Mapping[str, tuple[Callable[[Path], Info], str, str]] = {
    "user": (lambda _: user(), OAUTH, "/token"),
    "key": (lambda _: key(), OAUTH, "/token"),
    "pool": (pool, STS, "/v1/token"),
    "workforce": (lambda _: google.external_account_authorized_user(), STS, "/v1/oauthtoken"),
}
"""Kinds of credentials, and where they are exchanged."""

WORKFORCE = f"the external account authorized user credentials in {FROM}"
NOTHING = "but with nothing that can be used"
PORTAL = "a captive portal or a proxy may have answered instead: open any web page to see, or check HTTPS_PROXY"
ODD = "a proxy may have answered instead: check HTTPS_PROXY, then try again"


def check_answer(
    kind: str, reply: Reply, status: int, said: tuple[str, str], tmp_path: Path
) -> None:
    """Where credentials of *kind* get *reply* in exchange, this is said, and no more asked."""
    build, host, path = KINDS[kind]
    adc = write_adc(tmp_path / "adc.json", build(tmp_path))
    with Answers({path: reply}) as answers, GoogleProxy(answers.url, tmp_path / "proxy") as proxy:
        check(environ(tmp_path, adc, proxy.environ), status, *said)
    assert set(proxy.requests) == {(host, "POST", path)}
    assert proxy.refused == []


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        pytest.param(
            "user", f"<html>{PLANTED}", f"{OAUTH} answered 200, {NOTHING}", id="user, HTML"
        ),
        pytest.param("pool", f"<html>{PLANTED}", f"{STS} answered 200, {NOTHING}", id="pool, HTML"),
        pytest.param("key", b"\xff\xfe\0", f"{OAUTH} answered 200, {NOTHING}", id="key, binary"),
        pytest.param("key", b"[" * 100_000, f"{OAUTH} answered 200, {NOTHING}", id="key, deep"),
        pytest.param("user", [PLANTED], f"{OAUTH} answered 200, {NOTHING}", id="user, list"),
        pytest.param(
            "user", {"expires_in": 5}, f"{OAUTH} answered 200, {NOTHING}", id="user, no token"
        ),
        pytest.param(
            "pool",
            {"access_token": PLANTED},
            f"{STS} answered 200, {NOTHING}",
            id="pool, no expiry",
        ),
        pytest.param(
            "workforce",
            {"access_token": PLANTED},
            f"{STS} answered 200, {NOTHING}",
            id="workforce, no expiry",
        ),
        pytest.param(
            "user",
            {"access_token": PLANTED, "expires_in": "soon"},
            f"{OAUTH} answered 200, {NOTHING}",
            id="user, expiry in words",
        ),
        pytest.param(
            "user",
            {"access_token": PLANTED, "expires_in": 10**30},
            f"{OAUTH} answered 200, {NOTHING}",
            id="user, expiry after the end of time",
        ),
    ],
)
def test_200_without_a_token(kind: str, body: object, said: str, tmp_path: Path) -> None:
    """What is not Google's answer is told from Google's refusal: trying again may help."""
    check_answer(kind, Reply(200, body), UNAVAILABLE, (said, PORTAL), tmp_path)


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        pytest.param(
            "pool", {"expires_in": 5}, "something that is not an access token", id="pool, none"
        ),
        pytest.param(
            "user",
            {"access_token": [PLANTED], "expires_in": 5},
            "something that is not an access token",
            id="user, a list",
        ),
        pytest.param(
            "key",
            {"access_token": f"{PLANTED}\nX: {PLANTED}", "expires_in": 5},
            "something that is not an access token",
            id="key, a line break",
        ),
        pytest.param(
            "user", {"access_token": PLANTED}, "a token that has no expiry", id="user, no expiry"
        ),
    ],
)
def test_odd_token(kind: str, body: object, said: str, tmp_path: Path) -> None:
    """A token that would break a header or a shell, or would be kept for ever, is not taken."""
    error = f"{KINDS[kind][1]} answered with {said}"
    check_answer(kind, Reply(200, body), UNAVAILABLE, (error, ODD), tmp_path)


@pytest.mark.parametrize("seconds", [0, -3600])
def test_expired_on_arrival(seconds: int, tmp_path: Path) -> None:
    """A token that is no good any more is not printed."""
    reply = Reply(200, {"access_token": PLANTED, "expires_in": seconds})
    error = f"{OAUTH} answered with a token that had expired at {{any}} UTC already"
    hint = "try again; if that does not help, see whether this machine's clock is right: date -u"
    check_answer("user", reply, UNAVAILABLE, (error, hint), tmp_path)


def test_expiry_as_text(tmp_path: Path) -> None:
    """Some services write the number in quotes, which does."""
    adc = write_adc(tmp_path / "adc.json", user())
    reply = Reply(200, {"access_token": PLANTED, "expires_in": "600"})
    with (
        Answers({"/token": reply}) as answers,
        GoogleProxy(answers.url, tmp_path / "proxy") as proxy,
    ):
        ended = run_cli("token", "--format", "json", env=environ(tmp_path, adc, proxy.environ))
    assert 590 < json.loads(ended.stdout)["expires_in"] <= 600


def oauth(status: int, error: str, description: str, **more: str) -> Reply:
    return Reply(status, {"error": error, "error_description": description, **more})


EXPIRED = "has expired or was revoked"
RENEW = "has to be renewed"
KEY_CURE = (
    "see whether the key still exists and this machine's clock is right (date -u): "
    f"gcloud iam service-accounts keys list --iam-account={ROBOT}"
)
POOL_CURE = (
    "see whether the subject token is stale, and check the pool's provider and its attribute condition: "
    "gcloud iam workload-identity-pools providers describe --help"
)
NOT_GOOGLE = (
    "that is not how Google answers: check HTTPS_PROXY, and the URLs in the credentials file"
)
ECHO = (
    f"bad {PLANTED} 1//fake-refresh-token eyJhbGciOiJSUzI1NiJ9.e30.x "
    f"-----BEGIN PRIVATE KEY----- MII {SUBJECT}\n\x1b["
)


@pytest.mark.parametrize(
    ("kind", "reply", "error", "hint"),
    [
        pytest.param(
            "user",
            oauth(400, "invalid_grant", "Token has been expired or revoked."),
            f"the login of {USER} {EXPIRED}: Token has been expired or revoked",
            LOG_IN,
            id="user, invalid_grant",
        ),
        pytest.param(
            "user",
            oauth(
                400,
                "invalid_grant",
                "reauth related error (invalid_rapt)",
                error_subtype="invalid_rapt",
            ),
            f"the login of {USER} {RENEW}: reauth related error (invalid_rapt)",
            LOG_IN,
            id="user, invalid_rapt",
        ),
        pytest.param(
            "user",
            oauth(400, "invalid_grant", "x", error_subtype="rapt_required"),
            f"the login of {USER} {RENEW}: x",
            LOG_IN,
            id="user, rapt_required",
        ),
        pytest.param(
            "workforce",
            oauth(400, "invalid_grant", "Refresh token expired."),
            f"the login of {WORKFORCE} {EXPIRED}: Refresh token expired",
            LOG_IN_TO_POOL,
            id="workforce, invalid_grant",
        ),
        pytest.param(
            "key",
            oauth(400, "invalid_grant", "Invalid JWT Signature."),
            f"{OAUTH} refused {KEY}: Invalid JWT Signature",
            KEY_CURE,
            id="key, invalid_grant",
        ),
        pytest.param(
            "pool",
            oauth(400, "invalid_grant", "ID Token is stale to sign-in."),
            f"{STS} refused {POOL}: ID Token is stale to sign-in",
            POOL_CURE,
            id="pool, invalid_grant",
        ),
        pytest.param(
            "user",
            oauth(401, "invalid_client", "The OAuth client was not found."),
            f"{OAUTH} refused {USER}: The OAuth client was not found",
            LOG_IN,
            id="user, invalid_client",
        ),
        pytest.param(
            "key",
            Reply(401, {"error": "unauthorized_client"}),
            f"{OAUTH} refused {KEY}: unauthorized_client",
            KEY_CURE,
            id="key, no description",
        ),
        pytest.param(
            "pool",
            Reply(403, {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "No."}}),
            f"{STS} refused {POOL}: No",
            POOL_CURE,
            id="pool, 403",
        ),
        pytest.param(
            "pool",
            Reply(403, {"error": {}}),
            f"{STS} refused {POOL}",
            POOL_CURE,
            id="pool, 403 without words",
        ),
        pytest.param(
            "user",
            Reply(403, f"<html>{PLANTED}"),
            f"{OAUTH} answered 403 to {USER}",
            NOT_GOOGLE,
            id="user, 403 HTML",
        ),
        pytest.param(
            "key",
            Reply(404, "<html>"),
            f"{OAUTH} answered 404 to {KEY}",
            NOT_GOOGLE,
            id="key, 404 HTML",
        ),
        pytest.param(
            "user",
            Reply(400, b"[" * 100_000),
            f"{OAUTH} answered 400 to {USER}",
            NOT_GOOGLE,
            id="user, 400 deep",
        ),
        pytest.param(
            "user",
            oauth(400, "invalid_grant", ECHO),
            f"the login of {USER} {EXPIRED}: bad [hidden] [hidden] [hidden] [hidden]",
            LOG_IN,
            id="user, secrets in the description",
        ),
    ],
)
def test_refusal(kind: str, reply: Reply, error: str, hint: str, tmp_path: Path) -> None:
    """What Google says is passed on, with the command that cures it for this kind of credentials."""
    check_answer(kind, reply, REFUSED, (error, hint), tmp_path)


GOOGLES = "it is Google's to mend: try again in a minute"


@pytest.mark.parametrize(
    ("kind", "reply", "error", "hint"),
    [
        pytest.param(
            "pool",
            Reply(429),
            f"{STS} answered 429, too many requests",
            "wait a minute, then try again",
            id="429",
        ),
        pytest.param("pool", Reply(500), f"{STS} answered 500", GOOGLES, id="500"),
        pytest.param(
            "user", Reply(502, f"<html>{PLANTED}"), f"{OAUTH} answered 502", GOOGLES, id="502"
        ),
        pytest.param(
            "pool",
            oauth(503, "unavailable", "Busy."),
            f"{STS} answered 503: Busy",
            GOOGLES,
            id="503",
        ),
    ],
)
def test_trouble_at_google(kind: str, reply: Reply, error: str, hint: str, tmp_path: Path) -> None:
    """What is not the user's fault says so."""
    check_answer(kind, reply, UNAVAILABLE, (error, hint), tmp_path)


@pytest.mark.parametrize("status", [302, 307])
def test_redirect(status: int, tmp_path: Path) -> None:
    """A redirect, which would take the refresh token elsewhere, is not followed."""
    reply = Reply(status, "", {"Location": "https://sts.googleapis.com/token"})
    check_answer(
        "user", reply, UNAVAILABLE, (f"{OAUTH} answered {status}, {NOTHING}", PORTAL), tmp_path
    )


IAM_PATH = f"/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken"
GRANT = (
    f"run: gcloud iam service-accounts add-iam-policy-binding {TARGET} "
    "--role=roles/iam.serviceAccountTokenCreator --member="
)


def api(status: int, message: str, reason: str = "IAM_PERMISSION_DENIED") -> Reply:
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    details = [{"@type": kind, "reason": reason, "metadata": {"consumer": "projects/123"}}]
    return Reply(
        status, {"error": {"code": status, "message": message, "status": "X", "details": details}}
    )


@pytest.mark.parametrize(
    ("info", "reply", "error", "hint"),
    [
        pytest.param(
            key(),
            api(403, "No."),
            f"{KEY} {{fails}}: No",
            f"{GRANT}serviceAccount:{ROBOT}",
            id="key",
        ),
        pytest.param(user(), api(403, "No."), f"{USER} {{fails}}: No", f"{GRANT}MEMBER", id="user"),
        pytest.param(
            user(account="me@example.com"),
            api(403, "No."),
            f"the authorized user credentials of me@example.com in {FROM} {{fails}}: No",
            f"{GRANT}user:me@example.com",
            id="user with an account",
        ),
        pytest.param(
            key(),
            api(404, "Gaia id not found."),
            f"{KEY} {{fails}}: Gaia id not found",
            f"check the name: gcloud iam service-accounts describe {TARGET}",
            id="no such account",
        ),
        pytest.param(
            key(),
            api(400, "The access token lifetime cannot exceed 3600s.", ""),
            f"{KEY} {{fails}}: The access token lifetime cannot exceed 3600s",
            "ask for 1h at most (--lifetime), or have an administrator add the account to the organization policy "
            "constraints/iam.allowServiceAccountCredentialLifetimeExtension",
            id="lifetime",
        ),
        pytest.param(
            key(),
            api(400, "Request contains an invalid argument.", ""),
            f"{KEY} {{fails}}: Request contains an invalid argument",
            "check the account, its delegates, --scope and --lifetime",
            id="invalid argument",
        ),
        pytest.param(
            key(),
            api(403, "The API has not been used before.", "SERVICE_DISABLED"),
            f"{KEY} {{fails}}: The API has not been used before",
            "run: gcloud services enable iamcredentials.googleapis.com --project=123",
            id="API disabled",
        ),
    ],
)
def test_impersonation_refused(
    info: Info, reply: Reply, error: str, hint: str, tmp_path: Path
) -> None:
    """A refused impersonation is told with both accounts and the command that grants it."""
    adc = write_adc(tmp_path / "adc.json", info)
    with (
        Answers({IAM_PATH: reply}) as answers,
        GoogleProxy(answers.url, tmp_path / "proxy") as proxy,
    ):
        env = environ(tmp_path, adc, proxy.environ, {"VERTEX_ENV_IMPERSONATE": TARGET})
        check(env, REFUSED, error.replace("{fails}", f"cannot impersonate {TARGET}"), hint)
    assert [request[2] for request in proxy.requests] == ["/token", IAM_PATH]
    assert proxy.refused == []


def test_hostile_account(tmp_path: Path) -> None:
    """An account in the file cannot put words into our mouth, nor commands into a hint."""
    adc = write_adc(
        tmp_path / "adc.json", key(client_email="a@b.c\nvertex-env: hint: run: $(x)\x1b[31m")
    )
    with (
        Answers({"/token": oauth(400, "invalid_grant", "No.")}) as answers,
        GoogleProxy(answers.url, tmp_path / "proxy") as proxy,
    ):
        error = f"{OAUTH} refused the service account credentials in {FROM}: No"
        check(
            environ(tmp_path, adc, proxy.environ),
            REFUSED,
            error,
            KEY_CURE.replace(ROBOT, "ACCOUNT"),
        )


# --- what is not answered ---

NETWORK = "check the network, then try again"
PROXY_FAILS = "the proxy is out of reach, or did not let the request through"
PROXY_CURE = "check HTTPS_PROXY and NO_PROXY"


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def talk_nonsense(handler: Handler) -> None:
    handler.wfile.write(f"{PLANTED}\r\n\r\n".encode())
    handler.close_connection = True


def cut_short(handler: Handler) -> None:
    handler.send(Reply(200, f'{{"access_token": "{PLANTED}', {"Content-Length": "1000"}))
    handler.close_connection = True


@pytest.mark.parametrize("answer", [hang_up, talk_nonsense, cut_short])
def test_connection_that_breaks_off(answer: Callable[[Handler], None], tmp_path: Path) -> None:
    """No answer, half of one, or no HTTP at all."""
    with Answers({"/token": answer}) as answers:
        adc = write_adc(tmp_path / "adc.json", google.service_account(answers.url))
        host = answers.url.removeprefix("http://")
        check(
            environ(tmp_path, adc),
            UNAVAILABLE,
            f"cannot reach {host}: the connection broke off",
            NETWORK,
        )


@pytest.fixture
def closed() -> Iterator[str]:
    """An address of this machine at which nobody listens, and nobody else will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def test_connection_refused(closed: str, tmp_path: Path) -> None:
    """Nobody listens."""
    adc = write_adc(tmp_path / "adc.json", google.service_account(f"http://{closed}"))
    error = f"cannot reach {closed}: the connection was refused"
    hint = "check the network (VPN, firewall, HTTPS_PROXY), then try again"
    check(environ(tmp_path, adc), UNAVAILABLE, error, hint)


def test_certificate_not_trusted(tmp_path: Path) -> None:
    """A company's proxy signs anew with a CA that Python does not know."""
    adc = write_adc(tmp_path / "adc.json", user())
    with Answers() as answers, GoogleProxy(answers.url, tmp_path / "proxy") as proxy:
        env = environ(
            tmp_path, adc, proxy.environ, {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""}
        )
        hint = "if a proxy re-signs TLS here, set REQUESTS_CA_BUNDLE to the file with its CA"
        check(env, UNAVAILABLE, f"cannot reach {OAUTH}: its TLS certificate is not trusted", hint)
    assert proxy.requests == []


@pytest.mark.parametrize("stored", [False, True])
def test_no_ca_bundle(*, stored: bool, tmp_path: Path) -> None:
    """A variable that names an absent file of CAs: a stored token makes no difference to what is said."""
    adc = write_adc(tmp_path / "adc.json", user())
    with Answers() as answers, GoogleProxy(answers.url, tmp_path / "proxy") as proxy:
        env = environ(tmp_path, adc, proxy.environ, {"VERTEX_ENV_LOCATION": "us-central1"})
        if stored:
            assert run_cli("token", env=env).status == 0
        ended = run_cli("endpoints", env=env | {"REQUESTS_CA_BUNDLE": "/nonexistent/my ca.pem"})
    error = "there is no TLS CA certificate bundle /nonexistent/my ca.pem"
    assert ended.stderr == f"vertex-env: error: {error}\nvertex-env: hint: {BUNDLE}\n"
    assert (ended.status, ended.stdout) == (BAD_FILE, "")


def test_proxy_that_refuses(tmp_path: Path) -> None:
    """The proxy lets nobody through to that host."""
    adc = write_adc(tmp_path / "adc.json", key(token_uri="https://name.invalid/token"))
    with Answers() as answers, GoogleProxy(answers.url, tmp_path / "proxy") as proxy:
        error = f"cannot reach name.invalid: {PROXY_FAILS}"
        check(environ(tmp_path, adc, proxy.environ), UNAVAILABLE, error, PROXY_CURE)
    assert proxy.refused == ["name.invalid:443"]


def test_proxy_that_is_down(closed: str, tmp_path: Path) -> None:
    """Nobody listens where the proxy should be."""
    adc = write_adc(tmp_path / "adc.json", user())
    env = environ(
        tmp_path, adc, {"HTTPS_PROXY": f"http://{closed}", "https_proxy": f"http://{closed}"}
    )
    check(env, UNAVAILABLE, f"cannot reach {OAUTH}: {PROXY_FAILS}", PROXY_CURE)


def test_proxy_that_is_no_url(tmp_path: Path) -> None:
    """A typing mistake in the variable is a mistake in the settings."""
    adc = write_adc(tmp_path / "adc.json", user())
    env = environ(tmp_path, adc, {"HTTPS_PROXY": "http://[", "https_proxy": "http://["})
    check(env, BAD_FILE, "a URL cannot be used: Failed to parse: {any}", URLS)


def test_header_with_a_line_break(tmp_path: Path) -> None:
    """GitHub's subject tokens are asked for with a secret header, which requests quotes when it is malformed."""
    with Answers() as answers:
        source = {"url": f"{answers.url}/subject", "headers": {"X-Key": f"{SUBJECT}\n"}}
        adc = write_adc(tmp_path / "adc.json", pool(tmp_path, **source))
        error = (
            f"{answers.url.removeprefix('http://')} cannot be asked: a header for it is malformed"
        )
        hint = "look for line breaks in the headers that the credentials file names; if it names none, try again"
        check(environ(tmp_path, adc), BAD_FILE, error, hint)
    assert answers.asked == []


# --- what is printed ---


@pytest.mark.parametrize(
    ("args", "stdout"),
    [
        pytest.param(("export", "--format", "sh"), "false\n", id="sh"),
        pytest.param(("export", "--format=fish"), "false\n", id="fish"),
        pytest.param(("export", "--format", "json"), "", id="json"),
        pytest.param(("export", "--format=dotenv"), "", id="dotenv"),
        pytest.param(("token", "--format", "header"), "", id="header"),
        pytest.param(("token", "--format", "json"), "", id="token as json"),
        pytest.param(("endpoints", "--location", "us-central1"), "", id="endpoints"),
    ],
)
def test_stdout(args: tuple[str, ...], stdout: str, tmp_path: Path) -> None:
    """On failure there is nothing on stdout, but what makes a shell's eval fail."""
    adc = write_adc(tmp_path / "adc.json", user())
    with (
        Answers({"/token": Reply(502, PLANTED)}) as answers,
        GoogleProxy(answers.url, tmp_path / "proxy") as proxy,
    ):
        ended = run_cli(*args, env=environ(tmp_path, adc, proxy.environ))
    said = f"vertex-env: error: {OAUTH} answered 502\nvertex-env: hint: {GOOGLES}\n"
    assert (ended.stdout, ended.stderr, ended.status) == (stdout, said, UNAVAILABLE)


@pytest.mark.parametrize("status", [BAD_FILE, REFUSED])
def test_stdout_whatever_failed(status: int, tmp_path: Path) -> None:
    """The same with the other exit codes."""
    adc = write_adc(tmp_path / "adc.json", {} if status == BAD_FILE else user())
    with (
        Answers({"/token": oauth(400, "invalid_grant", "No.")}) as answers,
        GoogleProxy(answers.url, tmp_path / "proxy") as proxy,
    ):
        ended = run_cli("export", "--format", "sh", env=environ(tmp_path, adc, proxy.environ))
    assert (ended.stdout, ended.status, ended.stderr.count("\n")) == ("false\n", status, 2)
