"""A small Google on the loopback interface.

Its tokens really expire, and its chat endpoint then refuses them. The answers copy
Google's where a real answer is published; `tokens`, `routes` and `messages` name the
sources. The sandbox promises nothing more.
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
_FOREIGN = (
    "VERTEX_ENV_",
    "GOOGLE_",
    "CLOUDSDK_",
    "GCLOUD_",
    "GCE_METADATA_",
    "OPENAI_",
    "NO_GCE_CHECK",
)
"""Prefixes of variables that would lead a child out of the sandbox."""


class Sandbox:
    """Small Google on the loopback interface; it runs while its context is entered.

    Args:
        lifetime: Lifetime of its tokens, in whole seconds as in `expires_in`; at least
            1 s.
        faults: Failures of the first requests for tokens.
        delay: Duration of each request for a token.
        refusals: Failures of the first chat completions, such as `Fault(3, 429)`.
        array_401: Whether the chat endpoint's 401 is an array, like its other errors.
    """

    url: str
    """Address of the server, such as `http://127.0.0.1:PORT`; set when the context is entered."""

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
        # The interval of 0.05 s limits the time to leave the context.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="sandbox", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._google.stopped.set()
        self._server.stop()
        self._thread.join()

    @property
    def counts(self) -> Mapping[str, int]:
        """Return the number of requests by result.

        `token` counts the requests for a token, successful or not. `chat` counts the
        requests that the model answered, and `refused` those with a 401.
        """
        with self._google.lock:
            return dict(self._google.counts)

    def fail(self, fault: Fault) -> None:
        """Let the next requests for tokens fail, after the faults that are still pending."""
        with self._google.lock:
            self._google.faults.append(fault)

    def refuse(self, fault: Fault) -> None:
        """Let the next chat completions fail, after the refusals that are still pending."""
        with self._google.lock:
            self._google.refusals.append(fault)

    def heal(self) -> None:
        """Remove all pending faults and refusals."""
        with self._google.lock:
            self._google.faults.clear()
            self._google.refusals.clear()

    def environ(self, directory: str, base: Mapping[str, str]) -> dict[str, str]:
        """Return the environment for a child that sees this Google and no other.

        The credentials are the login of a workforce user. With the login of a plain
        user, google-auth would ignore the token address in the file and ask the real
        Google (google-auth 2.62.2 `google/oauth2/credentials.py`, 2026-11-22).

        Args:
            directory: Folder for the files to which the environment refers.
            base: Environment to start from.
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
    """Create *path* anew, with access for its owner alone."""
    path.unlink(missing_ok=True)
    with os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)


def _direct(base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep requests to the sandbox away from a proxy.

    Programs that read both `no_proxy` and `NO_PROXY` prefer `no_proxy`. If only
    `NO_PROXY` is set, the new `no_proxy` must repeat its value.
    """
    either = base.get("no_proxy", base.get("NO_PROXY", ""))
    values = {"no_proxy": either, "NO_PROXY": base.get("NO_PROXY", either)}
    return {
        name: ",".join(filter(None, (value, "127.0.0.1,localhost")))
        for name, value in values.items()
    }


class _Server(ThreadingTCPServer):
    """Server that handles each connection in a thread.

    It is not an HTTPServer, because that asks the resolver for the name of 127.0.0.1.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, google: Google) -> None:
        self.google = google
        self._connections: set[Any] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def stop(self) -> None:
        """Stop listening, and close the connections that clients keep open."""
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
        """Ignore a client that went away; print any other error, because it is a bug."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        """Print nothing: standard error belongs to the command that runs in the sandbox."""

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
                request = Request(
                    path, match.groupdict(), dict(parse_qsl(query)), self.headers, body
                )
                return route(self.server.google, request)
        return NOT_FOUND

    def _read(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            length = self.headers.get("Content-Length", "0")
            return self._take(int(length) if re.fullmatch(r"[0-9]{1,16}", length) else None)
        body = bytearray()
        while True:
            # A chunk has its size in hexadecimal, an optional extension, a line break,
            # its bytes, and a line break.
            size = self.rfile.readline(1024).decode("latin-1").partition(";")[0].strip()
            chunk = self._take(
                int(size, 16) if re.fullmatch(r"[0-9A-Fa-f]{1,16}", size) else None, len(body)
            )
            self.rfile.readline(1024)
            if not chunk:
                return bytes(body)
            body += chunk

    def _take(self, size: int | None, already: int = 0) -> bytes:
        """Read *size* bytes of a body.

        Args:
            size: Number of bytes; None if it is unknown, which is an error.
            already: Number of bytes read before; an error if the sum is too large.
        """
        if size is not None and already + size <= _LARGEST_BODY:
            return self.rfile.read(size)
        # The rest of the body stays unread, so the connection cannot carry another
        # request.
        self.close_connection = True
        if size is None:
            raise ApiError(
                400, "INVALID_ARGUMENT", "The length of the request's body is not a number."
            )
        raise ApiError(
            413, "INVALID_ARGUMENT", f"The request's body is larger than {_LARGEST_BODY} bytes."
        )

    def _send(self, answer: Reply) -> None:
        body = answer.body
        if not isinstance(body, bytes) and self.request_version != "HTTP/1.1":
            # A client of HTTP/1.0 does not understand chunks, so it gets the stream in
            # one piece.
            body = b"".join(body)
        length = (
            {"Content-Length": str(len(body))}
            if isinstance(body, bytes)
            else {"Transfer-Encoding": "chunked"}
        )
        closing = {"Connection": "close"} if self.close_connection else {}
        self.send_response(answer.status)
        for name, value in {
            "Content-Type": answer.kind,
            **length,
            **closing,
            **answer.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if not isinstance(body, bytes):
            for part in body:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        elif self.command != "HEAD":
            self.wfile.write(body)
