"""Shapes of credentials files: google-auth's own loader is asked first, then ours; where they differ, the row says why.

The files are made here, with keys and tokens that were never worth anything.
"""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import google.auth
import pytest
from google.auth import identity_pool

from tests.credentials.test_adc import environ, source_of, subject, subject_program
from tests.support import loopback as files
from tests.support.answers import Answers, Reply
from tests.support.fakes import PLANTED
from tests.support.loopback import Info, run_cli, write_adc
from tests.support.processes import sandboxed
from vertex_env.credentials.mint import AdcSource
from vertex_env.credentials.read import read_adc
from vertex_env.errors import CredentialsError
from vertex_env.files import MAX_BYTES
from vertex_env.tokens.token import Identity

SOON = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
LONG_AGO = "2020-01-01T00:00:00Z"
IAM = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/robot@p.iam.gserviceaccount.com"

# Why the two differ.
FAILS_LATER = "google-auth takes it, and cannot get a token with it"
BAD_URL = "google-auth takes it, and asks for a token at an address that is none"
DESCRIPTOR = "google-auth would read, and close, one of the process's own descriptors"
NO_END = "a token without an end cannot be renewed in time"
WE_CAN = (
    "google-auth's loader takes fewer kinds of sources than its classes, which are used directly"
)
ONLY_THIS = (
    "a field of a wrong type is told here, where google-auth passes over it or fails with it later"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """A file, and whether google-auth takes it; *why* if we see that otherwise."""

    build: Callable[[Path], object]
    google_takes_it: bool
    why: str = ""


def fixed(info: object) -> Callable[[Path], object]:
    return lambda _: info


def user(**changed: object) -> Callable[[Path], object]:
    return fixed(changes(files.authorized_user(), changed))


def key(**changed: object) -> Callable[[Path], object]:
    return lambda _: changes(files.service_account(), changed)


def gdch(**changed: object) -> Callable[[Path], object]:
    return lambda _: changes(files.gdch_service_account("https://gdch.example"), changed)


def workforce(**changed: object) -> Callable[[Path], object]:
    return fixed(changes(files.external_account_authorized_user(), changed))


def impersonated(source: Info | None = None, **changed: object) -> Callable[[Path], object]:
    return lambda _: changes(
        files.impersonated_service_account(source or files.authorized_user()), changed
    )


def pool(source: Mapping[str, object] | None = None, **changed: object) -> Callable[[Path], object]:
    """Workload identity from a file, or from *source*, in which `FILE` stands for one with a subject token."""

    def build(folder: Path) -> object:
        file = str(subject(folder))
        info = files.external_account_file(Path(file))
        if source is not None:
            info["credential_source"] = {
                name: file if value == "FILE" else value for name, value in source.items()
            }
        return changes(info, changed)

    return build


def aws(**changed: object) -> Callable[[Path], object]:
    def build(_: Path) -> object:
        info = files.external_account_aws("http://127.0.0.1:9")
        info["credential_source"] = changes(info["credential_source"], changed)
        return info

    return build


def x509(**changed: object) -> Callable[[Path], object]:
    def build(folder: Path) -> object:
        info = files.external_account_x509(folder)
        info["credential_source"]["certificate"] = changes(
            info["credential_source"]["certificate"], changed
        )
        return info

    return build


def changes(info: Mapping[str, object], changed: Mapping[str, object]) -> Info:
    """*info* with other fields, without those that are `...`."""
    return {name: value for name, value in (dict(info) | dict(changed)).items() if value is not ...}


TOKEN_ALONE = {
    "refresh_token": ...,
    "client_id": ...,
    "client_secret": ...,
    "token_url": ...,
    "token": PLANTED,
}

SHAPES: Mapping[str, Shape] = {
    # no credentials at all
    "list": Shape(fixed([]), google_takes_it=False),
    "null": Shape(fixed(None), google_takes_it=False),
    "empty object": Shape(fixed({}), google_takes_it=False),
    "unknown type": Shape(fixed({"type": "strange"}), google_takes_it=False),
    "type of a wrong type": Shape(fixed({"type": 5}), google_takes_it=False),
    "OAuth client": Shape(
        fixed({"installed": {"client_id": "x", "client_secret": "y"}}), google_takes_it=False
    ),
    # authorized_user
    "user": Shape(user(), google_takes_it=True),
    "user without account": Shape(user(account=...), google_takes_it=True),
    "user without universe": Shape(user(universe_domain=...), google_takes_it=True),
    "user, null universe": Shape(user(universe_domain=None), google_takes_it=True),
    "user, empty client_secret": Shape(user(client_secret=""), google_takes_it=True),
    "user, no client_secret": Shape(user(client_secret=...), google_takes_it=False),
    "user, null client_secret": Shape(
        user(client_secret=None), google_takes_it=True, why=FAILS_LATER
    ),
    "user, no client_id": Shape(user(client_id=...), google_takes_it=False),
    "user, empty client_id": Shape(user(client_id=""), google_takes_it=True, why=FAILS_LATER),
    "user, no refresh_token": Shape(user(refresh_token=...), google_takes_it=False),
    "user, null refresh_token": Shape(
        user(refresh_token=None), google_takes_it=True, why=FAILS_LATER
    ),
    "user, token alone": Shape(
        user(refresh_token=None, token=PLANTED, expiry=SOON), google_takes_it=True
    ),
    "user, token and refresh_token": Shape(user(token=PLANTED, expiry=SOON), google_takes_it=True),
    "user, token without refresh_token's name": Shape(
        user(refresh_token=..., token=PLANTED, expiry=SOON),
        google_takes_it=False,
        why="an absent field is the same as null here, which google-auth takes",
    ),
    "user, token alone without expiry": Shape(
        user(refresh_token=None, token=PLANTED), google_takes_it=True, why=NO_END
    ),
    "user, scopes as text": Shape(user(scopes="a b"), google_takes_it=True),
    "user, scopes as a list": Shape(user(scopes=["a", "b"]), google_takes_it=True),
    "user, quota project": Shape(user(quota_project_id="q"), google_takes_it=True),
    "user, rapt token": Shape(user(rapt_token="fake-rapt"), google_takes_it=True),
    "user, expiry with fractions": Shape(
        user(expiry="2030-01-01T00:00:00.123456Z"), google_takes_it=True
    ),
    "user, expiry that is none": Shape(user(expiry="tomorrow"), google_takes_it=False),
    "user, expiry of a wrong type": Shape(user(expiry=5), google_takes_it=False),
    "user, foreign token_uri": Shape(
        user(token_uri="https://oauth2.example/token"), google_takes_it=True
    ),
    # service_account
    "key": Shape(key(), google_takes_it=True),
    "key without project": Shape(key(project_id=...), google_takes_it=True),
    "key without private_key_id": Shape(key(private_key_id=...), google_takes_it=True),
    "key, no client_email": Shape(key(client_email=...), google_takes_it=False),
    "key, empty client_email": Shape(key(client_email=""), google_takes_it=True, why=FAILS_LATER),
    "key, no token_uri": Shape(key(token_uri=...), google_takes_it=False),
    "key, empty token_uri": Shape(key(token_uri=""), google_takes_it=True, why=BAD_URL),
    "key, token_uri of a file": Shape(
        key(token_uri="file:///etc/passwd"), google_takes_it=True, why=BAD_URL
    ),
    "key, token_uri with no port": Shape(
        key(token_uri="https://a.example:99999/"), google_takes_it=True, why=BAD_URL
    ),
    "user, token_uri that is not used": Shape(
        user(token_uri="file:///etc/passwd"), google_takes_it=True
    ),
    "key, no private_key": Shape(key(private_key=...), google_takes_it=False),
    "key, no PEM": Shape(key(private_key="none"), google_takes_it=False),
    "key, universe": Shape(key(universe_domain="universe.example"), google_takes_it=True),
    "key, universe that is no domain": Shape(
        key(universe_domain="a/b"), google_takes_it=True, why=BAD_URL
    ),
    # impersonated_service_account
    "impersonated user": Shape(impersonated(), google_takes_it=True),
    "impersonated key": Shape(
        lambda _: files.impersonated_service_account(files.service_account()), google_takes_it=True
    ),
    "impersonated workforce": Shape(
        impersonated(files.external_account_authorized_user()), google_takes_it=True
    ),
    "impersonated workload": Shape(
        lambda p: files.impersonated_service_account(files.external_account_file(subject(p))),
        google_takes_it=False,
        why=WE_CAN,
    ),
    "impersonated, no delegates": Shape(impersonated(delegates=...), google_takes_it=True),
    "impersonated, null delegates": Shape(impersonated(delegates=None), google_takes_it=True),
    "impersonated, delegates as text": Shape(
        impersonated(delegates="a@b.c"), google_takes_it=True, why=ONLY_THIS
    ),
    "impersonated, no source": Shape(impersonated(source_credentials=...), google_takes_it=False),
    "impersonated, source without a type": Shape(
        impersonated(source_credentials={}), google_takes_it=False
    ),
    "impersonated, source without a field": Shape(
        impersonated({"type": "authorized_user", "client_id": "x"}), google_takes_it=False
    ),
    "impersonated, no URL": Shape(
        impersonated(service_account_impersonation_url=...), google_takes_it=False
    ),
    "impersonated, URL of something else": Shape(
        impersonated(service_account_impersonation_url=f"{IAM}:signBlob"), google_takes_it=False
    ),
    "impersonated, URL without serviceAccounts": Shape(
        impersonated(
            service_account_impersonation_url="https://x/robot@p.example:generateAccessToken"
        ),
        google_takes_it=True,
        why="no address of Google's API looks so; the account that google-auth reads from it may be another's",
    ),
    "impersonated twice": Shape(
        lambda _: files.impersonated_service_account(
            files.impersonated_service_account(files.authorized_user())
        ),
        google_takes_it=False,
    ),
    "impersonated, quota project": Shape(impersonated(quota_project_id="q"), google_takes_it=True),
    # external_account, from a file or a URL
    "file": Shape(pool(), google_takes_it=True),
    "file, JSON": Shape(
        pool({"file": "FILE", "format": {"type": "json", "subject_token_field_name": "x"}}),
        google_takes_it=True,
    ),
    "file, JSON without a name": Shape(
        pool({"file": "FILE", "format": {"type": "json"}}), google_takes_it=False
    ),
    "file, strange format": Shape(
        pool({"file": "FILE", "format": {"type": "xml"}}), google_takes_it=False
    ),
    "file, null format": Shape(pool({"file": "FILE", "format": None}), google_takes_it=False),
    "file, null executable": Shape(
        pool({"file": "FILE", "executable": None}), google_takes_it=True
    ),
    "file, null URL": Shape(
        pool({"file": "FILE", "url": None, "certificate": None}), google_takes_it=True
    ),
    "file and URL": Shape(
        pool({"file": "FILE", "url": "https://x.example/"}), google_takes_it=False
    ),
    "file that is true": Shape(pool({"file": True}), google_takes_it=True, why=DESCRIPTOR),
    "file that is 2": Shape(pool({"file": 2}), google_takes_it=True, why=DESCRIPTOR),
    "file that is absent": Shape(
        pool({"file": "/nonexistent/subject"}),
        google_takes_it=True,
        why="the subject token tells whose the token is, so it is read before the store is asked",
    ),
    "file, environment_id": Shape(
        pool({"file": "FILE", "environment_id": "aws1"}), google_takes_it=False
    ),
    "source that is empty": Shape(pool({}), google_takes_it=False),
    "source that is null": Shape(pool(credential_source=None), google_takes_it=False),
    "source of a wrong type": Shape(pool(credential_source="x"), google_takes_it=False),
    "no audience": Shape(pool(audience=...), google_takes_it=False),
    "no subject_token_type": Shape(
        pool(subject_token_type=...), google_takes_it=True, why=FAILS_LATER
    ),
    "no token_url": Shape(pool(token_url=...), google_takes_it=True, why=BAD_URL),
    "file, impersonated": Shape(
        pool(service_account_impersonation_url=f"{IAM}:generateAccessToken"), google_takes_it=True
    ),
    "file, impersonated with a lifetime": Shape(
        pool(
            service_account_impersonation_url=f"{IAM}:generateAccessToken",
            service_account_impersonation={"token_lifetime_seconds": 600},
        ),
        google_takes_it=True,
    ),
    "file, null impersonation": Shape(
        pool(service_account_impersonation_url=None, service_account_impersonation=None),
        google_takes_it=True,
    ),
    "file, client": Shape(
        pool(client_id="fake-id", client_secret="fake-secret"), google_takes_it=True
    ),
    "file, workforce project without a workforce": Shape(
        pool(workforce_pool_user_project="p"), google_takes_it=False
    ),
    "file, workforce": Shape(
        pool(audience=files.WORKFORCE_AUDIENCE, workforce_pool_user_project="p"),
        google_takes_it=True,
    ),
    "URL": Shape(
        pool({"url": "http://127.0.0.1:9/subject", "headers": {"Metadata": "True"}}),
        google_takes_it=True,
    ),
    "URL, null headers": Shape(
        pool({"url": "http://127.0.0.1:9/subject", "headers": None}), google_takes_it=True
    ),
    "URL, headers that are a text": Shape(
        pool({"url": "http://127.0.0.1:9/subject", "headers": "Metadata: True"}),
        google_takes_it=True,
        why=FAILS_LATER,
    ),
    "URL of a file": Shape(pool({"url": "file:///etc/passwd"}), google_takes_it=True, why=BAD_URL),
    "URL without a scheme": Shape(
        pool({"url": "127.0.0.1:9/subject"}), google_takes_it=True, why=BAD_URL
    ),
    "token_url of another scheme": Shape(
        pool(token_url="ftp://a.example/"), google_takes_it=True, why=BAD_URL
    ),
    "URL that is a number": Shape(pool({"url": 5}), google_takes_it=True, why=FAILS_LATER),
    # external_account, from a program
    "executable": Shape(pool({"executable": {"command": "true"}}), google_takes_it=True),
    "executable, all of it": Shape(
        pool(
            {
                "executable": {
                    "command": "true",
                    "timeout_millis": 5000,
                    "output_file": "/nonexistent/out",
                }
            }
        ),
        google_takes_it=True,
    ),
    "executable, null output_file": Shape(
        pool({"executable": {"command": "true", "output_file": None}}), google_takes_it=True
    ),
    "executable, output_file that is 1": Shape(
        pool({"executable": {"command": "true", "output_file": 1}}),
        google_takes_it=True,
        why=DESCRIPTOR,
    ),
    "executable, no command": Shape(pool({"executable": {}}), google_takes_it=False),
    "executable, too short a time": Shape(
        pool({"executable": {"command": "true", "timeout_millis": 1}}), google_takes_it=False
    ),
    "executable of a wrong type": Shape(pool({"executable": "true"}), google_takes_it=False),
    "executable, interactive": Shape(
        pool({"executable": {"command": "true", "interactive_timeout_millis": 60000}}),
        google_takes_it=True,
    ),
    # external_account, on a machine of AWS
    "AWS": Shape(aws(), google_takes_it=True),
    "AWS, no IMDSv2": Shape(aws(imdsv2_session_token_url=...), google_takes_it=True),
    "AWS, region from the environment": Shape(aws(region_url=..., url=...), google_takes_it=True),
    "AWS, null executable": Shape(aws(executable=None), google_takes_it=True),
    "AWS, no verification URL": Shape(
        aws(regional_cred_verification_url=...), google_takes_it=False
    ),
    "AWS, no environment_id": Shape(aws(environment_id=...), google_takes_it=False),
    "AWS, of another version": Shape(aws(environment_id="aws2"), google_takes_it=False),
    # external_account, with a certificate
    "certificate": Shape(x509(), google_takes_it=True),
    "certificate at the default place": Shape(
        x509(certificate_config_location=..., use_default_certificate_config=True),
        google_takes_it=True,
    ),
    "certificate at two places": Shape(
        x509(use_default_certificate_config=True), google_takes_it=False
    ),
    "certificate at no place": Shape(x509(certificate_config_location=...), google_takes_it=False),
    "certificate that is empty": Shape(pool({"certificate": {}}), google_takes_it=False),
    "certificate with a chain": Shape(
        x509(trust_chain_path="/nonexistent/chain"), google_takes_it=True
    ),
    "certificate with a chain that is 1": Shape(
        x509(trust_chain_path=1), google_takes_it=True, why=DESCRIPTOR
    ),
    # external_account_authorized_user
    "workforce": Shape(workforce(), google_takes_it=True),
    "workforce, no audience": Shape(workforce(audience=...), google_takes_it=True),
    "workforce, token alone": Shape(workforce(**TOKEN_ALONE, expiry=SOON), google_takes_it=True),
    "workforce, token and refresh_token": Shape(
        workforce(token=PLANTED, expiry=SOON), google_takes_it=True
    ),
    "workforce, token and a refresh_token without client": Shape(
        workforce(client_id=..., token=PLANTED, expiry=SOON), google_takes_it=True
    ),
    "workforce, token that has expired": Shape(
        workforce(**TOKEN_ALONE, expiry=LONG_AGO), google_takes_it=False
    ),
    "workforce, token without expiry": Shape(
        workforce(**TOKEN_ALONE), google_takes_it=True, why=NO_END
    ),
    "workforce, expiry alone": Shape(
        workforce(**TOKEN_ALONE | {"token": ...}, expiry=SOON), google_takes_it=False
    ),
    "workforce, no refresh_token": Shape(workforce(refresh_token=...), google_takes_it=False),
    "workforce, empty client_secret": Shape(workforce(client_secret=""), google_takes_it=False),
    "workforce, no token_url": Shape(workforce(token_url=...), google_takes_it=False),
    "workforce, token_info_url": Shape(
        workforce(token_info_url=..., revoke_url="https://x"), google_takes_it=True
    ),
    # gdch_service_account
    "gdch": Shape(gdch(), google_takes_it=True),
    "gdch with a CA": Shape(gdch(ca_cert_path="/nonexistent/ca"), google_takes_it=True),
    "gdch, CA that is false": Shape(
        gdch(ca_cert_path=False),
        google_takes_it=True,
        why="requests would then trust any certificate",
    ),
    "gdch of another version": Shape(gdch(format_version="2"), google_takes_it=False),
    "gdch, no project": Shape(gdch(project=...), google_takes_it=False),
    "gdch, no token_uri": Shape(gdch(token_uri=...), google_takes_it=False),
    "gdch with an RSA key": Shape(
        lambda _: (
            files.gdch_service_account("https://x")
            | {"private_key": files.service_account()["private_key"]}
        ),
        google_takes_it=False,
    ),
}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own plays a part."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("GOOGLE_CLOUD_QUOTA_PROJECT", "GOOGLE_API_CERTIFICATE_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def takes(load: Callable[[], object]) -> tuple[bool, str]:
    """Whether something was loaded, and what was said if not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load()
    except Exception as e:  # noqa: BLE001 -- google-auth lets many kinds escape
        return False, f"{type(e).__name__}: {e}"
    return True, ""


def ours(file: Path) -> AdcSource:
    found = read_adc(file, "a test", os.environ)
    source = AdcSource(
        found,
        Identity(found.kind, found.fingerprint, (), audience="https://x"),
        lambda: datetime.now(UTC),
        os.environ,
        10,
    )
    source._credentials()
    return source


load: Any = google.auth.load_credentials_from_file


@pytest.mark.parametrize("name", SHAPES)
def test_shape(name: str, tmp_path: Path) -> None:
    """What google-auth takes we take, and nothing else; or the row says why not."""
    shape = SHAPES[name]
    file = tmp_path / "adc.json"
    file.write_text(json.dumps(shape.build(tmp_path)))
    google_takes_it, google_said = takes(lambda: load(str(file), request=None))
    we_take_it, we_said = takes(lambda: ours(file))
    assert google_takes_it == shape.google_takes_it, google_said
    assert (we_take_it != google_takes_it) == bool(shape.why), we_said


def test_table() -> None:
    """It has every kind, taken and refused, and every difference."""
    assert len(SHAPES) >= 40
    assert len([shape for shape in SHAPES.values() if shape.google_takes_it]) >= 40
    assert {shape.why for shape in SHAPES.values()} >= {"", DESCRIPTOR, FAILS_LATER, NO_END, WE_CAN}


# --- what these shapes give ---


@pytest.mark.parametrize(
    "info",
    [
        pytest.param(
            lambda path, base: files.external_account_file(subject(path), base), id="file"
        ),
        pytest.param(lambda _, base: files.external_account_url(base), id="url"),
    ],
)
def test_null_executable(info: Callable[[Path, str], Info], tmp_path: Path) -> None:
    """It is no program: the subject token comes from elsewhere."""
    with Answers({"/subject": Reply(body=b"fake-subject-token")}) as answers:
        content = info(tmp_path, answers.url)
        content["credential_source"]["executable"] = None
        assert source_of(content, tmp_path).mint().value == PLANTED


def test_null_file_beside_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    with Answers() as answers:
        info = files.external_account_executable(subject_program(tmp_path), answers.url)
        info["credential_source"] |= {"file": None, "url": None}
        assert source_of(info, tmp_path).mint().value == PLANTED


@pytest.mark.parametrize("kind", ["workforce", "user"])
def test_token_alone(kind: str, tmp_path: Path) -> None:
    """The file's token is given with its own expiry, and nobody is asked."""
    build = (
        workforce(**TOKEN_ALONE, expiry=SOON)
        if kind == "workforce"
        else user(refresh_token=..., token=PLANTED, expiry=SOON)
    )
    info: Any = build(tmp_path)
    token = source_of(info, tmp_path).mint()
    assert (token.value, token.expiry.strftime("%Y-%m-%dT%H:%M:%SZ")) == (PLANTED, SOON)


@pytest.mark.parametrize("kind", ["workforce", "user"])
def test_token_alone_that_has_expired(kind: str, tmp_path: Path) -> None:
    """Only a new login helps."""
    more = {"token": PLANTED, "expiry": LONG_AGO, "refresh_token": ...}
    build = workforce(**more) if kind == "workforce" else user(**more)
    info: Any = build(tmp_path)
    with pytest.raises(CredentialsError) as caught:
        source_of(info, tmp_path).mint()
    file = tmp_path / "adc.json"
    assert caught.value.message == (
        f"the token in {file} (from a test) has expired, and the file has nothing to get another with"
    )
    assert "gcloud auth application-default login" in caught.value.hint


def test_impersonation_by_a_token_alone(tmp_path: Path) -> None:
    """It is what the account is asked for with."""
    own: Any = workforce(**TOKEN_ALONE, expiry=SOON)(tmp_path)
    with Answers() as answers, files.GoogleProxy(answers.url, tmp_path / "proxy") as proxy:
        file = write_adc(tmp_path / "adc.json", files.impersonated_service_account(own))
        env = environ(tmp_path, proxy.environ, {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
        ended = run_cli("token", env=env)
    assert (ended.stdout, ended.stderr) == (PLANTED + "\n", "")
    assert [asked.path.rpartition(":")[2] for asked in answers.asked] == ["generateAccessToken"]
    assert answers.asked[0].headers["authorization"] == f"Bearer {PLANTED}"


def test_empty_client_secret(tmp_path: Path) -> None:
    with Answers() as answers, files.GoogleProxy(answers.url, tmp_path / "proxy") as proxy:
        file = write_adc(tmp_path / "adc.json", files.authorized_user() | {"client_secret": ""})
        env = environ(tmp_path, proxy.environ, {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
        ended = run_cli("token", env=env)
    assert (ended.stdout, ended.stderr) == (PLANTED + "\n", "")


# --- descriptors and pipes that a file names ---

NAMED: Mapping[str, tuple[Callable[[Path], Any], str]] = {
    "file that is true": (pool({"file": True}), "credential_source.file"),
    "file that is 2": (pool({"file": 2}), "credential_source.file"),
    "output_file": (
        pool({"executable": {"command": "true", "output_file": 1}}),
        "credential_source.executable.output_file",
    ),
    "chain": (x509(trust_chain_path=1), "credential_source.certificate.trust_chain_path"),
    "headers": (
        pool({"url": "http://127.0.0.1:9/subject", "headers": "Metadata: True"}),
        "credential_source.headers",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_number_for_a_file(name: str, tmp_path: Path) -> None:
    """It is refused by name, and stdout and stderr stay open."""
    build, field = NAMED[name]
    with sandboxed(tmp_path / "login") as (_, env):
        file = write_adc(tmp_path / "adc.json", build(tmp_path))
        ended = run_cli("token", "--credentials", str(file), env=env)
    assert (ended.status, ended.stdout) == (78, "")
    assert (
        f" has a malformed field '{field}' (its type is external_account)\nvertex-env: hint: "
        in ended.stderr
    )


def test_control_google_auth_closes_the_descriptor(tmp_path: Path) -> None:
    """The control: google-auth alone takes what is on descriptor 9 for the subject token, and closes it."""
    info: Any = pool({"file": 9})(tmp_path)
    file = write_adc(tmp_path / "adc.json", info)
    program = (
        "import os, sys, warnings; warnings.simplefilter('ignore'); import google.auth\n"
        "from google.auth.transport.requests import Request\nos.dup2(os.open(sys.argv[1], os.O_RDONLY), 9)\n"
        "credentials, _ = google.auth.load_credentials_from_file(sys.argv[1])\n"
        "print('{' in credentials.retrieve_subject_token(Request()))\n"
        "try: os.fstat(9)\nexcept OSError as e: print(e.strerror)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\nBad file descriptor\n"


@pytest.mark.parametrize("name", ["config", "certificate", "key", "chain", "output"])
def test_pipe_that_a_file_names(name: str, tmp_path: Path) -> None:
    """google-auth would wait there for ever, with none of our limits."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    info: Any = x509()(tmp_path)
    config = Path(info["credential_source"]["certificate"]["certificate_config_location"])
    content = json.loads(config.read_text())
    match name:
        case "config":
            info["credential_source"]["certificate"]["certificate_config_location"] = str(pipe)
        case "chain":
            info["credential_source"]["certificate"]["trust_chain_path"] = str(pipe)
        case "output":
            info = files.external_account_executable("true", output_file=pipe)
        case _:
            content["cert_configs"]["workload"][
                "cert_path" if name == "certificate" else "key_path"
            ] = str(pipe)
            config.write_text(json.dumps(content))
    file = write_adc(tmp_path / "adc.json", info)
    with pytest.raises(CredentialsError) as caught:
        read_adc(file, "a test", os.environ)
    assert caught.value.message == (
        f"{pipe}, which the credentials file {file} (from a test) names, is not a regular file"
    )
    assert caught.value.hint == f"see what it is: ls -l {pipe}"


CONFIGS: Mapping[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "large": lambda path: path.write_bytes(b" " * (MAX_BYTES + 1)),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "long number": lambda path: path.write_text("9" * 10_000),
}
"""What google-auth waits for without end, reads without limit, or does not catch."""


@pytest.mark.parametrize(
    "place", ["GOOGLE_API_CERTIFICATE_CONFIG", ""], ids=["variable", "well-known"]
)
@pytest.mark.parametrize("kind", CONFIGS)
def test_certificate_configuration_with_other_credentials(
    kind: str, place: str, tmp_path: Path
) -> None:
    """google-auth reads it when it is imported, whatever the credentials are; they have no certificate here."""
    with sandboxed(tmp_path) as (_, env):
        path = (
            tmp_path / "odd" if place else Path(env["CLOUDSDK_CONFIG"]) / "certificate_config.json"
        )
        CONFIGS[kind](path)
        more = {**env, place: str(path)} if place else env
        done = run_cli("token", env=more)
    known = {
        "pipe": "it is not a regular file",
        "device": "it is not a regular file",
        "large": "it is too large",
    }
    reason = known.get(kind, "it is not JSON")
    told = f"{path} (from {place})" if place else str(path)
    assert done.status == 78
    assert done.stdout == ""
    assert done.stderr == (
        f"vertex-env: error: the certificate configuration {told} cannot be read: {reason}\n"
        f"vertex-env: hint: {f'unset {place}' if place else f'see what it is: ls -l {path}'}\n"
    )


@pytest.mark.parametrize("content", ["{", "[]", "{}", None])
def test_certificate_configuration_that_google_ignores(content: str | None, tmp_path: Path) -> None:
    """It is in nobody's way."""
    with sandboxed(tmp_path) as (_, env):
        path = tmp_path / "config"
        if content is not None:
            path.write_text(content)
        done = run_cli("token", env={**env, "GOOGLE_API_CERTIFICATE_CONFIG": str(path)})
    assert (done.status, done.stderr) == (0, "")


def test_google_waits_for_a_certificate_configuration(tmp_path: Path) -> None:
    """The control: this is what the check is for; without a pipe there, the same import ends."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    program = [sys.executable, "-c", "import google.auth.iam"]
    env = {
        name: value
        for name, value in os.environ.items()
        if name != "GOOGLE_API_USE_CLIENT_CERTIFICATE"
    }
    assert subprocess.run(program, env=env, timeout=60, check=False).returncode == 0
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            program, env={**env, "GOOGLE_API_CERTIFICATE_CONFIG": str(pipe)}, timeout=5, check=False
        )


URL_END = "v1/projects/-/serviceAccounts/robot@p.iam.gserviceaccount.com:generateAccessToken"


@pytest.mark.parametrize(
    "root",
    [
        "https://evil.example",
        "https://iamcredentials.googleapis.com.evil.example",
        "http://iamcredentials.googleapis.com",
    ],
)
def test_a_token_goes_to_no_other_host_for_impersonation(root: str, tmp_path: Path) -> None:
    """google-auth sends the first token to whatever host the file names, in the clear too."""
    url = f"{root}/{URL_END}"
    info: Any = pool({"file": "FILE", "certificate": None}, service_account_impersonation_url=url)(
        tmp_path
    )
    file = write_adc(tmp_path / "adc.json", info)
    with pytest.raises(CredentialsError, match="would send the access token to"):
        read_adc(file, "a test", os.environ)
    control: Any = identity_pool.Credentials
    assert control.from_info(info)._service_account_impersonation_url == url


@pytest.mark.parametrize(
    "root", ["https://iamcredentials-psc.p.googleapis.com", "http://127.0.0.1:8080"]
)
def test_googles_hosts_for_impersonation(root: str, tmp_path: Path) -> None:
    """Private Service Connect is one, and this machine may be."""
    url = f"{root}/{URL_END}"
    info: Any = pool({"file": "FILE", "certificate": None}, service_account_impersonation_url=url)(
        tmp_path
    )
    found = read_adc(write_adc(tmp_path / "adc.json", info), "a test", os.environ)
    assert found.impersonated == "robot@p.iam.gserviceaccount.com"
