"""Explain a failed request to Google: the error to raise, with the hint that cures it.

Pure functions. They look at the last HTTP exchange and at the exception's text, but
never at the exception's type. The type is unreliable, because google-auth raises
several types and its `retryable` flag is wrong for most of them (google-auth 2.62.2,
2026-11-22).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from vertex_env.errors import (
    CredentialsError,
    RefusedError,
    SettingsError,
    UnavailableError,
    VertexEnvError,
)
from vertex_env.redaction import HIDDEN, Secrets, hide

LOGIN = "gcloud auth application-default login"

_LOGINS: Mapping[str, str] = {
    "authorized_user": LOGIN,
    "external_account_authorized_user": f"{LOGIN} --login-config=FILE",
    "impersonated_service_account": f"{LOGIN} --impersonate-service-account=ACCOUNT",
}
"""Kinds of credentials that a person gets by logging in, with the command to log in."""

_MADE_BY: Mapping[str, str] = {
    "service_account": "make a new key: gcloud iam service-accounts keys create FILE --iam-account=ACCOUNT",
    "external_account": "make the file anew: gcloud iam workload-identity-pools create-cred-config --help",
    "gdch_service_account": "ask the administrator of the air-gapped cloud for a new file",
    "metadata": "see what the machine may do: gcloud compute instances describe INSTANCE",
}
"""The other kinds of credentials, with the hint how to get new ones."""


def make_anew(kind: str, named_by: str | None) -> str:
    """Return the hint that replaces credentials of *kind*, which may be unknown.

    Args:
        kind: See `Who.kind`.
        named_by: See `Who.named_by`.
    """
    if kind in _MADE_BY:
        return _MADE_BY[kind]
    login = f"run: {_LOGINS.get(kind, LOGIN)}"
    return (
        login
        if named_by is None
        else f"{login}, and drop {named_by}: a login has a file of its own"
    )


@dataclass(frozen=True, slots=True)
class Exchange:
    """The last HTTP request and its answer."""

    host: str
    """Host that was asked, such as `oauth2.googleapis.com`."""
    path: str = "/"
    status: int | None = None
    """HTTP status; None if there was no answer."""
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Who:
    """The owner of the credentials, for messages and hints."""

    kind: str
    """Type of the credentials, such as `authorized_user`."""
    principal: str | None
    """Account, such as `robot@my-project.iam.gserviceaccount.com`; None if the
    credentials do not name it."""
    source: str
    """Where the credentials come from: `/home/me/adc.json (from GOOGLE_APPLICATION_CREDENTIALS)`.
    """
    impersonated: str | None = None
    """The service account to impersonate."""
    named_by: str | None = None
    """The setting that names the file, such as `GOOGLE_APPLICATION_CREDENTIALS`; None
    for the file that a login writes."""

    def __str__(self) -> str:
        """Describe the credentials for a message.

        Example: `the service account credentials of robot@… in /home/me/adc.json (from …)`.
        """
        account = f" of {self.principal}" if self.principal else ""
        return f"the {self.kind.replace('_', ' ')} credentials{account} in {self.source}"


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The content of Google's error body, in one form for all its shapes."""

    error: str = ""
    """OAuth's code (`invalid_grant`) or the API's status (`PERMISSION_DENIED`)."""
    message: str = ""
    reason: str = ""
    """OAuth's `error_subtype`, or the reason of an ErrorInfo: `IAM_PERMISSION_DENIED`,
    `SERVICE_DISABLED`."""

    consumer: str = ""
    """ID or number of the project whose quota is used. An API must be enabled in this project."""

    @property
    def said(self) -> str:
        """Text for a person."""
        return self.message or self.error


def read_error_body(body: bytes, secrets: Secrets | None = None) -> ErrorBody | None:
    """Parse *body* without *secrets*; None if it is not an error body of Google's.

    OAuth: `{"error": "invalid_grant", "error_description": "…", "error_subtype":
    "invalid_rapt"}` (RFC 6749 §5.2).
    APIs: `{"error": {"code": 403, "message": "…", "status": "PERMISSION_DENIED",
    "details": [{"reason": "…", "metadata": {"consumer": "projects/123"}}]}}`
    (https://google.aip.dev/193). aiplatform wraps this in a list
    (https://github.com/rhel-lightspeed/linux-mcp-server/issues/450), 2026-11-22.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return None
    error = data.get("error")
    if isinstance(error, str):
        texts = (
            one_line(data.get(name), secrets)
            for name in ("error", "error_description", "error_subtype")
        )
        return ErrorBody(*texts)
    return _read_api_error(error, secrets) if isinstance(error, dict) else None


def _read_api_error(error: Mapping[str, object], secrets: Secrets | None) -> ErrorBody:
    details = error.get("details")
    infos = [d for d in details if isinstance(d, dict)] if isinstance(details, list) else []
    info = next((d for d in infos if isinstance(d.get("reason"), str)), {})
    metadata = info.get("metadata")
    consumer = str(metadata.get("consumer")) if isinstance(metadata, dict) else ""
    project = re.fullmatch(r"projects/([\w.:-]+)", consumer, re.ASCII)
    return ErrorBody(
        one_line(error.get("status"), secrets),
        one_line(error.get("message"), secrets),
        one_line(info.get("reason"), secrets),
        project[1] if project else "",
    )


def explain(
    exchange: Exchange | None, cause: str, who: Who, secrets: Secrets | None = None
) -> VertexEnvError:
    """Return the error to raise for a failed request.

    Args:
        exchange: The last request; None if no request was sent.
        cause: The exception's text, which is quoted if nothing better is known.
        who: The owner of the credentials.
        secrets: Secrets in the request and the answer, which the answer's text may repeat.
    """
    secrets = secrets or Secrets()
    secrets.add_body(exchange.body if exchange else b"")
    # Remove secrets twice. The first time is before texts are cut to one line: a cut
    # could leave a part of a secret. The second time is after it, because not every
    # part of an answer is a text: a project, for example, goes into the hint.
    error = _explain(exchange, secrets.redact(cause), who, secrets)
    error.rewrite(secrets.redact)
    return error


def _explain(exchange: Exchange | None, cause: str, who: Who, secrets: Secrets) -> VertexEnvError:
    if exchange is None:
        hint = make_anew(who.kind, who.named_by)
        correct = "" if who.kind == "metadata" else "correct the file, or "
        return CredentialsError(f"{who} cannot be used: {one_line(cause)}", correct + hint)
    if exchange.status is None:
        return unreachable(exchange.host, cause)
    if exchange.status < 400:  # noqa: PLR2004 -- HTTP's own number
        return UnavailableError(
            f"{exchange.host} answered {exchange.status}, but with nothing that can be used",
            "a captive portal or a proxy may have answered instead: open any web page to see, or check HTTPS_PROXY",
        )
    answer = read_error_body(exchange.body, secrets)
    said = f": {answer.said}" if answer and answer.said else ""
    if exchange.status == 429:  # noqa: PLR2004 -- HTTP's own number
        return UnavailableError(
            f"{exchange.host} answered 429, too many requests{said}",
            "wait a minute, then try again",
        )
    if exchange.status == 408 or exchange.status >= 500:  # noqa: PLR2004 -- HTTP's own numbers
        return UnavailableError(
            f"{exchange.host} answered {exchange.status}{said}",
            "it is Google's to mend: try again in a minute",
        )
    return _refused(exchange, answer, who, said)


def unreachable(host: str, cause: str) -> VertexEnvError:
    """Return the error for a request without a complete answer.

    The request was not sent, got no answer, or got an answer that is too large.
    """
    if found := re.search(r"the answer is (larger than \d+ MiB)", cause):
        return UnavailableError(
            f"{host} gave an answer {found[1]}, which was not read to its end",
            "that is not how Google answers: check HTTPS_PROXY, and the URLs in the credentials file",
        )
    for pattern, message, hint in _LOCAL:
        if found := re.search(pattern, cause, re.IGNORECASE):
            return SettingsError(
                message.format(host=host, found=one_line(found[found.lastindex or 0])), hint
            )
    for pattern, reason, hint in _NETWORK:
        if re.search(pattern, cause, re.IGNORECASE):
            return UnavailableError(f"cannot reach {host}: {reason}", hint)
    return UnavailableError(
        f"cannot reach {host}: {one_line(cause)}", "check the network, then try again"
    )


# Patterns for the messages of requests 2.34 and urllib3 2.8 (2026-11-22).
_LOCAL = (
    (
        r"CA certificate bundle, invalid path: (.+)",
        "there is no TLS CA certificate bundle {found}",
        "correct it where it is named: REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, or ca_cert_path in the credentials file",
    ),
    (
        r"TLS (?:certificate|key) file, invalid path: (.+)",
        "there is no client certificate or key {found}",
        "correct the paths in the certificate config that the credentials file names",
    ),
    # No part of this exception's text is quoted: it has the header's value, which may be secret.
    (
        r"header (?:value|name|part)",
        "{host} cannot be asked: a header for it is malformed",
        "look for line breaks in the headers that the credentials file names; if it names none, try again",
    ),
    (
        r"Invalid URL.*|No connection adapters.*|Failed to parse.*|URL has an invalid.*",
        "a URL cannot be used: {found}",
        "correct the URLs in the credentials file, and HTTPS_PROXY",
    ),
)

_NETWORK = (
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify",
        "its TLS certificate is not trusted",
        "if a proxy re-signs TLS here, set REQUESTS_CA_BUNDLE to the file with its CA",
    ),
    (
        r"ProxyError|ProxySchemeUnknown|Tunnel connection failed|proxy URL",
        "the proxy is out of reach, or did not let the request through",
        "check HTTPS_PROXY and NO_PROXY",
    ),
    (
        r"timed? ?out",
        "no answer in time",
        "check the network (VPN, firewall, HTTPS_PROXY), then try again; if it is only slow, add --mint-timeout 30s",
    ),
    (
        r"NameResolution|getaddrinfo|Name or service|Temporary failure in name",
        "the name does not resolve",
        "check the network and its DNS, then try again",
    ),
    (
        r"refused",
        "the connection was refused",
        "check the network (VPN, firewall, HTTPS_PROXY), then try again",
    ),
    (
        r"RemoteDisconnected|reset by peer|Connection aborted|Connection broken|IncompleteRead|EOF occurred",
        "the connection broke off",
        "check the network, then try again",
    ),
    (r"SSL", "TLS could not be set up", "check HTTPS_PROXY and REQUESTS_CA_BUNDLE"),
)


def _refused(exchange: Exchange, answer: ErrorBody | None, who: Who, said: str) -> VertexEnvError:
    """Return the error for a 4xx answer."""
    if answer is None and who.kind != "metadata":
        return RefusedError(
            f"{exchange.host} answered {exchange.status} to {who}",
            "that is not how Google answers: check HTTPS_PROXY, and the URLs in the credentials file",
        )
    answer = answer or ErrorBody()
    if answer.reason == "ACCESS_TOKEN_SCOPE_INSUFFICIENT":
        hint = (
            _CURES["metadata"]
            if who.kind == "metadata"
            else f"leave --scope out; if it is, {make_anew(who.kind, who.named_by)}"
        )
        return RefusedError(f"the token of {who} lacks a scope{said}", hint)
    if exchange.path.endswith(":generateAccessToken"):
        return _impersonation_refused(exchange, answer, who, said)
    if answer.reason in ("invalid_rapt", "rapt_required") or "reauth" in said.lower():
        return RefusedError(
            f"the login of {who} has to be renewed{said}", make_anew(who.kind, who.named_by)
        )
    if answer.error == "invalid_grant" and who.kind in _LOGINS:
        return RefusedError(
            f"the login of {who} has expired or was revoked{said}",
            make_anew(who.kind, who.named_by),
        )
    if project := re.search(r"/projects/([^/]+)/", exchange.path):
        return _api_refused(exchange, answer, who, project[1], said)
    hint = _CURES.get(who.kind, make_anew(who.kind, who.named_by)).format(
        account=who.principal or "ACCOUNT"
    )
    return RefusedError(f"{exchange.host} refused {who}{said}", hint)


def _impersonation_refused(
    exchange: Exchange, answer: ErrorBody, who: Who, said: str
) -> VertexEnvError:
    target = one_line(exchange.path.rpartition("/")[2].partition(":")[0])
    if _lacks_quota_project(answer):
        hint = _set_quota_project("PROJECT", who)
    elif answer.reason == "SERVICE_DISABLED":
        hint = f"run: gcloud services enable iamcredentials.googleapis.com --project={answer.consumer or 'PROJECT'}"
    elif "lifetime" in said.lower():
        hint = (
            "ask for 1h at most (--lifetime), or have an administrator add the account to the organization policy "
            "constraints/iam.allowServiceAccountCredentialLifetimeExtension"
        )
    elif exchange.status == 404:  # noqa: PLR2004 -- HTTP's own number
        hint = f"check the name: gcloud iam service-accounts describe {target}"
    elif exchange.status == 400:  # noqa: PLR2004 -- HTTP's own number
        hint = "check the account, its delegates, --scope and --lifetime"
    else:
        hint = (
            f"run: gcloud iam service-accounts add-iam-policy-binding {target} "
            f"--role=roles/iam.serviceAccountTokenCreator --member={_member(who.principal)}"
        )
    return RefusedError(f"{who} cannot impersonate {target}{said}", hint)


def _api_refused(
    exchange: Exchange, answer: ErrorBody, who: Who, project: str, said: str
) -> VertexEnvError:
    """Return the error for a 4xx answer of the Vertex AI API itself."""
    project = one_line(project)
    billed, member = answer.consumer or project, _member(who.impersonated or who.principal)
    grant = "run: gcloud projects add-iam-policy-binding"
    if _lacks_quota_project(answer):
        hint = _set_quota_project(project, who)
    elif answer.reason == "SERVICE_DISABLED":
        hint = f"run: gcloud services enable aiplatform.googleapis.com --project={billed}"
    elif answer.reason == "USER_PROJECT_DENIED":
        role = "roles/serviceusage.serviceUsageConsumer"
        hint = (
            f"{grant} {billed} --role={role} --member={member}; or choose another --quota-project"
        )
    elif exchange.status == 401:  # noqa: PLR2004 -- HTTP's own number
        hint = "try a new token: vertex-env token --refresh"
    elif exchange.status == 403:  # noqa: PLR2004 -- HTTP's own number
        hint = f"{grant} {project} --role=roles/aiplatform.user --member={member}"
    else:
        hint = "check project and location: vertex-env endpoints --all-locations"
    return RefusedError(f"{exchange.host} refused {who}{said}", hint)


_OF_GCLOUD = ("32555940559", "764086051850")
"""Project numbers of gcloud's two OAuth clients: that of `gcloud auth login`, and that
of `gcloud auth application-default login`
(https://github.com/googleapis/google-auth-library-python `google/auth/_cloud_sdk.py`
has the second client's ID; 2026-11-24)."""


def _lacks_quota_project(answer: ErrorBody) -> bool:
    """Whether the request names no quota project, so that Google uses gcloud's own project.

    Users cannot enable an API in that project. Some APIs answer with this text instead:
    `… requires a quota project, which is not set by default`
    (https://cloud.google.com/docs/authentication/troubleshoot-adc, 2026-11-24).
    """
    disabled = answer.reason == "SERVICE_DISABLED" and answer.consumer in _OF_GCLOUD
    return disabled or "requires a quota project" in answer.message


def _set_quota_project(project: str, who: Who) -> str:
    """Return the hint that sets *project* as the quota project.

    For the file that a login writes, a gcloud command adds it to the file. For other
    files there is a variable.
    """
    variable = f"export GOOGLE_CLOUD_QUOTA_PROJECT={project}"
    if who.named_by is not None:
        return f"set the quota project: {variable}"
    return f"set the quota project: gcloud auth application-default set-quota-project {project} (or {variable})"


def _member(account: str | None) -> str:
    """Format *account* as a member in an IAM policy."""
    if account is None:
        return "MEMBER"
    return (
        f"serviceAccount:{account}"
        if account.endswith(".gserviceaccount.com")
        else f"user:{account}"
    )


_CURES: Mapping[str, str] = {
    "service_account": (
        "see whether the key still exists and this machine's clock is right (date -u): "
        "gcloud iam service-accounts keys list --iam-account={account}"
    ),
    "external_account": (
        "see whether the subject token is stale, and check the pool's provider and its attribute condition: "
        "gcloud iam workload-identity-pools providers describe --help"
    ),
    "metadata": "give the machine a service account with the cloud-platform scope: "
    "gcloud compute instances set-service-account INSTANCE --scopes=cloud-platform",
    "gdch_service_account": "check the service identity and its key with the administrator of the air-gapped cloud",
}


_FOREIGN_SECRET = re.compile(
    r"(?:\beyJ|\b1//|\bBearer\s+(?=\S{16}))\S*"
    # Any other text of this length with digits is not a word, but base64 or similar.
    r"|(?=[A-Za-z_+=-]*[0-9])[\w+=-]{40,}"
)


def one_line(text: object, secrets: Secrets | None = None) -> str:
    """Format *text* on one line, of at most 300 characters.

    Control characters become spaces. *secrets*, and texts that look like a secret, are hidden.
    """
    if not isinstance(text, str):
        return ""
    text = secrets.redact(text) if secrets else text
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = _FOREIGN_SECRET.sub(HIDDEN, hide(line)).rstrip(". ")
    return line if len(line) <= 300 else line[:297] + "..."  # noqa: PLR2004 -- a line that fits on a screen
