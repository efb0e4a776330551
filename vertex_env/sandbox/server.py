"""A Google on the loopback interface: tokens that really expire, and an endpoint for chat that then refuses them.

It answers as Google does where there is a witness (all checked 2026-11-22), and promises no more than that:

- /token, /v1/token, /v1/oauthtoken: RFC 6749 §5 and RFC 8693 §2.2, as google-auth 2.62.2 asks them
  (`google/oauth2/_client.py`, `google/oauth2/sts.py`, `google/auth/external_account_authorized_user.py`).
- :generateAccessToken:
  https://docs.cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
- /computeMetadata: https://cloud.google.com/compute/docs/metadata, `google/auth/compute_engine/_metadata.py`;
  one token until its last four minutes: https://github.com/googleapis/google-auth-library-java/issues/749
- /endpoints: https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints; own hosts:
  google-cloud-aiplatform 2.7.0 `aiplatform_v1/types/endpoint.py`; the 404:
  https://github.com/googleapis/python-genai/issues/1706
- /chat/completions:
  https://cloud.google.com/vertex-ai/docs/reference/rest/v1beta1/projects.locations.endpoints.chat/completions;
  a model without its publisher: https://github.com/NousResearch/hermes-agent/pull/56809
- /responses:
  https://documentation.s3ns.fr/gemini-enterprise-agent-platform/models/partner-models/openai/responses
- 401: ACCESS_TOKEN_EXPIRED https://github.com/pydantic/pydantic-ai/issues/1186, ACCESS_TOKEN_TYPE_UNSUPPORTED
  https://github.com/NousResearch/hermes-agent/pull/69096, CREDENTIALS_MISSING
  https://github.com/googleapis/python-genai/issues/426
- Errors: https://cloud.google.com/apis/design/errors; a page of HTML for what is not there, `GET …/models` included:
  https://github.com/ogx-ai/ogx/issues/3988. The chat endpoint puts 400, 403, 404 and 429 in an
  array (https://github.com/langroid/langroid/issues/969,
  https://github.com/rhel-lightspeed/linux-mcp-server/issues/450, 2026-11). Its 401 is seen as an
  object; `array_401` makes it an array.
"""

import json
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.message import Message
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

_PROJECT = "sandbox-project"
_EMAIL = f"sandbox@{_PROJECT}.iam.gserviceaccount.com"
_SECOND = timedelta(seconds=1)
_LARGEST_BODY = 10 * 1024 * 1024
_REMEMBERED = timedelta(hours=1)
"""How long an expired token is still told from one that never was."""
_FOREIGN = ("VERTEX_ENV_", "GOOGLE_", "CLOUDSDK_", "GCLOUD_", "GCE_METADATA_", "OPENAI_", "NO_GCE_CHECK")
"""How variables start that would lead a child out of the sandbox."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The next *count* requests, for a token or a chat, are answered with *status*.

    Raises:
        ValueError: It would never happen, or the status is not that of a failure.
    """

    count: int
    status: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"a fault happens at least once, not {self.count} times")
        if self.status not in range(400, 600):
            raise ValueError(f"the status of a fault is between 400 and 599, not {self.status}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The fault that *text* describes: `3x503`, or `503` for once.

        Raises:
            ValueError: It describes none.
        """
        match = re.fullmatch(r"(?:([0-9]{1,9})x)?([0-9]{3})", text)
        if match is None:
            raise ValueError(f"a fault is written as COUNTxSTATUS or STATUS, such as 3x503, not {text!r}")
        return cls(count=int(match[1] or 1), status=int(match[2]))


class Sandbox:
    """A loopback Google, from entering the context until leaving it.

    Args:
        lifetime: How long its tokens live, in whole seconds as `expires_in` says it; at least one.
        faults: What the first requests for tokens are answered with.
        delay: How long each request for a token takes.
        refusals: What the first chat completions are answered with, such as `Fault(3, 429)`.
        array_401: Whether the chat endpoint's 401 is an array, as its other errors are.
    """

    url: str
    """Where it listens: `http://127.0.0.1:PORT`, once entered."""

    def __init__(
        self,
        *,
        lifetime: timedelta = timedelta(hours=1),
        faults: Sequence[Fault] = (),
        delay: timedelta = timedelta(0),
        refusals: Sequence[Fault] = (),
        array_401: bool = False,
    ) -> None:
        self._google = _Google(lifetime, faults, delay, refusals, array_401=array_401)

    def __enter__(self) -> Self:
        self._server = _Server(self._google)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        # The interval is how long leaving may take.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="sandbox", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._google.stopped.set()
        self._server.stop()
        self._thread.join()

    @property
    def counts(self) -> Mapping[str, int]:
        """How many requests were for a `token`, given or not, answered by the model (`chat`), `refused` with 401."""
        with self._google.lock:
            return dict(self._google.counts)

    def fail(self, fault: Fault) -> None:
        """Let the next requests for tokens fail, after the faults that are still to come."""
        with self._google.lock:
            self._google.faults.append(fault)

    def refuse(self, fault: Fault) -> None:
        """Let the next chat completions fail, after the refusals that are still to come."""
        with self._google.lock:
            self._google.refusals.append(fault)

    def heal(self) -> None:
        """Let no further request fail."""
        with self._google.lock:
            self._google.faults.clear()
            self._google.refusals.clear()

    def environ(self, directory: str, base: Mapping[str, str]) -> dict[str, str]:
        """The environment for a child that shall see this Google and no other.

        The credentials are the login of a workforce user: that of a plain user google-auth takes to Google, whatever
        the file says (google-auth 2.62.2 `google/oauth2/credentials.py`, 2026-11-22).

        Args:
            directory: Where to write the files it refers to.
            base: The environment to start from.
        """
        home = Path(directory).absolute()
        address = self.url.removeprefix("http://")
        credentials = {
            "type": "external_account_authorized_user",
            "audience": "//iam.googleapis.com/locations/global/workforcePools/sandbox-pool/providers/sandbox-provider",
            "client_id": "sandbox-client-id",
            "client_secret": "sandbox-not-a-secret",
            "refresh_token": "sandbox-not-a-refresh-token",
            "token_url": f"{self.url}/v1/oauthtoken",
        }
        (home / "gcloud").mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(home / "credentials.json", json.dumps(credentials, indent=2) + "\n")
        _write(home / "config.toml", "")
        return {
            **{name: value for name, value in base.items() if not name.startswith(_FOREIGN)},
            "GOOGLE_APPLICATION_CREDENTIALS": str(home / "credentials.json"),
            "GOOGLE_CLOUD_PROJECT": _PROJECT,
            "CLOUDSDK_CONFIG": str(home / "gcloud"),
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": f"{self.url}/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS": f"{self.url}/",
            "VERTEX_ENV_CACHE_DIR": str(home / "cache"),
            "VERTEX_ENV_CONFIG": str(home / "config.toml"),
            "VERTEX_ENV_ALLOW_HOST": "127.0.0.1",
            "GCE_METADATA_HOST": address,
            "GCE_METADATA_IP": address,
            **_direct(base),
        }


def _write(path: Path, text: str) -> None:
    """Make *path* anew, for its owner alone."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _direct(base: Mapping[str, str]) -> dict[str, str]:
    """What keeps requests to the sandbox away from a proxy.

    Who reads both spellings prefers the small one: where that alone is missing, it must not hide what the other says.
    """
    either = base.get("no_proxy", base.get("NO_PROXY", ""))
    values = {"no_proxy": either, "NO_PROXY": base.get("NO_PROXY", either)}
    return {name: ",".join(filter(None, (value, "127.0.0.1,localhost"))) for name, value in values.items()}


class _Google:
    """What all requests share: the tokens, the faults to come and the counts."""

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
        with self.lock:
            self.counts[what] += 1

    def next_of(self, faults: deque[Fault]) -> int | None:
        """The status that the request at hand has to fail with, if it has to."""
        with self.lock:
            if not faults:
                return None
            fault = faults.popleft()
            if fault.count > 1:
                faults.appendleft(replace(fault, count=fault.count - 1))
            return fault.status

    def mint(self, expiry: datetime) -> str:
        """A token of a usual length that is accepted until *expiry*."""
        with self.lock:
            self._minted += 1
            if self._minted % 1000 == 0:
                oldest = datetime.now(UTC) - _REMEMBERED
                self._expiries = {token: end for token, end in self._expiries.items() if end > oldest}
            token = f"ya29.sandbox-{self._minted}-{secrets.token_urlsafe(130)}"
            self._expiries[token] = expiry
            return token

    def shared(self) -> tuple[str, timedelta]:
        """The metadata server's token and what is left of it: the same for all until near its end.

        One with less than a second left is not given out either: `expires_in` could only call it expired.
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
        """Why *token* is no good, in Google's words; None if it is."""
        if not token:
            return "CREDENTIALS_MISSING"
        with self.lock:
            expiry = self._expiries.get(token)
        if expiry is None:
            return "ACCESS_TOKEN_TYPE_UNSUPPORTED"
        return None if datetime.now(UTC) < expiry else "ACCESS_TOKEN_EXPIRED"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes | Iterator[bytes]
    """An iterator is streamed, each item as it comes."""
    kind: str = "text/plain; charset=UTF-8"
    headers: Mapping[str, str] = field(default_factory=dict)


def _json(value: object, status: int = 200) -> _Answer:
    return _Answer(status, json.dumps(value, indent=2).encode(), "application/json; charset=UTF-8")


class _ApiError(Exception):
    """An answer in the shape of Google's errors that ends the work on a request."""

    headers: Mapping[str, str] = {}

    def __init__(self, code: int, status: str, message: str, **more: object) -> None:
        super().__init__(message)
        self.code = code
        self._body = {"error": {"code": code, "message": message, "status": status, **more}}

    def answer(self, *, array: bool = False) -> _Answer:
        """`{"error": {…}}`, or `[{"error": {…}}]`."""
        return replace(_json([self._body] if array else self._body, self.code), headers=self.headers)


@dataclass(frozen=True, slots=True)
class _Request:
    path: str
    parts: Mapping[str, str]
    """What the route's pattern named, such as `location`."""
    query: Mapping[str, str]
    headers: Message
    body: bytes

    def json(self) -> Mapping[str, Any]:
        """The JSON object in the body; an error if that is something else."""
        with suppress(ValueError, RecursionError):
            value = json.loads(self.body)
            if isinstance(value, dict):
                return value
        raise _ApiError(400, "INVALID_ARGUMENT", "Invalid JSON payload received. An object was expected.")

    def fields(self) -> Mapping[str, Any]:
        """The parameters of an OAuth request, which come as a form or as JSON."""
        if self.headers.get_content_type() == "application/json":
            return self.json()
        return dict(parse_qsl(self.body.decode(errors="replace")))


_Route = Callable[[_Google, _Request], _Answer]


class _Server(ThreadingTCPServer):
    """Serves each connection in a thread. Not HTTPServer, which asks the resolver for the name of 127.0.0.1."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, google: _Google) -> None:
        self.google = google
        self._connections: set[Any] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def stop(self) -> None:
        """Stop listening, and hang up on the clients that keep a connection for later."""
        self.shutdown()
        self.server_close()
        for connection in self._connections.copy():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is a bug, which shows."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        """Nothing: standard error belongs to the command that runs in the sandbox."""

    def _serve(self) -> None:
        try:
            answer = self._answer()
        except _ApiError as error:
            answer = error.answer()
        self._send(answer)

    do_GET = do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815  # http.server's names

    def _answer(self) -> _Answer:
        body = self._read()
        path, _, query = self.path.partition("?")
        path = unquote(path)
        for method, pattern, route in _ROUTES:
            match = pattern.fullmatch(path)
            if match is not None and method == self.command:
                request = _Request(path, match.groupdict(), dict(parse_qsl(query)), self.headers, body)
                return route(self.server.google, request)
        return _NOT_FOUND

    def _read(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            length = self.headers.get("Content-Length", "0")
            return self._take(int(length) if re.fullmatch(r"[0-9]{1,16}", length) else None)
        body = bytearray()
        while True:
            # A chunk is its size in hexadecimal, perhaps an extension, a line break, its bytes, a line break.
            size = self.rfile.readline(1024).decode("latin-1").partition(";")[0].strip()
            chunk = self._take(int(size, 16) if re.fullmatch(r"[0-9A-Fa-f]{1,16}", size) else None, len(body))
            self.rfile.readline(1024)
            if not chunk:
                return bytes(body)
            body += chunk

    def _take(self, size: int | None, already: int = 0) -> bytes:
        """*size* bytes of a body, unless nobody knows how many, or with those there are *already* it is too large."""
        if size is not None and already + size <= _LARGEST_BODY:
            return self.rfile.read(size)
        # The rest stays unread, so nothing else can come through this connection.
        self.close_connection = True
        if size is None:
            raise _ApiError(400, "INVALID_ARGUMENT", "The length of the request's body is not a number.")
        raise _ApiError(413, "INVALID_ARGUMENT", f"The request's body is larger than {_LARGEST_BODY} bytes.")

    def _send(self, answer: _Answer) -> None:
        body = answer.body
        if not isinstance(body, bytes) and self.request_version != "HTTP/1.1":
            # Who speaks only HTTP/1.0 knows no chunks and gets the stream whole.
            body = b"".join(body)
        length = {"Content-Length": str(len(body))} if isinstance(body, bytes) else {"Transfer-Encoding": "chunked"}
        closing = {"Connection": "close"} if self.close_connection else {}
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.kind, **length, **closing, **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if not isinstance(body, bytes):
            for part in body:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        elif self.command != "HEAD":
            self.wfile.write(body)


_NOT_FOUND = _Answer(
    404,
    b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
    b"<p><b>404.</b> The requested URL was not found on this server.\n",
    "text/html; charset=UTF-8",
)


def _giving_tokens(route: _Route) -> _Route:
    """A route that gives a token, so it is counted, and subject to delay and faults."""

    def answer(google: _Google, request: _Request) -> _Answer:
        google.count("token")
        # Before the delay, so that faults hit requests in the order these came.
        status = google.next_of(google.faults)
        google.stopped.wait(google.delay.total_seconds())
        if status is None:
            return route(google, request)
        if status in {429, *range(500, 600)}:
            return _json({"error": "temporarily_unavailable", "error_description": "A fault of the sandbox."}, status)
        return _json({"error": "invalid_grant", "error_description": "Token has been expired or revoked."}, status)

    return answer


_ADVICE = (
    "Expected OAuth 2 access token, login cookie or other valid authentication credential. "
    "See https://developers.google.com/identity/sign-in/web/devconsole-project."
)


_AIPLATFORM = "aiplatform.googleapis.com"


def _for_bearers(route: _Route, service: str = _AIPLATFORM) -> _Route:
    """A route of *service*, which wants an access token that still lives."""

    def answer(google: _Google, request: _Request) -> _Answer:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        reason = google.refusal(token.strip() if scheme.lower() == "bearer" else "")
        if reason is None:
            return route(google, request)
        raise _unauthenticated(google, reason, service)

    return answer


def _info(reason: str, domain: str, **metadata: str) -> list[Mapping[str, object]]:
    """The details of an error that give its reason, such as `IAM_PERMISSION_DENIED`."""
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return [{"@type": kind, "reason": reason, "domain": domain, "metadata": metadata}]


def _unauthenticated(google: _Google, reason: str, service: str = _AIPLATFORM) -> _ApiError:
    """A 401, which is counted."""
    google.count("refused")
    message, challenge = "Request had invalid authentication credentials.", ', error="invalid_token"'
    if reason == "CREDENTIALS_MISSING":
        message, challenge = "Request is missing required authentication credential.", ""
    details = _info(reason, "googleapis.com", service=service)
    error = _ApiError(401, "UNAUTHENTICATED", f"{message} {_ADVICE}", details=details)
    error.headers = {"WWW-Authenticate": f'Bearer realm="https://accounts.google.com/"{challenge}'}
    return error


def _chatting(route: _Route) -> _Route:
    """A route of the chat endpoint: wants a token, refuses as it is told, has its errors in arrays."""

    def refusing(google: _Google, request: _Request) -> _Answer:
        status = google.next_of(google.refusals)
        if status is not None:
            raise (
                _unauthenticated(google, "ACCESS_TOKEN_EXPIRED")
                if status == _UNAUTHORIZED
                else _refusal(status, request)
            )
        return route(google, request)

    def answer(google: _Google, request: _Request) -> _Answer:
        try:
            return _for_bearers(refusing)(google, request)
        except _ApiError as error:
            return error.answer(array=error.code != _UNAUTHORIZED or google.array_401)

    return answer


_UNAUTHORIZED = 401
_REFUSALS: Mapping[int, tuple[str, str]] = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    403: (
        "PERMISSION_DENIED",
        "Permission '{permission}' denied on resource '//aiplatform.googleapis.com/{resource}' (or it may not exist).",
    ),
    404: (
        "NOT_FOUND",
        (
            "Publisher Model `projects/{project}/locations/{location}/publishers/{model}` was not found or your "
            "project does not have access to it. Please ensure you are using a valid model version."
        ),
    ),
    429: ("RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."),
    503: ("UNAVAILABLE", "The service is currently unavailable."),
}
"""What the chat endpoint says; other statuses have no witness."""


def _refusal(status: int, request: _Request) -> _ApiError:
    """The error of a chat completion that has to fail with *status*."""
    permission = "aiplatform.endpoints.predict"
    resource = "projects/{project}/locations/{location}/endpoints/{endpoint}".format(**request.parts)
    model = "/models/".join(str(request.json().get("model", "")).split("/", 1))
    name, text = _REFUSALS.get(status, ("UNKNOWN", "A fault of the sandbox."))
    message = text.format(**request.parts, permission=permission, resource=resource, model=model)
    if status != 403:  # noqa: PLR2004 -- HTTP's own number
        return _ApiError(status, name, message)
    details = _info("IAM_PERMISSION_DENIED", _AIPLATFORM, resource=resource, permission=permission)
    return _ApiError(status, name, message, details=details)


def _metadata(route: _Route) -> _Route:
    """A route of the metadata server, which wants and shows its flavor, so that nobody asks it by accident."""

    def answer(google: _Google, request: _Request) -> _Answer:
        flavored = request.headers.get("Metadata-Flavor") == "Google" or request.path == "/"
        given = route(google, request) if flavored else _Answer(403, b"Missing Metadata-Flavor:Google header.\n")
        return replace(given, headers={"Metadata-Flavor": "Google"})

    return answer


def _always(answer: _Answer) -> _Route:
    return lambda _google, _request: answer


_OAUTH = "urn:ietf:params:oauth"
_GRANTS: Mapping[str, Mapping[str, str]] = {
    "/token": {"refresh_token": "refresh_token", f"{_OAUTH}:grant-type:jwt-bearer": "assertion"},
    # The second is what Distributed Cloud calls it; google-auth 2.62.2 `google/oauth2/gdch_credentials.py`, 2026-11-22.
    "/v1/token": {
        f"{_OAUTH}:grant-type:token-exchange": "subject_token",
        f"{_OAUTH}:token-type:token-exchange": "subject_token",
    },
    "/v1/oauthtoken": {"refresh_token": "refresh_token"},
}
"""Which grants a token endpoint knows, and the parameter that carries each."""


def _oauth(google: _Google, request: _Request) -> _Answer:
    fields = request.fields()
    grant = str(fields.get("grant_type"))
    parameter = _GRANTS[request.path].get(grant)
    if parameter is None:
        return _json({"error": "unsupported_grant_type", "error_description": f"Invalid grant_type: {grant}"}, 400)
    if not fields.get(parameter):
        return _json({"error": "invalid_request", "error_description": f"Missing parameter: {parameter}"}, 400)
    exchanged = {"issued_token_type": f"{_OAUTH}:token-type:access_token"} if parameter == "subject_token" else {}
    return _bearer(google.mint(datetime.now(UTC) + google.lifetime), google.lifetime, **exchanged)


def _shared_token(google: _Google, _: _Request) -> _Answer:
    return _bearer(*google.shared())


def _bearer(token: str, remaining: timedelta, **more: str) -> _Answer:
    return _json({"access_token": token, "expires_in": remaining // _SECOND, "token_type": "Bearer", **more})


def _impersonate(google: _Google, request: _Request) -> _Answer:
    wanted = str(request.json().get("lifetime", "3600s"))
    match = re.fullmatch(r"([0-9]{1,9})s", wanted)
    seconds = int(match[1]) if match else 0
    if seconds not in range(1, 43201):
        raise _ApiError(400, "INVALID_ARGUMENT", "The access token lifetime must be from 1s to 43200s.")
    # The default hour is what those get who asked for nothing else, so it is the sandbox's hour.
    lifetime = google.lifetime if wanted == "3600s" else timedelta(seconds=seconds)
    expiry = (datetime.now(UTC) + lifetime).replace(microsecond=0)
    return _json({"accessToken": google.mint(expiry), "expireTime": expiry.strftime("%Y-%m-%dT%H:%M:%SZ")})


_LOCATIONS = ("us-central1", "europe-west4", "asia-northeast1")
_DEDICATED = {
    "dedicatedEndpointEnabled": True,
    "dedicatedEndpointDns": "2345678901234567890.us-central1-123456789012.prediction.vertexai.goog",
}
_ENDPOINTS: Mapping[tuple[str, str], tuple[str, Mapping[str, object]]] = {
    ("us-central1", "1234567890123456789"): ("llama", {}),
    ("us-central1", "2345678901234567890"): ("dedicated", _DEDICATED),
    ("us-central1", "mg-endpoint-1a2b"): ("gemma", {}),
    ("europe-west4", "3456789012345678901"): ("qwen", {}),
}


def _endpoint(project: str, location: str, endpoint: str) -> Mapping[str, object]:
    """An Endpoint resource; an error if there is none."""
    parent = f"projects/{project}/locations/{location}"
    if (location, endpoint) not in _ENDPOINTS:
        raise _ApiError(404, "NOT_FOUND", f"Endpoint `{parent}/endpoints/{endpoint}` not found.")
    name, facts = _ENDPOINTS[location, endpoint]
    deployed = {"id": "1", "model": f"{parent}/models/{name}", "displayName": name}
    shown = {"name": f"{parent}/endpoints/{endpoint}", "displayName": f"sandbox-{name}", "deployedModels": [deployed]}
    return {**shown, **facts}


def _get_endpoint(_: _Google, request: _Request) -> _Answer:
    return _json(_endpoint(**request.parts))


def _list_endpoints(_: _Google, request: _Request) -> _Answer:
    project, location = request.parts["project"], request.parts["location"]
    every = [_endpoint(project, where, endpoint) for where, endpoint in _ENDPOINTS if where == location]
    size, token = request.query.get("pageSize", "0"), request.query.get("pageToken", "0")
    if not re.fullmatch(r"[0-9]{1,9},[0-9]{1,9}", f"{size},{token}"):
        raise _ApiError(400, "INVALID_ARGUMENT", "pageSize or pageToken is invalid.")
    stop = int(token) + (int(size) or 100)
    page = {"endpoints": every[int(token) : stop], "nextPageToken": str(stop) if stop < len(every) else ""}
    # As all of Google's APIs in JSON, it leaves out what is empty; https://protobuf.dev/programming-guides/json/.
    return _json({name: value for name, value in page.items() if value})


def _list_locations(_: _Google, request: _Request) -> _Answer:
    parent = f"projects/{request.parts['project']}/locations"
    return _json({"locations": [{"name": f"{parent}/{one}", "locationId": one} for one in _LOCATIONS]})


def _mapping(value: object) -> Mapping[str, Any]:
    """*value* if it is an object, else one without members: clients may send anything."""
    return value if isinstance(value, dict) else {}


def _reply(messages: object) -> tuple[str, int, int]:
    """What the model says to the user's last message, and how many words, which pass for tokens, went in and out."""
    said = [_mapping(one) for one in messages] if isinstance(messages, list) else []
    content = next((one.get("content") for one in reversed(said) if one.get("role") == "user"), None)
    # A content is a text, or a list of parts some of which have a text.
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    heard = " ".join(str(_mapping(part).get("text", "")) for part in parts)
    text = f"The sandbox heard: {heard}"
    return text, len(heard.split()), len(text.split())


def _chat(google: _Google, request: _Request) -> _Answer:
    wanted = request.json()
    model = str(wanted.get("model", ""))
    if request.parts["endpoint"] != "openapi":
        _endpoint(**request.parts)
    elif not re.fullmatch(r"[^/]+/.+", model):
        message = (
            f"Malformed publisher model (`model`: '{model}') for the 'openapi' request endpoint ID; "
            "expected '<publisher>/<model>'."
        )
        raise _ApiError(400, "INVALID_ARGUMENT", message)
    text, read, written = _reply(wanted.get("messages"))
    google.count("chat")
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    if wanted.get("stream"):
        counted = _mapping(wanted.get("stream_options")).get("include_usage")
        return _Answer(200, _events(head, text, usage if counted else None), "text/event-stream")
    said = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": said, "finish_reason": "stop", "logprobs": None}
    return _json({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


def _events(head: Mapping[str, object], text: str, usage: Mapping[str, int] | None) -> Iterator[bytes]:
    """The server-sent events of a streamed completion, one a word."""

    def event(chunk: Mapping[str, object]) -> bytes:
        return f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', **chunk})}\n\n".encode()

    words = re.findall(r"\s*\S+|\s+", text)
    for delta in [{"role": "assistant", "content": ""}, *({"content": word} for word in words), {}]:
        yield event({"choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]})
    if usage:
        yield event({"choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _responses(google: _Google, request: _Request) -> _Answer:
    wanted = request.json()
    said = wanted.get("input")
    text, read, written = _reply(said if isinstance(said, list) else [{"role": "user", "content": said}])
    google.count("chat")
    number = secrets.token_hex(12)
    content = {"type": "output_text", "text": text, "annotations": []}
    message = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed"}
    usage = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    head = {"id": f"resp_{number}", "object": "response", "created_at": int(time.time()), "status": "completed"}
    tools = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    model = str(wanted.get("model", ""))
    return _json(
        {**head, "model": model, "output": [{**message, "content": [content]}], **tools, "usage": {**usage, **details}}
    )


_V1 = "/computeMetadata/v1"
_ACCOUNT = rf"{_V1}/instance/service-accounts/(?:default|{re.escape(_EMAIL)})"
_INFO = {"aliases": ["default"], "email": _EMAIL, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}
_PLACES = r"/v1(?:beta1)?/projects/(?P<project>[^/]+)/locations"
_PLACE = rf"{_PLACES}/(?P<location>[^/]+)"
_IAM = r"/v1/projects/-/serviceAccounts/[^/]+:generateAccessToken"

_ROUTES: Sequence[tuple[str, re.Pattern[str], _Route]] = [
    (method, re.compile(pattern), route)
    for method, pattern, route in (
        ("POST", "/token|/v1/token|/v1/oauthtoken", _giving_tokens(_oauth)),
        ("POST", _IAM, _giving_tokens(_for_bearers(_impersonate, "iamcredentials.googleapis.com"))),
        ("GET", "/subject", _always(_Answer(200, b"sandbox-subject-token"))),
        ("GET", "/", _metadata(_always(_Answer(200, b"computeMetadata/\n")))),
        ("GET", f"{_V1}/project/project-id", _metadata(_always(_Answer(200, _PROJECT.encode())))),
        ("GET", f"{_ACCOUNT}/?", _metadata(_always(_json(_INFO)))),
        ("GET", f"{_ACCOUNT}/email", _metadata(_always(_Answer(200, _EMAIL.encode())))),
        ("GET", f"{_ACCOUNT}/token", _metadata(_giving_tokens(_shared_token))),
        ("GET", f"{_V1}/.*", _metadata(_always(_NOT_FOUND))),
        ("GET", _PLACES, _for_bearers(_list_locations)),
        ("GET", f"{_PLACE}/endpoints", _for_bearers(_list_endpoints)),
        ("GET", f"{_PLACE}/endpoints/(?P<endpoint>[^/]+)", _for_bearers(_get_endpoint)),
        ("POST", f"{_PLACE}/endpoints/(?P<endpoint>[^/]+)/chat/completions", _chatting(_chat)),
        ("POST", f"{_PLACE}/publishers/openai/v1/responses", _for_bearers(_responses)),
    )
]
"""What there is: method, path, answer. The first that fits answers; for the rest there is a 404."""
