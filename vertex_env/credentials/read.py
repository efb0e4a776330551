"""A credentials file: read, checked, and identified, before google-auth gets it."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vertex_env import program
from vertex_env.credentials.certificates import certificate_files
from vertex_env.credentials.metadata import Metadata
from vertex_env.errors import CredentialsError, SettingsError
from vertex_env.files import is_pipe, read_file, read_pipe, shown
from vertex_env.settings.gather import WELL_KNOWN
from vertex_env.vertex.refusals import LOGIN, Who, make_anew
from vertex_env.vertex.target import DEFAULT_UNIVERSE, check_url, matches

METADATA = "metadata"
"""Our name for the kind of credentials that have no file."""

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

AWS = "urn:ietf:params:aws:token-type:aws4_request"

_OBJECTS = ("source_credentials", "credential_source")

_TARGET = re.compile(r"/serviceAccounts/([\w.@%+-]+):generateAccessToken$", re.ASCII)
_ACCOUNT = re.compile(r"[\w.+-]+@[\w.-]+", re.ASCII)


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
        source = innermost(self.info)
        account = (
            self.metadata.email
            if self.metadata
            else source.get("client_email") or source.get("account")
        )
        principal = account if isinstance(account, str) and _ACCOUNT.fullmatch(account) else None
        return Who(self.kind, principal, self.source, self.impersonated, self.named_by)


def read_adc(path: Path, source: str, environ: Mapping[str, str], again: str = "") -> Adc:
    """The credentials file at *path*, which may be a pipe.

    Args:
        path: Where it is.
        source: Where the path came from, such as `GOOGLE_APPLICATION_CREDENTIALS`.
        environ: The environment, in which some of the credentials may be.
        again: Why it has to be read more than once, such as `run renews the token`; a pipe is refused then.

    Raises:
        CredentialsError: It is absent, unreadable, not a credentials file, or lacks a field.
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
    fingerprint, subject = _fingerprint(content, info, where, environ)
    source = where.removeprefix("the credentials file ")
    files, local = (path, *subject), _asks_around(innermost(info))
    return Adc(
        kind,
        source,
        fingerprint,
        info,
        named_by=named_by,
        files=files,
        of_machine=local,
        is_pipe=once,
    )


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
    """The credentials of the machine's own service account."""
    fingerprint = hashlib.sha256(f"{metadata.host}\n{metadata.email}".encode()).hexdigest()
    source = f"the metadata server {metadata.host}"
    return Adc(METADATA, source, fingerprint, metadata=metadata, of_machine=True)


def _check_info(
    info: Mapping[str, Any], where: str, named_by: str | None, part_of: str = ""
) -> str:
    """The type of *info*, which has all that is needed for one; *part_of* is the type of the file that it is in."""
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
"""What google-auth takes as it comes, and then fails on or asks the wrong thing with."""


def is_token_alone(info: Mapping[str, Any]) -> bool:
    """Whether *info* has an access token and lacks what refreshes one."""
    kind = info.get("type")
    refreshes = kind not in _WITH_TOKEN or all(
        info.get(name) or (info.get(name) == "" and (kind, name) in _EMPTY_IS_FINE)
        for name in REQUIRED[kind]
    )
    return bool(info.get("token")) and not refreshes


def _malformed(info: Mapping[str, Any], kind: str) -> list[str]:
    """Names of fields that are there, and have what google-auth fails on later or asks the wrong thing with."""
    checks = dict(_OPTIONAL)
    # Only where it is used: google-auth passes over that of `authorized_user`.
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
    source = innermost(info).get("credential_source")
    if not isinstance(source, dict):
        return
    for path in _opened(source, environ):
        with suppress(OSError, ValueError):  # what is absent or no path is google-auth's to tell
            if not path.is_file() and path.exists():
                name = shown(path)
                raise CredentialsError(
                    f"{name}, which {where} names, is not a regular file",
                    f"see what it is: ls -l {name}",
                )


def _opened(source: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[Path]:
    """The files that google-auth opens besides the subject token's."""
    for names in (("executable", "output_file"), ("certificate", "trust_chain_path")):
        value = (source.get(names[0]) or {}).get(names[1])
        if value:
            yield Path(value)
    for path in certificate_files(source, environ):
        yield path
        with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
            yield Path(json.loads(read_file(path))["cert_configs"]["workload"]["key_path"])


def _fingerprint(
    content: bytes, info: Mapping[str, Any], where: str, environ: Mapping[str, str]
) -> tuple[str, tuple[Path, ...]]:
    """What the file's tokens are made from: its content, and what else google-auth makes them from; with further files.

    With workload identity the file only says where the identity is, so that jobs and machines may
    share it. It may be a subject token on disk, an AWS access key in the environment (google-auth
    2.62.2 `google/auth/aws.py`, 2026-11-22), or what a server or a program gives to this machine.
    """
    digest = hashlib.sha256(content)
    info = innermost(info)
    if info["type"] != "external_account":
        return digest.hexdigest(), ()
    if _asks_around(info):
        digest.update(b"\0" + program.machine().encode(errors="surrogateescape"))
    names = (
        ["AWS_ACCESS_KEY_ID"]
        if info["subject_token_type"] == AWS
        else _named(info["credential_source"])
    )
    for name in names:
        digest.update(f"\0{name}={environ.get(name)!r}".encode(errors="surrogateescape"))
    found_here = _files_of_command(info["credential_source"], environ)
    for path in found_here:
        digest.update(b"\0" + os.fsencode(path.absolute()))
    files = certificate_files(info["credential_source"], environ)
    for path in files:
        with suppress(OSError, ValueError):
            digest.update(b"\0" + read_file(path))
    subject = info["credential_source"].get("file")
    if not isinstance(subject, str):
        return digest.hexdigest(), (*files, *found_here)
    try:
        digest.update(b"\0" + read_file(Path(subject)))
    except (OSError, ValueError) as e:
        name, reason = shown(Path(subject)), e.strerror if isinstance(e, OSError) else None
        raise CredentialsError(
            f"the subject token {name}, which {where} names, cannot be read: {reason or e}",
            f"see whether the job that writes it has done so: ls -l {name}",
        ) from None
    return digest.hexdigest(), (*files, Path(subject))


def _asks_around(info: Mapping[str, Any]) -> bool:
    """Whether a URL, AWS or a program gives the subject, and may give each machine another."""
    if info.get("type") != "external_account":
        return False
    source = info["credential_source"]
    return info["subject_token_type"] == AWS or any(
        source.get(name) for name in ("url", "executable")
    )


def _named(source: Mapping[str, Any]) -> list[str]:
    """Words of the program's command that can be names of variables: `$NAME`, `--token-from NAME`.

    google-auth starts it without a shell: it is the program that looks them up (google-auth 2.62.2
    `google/auth/pluggable.py`, 2026-11-24).
    """
    return sorted(set(re.findall(r"[A-Za-z_]\w*", _command(source), re.ASCII)))


def _files_of_command(source: Mapping[str, Any], environ: Mapping[str, str]) -> list[Path]:
    """The program of the command, where `PATH` or the working folder tells which, and its files there.

    Two folders may have a `./get-token` each. google-auth splits the command at spaces (2.62.2
    `google/auth/pluggable.py` retrieve_subject_token, 2026-11).
    """
    import shutil

    first, *others = _command(source).split() or [""]
    if first and not Path(first).is_absolute():
        first = shutil.which(first, path=environ.get("PATH")) or ""
    here = [path for path in map(Path, others) if not path.is_absolute() and path.is_file()]
    return [*([Path(first)] if first else []), *here]


def _command(source: Mapping[str, Any]) -> str:
    """The command of a program that gives the subject token; empty where there is none."""
    executable = source.get("executable")
    command = executable.get("command") if isinstance(executable, dict) else None
    return command if isinstance(command, str) else ""


def innermost(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an impersonating file starts from; any other starts from itself."""
    source = info.get("source_credentials")
    return source if isinstance(source, dict) else info


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
