"""Numbers, as ratios: `python -m tests.benchmarks [ROUNDS]`.

Each row compares two commands that take turns in one run, on loopback, and gives the ratio of their medians; absolute
times are of this machine and moment only. A partner that is not installed is left out by name. Everything runs in a
clean virtual environment with the wheel, because `.pth` files and editable installs slow down every start of Python.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests import google
from vertex_env.sandbox import Sandbox

ROOT = Path(__file__).parent.parent.parent

# What Google's documentation has people write; the same work as a cold `vertex-env token`.
SNIPPET = """
import google.auth, google.auth.transport.requests
credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(google.auth.transport.requests.Request())
print(credentials.token)
"""


@dataclass(frozen=True)
class Command:
    """What to start, with what environment, and what to do before each start."""

    argv: Sequence[str]
    environ: Mapping[str, str]
    before: Callable[[], None] = lambda: None

    def time(self) -> float:
        """Seconds from start to end."""
        self.before()
        start = time.perf_counter()
        process = os.posix_spawn(
            self.argv[0],
            list(self.argv),
            dict(self.environ),
            file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)],
        )
        _, status = os.waitpid(process, 0)
        seconds = time.perf_counter() - start
        if status != 0:
            done = subprocess.run(self.argv, env=dict(self.environ), capture_output=True, text=True, check=False)
            raise SystemExit(f"{self.argv} failed: {done.stderr}")
        return seconds


def ratio(ours: Command, theirs: Command, rounds: int) -> tuple[float, float, float]:
    """Ratio of medians, and the medians in milliseconds; the two take turns, and two rounds are not counted."""
    pairs = [(ours.time(), theirs.time()) for _ in range(rounds + 2)][2:]
    a, b = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    return a / b, a * 1000, b * 1000


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel."""

    name: str
    programs: Path

    @property
    def python(self) -> str:
        return str(self.programs / "python")

    @property
    def program(self) -> str:
        return str(self.programs / "vertex-env")


def install(folder: Path) -> list[Installed]:
    """The wheel in fresh environments: with the wrapper that current installers write, and with an old pip's."""
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("vertex_env-*.whl")
    found = []
    for name, pip in (("pip >= 25.2", "pip>=25.2"), ("pip 24", "pip==24.0")):
        venv.create(folder / pip, with_pip=True)
        programs = folder / pip / "bin"
        subprocess.run([programs / "python", "-m", "pip", "install", "-q", "-U", pip], check=True)
        subprocess.run([programs / "python", "-m", "pip", "install", "-q", str(wheel)], check=True)
        found.append(Installed(name, programs))
    return found


def row(what: str, against: str, result: tuple[float, float, float], goal: str) -> None:
    """Print one line of the table."""
    value, ours, theirs = result
    print(f"{what:<44} {against:<34} {value:>7.2f} x  {goal:<9} ({ours:.1f} / {theirs:.1f} ms)", flush=True)


def warm(installed: Sequence[Installed], sandbox: Sandbox, folder: Path, rounds: int) -> None:
    """`export` and `token` with a stored token, against starting Python and against gcloud."""
    base = google.clean_environ(folder)
    base.pop("PYTHONPATH", None)
    for each in installed:
        env = sandbox.environ(str(folder / each.name), base)
        floor = Command((each.python, "-c", "pass"), env)
        goal = "<= 1.15" if each.name.startswith("pip >=") else "<= 1.8"
        for arguments in (("export",), ("token",)):
            ours = Command((each.program, *arguments), env)
            ours.time()
            row(f"warm {arguments[0]}", f"python -c pass, {each.name}", ratio(ours, floor, rounds), goal)
    env = sandbox.environ(str(folder / installed[0].name), base)
    ours = Command((installed[0].program, "token"), env)
    gcloud = next((p for p in ("/usr/bin/gcloud", shutil.which("gcloud") or "") if p and os.access(p, os.X_OK)), None)
    if gcloud is None:
        print("(gcloud is not installed)")
        return
    key = google.write_adc(folder / "gcloud-key.json", google.service_account(sandbox.url))
    theirs = {
        **env,
        "PATH": os.environ["PATH"],
        "GOOGLE_APPLICATION_CREDENTIALS": str(key),
        "CLOUDSDK_AUTH_TOKEN_HOST": f"{sandbox.url}/token",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
    }
    print_token = Command((gcloud, "auth", "application-default", "print-access-token"), theirs)
    value, a, b = ratio(ours, print_token, max(3, rounds // 2))
    row("warm token, times faster than", "gcloud print-access-token", (1 / value, a, b), ">= 50")


def cold(installed: Installed, sandbox: Sandbox, folder: Path, rounds: int) -> None:
    """A mint on loopback against the documentation's snippet, for a user and for a service account."""
    base = google.clean_environ(folder)
    base.pop("PYTHONPATH", None)
    env = {**sandbox.environ(str(folder / "cold"), base), "VERTEX_ENV_STORE": "none"}
    kinds = {
        "user": google.external_account_authorized_user(sandbox.url),
        "service account": google.service_account(sandbox.url),
    }
    for name, info in kinds.items():
        path = google.write_adc(folder / f"{name}.json", info)
        environ = {**env, "GOOGLE_APPLICATION_CREDENTIALS": str(path)}
        ours = Command((installed.program, "token"), environ)
        theirs = Command((installed.python, "-c", SNIPPET), environ)
        row(f"cold mint, {name}", "the documentation's snippet", ratio(ours, theirs, rounds), "<= 0.75")


def many_identities(installed: Installed, sandbox: Sandbox, folder: Path, rounds: int) -> None:
    """The warm path with 1,000 stored identities against one."""
    base = google.clean_environ(folder)
    base.pop("PYTHONPATH", None)
    commands = []
    for name in ("one", "thousand"):
        env = sandbox.environ(str(folder / name), base)
        commands.append(Command((installed.program, "export"), env))
        commands[-1].time()
    cache = folder / "thousand" / "cache"
    for kind in (".token", ".answer"):
        (original,) = list(cache.glob(f"*{kind}"))[:1]
        for i in range(999):
            copy = cache / f"{i:0{len(original.stem)}x}{kind}"
            copy.write_bytes(original.read_bytes())
            copy.chmod(0o600)
    row("warm export, 1,000 stored identities", "one", ratio(commands[1], commands[0], rounds), "<= 1.05")


def herd(installed: Installed, sandbox: Sandbox, folder: Path) -> None:
    """200 processes that start cold at once."""
    base = google.clean_environ(folder)
    base.pop("PYTHONPATH", None)
    env = sandbox.environ(str(folder / "herd"), base)
    before = sandbox.counts["token"]
    processes = [
        subprocess.Popen([installed.program, "token"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        for _ in range(200)
    ]
    tokens = {process.communicate()[0] for process in processes}
    asked = sandbox.counts["token"] - before
    print(f"200 processes started cold at once: {asked} token request(s), {len(tokens)} token(s), goal 1")


def main() -> None:
    """Print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vertex-env-benchmarks-")))
        installed = install(folder)
        sandbox = stack.enter_context(Sandbox(lifetime=timedelta(hours=1)))
        print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {rounds} rounds\n")
        print(f"{'what':<44} {'compared with':<34} {'ratio':>9}  goal")
        warm(installed, sandbox, folder, rounds)
        cold(installed[0], sandbox, folder, rounds)
        many_identities(installed[0], sandbox, folder, rounds)
        herd(installed[0], sandbox, folder)


main()
