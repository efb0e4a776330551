"""Drives a client in namespaces of its own, where `tests.clients.inside` runs."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from tests.clients.inside import Drive, Job, Seen
from tests.clients.installs import node
from tests.clients.table import Client
from tests.support.tools import missing, need

ROOT = Path(__file__).parents[2]
PROMPT = "Quetzalcoatlus-northropi-19750412"
"""A word that no client has in its own texts."""

WAYS: Mapping[str, Sequence[str]] = {
    "export": ("bash", "-c", 'eval "$(vertex-env export)" && exec "$@"', "bash"),
    "run": ("vertex-env", "run", "--"),
}
"""How a client gets its environment."""

_OWN = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


@cache
def _unshare() -> tuple[Sequence[str], str]:
    """The command that starts another one in new namespaces, or why that is not allowed."""
    said = ""
    for user in (("--user", "--map-root-user"), ()):
        command = ["unshare", *user, *_OWN]
        try:
            done = subprocess.run(
                [*command, "ip", "link", "set", "lo", "up"],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            return [], str(error)
        if done.returncode == 0:
            return command, ""
        said = done.stderr.strip()
    return [], said


def need_namespace() -> Sequence[str]:
    """The command that starts another one in new namespaces; skips the test if refused."""
    for program in ("unshare", "ip", "mount"):
        need(program)
    command, reason = _unshare()
    if not command:
        missing(f"no network namespace is allowed here ({reason})")
    return command


def drive(
    client: Client,
    environ: Mapping[str, str],
    folder: Path,
    *,
    way: str = "export",
    spoil: Sequence[str] = (),
    timeout_s: float = 120,
) -> Drive:
    """Start *client* with vertex-env's variables, in a network where every name answers.

    Args:
        client: Installed, if it is not yet.
        environ: Variables set before vertex-env runs: `{"OPENAI_API_HOST": "api.openai.com"}`.
        folder: An empty folder for the home and the client's files.
        way: A key of `WAYS`.
        spoil: Arguments of `env` that undo a cure: `["-u", "NAME"]`, or `["NAME=value"]`.
        timeout_s: After so many seconds the client is ended, with status 124.

    Returns:
        All requests. The client and the processes that it started have ended.
    """
    command = need_namespace()
    for program in ("bash", "vertex-env"):
        need(program)
    places = {"@PYTHON@": sys.executable, "@PROMPT@": PROMPT}
    if client.install is not None:
        places["@INSTALL@"] = str(client.install.ensure())
        if client.install.registry == "npm":
            places["@NODE@"] = str(node())
    job = Job(
        argv=[*WAYS[way], "env", *spoil, *(_filled(one, places) for one in client.argv)],
        environ=environ,
        files={path: _filled(text, places) for path, text in client.files.items()},
        prompt=PROMPT,
        timeout_s=timeout_s,
    )
    done = subprocess.run(
        [*command, sys.executable, "-m", "tests.clients.inside", str(folder)],
        cwd=ROOT,
        input=json.dumps(asdict(job)),
        capture_output=True,
        text=True,
        timeout=timeout_s + 60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return Drive(**{**found, "seen": [Seen(**one) for one in found["seen"]]})


def _filled(text: str, places: Mapping[str, str]) -> str:
    for name, value in places.items():
        text = text.replace(name, value)
    return text
