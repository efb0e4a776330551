"""What a failed request to Google means, and what cures it.

Pure: it looks at the last HTTP exchange and the exception's text, never at the exception's type, because google-auth
lets several types escape and its `retryable` flag is wrong for most of them (google-auth 2.62.2, 2026-11-22).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from vertex_env.errors import CredentialsError, RefusedError, UnavailableError, VertexEnvError

LOGIN = "gcloud auth application-default login"


@dataclass(frozen=True, slots=True)
class Exchange:
    """The last request that was made, and the answer to it."""

    host: str
    """Such as `oauth2.googleapis.com`."""
    path: str = "/"
    status: int | None = None
    """None when no answer came."""
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Who:
    """On whose behalf, for messages and cures."""

    kind: str
    """Type of the credentials, such as `authorized_user`."""
    principal: str
    """Such as `robot@my-project.iam.gserviceaccount.com`; a description where the credentials do not say."""
    source: str
    """Where the credentials come from, such as `/home/me/adc.json (from GOOGLE_APPLICATION_CREDENTIALS)`."""
    target: str | None = None
    """The service account to impersonate."""

    def __str__(self) -> str:
        return f"{self.principal} in {self.source}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What Google's error body says, whichever of its shapes it has."""

    error: str = ""
    """OAuth's code (`invalid_grant`) or the API's status (`PERMISSION_DENIED`)."""
    message: str = ""
    reason: str = ""
    """OAuth's `error_subtype`, or the reason of an ErrorInfo: `IAM_PERMISSION_DENIED`, `SERVICE_DISABLED`."""


def read_answer(body: bytes) -> Answer | None:
    """*body* as an `Answer`, or None if it is not Google's.

    OAuth: `{"error": "invalid_grant", "error_description": "…", "error_subtype": "invalid_rapt"}` (RFC 6749 §5.2).
    APIs: `{"error": {"code": 403, "message": "…", "status": "PERMISSION_DENIED", "details": [{"reason": "…"}]}}`
    (https://google.aip.dev/193), which aiplatform wraps in a list
    (https://github.com/rhel-lightspeed/linux-mcp-server/issues/450), 2026-11-22.
    """
    try:
        data = json.loads(body)
    except ValueError:
        return None
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return None
    error = data.get("error")
    if isinstance(error, str):
        return Answer(_clean(error), _clean(data.get("error_description")), _clean(data.get("error_subtype")))
    if isinstance(error, dict):
        details = error.get("details")
        infos = [d for d in details if isinstance(d, dict)] if isinstance(details, list) else []
        reason = next((d["reason"] for d in infos if isinstance(d.get("reason"), str)), "")
        return Answer(_clean(error.get("status")), _clean(error.get("message")), _clean(reason))
    return None


def explain(exchange: Exchange | None, cause: str, who: Who) -> VertexEnvError:
    """The error to raise for a request that failed.

    Args:
        exchange: The last request, None if none was made.
        cause: The exception's text, quoted where nothing better is known.
        who: Whose request it was.
    """
    if exchange is None:
        return CredentialsError(
            f"the credentials of {who} cannot be used: {_clean(cause)}",
            f"check the file, or make a new one: {LOGIN}",
        )
    if exchange.status is None:
        return unreachable(exchange.host, cause)
    if exchange.status == 429 or exchange.status >= 500:  # noqa: PLR2004 -- HTTP's own numbers
        answer = read_answer(exchange.body)
        detail = f": {answer.message or answer.error}" if answer else ""
        return UnavailableError(
            f"{exchange.host} answered {exchange.status}{detail}", "it is Google's to mend: try again in a minute"
        )
    if exchange.status < 400:  # noqa: PLR2004 -- HTTP's own numbers
        return UnavailableError(
            f"{exchange.host} answered {exchange.status}, but without an access token",
            "a captive portal or a proxy may have answered instead: open any web page to see, or check HTTPS_PROXY",
        )
    return _refused(exchange, who)


def unreachable(host: str, cause: str) -> VertexEnvError:
    """The error for a request that got no answer."""
    for pattern, reason, hint in _NETWORK:
        if re.search(pattern, cause, re.IGNORECASE):
            return UnavailableError(f"cannot reach {host}: {reason}", hint)
    return UnavailableError(f"cannot reach {host}: {_clean(cause)}", "check the network, then try again")


_NETWORK = (
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify",
        "its TLS certificate is not trusted",
        "if a proxy re-signs TLS here, set REQUESTS_CA_BUNDLE to the file with its CA",
    ),
    (r"ProxyError|proxy", "the proxy did not let the request through", "check HTTPS_PROXY and NO_PROXY"),
    (r"timed? ?out", "no answer in time", "check the network (VPN, firewall, HTTPS_PROXY), then try again"),
    (
        r"NameResolution|getaddrinfo|Name or service|Temporary failure in name",
        "the name does not resolve",
        "check the network and its DNS, then try again",
    ),
    (r"refused", "the connection was refused", "check the network (VPN, firewall, HTTPS_PROXY), then try again"),
    (
        r"RemoteDisconnected|reset by peer|Connection aborted|EOF occurred",
        "the connection broke off",
        "check the network, then try again",
    ),
    (r"SSL", "TLS could not be set up", "check HTTPS_PROXY and REQUESTS_CA_BUNDLE"),
)


def _refused(exchange: Exchange, who: Who) -> VertexEnvError:
    """The error for a 4xx answer."""
    answer = read_answer(exchange.body)
    if answer is None:
        return RefusedError(
            f"{exchange.host} answered {exchange.status} to {who}",
            "the answer is not Google's: check HTTPS_PROXY, and the URLs in the credentials file",
        )
    said = answer.message or answer.error
    if exchange.path.endswith((":generateAccessToken", ":signJwt")):
        return _impersonation_refused(exchange, answer, who)
    if answer.reason in ("invalid_rapt", "rapt_required") or "reauth" in said.lower():
        return RefusedError(f"the login of {who} has to be renewed: {said}", f"run: {LOGIN}")
    if answer.error == "invalid_grant" and who.kind in _LOGINS:
        return RefusedError(f"the login of {who} has expired or was revoked: {said}", f"run: {_LOGINS[who.kind]}")
    if project := re.search(r"/projects/([^/]+)/", exchange.path):
        return _api_refused(exchange, answer, who, project[1])
    hint = _CURES.get(who.kind, f"log in anew: {LOGIN}").format(principal=who.principal)
    return RefusedError(f"{exchange.host} refused {who}: {said}", hint)


def _impersonation_refused(exchange: Exchange, answer: Answer, who: Who) -> VertexEnvError:
    target = exchange.path.rpartition("/")[2].partition(":")[0]
    said = answer.message or answer.error
    if answer.reason == "SERVICE_DISABLED":
        hint = "run: gcloud services enable iamcredentials.googleapis.com"
    elif "lifetime" in said.lower():
        hint = (
            "a life over 1h needs the organization policy constraint "
            "iam.allowServiceAccountCredentialLifetimeExtension for that account; or leave --lifetime out"
        )
    elif exchange.status == 404:  # noqa: PLR2004 -- HTTP's own number
        hint = f"check the name: gcloud iam service-accounts describe {target}"
    else:
        hint = (
            f"run: gcloud iam service-accounts add-iam-policy-binding {target} "
            "--role=roles/iam.serviceAccountTokenCreator --member=MEMBER"
        )
    return RefusedError(f"{who} may not impersonate {target}: {said}", hint)


def _api_refused(exchange: Exchange, answer: Answer, who: Who, project: str) -> VertexEnvError:
    """The error for a 4xx answer of the Vertex AI API itself."""
    said = answer.message or answer.error
    if answer.reason == "SERVICE_DISABLED":
        hint = f"run: gcloud services enable aiplatform.googleapis.com --project={project}"
    elif exchange.status == 401:  # noqa: PLR2004 -- HTTP's own number
        hint = "try a new token: vertex-env token --refresh"
    elif exchange.status == 403:  # noqa: PLR2004 -- HTTP's own number
        hint = f"run: gcloud projects add-iam-policy-binding {project} --role=roles/aiplatform.user --member=MEMBER"
    else:
        hint = "check project and location: vertex-env endpoints --all-locations"
    return RefusedError(f"{exchange.host} refused {who}: {said}", hint)


_LOGINS: Mapping[str, str] = {
    "authorized_user": LOGIN,
    "external_account_authorized_user": f"{LOGIN} --login-config=FILE",
    "impersonated_service_account": f"{LOGIN} --impersonate-service-account=ACCOUNT",
}

_CURES: Mapping[str, str] = {
    "service_account": (
        "see whether the key still exists and this machine's clock is right: "
        "gcloud iam service-accounts keys list --iam-account={principal}"
    ),
    "external_account": "check the pool, its provider and its attribute condition; the subject token may be stale",
    "metadata": "check that the instance has a service account with the cloud-platform scope",
    "gdch_service_account": "check the service identity and its key with the administrator of the air-gapped cloud",
}


_SECRET = re.compile(r"(?:ya29\.|eyJ|1//|Bearer\s+|-----BEGIN)\S*[^\s'\"]*", re.IGNORECASE)


def _clean(text: object) -> str:
    """*text* on one line, without control characters, without anything that looks like a secret, and not long."""
    if not isinstance(text, str):
        return ""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = _SECRET.sub("[hidden]", line).rstrip(". ")
    return line if len(line) <= 300 else line[:297] + "..."  # noqa: PLR2004 -- a line that fits on a screen
