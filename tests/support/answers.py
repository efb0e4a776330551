"""A loopback server that answers as badly as a test wants, and keeps what it was asked."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl

from tests.support.fakes import PLANTED


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: a `body` that is neither text nor bytes is sent as JSON."""

    status: int = 200
    body: object = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        """The body as it is sent."""
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()

    @property
    def kind(self) -> str:
        """Its media type."""
        return "text/html" if isinstance(self.body, str | bytes) else "application/json"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it arrived."""

    host: str
    """The name that the client asked for; `GoogleProxy` passes it on."""
    path: str
    """Without the query."""
    fields: Mapping[str, Any]
    """Of the query and of the body, which is a form or JSON."""
    headers: Mapping[str, str]


def as_google(asked: Asked) -> Reply:
    """What Google answers; every token is `PLANTED`, and lives as long as was asked for."""
    if asked.path.endswith(":generateAccessToken"):
        expiry = datetime.now(UTC) + timedelta(seconds=int(asked.fields["lifetime"].rstrip("s")))
        return Reply(
            body={"accessToken": PLANTED, "expireTime": expiry.strftime("%Y-%m-%dT%H:%M:%SZ")}
        )
    if asked.path in ("/token", "/v1/token", "/v1/oauthtoken"):
        return Reply(body={"access_token": PLANTED, "expires_in": 3599, "token_type": "Bearer"})
    return Reply(404, "<html>not found</html>")


class Answers(ThreadingHTTPServer):
    """Answers by path, without the query; what is not in *routes* gets what `as_google` says.

    A route may be a list of replies, the last of which stays, or a function of the handler, which then writes to the
    socket what it likes.
    """

    request_queue_size = 128

    def __init__(
        self,
        routes: "Mapping[str, Route] | Mapping[str, Reply | list[Reply]] | None" = None,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.routes: dict[str, Route] = dict(routes or {})
        self.asked: list[Asked] = []
        self.left = threading.Event()
        """Set when the test is over: those who keep a client waiting wait for it."""
        super().__init__(address, Handler)
        self.url = f"http://{address[0]}:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.left.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that give up are what is tested."""


Route = Reply | list[Reply] | Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Answers

    def answer(self) -> None:
        """Keep the request, then do what the test wants."""
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        fields = json.loads(body) if body.startswith("{") else dict(parse_qsl(body))
        host = self.headers.get("X-Original-Host", self.headers.get("Host", ""))
        asked = Asked(host, path, dict(parse_qsl(query)) | fields, dict(self.headers.items()))
        self.server.asked.append(asked)
        route = self.server.routes.get(path)
        if isinstance(route, list):
            route = route.pop(0) if len(route) > 1 else route[0]
        if callable(route):
            route(self)
        else:
            self.send(route or as_google(asked))

    do_GET = do_POST = do_PUT = answer  # noqa: N815  # http.server's names

    def send(self, reply: Reply) -> None:
        """Answer with *reply*."""
        self.send_response(reply.status)
        headers = {
            "Content-Type": reply.kind,
            "Content-Length": str(len(reply.data)),
            **reply.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.data)

    def log_message(self, *args: object) -> None:
        """Nothing: what a test prints is about its failure."""
