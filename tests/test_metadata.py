"""`metadata`: finding the metadata server, quickly if there is none."""

import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.answers import Answers, Handler, Reply
from vertex_env.metadata import Metadata, find, is_certain, is_ruled_out
from vertex_env.sandbox import Sandbox

EMAIL = "/computeMetadata/v1/instance/service-accounts/default/email"
PROJECT = "/computeMetadata/v1/project/project-id"
UNIVERSE = "/computeMetadata/v1/universe/universe-domain"
ROBOT = "robot@p.iam.gserviceaccount.com"


def genuine(text: str, status: int = 200) -> Reply:
    return Reply(status, text, {"Metadata-Flavor": "Google"})


def found(answers: Answers, timeout_s: float = 1) -> Metadata | None:
    return find({"GCE_METADATA_HOST": answers.url.removeprefix("http://")}, timeout_s)


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
    with Answers({EMAIL: genuine(ROBOT), PROJECT: genuine("p"), UNIVERSE: genuine("s3nsapis.fr")}) as answers:
        said = found(answers)
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
        pytest.param(Reply(302, "", {"Location": "http://127.0.0.1:9/", "Metadata-Flavor": "Google"}), id="redirect"),
    ],
)
def test_not_a_metadata_server(reply: Reply) -> None:
    """What answers in its place is not taken for it, and asked nothing else."""
    with Answers({EMAIL: reply}) as answers:
        assert found(answers) is None
    assert len(answers.asked) == 1


@pytest.mark.parametrize("universe", ["evil.example/x", "localhost", "a..b", "@evil.example", "x" * 5000])
def test_universe_that_would_break_urls(universe: str) -> None:
    """It becomes a part of URLs, so it has to look like a domain."""
    with Answers({EMAIL: genuine(ROBOT), UNIVERSE: genuine(universe)}) as answers:
        said = found(answers)
    assert said is not None
    assert (said.universe, said.project) == ("googleapis.com", "")


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
    "host", ["127.0.0.1:9", "http://127.0.0.1", "127.0.0.1:x", "a b", "a\nb", "[", ":", "127.0.0.1:99999"]
)
def test_host_that_is_none(host: str) -> None:
    """A variable with nonsense in it, or an address where nobody listens, is a server that is not there."""
    assert find({"GCE_METADATA_HOST": host}, 0.2) is None


@pytest.mark.parametrize(
    ("environ", "ruled_out", "certain"),
    [
        pytest.param({"NO_GCE_CHECK": "true"}, True, None, id="NO_GCE_CHECK=true"),
        pytest.param({"NO_GCE_CHECK": "1"}, False, None, id="google-auth knows only true"),
        pytest.param({"GCE_METADATA_HOST": "h"}, False, True, id="GCE_METADATA_HOST"),
        pytest.param({"GCE_METADATA_IP": "h"}, False, True, id="GCE_METADATA_IP"),
        pytest.param({"GCE_METADATA_HOST": ""}, False, None, id="empty"),
    ],
)
def test_what_is_known_without_asking(environ: dict[str, str], *, ruled_out: bool, certain: bool | None) -> None:
    """The user can rule it out or name it; otherwise the firmware tells (None here: it depends on the machine)."""
    assert is_ruled_out(environ) is ruled_out
    firmware = Path("/sys/class/dmi/id/product_name")
    is_google = firmware.exists() and firmware.read_text().startswith("Google")
    assert is_certain(environ) is (is_google if certain is None else certain)
