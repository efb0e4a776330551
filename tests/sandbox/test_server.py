"""The sandbox, asked by those it is made for: google-auth and the openai package; and by worse clients."""

import asyncio
import http.client
import json
import os
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.auth import (
    exceptions,
    external_account_authorized_user,
    identity_pool,
    impersonated_credentials,
)
from google.auth.transport.requests import Request
from google.oauth2 import credentials, gdch_credentials, service_account

from vertex_env.sandbox.faults import Fault
from vertex_env.sandbox.server import Sandbox
from vertex_env.sandbox.tokens import Google
from vertex_env.vertex.refusals import read_error_body

# google-auth says that it is typed, but its constructors and methods are not: as Any they can be called.
LOGIN: Any = external_account_authorized_user.Credentials
USER: Any = credentials.Credentials
KEY: Any = service_account.Credentials
DISTRIBUTED: Any = gdch_credentials.ServiceAccountCredentials
POOL: Any = identity_pool.Credentials
IMPERSONATED: Any = impersonated_credentials.Credentials

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
ROBOT = "robot@sandbox-project.iam.gserviceaccount.com"
GENERATE = f"/v1/projects/-/serviceAccounts/{ROBOT}:generateAccessToken"
OPENAPI = "/v1/projects/p/locations/global/endpoints/openapi"
ENDPOINTS = "/v1/projects/p/locations/us-central1/endpoints"
METADATA = "/computeMetadata/v1/instance/service-accounts/default"
FLAVOR = {"Metadata-Flavor": "Google"}
REFRESH = {"grant_type": "refresh_token", "refresh_token": "fake"}
MODEL = "google/gemini-3-flash"
HELLO: list[Any] = [{"role": "user", "content": "good morning"}]
HEARD = "The sandbox heard: good morning"


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def connect(sandbox: Sandbox) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(sandbox.url.removeprefix("http://"), timeout=10)


def ask(
    sandbox: Sandbox,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    token: str = "",
) -> Reply:
    """One request on a connection of its own."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    typed = {"Content-Type": "application/json"} if data is not None else {}
    bearer = {"Authorization": f"Bearer {token}"} if token else {}
    with closing(connect(sandbox)) as connection:
        connection.request(method, path, data, {**typed, **bearer, **(headers or {})})
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())


def raw(sandbox: Sandbox, request: bytes) -> bytes:
    """What comes back for bytes that no HTTP client would send."""
    host, port = sandbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def settle(sandbox: Sandbox) -> None:
    """Wait until the sandbox is done with all connections."""
    while sandbox._server._connections:
        time.sleep(0.01)


def mint(sandbox: Sandbox) -> str:
    token = ask(sandbox, "POST", "/token", REFRESH).json["access_token"]
    assert isinstance(token, str)
    return token


def chat(sandbox: Sandbox, token: str) -> Reply:
    return ask(
        sandbox,
        "POST",
        f"{OPENAPI}/chat/completions",
        {"model": MODEL, "messages": HELLO},
        token=token,
    )


def client(sandbox: Sandbox, path: str = OPENAPI, token: str | None = None) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{sandbox.url}{path}", api_key=token or mint(sandbox), max_retries=0
    )


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def key_file(sandbox: Sandbox) -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {
        "type": "service_account",
        "client_email": ROBOT,
        "private_key_id": "1",
        "private_key": pem(key),
        "token_uri": f"{sandbox.url}/token",
    }


def pool_file(sandbox: Sandbox, source: Mapping[str, object], **more: object) -> dict[str, object]:
    return {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{sandbox.url}/v1/token",
        "credential_source": source,
        **more,
    }


def assert_works(
    sandbox: Sandbox, credentials: Any, lifetime: timedelta = timedelta(hours=1)
) -> None:
    """Fresh *credentials* carry a token that chats and lives for *lifetime*."""
    assert chat(sandbox, credentials.token).status == 200
    remaining = credentials.expiry.replace(tzinfo=UTC) - datetime.now(UTC)
    assert lifetime - timedelta(seconds=20) < remaining <= lifetime


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def request_() -> Iterator[Any]:
    with requests.Session() as session:
        transport: Any = Request
        yield transport(session)


@pytest.mark.parametrize(
    ("text", "count", "status"),
    [
        ("3x503", 3, 503),
        ("503", 1, 503),
        ("1x400", 1, 400),
        ("12x599", 12, 599),
        ("03x429", 3, 429),
    ],
)
def test_fault_parses(text: str, count: int, status: int) -> None:
    """A fault is COUNTxSTATUS, or STATUS for once."""
    assert Fault.parse(text) == Fault(count=count, status=status)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0x503", "at least once"),
        ("3x399", "between 400 and 599"),
        ("600", "between 400 and 599"),
        ("200", "between 400 and 599"),
        ("", "such as 3x503"),
        ("x503", "such as 3x503"),
        ("3x", "such as 3x503"),
        ("3X503", "such as 3x503"),
        ("-1x503", "such as 3x503"),
        (" 503", "such as 3x503"),
        ("503\n", "such as 3x503"),
        ("٥٠٣", "such as 3x503"),
        ("9999999999x503", "such as 3x503"),
    ],
)
def test_fault_refuses(text: str, message: str) -> None:
    """What is no fault is refused with the rule it broke."""
    with pytest.raises(ValueError, match=message):
        Fault.parse(text)


def test_faults_hit_requests_for_tokens_in_order() -> None:
    """Faults are used up one a request, those queued later come later, and every kind of request for a token counts."""
    with Sandbox(faults=[Fault(2, 503), Fault(1, 400)]) as sandbox:
        sandbox.fail(Fault(2, 429))
        answers = [
            ask(sandbox, "POST", "/token", REFRESH),
            ask(sandbox, "POST", "/v1/token", REFRESH),
            ask(sandbox, "POST", "/v1/oauthtoken", REFRESH),
            ask(sandbox, "POST", GENERATE, {}),
            ask(sandbox, "GET", f"{METADATA}/token", headers=FLAVOR),
            ask(sandbox, "POST", "/token", REFRESH),
        ]
        assert [answer.status for answer in answers] == [503, 503, 400, 429, 429, 200]
        assert [answer.json.get("error") for answer in answers] == [
            *["temporarily_unavailable"] * 2,
            "invalid_grant",
            *["temporarily_unavailable"] * 2,
            None,
        ]
        assert answers[2].json["error_description"] == "Token has been expired or revoked."
        assert sandbox.counts == {"token": 6, "chat": 0, "refused": 0}


def test_faults_spare_everything_else() -> None:
    """A fault waits for a request for a token; chats go on."""
    with Sandbox() as sandbox:
        token = mint(sandbox)
        sandbox.fail(Fault(1, 503))
        assert chat(sandbox, token).status == 200
        assert ask(sandbox, "GET", f"{METADATA}/email", headers=FLAVOR).status == 200
        assert ask(sandbox, "POST", "/token", REFRESH).status == 503


def test_google_auth_retries_a_fault(request_: Any) -> None:
    """google-auth asks a second time after a 503, and a second time is enough."""
    with Sandbox(faults=[Fault(1, 503)]) as sandbox:
        key = KEY.from_service_account_info(key_file(sandbox), scopes=SCOPES)
        key.refresh(request_)
        assert_works(sandbox, key)
        assert sandbox.counts["token"] == 2


def test_google_auth_reads_a_refusal(sandbox: Sandbox, request_: Any) -> None:
    """A 400 is a login that expired."""
    sandbox.fail(Fault(1, 400))
    key = KEY.from_service_account_info(key_file(sandbox), scopes=SCOPES)
    with pytest.raises(
        exceptions.RefreshError, match="invalid_grant: Token has been expired or revoked"
    ):
        key.refresh(request_)


def test_delay_slows_requests_for_tokens() -> None:
    """Who asks for a token waits; who asks for anything else does not."""
    with Sandbox(delay=timedelta(milliseconds=300)) as sandbox:
        start = time.monotonic()
        mint(sandbox)
        assert time.monotonic() - start >= 0.3
    with Sandbox(delay=timedelta(hours=1)) as sandbox:
        assert chat(sandbox, "garbage").status == 401
        assert ask(sandbox, "GET", f"{METADATA}/email", headers=FLAVOR).status == 200


def test_leaving_does_not_wait_for_a_delay() -> None:
    """The end of the sandbox ends the requests it holds back."""
    start = time.monotonic()
    with Sandbox(delay=timedelta(hours=1)) as sandbox, closing(connect(sandbox)) as connection:
        connection.request("POST", "/token", json.dumps(REFRESH))
        while not sandbox.counts["token"]:
            time.sleep(0.01)
    assert time.monotonic() - start < 5


def test_login(sandbox: Sandbox, request_: Any, tmp_path: Path) -> None:
    """The ADC file for a child is a login that plain google-auth refreshes at the sandbox."""
    environ = sandbox.environ(str(tmp_path), {})
    login = LOGIN.from_file(environ["GOOGLE_APPLICATION_CREDENTIALS"])
    login.refresh(request_)
    assert login.is_user
    assert_works(sandbox, login)


def test_user(sandbox: Sandbox, request_: Any) -> None:
    """A plain user's login, where the program can be told the token endpoint."""
    info = {"client_id": "fake", "client_secret": "fake", "refresh_token": "fake"}
    user = USER.from_authorized_user_info(info).with_token_uri(f"{sandbox.url}/token")
    user.refresh(request_)
    assert_works(sandbox, user)


def test_service_account(sandbox: Sandbox, request_: Any) -> None:
    """A service account's key signs for a token."""
    key = KEY.from_service_account_info(key_file(sandbox), scopes=SCOPES)
    key.refresh(request_)
    assert_works(sandbox, key)


def test_distributed_cloud(sandbox: Sandbox, request_: Any) -> None:
    """A service account of Google Distributed Cloud exchanges what it signed, in JSON."""
    info = {
        "type": "gdch_service_account",
        "format_version": "1",
        "project": "p",
        "name": "robot",
        "private_key_id": "1",
        "private_key": pem(ec.generate_private_key(ec.SECP256R1())),
        "token_uri": f"{sandbox.url}/v1/token",
    }
    distributed = DISTRIBUTED.from_service_account_info(info).with_gdch_audience("audience")
    distributed.refresh(request_)
    assert_works(sandbox, distributed)


def test_workload_identity_from_a_file(sandbox: Sandbox, request_: Any, tmp_path: Path) -> None:
    """A subject token from a file is exchanged."""
    subject = tmp_path / "subject"
    subject.write_text("subject")
    pool = POOL.from_info(pool_file(sandbox, {"file": str(subject)}), scopes=SCOPES)
    pool.refresh(request_)
    assert_works(sandbox, pool)


def test_workload_identity_from_a_url(sandbox: Sandbox, request_: Any) -> None:
    """A subject token from a URL, which the sandbox has, is exchanged."""
    pool = POOL.from_info(pool_file(sandbox, {"url": f"{sandbox.url}/subject"}), scopes=SCOPES)
    pool.refresh(request_)
    assert_works(sandbox, pool)


def test_workload_identity_with_impersonation(sandbox: Sandbox, request_: Any) -> None:
    """The exchanged token buys a service account's, of the lifetime asked for."""
    info = pool_file(
        sandbox,
        {"url": f"{sandbox.url}/subject"},
        service_account_impersonation_url=f"{sandbox.url}{GENERATE}",
        service_account_impersonation={"token_lifetime_seconds": 7200},
    )
    pool = POOL.from_info(info, scopes=SCOPES)
    pool.refresh(request_)
    assert_works(sandbox, pool, timedelta(hours=2))
    assert sandbox.counts["token"] == 2


@pytest.mark.parametrize("hours", [1, 12])
def test_impersonation(sandbox: Sandbox, request_: Any, hours: int) -> None:
    """A service account's token for another's, for up to twelve hours."""
    source = KEY.from_service_account_info(key_file(sandbox), scopes=SCOPES)
    impersonated = IMPERSONATED(
        source,
        ROBOT,
        SCOPES,
        lifetime=hours * 3600,
        iam_endpoint_override=f"{sandbox.url}{GENERATE}",
    )
    impersonated.refresh(request_)
    assert_works(sandbox, impersonated, timedelta(hours=hours))


def test_impersonation_beyond_twelve_hours(sandbox: Sandbox, request_: Any) -> None:
    """Nobody gets more than twelve hours."""
    source = KEY.from_service_account_info(key_file(sandbox), scopes=SCOPES)
    impersonated = IMPERSONATED(
        source, ROBOT, SCOPES, lifetime=43201, iam_endpoint_override=f"{sandbox.url}{GENERATE}"
    )
    with pytest.raises(exceptions.RefreshError, match="INVALID_ARGUMENT"):
        impersonated.refresh(request_)


CHILD = """
import json, google.auth, google.auth.compute_engine, google.auth.transport.requests
from google.auth.compute_engine import _metadata
request = google.auth.transport.requests.Request()
adc, project = google.auth.default()
adc.refresh(request)
engine = google.auth.compute_engine.Credentials()
engine.refresh(request)
print(json.dumps({
    "adc": type(adc).__module__,
    "project": project,
    "token": adc.token,
    "detected": _metadata.is_on_gce(request),
    "engine project": _metadata.get_project_id(request),
    "email": engine.service_account_email,
    "scopes": engine.scopes,
    "universe": engine.universe_domain,
    "engine token": engine.token,
    "remaining": (engine.expiry - google.auth._helpers.utcnow()).total_seconds(),
}))
"""


def test_child(sandbox: Sandbox, tmp_path: Path) -> None:
    """A child with the sandbox's environment finds its credentials, project and metadata server without being told."""
    environ = sandbox.environ(str(tmp_path), os.environ)
    output = subprocess.run(
        [sys.executable, "-c", CHILD], env=environ, capture_output=True, check=True, timeout=30
    ).stdout
    told = json.loads(output)
    assert chat(sandbox, told.pop("token")).status == 200
    assert chat(sandbox, told.pop("engine token")).status == 200
    assert 3590 < told.pop("remaining") <= 3600
    assert told == {
        "adc": "google.auth.external_account_authorized_user",
        "project": "sandbox-project",
        "detected": True,
        "engine project": "sandbox-project",
        "email": "sandbox@sandbox-project.iam.gserviceaccount.com",
        "scopes": SCOPES,
        "universe": "googleapis.com",
    }


def test_token_answer(sandbox: Sandbox) -> None:
    """A token looks like Google's in kind and length, is never the same twice, and says how long it lives."""
    first, second = (ask(sandbox, "POST", "/token", REFRESH).json for _ in range(2))
    assert first["access_token"].startswith("ya29.sandbox-1-")
    assert second["access_token"].startswith("ya29.sandbox-2-")
    assert 180 < len(first["access_token"]) < 200
    assert {**first, "access_token": ""} == {
        "access_token": "",
        "expires_in": 3600,
        "token_type": "Bearer",
    }


def test_grants_as_forms_and_as_json(sandbox: Sandbox) -> None:
    """OAuth requests are forms by the book; JSON serves as well; a failed one says why."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (
        ask(sandbox, "POST", "/token", b"grant_type=refresh_token&refresh_token=fake", form).status
        == 200
    )
    answer = ask(sandbox, "POST", "/token", b"grant_type=password", form)
    assert (answer.status, answer.json["error"]) == (400, "unsupported_grant_type")
    answer = ask(sandbox, "POST", "/v1/token", REFRESH)
    assert (answer.status, answer.json["error"]) == (400, "unsupported_grant_type")
    answer = ask(sandbox, "POST", "/token", {"grant_type": ["refresh_token"]})
    assert (answer.status, answer.json["error"]) == (400, "unsupported_grant_type")
    answer = ask(sandbox, "POST", "/token", {"grant_type": "refresh_token"})
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


def test_exchange_says_what_it_issued(sandbox: Sandbox) -> None:
    """STS names the type of the token, as RFC 8693 wants."""
    exchange = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "fake",
    }
    answer = ask(sandbox, "POST", "/v1/token", exchange)
    assert answer.json["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"


@pytest.mark.parametrize(
    ("lifetime", "promised"), [(0, 1), (0.2, 1), (1, 1), (1.9, 1), (2, 2), (299.999, 299)]
)
def test_lifetime_in_whole_seconds(lifetime: float, promised: int) -> None:
    """`expires_in` has whole seconds and at least one, whatever the lifetime."""
    with Sandbox(lifetime=timedelta(seconds=lifetime)) as sandbox:
        assert ask(sandbox, "POST", "/token", REFRESH).json["expires_in"] == promised
        assert (
            ask(sandbox, "GET", f"{METADATA}/token", headers=FLAVOR).json["expires_in"] == promised
        )


def test_expiry() -> None:
    """A token is accepted until the second it promised and refused from then on."""
    with Sandbox(lifetime=timedelta(seconds=1)) as sandbox:
        start = time.monotonic()
        token = mint(sandbox)
        while (answer := chat(sandbox, token)).status == 200:
            assert time.monotonic() - start < 5
            time.sleep(0.01)
        assert time.monotonic() - start > 0.99
        assert answer.status == 401
        assert answer.json["error"]["details"][0]["reason"] == "ACCESS_TOKEN_EXPIRED"
        assert sandbox.counts["refused"] == 1
        assert sandbox.counts["chat"] > 1
        assert chat(sandbox, mint(sandbox)).status == 200


def test_impersonated_expiry() -> None:
    """From `expireTime` on an impersonated token is refused; the default hour is the sandbox's hour."""
    with Sandbox(lifetime=timedelta(seconds=2)) as sandbox:
        answer = ask(sandbox, "POST", GENERATE, {"lifetime": "3600s"}, token=mint(sandbox)).json
        expiry = datetime.strptime(answer["expireTime"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        while chat(sandbox, answer["accessToken"]).status == 200:
            assert datetime.now(UTC) < expiry + timedelta(seconds=5)
            time.sleep(0.01)
        assert datetime.now(UTC) >= expiry


@pytest.mark.parametrize(
    "lifetime", ["43201s", "0s", "-1s", "1h", "", 3600, None, "99999999999999999999s"]
)
def test_impersonated_lifetime_refused(sandbox: Sandbox, lifetime: object) -> None:
    """A lifetime is a number of seconds from 1 to 43200, followed by s."""
    answer = ask(sandbox, "POST", GENERATE, {"lifetime": lifetime}, token=mint(sandbox))
    assert (answer.status, answer.json["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_impersonation_needs_a_token(sandbox: Sandbox) -> None:
    """The IAM API refuses under its own name."""
    answer = ask(sandbox, "POST", GENERATE, {})
    assert answer.status == 401
    assert answer.json["error"]["details"][0]["metadata"] == {
        "service": "iamcredentials.googleapis.com"
    }


def test_memory_stays_bounded() -> None:
    """Tokens that expired long ago are forgotten; those that live or died lately are not."""
    google = Google(timedelta(hours=1), (), timedelta(0))
    now = datetime.now(UTC)
    lately, living = (
        google.mint(now - timedelta(minutes=59)),
        google.mint(now + timedelta(hours=12)),
    )
    for _ in range(5000):
        google.mint(now - timedelta(hours=2))
    assert len(google._expiries) < 1003
    assert google.refusal(lately) == "ACCESS_TOKEN_EXPIRED"
    assert google.refusal(living) is None


def test_metadata_gives_everybody_the_same_token() -> None:
    """The token stays until a quarter of its life is left, and a whole second at least; then there is a new one."""
    with Sandbox(lifetime=timedelta(seconds=2)) as sandbox:

        def given(path: str) -> Any:
            return ask(sandbox, "GET", f"{path}/token", headers=FLAVOR).json

        first = given(METADATA)
        again = given(
            METADATA.replace("default", "sandbox@sandbox-project.iam.gserviceaccount.com")
        )
        assert first["access_token"] == again["access_token"]
        assert (first["expires_in"], again["expires_in"]) == (2, 1)
        time.sleep(1.05)
        assert given(METADATA)["access_token"] != first["access_token"]
        assert chat(sandbox, first["access_token"]).status == 200
        assert sandbox.counts["token"] == 3


@pytest.mark.parametrize(("lifetime", "kept"), [(3600, 3358), (400, 298)])
def test_metadata_renews_near_the_end(lifetime: int, kept: int) -> None:
    """A new token comes with four minutes left, or a quarter of a short life."""
    google = Google(timedelta(seconds=lifetime), (), timedelta(0))
    token, expiry = "old", datetime.now(UTC) + timedelta(seconds=lifetime)
    google._shared = token, expiry - timedelta(seconds=kept)
    assert google.shared()[0] == "old"
    google._shared = token, expiry - timedelta(seconds=kept + 2)
    assert google.shared()[0] != "old"


def test_metadata_wants_its_flavor(sandbox: Sandbox) -> None:
    """Without the header there is no answer, except to the ping; with or without, the server shows itself."""
    for path, headers, status in (
        ("/", {}, 200),
        (f"{METADATA}/token", {}, 403),
        (f"{METADATA}/token", {"Metadata-Flavor": "google"}, 403),
        (f"{METADATA}/token", FLAVOR, 200),
        ("/computeMetadata/v1/universe/universe-domain", FLAVOR, 404),
        ("/computeMetadata/v1/instance/service-accounts/other@example.com/token", FLAVOR, 404),
    ):
        answer = ask(sandbox, "GET", path, headers=headers)
        assert (answer.status, answer.headers["Metadata-Flavor"]) == (status, "Google"), path
    assert sandbox.counts["token"] == 1


def test_metadata_facts(sandbox: Sandbox) -> None:
    """The account and the project."""
    account = ask(sandbox, "GET", f"{METADATA}/?recursive=true", headers=FLAVOR)
    assert account.headers["Content-Type"].startswith("application/json")
    assert account.json["email"] == "sandbox@sandbox-project.iam.gserviceaccount.com"
    assert (
        ask(sandbox, "GET", f"{METADATA}/email", headers=FLAVOR).body
        == account.json["email"].encode()
    )
    assert (
        ask(sandbox, "GET", "/computeMetadata/v1/project/project-id", headers=FLAVOR).body
        == b"sandbox-project"
    )


def test_openai(sandbox: Sandbox) -> None:
    """The openai package gets a completion that repeats what the user said last."""
    with client(sandbox) as openai_client:
        completion = openai_client.chat.completions.create(
            model=MODEL,
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "never mind"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "good"},
                        {"type": "text", "text": "morning"},
                    ],
                },
                {"role": "assistant", "content": "Well?"},
            ],
        )
    assert completion.model == MODEL
    assert completion.choices[0].message.content == HEARD
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert (
        completion.usage.total_tokens
        == completion.usage.prompt_tokens + completion.usage.completion_tokens
        == 7
    )
    assert abs(completion.created - time.time()) < 10
    assert sandbox.counts == {"token": 1, "chat": 1, "refused": 0}


@pytest.mark.parametrize("usage", [False, True])
def test_openai_streams(sandbox: Sandbox, usage: bool) -> None:  # noqa: FBT001  # a case of the test
    """A streamed completion comes in several deltas, and tells its usage if asked."""
    with client(sandbox) as openai_client:
        chunks = list(
            openai_client.chat.completions.create(
                model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": usage}
            )
        )
    deltas = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(one.delta.content or "" for one in deltas) == HEARD
    assert len([one for one in deltas if one.delta.content]) == 5
    assert deltas[0].delta.role == "assistant"
    assert [one.finish_reason for one in deltas] == [*[None] * 6, "stop"]
    assert (chunks[-1].usage is not None) == usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_openai_async(sandbox: Sandbox) -> None:
    """The asynchronous client, many at once, whole and streamed."""

    async def talk() -> list[str | None]:
        async with openai.AsyncOpenAI(
            base_url=f"{sandbox.url}{OPENAPI}", api_key=mint(sandbox), max_retries=0
        ) as talker:
            whole = [talker.chat.completions.create(model=MODEL, messages=HELLO) for _ in range(20)]
            said = [
                completion.choices[0].message.content for completion in await asyncio.gather(*whole)
            ]
            stream = await talker.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
            return [
                *said,
                "".join([chunk.choices[0].delta.content or "" async for chunk in stream]),
            ]

    assert asyncio.run(talk()) == [HEARD] * 21


def test_openai_responses(sandbox: Sandbox) -> None:
    """OpenAI's own models speak the Responses API."""
    with client(sandbox, "/v1/projects/p/locations/global/publishers/openai/v1") as openai_client:
        for said in ("good morning", HELLO):
            response = openai_client.responses.create(model="gpt-5", input=said)
            assert response.output_text == HEARD
            assert response.status == "completed"
    old = client(sandbox, "/v1/projects/p/locations/global/publishers/openai/v1", "old")
    with old, pytest.raises(openai.AuthenticationError):
        old.responses.create(model="gpt-5", input="good morning")


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize(
    "endpoint", ["1234567890123456789", "2345678901234567890", "mg-endpoint-1a2b"]
)
def test_openai_on_an_endpoint_of_ones_own(sandbox: Sandbox, version: str, endpoint: str) -> None:
    """A self-deployed endpoint needs no model."""
    with client(
        sandbox, f"/{version}/projects/p/locations/us-central1/endpoints/{endpoint}"
    ) as openai_client:
        completion = openai_client.chat.completions.create(model="", messages=HELLO)
    assert completion.choices[0].message.content == HEARD


def test_openai_is_told_what_is_wrong(sandbox: Sandbox) -> None:
    """Each mistake has the status that Google gives it, and where that has one, the message."""
    with client(sandbox) as right, client(sandbox, token="ya29.wrong") as wrong:
        with pytest.raises(openai.AuthenticationError, match="invalid authentication credentials"):
            wrong.chat.completions.create(model=MODEL, messages=HELLO)
        for model in ("gemini-3-flash", "", "/gemini", "google/"):
            with pytest.raises(openai.BadRequestError) as malformed:
                right.chat.completions.create(model=model, messages=HELLO)
            assert (
                f"Malformed publisher model (`model`: '{model}') for"
                in error_in(malformed.value.body)["message"]
            )
        with pytest.raises(openai.NotFoundError) as page:
            right.models.list()
        assert page.value.response.headers["Content-Type"].startswith("text/html")
    with (
        client(sandbox, f"{ENDPOINTS}/1") as absent,
        pytest.raises(openai.NotFoundError) as nowhere,
    ):
        absent.chat.completions.create(model="", messages=HELLO)
    assert error_in(nowhere.value.body)["message"].startswith("Endpoint `projects/p")


def error_in(body: Any) -> Any:
    """The error in the chat endpoint's array."""
    (only,) = body
    return only["error"]


REFUSED = {
    400: ("INVALID_ARGUMENT", "invalid argument"),
    403: ("PERMISSION_DENIED", "Permission 'aiplatform.endpoints.predict' denied on resource"),
    404: (
        "NOT_FOUND",
        "Publisher Model `projects/p/locations/global/publishers/google/models/gemini-3-flash` was",
    ),
    429: ("RESOURCE_EXHAUSTED", "Resource exhausted"),
    503: ("UNAVAILABLE", "currently unavailable"),
    418: ("UNKNOWN", "A fault of the sandbox"),
}


@pytest.mark.parametrize("status", REFUSED)
def test_refusals_are_arrays(status: int) -> None:
    """The chat endpoint wraps its errors in an array, and `refusals` reads them."""
    with Sandbox(refusals=[Fault(1, status)]) as sandbox:
        token = mint(sandbox)
        answer = chat(sandbox, token)
        error = error_in(answer.json)
        name, message = REFUSED[status]
        assert (answer.status, error["code"], error["status"]) == (status, status, name)
        assert message in error["message"]
        told = read_error_body(answer.body)
        assert told is not None
        assert (told.error, told.reason) == (name, "IAM_PERMISSION_DENIED" if status == 403 else "")
        assert chat(sandbox, token).status == 200
        assert sandbox.counts == {"token": 1, "chat": 1, "refused": 0}


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("array", [False, True])
def test_a_401_is_an_object_or_an_array(array: bool, planned: bool) -> None:  # noqa: FBT001  # cases of the test
    """As the sandbox is told, for a wrong token and for a planned refusal; other errors are arrays."""
    with Sandbox(array_401=array, refusals=[Fault(1, 401)] if planned else []) as sandbox:
        answer = chat(sandbox, mint(sandbox) if planned else "garbage")
        error = error_in(answer.json) if array else answer.json["error"]
        reason = "ACCESS_TOKEN_EXPIRED" if planned else "ACCESS_TOKEN_TYPE_UNSUPPORTED"
        assert (answer.status, error["details"][0]["reason"]) == (401, reason)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer realm=")
        assert sandbox.counts["refused"] == 1
        sandbox.refuse(Fault(1, 429))
        assert error_in(chat(sandbox, mint(sandbox)).json)["code"] == 429
        # Only the chat endpoint has arrays.
        assert ask(sandbox, "GET", ENDPOINTS).json["error"]["code"] == 401


def test_refusals_wait_for_a_chat_with_a_token() -> None:
    """They come in order, spare requests for tokens, and can be taken back."""
    with Sandbox(refusals=[Fault(2, 429), Fault(1, 403)]) as sandbox:
        token = mint(sandbox)
        assert chat(sandbox, "garbage").status == 401
        assert [chat(sandbox, token).status for _ in range(4)] == [429, 429, 403, 200]
        sandbox.refuse(Fault(9, 429))
        sandbox.heal()
        assert chat(sandbox, token).status == 200


KINDS: Mapping[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
}


@pytest.mark.parametrize("status", KINDS)
def test_openai_shows_the_status_of_an_array(sandbox: Sandbox, status: int) -> None:
    """The message has the status alone, and the body the words. Control: those of an object are shown."""
    with (
        Sandbox(refusals=[Fault(1, status)], array_401=True) as google,
        client(google) as openai_client,
    ):
        with pytest.raises(KINDS[status]) as caught:
            openai_client.chat.completions.create(model=MODEL, messages=HELLO)
        assert str(caught.value).startswith(f"Error code: {status}")
        error = error_in(caught.value.body)
        assert error["code"] == status
        assert len(error["message"]) > 20
    wrong = client(sandbox, token="garbage")
    with wrong as openai_client, pytest.raises(openai.AuthenticationError) as shown:
        openai_client.chat.completions.create(model=MODEL, messages=HELLO)
    assert str(shown.value).startswith(
        "Error code: 401 - Request had invalid authentication credentials"
    )


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "CREDENTIALS_MISSING"),
        ("", "CREDENTIALS_MISSING"),
        ("Bearer", "CREDENTIALS_MISSING"),
        ("Bearer ", "CREDENTIALS_MISSING"),
        ("Basic eDp5", "CREDENTIALS_MISSING"),
        ("Bearer garbage", "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        ("Bearer ya29.sandbox-1-forged", "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        ("Bearer é", "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
    ],
)
def test_refusals(sandbox: Sandbox, authorization: str | None, reason: str) -> None:
    """A 401 says why, in Google's shape, in its body and a header."""
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = ask(
        sandbox, "POST", f"{OPENAPI}/chat/completions", {"model": MODEL, "messages": HELLO}, headers
    )
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith(
        'Bearer realm="https://accounts.google.com/"'
    )
    assert ('error="invalid_token"' in answer.headers["WWW-Authenticate"]) == (
        reason != "CREDENTIALS_MISSING"
    )
    error = answer.json["error"]
    assert (error["code"], error["status"]) == (401, "UNAUTHENTICATED")
    assert error["details"][0] == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "aiplatform.googleapis.com"},
    }
    assert sandbox.counts == {"token": 0, "chat": 0, "refused": 1}


def test_bearer_in_any_case(sandbox: Sandbox) -> None:
    """The name of the scheme has no case; RFC 9110 §11.1."""
    headers = {"Authorization": f"bEARER  {mint(sandbox)}"}
    assert ask(sandbox, "GET", ENDPOINTS, headers=headers).status == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe\xff", b"[" * 200_000, b'{"a": ' + b"9" * 5000 + b"}"],
)
def test_body_that_is_no_object(sandbox: Sandbox, body: bytes) -> None:
    """What is not a JSON object is refused as such, however odd."""
    answer = ask(sandbox, "POST", f"{OPENAPI}/chat/completions", body, token=mint(sandbox))
    assert (answer.status, error_in(answer.json)["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"messages": "hello"},
        {"messages": [None, 1, {"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": [None, {"type": "image_url"}, {"text": None}]}]},
        {"messages": [{"role": "user", "content": 7}], "stream": True, "stream_options": "all"},
        {"messages": [{"role": "user", "content": "\ud800"}], "stream": True},
    ],
)
def test_odd_messages(sandbox: Sandbox, more: Mapping[str, object]) -> None:
    """Messages of any make get an answer."""
    answer = ask(
        sandbox,
        "POST",
        f"{OPENAPI}/chat/completions",
        {"model": MODEL, **more},
        token=mint(sandbox),
    )
    assert answer.status == 200
    assert b"sandbox" in answer.body


def test_endpoints_in_pages(sandbox: Sandbox) -> None:
    """The list comes in pages of the size asked for, and the last has no token for another."""
    token = mint(sandbox)
    sizes, names, page = [], [], ""
    while True:
        answer = ask(sandbox, "GET", f"{ENDPOINTS}?pageSize=2&pageToken={page}", token=token).json
        sizes.append(len(answer["endpoints"]))
        names += [endpoint["displayName"] for endpoint in answer["endpoints"]]
        page = answer.get("nextPageToken", "")
        if not page:
            break
    assert sizes == [2, 1]
    assert names == ["sandbox-llama", "sandbox-dedicated", "sandbox-gemma"]
    assert len(ask(sandbox, "GET", ENDPOINTS, token=token).json["endpoints"]) == 3
    for query in ("pageSize=-1", "pageSize=two", "pageToken=x"):
        assert ask(sandbox, "GET", f"{ENDPOINTS}?{query}", token=token).status == 400


def test_endpoints_by_location(sandbox: Sandbox) -> None:
    """Each location has its own, and one without any says nothing at all."""
    token = mint(sandbox)
    locations = ask(sandbox, "GET", "/v1/projects/p/locations", token=token).json["locations"]
    listed = {
        location["locationId"]: ask(
            sandbox, "GET", f"/v1/{location['name']}/endpoints", token=token
        ).json
        for location in locations
    }
    assert {name: len(answer.get("endpoints", [])) for name, answer in listed.items()} == {
        "us-central1": 3,
        "europe-west4": 1,
        "asia-northeast1": 0,
    }
    assert listed["asia-northeast1"] == {}


def test_endpoint(sandbox: Sandbox) -> None:
    """One endpoint: its name, its model, and its own host if it has one."""
    token = mint(sandbox)
    shared, dedicated = (
        ask(sandbox, "GET", f"{ENDPOINTS}/{name}", token=token).json
        for name in ("1234567890123456789", "2345678901234567890")
    )
    assert shared["name"] == "projects/p/locations/us-central1/endpoints/1234567890123456789"
    assert len(shared["deployedModels"]) == 1
    assert "dedicatedEndpointDns" not in shared
    assert dedicated["dedicatedEndpointEnabled"] is True
    assert (
        dedicated["dedicatedEndpointDns"]
        == "2345678901234567890.us-central1-123456789012.prediction.vertexai.goog"
    )
    absent = ask(sandbox, "GET", f"{ENDPOINTS}/1", token=token)
    assert (absent.status, absent.json["error"]["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "path", ["/v1/projects/p/locations", ENDPOINTS, f"{ENDPOINTS}/1234567890123456789"]
)
def test_endpoints_need_a_token(sandbox: Sandbox, path: str) -> None:
    """Nothing about a project is public."""
    assert ask(sandbox, "GET", path).status == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/token"),
        ("GET", f"{OPENAPI}/models"),
        ("GET", "/v1/models"),
        ("GET", f"{OPENAPI}/chat/completions"),
        ("POST", f"{OPENAPI}/embeddings"),
        ("POST", "/v2/projects/p/locations/global/endpoints/openapi/chat/completions"),
        ("DELETE", f"{ENDPOINTS}/1234567890123456789"),
        ("HEAD", "/nothing"),
        ("OPTIONS", "*"),
    ],
)
def test_nothing_else_is_there(sandbox: Sandbox, method: str, path: str) -> None:
    """What Google does not have is a page of HTML."""
    answer = ask(sandbox, method, path)
    assert (answer.status, answer.headers["Content-Type"]) == (404, "text/html; charset=UTF-8")
    assert answer.body.startswith(b"<!DOCTYPE html>") != (method == "HEAD")


def test_environ_sets_everything(sandbox: Sandbox, tmp_path: Path) -> None:
    """A child sees the sandbox and nothing else of Google."""
    foreign = {
        "VERTEX_ENV_PROFILE": "work",
        "GOOGLE_CLOUD_LOCATION": "us",
        "GOOGLE_APPLICATION_CREDENTIALS": "/real",
        "CLOUDSDK_CORE_PROJECT": "real",
        "GCLOUD_PROJECT": "real",
        "GCE_METADATA_ROOT": "metadata",
        "OPENAI_API_KEY": "sk-real",
        "NO_GCE_CHECK": "true",
    }
    base = {**foreign, "PATH": "/bin", "GOOGLER": "kept", "MY_OPENAI_API_KEY": "kept"}
    before = dict(base)
    address = sandbox.url.removeprefix("http://")
    assert sandbox.environ(str(tmp_path), base) == {
        "PATH": "/bin",
        "GOOGLER": "kept",
        "MY_OPENAI_API_KEY": "kept",
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "credentials.json"),
        "GOOGLE_CLOUD_PROJECT": "sandbox-project",
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": f"{sandbox.url}/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS": f"{sandbox.url}/",
        "VERTEX_ENV_CACHE_DIR": str(tmp_path / "cache"),
        "VERTEX_ENV_CONFIG": str(tmp_path / "config.toml"),
        "VERTEX_ENV_ALLOW_HOST": "127.0.0.1",
        "GCE_METADATA_HOST": address,
        "GCE_METADATA_IP": address,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    assert base == before


@pytest.mark.parametrize(
    ("base", "large", "small"),
    [
        ({"NO_PROXY": ".corp"}, ".corp,127.0.0.1,localhost", ".corp,127.0.0.1,localhost"),
        ({"no_proxy": ".corp"}, ".corp,127.0.0.1,localhost", ".corp,127.0.0.1,localhost"),
        ({"NO_PROXY": "a", "no_proxy": "b"}, "a,127.0.0.1,localhost", "b,127.0.0.1,localhost"),
        ({"NO_PROXY": "a", "no_proxy": ""}, "a,127.0.0.1,localhost", "127.0.0.1,localhost"),
    ],
)
def test_environ_keeps_no_proxy(
    sandbox: Sandbox, tmp_path: Path, base: Mapping[str, str], large: str, small: str
) -> None:
    """What went past the proxy still does, whichever spelling is read."""
    environ = sandbox.environ(str(tmp_path), base)
    assert (environ["NO_PROXY"], environ["no_proxy"]) == (large, small)


def test_environ_files(sandbox: Sandbox, tmp_path: Path) -> None:
    """The files are for their owner alone, replace what was there, and follow no link."""
    home = tmp_path / "new" / "home"
    home.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (home / "config.toml").symlink_to(victim)
    (home / "credentials.json").write_text("old")
    environ = sandbox.environ(str(home), {})
    assert victim.read_text() == "precious"
    assert Path(environ["VERTEX_ENV_CONFIG"]).read_text() == ""
    for name in ("credentials.json", "config.toml"):
        assert stat.S_IMODE((home / name).lstat().st_mode) == 0o600
    assert list(Path(environ["CLOUDSDK_CONFIG"]).iterdir()) == []
    assert not Path(environ["VERTEX_ENV_CACHE_DIR"]).exists()
    adc = json.loads((home / "credentials.json").read_text())
    assert adc["type"] == "external_account_authorized_user"
    assert adc["token_url"] == f"{sandbox.url}/v1/oauthtoken"


@pytest.mark.parametrize("length", [b"ten", b"-1", b"+1", b"1.5", b"", b"9" * 5000])
def test_malformed_length(sandbox: Sandbox, length: bytes) -> None:
    """A length that is none ends the connection with a 400."""
    answer = raw(
        sandbox, b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close\r\n" in answer


@pytest.mark.parametrize("length", [10 * 1024 * 1024 + 1, 10**15])
def test_huge_body(sandbox: Sandbox, length: int) -> None:
    """A body beyond 10 MiB is not waited for."""
    answer = raw(sandbox, b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close\r\n" in answer


def test_large_body(sandbox: Sandbox) -> None:
    """A body of nearly 10 MiB is fine."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "x" * (10 * 1024 * 1024 - 200)}],
    }
    assert (
        ask(sandbox, "POST", f"{OPENAPI}/chat/completions", body, token=mint(sandbox)).status == 200
    )


def test_chunked_body(sandbox: Sandbox) -> None:
    """A request may come in chunks, and the connection serves another after it."""
    parts = [b"grant_type=refresh_token", b"&refresh_token=", b"x" * 70_000]
    with closing(connect(sandbox)) as connection:
        for _ in range(2):
            connection.request("POST", "/token", iter(parts), encode_chunked=True)
            response = connection.getresponse()
            assert (response.status, json.loads(response.read())["token_type"]) == (200, "Bearer")


@pytest.mark.parametrize(
    ("chunk", "status"),
    [
        (b"zz\r\n", 400),
        (b"-1\r\n", 400),
        (b"", 400),
        (b"A00001\r\n", 413),
        (b"f" * 16 + b"\r\n", 413),
    ],
)
def test_malformed_chunks(sandbox: Sandbox, chunk: bytes, status: int) -> None:
    """Chunks without a size, or too large, end the connection."""
    answer = raw(
        sandbox, b"POST /token HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n" + chunk
    )
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close\r\n" in answer


def test_http_1_0(sandbox: Sandbox) -> None:
    """A client that knows no chunks gets the stream in one piece."""
    body = json.dumps({"model": MODEL, "messages": HELLO, "stream": True}).encode()
    head = f"POST {OPENAPI}/chat/completions HTTP/1.0\r\nAuthorization: Bearer {mint(sandbox)}\r\n"
    answer = raw(sandbox, head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert b"chunked" not in answer
    assert answer.endswith(b"\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize(
    "nonsense",
    [b"\r\n", b"nonsense\r\n\r\n", b"GET /%ff%00 HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00", b""],
)
def test_nonsense(sandbox: Sandbox, capfd: pytest.CaptureFixture[str], nonsense: bytes) -> None:
    """Bytes that are no request do no harm."""
    raw(sandbox, nonsense)
    assert chat(sandbox, mint(sandbox)).status == 200
    settle(sandbox)
    assert capfd.readouterr() == ("", "")


def test_clients_that_go_away(sandbox: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    """A client that hangs up amid a stream or a request is no news, and the sandbox says nothing on any stream."""
    token = mint(sandbox)
    long = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "word " * 100_000}],
        "stream": True,
    }
    for body in (json.dumps(long), None):
        connection = connect(sandbox)
        headers = {
            "Authorization": f"Bearer {token}",
            **({} if body else {"Content-Length": "1000"}),
        }
        connection.request("POST", f"{OPENAPI}/chat/completions", body, headers)
        if body:
            assert connection.getresponse().read(100)
        # No lingering: what is closed is reset.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sock.close()
        connection.close()
    assert chat(sandbox, token).status == 200
    settle(sandbox)
    assert capfd.readouterr() == ("", "")


def test_many_clients(sandbox: Sandbox) -> None:
    """Three hundred clients at once each get a token of their own and a chat."""

    def work(_: int) -> tuple[str, int]:
        token = mint(sandbox)
        return token, chat(sandbox, token).status

    with ThreadPoolExecutor(300) as pool:
        done = list(pool.map(work, range(300)))
    assert len({token for token, _ in done}) == 300
    assert {status for _, status in done} == {200}
    assert sandbox.counts == {"token": 300, "chat": 300, "refused": 0}


def test_keeps_connections_until_it_ends() -> None:
    """A connection serves many requests; with the sandbox it ends, also for those who held on to it."""
    with Sandbox() as sandbox:
        connection = connect(sandbox)
        for _ in range(3):
            connection.request("GET", "/subject")
            assert connection.getresponse().read() == b"sandbox-subject-token"
            assert connection.sock is not None
        kept = connection.sock
    assert kept.recv(1) == b""
    connection.close()
    with pytest.raises(ConnectionRefusedError), closing(connect(sandbox)) as late:
        late.request("GET", "/subject")
