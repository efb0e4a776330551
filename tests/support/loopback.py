"""Google for tests without Google: its host names on loopback, its ADC files, and the program run as a user runs it.

`GoogleProxy` sends what is meant for Google to a loopback server, over real TLS and under the real names, so that the
program under test needs no hook. Every key and certificate here is made when it is first needed and trusted nowhere.

This module can be named after Google only because `tests` is a package: without `tests/__init__.py`, pytest would put
this folder on `sys.path` and google-auth would be hidden by this file.
"""

import json
import os
import re
import shlex
import socket
import socketserver
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import vertex_env
from vertex_env.program import FORCED

GOOGLE_HOST = re.compile(
    r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+(googleapis\.com|prediction\.vertexai\.goog|s3nsapis\.fr)",
)
"""The host names that the proxy answers for, of any number of labels."""

TOKEN_URL = "https://oauth2.googleapis.com/token"
STS_URL = "https://sts.googleapis.com/v1/token"
IAM_URL = (
    "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{}:generateAccessToken"
)

HOP_BY_HOP = {
    "connection",
    "proxy-connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
}
"""Headers about one connection: each side of the proxy has its own."""


@cache
def _authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The test CA: one a session, so that client certificates are trusted by every proxy."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vertex-env test CA")])
    certificate = (
        _unsigned(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _leaf(name: x509.GeneralName, purpose: x509.ObjectIdentifier) -> tuple[str, str]:
    """A certificate for *name* signed by the test CA, and its key, both as PEM.

    The extensions are those that OpenSSL's strict verification asks for, which Python turns on since 3.13:
    https://docs.python.org/3/library/ssl.html#ssl.create_default_context (2026-11-22).
    """
    authority, authority_key = _authority()
    key = ec.generate_private_key(ec.SECP256R1())
    # The name is in the extension only: a common name may not exceed 64 characters, and a host name may.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vertex-env test leaf")])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _unsigned(subject, authority.subject, key.public_key())
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(issuer_key, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM).decode(), _pem(key)


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class GoogleProxy(socketserver.ThreadingTCPServer):
    """A loopback HTTP proxy that answers for Google's hosts itself and refuses every other.

    A client that has `environ` in its environment talks to `https://oauth2.googleapis.com` and the like as always, but
    what arrives is *upstream_url*, as plain HTTP. Requests and answers pass unchanged, streamed, save for the headers
    about the connection; `Host` is upstream's, and the client's is in `X-Original-Host`. Where upstream hangs up in the
    middle of an answer, so does the proxy. Hosts with a label `mtls` insist on a client certificate of the test CA.

    Args:
        upstream_url: Where requests go, such as `http://127.0.0.1:8080`.
        directory: Where to put certificates; made if absent.
    """

    # Tests send herds of clients; socketserver's default of 5 would reset the sixth that is not accepted in time.
    request_queue_size = 128

    def __init__(self, upstream_url: str, directory: Path) -> None:
        self.upstream = urlsplit(upstream_url).netloc
        self.requests: list[tuple[str, str, str]] = []
        """Host, method and path (with the query) of each request, in the order of arrival."""
        self.refused: list[str] = []
        """What else was asked for, as `host:port`, or as the whole URL where the request was not for a tunnel."""
        directory.mkdir(parents=True, exist_ok=True)
        self.ca_file = directory / "ca.pem"
        """The test CA's certificate."""
        self.ca_file.write_bytes(_authority()[0].public_bytes(Encoding.PEM))
        self._directory = directory
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._connections: set[socket.socket] = set()
        self._closing = False
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Client)
        # The default of half a second would be paid by every test on leaving.
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        with self._lock:
            self._closing = True
            for connection in self._connections:
                _hang_up(connection)
        self.server_close()  # waits for the threads, which have nobody left to talk to

    @property
    def url(self) -> str:
        """The proxy's own address, such as `http://127.0.0.1:41234`."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def environ(self) -> dict[str, str]:
        """The variables that lead a client here and nowhere else, whatever the machine has set.

        Plain HTTP is led here as well, where all of it is refused, so that it does not leave the machine unnoticed.
        """
        no_certificates = self._directory / "no-certificates"
        no_certificates.mkdir(exist_ok=True)
        ca_file = str(self.ca_file)
        return {
            "HTTPS_PROXY": self.url,
            "https_proxy": self.url,
            "HTTP_PROXY": self.url,
            "http_proxy": self.url,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "REQUESTS_CA_BUNDLE": ca_file,
            "CURL_CA_BUNDLE": ca_file,
            "SSL_CERT_FILE": ca_file,
            "SSL_CERT_DIR": str(no_certificates),
            "NODE_EXTRA_CA_CERTS": ca_file,
        }

    def context(self, host: str) -> ssl.SSLContext:
        """What *host* speaks TLS with; its certificate is made when it is first asked for."""
        with self._lock:
            if host not in self._contexts:
                self._contexts[host] = self._new_context(host)
            return self._contexts[host]

    def _new_context(self, host: str) -> ssl.SSLContext:
        certificate, key = _leaf(x509.DNSName(host), ExtendedKeyUsageOID.SERVER_AUTH)
        file = self._directory / f"{host}.pem"
        file.write_text(certificate + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.set_alpn_protocols(["http/1.1"])
        if "mtls" in host.split("."):
            context.load_verify_locations(self.ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    @contextmanager
    def held(self, connection: socket.socket) -> Iterator[None]:
        """Make sure that nobody waits for *connection* longer than the proxy lives."""
        with self._lock:
            self._connections.add(connection)
            if self._closing:
                _hang_up(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over that one side hung up, which tests do on purpose; anything else is a bug here, and is shown."""
        if not isinstance(sys.exception(), OSError | HTTPException):
            super().handle_error(request, client_address)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        # SSLSocket's own method would take the TLS state away from the thread that is reading.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Connection(BaseHTTPRequestHandler):
    """A client's connection, plain or decrypted."""

    server: GoogleProxy
    protocol_version = "HTTP/1.1"
    # Headers and body are written one after the other: Nagle's algorithm would hold the body back for 40 ms.
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        pass


class _Client(_Connection):
    """What comes to the proxy's port: requests for a tunnel."""

    def handle(self) -> None:
        with self.server.held(self.connection):
            super().handle()

    def do_CONNECT(self) -> None:
        host, _, port = self.path.lower().rpartition(":")
        if port != "443" or not GOOGLE_HOST.fullmatch(host):
            self.refuse()
            return
        context = self.server.context(host)
        self.send_response_only(HTTPStatus.OK)
        self.end_headers()
        self.close_connection = True
        # Not `do_handshake_on_connect`: the handshake waits for the client, so the connection has to be held by then.
        tls = context.wrap_socket(self.connection, server_side=True, do_handshake_on_connect=False)
        with tls, self.server.held(tls):
            tls.do_handshake()
            _Tunnel(host, tls, self.client_address, self.server)

    def refuse(self) -> None:
        self.server.refused.append(self.path)
        self.send_error(HTTPStatus.FORBIDDEN, "not a host of Google's")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = refuse  # noqa: N815  # http.server's names


class _Tunnel(_Connection):
    """What a client says to a host of Google's."""

    def __init__(
        self, host: str, tls: ssl.SSLSocket, client_address: Any, server: GoogleProxy
    ) -> None:
        self.host = host
        super().__init__(tls, client_address, server)

    def forward(self) -> None:
        # Not `self.path`, where two leading slashes have become one: a wrong URL has to be seen as it was sent.
        path = self.requestline.split()[1]
        self.server.requests.append((self.host, self.command, path))
        body = self.body()
        with closing(HTTPConnection(self.server.upstream)) as upstream:
            try:
                upstream.connect()
            except OSError as error:
                self.send_error(
                    HTTPStatus.BAD_GATEWAY, f"no upstream at {self.server.upstream}: {error}"
                )
                return
            with self.server.held(upstream.sock):
                upstream.putrequest(self.command, path, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in HOP_BY_HOP | {"host", "content-length"}:
                        upstream.putheader(name, value)
                upstream.putheader("X-Original-Host", self.headers.get("Host", ""))
                upstream.putheader("Connection", "close")
                if body is not None:
                    upstream.putheader("Content-Length", str(len(body)))
                upstream.endheaders(body)
                self.answer(upstream.getresponse())

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = forward  # noqa: N815  # http.server's names

    def body(self) -> bytes | None:
        """The request's body, or None if it has none, which is not the same as an empty one."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return b"".join(self.chunks())
        length = self.headers.get("Content-Length")
        return None if length is None else self.all_of(self.rfile.read(int(length)), int(length))

    def chunks(self) -> Iterator[bytes]:
        size = -1
        while size:
            size = int(self.all_of(self.rfile.readline(), 1).partition(b";")[0], 16)
            yield self.all_of(self.rfile.read(size), size)
            self.all_of(self.rfile.readline(), 1)

    def all_of(self, data: bytes, size: int) -> bytes:
        """What was read, provided that it is at least *size* bytes; otherwise it must not pass for a whole request."""
        if len(data) < size:
            raise ConnectionResetError("the client left in the middle of its request")
        return data

    def answer(self, response: HTTPResponse) -> None:
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        # http.client knows a length of 0 for every answer that has no body, such as the one to HEAD.
        chunked = response.length is None
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := response.read1(65536):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        if response.length:
            self.close_connection = (
                True  # cut short by upstream: the client finds out in the same way
            )


Info = dict[str, Any]
"""The content of an ADC file. What a test needs otherwise, it sets: `authorized_user() | {"refresh_token": "…"}`."""

WORKLOAD_AUDIENCE = (
    "//iam.googleapis.com/projects/123456789012/locations/global"
    "/workloadIdentityPools/fake/providers/fake"
)
WORKFORCE_AUDIENCE = "//iam.googleapis.com/locations/global/workforcePools/fake/providers/fake"


def write_adc(path: Path, info: Mapping[str, object]) -> Path:
    """Write *info* to *path* as gcloud does, for the owner only; gives *path* back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(info, indent=2))
    return path


def authorized_user() -> Info:
    """What `gcloud auth application-default login` writes. google-auth overrides its `token_uri`: no base."""
    return {
        "type": "authorized_user",
        "account": "",
        "client_id": "123456789012-fake.apps.googleusercontent.com",
        "client_secret": "fake-client-secret",
        "refresh_token": "1//fake-refresh-token",
        "universe_domain": "googleapis.com",
    }


def service_account(base: str | None = None) -> Info:
    """A service-account key."""
    email = "vertex@sandbox-project.iam.gserviceaccount.com"
    return {
        "type": "service_account",
        "project_id": "sandbox-project",
        "private_key_id": "fake-key-id",
        "private_key": _rsa_key(),
        "client_email": email,
        "client_id": "123456789012345678901",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": _url(TOKEN_URL, base, "/token"),
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        "client_x509_cert_url": f"https://www.googleapis.com/robot/v1/metadata/x509/{email}",
        "universe_domain": "googleapis.com",
    }


def impersonated_service_account(
    source: Info,
    target: str = "target@sandbox-project.iam.gserviceaccount.com",
    delegates: Sequence[str] = (),
) -> Info:
    """What `gcloud auth application-default login --impersonate-service-account` writes.

    google-auth takes only the account from the URL, and asks iamcredentials.googleapis.com: no base.
    """
    return {
        "type": "impersonated_service_account",
        "delegates": list(delegates),
        "service_account_impersonation_url": IAM_URL.format(target),
        "source_credentials": source,
        "universe_domain": "googleapis.com",
    }


def external_account_file(
    subject_file: Path,
    base: str | None = None,
    impersonate: str | None = None,
    lifetime_s: int | None = None,
) -> Info:
    """Workload identity federation with a subject token in *subject_file*, which the caller writes.

    Args:
        subject_file: Where google-auth reads the subject token, as plain text.
        base: Loopback URL in place of Google's.
        impersonate: E-mail address of the service account to become.
        lifetime_s: How long that account's tokens live.
    """
    info = _external_account({"file": str(subject_file)}, base)
    if impersonate is not None:
        iam = IAM_URL.format(impersonate)
        info["service_account_impersonation_url"] = _url(iam, base, urlsplit(iam).path)
    if lifetime_s is not None:
        info["service_account_impersonation"] = {"token_lifetime_seconds": lifetime_s}
    return info


def external_account_url(base: str) -> Info:
    """The same with a subject token from a local server."""
    return _external_account({"url": f"{base}/subject", "headers": {"Metadata": "True"}}, base)


def external_account_executable(
    command: str, base: str | None = None, output_file: Path | None = None
) -> Info:
    """The same with a subject token from a program, run only if `GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1`."""
    executable: dict[str, object] = {"command": command, "timeout_millis": 5000}
    if output_file is not None:
        executable["output_file"] = str(output_file)
    return _external_account({"executable": executable}, base)


def external_account_aws(base: str) -> Info:
    """The same from an EC2 instance, whose metadata server is at *base*."""
    source = {
        "environment_id": "aws1",
        "region_url": f"{base}/latest/meta-data/placement/availability-zone",
        "url": f"{base}/latest/meta-data/iam/security-credentials",
        "imdsv2_session_token_url": f"{base}/latest/api/token",
        # Signed, never called: Google's STS would call it.
        "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
    }
    return _external_account(source, base) | {
        "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request"
    }


def external_account_x509(directory: Path, base: str | None = None) -> Info:
    """The same with a client certificate, which is written to *directory* together with its key and their config file.

    Without *base* the exchange is at sts.mtls.googleapis.com, where `GoogleProxy` insists on that certificate.
    """
    directory.mkdir(parents=True, exist_ok=True)
    name = x509.UniformResourceIdentifier(
        "spiffe://sandbox-project.svc.id.goog/ns/fake/sa/workload"
    )
    certificate, key = _leaf(name, ExtendedKeyUsageOID.CLIENT_AUTH)
    files = {"cert_path": directory / "workload.pem", "key_path": directory / "workload-key.pem"}
    files["cert_path"].write_text(certificate)
    files["key_path"].touch(mode=0o600)
    files["key_path"].write_text(key)
    config = directory / "certificate_config.json"
    config.write_text(
        json.dumps({"cert_configs": {"workload": {key: str(file) for key, file in files.items()}}})
    )
    return _external_account(
        {"certificate": {"certificate_config_location": str(config)}}, base
    ) | {
        "subject_token_type": "urn:ietf:params:oauth:token-type:mtls",
        "token_url": _url("https://sts.mtls.googleapis.com/v1/token", base, "/v1/token"),
    }


def external_account_authorized_user(base: str | None = None) -> Info:
    """What `gcloud auth application-default login --login-config` writes for a person of a workforce pool."""
    return {
        "type": "external_account_authorized_user",
        "audience": WORKFORCE_AUDIENCE,
        "client_id": "fake-client-id",
        "client_secret": "fake-client-secret",
        "refresh_token": "fake-refresh-token",
        "token_url": _url("https://sts.googleapis.com/v1/oauthtoken", base, "/v1/oauthtoken"),
        "token_info_url": _url("https://sts.googleapis.com/v1/introspect", base, "/v1/introspect"),
        "universe_domain": "googleapis.com",
    }


def gdch_service_account(base: str, ca_cert_path: Path | None = None) -> Info:
    """A service identity of Google Distributed Cloud, which has no address of its own in public."""
    return {
        "type": "gdch_service_account",
        "format_version": "1",
        "project": "sandbox-project",
        "private_key_id": "fake-key-id",
        "private_key": _ec_key(),
        "name": "fake-service-identity",
        "ca_cert_path": None if ca_cert_path is None else str(ca_cert_path),
        "token_uri": f"{base}/token",
    }


def _external_account(source: Mapping[str, object], base: str | None) -> Info:
    return {
        "type": "external_account",
        "audience": WORKLOAD_AUDIENCE,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": _url(STS_URL, base, "/v1/token"),
        "token_info_url": _url("https://sts.googleapis.com/v1/introspect", base, "/v1/introspect"),
        "credential_source": dict(source),
        "universe_domain": "googleapis.com",
    }


def _url(production: str, base: str | None, path: str) -> str:
    return production if base is None else base + path


@cache
def _rsa_key() -> str:
    return _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


@cache
def _ec_key() -> str:
    return _pem(ec.generate_private_key(ec.SECP256R1()))


@dataclass(frozen=True, slots=True)
class Completed:
    """How a run of the program ended."""

    status: int
    """As in a shell; negative is the signal that ended it."""
    stdout: str
    stderr: str


def run_cli(
    *args: str,
    env: Mapping[str, str],
    stdin: int | IO[Any] = subprocess.DEVNULL,
    timeout: float = 60,
) -> Completed:
    """Run `vertex-env` with *args* and no variable but those of *env*, in an empty folder.

    Raises:
        subprocess.TimeoutExpired: It ran for more than *timeout* seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-m", "vertex_env", *args]
        ended = subprocess.run(
            command,
            env=env,
            cwd=folder,
            stdin=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    # Decoded here rather than by `text=True`, which would hide carriage returns.
    return Completed(
        ended.returncode,
        *(out.decode(errors="surrogateescape") for out in (ended.stdout, ended.stderr)),
    )


def clean_environ(home: Path) -> dict[str, str]:
    """The variables of a login without Google: nothing of the machine's clouds, proxies or certificates.

    The first gcloud on `PATH` is a fake that fails and leaves `gcloud_marker`.
    """
    folder = home / "fake-gcloud"
    folder.mkdir(parents=True, exist_ok=True)
    gcloud = folder / "gcloud"
    gcloud.write_text(f'#!/bin/sh\necho "$@" >>{shlex.quote(str(gcloud_marker(home)))}\nexit 1\n')
    gcloud.chmod(0o700)
    environ = {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "NO_GCE_CHECK": "true",
        "PATH": os.pathsep.join([str(folder), os.environ["PATH"]]),
    }
    if FORCED in os.environ:
        environ[FORCED] = os.environ[FORCED]
    if "VIRTUAL_ENV" in os.environ:
        environ["VIRTUAL_ENV"] = os.environ["VIRTUAL_ENV"]
    # Tests of a checkout that is not installed import it from `sys.path`, which a child does not inherit.
    imported_from = Path(vertex_env.__file__).parents[1]
    if imported_from != Path(sysconfig.get_path("purelib")):
        environ["PYTHONPATH"] = str(imported_from)
    return environ


def gcloud_marker(home: Path) -> Path:
    """The file that exists if a child with `clean_environ(home)` started gcloud; it holds the arguments."""
    return home / "gcloud-was-started"
