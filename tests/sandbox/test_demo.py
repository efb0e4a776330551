"""`demo`: the transcript is true, and no more is in it than should be."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.loopback import clean_environ, run_cli
from tests.support.processes import PROGRAM
from vertex_env.sandbox import demo
from vertex_env.sandbox.faults import Fault
from vertex_env.sandbox.server import Sandbox

HOSTILE = {
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "GOOGLE_APPLICATION_CREDENTIALS": "/no/such",
    "VERTEX_ENV_LOCATION": "no such",
    "VERTEX_ENV_RUN_ON_EXPIRY": "frob",
    "OPENAI_API_KEY": "sk-mine",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
}
"""What a user may have set, none of which the demo may see."""


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def test_the_whole_story(tmp_path: Path, temporary: Path) -> None:
    """Mint, export, chat, a restart in time, an old token refused: on any machine, whatever is set there."""
    done = run_cli(
        "demo", env={**clean_environ(tmp_path), **HOSTILE, "TMPDIR": str(temporary)}, timeout=120
    )
    assert (done.status, done.stderr) == (0, "")
    text = done.stdout
    assert [line[0] for line in text.splitlines() if re.match(r"\d\. ", line)] == [
        "1",
        "2",
        "3",
        "4",
    ]
    assert "The sandbox heard: Is anybody there?" in text
    starts = re.findall(r"agent \(start no\. (\d), token good for +(-?\d+\.\d) s\): (.*)", text)
    assert [number for number, _, _ in starts] == sorted(number for number, _, _ in starts)
    assert {number for number, _, _ in starts} == {"0", "1"}
    assert {answer for _, _, answer in starts} == {"The sandbox heard: Still there?"}
    assert text.count("starting the command anew (no. 1)") == 1
    assert text.index("anew (no. 1)") < text.index("start no. 1")
    assert "401 ACCESS_TOKEN_EXPIRED" in text
    assert re.search(
        r"Done in \d+ s: \d tokens minted, \d+ requests answered, none refused under vertex-env\.\n$",
        text,
    )
    assert re.search(r"ya29\.[\w.-]{6,30}\.\.\.\n", text)
    assert not re.search(r"ya29\.[\w-]{40}", text)
    assert list(temporary.iterdir()) == []


def test_a_reader_who_leaves(tmp_path: Path, temporary: Path) -> None:
    """After the first lines the rest is not run for nobody; nothing stays on the disk."""
    with subprocess.Popen(
        [*PROGRAM, "demo"],
        env={**clean_environ(tmp_path), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"A small Google on loopback")
        process.stdout.close()
        began = time.monotonic()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
        assert time.monotonic() - began < 10
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("array", [False, True])
def test_the_client_reads_a_refusal_in_both_shapes(tmp_path: Path, array: bool) -> None:  # noqa: FBT001  # a case
    """Of a 401 it shows the reason; where there is none, the status."""
    with Sandbox(array_401=array, refusals=[Fault(1, 401), Fault(1, 429)]) as google:
        env = google.environ(str(tmp_path), clean_environ(tmp_path))
        env |= {"OPENAI_BASE_URL": f"{google.url}/v1/projects/p/locations/l/endpoints/openapi"}
        env["OPENAI_API_KEY"] = run_cli("token", env=env).stdout.strip()
        asked = [demo._run(env, sys.executable, "-c", demo._ONE_QUESTION).strip() for _ in range(3)]
    assert asked == [
        "401 ACCESS_TOKEN_EXPIRED",
        "429 RESOURCE_EXHAUSTED",
        "The sandbox heard: Is anybody there?",
    ]
