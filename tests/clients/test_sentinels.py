"""The token and the prompt arrive at Vertex AI's hosts only, whatever variables were set before.

Each client runs twice: with the environment that vertex-env gives, and with one cure undone. The
second run shows that the leak is real, and that these tests see it.
"""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.inside import holds
from tests.clients.table import AGENTS_PY, SHELL_GPT, TRAPS, Client, Trap
from tests.clients.world import ROOT, drive, need_namespace

_ASK = """\
import base64, gzip, os, ssl, sys, urllib.error, urllib.request

token, prompt = os.environ["OPENAI_API_KEY"], sys.argv[1]


def send(url, body=None, trust=True, **headers):
    context = None if trust else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which knows no authority
    try:
        urllib.request.urlopen(urllib.request.Request(url, body, headers), context=context, timeout=10).read()
    except OSError as error:
        print(url, error)


@CALLS@
"""
"""A client that makes the requests that a test needs."""


def probe(*calls: str) -> Client:
    """A client that makes *calls* of `send(url, body, trust, **headers)`."""
    return Client(
        "probe",
        None,
        ("@PYTHON@", "ask.py", "@PROMPT@"),
        {"ask.py": _ASK.replace("@CALLS@", "\n".join(calls))},
    )


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_no_token_arrives_anywhere_else(trap: Trap, tmp_path: Path) -> None:
    """With the cure the sandbox answers, and no other host gets the token or the prompt."""
    driven = drive(trap.client, trap.environ, tmp_path)
    assert (driven.answered, driven.leaks) == (True, []), driven


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_without_the_cure_the_sentinel_gets_the_token(trap: Trap, tmp_path: Path) -> None:
    """The control: the same client and variables, except for the cure."""
    driven = drive(trap.client, trap.environ, tmp_path, spoil=trap.spoil)
    assert {(one.host, one.has_token, one.has_prompt) for one in driven.leaks} == {
        (trap.sentinel, True, True)
    }, driven


@pytest.mark.parametrize("client", [AGENTS_PY, SHELL_GPT], ids=lambda client: client.name)
def test_run_gives_the_same_cures(client: Client, tmp_path: Path) -> None:
    """One client needs a variable to be set, the other one needs one to be unset."""
    trap = next(trap for trap in TRAPS if trap.client is client)
    driven = drive(client, trap.environ, tmp_path, way="run")
    assert (driven.answered, driven.leaks) == (True, []), driven


def test_the_user_has_tracing_back(tmp_path: Path) -> None:
    """The user's own `OPENAI_AGENTS_DISABLE_TRACING=0` stays: traces are sent, with the token."""
    driven = drive(AGENTS_PY, {"OPENAI_AGENTS_DISABLE_TRACING": "0"}, tmp_path)
    assert (driven.answered, {one.path for one in driven.leaks}) == (True, {"/v1/traces/ingest"}), (
        driven
    )


# --- the instruments ---


def test_every_leak_is_seen(tmp_path: Path) -> None:
    """In headers, paths and bodies, encoded or not, with TLS or without, or if unreadable."""
    calls = {
        "header": "send('https://header/', Authorization='Bearer ' + token)",
        "clear": "send('http://clear/', Authorization='Bearer ' + token)",
        "path": "send('https://path/?key=' + token)",
        "body": "send('https://body/', ('x' + token).encode())",
        "prompt": "send('https://prompt/', prompt.encode())",
        "gzip": "send('https://gzip/', gzip.compress(token.encode()), **{'Content-Encoding': 'gzip'})",
        "brotli": "send('https://brotli/', token.encode(), **{'Content-Encoding': 'br'})",
        "base64": "send('https://base64/', X=base64.b64encode(b'user:' + token.encode()).decode())",
        "distrust": "send('https://distrust/', trust=False)",
        # Google's, yet not Vertex AI; Vertex AI, yet without TLS.
        "generativelanguage.googleapis.com": "send('https://generativelanguage.googleapis.com/?key=' + token)",
        "aiplatform.googleapis.com": "send('http://aiplatform.googleapis.com/?key=' + token)",
    }
    driven = drive(probe(*calls.values()), {}, tmp_path)
    assert sorted(one.host for one in driven.leaks) == sorted(calls), driven


def test_what_is_harmless_is_no_leak(tmp_path: Path) -> None:
    """Another host may get requests without the token and the prompt."""
    driven = drive(probe("send('https://telemetry.example/', b'version 1.2.3')"), {}, tmp_path)
    assert (driven.leaks, driven.answered) == ([], False)
    assert ("telemetry.example", "/", 401) in {
        (one.host, one.path, one.status) for one in driven.seen
    }
    assert "telemetry.example" in driven.asked


def test_a_client_that_never_asks_has_not_been_answered(tmp_path: Path) -> None:
    """A client that fails at its start does not pass for one that does not leak."""
    driven = drive(probe("sys.exit(3)"), {}, tmp_path)
    assert (driven.status, driven.answered, driven.leaks) == (3, False, [])


@pytest.mark.parametrize(("strict", "outcome"), [("0", "Skipped"), ("1", "Failed")])
def test_a_refused_namespace_is_named(strict: str, outcome: str) -> None:
    """Where the kernel allows no network namespace, a test is skipped; strict, it fails."""
    need_namespace()
    refuse = 'echo 0 >/proc/sys/user/max_net_namespaces && exec "$@"'
    need = "from tests.clients.world import need_namespace as need; need()"
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "sh",
            "-c",
            refuse,
            "sh",
            sys.executable,
            "-c",
            need,
        ],
        cwd=ROOT,
        env={**os.environ, "VERTEX_ENV_TESTS_STRICT": strict},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{outcome}: no network namespace is allowed here (unshare: " in done.stderr


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_pieces_of_a_secret_are_found(before: str) -> None:
    """In base64 at each alignment, in hexadecimal, and from a token that is cut."""
    secret = "ya29.sandbox-1-" + "aB3_-xyZ" * 20
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert holds(encode(f"{before}{secret}!".encode()), secret)
    assert holds(f"{before}{secret[30:120]}".encode(), secret)
    assert holds((before + secret).encode().hex().encode(), secret)
    assert not holds(f"{before}ya29.sandbox-2-{'aB3_-xyY' * 20}".encode(), secret)
