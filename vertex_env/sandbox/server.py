"""A Google on the loopback interface: tokens that really expire, and an endpoint for chat that then refuses them.

It answers as Google does where there is a witness, which `tokens`, `routes` and `messages` name, and promises no more
than that.
"""

import json
import os
import re
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

from vertex_env.sandbox.faults import Fault
from vertex_env.sandbox.messages import NOT_FOUND, ApiError, Reply, Request
from vertex_env.sandbox.routes import PROJECT, ROUTES
from vertex_env.sandbox.tokens import Google

_LARGEST_BODY = 10 * 1024 * 1024
_FOREIGN = ("VERTEX_ENV_", "GOOGLE_", "CLOUDSDK_", "GCLOUD_", "GCE_METADATA_", "OPENAI_", "NO_GCE_CHECK")
"""How variables start that would lead a child out of the sandbox."""


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
        self._google = Google(lifetime, faults, delay, refusals, array_401=array_401)

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
            "GOOGLE_CLOUD_PROJECT": PROJECT,
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


class _Server(ThreadingTCPServer):
    """Serves each connection in a thread. Not HTTPServer, which asks the resolver for the name of 127.0.0.1."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, google: Google) -> None:
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
        except ApiError as error:
            answer = error.answer()
        self._send(answer)

    do_GET = do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815  # http.server's names

    def _answer(self) -> Reply:
        body = self._read()
        path, _, query = self.path.partition("?")
        path = unquote(path)
        for method, pattern, route in ROUTES:
            match = pattern.fullmatch(path)
            if match is not None and method == self.command:
                request = Request(path, match.groupdict(), dict(parse_qsl(query)), self.headers, body)
                return route(self.server.google, request)
        return NOT_FOUND

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
            raise ApiError(400, "INVALID_ARGUMENT", "The length of the request's body is not a number.")
        raise ApiError(413, "INVALID_ARGUMENT", f"The request's body is larger than {_LARGEST_BODY} bytes.")

    def _send(self, answer: Reply) -> None:
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
