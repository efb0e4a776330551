"""`refusals`: what an answer of Google means, and the error for it."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes import PLANTED
from vertex_env.errors import CredentialsError, RefusedError, SettingsError, UnavailableError
from vertex_env.vertex.refusals import (
    ErrorBody,
    Exchange,
    Who,
    explain,
    make_anew,
    one_line,
    read_error_body,
    unreachable,
)

USER = Who("authorized_user", None, "/home/me/adc.json (from a test)")
ROBOT = Who("service_account", "robot@p.iam.gserviceaccount.com", "/key.json (from a test)")
MACHINE = Who(
    "metadata", "robot@p.iam.gserviceaccount.com", "the metadata server metadata.google.internal"
)
API = "us-central1-aiplatform.googleapis.com"
ENDPOINTS = "/v1/projects/my-project/locations/us-central1/endpoints"


def body(**error: object) -> bytes:
    return json.dumps({"error": error}).encode()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        pytest.param(b'{"error": "invalid_grant"}', ErrorBody("invalid_grant"), id="OAuth"),
        pytest.param(
            b'{"error": "invalid_grant", "error_description": "Expired.", "error_subtype": "invalid_rapt"}',
            ErrorBody("invalid_grant", "Expired", "invalid_rapt"),
            id="OAuth, all of it",
        ),
        pytest.param(
            b'{"error": "x", "error_description": ["y"]}', ErrorBody("x"), id="OAuth, a wrong type"
        ),
        pytest.param(
            body(
                code=403,
                message="Denied.",
                status="PERMISSION_DENIED",
                details=[{"reason": "SERVICE_DISABLED"}],
            ),
            ErrorBody("PERMISSION_DENIED", "Denied", "SERVICE_DISABLED"),
            id="API",
        ),
        pytest.param(
            b"[" + body(status="NOT_FOUND") + b"]", ErrorBody("NOT_FOUND"), id="API, in a list"
        ),
        pytest.param(
            body(
                details=[{"reason": "SERVICE_DISABLED", "metadata": {"consumer": "projects/123"}}]
            ),
            ErrorBody("", "", "SERVICE_DISABLED", "123"),
            id="API, with the project",
        ),
        pytest.param(
            body(
                details=[
                    {"reason": "SERVICE_DISABLED", "metadata": {"consumer": "projects/1; rm -rf /"}}
                ]
            ),
            ErrorBody("", "", "SERVICE_DISABLED"),
            id="API, with a project that is none",
        ),
        pytest.param(
            body(status="X", details=["?", {"a": 1}, {"reason": 5}, {"reason": "R"}]),
            ErrorBody("X", "", "R"),
            id="API, the reason after other details",
        ),
        pytest.param(body(status=5, message=None, details="?"), ErrorBody(), id="API, wrong types"),
        pytest.param(body(), ErrorBody(), id="API, empty"),
        pytest.param(b'{"error": null}', None, id="no error"),
        pytest.param(b'{"message": "Not found"}', None, id="somebody else's"),
        pytest.param(b"[]", None, id="empty list"),
        pytest.param(b"null", None, id="null"),
        pytest.param(b"<html>", None, id="HTML"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(b"\xff\xfe", None, id="binary"),
        pytest.param(b"[" * 100_000, None, id="deep"),
    ],
)
def test_answers(text: bytes, answer: ErrorBody | None) -> None:
    """Each shape of Google's errors is read; what is not one of them is None."""
    assert read_error_body(text) == answer


@pytest.mark.parametrize(
    ("exchange", "who", "kind", "message", "hint"),
    [
        pytest.param(
            None,
            ROBOT,
            CredentialsError,
            f"{ROBOT} cannot be used: the cause",
            "correct the file, or make a new key: gcloud iam service-accounts keys create FILE --iam-account=ACCOUNT",
            id="no request",
        ),
        pytest.param(
            Exchange(API, ENDPOINTS, 403, body(message="Denied.")),
            ROBOT,
            RefusedError,
            f"{API} refused {ROBOT}: Denied",
            "run: gcloud projects add-iam-policy-binding my-project --role=roles/aiplatform.user "
            "--member=serviceAccount:robot@p.iam.gserviceaccount.com",
            id="API, permission",
        ),
        pytest.param(
            Exchange(API, ENDPOINTS, 403, body(message="Denied.")),
            Who("authorized_user", "me@example.com", "x", "target@p.iam.gserviceaccount.com"),
            RefusedError,
            f"{API} refused the authorized user credentials of me@example.com in x: Denied",
            "run: gcloud projects add-iam-policy-binding my-project --role=roles/aiplatform.user "
            "--member=serviceAccount:target@p.iam.gserviceaccount.com",
            id="API, permission of the impersonated account",
        ),
        pytest.param(
            Exchange(
                API, ENDPOINTS, 403, body(message="Off.", details=[{"reason": "SERVICE_DISABLED"}])
            ),
            USER,
            RefusedError,
            f"{API} refused {USER}: Off",
            "run: gcloud services enable aiplatform.googleapis.com --project=my-project",
            id="API, not enabled",
        ),
        pytest.param(
            Exchange(
                API,
                ENDPOINTS,
                403,
                body(
                    details=[
                        {"reason": "SERVICE_DISABLED", "metadata": {"consumer": "projects/123"}}
                    ]
                ),
            ),
            USER,
            RefusedError,
            f"{API} refused {USER}",
            "run: gcloud services enable aiplatform.googleapis.com --project=123",
            id="API, not enabled in the project that is billed",
        ),
        pytest.param(
            Exchange(
                API,
                ENDPOINTS,
                403,
                body(
                    message="No.",
                    details=[
                        {"reason": "USER_PROJECT_DENIED", "metadata": {"consumer": "projects/q"}}
                    ],
                ),
            ),
            USER,
            RefusedError,
            f"{API} refused {USER}: No",
            "run: gcloud projects add-iam-policy-binding q --role=roles/serviceusage.serviceUsageConsumer "
            "--member=MEMBER; or choose another --quota-project",
            id="API, quota project",
        ),
        pytest.param(
            Exchange(
                API,
                ENDPOINTS,
                403,
                body(message="No.", details=[{"reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT"}]),
            ),
            USER,
            RefusedError,
            f"the token of {USER} lacks a scope: No",
            "leave --scope out; if it is, run: gcloud auth application-default login",
            id="scope of a login",
        ),
        pytest.param(
            Exchange(
                "iamcredentials.googleapis.com",
                "/v1/projects/-/serviceAccounts/x:generateAccessToken",
                403,
                body(details=[{"reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT"}]),
            ),
            MACHINE,
            RefusedError,
            f"the token of {MACHINE} lacks a scope",
            "give the machine a service account with the cloud-platform scope: "
            "gcloud compute instances set-service-account INSTANCE --scopes=cloud-platform",
            id="scope of a machine",
        ),
        pytest.param(
            Exchange(API, ENDPOINTS, 401, body(message="Bad token.")),
            USER,
            RefusedError,
            f"{API} refused {USER}: Bad token",
            "try a new token: vertex-env token --refresh",
            id="API, token",
        ),
        pytest.param(
            Exchange(API, ENDPOINTS, 400, body(status="INVALID_ARGUMENT")),
            USER,
            RefusedError,
            f"{API} refused {USER}: INVALID_ARGUMENT",
            "check project and location: vertex-env endpoints --all-locations",
            id="API, wrong question",
        ),
        pytest.param(
            None,
            MACHINE,
            CredentialsError,
            f"{MACHINE} cannot be used: the cause",
            "see what the machine may do: gcloud compute instances describe INSTANCE",
            id="no request to a metadata server",
        ),
        pytest.param(
            Exchange("metadata.google.internal", "/computeMetadata/v1/x", 404, b"<html>"),
            MACHINE,
            RefusedError,
            f"metadata.google.internal refused {MACHINE}",
            "give the machine a service account with the cloud-platform scope: "
            "gcloud compute instances set-service-account INSTANCE --scopes=cloud-platform",
            id="machine without an account",
        ),
        pytest.param(
            Exchange(API, "/", 408, b""),
            USER,
            UnavailableError,
            f"{API} answered 408",
            "it is Google's to mend: try again in a minute",
            id="408",
        ),
        pytest.param(
            Exchange(API, "/", 500, b'{"error": {}}'),
            USER,
            UnavailableError,
            f"{API} answered 500",
            "it is Google's to mend: try again in a minute",
            id="500 that says nothing",
        ),
        pytest.param(
            Exchange(API, "/", None),
            USER,
            UnavailableError,
            f"cannot reach {API}: the cause",
            "check the network, then try again",
            id="no answer, for an unknown reason",
        ),
    ],
)
def test_explanations(
    exchange: Exchange | None, who: Who, kind: type[Exception], message: str, hint: str
) -> None:
    """Who asked, whom, what came back, and the command that cures it. The rest of the table is in test_bad_input.py."""
    error = explain(exchange, "the cause.", who)
    assert (type(error), error.message, error.hint) == (kind, message, hint)
    # The chat endpoint has the same in an array.
    if exchange and exchange.body.startswith(b"{"):
        error = explain(replace(exchange, body=b"[" + exchange.body + b"]"), "the cause.", who)
        assert (type(error), error.message, error.hint) == (kind, message, hint)


IMPERSONATE = "/v1/projects/-/serviceAccounts/x@p.iam.gserviceaccount.com:generateAccessToken"
NAMED = Who(
    "authorized_user", None, "/adc.json (from a test)", named_by="GOOGLE_APPLICATION_CREDENTIALS"
)


def disabled(consumer: str) -> bytes:
    return body(
        code=403,
        message=f"Agent Platform API has not been used in project {consumer} before or it is disabled.",
        details=[{"reason": "SERVICE_DISABLED", "metadata": {"consumer": f"projects/{consumer}"}}],
    )


LACKING = body(
    code=403,
    status="PERMISSION_DENIED",
    message="Your application is authenticating by using local Application Default Credentials. The "
    "aiplatform.googleapis.com API requires a quota project, which is not set by default.",
)


@pytest.mark.parametrize("answer", [disabled("32555940559"), disabled("764086051850"), LACKING])
@pytest.mark.parametrize(("path", "project"), [(ENDPOINTS, "my-project"), (IMPERSONATE, "PROJECT")])
def test_no_quota_project(answer: bytes, path: str, project: str) -> None:
    """Google counts the request for gcloud's own project, where nobody can enable an API."""
    variable = f"export GOOGLE_CLOUD_QUOTA_PROJECT={project}"
    login = explain(Exchange(API, path, 403, answer), "", USER)
    assert login.hint == (
        f"set the quota project: gcloud auth application-default set-quota-project {project} (or {variable})"
    )
    # That command writes into the file of a login only.
    assert (
        explain(Exchange(API, path, 403, answer), "", NAMED).hint
        == f"set the quota project: {variable}"
    )


@pytest.mark.parametrize(
    ("path", "api"), [(ENDPOINTS, "aiplatform"), (IMPERSONATE, "iamcredentials")]
)
def test_a_disabled_api_in_a_project_of_the_users(path: str, api: str) -> None:
    """The control: any other project's API is one to enable."""
    for number in ("32555940558", "123"):
        hint = explain(Exchange(API, path, 403, disabled(number)), "", USER).hint
        assert hint == f"run: gcloud services enable {api}.googleapis.com --project={number}"


@pytest.mark.parametrize(
    ("cause", "kind", "message"),
    [
        pytest.param(
            "HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url: /token (Caused by SSLError("
            "SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed')))",
            UnavailableError,
            "cannot reach h: its TLS certificate is not trusted",
            id="certificate",
        ),
        pytest.param(
            "(Caused by SSLError(SSLError(1, '[SSL: WRONG_VERSION_NUMBER] wrong version number')))",
            UnavailableError,
            "cannot reach h: TLS could not be set up",
            id="no TLS",
        ),
        pytest.param(
            "(Caused by ProxyError('Unable to connect to proxy', OSError('Tunnel connection failed: 403 Forbidden')))",
            UnavailableError,
            "cannot reach h: the proxy is out of reach, or did not let the request through",
            id="proxy refuses",
        ),
        pytest.param(
            "(Caused by ProxyError('Unable to connect to proxy', NewConnectionError('… Connection refused')))",
            UnavailableError,
            "cannot reach h: the proxy is out of reach, or did not let the request through",
            id="proxy is down",
        ),
        pytest.param(
            "HTTPSConnectionPool(host='h', port=443): Read timed out. (read timeout=10)",
            UnavailableError,
            "cannot reach h: no answer in time",
            id="read",
        ),
        pytest.param(
            "(Caused by ConnectTimeoutError(<…>, 'Connection to h timed out. (connect timeout=10)'))",
            UnavailableError,
            "cannot reach h: no answer in time",
            id="connect",
        ),
        pytest.param(
            "(Caused by NameResolutionError(\"<…>: Failed to resolve 'h' ([Errno -2] Name or service not known)\"))",
            UnavailableError,
            "cannot reach h: the name does not resolve",
            id="name",
        ),
        pytest.param(
            "('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))",
            UnavailableError,
            "cannot reach h: the connection broke off",
            id="hung up",
        ),
        pytest.param(
            "('Connection broken: IncompleteRead(0 bytes read, 5 more expected)', …)",
            UnavailableError,
            "cannot reach h: the connection broke off",
            id="half an answer",
        ),
        pytest.param(
            "Could not find the TLS certificate file, invalid path: /my cert.pem",
            SettingsError,
            "there is no client certificate or key /my cert.pem",
            id="client certificate",
        ),
        pytest.param(
            "Could not find a suitable TLS CA certificate bundle, invalid path: /my ca.pem",
            SettingsError,
            "there is no TLS CA certificate bundle /my ca.pem",
            id="CA bundle",
        ),
        pytest.param(
            f"Invalid leading whitespace, reserved character(s), or return character(s) in header value: 'x {PLANTED}'",
            SettingsError,
            "h cannot be asked: a header for it is malformed",
            id="header",
        ),
        pytest.param(
            "something\nnew",
            UnavailableError,
            "cannot reach h: something new",
            id="unknown",
        ),
    ],
)
def test_unreachable(cause: str, kind: type[Exception], message: str) -> None:
    """What requests and urllib3 say, in a few words."""
    error = unreachable("h", cause)
    assert (type(error), error.message) == (kind, message)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param(
            "two\nlines\tand\x1b[31m more\u202e.",
            "two lines and [31m more",
            id="control characters",
        ),
        pytest.param("  Full stop. ", "Full stop", id="end"),
        pytest.param(None, "", id="nothing"),
        pytest.param(["x"], "", id="a wrong type"),
        pytest.param("y" * 301, "y" * 297 + "...", id="long"),
        pytest.param(f"token '{PLANTED}' is bad", "token '[hidden]' is bad", id="access token"),
        pytest.param("jwt eyJhbGciOi.eyJpc3Mi.c2ln here", "jwt [hidden] here", id="JWT"),
        pytest.param("1//0gFakeRefreshToken here", "[hidden] here", id="refresh token"),
        pytest.param("GOCSPX-fakeFAKEfake here", "[hidden] here", id="client secret"),
        pytest.param("Bearer 0123456789abcdef0 here", "Bearer [hidden] here", id="bearer"),
        pytest.param("a -----BEGIN PRIVATE KEY----- MIIE\nabc", "a [hidden]", id="private key"),
        pytest.param("x " + "Ab1_" * 12 + " y", "x [hidden] y", id="base64"),
        pytest.param(
            "Failed to parse: http://me:pass@word@h:x/y",
            "Failed to parse: http://[hidden]@h:x/y",
            id="password in a URL",
        ),
        pytest.param("https://h/a@b is fine", "https://h/a@b is fine", id="at sign in a path"),
        pytest.param(
            "Bearer token was refused", "Bearer token was refused", id="a word about bearers"
        ),
        pytest.param("keyJob and heyJude", "keyJob and heyJude", id="letters of a JWT in a word"),
        pytest.param(
            "constraints/iam.allowServiceAccountCredentialLifetimeExtension",
            "constraints/iam.allowServiceAccountCredentialLifetimeExtension",
            id="a long name",
        ),
        pytest.param(
            "projects/123456789012/locations/global/workloadIdentityPools/my-pool/providers/my-provider",
            "projects/123456789012/locations/global/workloadIdentityPools/my-pool/providers/my-provider",
            id="a resource name",
        ),
    ],
)
def test_one_line(text: object, line: str) -> None:
    """Text of others is shown on one line, without what looks like a secret; words stay."""
    assert one_line(text) == line


@settings(deadline=None)
@given(
    st.text()
    | st.text().map(lambda t: f"{t}{PLANTED}{t}")
    | st.text().map(lambda t: f"{t} eyJhbGciOiJSUzI1NiJ9.{t}")
)
def test_one_line_of_anything(text: str) -> None:
    """Whatever stands around it, a token does not get through, nor a control character, nor a second line."""
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= 300
    assert "ya29." not in line
    assert " eyJ" not in line


@settings(deadline=None)
@given(
    st.one_of(st.none(), st.integers(100, 599)),
    st.binary()
    | st.recursive(
        st.none() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(["error", "details", "reason", "message", "status"]), x
            )
        ),
    ).map(lambda x: json.dumps(x).encode()),
    st.sampled_from(
        ["/token", ENDPOINTS, "/v1/projects/-/serviceAccounts/x:generateAccessToken", "", "/\x1b\n"]
    ),
    st.sampled_from(
        [USER, ROBOT, MACHINE, Who("external_account", None, "x"), Who("new", None, "x")]
    ),
)
def test_explanation_of_anything(status: int | None, text: bytes, path: str, who: Who) -> None:
    """Every answer has an explanation of one line, and a cure of one line."""
    error = explain(Exchange("h", path, status, text), "cause", who)
    assert error.message.isprintable()
    assert error.hint.isprintable()
    assert error.hint
    assert not error.message.endswith((".", ":", " "))
    transient = status is None or status < 400 or status in (408, 429) or status >= 500
    assert error.exit_code == (75 if transient else 77)


@pytest.mark.parametrize(
    ("kind", "named_by", "hint"),
    [
        pytest.param(
            "authorized_user", None, "run: gcloud auth application-default login", id="login"
        ),
        pytest.param(
            "authorized_user",
            "--credentials",
            "run: gcloud auth application-default login, and drop --credentials: a login has a file of its own",
            id="login, but another file is named",
        ),
        pytest.param(
            "external_account_authorized_user",
            None,
            "run: gcloud auth application-default login --login-config=FILE",
            id="workforce",
        ),
        pytest.param(
            "impersonated_service_account",
            None,
            "run: gcloud auth application-default login --impersonate-service-account=ACCOUNT",
            id="impersonated",
        ),
        pytest.param(
            "external_account",
            "--credentials",
            "make the file anew: gcloud iam workload-identity-pools create-cred-config --help",
            id="workload",
        ),
        pytest.param("", None, "run: gcloud auth application-default login", id="unknown"),
    ],
)
def test_make_anew(kind: str, named_by: str | None, hint: str) -> None:
    """What replaces credentials depends on their kind; a login does not help while a variable names another file."""
    assert make_anew(kind, named_by) == hint
