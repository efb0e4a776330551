"""Runs a command, and collects at once what dies beneath it without a parent, as macOS's first process does.

Some containers' first processes collect a second late, or never. On Linux the supervisor collects its orphans itself;
on the back-end for POSIX it waits for another to do it.
"""

import os
import sys
from contextlib import suppress

from tests.support.forking import fork
from vertex_env.run.linux import Linux


def main(command: list[str]) -> int:
    """The exit status of *command*."""
    Linux().collect_orphans()
    child = fork(lambda: os.execvp(command[0], command))
    while True:
        with suppress(KeyboardInterrupt):  # it is the command's to end by it
            pid, status = os.wait()
            if pid == child:
                return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
