"""The harness itself: real requests and real google-auth reach a loopback server under Google's names, and no other."""

import http.client
import json
import socket
import ssl
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from google.auth import load_credentials_from_dict
from google.auth.transport.requests import Request

import vertex_env
from tests.support import loopback as google
from tests.support.loopback import (
    GoogleProxy,
    Info,
    clean_environ,
    gcloud_marker,
    run_cli,
    write_adc,
)
from tests.support.tools import need

TARGET = "target@sandbox-project.iam.gserviceaccount.com"
USER = ("oauth2.googleapis.com", "POST", "/token")
STS = ("sts.googleapis.com", "POST", "/v1/token")
IAM = (
    "iamcredentials.googleapis.com",
    "POST",
    f"/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken",
)


class Upstream(BaseHTTPRequestHandler):
    """As little of Google as the proxy needs to be seen working."""

    protocol_version = "HTTP/1.1"
    second_half = threading.Event()
    """Set by the client of `/stream` once it has the first half."""

    def do_GET(self) -> None:
        answers: dict[str, Callable[[], None]] = {
            "/stream": self.stream,
            "/cut": self.cut,
            "/hang": lambda: self.connection.recv(1),
            "/subject": lambda: self.send(b"fake-subject-token"),
            "/latest/meta-data/placement/availability-zone": lambda: self.send(b"us-east-2b"),
            "/latest/meta-data/iam/security-credentials": lambda: self.send(b"fake-role"),
            "/latest/meta-data/iam/security-credentials/fake-role": lambda: self.send_json(
                {
                    "AccessKeyId": "fake-id",
                    "SecretAccessKey": "fake-secret",
                    "Token": "fake-session",
                }
            ),
        }
        answers.get(self.path, self.echo)()

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()

    def do_PUT(self) -> None:
        self.send(b"fake-imds-token")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        if self.path == "/echo":
            self.echo(body)
        elif self.path.endswith(":generateAccessToken"):
            self.send_json(
                {"accessToken": "ya29.fake-impersonated", "expireTime": "2099-01-01T00:00:00Z"}
            )
        else:
            issued = "urn:ietf:params:oauth:token-type:access_token"
            self.send_json(
                {"access_token": "ya29.fake", "issued_token_type": issued, "expires_in": 3599}
            )

    def echo(self, body: str = "") -> None:
        self.send_json({"path": self.path, "headers": dict(self.headers.items()), "body": body})

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"5\r\nfirst\r\n")
        assert self.second_half.wait(10)
        self.wfile.write(b"6\r\nsecond\r\n0\r\n\r\n")

    def cut(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"not a hundred bytes")
        self.close_connection = True

    def send_json(self, answer: object) -> None:
        self.send(json.dumps(answer).encode())

    def send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class UpstreamServer(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128


@pytest.fixture
def upstream() -> Iterator[str]:
    Upstream.second_half.clear()
    with UpstreamServer(("127.0.0.1", 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(upstream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleProxy]:
    """A proxy that this process is led to, in spite of whatever the machine has set."""
    with GoogleProxy(upstream, tmp_path / "proxy") as proxy:
        for name, value in proxy.environ.items():
            monkeypatch.setenv(name, value)
        yield proxy


# Typed as Any because google-auth's functions are not typed.
load: Any = load_credentials_from_dict


def mint(info: Info) -> str:
    """The token that google-auth gets by *info*, with the transport that it uses by default."""
    made, _ = load(info)
    if info["type"] == "gdch_service_account":
        made = made.with_gdch_audience("https://fake-audience.example")
    with requests.Session() as session:
        made.refresh(Request(session))
    assert isinstance(made.token, str)
    return made.token


def subject_file(path: Path) -> Path:
    file = path / "subject"
    file.write_text("fake-subject-token")
    return file


def subject_command(path: Path) -> str:
    answer = {
        "version": 1,
        "success": True,
        "token_type": "urn:ietf:params:oauth:token-type:jwt",
        "id_token": "fake-subject-token",
    }
    program = path / "subject.py"
    program.write_text(f"print({json.dumps(json.dumps(answer))})")
    return f"{sys.executable} {program}"


# google-auth asks to name the type when credentials come from strangers; here the choice is part of what is shown.
by_type = pytest.mark.filterwarnings(
    "ignore:The load_credentials_from_dict method:DeprecationWarning"
)


@by_type
@pytest.mark.parametrize(
    ("build", "asked"),
    [
        pytest.param(lambda _: google.authorized_user(), [USER], id="authorized_user"),
        pytest.param(lambda _: google.service_account(), [USER], id="service_account"),
        pytest.param(
            lambda _: google.impersonated_service_account(google.authorized_user()),
            [USER, IAM],
            id="impersonated user",
        ),
        pytest.param(
            lambda _: google.impersonated_service_account(google.service_account()),
            [USER, IAM],
            id="impersonated key",
        ),
        pytest.param(
            lambda path: google.external_account_file(subject_file(path)), [STS], id="file"
        ),
        pytest.param(
            lambda path: google.external_account_file(
                subject_file(path), impersonate=TARGET, lifetime_s=600
            ),
            [STS, IAM],
            id="file, impersonated",
        ),
        pytest.param(
            lambda path: google.external_account_executable(subject_command(path)),
            [STS],
            id="executable",
        ),
        pytest.param(
            google.external_account_x509,
            [("sts.mtls.googleapis.com", "POST", "/v1/token")],
            id="x509",
        ),
        pytest.param(
            lambda _: google.external_account_authorized_user(),
            [("sts.googleapis.com", "POST", "/v1/oauthtoken")],
            id="external_account_authorized_user",
        ),
    ],
)
def test_google_auth_reaches_its_production_urls(
    build: Callable[[Path], Info],
    asked: list[tuple[str, str, str]],
    proxy: GoogleProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each kind of credentials mints a token from Google's own addresses, and asks for no others."""
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    assert mint(build(tmp_path)).startswith("ya29.fake")
    assert proxy.requests == asked
    assert proxy.refused == []


@by_type
@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda _, base: google.service_account(base), id="service_account"),
        pytest.param(
            lambda path, base: google.external_account_file(subject_file(path), base), id="file"
        ),
        pytest.param(
            lambda path, base: google.external_account_file(
                subject_file(path), base, impersonate=TARGET
            ),
            id="file, impersonated",
        ),
        pytest.param(lambda _, base: google.external_account_url(base), id="url"),
        pytest.param(lambda _, base: google.external_account_aws(base), id="aws"),
        pytest.param(
            lambda path, base: google.external_account_executable(subject_command(path), base),
            id="executable",
        ),
        pytest.param(google.external_account_x509, id="x509"),
        pytest.param(
            lambda _, base: google.external_account_authorized_user(base),
            id="external authorized user",
        ),
        pytest.param(lambda _, base: google.gdch_service_account(base), id="gdch"),
    ],
)
def test_builders_can_be_redirected_without_the_proxy(
    build: Callable[[Path, str], Info],
    upstream: str,
    proxy: GoogleProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a base URL the credentials ask that server alone; nothing passes through the proxy."""
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert mint(build(tmp_path, upstream)).startswith("ya29.fake")
    assert (proxy.requests, proxy.refused) == ([], [])


def test_mtls_host_insists_on_a_client_certificate(proxy: GoogleProxy) -> None:
    """The X.509 kind would fail if google-auth did not present its certificate."""
    with pytest.raises(requests.ConnectionError):
        requests.post("https://sts.mtls.googleapis.com/v1/token", timeout=10)
    assert proxy.requests == []


HOSTS = [
    "oauth2.googleapis.com",
    "us-central1-aiplatform.googleapis.com",
    "aiplatform.us.rep.googleapis.com",
    "aiplatform.eu.rep.googleapis.com",
    "123.us-central1-456.prediction.vertexai.goog",
    "mg-endpoint-01234567-89ab-cdef-0123-456789abcdef.us-central1-123456789012.prediction.vertexai.goog",
    "aiplatform.s3nsapis.fr",
]


@pytest.mark.parametrize("host", HOSTS)
def test_certificate_is_accepted(host: str, proxy: GoogleProxy) -> None:
    """Names of any number of labels verify, in requests and in OpenSSL at its strictest."""
    echo = requests.get(f"https://{host}/v1/echo?a=b", timeout=10).json()
    assert echo["path"] == "/v1/echo?a=b"
    assert echo["headers"]["X-Original-Host"] == host
    assert echo["headers"]["Host"] == proxy.upstream
    context = ssl.create_default_context(cafile=proxy.ca_file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    connection = tunnel(proxy, host, context)
    connection.request("GET", "//twice")
    assert json.load(connection.getresponse())["path"].endswith("/twice")
    connection.close()
    assert proxy.requests == [(host, "GET", "/v1/echo?a=b"), (host, "GET", "//twice")]


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("https://example.com/", "example.com:443"),
        ("https://googleapis.com.example.com/", "googleapis.com.example.com:443"),
        ("https://evilgoogleapis.com/", "evilgoogleapis.com:443"),
        (
            "https://prediction.vertexai.goog.example.com/",
            "prediction.vertexai.goog.example.com:443",
        ),
        ("https://oauth2.googleapis.com:8443/", "oauth2.googleapis.com:8443"),
    ],
)
def test_other_hosts_are_refused(url: str, refused: str, proxy: GoogleProxy) -> None:
    """A tunnel to anywhere else is refused and remembered."""
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get(url, timeout=10)
    assert proxy.refused == [refused]
    assert proxy.requests == []


def test_plain_http_is_refused(proxy: GoogleProxy) -> None:
    """The metadata server's address, say, is not reached behind the test's back."""
    assert requests.get("http://169.254.169.254/computeMetadata/v1/", timeout=10).status_code == 403
    assert proxy.refused == ["http://169.254.169.254/computeMetadata/v1/"]


def tunnel(
    proxy: GoogleProxy, host: str, context: ssl.SSLContext | None = None
) -> http.client.HTTPSConnection:
    """A connection to *host* whose socket can be watched."""
    context = context or ssl.create_default_context(cafile=proxy.ca_file)
    address = urlsplit(proxy.url)
    connection = http.client.HTTPSConnection(
        str(address.hostname), address.port, timeout=10, context=context
    )
    connection.set_tunnel(host, 443)
    return connection


def test_connections_are_kept_alive(proxy: GoogleProxy) -> None:
    """Requests with and without a body, whole and in chunks, follow each other on one connection."""
    connection = tunnel(proxy, HOSTS[0])
    connection.connect()
    opened = connection.sock
    for method, body, expected in [
        ("POST", b"whole", "whole"),
        ("HEAD", None, None),
        ("POST", iter([b"in ", b"chunks"]), "in chunks"),
        ("GET", None, ""),
        ("POST", b"", ""),
    ]:
        connection.request(method, "/echo", body, encode_chunked=True)
        answer = connection.getresponse().read()
        assert expected is None or json.loads(answer)["body"] == expected
        assert connection.sock is opened
    connection.close()
    assert len(proxy.requests) == 5


def test_herd_is_answered(proxy: GoogleProxy) -> None:
    """Fifty clients at once: none is reset, and each host's certificate is made once."""
    together = threading.Barrier(50)

    def ask(number: int) -> int:
        together.wait(10)
        return requests.post(f"https://{HOSTS[number % len(HOSTS)]}/token", timeout=30).status_code

    with ThreadPoolExecutor(50) as clients:
        assert list(clients.map(ask, range(50))) == [200] * 50
    assert len(proxy.requests) == 50


def test_answers_are_streamed(proxy: GoogleProxy) -> None:
    """The first chunk is with the client before upstream has sent the second."""
    with requests.get(f"https://{HOSTS[1]}/stream", stream=True, timeout=10) as answer:
        chunks = answer.iter_content(None)
        assert next(chunks) == b"first"
        Upstream.second_half.set()
        assert list(chunks) == [b"second"]
    assert proxy.requests == [(HOSTS[1], "GET", "/stream")]


def test_answer_that_upstream_cuts_is_cut(proxy: GoogleProxy) -> None:
    """The proxy neither mends a fault of upstream's nor waits for the rest."""
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        requests.get(f"https://{HOSTS[0]}/cut", timeout=10)
    assert proxy.requests == [(HOSTS[0], "GET", "/cut")]


def test_absent_upstream_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that forgot its server sees why it gets no answer."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with GoogleProxy(f"http://127.0.0.1:{port}", tmp_path) as proxy:
        for name, value in proxy.environ.items():
            monkeypatch.setenv(name, value)
        answer = requests.get(f"https://{HOSTS[0]}/", timeout=10)
    assert answer.status_code == 502
    assert f"no upstream at 127.0.0.1:{port}" in answer.reason


def test_clients_that_leave_are_passed_over(
    upstream: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """At whatever point a client hangs up, or does not, the proxy says nothing and does not wait for it."""
    connect = b"CONNECT oauth2.googleapis.com:443 HTTP/1.1\r\n\r\n"
    waiting = []
    with GoogleProxy(upstream, tmp_path) as proxy:
        address = ("127.0.0.1", urlsplit(proxy.url).port)
        for said in (b"", b"CONN", connect, connect + b"\x16\x03\x01"):
            leaving = socket.create_connection(address)
            leaving.sendall(said)
            # With this option closing is a reset, the rudest way to leave.
            leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            leaving.close()
            staying = socket.create_connection(address)
            staying.sendall(said)
            waiting.append(staying)
        distrustful = tunnel(proxy, HOSTS[0], ssl.create_default_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            distrustful.request("GET", "/echo")
        distrustful.close()
        for said in (
            b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nab",
            b"GET /hang HTTP/1.1\r\n\r\n",
        ):
            for stays in (False, True):
                connection = tunnel(proxy, HOSTS[0])
                connection.connect()
                connection.sock.sendall(said)
                if stays:
                    waiting.append(connection.sock)
                else:
                    connection.close()
    for staying in waiting:
        staying.close()
    assert capfd.readouterr() == ("", "")


def test_real_clients_follow_the_environment(proxy: GoogleProxy, tmp_path: Path) -> None:
    """A child with `clean_environ` and the proxy's variables reaches Google's names, through curl as well."""
    curl = need("curl")
    environ = clean_environ(tmp_path) | proxy.environ
    command = [
        curl,
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "10",
        f"https://{HOSTS[4]}/subject",
    ]
    assert subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False
    ).stdout == ("fake-subject-token")
    assert proxy.requests == [(HOSTS[4], "GET", "/subject")]


def test_clean_environ_has_nothing_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the developer has set for Google, OpenAI, proxies and certificates stays outside."""
    for name in (
        "GOOGLE_CLOUD_PROJECT",
        "CLOUDSDK_CONFIG",
        "OPENAI_API_KEY",
        "VERTEX_ENV_MODEL",
        "HTTPS_PROXY",
    ):
        monkeypatch.setenv(name, "of the machine")
    environ = clean_environ(tmp_path)
    assert "of the machine" not in environ.values()
    assert set(environ) <= {"HOME", "LANG", "NO_GCE_CHECK", "PATH", "PYTHONPATH", "VIRTUAL_ENV"}
    assert environ["HOME"] == str(tmp_path)


def test_started_gcloud_leaves_a_mark(tmp_path: Path) -> None:
    """The gcloud that a child would find is the fake, even in a home whose name needs quoting."""
    home = tmp_path / "it's $HOME"
    environ = clean_environ(home)
    assert not gcloud_marker(home).exists()
    assert (
        subprocess.run("gcloud config get project", shell=True, env=environ, check=False).returncode
        == 1
    )
    assert gcloud_marker(home).read_text() == "config get project\n"


def test_run_cli_runs_the_module_with_that_environment_only(tmp_path: Path) -> None:
    """Arguments, variables, an empty stdin and an empty folder in; status and both streams out, byte for byte."""
    package = tmp_path / "vertex_env"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import json, os, sys\n"
        "print(json.dumps([sys.argv[1:], dict(os.environ), sys.stdin.read(), os.listdir()]), end='\\r\\n')\n"
        "sys.exit('é')\n"
    )
    # The C locale's coercion would add a variable of Python's own.
    environ = {"PYTHONPATH": str(tmp_path), "LC_ALL": "C.UTF-8"}
    ended = run_cli("token", "--format", "json", env=environ)
    assert ended.status == 1
    assert ended.stderr == "é\n"
    assert ended.stdout.endswith("\r\n")
    assert json.loads(ended.stdout) == [["token", "--format", "json"], environ, "", []]


def test_run_cli_finds_the_package_under_test(tmp_path: Path) -> None:
    """In a clean environment too, whether it is installed or not."""
    environ = clean_environ(tmp_path)
    command = [sys.executable, "-P", "-c", "import vertex_env; print(vertex_env.__file__)"]
    ended = subprocess.run(
        command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == vertex_env.__file__


def test_adc_is_for_the_owner_only(tmp_path: Path) -> None:
    """Written as gcloud writes it, in a folder that need not exist."""
    path = tmp_path / "gcloud" / "application_default_credentials.json"
    assert write_adc(path, google.authorized_user()) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == google.authorized_user()
