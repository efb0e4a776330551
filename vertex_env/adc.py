"""Application Default Credentials: find them, read them, mint with them. The only importer of google-auth.

`google.auth.default()` is not called: it starts `gcloud` for user credentials, which takes a second, and looks for the
metadata server for up to twelve (google-auth 2.62.2, 2026-11-22). The file is found and checked here, then handed to
google-auth's loader for its type.
"""

import hashlib
import json
import logging
import os
import re
import stat
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from vertex_env.diagnosis import LOGIN, Exchange, Who, explain, make_anew, one_line
from vertex_env.errors import CredentialsError, UnavailableError, VertexEnvError
from vertex_env.metadata import Metadata
from vertex_env.redaction import Secrets
from vertex_env.target import DEFAULT_UNIVERSE, matches
from vertex_env.tokens import Identity, Now, Token

T = TypeVar("T")

TIMEOUT_S = 10.0
"""For everything that one mint asks over the network, together."""

METADATA = "metadata"
"""Our name for the kind of credentials that have no file."""

_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
    "service_account": ("client_email", "private_key", "token_uri"),
    "impersonated_service_account": ("service_account_impersonation_url", "source_credentials"),
    "external_account": ("audience", "subject_token_type", "token_url", "credential_source"),
    "external_account_authorized_user": ("refresh_token", "token_url", "client_id", "client_secret"),
    "gdch_service_account": ("format_version", "private_key_id", "private_key", "name", "project", "token_uri"),
}
"""Types of credentials files and the fields without which google-auth 2.62.2 cannot use them (2026-11-22)."""

_AWS = "urn:ietf:params:aws:token-type:aws4_request"

_OBJECTS = ("source_credentials", "credential_source")

_TARGET = re.compile(r"/serviceAccounts/([\w.@%+-]+):generateAccessToken$", re.ASCII)
_ACCOUNT = re.compile(r"[\w.+-]+@[\w.-]+", re.ASCII)

_WELL_KNOWN = "application_default_credentials.json"
"""The name under which gcloud keeps a login."""

_MAX_BYTES = 1 << 20


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
    named_by: str | None = None
    """See `Who.named_by`."""
    files: tuple[Path, ...] = ()
    """What the fingerprint was taken from."""

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
        """For messages. Of the account only what cannot be mistaken for anything else enters one."""
        source = _innermost(self.info)
        account = self.metadata.email if self.metadata else source.get("client_email") or source.get("account")
        principal = account if isinstance(account, str) and _ACCOUNT.fullmatch(account) else None
        return Who(self.kind, principal, self.source, self.target, self.named_by)


def read_adc(path: Path, source: str, environ: Mapping[str, str] = os.environ) -> Adc:
    """The credentials file at *path*.

    Args:
        path: Where it is.
        source: Where the path came from, such as `GOOGLE_APPLICATION_CREDENTIALS`.
        environ: The environment, in which some of the credentials may be.

    Raises:
        CredentialsError: It is absent, unreadable, not a credentials file, or lacks a field.
    """
    where = f"the credentials file {_shown(path)} (from {source})"
    named_by = None if path.name == _WELL_KNOWN else source
    again = make_anew("", named_by)
    try:
        content = _read(path)
        info = json.loads(content) if content.strip() else None
    except FileNotFoundError:
        raise CredentialsError(f"{where} does not exist", f"correct the path, or {again}") from None
    except IsADirectoryError:
        raise CredentialsError(f"{where} is a directory", "name the JSON file in it") from None
    except OSError as e:
        reason = e.strerror or str(e)
        raise CredentialsError(f"{where} cannot be read: {reason}", f"see what it is: ls -l {_shown(path)}") from None
    except (ValueError, RecursionError):
        raise CredentialsError(f"{where} is not JSON", again) from None
    if not content.strip():
        raise CredentialsError(f"{where} is empty", again)
    if not isinstance(info, dict):
        raise CredentialsError(f"{where} is not a JSON object", again)
    kind = _check_info(info, where, named_by)
    fingerprint, subject = _fingerprint(content, info, where, environ)
    source = where.removeprefix("the credentials file ")
    return Adc(kind, source, fingerprint, info, named_by=named_by, files=(path, *subject))


def from_metadata(metadata: Metadata) -> Adc:
    """The credentials of the machine's own service account."""
    fingerprint = hashlib.sha256(f"{metadata.host}\n{metadata.email}".encode()).hexdigest()
    return Adc(METADATA, f"the metadata server {metadata.host}", fingerprint, metadata=metadata)


def _read(path: Path) -> bytes:
    """Content of a regular file; anything else, such as a pipe or a device, could keep us waiting for ever.

    Raises:
        OSError: It is something else, too large, or cannot be read.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    with open(path, "rb", opener=opener) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is not a regular file")
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise OSError("it is too large")
    return content


def _shown(path: Path) -> str:
    """*path* on one line."""
    return str(path) if str(path).isprintable() else repr(str(path))


def _check_info(info: Mapping[str, Any], where: str, named_by: str | None, part_of: str = "") -> str:
    """The type of *info*, which has all that is needed for one; *part_of* is the type of the file that it is in."""
    kind = info.get("type")
    again = make_anew(part_of or (kind if isinstance(kind, str) else ""), named_by)
    if "installed" in info or "web" in info:
        login = f"to log in with it: {LOGIN} --client-id-file=FILE"
        raise CredentialsError(f"{where} is an OAuth client, not credentials", login)
    if kind is None:
        raise CredentialsError(f"{where} has no field 'type'", again)
    if not isinstance(kind, str) or kind not in _REQUIRED:
        unknown = repr(kind)[:60]
        raise CredentialsError(f"{where} has the unknown type {unknown}", "known types: " + ", ".join(_REQUIRED))
    for name in _REQUIRED[kind]:
        value = info.get(name)
        if not (isinstance(value, dict) if name in _OBJECTS else isinstance(value, str) and value):
            state = "lacks the" if value is None else "has a malformed"
            raise CredentialsError(f"{where} {state} field {name!r} (its type is {kind})", again)
    for name, is_sound in _OPTIONAL.items():
        if info.get(name) is not None and not is_sound(info[name]):
            raise CredentialsError(f"{where} has a malformed field {name!r} (its type is {kind})", again)
    if kind == "impersonated_service_account":
        if info["source_credentials"].get("type") == kind:
            raise CredentialsError(f"{where} impersonates twice", "name the account in between in 'delegates'")
        _check_info(info["source_credentials"], f"source_credentials in {where}", named_by, kind)
    return kind


_OPTIONAL: Mapping[str, Callable[[Any], bool]] = {
    "universe_domain": lambda value: isinstance(value, str) and matches("universe", value),
    "service_account_impersonation_url": lambda value: isinstance(value, str) and _TARGET.search(value) is not None,
    "service_account_impersonation": lambda value: isinstance(value, dict),
    "delegates": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
}
"""What google-auth takes as it comes, and then fails on or asks the wrong thing with."""


def _fingerprint(
    content: bytes, info: Mapping[str, Any], where: str, environ: Mapping[str, str]
) -> tuple[str, tuple[Path, ...]]:
    """What the file's tokens are made from: its content, and what else google-auth makes them from; with further files.

    With workload identity the file only says where the identity is, so that jobs may share it: a subject token on disk,
    or an AWS access key in the environment (google-auth 2.62.2 `google/auth/aws.py`, 2026-11-22).
    """
    digest = hashlib.sha256(content)
    info = _innermost(info)
    if info["type"] != "external_account":
        return digest.hexdigest(), ()
    if info["subject_token_type"] == _AWS:
        digest.update(b"\0" + environ.get("AWS_ACCESS_KEY_ID", "").encode(errors="surrogateescape"))
    files = _certificates(info["credential_source"], environ)
    for path in files:
        with suppress(OSError, ValueError):
            digest.update(b"\0" + _read(path))
    subject = info["credential_source"].get("file")
    if not isinstance(subject, str):
        return digest.hexdigest(), files
    try:
        digest.update(b"\0" + _read(Path(subject)))
    except (OSError, ValueError) as e:
        shown, reason = _shown(Path(subject)), e.strerror if isinstance(e, OSError) else None
        raise CredentialsError(
            f"the subject token {shown}, which {where} names, cannot be read: {reason or e}",
            f"see whether the job that writes it has done so: ls -l {shown}",
        ) from None
    return digest.hexdigest(), (*files, Path(subject))


def _certificates(source: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The files with a workload's client certificate, which tell whose token an X.509 provider gives.

    google-auth 2.62.2 `google/auth/transport/_mtls_helper.py` (2026-11-22).
    """
    certificate = source.get("certificate")
    if not isinstance(certificate, dict):
        return ()
    named = certificate.get("certificate_config_location") or environ.get("GOOGLE_API_CERTIFICATE_CONFIG")
    known = Path(environ.get("HOME") or "~", ".config", "gcloud", "certificate_config.json")
    config = Path(str(named or known)).expanduser()
    try:
        workload = json.loads(_read(config))["cert_configs"]["workload"]
        return config, Path(str(workload["cert_path"]))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return (config,)  # google-auth says what is wrong with it


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
        budget_s: See `TIMEOUT_S`.
    """

    adc: Adc
    identity: Identity
    now: Now
    default_scopes: bool = True
    iam_endpoint: str | None = None
    budget_s: float = TIMEOUT_S

    def mint(self) -> Token:
        """A new token from Google.

        Raises:
            CredentialsError: The credentials cannot be used as they are.
            RefusedError: Google said no.
            UnavailableError: Google could not be reached, or did not answer with a token.
        """
        issued, failed = self.now(), None
        with _silence():
            transport = _transport(self.budget_s, lean=_is_lean(self.adc, os.environ))
            try:
                credentials = self._credentials()
                credentials.refresh(transport)
            except Exception as e:  # noqa: BLE001 -- google-auth lets TypeError, OSError, JSONDecodeError and more escape
                failed = self._explain(e, transport.exchange, transport.secrets)
        if failed is not None:
            # Not in the except clause: google-auth's exception, with answers in its arguments, would be its context.
            raise failed
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
                f"{host} answered with a token that had expired at {token.expiry:%Y-%m-%d %H:%M:%S} UTC already",
                "try again; if that does not help, see whether this machine's clock is right: date -u",
            )
        return token

    def _credentials(self) -> Any:
        """google-auth's credentials for the identity, not yet refreshed."""
        identity = self.identity
        if identity.impersonate is None:
            return self._load(self.adc.info, identity.scopes, identity.lifetime)
        source = self._load(self.adc.info, (), None)
        return self._impersonated(source, identity.impersonate, identity.delegates, identity.lifetime)

    def _impersonated(self, source: Any, target: str, delegates: Sequence[str], lifetime: timedelta | None) -> Any:
        from google.auth import impersonated_credentials

        account = f"projects/-/serviceAccounts/{target}"
        return impersonated_credentials.Credentials(
            source_credentials=source,
            target_principal=target,
            # Where these are only the source of another impersonation, google-auth asks for what that needs.
            target_scopes=list(self.identity.scopes),
            # The API wants resource names (…/rest/v1/projects.serviceAccounts/generateAccessToken, 2026-11-22).
            delegates=[d if "/" in d else f"projects/-/serviceAccounts/{d}" for d in delegates],
            lifetime=_seconds(lifetime) if lifetime else None,
            iam_endpoint_override=(
                f"{self.iam_endpoint}/v1/{account}:generateAccessToken" if self.iam_endpoint else None
            ),
        )

    def _load(self, info: Mapping[str, Any], scopes: Sequence[str], lifetime: timedelta | None) -> Any:
        """google-auth's credentials from its loader for the type of *info*; each is imported only when needed."""
        data = {name: value for name, value in info.items() if value is not None}
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
                source = self._load(data["source_credentials"], (), None)
                return self._impersonated(source, self.adc.target or "", data.get("delegates", ()), lifetime)
            case "external_account_authorized_user":
                from google.auth import external_account_authorized_user

                return external_account_authorized_user.Credentials.from_info(data)
            case "gdch_service_account":
                from google.oauth2 import gdch_credentials

                loaded = gdch_credentials.ServiceAccountCredentials.from_service_account_info(data)
                return loaded.with_gdch_audience(self.identity.audience)
            case _:
                return _load_external_account(data, wanted, lifetime)

    def _explain(self, error: Exception, exchange: Exchange | None, sent: Secrets) -> VertexEnvError:
        """*error* in our words, without the secrets that were *sent* or are in the credentials."""
        sent.add_data(self.adc.info)
        sent.add_environ(os.environ)
        if exchange is None and "executable" in _innermost(self.adc.info).get("credential_source", ()):
            return self._explain_program(error, sent)
        return explain(exchange, _told(error), self.adc.who, sent)

    def _explain_program(self, error: Exception, secrets: Secrets) -> VertexEnvError:
        """What went wrong with the program that gives the subject token."""
        program = f"the program named in {self.adc.source}"
        by_hand = "run the command in that file by hand to see"
        said = _told(error)
        if "explicitly allowed" in said:
            return CredentialsError(
                f"{program} is not allowed to run yet",
                "if you trust that file: export GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1",
            )
        if type(error).__name__ == "TimeoutExpired":
            return UnavailableError(f"{program} did not answer in time", f"{by_hand}, or raise timeout_millis there")
        if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | TypeError | AttributeError | KeyError):
            said = "what it printed is not what https://google.aip.dev/auth/4117 asks for"
        # google-auth quotes what the program printed, which may be the subject token.
        said = one_line(said.partition(". Error: ")[0], secrets)
        return CredentialsError(f"{program} gave no subject token: {said}", by_hand)


def _load_external_account(data: dict[str, Any], scopes: list[str] | None, lifetime: timedelta | None) -> Any:
    if lifetime:
        data["service_account_impersonation"] = {"token_lifetime_seconds": _seconds(lifetime)}
    if data["subject_token_type"] == _AWS:
        from google.auth import aws

        return aws.Credentials.from_info(data, scopes=scopes)
    if "executable" in data["credential_source"]:
        from google.auth import pluggable

        return pluggable.Credentials.from_info(data, scopes=scopes)
    from google.auth import identity_pool

    return identity_pool.Credentials.from_info(data, scopes=scopes)


def _told(error: Exception) -> str:
    """What *error* says to a person; google-auth adds an answer's body, say, for programs."""
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, GoogleAuthError) and error.args:
        return str(error.args[0])
    if isinstance(error, OSError | ValueError):
        return str(error)
    return f"google-auth expects something else there ({error})"


def _innermost(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an impersonating file starts from; any other starts from itself."""
    source = info.get("source_credentials")
    return source if isinstance(source, dict) else info


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


def _transport(budget_s: float, *, lean: bool = False) -> Any:
    """A google-auth transport that lasts *budget_s* from its first request on, and remembers the last exchange.

    google-auth and requests take a third of a second to import: only when a token is minted, and the latter only where
    its proxies, certificates or types are needed.
    """
    from google.auth import exceptions, transport

    base: Any = _LeanRequest
    if not lean:
        from google.auth.transport.requests import Request as base  # noqa: N813 -- a class by a role

    class Transport(base):  # type: ignore[misc]
        exchange: Exchange | None = None
        started: float | None = None
        secrets = Secrets()

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
            self.secrets.add_request(url, body, headers)
            if self.started is None:
                self.started = time.monotonic()
            if not lean:
                # The metadata server is never behind a proxy.
                self.session.trust_env = not parts.path.startswith("/computeMetadata/")
                # A redirect would carry the refresh token or the assertion to another host.
                kwargs["allow_redirects"] = False
                if "authorization" in map(str.lower, headers or ()):
                    # Without this, requests puts in its place what ~/.netrc has for the host.
                    kwargs["auth"] = lambda request: request
            ask = super().__call__
            left = self.started + budget_s - time.monotonic()
            try:
                response = _in_time(lambda: ask(url, method, body, headers, min(left, timeout or left), **kwargs), left)
            except exceptions.TransportError as e:
                # google-auth would try again after this, for longer than we want to wait; not after an OSError.
                raise ConnectionError(str(e)) from None
            self.exchange = Exchange(self.exchange.host, parts.path, response.status, response.data)
            self.secrets.add_body(response.data)
            # It doubles its pauses, so that the next is about as long as everything so far.
            spent = time.monotonic() - self.started
            if response.status in transport.DEFAULT_RETRYABLE_STATUS_CODES and 2 * spent > budget_s:
                raise TimeoutError("timed out")
            return response

    # What is a transport to google-auth is one by registration, so that ours need not import it to be defined.
    transport.Request.register(_LeanRequest)
    return Transport()


class _LeanRequest:
    """One request by the standard library: what google-auth wants of a transport, without proxies and redirects."""

    def __call__(
        self, url: str, method: str, body: bytes | None, headers: Mapping[str, str] | None, timeout: float
    ) -> "_LeanResponse":
        import http.client

        parts = urlsplit(url)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            import ssl

            import certifi

            # The certificates that requests would trust.
            context = ssl.create_default_context(cafile=certifi.where())
            connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=context)
        else:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        try:
            path = parts.path or "/"
            target = f"{path}?{parts.query}" if parts.query else path
            connection.request(method, target, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return _LeanResponse(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        except http.client.HTTPException as e:
            raise ConnectionError(f"Connection aborted: {type(e).__name__}") from None
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class _LeanResponse:
    status: int
    headers: Mapping[str, str]
    data: bytes


def _is_lean(adc: Adc, environ: Mapping[str, str]) -> bool:
    """Whether the standard library can do for *adc* what requests does: no proxy, no CA of the user's, no mTLS.

    google-auth wants requests itself for the metadata server and air-gapped clouds (google-auth 2.62.2
    `google/auth/compute_engine/_metadata.py`, `google/oauth2/gdch_credentials.py`, 2026-11-22).
    """
    names = {name.lower() for name, value in environ.items() if value}
    return (
        sys.platform == "linux"  # elsewhere the system has proxies of its own
        and names.isdisjoint(("http_proxy", "https_proxy", "all_proxy", "requests_ca_bundle", "curl_ca_bundle"))
        and adc.kind not in (METADATA, "gdch_service_account")
        and not any(word in json.dumps(dict(adc.info)) for word in ("mtls", '"certificate"'))
    )


def _in_time(ask: Callable[[], T], left_s: float) -> T:
    """What *ask* returns or raises.

    A socket's time-out is not enough: it holds for each address of a name and each read, and the resolver has none. The
    thread that is left behind ends with the process at the latest.

    Raises:
        TimeoutError: It takes longer than *left_s*.
    """
    answers: list[T] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            answers.append(ask())
        except Exception as e:  # noqa: BLE001 -- raised again below
            failures.append(e)

    if left_s > 0:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(left_s)
    if failures:
        raise failures[0]
    if not answers:
        raise TimeoutError("timed out")
    return answers[0]
