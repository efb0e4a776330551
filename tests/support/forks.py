"""The program in forked processes: a hundred runs in the time that one interpreter takes to start.

`Forks` starts a fresh interpreter that imports everything once, and forks it for each run. To the program that is a
process like any other, with arguments, variables, pipes and a parent of its own, whose name can be chosen.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tests.support.forking import fork


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    status: int
    stdout: str
    stderr: str
    hit: bool
    """Whether it ended on the warm path."""


class Forks:
    """Runs of the program, from entering the context until leaving it.

    Args:
        environ: Variables while the libraries are imported; google-auth reads some then.
        folder: Where runs take place.
    """

    def __init__(self, environ: Mapping[str, str], folder: str) -> None:
        self._environ = environ
        self._folder = folder

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.support.forks"],
            env={**self._environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(
        self, *args: str, env: Mapping[str, str], warm: bool = True, caller: str = "python"
    ) -> Ended:
        """Run it once, from its console entry point or, unless *warm*, as the command line that it else becomes."""
        return self.run_at_once(1, *args, env=env, warm=warm, caller=caller)[0]

    def run_at_once(
        self,
        count: int,
        *args: str,
        env: Mapping[str, str],
        warm: bool = True,
        caller: str = "python",
    ) -> list[Ended]:
        """Run it *count* times at once."""
        order = {"count": count, "args": args, "env": dict(env), "warm": warm, "caller": caller}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answers = json.loads(self._process.stdout.readline())
        return [
            Ended(a["status"], _text(a["stdout"]), _text(a["stderr"]), a["hit"]) for a in answers
        ]


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode("utf-8", "surrogateescape")


def _serve() -> None:
    import google.auth.compute_engine  # noqa: PLC0415
    import google.auth.external_account_authorized_user  # noqa: PLC0415
    import google.auth.transport.requests  # noqa: F401, PLC0415

    import vertex_env.cli.main  # noqa: PLC0415
    import vertex_env.entry  # noqa: F401, PLC0415

    for line in sys.stdin:
        order = json.loads(line)
        with open("/proc/self/comm", "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(order["caller"])
        runs = [_start(order) for _ in range(order["count"])]
        print(json.dumps([_finish(*run) for run in runs]), flush=True)


def _start(order: dict[str, Any]) -> tuple[int, list[int]]:
    """Fork; the child's process ID, and files for its stdout, its stderr, and a byte if it took the ordinary path."""
    files = [os.memfd_create("run") for _ in range(3)]

    def child() -> None:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(files[0], 1)
        os.dup2(files[1], 2)
        sys.exit(_child(order["args"], order["env"], files[2], warm=order["warm"]))

    return fork(child), files


def _child(args: Sequence[str], env: Mapping[str, str], missed: int, *, warm: bool) -> int:
    from vertex_env import entry  # noqa: PLC0415
    from vertex_env.cli import main as cli  # noqa: PLC0415

    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["vertex-env", *args]
    status: Any = 99
    command_line = cli.execute

    def execute(args: list[str]) -> int:
        os.write(missed, b"!")
        return command_line(args)

    cli.execute = execute
    try:
        if warm:
            entry.main()
        status = cli.execute(list(args))
    except SystemExit as e:
        status = e.code
    sys.stdout.flush()
    return int(status or 0)


def _finish(pid: int, files: Sequence[int]) -> dict[str, object]:
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    texts = []
    for fd in files:
        texts.append(base64.b64encode(os.pread(fd, 1 << 20, 0)).decode())
        os.close(fd)
    return {"status": status, "stdout": texts[0], "stderr": texts[1], "hit": not texts[2]}


if __name__ == "__main__":
    _serve()
