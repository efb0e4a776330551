"""Runs the command line many times with a token where none belongs; each time in a fork, which is soon over.

`python -m tests.support.misplaced [--bare]` reads cases as JSON from stdin and prints, as JSON, what each has said
and what is in the files that it has left. With `--bare` nothing is hidden
and no value is refused for what it looks like.
"""

import functools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.support.forking import fork
from vertex_env import redaction
from vertex_env.cli import main as cli
from vertex_env.cli import output
from vertex_env.cli import status as status_command
from vertex_env.settings import kinds
from vertex_env.vertex import refusals


def take_protection_off() -> None:
    """Have tokens repeated wherever they were before there was any redaction."""

    for module in (redaction, output, status_command, refusals):
        setattr(module, "hide", str)  # noqa: B010 -- not an attribute that mypy knows
    setattr(kinds, "looks_secret", lambda _: False)  # noqa: B010
    setattr(redaction.Secrets, "redact", lambda _, text: text)  # noqa: B010


def main() -> None:
    """Run them all."""
    import google.auth  # noqa: PLC0415 -- once, not in each fork
    import google.oauth2.credentials  # noqa: F401, PLC0415

    cases: list[dict[str, Any]] = json.loads(sys.stdin.read() or "[]")
    if "--bare" in sys.argv:
        take_protection_off()
    results = []
    for number, case in enumerate(cases):
        home = Path(case["home"]) / str(number)
        home.mkdir(parents=True)
        said = home.with_suffix(".said")
        os.waitpid(fork(functools.partial(become, case, home, said)), 0)
        files = [path for path in home.rglob("*") if path.is_file() and path.name != "config.toml"]
        left = "".join(path.read_text(errors="replace") for path in files)
        results.append([said.read_text(errors="replace"), left])
    print(json.dumps(results))


def become(case: dict[str, Any], home: Path, said: Path) -> None:
    """The program with the arguments, the environment and the config.toml of *case*."""
    status = 1
    try:
        os.chdir(home)
        signal.alarm(30)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        config = home / "config.toml"
        config.write_text(case["config"])
        own = {
            "HOME": str(home),
            "VERTEX_ENV_CONFIG": str(config),
            "VERTEX_ENV_CACHE_DIR": str(home / "cache"),
        }
        os.environ.clear()
        os.environ.update(own | case["environ"])
        sys.argv = ["vertex-env", *case["args"]]
        sys.orig_argv = [sys.executable, "-P", "-m", "vertex_env", *case["args"]]
        status = cli.execute(case["args"])
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    sys.exit(status)


if __name__ == "__main__":
    main()
