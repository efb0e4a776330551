"""`metadata`: finding the metadata server, quickly if there is none."""

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.answers import Answers, Handler, Reply
from vertex_env.credentials import metadata
from vertex_env.credentials.metadata import Metadata, find, is_certain, is_credible, is_ruled_out
from vertex_env.errors import SettingsError
from vertex_env.sandbox.server import Sandbox

EMAIL = "/computeMetadata/v1/instance/service-accounts/default/email"
PROJECT = "/computeMetadata/v1/project/project-id"
UNIVERSE = "/computeMetadata/v1/universe/universe-domain"
ROBOT = "robot@p.iam.gserviceaccount.com"


def genuine(text: str, status: int = 200) -> Reply:
    return Reply(status, text, {"Metadata-Flavor": "Google"})


def found(answers: Answers, timeout_s: float = 1, **environ: str) -> Metadata | None:
    return find({"GCE_METADATA_HOST": answers.url.removeprefix("http://"), **environ}, timeout_s)


def test_sandbox() -> None:
    """What the sandbox's server says, with the default for the universe, which it does not know."""
    with Sandbox(lifetime=timedelta(hours=1)) as sandbox:
        host = sandbox.url.removeprefix("http://")
        said = find({"GCE_METADATA_HOST": host})
    assert said == Metadata(
        host, "sandbox@sandbox-project.iam.gserviceaccount.com", "sandbox-project", "googleapis.com"
    )


def test_question() -> None:
    """It is asked as Google wants it: with the header that no browser sends by accident."""
    with Answers(
        {EMAIL: genuine(ROBOT), PROJECT: genuine("p"), UNIVERSE: genuine("s3nsapis.fr")}
    ) as answers:
        said = found(answers, GOOGLE_CLOUD_UNIVERSE_DOMAIN="s3nsapis.fr")
    assert said is not None
    assert (said.email, said.project, said.universe) == (ROBOT, "p", "s3nsapis.fr")
    assert [one.path for one in answers.asked] == [EMAIL, PROJECT, UNIVERSE]
    assert {one.headers["Metadata-Flavor"] for one in answers.asked} == {"Google"}


@pytest.mark.parametrize("name", ["GCE_METADATA_HOST", "GCE_METADATA_IP"])
def test_variables(name: str) -> None:
    """Both of google-auth's variables name it; no proxy is asked."""
    with Answers({EMAIL: genuine(ROBOT)}) as answers:
        environ = {name: answers.url.removeprefix("http://"), "http_proxy": "http://127.0.0.1:9"}
        said = find(environ)
    assert said is not None
    assert said.email == ROBOT


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(200, ROBOT), id="without the flavor: not Google's"),
        pytest.param(genuine("<html>captive portal</html>"), id="HTML"),
        pytest.param(genuine("<!DOCTYPE html>", 404), id="no service account"),
        pytest.param(genuine("later", 503), id="503"),
        pytest.param(genuine(""), id="empty"),
        pytest.param(genuine(f"{ROBOT}\nX: y"), id="two lines"),
        pytest.param(genuine(f"{ROBOT}\x1b[31m"), id="control character"),
        pytest.param(genuine("röbot@p"), id="no ASCII"),
        pytest.param(
            Reply(302, "", {"Location": "http://127.0.0.1:9/", "Metadata-Flavor": "Google"}),
            id="redirect",
        ),
    ],
)
def test_not_a_metadata_server(reply: Reply) -> None:
    """What answers in its place is not taken for it, and asked nothing else."""
    with Answers({EMAIL: reply}) as answers:
        assert found(answers) is None
    assert len(answers.asked) == 1


@pytest.mark.parametrize(
    "universe", ["evil.example/x", "localhost", "a..b", "@evil.example", "x" * 5000]
)
def test_universe_that_would_break_urls(universe: str) -> None:
    """It becomes a part of URLs, so it has to look like a domain."""
    with Answers({EMAIL: genuine(ROBOT), UNIVERSE: genuine(universe)}) as answers:
        said = found(answers)
    assert said is not None
    assert (said.universe, said.project) == ("googleapis.com", "")


@pytest.mark.parametrize("named", ["", "googleapis.com", "other.example", "EVIL.example"])
def test_another_universe_wants_to_be_named(named: str) -> None:
    """The token is sent to its hosts, and the answer came over plain http."""
    with (
        Answers({EMAIL: genuine(ROBOT), UNIVERSE: genuine("evil.example")}) as answers,
        pytest.raises(SettingsError, match=r"names the universe 'evil\.example'") as caught,
    ):
        found(answers, GOOGLE_CLOUD_UNIVERSE_DOMAIN=named)
    hint = "if your cloud is that one: export GOOGLE_CLOUD_UNIVERSE_DOMAIN=evil.example"
    assert caught.value.hint == hint


def test_google_universe_needs_no_variable() -> None:
    """Most machines say so, or do not know the question."""
    with Answers({EMAIL: genuine(ROBOT), UNIVERSE: genuine("googleapis.com")}) as answers:
        said = found(answers)
    assert said is not None
    assert said.universe == "googleapis.com"


@pytest.fixture
def black_hole() -> Iterator[str]:
    """An address that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_black_hole(black_hole: str) -> None:
    """No answer costs the time-out once, not for each of the questions."""
    started = time.monotonic()
    assert find({"GCE_METADATA_HOST": black_hole}, 0.2) is None
    assert 0.15 < time.monotonic() - started < 0.4


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def talk_nonsense(handler: Handler) -> None:
    handler.wfile.write(b"garbage\r\n\r\n")
    handler.close_connection = True


@pytest.mark.parametrize("answer", [hang_up, talk_nonsense])
def test_nonsense(answer: object) -> None:
    """Something else listens at that address."""
    with Answers({EMAIL: answer}) as answers:  # type: ignore[dict-item]
        assert found(answers) is None


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:9", "http://127.0.0.1", "127.0.0.1:x", "a b", "a\nb", "[", ":", "127.0.0.1:99999"],
)
def test_host_that_is_none(host: str) -> None:
    """A variable with nonsense in it, or an address where nobody listens, is a server that is not there."""
    assert find({"GCE_METADATA_HOST": host}, 0.2) is None


# --- whether it is asked ---


@pytest.fixture
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kernel shows of the firmware's name for the machine; absent at first."""
    path = tmp_path / "product_name"
    monkeypatch.setattr(metadata, "_FIRMWARE", path)
    return path


@pytest.mark.parametrize(
    ("environ", "certain", "credible"),
    [
        pytest.param({}, False, False, id="nothing"),
        pytest.param({"GCE_METADATA_HOST": "h"}, True, True, id="GCE_METADATA_HOST"),
        pytest.param({"GCE_METADATA_IP": "h"}, True, True, id="GCE_METADATA_IP"),
        pytest.param({"GCE_METADATA_HOST": ""}, False, False, id="empty"),
        pytest.param({"K_SERVICE": "s"}, False, True, id="Cloud Run or Knative"),
        pytest.param({"CLOUD_RUN_JOB": "j"}, False, True, id="Cloud Run job"),
        pytest.param({"CLOUD_RUN_WORKER_POOL": "w"}, False, True, id="Cloud Run worker pool"),
        pytest.param({"GAE_SERVICE": "default"}, False, True, id="App Engine"),
        pytest.param({"CLOUD_SHELL": "true"}, False, True, id="Cloud Shell"),
        pytest.param({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False, True, id="a pod"),
        pytest.param({"K_SERVICE": ""}, False, False, id="empty K_SERVICE"),
        pytest.param({"GOOGLE_CLOUD_PROJECT": "p"}, False, False, id="a project is no machine"),
    ],
)
@pytest.mark.usefixtures("firmware")
def test_what_variables_say(environ: dict[str, str], *, certain: bool, credible: bool) -> None:
    """Whether it must answer, and whether it may be believed, are two questions."""
    assert (is_certain(environ), is_credible(environ)) == (certain, credible)


@pytest.mark.parametrize(
    ("content", "googles"),
    [
        (b"Google Compute Engine\n", True),
        (b"Google\n", True),
        (b"Google Pixelbook\n", False),
        (b"Eve\n", False),
        (b"Standard PC (Q35 + ICH9, 2009)\n", False),
        (b"Not Google\n", False),
        (b"", False),
        (b"\xff\xfe", False),
    ],
)
def test_what_the_firmware_says(firmware: Path, content: bytes, *, googles: bool) -> None:
    """Compute Engine's name for a machine makes a metadata server certain; nothing else does."""
    firmware.write_bytes(content)
    assert (is_certain({}), is_credible({})) == (googles, googles)


class FakeRegistry(ModuleType):
    """Windows' `winreg` with one value, which the firmware gave."""

    HKEY_LOCAL_MACHINE = object()

    def __init__(self, product: object) -> None:
        super().__init__("winreg")
        self._product = product

    def OpenKey(self, root: object, path: str) -> AbstractContextManager[str]:  # noqa: N802
        """The key, which is its path."""
        assert root is self.HKEY_LOCAL_MACHINE
        return nullcontext(path)

    def QueryValueEx(self, key: str, name: str) -> tuple[object, int]:  # noqa: N802
        """The value and its type."""
        if self._product is None:
            raise FileNotFoundError
        assert (key, name) == (r"HARDWARE\DESCRIPTION\System\BIOS", "SystemProductName")
        return self._product, 1


@pytest.mark.parametrize(
    ("product", "googles"),
    [("Google Compute Engine", True), ("Virtual Machine", False), (None, False)],
)
def test_what_windows_says(
    product: str | None, *, googles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the registry has what the firmware says."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "winreg", FakeRegistry(product))
    assert is_certain({}) is googles


@pytest.mark.parametrize(("value", "ruled_out"), [("true", True), ("1", False), ("", False)])
def test_ruled_out(value: str, *, ruled_out: bool) -> None:
    """google-auth knows only `true`."""
    assert is_ruled_out({"NO_GCE_CHECK": value}) is ruled_out
