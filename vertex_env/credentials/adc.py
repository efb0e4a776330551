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
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vertex_env import program
from vertex_env.credentials.metadata import Metadata
from vertex_env.errors import CredentialsError, SettingsError, UnavailableError, VertexEnvError
from vertex_env.files import is_pipe, read_file, read_pipe
from vertex_env.redaction import Secrets
from vertex_env.tokens.token import Identity, Now, Token
from vertex_env.transport import MAX_BYTES, Line, bind, in_time, lean_request
from vertex_env.vertex.refusals import LOGIN, Exchange, Who, explain, make_anew, one_line
from vertex_env.vertex.target import DEFAULT_UNIVERSE, check_url, matches, may_have_proxy

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

_EMPTY_IS_FINE = (("authorized_user", "client_secret"),)
"""google-auth refreshes with an empty one."""

_WITH_TOKEN = ("authorized_user", "external_account_authorized_user")
"""Types whose files may have an access token, with its expiry, in place of what refreshes one."""

_SOURCE: Mapping[tuple[str, ...], type] = {
    ("file",): str,
    ("url",): str,
    ("headers",): dict,
    ("executable",): dict,
    ("executable", "command"): str,
    ("executable", "output_file"): str,
    ("certificate",): dict,
    ("certificate", "certificate_config_location"): str,
    ("certificate", "trust_chain_path"): str,
}
"""Fields of `credential_source`. Python opens a number as the descriptor of that number, and then closes it."""

_AWS = "urn:ietf:params:aws:token-type:aws4_request"

_OBJECTS = ("source_credentials", "credential_source")

_TARGET = re.compile(r"/serviceAccounts/([\w.@%+-]+):generateAccessToken$", re.ASCII)
_ACCOUNT = re.compile(r"[\w.+-]+@[\w.-]+", re.ASCII)

_WELL_KNOWN = "application_default_credentials.json"
"""The name under which gcloud keeps a login."""


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
    of_machine: bool = False
    """Whether the account may be another on another machine with the same home folder."""
    is_pipe: bool = False
    """Whether the file was a pipe: nobody can read it again."""

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
    def impersonated(self) -> str | None:
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
        return Who(self.kind, principal, self.source, self.impersonated, self.named_by)


def read_adc(path: Path, source: str, environ: Mapping[str, str] = os.environ, again: str = "") -> Adc:
    """The credentials file at *path*, which may be a pipe.

    Args:
        path: Where it is.
        source: Where the path came from, such as `GOOGLE_APPLICATION_CREDENTIALS`.
        environ: The environment, in which some of the credentials may be.
        again: Why it has to be read more than once, such as `run renews the token`; a pipe is refused then.

    Raises:
        CredentialsError: It is absent, unreadable, not a credentials file, or lacks a field.
    """
    where = f"the credentials file {_shown(path)} (from {source})"
    named_by = None if path.name == _WELL_KNOWN else source
    anew, once = make_anew("", named_by), is_pipe(path)
    if once and again:
        hint = 'write the credentials to a file, or use: eval "$(vertex-env export)"'
        raise CredentialsError(f"{where} is a pipe, which can be read only once, but {again}", hint)
    content = _content(path, where, named_by, once=once)
    try:
        info = json.loads(content)
    except (ValueError, RecursionError):
        raise CredentialsError(f"{where} is not JSON", anew) from None
    if not isinstance(info, dict):
        raise CredentialsError(f"{where} is not a JSON object", anew)
    kind = _check_info(info, where, named_by)
    _check_files(info, where, environ)
    fingerprint, subject = _fingerprint(content, info, where, environ)
    source = where.removeprefix("the credentials file ")
    files, local = (path, *subject), _asks_around(_innermost(info))
    return Adc(kind, source, fingerprint, info, named_by=named_by, files=files, of_machine=local, is_pipe=once)


def _content(path: Path, where: str, named_by: str | None, *, once: bool) -> bytes:
    """What the credentials file has; *once* if it is a pipe."""
    anew = make_anew("", named_by)
    try:
        content = read_pipe(path) if once else read_file(path)
    except FileNotFoundError:
        raise CredentialsError(f"{where} does not exist", f"correct the path, or {anew}") from None
    except IsADirectoryError:
        raise CredentialsError(f"{where} is a directory", "name the JSON file in it") from None
    except (OSError, ValueError) as e:
        reason = (isinstance(e, OSError) and e.strerror) or str(e)
        look = (
            "see whether the command that writes to the pipe works" if once else f"see what it is: ls -l {_shown(path)}"
        )
        raise CredentialsError(f"{where} cannot be read: {reason}", look) from None
    if not content.strip():
        reason = ": it is a pipe, which can be read only once" if once else ""
        raise CredentialsError(f"{where} is empty{reason}", anew)
    return content


def from_metadata(metadata: Metadata) -> Adc:
    """The credentials of the machine's own service account."""
    fingerprint = hashlib.sha256(f"{metadata.host}\n{metadata.email}".encode()).hexdigest()
    source = f"the metadata server {metadata.host}"
    return Adc(METADATA, source, fingerprint, metadata=metadata, of_machine=True)


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
    for name in ("token", "expiry") if _is_token_alone(info) else _REQUIRED[kind]:
        value = info.get(name)
        is_text = isinstance(value, str) and (value or (kind, name) in _EMPTY_IS_FINE)
        if not (isinstance(value, dict) if name in _OBJECTS else is_text):
            state = "lacks the" if value is None else "has a malformed"
            raise CredentialsError(f"{where} {state} field {name!r} (its type is {kind})", again)
    malformed = _malformed(info, kind)
    if malformed:
        raise CredentialsError(f"{where} has a malformed field {malformed[0]!r} (its type is {kind})", again)
    _check_impersonation_url(info, where)
    if kind == "impersonated_service_account":
        if info["source_credentials"].get("type") == kind:
            raise CredentialsError(f"{where} impersonates twice", "name the account in between in 'delegates'")
        _check_info(info["source_credentials"], f"source_credentials in {where}", named_by, kind)
    return kind


def _check_impersonation_url(info: Mapping[str, Any], where: str) -> None:
    """Refuse a URL outside Google: google-auth sends an access token to it, whatever its host is.

    Only with these credentials; for `impersonated_service_account` google-auth takes no more than the account from it
    (google-auth 2.62.2 `google/auth/external_account.py`, `impersonated_credentials.py`, 2026-11).
    """
    url = info.get("service_account_impersonation_url")
    if not url or info["type"] != "external_account":
        return
    universe = info.get("universe_domain") or DEFAULT_UNIVERSE
    try:
        check_url(
            url,
            what=f"'service_account_impersonation_url' in {where}",
            allowed=("127.0.0.1", "localhost", "[::1]"),
            universe=universe,
        )
    except SettingsError as e:
        raise CredentialsError(
            e.message, f"correct the URL: it begins with https://iamcredentials.{universe}/"
        ) from None


_OPTIONAL: Mapping[str, Callable[[Any], bool]] = {
    "universe_domain": lambda value: isinstance(value, str) and matches("universe", value),
    "service_account_impersonation_url": lambda value: isinstance(value, str) and _TARGET.search(value) is not None,
    "service_account_impersonation": lambda value: isinstance(value, dict),
    "ca_cert_path": lambda value: isinstance(value, str),  # with false, requests would trust any certificate
    "delegates": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
}
"""What google-auth takes as it comes, and then fails on or asks the wrong thing with."""


def _is_token_alone(info: Mapping[str, Any]) -> bool:
    """Whether *info* has an access token and lacks what refreshes one."""
    kind = info.get("type")
    refreshes = kind not in _WITH_TOKEN or all(
        info.get(name) or (info.get(name) == "" and (kind, name) in _EMPTY_IS_FINE) for name in _REQUIRED[kind]
    )
    return bool(info.get("token")) and not refreshes


def _malformed(info: Mapping[str, Any], kind: str) -> list[str]:
    """Names of fields that are there, and have what google-auth fails on later or asks the wrong thing with."""
    checks = dict(_OPTIONAL)
    # Only where it is used: google-auth passes over that of `authorized_user`.
    checks |= {name: _is_web_url for name in ("token_url", "token_uri") if name in _REQUIRED[kind]}
    found = [name for name, is_sound in checks.items() if info.get(name) is not None and not is_sound(info[name])]
    return found + (_malformed_source(info["credential_source"]) if kind == "external_account" else [])


def _is_web_url(value: object) -> bool:
    """Whether there is a server to ask: `file:///etc/passwd` and `https://host:99999` name none."""
    try:
        parts = urlsplit(str(value))
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _malformed_source(source: Mapping[str, Any]) -> list[str]:
    """Such as `["credential_source.file"]`."""
    found = []
    for names, kind in _SOURCE.items():
        value: Any = source
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None and not isinstance(value, kind):
            found.append(".".join(("credential_source", *names)))
    if isinstance(source.get("url"), str) and source["url"] and not _is_web_url(source["url"]):
        found.append("credential_source.url")
    return found


def _check_files(info: Mapping[str, Any], where: str, environ: Mapping[str, str]) -> None:
    """Refuse a pipe or a device in the place of a file that google-auth opens: it waits there for ever."""
    source = _innermost(info).get("credential_source")
    if not isinstance(source, dict):
        return
    for path in _opened(source, environ):
        with suppress(OSError, ValueError):  # what is absent or no path is google-auth's to tell
            if not path.is_file() and path.exists():
                shown = _shown(path)
                raise CredentialsError(
                    f"{shown}, which {where} names, is not a regular file", f"see what it is: ls -l {shown}"
                )


def _opened(source: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[Path]:
    """The files that google-auth opens besides the subject token's."""
    for names in (("executable", "output_file"), ("certificate", "trust_chain_path")):
        value = (source.get(names[0]) or {}).get(names[1])
        if value:
            yield Path(value)
    for path in _certificates(source, environ):
        yield path
        with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
            yield Path(json.loads(read_file(path))["cert_configs"]["workload"]["key_path"])


_CERTIFICATE_VARIABLES = ("GOOGLE_API_CERTIFICATE_CONFIG", "CLOUDSDK_CONTEXT_AWARE_CERTIFICATE_CONFIG_FILE_PATH")


def _check_certificate_config(environ: Mapping[str, str]) -> None:
    """Refuse a certificate configuration that google-auth cannot read, or waits for without end.

    It reads one with any credentials, as soon as it is imported (google-auth 2.62.2
    `google/auth/transport/_mtls_helper.py` check_use_client_cert, 2026-11). One that is absent or no JSON it ignores.

    Raises:
        CredentialsError: It is a pipe, a device, too large, or text that its JSON reader fails on.
    """
    named = next((name for name in _CERTIFICATE_VARIABLES if environ.get(name)), None)
    config = _certificate_configs(environ)[0]
    try:
        json.loads(read_file(config).decode())
    except (FileNotFoundError, PermissionError, NotADirectoryError, json.JSONDecodeError):
        return
    except (OSError, ValueError, RecursionError) as e:
        if not config.exists():
            return
        reason = (isinstance(e, OSError) and e.strerror) or "it is not JSON"
        where = f"the certificate configuration {_shown(config)}" + (f" (from {named})" if named else "")
        hint = f"unset {named}" if named else f"see what it is: ls -l {_shown(config)}"
        raise CredentialsError(f"{where} cannot be read: {reason}", hint) from None


def _certificate_configs(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where google-auth looks for a certificate configuration that no credentials name, in its order.

    It takes the second where the first has no workload (google-auth 2.62.2 `google/auth/transport/_mtls_helper.py`
    _get_workload_cert_and_key_paths, `google/auth/_cloud_sdk.py` get_config_path, 2026-11).
    """
    named = next((environ[name] for name in _CERTIFICATE_VARIABLES if environ.get(name)), None)
    home = os.path.join(environ.get("HOME") or "~", ".config", "gcloud")  # noqa: PTH118
    folder = environ.get("CLOUDSDK_CONFIG")
    known = os.path.join(home if folder is None else folder, "certificate_config.json")  # noqa: PTH118
    # As google-auth does: Path.expanduser raises where there is no home, and this leaves the `~`.
    return tuple(Path(os.path.expanduser(path)) for path in (named, known) if path)  # noqa: PTH111


def _fingerprint(
    content: bytes, info: Mapping[str, Any], where: str, environ: Mapping[str, str]
) -> tuple[str, tuple[Path, ...]]:
    """What the file's tokens are made from: its content, and what else google-auth makes them from; with further files.

    With workload identity the file only says where the identity is, so that jobs and machines may
    share it. It may be a subject token on disk, an AWS access key in the environment (google-auth
    2.62.2 `google/auth/aws.py`, 2026-11-22), or what a server or a program gives to this machine.
    """
    digest = hashlib.sha256(content)
    info = _innermost(info)
    if info["type"] != "external_account":
        return digest.hexdigest(), ()
    if _asks_around(info):
        digest.update(b"\0" + program.machine().encode(errors="surrogateescape"))
    names = ["AWS_ACCESS_KEY_ID"] if info["subject_token_type"] == _AWS else _named(info["credential_source"])
    for name in names:
        digest.update(f"\0{name}={environ.get(name)!r}".encode(errors="surrogateescape"))
    files = _certificates(info["credential_source"], environ)
    for path in files:
        with suppress(OSError, ValueError):
            digest.update(b"\0" + read_file(path))
    subject = info["credential_source"].get("file")
    if not isinstance(subject, str):
        return digest.hexdigest(), files
    try:
        digest.update(b"\0" + read_file(Path(subject)))
    except (OSError, ValueError) as e:
        shown, reason = _shown(Path(subject)), e.strerror if isinstance(e, OSError) else None
        raise CredentialsError(
            f"the subject token {shown}, which {where} names, cannot be read: {reason or e}",
            f"see whether the job that writes it has done so: ls -l {shown}",
        ) from None
    return digest.hexdigest(), (*files, Path(subject))


def _asks_around(info: Mapping[str, Any]) -> bool:
    """Whether a URL, AWS or a program gives the subject, and may give each machine another."""
    if info.get("type") != "external_account":
        return False
    source = info["credential_source"]
    return info["subject_token_type"] == _AWS or any(source.get(name) for name in ("url", "executable"))


def _named(source: Mapping[str, Any]) -> list[str]:
    """Words of the program's command that can be names of variables: `$NAME`, `--token-from NAME`.

    google-auth starts it without a shell: it is the program that looks them up (google-auth 2.62.2
    `google/auth/pluggable.py`, 2026-11-24).
    """
    program = source.get("executable")
    command = program.get("command") if isinstance(program, dict) else None
    return sorted(set(re.findall(r"[A-Za-z_]\w*", command, re.ASCII))) if isinstance(command, str) else []


def _certificates(source: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The files with a workload's client certificate, which tell whose token an X.509 provider gives.

    google-auth 2.62.2 `google/auth/transport/_mtls_helper.py` (2026-11-22).
    """
    certificate = source.get("certificate")
    if not isinstance(certificate, dict):
        return ()
    named = certificate.get("certificate_config_location")
    configs = (Path(os.path.expanduser(named)),) if named else _certificate_configs(environ)  # noqa: PTH111
    for number, config in enumerate(configs, start=1):
        with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
            workload = json.loads(read_file(config))["cert_configs"]["workload"]
            return *configs[:number], Path(str(workload["cert_path"]))
    return configs  # google-auth says what is wrong with them


@dataclass(frozen=True, slots=True)
class AdcSource:
    """Mints access tokens for one identity.

    Args:
        adc: What to mint with.
        identity: What to mint: scopes, impersonation, lifetime.
        now: The clock.
        budget_s: For everything that one mint asks over the network, together.
        default_scopes: Whether the scopes are the default ones. A user's refresh token is not asked for those: it may
            have been given others at login.
        iam_endpoint: Root of the IAM Credentials API, where it is not Google's usual one.
    """

    adc: Adc
    identity: Identity
    now: Now
    budget_s: float
    default_scopes: bool = True
    iam_endpoint: str | None = None

    def mint(self) -> Token:
        """A new token from Google.

        Raises:
            CredentialsError: The credentials cannot be used as they are.
            RefusedError: Google said no.
            UnavailableError: Google could not be reached, or did not answer with a token.
        """
        issued, failed = self.now(), None
        _check_certificate_config(os.environ)
        with _silence():
            transport = _transport(self.budget_s, lean=_is_lean(self.adc, os.environ))
            try:
                credentials = self._credentials()
                if self._is_refreshed:
                    credentials.refresh(transport)
            except Exception as e:  # noqa: BLE001 -- google-auth lets TypeError, OSError, JSONDecodeError and more escape
                failed = self._explain(e, transport.exchange, transport.secrets)
        if failed is not None:
            # Not in the except clause: google-auth's exception, with answers in its arguments, would be its context.
            raise failed
        return self._token(credentials, issued, transport.exchange)

    @property
    def _is_refreshed(self) -> bool:
        """Whether the token comes from Google, and not from the file itself."""
        return self.identity.impersonate is not None or not _is_token_alone(self.adc.info)

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
            if not self._is_refreshed:
                raise self._spent()
            raise UnavailableError(
                f"{host} answered with a token that had expired at {token.expiry:%Y-%m-%d %H:%M:%S} UTC already",
                "try again; if that does not help, see whether this machine's clock is right: date -u",
            )
        return token

    def _spent(self) -> VertexEnvError:
        """What to say of a file with a token that has expired."""
        return CredentialsError(
            f"the token in {self.adc.source} has expired, and the file has nothing to get another with",
            make_anew(self.adc.kind, self.adc.named_by),
        )

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

                # google-auth wants the names to be there, with or without a value.
                data = {**dict.fromkeys(_REQUIRED["authorized_user"]), **data}
                return credentials.Credentials.from_authorized_user_info(data, None if self.default_scopes else wanted)
            case "service_account":
                from google.oauth2 import service_account

                return service_account.Credentials.from_service_account_info(data, scopes=wanted)
            case "impersonated_service_account":
                # google-auth's own loader always asks for an hour and knows three kinds of source only.
                source = self._load(data["source_credentials"], (), None)
                return self._impersonated(source, self.adc.impersonated or "", data.get("delegates", ()), lifetime)
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
        source = _innermost(self.adc.info).get("credential_source") or {}
        if exchange is None and source.get("executable") is not None:
            return self._explain_program(error, sent)
        if exchange is None and type(error).__name__ == "InvalidOperation" and _is_token_alone(self.adc.info):
            return self._spent()
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
    if data["credential_source"].get("executable") is not None:
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

    base: Any = object
    if not lean:
        from google.auth.transport.requests import Request as base  # noqa: N813 -- a class by a role
    line = Line()

    class Transport(base):  # type: ignore[misc]
        exchange: Exchange | None = None
        started: float | None = None
        secrets = Secrets()

        def __setattr__(self, name: str, value: Any) -> None:
            # google-auth may put another session in the place of its first.
            if name == "session" and value is not None:
                bind(value, line, MAX_BYTES)
            super().__setattr__(name, value)

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
            self.secrets.later(partial(self.secrets.add_request, url, body, headers))
            if self.started is None:
                self.started = time.monotonic()
            if not lean:
                # The metadata server is never behind a proxy.
                self.session.trust_env = may_have_proxy(url) and not parts.path.startswith("/computeMetadata/")
                # A redirect would carry the refresh token or the assertion to another host.
                kwargs["allow_redirects"] = False
                if "authorization" in map(str.lower, headers or ()):
                    # Without this, requests puts in its place what ~/.netrc has for the host.
                    kwargs["auth"] = lambda request: request
            ask: Callable[..., Any] = partial(lean_request, line) if lean else super().__call__
            left = self.started + budget_s - time.monotonic()
            limit = min(left, timeout or left)
            try:
                response = in_time(lambda: ask(url, method, body, headers, limit, **kwargs), left, line)
            except exceptions.TransportError as e:
                # google-auth would try again after this, for longer than we want to wait; not after an OSError.
                raise ConnectionError(str(e)) from None
            self.exchange = Exchange(self.exchange.host, parts.path, response.status, response.data)
            self.secrets.later(partial(self.secrets.add_body, response.data))
            # It doubles its pauses, so that the next is about as long as everything so far.
            spent = time.monotonic() - self.started
            if response.status in transport.DEFAULT_RETRYABLE_STATUS_CODES and 2 * spent > budget_s:
                raise TimeoutError("timed out")
            return response

    # What is a transport to google-auth is one by registration, so that ours need not import it to be defined.
    transport.Request.register(Transport)
    return Transport()


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
