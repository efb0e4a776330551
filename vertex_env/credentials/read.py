"""Read, check and identify a credentials file before google-auth gets it."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vertex_env.credentials.certificates import certificate_files
from vertex_env.credentials.fingerprint import asks_around, fingerprint, innermost
from vertex_env.credentials.metadata import Metadata
from vertex_env.errors import CredentialsError, SettingsError
from vertex_env.files import is_pipe, read_file, read_pipe, shown
from vertex_env.settings.gather import WELL_KNOWN
from vertex_env.vertex.refusals import LOGIN, Who, make_anew
from vertex_env.vertex.target import DEFAULT_UNIVERSE, check_url, matches

METADATA = "metadata"
"""The kind of credentials that have no file. The name is vertex-env's own."""

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
    "service_account": ("client_email", "private_key", "token_uri"),
    "impersonated_service_account": ("service_account_impersonation_url", "source_credentials"),
    "external_account": ("audience", "subject_token_type", "token_url", "credential_source"),
    "external_account_authorized_user": (
        "refresh_token",
        "token_url",
        "client_id",
        "client_secret",
    ),
    "gdch_service_account": (
        "format_version",
        "private_key_id",
        "private_key",
        "name",
        "project",
        "token_uri",
    ),
}
"""Types of credentials files, with the fields that google-auth 2.62.2 requires (2026-11-22)."""

_EMPTY_IS_FINE = (("authorized_user", "client_secret"),)
"""Fields that may be empty: google-auth can refresh with an empty value."""

_WITH_TOKEN = ("authorized_user", "external_account_authorized_user")
"""Types whose files may have an access token with its expiry instead of the data that
refreshes one."""

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
"""Types of the fields of `credential_source`.

They are checked because Python opens a number as the descriptor with that number, and
closes the descriptor later.
"""


_OBJECTS = ("source_credentials", "credential_source")

_TARGET = re.compile(r"/serviceAccounts/([\w.@%+-]+):generateAccessToken$", re.ASCII)
_ACCOUNT = re.compile(r"[\w.+-]+@[\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Adc:
    """Credentials that were found and checked, but not yet loaded by google-auth."""

    kind: str
    """The field `type` of the file, or `metadata`."""
    source: str
    """Where the credentials come from: `/home/me/adc.json (from GOOGLE_APPLICATION_CREDENTIALS)`.
    """
    fingerprint: str
    """See `Identity.fingerprint`."""
    info: Mapping[str, Any] = field(repr=False, default_factory=dict)
    metadata: Metadata | None = None
    named_by: str | None = None
    """See `Who.named_by`."""
    files: tuple[Path, ...] = ()
    """Files that the fingerprint is made from."""
    of_machine: bool = False
    """Whether the account may differ on another machine that shares the home folder."""
    is_pipe: bool = False
    """Whether the file is a pipe, which can be read only once."""

    @property
    def universe(self) -> str:
        """Universe domain, such as `googleapis.com`."""
        if self.metadata is not None:
            return self.metadata.universe
        return str(self.info.get("universe_domain") or DEFAULT_UNIVERSE)

    @property
    def project(self) -> str | None:
        """Project that the credentials belong to; None if the credentials do not name it."""
        if self.metadata is not None:
            return self.metadata.project or None
        found = {"service_account": "project_id", "gdch_service_account": "project"}.get(self.kind)
        return _text(self.info.get(found)) if found else None

    @property
    def quota_project(self) -> str | None:
        """Project that the file names for quota. It must never be used as the project."""
        return _text(self.info.get("quota_project_id"))

    @property
    def impersonated(self) -> str | None:
        """Service account that the credentials themselves impersonate."""
        url = self.info.get("service_account_impersonation_url")
        found = _TARGET.search(url) if isinstance(url, str) else None
        return found[1] if found else None

    @property
    def who(self) -> Who:
        """The credentials' owner, for messages.

        The account is included only if it has the shape of an email address.
        """
        source = innermost(self.info)
        account = (
            self.metadata.email
            if self.metadata
            else source.get("client_email") or source.get("account")
        )
        principal = account if isinstance(account, str) and _ACCOUNT.fullmatch(account) else None
        return Who(self.kind, principal, self.source, self.impersonated, self.named_by)


def read_adc(path: Path, source: str, environ: Mapping[str, str], again: str = "") -> Adc:
    """Read the credentials file at *path*, which may be a pipe.

    Args:
        path: The file.
        source: Where the path comes from, such as `GOOGLE_APPLICATION_CREDENTIALS`.
        environ: The environment, which may contain some of the credentials.
        again: Why the file must be read more than once, such as `run renews the token`.
            If it is set, a pipe is refused.

    Raises:
        CredentialsError: The file is absent, unreadable or not a credentials file, or
            lacks a field.
    """
    where = f"the credentials file {shown(path)} (from {source})"
    named_by = None if path.name == WELL_KNOWN else source
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
    digest, subject = fingerprint(content, info, where, environ)
    source = where.removeprefix("the credentials file ")
    files, local = (path, *subject), asks_around(innermost(info))
    return Adc(
        kind,
        source,
        digest,
        info,
        named_by=named_by,
        files=files,
        of_machine=local,
        is_pipe=once,
    )


def _content(path: Path, where: str, named_by: str | None, *, once: bool) -> bytes:
    """Read the content of the credentials file; *once* is true for a pipe."""
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
            "see whether the command that writes to the pipe works"
            if once
            else f"see what it is: ls -l {shown(path)}"
        )
        raise CredentialsError(f"{where} cannot be read: {reason}", look) from None
    if not content.strip():
        reason = ": it is a pipe, which can be read only once" if once else ""
        raise CredentialsError(f"{where} is empty{reason}", anew)
    return content


def from_metadata(metadata: Metadata) -> Adc:
    """Make the credentials of the machine's own service account."""
    fingerprint = hashlib.sha256(f"{metadata.host}\n{metadata.email}".encode()).hexdigest()
    source = f"the metadata server {metadata.host}"
    return Adc(METADATA, source, fingerprint, metadata=metadata, of_machine=True)


def _check_info(
    info: Mapping[str, Any], where: str, named_by: str | None, part_of: str = ""
) -> str:
    """Check that *info* has all required fields, and return its type.

    *part_of* is the type of the outer file, if *info* is only a part of one.
    """
    kind = info.get("type")
    again = make_anew(part_of or (kind if isinstance(kind, str) else ""), named_by)
    if "installed" in info or "web" in info:
        login = f"to log in with it: {LOGIN} --client-id-file=FILE"
        raise CredentialsError(f"{where} is an OAuth client, not credentials", login)
    if kind is None:
        raise CredentialsError(f"{where} has no field 'type'", again)
    if not isinstance(kind, str) or kind not in REQUIRED:
        unknown = repr(kind)[:60]
        raise CredentialsError(
            f"{where} has the unknown type {unknown}", "known types: " + ", ".join(REQUIRED)
        )
    for name in ("token", "expiry") if is_token_alone(info) else REQUIRED[kind]:
        value = info.get(name)
        is_text = isinstance(value, str) and (value or (kind, name) in _EMPTY_IS_FINE)
        if not (isinstance(value, dict) if name in _OBJECTS else is_text):
            state = "lacks the" if value is None else "has a malformed"
            raise CredentialsError(f"{where} {state} field {name!r} (its type is {kind})", again)
    malformed = _malformed(info, kind)
    if malformed:
        raise CredentialsError(
            f"{where} has a malformed field {malformed[0]!r} (its type is {kind})", again
        )
    _check_impersonation_url(info, where)
    if kind == "impersonated_service_account":
        if info["source_credentials"].get("type") == kind:
            raise CredentialsError(
                f"{where} impersonates twice", "name the account in between in 'delegates'"
            )
        _check_info(info["source_credentials"], f"source_credentials in {where}", named_by, kind)
    return kind


def _check_impersonation_url(info: Mapping[str, Any], where: str) -> None:
    """Refuse a URL outside Google, because google-auth sends an access token to any host in it.

    This applies to `external_account` only. For `impersonated_service_account`,
    google-auth uses nothing but the account in the URL (google-auth 2.62.2
    `google/auth/external_account.py`, `impersonated_credentials.py`, 2026-11).
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
    "service_account_impersonation_url": lambda value: (
        isinstance(value, str) and _TARGET.search(value) is not None
    ),
    "service_account_impersonation": lambda value: isinstance(value, dict),
    "ca_cert_path": lambda value: isinstance(
        value, str
    ),  # with false, requests would trust any certificate
    "delegates": lambda value: (
        isinstance(value, list) and all(isinstance(one, str) for one in value)
    ),
}
"""Checks of optional fields. google-auth does not check them: with a wrong value, it
fails later or sends a wrong request."""


def is_token_alone(info: Mapping[str, Any]) -> bool:
    """Whether *info* has an access token and lacks the data that refreshes one."""
    kind = info.get("type")
    refreshes = kind not in _WITH_TOKEN or all(
        info.get(name) or (info.get(name) == "" and (kind, name) in _EMPTY_IS_FINE)
        for name in REQUIRED[kind]
    )
    return bool(info.get("token")) and not refreshes


def _malformed(info: Mapping[str, Any], kind: str) -> list[str]:
    """List the fields with values that make google-auth fail later or send a wrong request."""
    checks = dict(_OPTIONAL)
    # Check these fields only for the types that use them: google-auth ignores those of
    # `authorized_user`.
    checks |= {name: _is_web_url for name in ("token_url", "token_uri") if name in REQUIRED[kind]}
    found = [
        name
        for name, is_sound in checks.items()
        if info.get(name) is not None and not is_sound(info[name])
    ]
    return found + (
        _malformed_source(info["credential_source"]) if kind == "external_account" else []
    )


def _is_web_url(value: object) -> bool:
    """Whether *value* names a web server; `file:///etc/passwd` and `https://host:99999` do not."""
    try:
        parts = urlsplit(str(value))
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _malformed_source(source: Mapping[str, Any]) -> list[str]:
    """List the malformed fields of a source, such as `["credential_source.file"]`."""
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
    """Refuse pipes and devices in the place of files: google-auth would wait for them for ever."""
    source = innermost(info).get("credential_source")
    if not isinstance(source, dict):
        return
    for path in _opened(source, environ):
        # google-auth reports a file that is absent or has no valid path.
        with suppress(OSError, ValueError):
            if not path.is_file() and path.exists():
                name = shown(path)
                raise CredentialsError(
                    f"{name}, which {where} names, is not a regular file",
                    f"see what it is: ls -l {name}",
                )


def _opened(source: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the files that google-auth opens, other than the file with the subject token."""
    for names in (("executable", "output_file"), ("certificate", "trust_chain_path")):
        value = (source.get(names[0]) or {}).get(names[1])
        if value:
            yield Path(value)
    for path in certificate_files(source, environ):
        yield path
        with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
            yield Path(json.loads(read_file(path))["cert_configs"]["workload"]["key_path"])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
