"""Answers without an end: what is read of them, how long it takes, and what it costs in memory."""

import gzip
import json
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import certifi
import pytest
import requests

from tests.credentials.test_adc import source_of
from tests.support import loopback as google
from tests.support.answers import Answers, Handler, Reply, Route
from tests.support.fakes import PLANTED
from tests.support.loopback import Info, clean_environ, write_adc
from tests.support.processes import until
from vertex_env.credentials.metadata import find
from vertex_env.deadline import in_time
from vertex_env.errors import UnavailableError, VertexEnvError
from vertex_env.transport import MAX_BYTES, Line, TooLargeError, lean_request, read_body
from vertex_env.vertex.endpoints import http_get
from vertex_env.vertex.refusals import Who

MIB = 1 << 20
WHO = Who("authorized_user", None, "a test", None, None)


# --- answers ---


def start(handler: Handler, *headers: str) -> None:
    """The beginning of an answer with *headers*."""
    handler.wfile.write(
        "\r\n".join(
            ("HTTP/1.1 200 OK", "Content-Type: application/json", *headers, "", "")
        ).encode()
    )


def pour(handler: Handler, block: bytes, count: int) -> None:
    """Write *block* again and again, until the client has gone."""
    handler.close_connection = True
    with suppress(OSError):
        for _ in range(count):
            handler.wfile.write(block)


def gigabyte(handler: Handler) -> None:
    """What its length says."""
    start(handler, f"Content-Length: {1 << 30}")
    pour(handler, b" " * MIB, 1024)


def chunks(handler: Handler) -> None:
    """One chunk after the other."""
    start(handler, "Transfer-Encoding: chunked")
    pour(handler, b"100000\r\n" + b" " * MIB + b"\r\n", 4096)


def chunk_size(handler: Handler) -> None:
    """A line with the size of a chunk that does not end."""
    start(handler, "Transfer-Encoding: chunked")
    pour(handler, b"1" * MIB, 4096)


def bomb(handler: Handler) -> None:
    """1 MB that is a gigabyte when it is unpacked."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    first = packer.compress(b" " * MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    second = packer.compress(b" " * MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    start(handler, "Content-Encoding: gzip", f"Content-Length: {len(first) + 1023 * len(second)}")
    pour(handler, first + 1023 * second, 1)


LARGE: Mapping[str, Callable[[Handler], None]] = {
    "length": gigabyte,
    "chunks": chunks,
    "gzip": bomb,
}


class Slow:
    """An answer one byte at a time, of which each sets a socket's time-out back; knows when the client has gone."""

    def __init__(self, beginning: bytes) -> None:
        self._beginning = beginning
        self.gone = threading.Event()

    def __call__(self, handler: Handler) -> None:
        handler.close_connection = True
        with suppress(OSError):
            handler.wfile.write(self._beginning)
            while not handler.server.left.wait(0.02):
                handler.wfile.write(b" ")
        if not handler.server.left.is_set():
            self.gone.set()


SLOW = {
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
    "headers": b"HTTP/1.1 200 OK\r\nX: ",
}


# --- memory ---

MEASURE = """
import sys, time
from vertex_env.cli.main import execute
started = time.monotonic()
status = execute(sys.argv[1:])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(status, time.monotonic() - started, int(peak) // 1024, file=sys.stderr)
"""

needs_proc = pytest.mark.skipif(
    sys.platform != "linux", reason="/proc tells the most memory that was used"
)


def measure(*args: str, env: Mapping[str, str]) -> tuple[int, float, int, str]:
    """Status, seconds and MiB at the peak of the program, and what it said."""
    command = [sys.executable, "-c", MEASURE, *args]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    said, _, last = done.stderr.rstrip("\n").rpartition("\n")
    status, seconds, peak = last.split()
    return int(status), float(seconds), int(peak), said


@pytest.fixture(params=["http.client", "requests"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Variables with which one of the two transports is used, here and in children."""
    for name in (
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    variables = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    if request.param == "requests":
        variables["REQUESTS_CA_BUNDLE"] = certifi.where()
    else:
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def usual(transport: dict[str, str], tmp_path: Path) -> int:
    """MiB that it takes to mint from an answer as it should be."""
    with Answers() as answers:
        status, _, peak, _ = measure("token", env=login(answers, tmp_path, transport))
    assert status == 0
    return peak


def login(answers: Answers, tmp_path: Path, *more: Mapping[str, str]) -> dict[str, str]:
    file = write_adc(tmp_path / "adc.json", google.service_account(answers.url))
    env = clean_environ(tmp_path / "home") | {
        "GOOGLE_APPLICATION_CREDENTIALS": str(file),
        "VERTEX_ENV_STORE": "none",
    }
    for one in more:
        env |= one
    return env


@needs_proc
@pytest.mark.parametrize("answer", LARGE)
def test_memory(answer: str, usual: int, transport: dict[str, str], tmp_path: Path) -> None:
    """A large answer is not read to its end, whatever it comes as, and is told as one."""
    with Answers({"/token": LARGE[answer]}) as answers:
        status, seconds, peak, said = measure("token", env=login(answers, tmp_path, transport))
    host = answers.url.removeprefix("http://")
    assert said == (
        f"vertex-env: error: {host} gave an answer larger than 1 MiB, which was not read to its end\n"
        "vertex-env: hint: that is not how Google answers: check HTTPS_PROXY, and the URLs in the credentials file"
    )
    assert (status, peak < usual + 16, seconds < 5) == (75, True, True), (peak, usual, seconds)


@needs_proc
def test_memory_of_a_line(usual: int, transport: dict[str, str], tmp_path: Path) -> None:
    """The size of a chunk stands in a line, which has a limit as well."""
    with Answers({"/token": chunk_size}) as answers:
        status, seconds, peak, said = measure("token", env=login(answers, tmp_path, transport))
    assert "the connection broke off" in said
    assert (status, peak < usual + 16, seconds < 5) == (75, True, True), (peak, usual, seconds)


@needs_proc
def test_memory_of_a_listing(tmp_path: Path) -> None:
    """Lists may have more, and no more than that."""
    listing = "/v1/projects/sandbox-project/locations/us-central1/endpoints"
    peaks = {}
    routes: dict[str, Route] = {"usual": Reply(body={}), **LARGE}
    for name, route in routes.items():
        with Answers({listing: route}) as answers:
            more = {
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": f"{answers.url}/",
                "VERTEX_ENV_ALLOW_HOST": "127.0.0.1",
                "GOOGLE_CLOUD_PROJECT": "sandbox-project",
            }
            env = login(answers, tmp_path, more)
            status, seconds, peaks[name], said = measure(
                "endpoints", "--location", "us-central1", env=env
            )
        large = name != "usual"
        assert (status, "gave an answer larger than 16 MiB" in said, seconds < 8) == (
            75 if large else 0,
            large,
            True,
        )
    assert max(peaks.values()) < peaks["usual"] + 64, peaks


@needs_proc
@pytest.mark.parametrize("answer", LARGE)
def test_control_requests_alone_keeps_all_of_it(answer: str) -> None:
    """The control: without our limit as much is kept as is sent, 64 MiB here."""
    plain = "import requests, sys; print(len(requests.get(sys.argv[1]).content)); "
    peak = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"

    def some(handler: Handler) -> None:
        body = b" " * (64 * MIB)
        if answer == "gzip":
            body = gzip.compress(body, 1)
            start(handler, "Content-Encoding: gzip", f"Content-Length: {len(body)}")
        elif answer == "chunks":
            start(handler, "Transfer-Encoding: chunked")
            body = b"4000000\r\n" + body + b"\r\n0\r\n\r\n"
        else:
            start(handler, f"Content-Length: {len(body)}")
        pour(handler, body, 1)

    with Answers({"/x": some}) as answers:
        command = [sys.executable, "-c", plain + peak, f"{answers.url}/x"]
        done = subprocess.run(
            command, env={"NO_PROXY": "*"}, capture_output=True, text=True, timeout=60, check=True
        )
    size, kib = map(int, done.stdout.split())
    assert size == 64 * MIB
    assert kib > 80 * 1024


# --- time ---


@pytest.fixture(params=SLOW)
def slow(request: pytest.FixtureRequest) -> Slow:
    return Slow(SLOW[request.param])


def ended(ask: Callable[[], object], slow: Slow, budget_s: float) -> VertexEnvError:
    """The error of *ask*, which keeps to its time, and leaves nobody behind who reads on."""
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="no answer in time") as caught:
        ask()
    assert budget_s - 0.05 < time.monotonic() - started < budget_s + 1
    assert slow.gone.wait(2)
    return caught.value


@pytest.mark.usefixtures("transport")
def test_slow_token(slow: Slow, tmp_path: Path) -> None:
    with Answers({"/token": slow}) as answers:
        source = source_of(google.service_account(answers.url), tmp_path, 0.4)
        ended(source.mint, slow, 0.4)


@pytest.mark.usefixtures("transport")
def test_slow_listing(slow: Slow) -> None:
    with Answers({"/x": slow}) as answers:
        ask = http_get(PLANTED, WHO, None, 0.4)
        ended(lambda: ask(f"{answers.url}/x", {}), slow, 0.4)


def test_slow_metadata_server(slow: Slow) -> None:
    """It is one that does not answer."""
    with Answers({"/computeMetadata/v1/instance/service-accounts/default/email": slow}) as answers:
        started = time.monotonic()
        assert find({"GCE_METADATA_HOST": answers.url.removeprefix("http://")}, 0.3) is None
        assert time.monotonic() - started < 0.8
        assert slow.gone.wait(2)


def test_control_a_time_out_alone_does_not_end_it() -> None:
    """The control: requests' own time-out of 0.3 s is still not over after a second."""
    slow = Slow(SLOW["body"])
    with Answers({"/x": slow}) as answers:
        ask = threading.Thread(
            target=lambda: suppressed(requests.get, f"{answers.url}/x", timeout=0.3), daemon=True
        )
        ask.start()
        ask.join(1)
        assert ask.is_alive()
    until(lambda: not ask.is_alive())


def suppressed(function: Callable[..., object], *args: Any, **more: Any) -> None:
    with suppress(Exception):
        function(*args, **more)


def test_control_a_thread_that_nobody_cuts_reads_on() -> None:
    """The control: left to itself, the thread keeps the connection."""
    slow = Slow(SLOW["body"])
    with Answers({"/x": slow}) as answers:
        with pytest.raises(TimeoutError):
            in_time(lambda: lean_request(Line(), f"{answers.url}/x", "GET", None, None, 5), 0.2)
        assert not slow.gone.wait(1)


def test_one_listing_that_is_cut_leaves_the_others() -> None:
    """Regions are asked at the same time, by threads; each request has connections of its own."""
    slow = Slow(SLOW["body"])

    def late(handler: Handler) -> None:
        handler.server.left.wait(0.8)
        handler.send(Reply(body={"a": 1}))

    with Answers({"/slow": slow, "/late": late}) as answers:
        get, found = http_get(PLANTED, WHO, None, 1.2), list[object]()

        def ask_later() -> None:
            time.sleep(0.7)
            found.append(get(f"{answers.url}/late", {}))

        other = threading.Thread(target=ask_later)
        other.start()
        ended(lambda: get(f"{answers.url}/slow", {}), slow, 1.2)
        assert found == []
        other.join(5)
    assert found == [{"a": 1}]


# --- what is read ---


@pytest.mark.parametrize("size", [0, 1, MAX_BYTES - 1, MAX_BYTES])
@pytest.mark.parametrize("encoding", ["", "gzip", "identity"])
def test_as_much_as_allowed(size: int, encoding: str, tmp_path: Path) -> None:
    content = b"x" * size
    file = tmp_path / "body"
    file.write_bytes(gzip.compress(content, 1) if encoding == "gzip" else content)
    with file.open("rb") as body:
        assert read_body(body.read, encoding, MAX_BYTES) == content


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_one_more(encoding: str, tmp_path: Path) -> None:
    content = b"x" * (MAX_BYTES + 1)
    file = tmp_path / "body"
    file.write_bytes(gzip.compress(content, 1) if encoding == "gzip" else content)
    with file.open("rb") as body, pytest.raises(TooLargeError, match="larger than 1 MiB"):
        read_body(body.read, encoding, MAX_BYTES)


def packed(handler: Handler) -> None:
    body = gzip.compress(json.dumps({"access_token": PLANTED, "expires_in": 3599}).encode())
    start(handler, "Content-Encoding: gzip", f"Content-Length: {len(body)}")
    handler.wfile.write(body)


@pytest.mark.usefixtures("transport")
def test_packed_answer(tmp_path: Path) -> None:
    """Some proxies pack what nobody wants packed."""
    with Answers({"/token": packed}) as answers:
        assert source_of(google.service_account(answers.url), tmp_path).mint().value == PLANTED


@pytest.mark.usefixtures("transport")
def test_damaged_packing(tmp_path: Path) -> None:
    broken = Reply(200, b"no gzip", {"Content-Encoding": "gzip"})
    with (
        Answers({"/token": broken}) as answers,
        pytest.raises(UnavailableError, match="the connection broke off"),
    ):
        source_of(google.service_account(answers.url), tmp_path).mint()


KINDS: Mapping[str, Callable[[str, Path], Info]] = {
    "gdch": lambda base, _: google.gdch_service_account(base),
    "workforce": lambda base, _: (
        google.external_account_authorized_user(base) | {"token_url": f"{base}/token"}
    ),
}


@pytest.fixture
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.mark.usefixtures("_no_proxy")
@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds(kind: str, tmp_path: Path) -> None:
    """Whatever google-auth asks, it asks through our transport."""
    with (
        Answers({"/token": gigabyte}) as answers,
        pytest.raises(UnavailableError, match="larger than 1 MiB"),
    ):
        source_of(KINDS[kind](answers.url, tmp_path), tmp_path).mint()


@needs_proc
def test_metadata_server_that_pours(tmp_path: Path) -> None:
    """Its tokens are asked for by google-auth, through our transport too."""
    root = "/computeMetadata/v1/instance/service-accounts/default"
    genuine = {"Metadata-Flavor": "Google"}
    account = Reply(body={"email": "a@b.c", "aliases": [], "scopes": []}, headers=genuine)
    routes: dict[str, Any] = {
        f"{root}/email": Reply(body=b"a@b.c", headers=genuine),
        f"{root}/": account,
        f"{root}/token": gigabyte,
        f"{root}/a@b.c/token": gigabyte,
    }
    with Answers(routes) as answers:
        host = answers.url.removeprefix("http://")
        env = clean_environ(tmp_path / "home") | {
            "GCE_METADATA_HOST": host,
            "GCE_METADATA_IP": host,
            "NO_GCE_CHECK": "",
        }
        status, seconds, _, said = measure("token", env=env)
    assert (status, seconds < 5) == (75, True)
    assert "gave an answer larger than 1 MiB" in said


# --- what else a process may do with its connections ---


def spoken(folder: Path, env: Mapping[str, str], more: str = "") -> str:
    """What a program that has http.client print its connections shows of a mint and of a list."""
    code = (
        f"import http.client; http.client.HTTPConnection.debuglevel = 1; {more}\n"
        "import vertex_env\n"
        "from vertex_env.vertex import endpoints\n"
        "from vertex_env.vertex.refusals import Who\n"
        "import sys\n"
        "endpoints.http_get(vertex_env.token(), Who('', None, ''), None, 10)(sys.argv[1] + '/v1/list', {})\n"
    )
    base = json.loads((folder / "adc.json").read_text())["token_uri"].removesuffix("/token")
    command = [sys.executable, "-c", code, base]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=60, check=False
    ).stdout


def test_connections_are_not_printed(transport: dict[str, str], tmp_path: Path) -> None:
    """Neither the assertion nor the token."""
    with Answers({"/v1/list": Reply(body={})}) as answers:
        env = login(answers, tmp_path, transport)
        assert spoken(tmp_path, env) == ""
        asked = len(answers.asked)
        # The control.
        shown = spoken(
            tmp_path, env, "from vertex_env import transport as t; t.Line.on = lambda _, base: base"
        )
    assert asked == 2
    assert "assertion=" in shown
    assert f"Bearer {PLANTED}" in shown


def repeats_in_a_header(handler: Handler) -> None:
    """A line of the headers that is none, with what was sent."""
    sent = next(reversed(handler.server.asked))
    secret = sent.fields.get("assertion") or sent.headers["Authorization"]
    start(handler, f"{secret} is no header")
    pour(handler, b"{}", 1)


def logged(folder: Path, env: Mapping[str, str], more: str = "") -> str:
    """What a program that logs everything shows of a mint that fails, and of a list with a token."""
    code = (
        f"import logging; logging.basicConfig(level=1); {more}\n"
        "import sys, vertex_env\n"
        "from vertex_env.vertex import endpoints\n"
        "from vertex_env.vertex.refusals import Who\n"
        "try: vertex_env.token()\n"
        "except vertex_env.VertexEnvError: pass\n"
        f"endpoints.http_get({PLANTED!r}, Who('', None, ''), None, 10)(sys.argv[1] + '/v1/list', {{}})\n"
    )
    base = json.loads((folder / "adc.json").read_text())["token_uri"].removesuffix("/token")
    command = [sys.executable, "-c", code, base]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=60, check=False
    ).stderr


def test_headers_are_not_logged(tmp_path: Path) -> None:
    """urllib3 warns of those that it does not understand, and quotes them."""
    with Answers({"/token": repeats_in_a_header, "/v1/list": repeats_in_a_header}) as answers:
        env = login(answers, tmp_path, {"REQUESTS_CA_BUNDLE": certifi.where()})
        said = logged(tmp_path, env)
        assertion = answers.asked[0].fields["assertion"]
        assert [asked.path for asked in answers.asked] == ["/token", "/v1/list"]
        # The control.
        shown = logged(
            tmp_path, env, "from vertex_env import transport as t; del t._Response.begin"
        )
        other = answers.asked[2].fields["assertion"]
    assert "/v1/list" in said  # it does log
    assert not any(secret in said for secret in (assertion, PLANTED))
    assert all(secret in shown for secret in (other, PLANTED))


def test_no_proxy_for_plain_http_on_loopback(tmp_path: Path) -> None:
    """The proxy is another machine, and would have the assertion and the token in the clear."""
    answers_list = {"/v1/list": Reply(body={})}
    with Answers(answers_list) as answers, Answers(answers_list) as proxy:
        env = login(answers, tmp_path, {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url})
        spoken(tmp_path, env)
        assert (len(answers.asked), len(proxy.asked)) == (2, 0)
        # The controls: the proxy does not know the path, so that the first has no token for a list.
        for count, module in enumerate(("credentials.transport", "vertex.endpoints"), start=1):
            spoken(
                tmp_path, env, f"import vertex_env.{module} as m; m.may_have_proxy = lambda _: True"
            )
            assert len(proxy.asked) == count
        assert "assertion" in proxy.asked[0].fields
        assert proxy.asked[1].headers["Authorization"] == f"Bearer {PLANTED}"
