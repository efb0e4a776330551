"""Runs the suite as on a machine with Python, git and the base system only.

`python -m tests.support.bare [ARGUMENT...]` passes its arguments to pytest. `PATH` is a folder of links
then, so that no program outside the base system is found. Skips are allowed here and only here,
but most tests have to run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from xml.etree import ElementTree as ET

LEAST = 0.6
"""The share of the tests that has to run."""

# A line each: coreutils; the other packages that Debian 12 calls essential or required, as far as
# scripts use them (`dpkg-query -W -f '${Essential} ${Priority} ${Package}\n'`, 2026-11). There is no
# procps (ps), no curl, no shell but dash and bash.
BASE = """
    [ arch b2sum base32 base64 basename basenc cat chgrp chmod chown cksum comm cp csplit cut date dd
    df dir dircolors dirname du echo env expand expr factor false fmt fold groups head hostid id
    install join link ln logname ls md5sum mkdir mkfifo mknod mktemp mv nice nl nohup nproc numfmt od
    paste pathchk pinky pr printenv printf ptx pwd readlink realpath rm rmdir runcon seq sha1sum
    sha224sum sha256sum sha384sum sha512sum shred shuf sleep sort split stat stdbuf stty sum sync tac
    tail tee test timeout touch tr true truncate tsort tty uname unexpand uniq unlink users vdir wc who
    whoami yes
    bash dash sh
    awk cmp diff diff3 egrep fgrep find grep gunzip gzip hostname mawk perl sdiff sed tar xargs zcat
    run-parts tempfile which
    getconf getent iconv ldd locale localedef
    clear infocmp reset tabs tic toe tput tset
    chrt dmesg findmnt flock getopt ionice ipcmk ipcrm ipcs logger lsblk lscpu lsipc lslocks lsns more
    mount mountpoint namei nsenter partx prlimit renice rev script scriptreplay setarch setpriv setsid
    setterm su taskset umount unshare whereis
""".split()  # noqa: SIM905 -- a table


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the tests."""

    passed: int
    skipped: int
    failed: int

    @classmethod
    def read(cls, report: Path) -> Self:
        """From a report in JUnit's format."""
        suites = list(ET.parse(report).getroot().iter("testsuite"))
        names = ("tests", "skipped", "failures", "errors")
        tests, skipped, failures, errors = (
            sum(int(suite.get(name, "0")) for suite in suites) for name in names
        )
        return cls(tests - skipped - failures - errors, skipped, failures + errors)

    @property
    def ran(self) -> float:
        """The share of the tests that was not skipped, from 0 to 1."""
        ran = self.passed + self.failed
        return ran / (ran + self.skipped) if ran else 0.0


def fill(folder: Path, path: str | None = None) -> None:
    """Make links in *folder* to the base system's tools, git and this Python.

    Args:
        folder: An empty one.
        path: Where the tools are, as in `PATH`; that by default.
    """
    for name in (*BASE, "git"):
        if found := shutil.which(name, path=path):
            (folder / name).symlink_to(Path(found).absolute())
    for name in ("python3", "python"):
        # Not the one of a virtual environment, whose folder may have any program.
        (folder / name).symlink_to(Path(sys._base_executable).resolve())  # type: ignore[attr-defined]


def environ_for(folder: Path, base: Mapping[str, str]) -> dict[str, str]:
    """The variables of a run with *folder* as its `PATH`: skips are allowed."""
    kept = {name: value for name, value in base.items() if not name.startswith("VERTEX_ENV_TESTS_")}
    return {**kept, "PATH": str(folder)}


def main(arguments: Sequence[str], base: Mapping[str, str] = os.environ) -> int:
    """Run them; the exit status."""
    with tempfile.TemporaryDirectory(prefix="vertex-env-bare-") as name:
        folder, report = Path(name) / "bin", Path(name) / "report.xml"
        folder.mkdir()
        folder.parent.chmod(0o755)  # some tests become another user
        fill(folder)
        command = [sys.executable, "-m", "pytest", f"--junit-xml={report}", *arguments]
        status = subprocess.run(command, env=environ_for(folder, base), check=False).returncode
        counts = Counts.read(report) if report.exists() else Counts(0, 0, 0)
    print(f"bare machine: {counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped")
    if counts.ran < LEAST:
        print(
            f"bare machine: only {counts.ran:.0%} of the tests ran, of {LEAST:.0%} that have to",
            file=sys.stderr,
        )
        return status or 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
