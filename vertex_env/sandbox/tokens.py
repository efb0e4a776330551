"""Tokens of the sandbox: the routes that give them, the routes that want them, and their expiry.

The answers copy Google's where a real answer is published (all checked 2026-11-22):

- /token, /v1/token, /v1/oauthtoken: RFC 6749 §5 and RFC 8693 §2.2, as google-auth
  2.62.2 calls them (`google/oauth2/_client.py`, `google/oauth2/sts.py`,
  `google/auth/external_account_authorized_user.py`).
- :generateAccessToken:
  https://docs.cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
- /computeMetadata: https://cloud.google.com/compute/docs/metadata,
  `google/auth/compute_engine/_metadata.py`
- /computeMetadata gives the same token until its last four minutes:
  https://github.com/googleapis/google-auth-library-java/issues/749
- 401: ACCESS_TOKEN_EXPIRED https://github.com/pydantic/pydantic-ai/issues/1186,
  ACCESS_TOKEN_TYPE_UNSUPPORTED https://github.com/NousResearch/hermes-agent/pull/69096,
  CREDENTIALS_MISSING https://github.com/googleapis/python-genai/issues/426
"""

import re
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from vertex_env.sandbox.faults import AIPLATFORM, Fault
from vertex_env.sandbox.messages import ApiError, Reply, Request, as_json, error_info

_SECOND = timedelta(seconds=1)
_REMEMBERED = timedelta(hours=1)
"""Time during which an expired token is still distinguished from an unknown one."""


class Google:
    """State shared by all requests: tokens, pending faults and counts."""

    def __init__(
        self,
        lifetime: timedelta,
        faults: Sequence[Fault] = (),
        delay: timedelta = timedelta(0),
        refusals: Sequence[Fault] = (),
        *,
        array_401: bool = False,
    ) -> None:
        self.lifetime = max(_SECOND, lifetime - lifetime % _SECOND)
        self.delay, self.array_401 = delay, array_401
        self.faults, self.refusals = deque(faults), deque(refusals)
        self.counts = {"token": 0, "chat": 0, "refused": 0}
        self.stopped = threading.Event()
        self.lock = threading.RLock()
        self._minted = 0
        self._expiries: dict[str, datetime] = {}
        self._shared = ("", datetime.min.replace(tzinfo=UTC))

    def count(self, what: str) -> None:
        """Add 1 to a count, such as `token`."""
        with self.lock:
            self.counts[what] += 1

    def next_of(self, faults: deque[Fault]) -> int | None:
        """Return the status with which the current request has to fail; None if it succeeds."""
        with self.lock:
            if not faults:
                return None
            fault = faults.popleft()
            if fault.count > 1:
                faults.appendleft(replace(fault, count=fault.count - 1))
            return fault.status

    def mint(self, expiry: datetime) -> str:
        """Return a new token, of the usual length, that is accepted until *expiry*."""
        with self.lock:
            self._minted += 1
            if self._minted % 1000 == 0:
                oldest = datetime.now(UTC) - _REMEMBERED
                self._expiries = {
                    token: end for token, end in self._expiries.items() if end > oldest
                }
            token = f"ya29.sandbox-{self._minted}-{secrets.token_urlsafe(130)}"
            self._expiries[token] = expiry
            return token

    def shared(self) -> tuple[str, timedelta]:
        """Return the metadata server's token and its remaining time.

        All requests get the same token until it is near its expiry. A token with less
        than a second left is not given: its `expires_in` would be 0, which means
        expired.
        """
        with self.lock:
            now = datetime.now(UTC)
            token, expiry = self._shared
            if expiry - now < max(_SECOND, min(timedelta(seconds=240), self.lifetime / 4)):
                expiry = now + self.lifetime
                token = self.mint(expiry)
                self._shared = token, expiry
            return token, expiry - now

    def refusal(self, token: str) -> str | None:
        """Return the reason to refuse *token*, in Google's words; None if the token is good."""
        if not token:
            return "CREDENTIALS_MISSING"
        with self.lock:
            expiry = self._expiries.get(token)
        if expiry is None:
            return "ACCESS_TOKEN_TYPE_UNSUPPORTED"
        return None if datetime.now(UTC) < expiry else "ACCESS_TOKEN_EXPIRED"


Route = Callable[[Google, Request], Reply]


def giving_tokens(route: Route) -> Route:
    """Return a route that gives a token; it counts requests and applies delay and faults."""

    def answer(google: Google, request: Request) -> Reply:
        google.count("token")
        # Take the fault before the delay, so that faults follow the order in which
        # requests came.
        status = google.next_of(google.faults)
        google.stopped.wait(google.delay.total_seconds())
        if status is None:
            return route(google, request)
        if status in {429, *range(500, 600)}:
            return as_json(
                {
                    "error": "temporarily_unavailable",
                    "error_description": "A fault of the sandbox.",
                },
                status,
            )
        return as_json(
            {"error": "invalid_grant", "error_description": "Token has been expired or revoked."},
            status,
        )

    return answer


_ADVICE = (
    "Expected OAuth 2 access token, login cookie or other valid authentication credential. "
    "See https://developers.google.com/identity/sign-in/web/devconsole-project."
)


def for_bearers(route: Route, service: str = AIPLATFORM) -> Route:
    """Return a route of *service* that wants an access token that has not expired."""

    def answer(google: Google, request: Request) -> Reply:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        reason = google.refusal(token.strip() if scheme.lower() == "bearer" else "")
        if reason is None:
            return route(google, request)
        raise unauthenticated(google, reason, service)

    return answer


def unauthenticated(google: Google, reason: str, service: str = AIPLATFORM) -> ApiError:
    """Return a 401 error and count it."""
    google.count("refused")
    message, challenge = (
        "Request had invalid authentication credentials.",
        ', error="invalid_token"',
    )
    if reason == "CREDENTIALS_MISSING":
        message, challenge = "Request is missing required authentication credential.", ""
    details = error_info(reason, "googleapis.com", service=service)
    error = ApiError(401, "UNAUTHENTICATED", f"{message} {_ADVICE}", details=details)
    error.headers = {"WWW-Authenticate": f'Bearer realm="https://accounts.google.com/"{challenge}'}
    return error


def metadata(route: Route) -> Route:
    """Return a route of the metadata server.

    It wants the header `Metadata-Flavor` and sends it, so that no client asks it by
    accident.
    """

    def answer(google: Google, request: Request) -> Reply:
        flavored = request.headers.get("Metadata-Flavor") == "Google" or request.path == "/"
        given = (
            route(google, request)
            if flavored
            else Reply(403, b"Missing Metadata-Flavor:Google header.\n")
        )
        return replace(given, headers={"Metadata-Flavor": "Google"})

    return answer


_OAUTH = "urn:ietf:params:oauth"
_GRANTS: Mapping[str, Mapping[str, str]] = {
    "/token": {"refresh_token": "refresh_token", f"{_OAUTH}:grant-type:jwt-bearer": "assertion"},
    # Distributed Cloud uses the second name: google-auth 2.62.2
    # `google/oauth2/gdch_credentials.py`, 2026-11-22.
    "/v1/token": {
        f"{_OAUTH}:grant-type:token-exchange": "subject_token",
        f"{_OAUTH}:token-type:token-exchange": "subject_token",
    },
    "/v1/oauthtoken": {"refresh_token": "refresh_token"},
}
"""Grants that each token endpoint accepts, and the parameter that carries the grant."""


def oauth(google: Google, request: Request) -> Reply:
    """Return a token for a grant of a user, a service account or a pool."""
    fields = request.fields()
    grant = str(fields.get("grant_type"))
    parameter = _GRANTS[request.path].get(grant)
    if parameter is None:
        return as_json(
            {
                "error": "unsupported_grant_type",
                "error_description": f"Invalid grant_type: {grant}",
            },
            400,
        )
    if not fields.get(parameter):
        return as_json(
            {"error": "invalid_request", "error_description": f"Missing parameter: {parameter}"},
            400,
        )
    exchanged = (
        {"issued_token_type": f"{_OAUTH}:token-type:access_token"}
        if parameter == "subject_token"
        else {}
    )
    return _bearer(google.mint(datetime.now(UTC) + google.lifetime), google.lifetime, **exchanged)


def shared_token(google: Google, _: Request) -> Reply:
    """Return the metadata server's token."""
    return _bearer(*google.shared())


def _bearer(token: str, remaining: timedelta, **more: str) -> Reply:
    return as_json(
        {"access_token": token, "expires_in": remaining // _SECOND, "token_type": "Bearer", **more}
    )


def impersonate(google: Google, request: Request) -> Reply:
    """Return a token of a service account for the bearer of another token."""
    wanted = str(request.json().get("lifetime", "3600s"))
    match = re.fullmatch(r"([0-9]{1,9})s", wanted)
    seconds = int(match[1]) if match else 0
    if seconds not in range(1, 43201):
        raise ApiError(
            400, "INVALID_ARGUMENT", "The access token lifetime must be from 1s to 43200s."
        )
    # One hour is the default of the clients, so for it the sandbox uses its own
    # lifetime.
    lifetime = google.lifetime if wanted == "3600s" else timedelta(seconds=seconds)
    expiry = (datetime.now(UTC) + lifetime).replace(microsecond=0)
    return as_json(
        {"accessToken": google.mint(expiry), "expireTime": expiry.strftime("%Y-%m-%dT%H:%M:%SZ")}
    )
