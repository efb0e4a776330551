"""Application Default Credentials: find them, read them, mint with them. The only importer of google-auth.

`google.auth.default()` is not called: it starts `gcloud` for user credentials, which takes a second, and looks for the
metadata server for up to twelve (google-auth 2.62.2, 2026-11-22). The file is found and checked here, then handed to
google-auth's loader for its type.
"""

import hashlib
import json
import logging
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vertex_env.diagnosis import LOGIN, Exchange, Who, explain
from vertex_env.errors import CredentialsError, UnavailableError, VertexEnvError
from vertex_env.metadata import Metadata
from vertex_env.target import DEFAULT_UNIVERSE, matches
from vertex_env.tokens import Identity, Now, Token

TIMEOUT_S = 10.0
"""For everything that one mint asks over the network, together."""

METADATA = "metadata"
"""Our name for the kind of credentials that have no file."""

_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
    "service_account": ("client_email", "private_key", "token_uri"),
    "impersonated_service_account": ("service_account_impersonation_url", "source_credentials"),
    "external_account": ("audience", "subject_token_type", "credential_source"),
    "external_account_authorized_user": ("refresh_token", "token_url", "client_id", "client_secret"),
    "gdch_service_account": ("format_version", "private_key_id", "private_key", "name", "project", "token_uri"),
}
"""Types of credentials files and the fields without which google-auth 2.62.2 cannot use them (2026-11-22)."""

_AWS = "urn:ietf:params:aws:token-type:aws4_request"

_OBJECTS = ("source_credentials", "credential_source")

_TARGET = re.compile(r"/serviceAccounts/([^/:]+):generateAccessToken$")


@dataclass(frozen=True, slots=True)
class Adc:
    """Credentials as found: checked, but not yet loaded by google-auth."""

    kind: str
    """`type` of the file, or `metadata`."""
    source: str
    """Where they come from: `/home/me/adc.json (from GOOGLE_APPLICATION_CREDENTIALS)`."""
    fingerprint: str
    """See `Identity.fingerprint`."""
    info: Mapping[str, Any] = field(repr=False, default_factory=dict)
    metadata: Metadata | None = None

    @property
    def universe(self) -> str:
        """Universe domain, such as `googleapis.com`."""
        if self.metadata is not None:
            return self.metadata.universe
        return str(self.info.get("universe_domain") or DEFAULT_UNIVERSE)

    @property
    def project(self) -> str | None:
        """The project that the credentials belong to, where they say."""
        if self.metadata is not None:
            return self.metadata.project or None
        found = {"service_account": "project_id", "gdch_service_account": "project"}.get(self.kind)
        return _text(self.info.get(found)) if found else None

    @property
    def quota_project(self) -> str | None:
        """The project that the file names for quota. Never to be taken for the project."""
        return _text(self.info.get("quota_project_id"))

    @property
    def target(self) -> str | None:
        """The service account that the credentials themselves impersonate."""
        url = self.info.get("service_account_impersonation_url")
        found = _TARGET.search(url) if isinstance(url, str) else None
        return found[1] if found else None

    @property
    def who(self) -> Who:
        """For messages."""
        principal = self.metadata.email if self.metadata else self.info.get("client_email") or self.info.get("account")
        source = self.info.get("source_credentials")
        if isinstance(source, dict):
            principal = source.get("client_email") or source.get("account")
        described = self.kind.replace("_", " ") + " credentials"
        return Who(self.kind, str(principal or f"the {described}"), self.source, self.target)


def read_adc(path: Path, source: str) -> Adc:
    """The credentials file at *path*.

    Args:
        path: Where it is.
        source: Where the path came from, such as `GOOGLE_APPLICATION_CREDENTIALS`.

    Raises:
        CredentialsError: It is absent, unreadable, not a credentials file, or lacks a field.
    """
    where = f"{path} (from {source})"
    again = f"make a new one: {LOGIN}"
    try:
        content = path.read_bytes()
        info = json.loads(content) if content.strip() else None
    except FileNotFoundError:
        raise CredentialsError(f"there is no credentials file {where}", f"correct the path, or {again}") from None
    except IsADirectoryError:
        raise CredentialsError(f"the credentials file {where} is a directory", "name the JSON file in it") from None
    except OSError as e:
        raise CredentialsError(f"cannot read {where}: {e.strerror}", f"check its permissions: ls -l {path}") from e
    except (ValueError, RecursionError):
        raise CredentialsError(f"the credentials file {where} is not JSON", again) from None
    if not content.strip():
        raise CredentialsError(f"the credentials file {where} is empty", again)
    if not isinstance(info, dict):
        raise CredentialsError(f"the credentials file {where} is not a JSON object", again)
    kind = _check_info(info, f"the credentials file {where}")
    return Adc(kind, where, _fingerprint(kind, content, info), info)


def from_metadata(metadata: Metadata) -> Adc:
    """The credentials of the machine's own service account."""
    fingerprint = hashlib.sha256(f"{metadata.host}\n{metadata.email}".encode()).hexdigest()
    return Adc(METADATA, f"the metadata server {metadata.host}", fingerprint, metadata=metadata)


def _check_info(info: Mapping[str, Any], where: str) -> str:
    again = f"make a new one: {LOGIN}"
    kind = info.get("type")
    if "installed" in info or "web" in info:
        raise CredentialsError(f"{where} is an OAuth client, not credentials", again)
    if not isinstance(kind, str):
        raise CredentialsError(f"{where} has no field 'type'", again)
    if kind not in _REQUIRED:
        raise CredentialsError(f"{where} has the unknown type {kind[:60]!r}", "known types: " + ", ".join(_REQUIRED))
    for name in _REQUIRED[kind]:
        value = info.get(name)
        if not (isinstance(value, dict) if name in _OBJECTS else isinstance(value, str) and value):
            state = "lacks" if value is None else "has a malformed"
            raise CredentialsError(f"{where} {state} the field {name!r} of a {kind} file", again)
    universe = info.get("universe_domain")
    if universe is not None and not (isinstance(universe, str) and matches("universe", universe)):
        raise CredentialsError(f"{where} has a malformed field 'universe_domain'", again)
    if kind == "impersonated_service_account":
        _check_info(info["source_credentials"], f"source_credentials in {where}")
    url = info.get("service_account_impersonation_url")
    if url is not None and not (isinstance(url, str) and _TARGET.search(url)):
        raise CredentialsError(f"{where} has a malformed field 'service_account_impersonation_url'", again)
    return kind


def _fingerprint(kind: str, content: bytes, info: Mapping[str, Any]) -> str:
    """What the file's tokens are made from: its content, and a subject token that it points to on disk.

    With workload identity the file only says where the identity is, so two jobs may share it.
    """
    digest = hashlib.sha256(content)
    subject = info["credential_source"].get("file") if kind == "external_account" else None
    if isinstance(subject, str):
        try:
            digest.update(b"\0" + Path(subject).read_bytes())
        except OSError:
            digest.update(b"\0unreadable")
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class AdcSource:
    """Mints access tokens for one identity.

    Args:
        adc: What to mint with.
        identity: What to mint: scopes, impersonation, lifetime.
        now: The clock.
        default_scopes: Whether the scopes are the default ones. A user's refresh token is not asked for those: it may
            have been given others at login.
        iam_endpoint: Root of the IAM Credentials API, where it is not Google's usual one.
    """

    adc: Adc
    identity: Identity
    now: Now
    default_scopes: bool = True
    iam_endpoint: str | None = None

    def mint(self) -> Token:
        """A new token from Google.

        Raises:
            CredentialsError: The credentials cannot be used as they are.
            RefusedError: Google said no.
            UnavailableError: Google could not be reached, or did not answer with a token.
        """
        issued = self.now()
        with _silence():
            transport = _transport(TIMEOUT_S, trust_env=self.adc.kind != METADATA)
            try:
                credentials = self._credentials()
                credentials.refresh(transport)
            except Exception as e:  # noqa: BLE001 -- google-auth lets TypeError, OSError, JSONDecodeError and more escape
                raise self._explain(e, transport.exchange) from None
        return self._token(credentials, issued, transport.exchange)

    def _token(self, credentials: Any, issued: datetime, exchange: Exchange | None) -> Token:
        value, expiry = credentials.token, credentials.expiry
        host = exchange.host if exchange else "the credentials"
        hint = "a proxy may have answered instead: check HTTPS_PROXY, then try again"
        if not isinstance(value, str) or re.fullmatch(r"[A-Za-z0-9._~+/=-]+", value) is None:
            raise UnavailableError(f"{host} answered with something that is not an access token", hint)
        if expiry is None:
            raise UnavailableError(f"{host} answered with a token that has no expiry", hint)
        # google-auth's expiry is naive UTC (google-auth 2.62.2 `google/auth/_helpers.py` utcnow, 2026-11-22).
        token = Token(value, expiry.replace(tzinfo=UTC), issued)
        if token.remaining(self.now()) <= timedelta(0):
            raise UnavailableError(
                f"{host} answered with a token that had expired at {token.expiry:%H:%M:%S} UTC already",
                "see whether this machine's clock is right: date -u",
            )
        return token

    def _credentials(self) -> Any:
        """google-auth's credentials for the identity, not yet refreshed."""
        identity = self.identity
        if identity.impersonate is None:
            return self._load(self.adc.info, identity.scopes)
        source = self._load(self.adc.info, ())
        return self._impersonated(source, identity.impersonate, identity.delegates)

    def _impersonated(self, source: Any, target: str, delegates: Sequence[str]) -> Any:
        from google.auth import impersonated_credentials

        account = f"projects/-/serviceAccounts/{target}"
        return impersonated_credentials.Credentials(
            source_credentials=source,
            target_principal=target,
            target_scopes=list(self.identity.scopes),
            # The API wants resource names (…/rest/v1/projects.serviceAccounts/generateAccessToken, 2026-11-22).
            delegates=[d if "/" in d else f"projects/-/serviceAccounts/{d}" for d in delegates],
            lifetime=_seconds(self.identity.lifetime) if self.identity.lifetime else None,
            iam_endpoint_override=(
                f"{self.iam_endpoint}/v1/{account}:generateAccessToken" if self.iam_endpoint else None
            ),
        )

    def _load(self, info: Mapping[str, Any], scopes: Sequence[str]) -> Any:
        """google-auth's credentials from its loader for the type of *info*; each is imported only when needed."""
        data = dict(info)
        wanted = list(scopes) or None
        match data.get("type", METADATA):
            case "metadata":
                from google.auth import compute_engine

                return compute_engine.Credentials(scopes=wanted, universe_domain=self.adc.universe)
            case "authorized_user":
                from google.oauth2 import credentials

                return credentials.Credentials.from_authorized_user_info(data, None if self.default_scopes else wanted)
            case "service_account":
                from google.oauth2 import service_account

                return service_account.Credentials.from_service_account_info(data, scopes=wanted)
            case "impersonated_service_account":
                # google-auth's own loader always asks for an hour and knows three kinds of source only.
                source = self._load(data["source_credentials"], ())
                return self._impersonated(source, self.adc.target or "", data.get("delegates") or ())
            case "external_account_authorized_user":
                from google.auth import external_account_authorized_user

                return external_account_authorized_user.Credentials.from_info(data)
            case "gdch_service_account":
                from google.oauth2 import gdch_credentials

                loaded = gdch_credentials.ServiceAccountCredentials.from_service_account_info(data)
                return loaded.with_gdch_audience(self.identity.audience)
            case _:
                return self._load_external_account(data, wanted)

    def _load_external_account(self, data: dict[str, Any], scopes: list[str] | None) -> Any:
        if self.identity.lifetime and self.identity.impersonate is None:
            data["service_account_impersonation"] = {"token_lifetime_seconds": _seconds(self.identity.lifetime)}
        if data["subject_token_type"] == _AWS:
            from google.auth import aws

            return aws.Credentials.from_info(data, scopes=scopes)
        if "executable" in data["credential_source"]:
            from google.auth import pluggable

            return pluggable.Credentials.from_info(data, scopes=scopes)
        from google.auth import identity_pool

        return identity_pool.Credentials.from_info(data, scopes=scopes)

    def _explain(self, error: Exception, exchange: Exchange | None) -> VertexEnvError:
        """*error* in our words; what google-auth did before any request failed is about files and programs."""
        text = str(error.args[0]) if error.args else str(error)
        if "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES" in text or "explicitly allowed" in text:
            return CredentialsError(
                f"{self.adc.source} runs a program, which is not allowed yet",
                "if you trust that file: export GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1",
            )
        if type(error).__name__ == "TimeoutExpired":
            return UnavailableError(
                f"the program named in {self.adc.source} did not answer in time",
                "run it by hand to see, or raise timeout_millis in the file",
            )
        bundle = re.search(r"invalid path: (\S+)", text)
        if isinstance(error, OSError) and bundle:
            return CredentialsError(
                f"the TLS CA certificate bundle {bundle[1]} does not exist",
                "correct or unset REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE",
            )
        return explain(exchange, text or type(error).__name__, self.adc.who)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _seconds(lifetime: timedelta) -> int:
    return int(lifetime.total_seconds())


@contextmanager
def _silence() -> Iterator[None]:
    """Keep google-auth's warnings and log records off stderr, which tools read together with stdout."""
    for name in ("google", "urllib3", "requests"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _transport(budget_s: float, *, trust_env: bool) -> Any:
    """A google-auth transport that keeps to *budget_s* in all, follows no redirect, and remembers the last exchange.

    google-auth and requests take a third of a second to import: only when a token is minted.
    """
    import requests
    from google.auth import exceptions
    from google.auth.transport import requests as transport

    deadline = time.monotonic() + budget_s

    class Transport(transport.Request):
        exchange: Exchange | None = None

        def __call__(
            self,
            url: str,
            method: str = "GET",
            body: bytes | None = None,
            headers: Mapping[str, str] | None = None,
            timeout: float | None = None,
            **kwargs: Any,
        ) -> Any:
            parts = urlsplit(url)
            self.exchange = Exchange(parts.netloc.rpartition("@")[2], parts.path)
            left = deadline - time.monotonic()
            if left <= 0:
                raise exceptions.TransportError("timed out")
            # A redirect would carry the refresh token or the assertion to another host.
            kwargs["allow_redirects"] = False
            response = super().__call__(url, method, body, headers, min(left, timeout or left), **kwargs)
            self.exchange = Exchange(self.exchange.host, parts.path, response.status, response.data)
            return response

    session = requests.Session()
    session.trust_env = trust_env
    return Transport(session)
