"""What runs inside a network namespace: a resolver, the web on loopback, and one client.

    vertex-env, then the client → resolver: 127.0.0.1 for every name
                                → port 443 or 80 → the sandbox, for Vertex AI's hosts
                                                 → a sentinel, for every other host

`python -m tests.clients.inside` reads a `Job` as JSON from standard input, drives the client and
prints a `Drive`. `tests.clients.world` starts it, in namespaces of its own. Nothing that the client
sends can leave the machine.

HTTP and HTTPS are watched, at ports 80 and 443. Nobody listens at another TCP port, so nothing is
sent there. What goes by UDP to another port than the resolver's is lost and not seen.
"""

import base64
import gzip
import json
import os
import re
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote_to_bytes, urlsplit

from tests.support.loopback import GoogleProxy, authorized_user, clean_environ, write_adc
from vertex_env.sandbox.server import Sandbox

SANDBOX_HOST = re.compile(
    r"(oauth2|sts|iamcredentials)\.googleapis\.com"
    r"|([a-z0-9-]+-)?aiplatform(\.[a-z0-9-]+\.rep)?\.googleapis\.com"
    r"|([a-z0-9-]+\.)+prediction\.vertexai\.goog"
)
"""The hosts that may get the token. Google's other hosts are sentinels, such as
generativelanguage.googleapis.com."""

_NAMES_OF_TOKENS = ("access_token", "accessToken")
_PIECE = 24
"""So many characters of a token in a row count as the token: clients cut long texts."""
_QUIET_S = 0.5
"""A drive is over when no request arrived for so long after the client's end."""


@dataclass(frozen=True, slots=True)
class Job:
    """A client to drive."""

    argv: Sequence[str]
    """The command, `vertex-env` included: `["vertex-env", "run", "--", "sgpt", "hello"]`."""
    environ: Mapping[str, str]
    """More variables than those of a login with Google's credentials, which trusts the test CA."""
    files: Mapping[str, str]
    """Content of the working folder: path to text."""
    prompt: str
    """A word for the model that appears nowhere else."""
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that arrived, or a connection whose content could not be read."""

    host: str
    port: int
    path: str
    """Empty if it could not be read."""
    method: str = ""
    status: int = 0
    """What was answered."""
    has_token: bool = False
    """The request holds an access token or the refresh token, in any form that `holds` finds."""
    has_prompt: bool = False
    unreadable: str = ""
    """Why its content is not known, such as a client that does not trust the test CA."""

    @property
    def leaks(self) -> bool:
        """Another host than the sandbox got the token or the prompt, or may have got them."""
        return not self.at_sandbox and (self.has_token or self.has_prompt or self.unreadable != "")

    @property
    def at_sandbox(self) -> bool:
        """The sandbox answered it, over TLS, which is what Vertex AI would have done."""
        return self.port == 443 and SANDBOX_HOST.fullmatch(self.host) is not None


@dataclass(frozen=True, slots=True)
class Drive:
    """How a client ended, and all requests."""

    status: int
    stdout: str
    stderr: str
    seen: Sequence[Seen]
    asked: Sequence[str]
    """Each name that was asked of the resolver, once."""

    @property
    def leaks(self) -> Sequence[Seen]:
        """The requests with the token or the prompt to other hosts than the sandbox."""
        return [one for one in self.seen if one.leaks]

    @property
    def answered(self) -> bool:
        """The sandbox got the token and the prompt, and answered."""
        return any(
            one.at_sandbox and one.has_token and one.has_prompt and one.status == 200
            for one in self.seen
        )


def holds(content: bytes, secret: str) -> bool:
    """Say whether *content* has a piece of *secret*.

    The piece may stand there as it is, URL-encoded, in hexadecimal or in base64.
    """
    searched = content + b"\n" + unquote_to_bytes(content)
    raw = secret.encode()
    size = min(_PIECE, len(raw))
    pieces = [raw[start : start + size] for start in range(0, len(raw) - size + 1, size)]
    return any(form in searched for piece in pieces for form in _forms(piece))


def _forms(piece: bytes) -> Iterable[bytes]:
    yield piece
    yield piece.hex().encode()
    for shift in range(3):
        # Base64 encodes groups of three bytes, so the text before the piece decides the grouping.
        # The first and the last group also hold bytes of the neighbours: leave them out.
        encoded = base64.b64encode(bytes(shift) + piece)[4 if shift else 0 :][
            : (len(piece) - 3) // 3 * 4
        ]
        yield encoded
        yield encoded.translate(bytes.maketrans(b"+/", b"-_"))


@dataclass(slots=True)
class _Arrived:
    """A request with its content."""

    host: str
    port: int
    method: str = ""
    path: str = ""
    content: bytes = b""
    status: int = 0
    unreadable: str = ""


@dataclass(slots=True)
class _Log:
    """The record that all servers share; `secrets` are the refresh token and all access tokens."""

    arrived: list[_Arrived] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)
    last: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, arrived: _Arrived) -> None:
        with self.lock:
            self.arrived.append(arrived)
            self.last = time.monotonic()

    def seen(self, prompt: str) -> list[Seen]:
        """The requests so far; looks in each for the prompt and for every secret known by now."""
        with self.lock:
            return [
                Seen(
                    host=one.host,
                    port=one.port,
                    path=one.path,
                    method=one.method,
                    status=one.status,
                    has_token=any(holds(one.content, secret) for secret in self.secrets),
                    has_prompt=holds(one.content, prompt),
                    unreadable=one.unreadable,
                )
                for one in self.arrived
            ]


class _Resolver(socketserver.ThreadingUDPServer):
    """Answers 127.0.0.1 for every name, and an empty answer for any other type of record."""

    daemon_threads = True

    def __init__(self, log: _Log) -> None:
        self.log = log
        super().__init__(("127.0.0.1", 53), _Question)


class _Question(socketserver.BaseRequestHandler):
    server: _Resolver

    def handle(self) -> None:
        """RFC 1035 §4.1: a header of 12 bytes, then the name as labels, its type and its class."""
        message, reply_to = self.request
        labels, position = [], 12
        while length := message[position]:
            labels.append(message[position + 1 : position + 1 + length].decode("latin-1"))
            position += 1 + length
        question = message[12 : position + 5]
        (kind,) = struct.unpack_from("!H", message, position + 1)
        name = ".".join(labels).lower()
        with self.server.log.lock:
            if name not in self.server.log.asked:
                self.server.log.asked.append(name)
        # The answer points back to the name at byte 12; 60 seconds; the four bytes of 127.0.0.1.
        answer = struct.pack("!HHHIH4B", 0xC00C, 1, 1, 60, 4, 127, 0, 0, 1) if kind == 1 else b""
        flags = 0x8180  # a response, recursion desired and available, no error
        head = message[:2] + struct.pack("!HHHHH", flags, 1, 1 if answer else 0, 0, 0)
        reply_to.sendto(head + question + answer, self.client_address)


class _Web(socketserver.ThreadingTCPServer):
    """Every host of the web, at one port."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, log: _Log, google: GoogleProxy) -> None:
        self.log = log
        self.google = google
        self.port = port
        super().__init__(("127.0.0.1", port), socketserver.BaseRequestHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Do the TLS handshake in the connection's thread; record a failed one as unreadable."""
        if self.port != 443:
            _Request(request, client_address, self, "")
            return
        asked: list[str] = []

        def choose(connection: Any, name: str | None, _: ssl.SSLContext) -> None:
            asked.append((name or "").lower())
            connection.context = self.google.context(asked[-1] or "unnamed.invalid")

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = choose
        context.set_alpn_protocols(["http/1.1"])
        try:
            with context.wrap_socket(request, server_side=True) as connection:
                _Request(connection, client_address, self, asked[-1] if asked else "")
        except ssl.SSLEOFError:
            pass  # closed before its first byte, for example by a client that tries two addresses
        except ssl.SSLError as error:
            # In TLS 1.3 a client rejects a certificate after the server's handshake is done.
            self.log.add(_Arrived(asked[-1] if asked else "", 443, unreadable=str(error)))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a client that hung up; anything else is a bug here, and is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Request(BaseHTTPRequestHandler):
    server: _Web
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, request: Any, client_address: Any, server: _Web, name: str) -> None:
        self.name = name
        super().__init__(request, client_address, cast("Any", server))

    def log_message(self, *_: object) -> None:
        pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Record bytes that are no HTTP, or an unknown method."""
        reason = f"{code} {message}: {getattr(self, 'raw_requestline', b'')[:80]!r}"
        self.server.log.add(_Arrived(self.name, self.server.port, unreadable=reason))
        super().send_error(code, message, explain)

    def serve(self) -> None:
        host = (
            self.name
            or self.headers.get("Host", "").rpartition(":")[0]
            or self.headers.get("Host", "")
        )
        path = self.requestline.split()[1]
        body = self.body()
        content = self.requestline.encode("latin-1") + b"\n" + self.headers.as_bytes() + body
        arrived = _Arrived(host.lower(), self.server.port, self.command, path, content)
        try:
            arrived.content += self.decoded(body)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            arrived.unreadable = str(error) or type(error).__name__
        self.server.log.add(arrived)
        if Seen(arrived.host, arrived.port, path).at_sandbox:
            status, kind, answer = self.from_sandbox(path, body)
        else:
            # OpenAI's answer to an unknown key: clients do not try again.
            said = {"message": "Incorrect API key provided.", "type": "invalid_request_error"}
            answer = json.dumps({"error": said}).encode()
            status, kind = HTTPStatus.UNAUTHORIZED, "application/json"
        arrived.status = status
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = serve  # noqa: N815  # http.server's names

    def body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def decoded(self, body: bytes) -> bytes:
        """*body* without its compression, empty if it had none.

        Raises:
            ValueError: It is compressed in a way that cannot be undone here.
        """
        coding = self.headers.get("Content-Encoding", "identity").strip().lower()
        if coding == "identity":
            return b""
        if coding == "gzip":
            return gzip.decompress(body)
        if coding == "deflate":
            return zlib.decompress(body)
        raise ValueError(f"a body compressed with {coding}")

    def from_sandbox(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        """The sandbox's answer: status, media type, content. Remembers the tokens in it."""
        connection = HTTPConnection(self.server.google.upstream)
        kept = {
            name: value
            for name, value in self.headers.items()
            if name.lower() in {"authorization", "content-type"}
        }
        connection.request(self.command, path, body, kept)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        with suppress(ValueError, AttributeError):
            found = json.loads(answer)
            with self.server.log.lock:
                self.server.log.secrets.update(
                    found[name] for name in _NAMES_OF_TOKENS if name in found
                )
        return response.status, response.getheader("Content-Type", ""), answer


@contextmanager
def _serving(*servers: socketserver.BaseServer) -> Any:
    for server in servers:
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
    yield
    for server in servers:
        server.shutdown()
        server.server_close()


def _run(command: Sequence[str], *, check: bool = True) -> None:
    subprocess.run(command, check=check, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def _settle(folder: Path) -> None:
    """Bring loopback up, and put files of our own in place of those that configure name lookups."""
    _run(["ip", "link", "set", "lo", "up"])
    files = {
        "resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:2\n",
        "hosts": "127.0.0.1 localhost\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    }
    for name, text in files.items():
        ours, real = folder / name, Path("/etc", name)
        ours.write_text(text)
        # Without such a file the C library asks 127.0.0.1 too.
        if real.exists():
            _run(["mount", "--bind", str(ours), str(real.resolve())])


def _environ(folder: Path, google: GoogleProxy, job: Job) -> dict[str, str]:
    """The variables of a login with Google's credentials, on a machine that trusts the test CA."""
    base = clean_environ(folder / "home")
    trust = {
        name: value for name, value in google.environ.items() if not name.lower().endswith("_proxy")
    }
    return {
        **base,
        **trust,
        "GOOGLE_APPLICATION_CREDENTIALS": str(write_adc(folder / "adc.json", authorized_user())),
        "GOOGLE_CLOUD_PROJECT": "sandbox-project",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), base["PATH"]]),
        "TERM": "dumb",
        "NO_COLOR": "1",
        **job.environ,
    }


def _client(job: Job, folder: Path, environ: Mapping[str, str]) -> tuple[int, str, str]:
    """Run the job's command: status, standard output, standard error.

    A command that takes too long is ended, with status 124.
    """
    work = folder / "work"
    for path, text in job.files.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(text)
    work.mkdir(exist_ok=True)
    process = subprocess.Popen(
        list(job.argv),
        cwd=work,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=job.timeout_s)
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        status = 124
    return status, out.decode(errors="replace"), err.decode(errors="replace")


def drive(job: Job, folder: Path) -> Drive:
    """Drive the client of *job* in this process's own namespaces; *folder* is empty."""
    _settle(folder)
    log = _Log()
    log.secrets.add(authorized_user()["refresh_token"])
    with Sandbox() as sandbox, GoogleProxy(sandbox.url, folder / "certificates") as google:
        assert urlsplit(sandbox.url).hostname == "127.0.0.1"
        with _serving(_Resolver(log), _Web(443, log, google), _Web(80, log, google)):
            socket.getaddrinfo(
                "resolver.check.example", 443
            )  # fails here rather than in each client
            status, out, err = _client(job, folder, _environ(folder, google, job))
            log.last = max(log.last, time.monotonic())
            while time.monotonic() < log.last + _QUIET_S:
                time.sleep(0.05)
    return Drive(
        status,
        out,
        err,
        log.seen(job.prompt),
        [name for name in log.asked if name != "resolver.check.example"],
    )


if __name__ == "__main__":
    print(json.dumps(asdict(drive(Job(**json.load(sys.stdin)), Path(sys.argv[1])))))
