"""Every kind of Application Default Credentials, minted by real google-auth from Google's own addresses."""

import base64
import json
import logging
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.auth import pluggable
from google.auth.compute_engine import _metadata
from google.auth.transport import _mtls_helper

from tests.support import loopback as google
from tests.support.answers import Answers, Asked, Handler, Reply
from tests.support.fakes import PLANTED
from tests.support.loopback import (
    GoogleProxy,
    Info,
    clean_environ,
    gcloud_marker,
    run_cli,
    write_adc,
)
from vertex_env.credentials import read
from vertex_env.credentials.metadata import Metadata
from vertex_env.credentials.mint import AdcSource
from vertex_env.credentials.read import from_metadata, read_adc
from vertex_env.credentials.transport import make_transport
from vertex_env.errors import CredentialsError, RefusedError, UnavailableError
from vertex_env.sandbox.server import Sandbox
from vertex_env.tokens.token import Identity, Token

TARGET = "target@sandbox-project.iam.gserviceaccount.com"
MIDDLE = "middle@sandbox-project.iam.gserviceaccount.com"
OTHER = "other@sandbox-project.iam.gserviceaccount.com"
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
IAM_SCOPE = "https://www.googleapis.com/auth/iam"

USER = ("oauth2.googleapis.com", "POST", "/token")
STS = ("sts.googleapis.com", "POST", "/v1/token")
WORKFORCE = ("sts.googleapis.com", "POST", "/v1/oauthtoken")


def iam(account: str) -> tuple[str, str, str]:
    return (
        "iamcredentials.googleapis.com",
        "POST",
        f"/v1/projects/-/serviceAccounts/{account}:generateAccessToken",
    )


def environ(tmp_path: Path, *more: Mapping[str, str]) -> dict[str, str]:
    result = clean_environ(tmp_path / "home") | {"GOOGLE_CLOUD_PROJECT": "sandbox-project"}
    for one in more:
        result |= one
    return result


# --- each kind, end to end ---

IMDS: Mapping[str, Reply] = {
    "/latest/api/token": Reply(body=b"fake-imds-token"),
    "/latest/meta-data/placement/availability-zone": Reply(body=b"us-east-2b"),
    "/latest/meta-data/iam/security-credentials": Reply(body=b"fake-role"),
    "/latest/meta-data/iam/security-credentials/fake-role": Reply(
        body={"AccessKeyId": "fake-id", "SecretAccessKey": "fake-secret", "Token": "fake-session"}
    ),
}
"""What the metadata server of an AWS machine says."""


def subject(path: Path) -> Path:
    file = path / "subject"
    file.write_text("fake-subject-token")
    return file


def subject_program(path: Path) -> str:
    answer = {
        "version": 1,
        "success": True,
        "token_type": "urn:ietf:params:oauth:token-type:jwt",
        "id_token": "fake-subject-token",
    }
    program = path / "program.py"
    program.write_text(f"print({json.dumps(json.dumps(answer))})")
    return f"{sys.executable} {program}"


Build = Callable[[Path, str, str], Info]
"""A folder for files, the sandbox's URL and that of an AWS machine to the content of a credentials file."""

KINDS: Mapping[str, tuple[Build, list[tuple[str, str, str]], int]] = {
    "authorized_user": (lambda *_: google.authorized_user(), [USER], 1800),
    "service_account": (lambda *_: google.service_account(), [USER], 1800),
    "impersonated user": (
        lambda *_: google.impersonated_service_account(google.authorized_user(), TARGET),
        [USER, iam(TARGET)],
        1800,
    ),
    "impersonated key": (
        lambda *_: google.impersonated_service_account(google.service_account(), TARGET, [MIDDLE]),
        [USER, iam(TARGET)],
        1800,
    ),
    "impersonated workforce": (
        lambda *_: google.impersonated_service_account(
            google.external_account_authorized_user(), TARGET
        ),
        [WORKFORCE, iam(TARGET)],
        1800,
    ),
    "impersonated workload": (
        lambda path, *_: google.impersonated_service_account(
            google.external_account_file(subject(path)), TARGET
        ),
        [STS, iam(TARGET)],
        1800,
    ),
    "file": (lambda path, *_: google.external_account_file(subject(path)), [STS], 1800),
    "file, impersonated": (
        lambda path, *_: google.external_account_file(
            subject(path), impersonate=TARGET, lifetime_s=600
        ),
        [STS, iam(TARGET)],
        600,
    ),
    "url": (
        lambda _, sandbox, __: google.external_account_url(sandbox) | {"token_url": google.STS_URL},
        [STS],
        1800,
    ),
    "executable": (
        lambda path, *_: google.external_account_executable(subject_program(path)),
        [STS],
        1800,
    ),
    "aws": (
        lambda _, __, imds: google.external_account_aws(imds) | {"token_url": google.STS_URL},
        [STS],
        1800,
    ),
    "x509": (
        lambda path, *_: google.external_account_x509(path),
        [("sts.mtls.googleapis.com", *STS[1:])],
        1800,
    ),
    "workforce": (lambda *_: google.external_account_authorized_user(), [WORKFORCE], 1800),
    "gdch": (
        lambda _, sandbox, __: (
            google.gdch_service_account(sandbox) | {"token_uri": f"{sandbox}/v1/token"}
        ),
        [],
        1800,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kind(kind: str, tmp_path: Path) -> None:
    """Each mints with exactly the requests that it needs, starts no gcloud, and says nothing.

    For workload identity that is one exchange: no second one, no question about projects, nothing about regions.
    """
    build, asked, lifetime = KINDS[kind]
    with (
        Sandbox(lifetime=timedelta(minutes=30)) as sandbox,
        Answers(IMDS) as imds,
        GoogleProxy(sandbox.url, tmp_path / "proxy") as proxy,
    ):
        file = write_adc(tmp_path / "adc.json", build(tmp_path, sandbox.url, imds.url))
        named = {
            "GOOGLE_APPLICATION_CREDENTIALS": str(file),
            "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1",
        }
        env = environ(tmp_path, proxy.environ, named)
        ended = run_cli("token", "--format", "json", env=env)
    assert (ended.stderr, ended.status) == ("", 0)
    given = json.loads(ended.stdout)
    assert given["token"].startswith("ya29.sandbox-")
    assert lifetime - 20 < given["expires_in"] <= lifetime
    assert (proxy.requests, proxy.refused) == (asked, [])
    assert not gcloud_marker(tmp_path / "home").exists()


def metadata_environ(url: str) -> dict[str, str]:
    return {"NO_GCE_CHECK": "", "GCE_METADATA_HOST": url.removeprefix("http://")}


def test_metadata_server(tmp_path: Path) -> None:
    """The machine's own account needs no file, and its server is not asked through the proxy."""
    with (
        Sandbox(lifetime=timedelta(minutes=30)) as sandbox,
        GoogleProxy(sandbox.url, tmp_path / "proxy") as proxy,
    ):
        env = environ(
            tmp_path, proxy.environ, metadata_environ(sandbox.url), {"NO_PROXY": "", "no_proxy": ""}
        )
        ended = run_cli("token", "--format", "json", env=env)
    assert ended.stderr == ""
    assert 1780 < json.loads(ended.stdout)["expires_in"] <= 1800
    assert (proxy.requests, proxy.refused) == ([], [])


def test_another_universe(tmp_path: Path) -> None:
    """In a universe of its own, a key signs its tokens itself, and the URL is that universe's."""
    info = google.service_account() | {"universe_domain": "s3nsapis.fr"}
    file = write_adc(tmp_path / "adc.json", info)
    with Sandbox() as sandbox, GoogleProxy(sandbox.url, tmp_path / "proxy") as proxy:
        env = environ(tmp_path, proxy.environ, {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
        ended = run_cli("export", "--format", "json", env=env)
    assert ended.stderr == ""
    variables = json.loads(ended.stdout)
    assert variables["OPENAI_API_KEY"].count(".") == 2
    assert variables["OPENAI_BASE_URL"].startswith("https://aiplatform.s3nsapis.fr/v1/")
    assert proxy.requests == []


# --- what is asked for ---


@pytest.fixture
def google_says(tmp_path: Path) -> Iterator[tuple[Answers, dict[str, str]]]:
    """Google with a memory, and the environment that leads there."""
    with Answers() as answers, GoogleProxy(answers.url, tmp_path / "proxy") as proxy:
        yield answers, environ(tmp_path, proxy.environ)
        assert proxy.refused == []


def paths(asked: list[Asked]) -> list[str]:
    return [one.path for one in asked]


SOURCES: Mapping[str, tuple[Callable[[Path], Info], str]] = {
    "user": (lambda _: google.authorized_user(), "/token"),
    "key": (lambda _: google.service_account(), "/token"),
    "file": (lambda path: google.external_account_file(subject(path)), "/v1/token"),
    "workforce": (lambda _: google.external_account_authorized_user(), "/v1/oauthtoken"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_impersonate(
    source: str, google_says: tuple[Answers, dict[str, str]], tmp_path: Path
) -> None:
    """`--impersonate` with delegates and `--lifetime 12h` works over every kind, with the source's token."""
    answers, env = google_says
    build, path = SOURCES[source]
    env["GOOGLE_APPLICATION_CREDENTIALS"] = str(write_adc(tmp_path / "adc.json", build(tmp_path)))
    options = ("--impersonate", f"{MIDDLE},{OTHER},{TARGET}", "--lifetime", "12h")
    ended = run_cli("token", "--format", "json", *options, env=env)
    assert ended.stderr == ""
    assert 43180 < json.loads(ended.stdout)["expires_in"] <= 43200
    assert paths(answers.asked) == [path, iam(TARGET)[2]]
    last = answers.asked[-1]
    assert last.fields == {
        "delegates": [
            f"projects/-/serviceAccounts/{MIDDLE}",
            f"projects/-/serviceAccounts/{OTHER}",
        ],
        "lifetime": "43200s",
        "scope": [CLOUD_PLATFORM],
    }
    assert last.headers["authorization"] == f"Bearer {PLANTED}"


def test_impersonate_from_the_metadata_server(tmp_path: Path) -> None:
    """The machine's account is asked of its server, the other of Google through the proxy."""
    with Sandbox() as sandbox, GoogleProxy(sandbox.url, tmp_path / "proxy") as proxy:
        env = environ(tmp_path, proxy.environ, metadata_environ(sandbox.url))
        ended = run_cli(
            "token", "--format", "json", "--impersonate", TARGET, "--lifetime", "2h", env=env
        )
    assert ended.stderr == ""
    assert 7180 < json.loads(ended.stdout)["expires_in"] <= 7200
    assert (proxy.requests, proxy.refused) == ([iam(TARGET)], [])


def workload(path: Path, impersonate: str) -> Info:
    return google.external_account_file(subject(path), impersonate=impersonate)


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(
            lambda _: google.impersonated_service_account(google.authorized_user(), MIDDLE),
            id="ADC",
        ),
        pytest.param(lambda path: workload(path, MIDDLE), id="workload"),
    ],
)
def test_impersonate_twice(
    build: Callable[[Path], Info], google_says: tuple[Answers, dict[str, str]], tmp_path: Path
) -> None:
    """What is asked for is asked of the last account: the one in between need not be allowed twelve hours."""
    answers, env = google_says
    env["GOOGLE_APPLICATION_CREDENTIALS"] = str(write_adc(tmp_path / "adc.json", build(tmp_path)))
    ended = run_cli(
        "token", "--impersonate", TARGET, "--lifetime", "12h", "--scope", "openid", env=env
    )
    assert (ended.stdout, ended.stderr) == (f"{PLANTED}\n", "")
    assert paths(answers.asked)[1:] == [iam(MIDDLE)[2], iam(TARGET)[2]]
    between, last = (one.fields for one in answers.asked[1:])
    assert (between["lifetime"], between["scope"]) == ("3600s", [IAM_SCOPE])
    assert (last["lifetime"], last["scope"]) == ("43200s", ["openid"])


@pytest.mark.parametrize(
    ("build", "lifetimes"),
    [
        pytest.param(lambda path: workload(path, TARGET), ["43200s"], id="workload"),
        pytest.param(
            lambda _: google.impersonated_service_account(google.authorized_user(), TARGET),
            ["43200s"],
            id="ADC",
        ),
        pytest.param(
            lambda path: google.impersonated_service_account(workload(path, MIDDLE), TARGET),
            ["3600s", "43200s"],
            id="ADC over workload",
        ),
    ],
)
def test_lifetime_of_an_impersonating_file(
    build: Callable[[Path], Info],
    lifetimes: list[str],
    google_says: tuple[Answers, dict[str, str]],
    tmp_path: Path,
) -> None:
    """`--lifetime` alone is for the account that the file impersonates; google-auth would ask for an hour."""
    answers, env = google_says
    env["GOOGLE_APPLICATION_CREDENTIALS"] = str(write_adc(tmp_path / "adc.json", build(tmp_path)))
    ended = run_cli("token", "--lifetime", "12h", env=env)
    assert (ended.stdout, ended.stderr) == (f"{PLANTED}\n", "")
    assert [one.fields["lifetime"] for one in answers.asked[1:]] == lifetimes


def scope_of(asked: Asked) -> str:
    """What a token was asked for: a parameter, or inside the assertion that a key signs."""
    if "assertion" in asked.fields:
        payload = asked.fields["assertion"].split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(payload + "=="))["scope"])
    return str(asked.fields.get("scope", ""))


OPENID = "https://www.googleapis.com/auth/userinfo.email"


@pytest.mark.parametrize(
    ("source", "args", "scope"),
    [
        pytest.param("user", (), "", id="user: what the login was given"),
        pytest.param("user", ("--scope", OPENID), OPENID, id="user, --scope"),
        pytest.param("key", (), CLOUD_PLATFORM, id="key"),
        pytest.param(
            "key",
            ("--scope", OPENID, "--scope", "openid"),
            f"{OPENID} openid",
            id="key, two --scope",
        ),
        pytest.param("file", (), CLOUD_PLATFORM, id="file"),
        pytest.param("file", ("--scope", OPENID), OPENID, id="file, --scope"),
    ],
)
def test_scope(
    source: str,
    args: tuple[str, ...],
    scope: str,
    google_says: tuple[Answers, dict[str, str]],
    tmp_path: Path,
) -> None:
    """`--scope` reaches Google; without it a user's login is asked for nothing that it may not have."""
    answers, env = google_says
    env["GOOGLE_APPLICATION_CREDENTIALS"] = str(
        write_adc(tmp_path / "adc.json", SOURCES[source][0](tmp_path))
    )
    ended = run_cli("token", *args, env=env)
    assert (ended.stdout, ended.stderr) == (f"{PLANTED}\n", "")
    assert [scope_of(one) for one in answers.asked] == [scope]


def test_scope_not_granted(google_says: tuple[Answers, dict[str, str]], tmp_path: Path) -> None:
    """google-auth logs a warning when fewer scopes are granted; stderr stays empty all the same."""
    answers, env = google_says
    answers.routes["/token"] = Reply(
        body={"access_token": PLANTED, "expires_in": 3599, "scope": "openid"}
    )
    env["GOOGLE_APPLICATION_CREDENTIALS"] = str(
        write_adc(tmp_path / "adc.json", google.authorized_user())
    )
    ended = run_cli("token", "--scope", OPENID, env=env)
    assert (ended.stdout, ended.stderr) == (f"{PLANTED}\n", "")


def test_metadata_server_that_stumbles(tmp_path: Path) -> None:
    """google-auth tries again and logs a warning; the token comes, and stderr stays empty."""
    account = "/computeMetadata/v1/instance/service-accounts/default"
    email = "robot@p.iam.gserviceaccount.com"
    routes: Mapping[str, Reply | list[Reply]] = {
        f"{account}/email": Reply(body=email, headers={"Metadata-Flavor": "Google"}),
        f"{account}/": [Reply(503, "later"), Reply(body={"email": email})],
        f"{account}/token": Reply(body={"access_token": PLANTED, "expires_in": 1800}),
    }
    with Answers(routes) as answers:
        ended = run_cli("token", env=environ(tmp_path, metadata_environ(answers.url)))
    assert (ended.stdout, ended.stderr) == (f"{PLANTED}\n", "")
    assert paths(answers.asked).count(f"{account}/") == 2


def test_netrc(google_says: tuple[Answers, dict[str, str]], tmp_path: Path) -> None:
    """requests would put a password for any host in place of the token that proves who we are."""
    answers, env = google_says
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    netrc.chmod(0o600)
    file = write_adc(tmp_path / "adc.json", google.authorized_user())
    env |= {"GOOGLE_APPLICATION_CREDENTIALS": str(file), "NETRC": str(netrc)}
    answers.routes["/v1/projects/sandbox-project/locations/us-central1/endpoints"] = Reply(body={})
    run_cli("endpoints", "--location", "us-central1", "--impersonate", TARGET, env=env)
    sent = {name.lower(): value for one in answers.asked[1:] for name, value in one.headers.items()}
    assert [one.host for one in answers.asked[1:]] == [
        iam(TARGET)[0],
        "us-central1-aiplatform.googleapis.com",
    ]
    assert sent["authorization"] == f"Bearer {PLANTED}"
    assert all("Basic" not in str(one.headers) for one in answers.asked[1:])


# --- how long it takes ---


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is asked directly from here too, whatever the machine has set."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")


def now() -> datetime:
    return datetime.now(UTC)


def source_of(info: Info, tmp_path: Path, budget_s: float = 10) -> AdcSource:
    found = read_adc(write_adc(tmp_path / "adc.json", info), "a test", os.environ)
    identity = Identity(
        found.kind, found.fingerprint, (CLOUD_PLATFORM,), audience="https://vertex.example"
    )
    return AdcSource(found, identity, now, os.environ, budget_s)


def keep_waiting(handler: Handler) -> None:
    handler.server.left.wait(10)
    handler.close_connection = True


def trickle(handler: Handler) -> None:
    """An answer of one letter at a time, each of which sets a socket's time-out back."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not handler.server.left.wait(0.05):
        handler.wfile.write(b" ")


@pytest.mark.parametrize("answer", [keep_waiting, trickle])
def test_no_end(answer: Callable[[Handler], None], tmp_path: Path) -> None:
    """An answer that does not come, or does not end, costs the budget and no more."""
    with Answers({"/token": answer}) as answers:
        source = source_of(google.service_account(answers.url), tmp_path, 0.4)
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="no answer in time"):
            source.mint()
        assert time.monotonic() - started < 1.2


def test_budget_is_for_all_requests_together(tmp_path: Path) -> None:
    """Of two requests, the second has what the first has left."""

    def slow(handler: Handler) -> None:
        handler.server.left.wait(0.3)
        handler.send(Reply(body={"access_token": PLANTED, "expires_in": 3599}))

    with Answers({"/v1/token": slow, iam(TARGET)[2]: keep_waiting}) as answers:
        info = google.external_account_file(subject(tmp_path), answers.url, impersonate=TARGET)
        source = source_of(info, tmp_path, 0.6)
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="no answer in time"):
            source.mint()
        assert 0.5 < time.monotonic() - started < 1.2


def test_retries_fit_into_the_budget(tmp_path: Path) -> None:
    """google-auth asks three times when Google is busy, with pauses that double; we stop before one would not fit."""
    with Answers({"/token": Reply(503, {"error": "busy"})}) as answers:
        source = source_of(google.service_account(answers.url), tmp_path, 1.5)
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="answered 503: busy"):
            source.mint()
        assert time.monotonic() - started < 1.5
    assert len(answers.asked) == 2


def test_slow_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not end is given the time that the file says: five seconds at least, but not in a test."""
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    monkeypatch.setattr(pluggable, "EXECUTABLE_TIMEOUT_MILLIS_LOWER_BOUND", 100)
    info = google.external_account_executable("sleep 20")
    info["credential_source"]["executable"]["timeout_millis"] = 200
    with pytest.raises(UnavailableError) as caught:
        source_of(info, tmp_path).mint()
    assert (
        caught.value.message
        == f"the program named in {tmp_path}/adc.json (from a test) did not answer in time"
    )
    assert (
        caught.value.hint
        == "run the command in that file by hand to see, or raise timeout_millis there"
    )


def test_program_does_not_use_up_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program has a time of its own, in the file; Google is given all of ours after it."""
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    command = f"sh -c 'sleep 0.6; exec {subject_program(tmp_path)}'"
    with Answers() as answers:
        info = google.external_account_executable(command, answers.url)
        assert source_of(info, tmp_path, 0.5).mint().value == PLANTED


# Typed as Any because google-auth's functions are not typed.
get: Any = _metadata.get


def test_metadata_server_in_trouble() -> None:
    """google-auth would try five times, for 15 s; we stop when the next pause would not fit into the budget."""
    with Answers({"/computeMetadata/v1/x": Reply(503, "later")}) as answers:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            get(make_transport(1.5), "x", root=f"{answers.url}/computeMetadata/v1/")
        assert time.monotonic() - started < 1.5
    assert len(answers.asked) == 2


def test_metadata_server_gone() -> None:
    """Nor is one waited for that does not listen."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        root = f"http://127.0.0.1:{held.getsockname()[1]}/computeMetadata/v1/"
        started = time.monotonic()
        with pytest.raises(ConnectionError, match="refused"):
            get(make_transport(10), "x", root=root)
        assert time.monotonic() - started < 0.5


def test_name_that_does_not_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the resolver says, through urllib3, requests and google-auth; nobody is asked for the name."""

    def fail(*_: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(UnavailableError) as caught:
        source_of(google.authorized_user(), tmp_path).mint()
    assert caught.value.message == "cannot reach oauth2.googleapis.com: the name does not resolve"
    assert caught.value.hint == "check the network and its DNS, then try again"


def test_nothing_is_left_in_the_environment(tmp_path: Path) -> None:
    """A mint changes neither the warning filters nor the loggers' levels of who calls it."""
    with Answers() as answers:
        before = (
            list(warnings.filters),
            logging.getLogger("google").level,
            logging.getLogger().handlers[:],
        )
        source_of(google.service_account(answers.url), tmp_path).mint()
    assert (
        list(warnings.filters),
        logging.getLogger("google").level,
        logging.getLogger().handlers,
    ) == before


# --- the file ---


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        pytest.param(kind, name, value, id=f"{kind}: {name} {state}")
        for kind, names in read.REQUIRED.items()
        for name in names
        for state, value in {
            "absent": ...,
            "null": None,
            "a number": 5,
            "empty": "",
            "a list": ["x"],
        }.items()
        if value != "" or (kind, name) not in read._EMPTY_IS_FINE
    ],
)
def test_required_field(kind: str, name: str, value: object, tmp_path: Path) -> None:
    """A file without a field that its type needs, or with something else there, is told with the field's name."""
    info = dict.fromkeys(read.REQUIRED[kind], "x") | {"type": kind, name: value}
    info |= {
        one: {"type": "authorized_user"} for one in read._OBJECTS if one in info and one != name
    }
    file = write_adc(
        tmp_path / "adc.json", {one: given for one, given in info.items() if given is not ...}
    )
    with pytest.raises(CredentialsError) as caught:
        read_adc(file, "a test", os.environ)
    state = "lacks the" if value in (None, ...) else "has a malformed"
    assert (
        caught.value.message
        == f"the credentials file {file} (from a test) {state} field {name!r} (its type is {kind})"
    )


MINIMAL: Mapping[str, Callable[[str, Path], Info]] = {
    "service_account": lambda base, _: google.service_account(base),
    "external_account": lambda base, path: google.external_account_file(subject(path), base),
    "external_account_authorized_user": lambda base, _: google.external_account_authorized_user(
        base
    ),
    "gdch_service_account": lambda base, _: google.gdch_service_account(base),
}


@pytest.mark.parametrize("kind", MINIMAL)
def test_required_fields_suffice(kind: str, tmp_path: Path) -> None:
    """With the fields that we ask for, and no other, google-auth mints."""
    with Answers() as answers:
        info = MINIMAL[kind](answers.url, tmp_path)
        few = {name: info[name] for name in ("type", *read.REQUIRED[kind])}
        token = source_of(few, tmp_path).mint()
    assert token.value == PLANTED
    assert timedelta(seconds=3590) < token.lifetime < timedelta(seconds=3600)


def test_null_is_absent(tmp_path: Path) -> None:
    """Programs that write such files put null where they have nothing."""
    optional = dict.fromkeys(
        (*read._OPTIONAL, "quota_project_id", "client_id", "source_credentials")
    )
    with Answers() as answers:
        info = google.external_account_file(subject(tmp_path), answers.url) | optional
        found = source_of(info, tmp_path)
        assert found.mint().value == PLANTED
    assert (found.adc.universe, found.adc.impersonated) == ("googleapis.com", None)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"], ids=["NUL", "half a character"])
def test_subject_token_at_a_path_that_is_none(name: str, tmp_path: Path) -> None:
    """JSON can hold names that no file can have."""
    file = write_adc(tmp_path / "adc.json", google.external_account_file(Path(name)))
    with pytest.raises(CredentialsError) as caught:
        read_adc(file, "a test", os.environ)
    assert caught.value.message.startswith(
        f"the subject token {name!r}, which the credentials file {file} (from a "
    )
    assert caught.value.message.isprintable()


def test_program_below_an_impersonation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program printed is kept back there too."""
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    program = google.external_account_executable("sh -c 'echo fake-subject-token; exit 1'")
    with pytest.raises(CredentialsError, match=r"return code 1$"):
        source_of(google.impersonated_service_account(program), tmp_path).mint()


def test_google_refuses_what_a_program_gave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is not blamed for Google's answer."""
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    with Answers(
        {"/v1/token": Reply(400, {"error": "invalid_grant", "error_description": "Stale."})}
    ) as answers:
        info = google.external_account_executable(subject_program(tmp_path), answers.url)
        with pytest.raises(
            RefusedError, match=r"refused the external account credentials in .*: Stale$"
        ):
            source_of(info, tmp_path).mint()


def test_iam_endpoint(tmp_path: Path) -> None:
    """gcloud's override for the IAM Credentials API is where the account is asked for."""
    with Answers() as answers:
        source = source_of(google.service_account(answers.url), tmp_path)
        identity = replace(source.identity, impersonate=TARGET)
        token = replace(source, identity=identity, iam_endpoint=answers.url).mint()
    assert (token.value, paths(answers.asked)) == (PLANTED, ["/token", iam(TARGET)[2]])


def test_unreadable(tmp_path: Path) -> None:
    """A file that is somebody else's."""
    file = write_adc(tmp_path / "adc.json", google.authorized_user())
    file.chmod(0)
    as_root = os.geteuid() == 0
    if as_root:
        os.seteuid(65534)  # nobody; to root everything is readable
    try:
        with pytest.raises(
            CredentialsError, match=r"adc\.json \(from a test\) cannot be read: Permission denied"
        ):
            read_adc(file, "a test", os.environ)
    finally:
        if as_root:
            os.seteuid(0)


def test_pipe_for_a_subject_token(tmp_path: Path) -> None:
    """google-auth would wait for a writer for ever."""
    pipe = tmp_path / "subject"
    os.mkfifo(pipe)
    file = write_adc(tmp_path / "adc.json", google.external_account_file(pipe))
    writer = os.open(pipe, os.O_RDWR)
    try:
        with pytest.raises(
            CredentialsError,
            match=r"subject, which the credentials file .* it is not a regular file",
        ):
            read_adc(file, "a test", os.environ)
    finally:
        os.close(writer)


@pytest.mark.parametrize(
    ("info", "principal", "target"),
    [
        pytest.param(google.authorized_user(), None, None, id="user without an account"),
        pytest.param(
            google.authorized_user() | {"account": "me@example.com"},
            "me@example.com",
            None,
            id="user",
        ),
        pytest.param(
            google.authorized_user() | {"account": {"a": 5}},
            None,
            None,
            id="account of a wrong type",
        ),
        pytest.param(
            google.service_account(),
            "vertex@sandbox-project.iam.gserviceaccount.com",
            None,
            id="key",
        ),
        pytest.param(
            google.service_account() | {"client_email": "a@b.c; rm"}, None, None, id="no address"
        ),
        pytest.param(
            google.impersonated_service_account(google.service_account(), TARGET),
            "vertex@sandbox-project.iam.gserviceaccount.com",
            TARGET,
            id="impersonated",
        ),
    ],
)
def test_who(info: Info, principal: str | None, target: str | None, tmp_path: Path) -> None:
    """Who is meant in messages: the account that asks, and the one that it becomes."""
    who = read_adc(write_adc(tmp_path / "adc.json", info), "a test", os.environ).who
    assert (who.principal, who.impersonated, who.named_by) == (principal, target, "a test")
    assert who.source == f"{tmp_path / 'adc.json'} (from a test)"


def test_project_and_quota_project(tmp_path: Path) -> None:
    """A key says what project it belongs to; nobody's quota project is taken for one."""
    key = read_adc(write_adc(tmp_path / "key.json", google.service_account()), "a test", os.environ)
    user = read_adc(
        write_adc(tmp_path / "user.json", google.authorized_user() | {"quota_project_id": "q"}),
        "a test",
        os.environ,
    )
    machine = from_metadata(
        Metadata("host", "robot@p.iam.gserviceaccount.com", "p", "googleapis.com")
    )
    assert [one.project for one in (key, user, machine)] == ["sandbox-project", None, "p"]
    assert [one.quota_project for one in (key, user, machine)] == [None, "q", None]


def test_repr_has_no_secret(tmp_path: Path) -> None:
    """What is read shows no secret when it is printed by mistake."""
    found = read_adc(
        write_adc(tmp_path / "adc.json", google.authorized_user()), "a test", os.environ
    )
    identity = Identity(found.kind, found.fingerprint, ())
    shown = (
        repr(found)
        + repr(AdcSource(found, identity, now, os.environ, 10))
        + repr(Token(PLANTED, now(), now()))
    )
    assert [
        secret for secret in ("fake-refresh", "fake-client-secret", PLANTED) if secret in shown
    ] == []


# --- whose token it is ---


def fingerprint(info: Info, tmp_path: Path) -> str:
    return read_adc(write_adc(tmp_path / "adc.json", info), "a test", os.environ).fingerprint


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(
            google.authorized_user() | {"refresh_token": "1//of-another-user"}, id="another user"
        ),
        pytest.param(
            google.authorized_user() | {"quota_project_id": "q"}, id="another quota project"
        ),
        pytest.param(
            google.authorized_user() | {"universe_domain": "s3nsapis.fr"}, id="another universe"
        ),
        pytest.param(google.external_account_authorized_user(), id="another type"),
    ],
)
def test_different_files_are_different_identities(other: Info, tmp_path: Path) -> None:
    """Nobody gets the token of another; the same file has the same fingerprint each time."""
    first = fingerprint(google.authorized_user(), tmp_path)
    assert fingerprint(other, tmp_path) != first
    assert fingerprint(google.authorized_user(), tmp_path) == first


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(google.external_account_file, id="workload"),
        pytest.param(
            lambda file: google.impersonated_service_account(google.external_account_file(file)),
            id="impersonated",
        ),
    ],
)
def test_another_subject_token_is_another_identity(
    build: Callable[[Path], Info], tmp_path: Path
) -> None:
    """Two jobs may share the file that says where their identity is."""
    file = subject(tmp_path)
    first = fingerprint(build(file), tmp_path)
    assert fingerprint(build(file), tmp_path) == first
    file.write_text("of another job")
    assert fingerprint(build(file), tmp_path) != first


def test_another_aws_key_is_another_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`aws-vault exec` of another profile changes who we are; to other kinds of credentials it is nothing."""
    aws, user = google.external_account_aws("http://127.0.0.1:9"), google.authorized_user()
    found = []
    for name in ("AKIAFIRST", "AKIASECOND", "AKIAFIRST"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", name)
        found.append((fingerprint(aws, tmp_path), fingerprint(user, tmp_path)))
    (first, same), (second, same_too), again = found
    assert first != second
    assert (first, same) == again
    assert same == same_too


def test_metadata_accounts_are_identities() -> None:
    """Another account, or another server, is another identity; another project is not."""
    machine = Metadata("host", "robot@p.iam.gserviceaccount.com", "p", "googleapis.com")
    others = [replace(machine, host="other"), replace(machine, email="x@p.iam.gserviceaccount.com")]
    first = from_metadata(machine).fingerprint
    assert first not in [from_metadata(one).fingerprint for one in others]
    assert from_metadata(replace(machine, project="q")).fingerprint == first


def test_another_user_logs_in(google_says: tuple[Answers, dict[str, str]], tmp_path: Path) -> None:
    """`gcloud auth application-default login` takes effect at once, though the first user's token is still good."""
    answers, env = google_says
    answers.routes["/token"] = [
        Reply(body={"access_token": f"ya29.{who}", "expires_in": 3599})
        for who in ("first", "second", "nobody")
    ]
    file = tmp_path / "home" / ".config" / "gcloud" / "application_default_credentials.json"
    given = []
    for refresh_token in ("1//first", "1//first", "1//second", "1//first"):
        write_adc(file, google.authorized_user() | {"refresh_token": refresh_token})
        given.append(run_cli("token", env=env).stdout.strip())
    assert given == ["ya29.first", "ya29.first", "ya29.second", "ya29.first"]
    assert [one.fields["refresh_token"] for one in answers.asked] == ["1//first", "1//second"]


def test_another_certificate_is_another_identity(tmp_path: Path) -> None:
    """With an X.509 provider the ADC file does not say whose token it is; the certificate does."""
    info = google.external_account_x509(tmp_path)
    file = write_adc(tmp_path / "adc.json", info)
    first = read_adc(file, "a test", os.environ)
    config = Path(info["credential_source"]["certificate"]["certificate_config_location"])
    certificate = Path(json.loads(config.read_text())["cert_configs"]["workload"]["cert_path"])
    assert first.files == (file, config, certificate)
    certificate.write_bytes(certificate.read_bytes() + b"\n")
    second = read_adc(file, "a test", os.environ)
    config.write_text(config.read_text() + "\n")
    third = read_adc(file, "a test", os.environ)
    assert len({first.fingerprint, second.fingerprint, third.fingerprint}) == 3


PLACES = (
    "GOOGLE_API_CERTIFICATE_CONFIG",
    "CLOUDSDK_CONTEXT_AWARE_CERTIFICATE_CONFIG_FILE_PATH",
    "CLOUDSDK_CONFIG",
    "HOME",
)
"""Variables that say where the certificate configuration is, if the ADC file does not."""


@pytest.mark.parametrize(
    ("place", "first"),
    [*((place, None) for place in PLACES), ("CLOUDSDK_CONFIG", PLACES[0]), ("HOME", PLACES[1])],
)
def test_a_certificate_that_a_variable_names(
    place: str, first: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is another identity as well, also if *first* names a configuration without a workload.

    The control: google-auth takes that certificate.
    """
    info = google.external_account_x509(tmp_path / "unused")
    info["credential_source"]["certificate"] = {"use_default_certificate_config": True}
    file = write_adc(tmp_path / "adc.json", info)
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)
    if first:
        (tmp_path / "none").write_text('{"cert_configs": {}}')
        monkeypatch.setenv(first, str(tmp_path / "none"))
    found = set()
    for name in ("alice", "bob"):
        folder = tmp_path / name / (".config/gcloud" if place == "HOME" else "")
        google.external_account_x509(folder)
        is_file = place in PLACES[:2]
        monkeypatch.setenv(
            place, str(folder / "certificate_config.json" if is_file else tmp_path / name)
        )
        adc = read_adc(file, "a test", os.environ)
        taken, _, _ = _mtls_helper._get_workload_cert_and_key_paths(None)  # type: ignore[no-untyped-call]
        assert adc.files[-1] == Path(taken) == folder / "workload.pem"
        found.add(adc.fingerprint)
    assert len(found) == 2
