"""A command on a network where something else answers at the metadata server's address; see `test_neighbour.py`.

`unshare -r -n -m python -m tests.support.neighbour UNIVERSE CMD...` runs CMD there and prints as JSON what came
of it, and what was asked. The machine has no firmware, and 169.254.169.254 is all there is to reach.
"""

import fcntl
import json
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.answers import Answers, Reply
from tests.support.fakes import PLANTED

ADDRESS = "169.254.169.254"
ROOT = "/computeMetadata/v1"
EMAIL = "robot@evil-project.iam.gserviceaccount.com"
_FLAVOR = {"Metadata-Flavor": "Google"}

_SIOCSIFADDR, _SIOCSIFFLAGS, _UP = 0x8916, 0x8914, 0x1
"""Linux' `linux/sockios.h` and `linux/if.h`."""


def join() -> None:
    """Give the loopback interface the address, and the name that google-auth asks for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _UP))
        address = struct.pack("16sHH4s8x", b"lo:0", socket.AF_INET, 0, socket.inet_aton(ADDRESS))
        fcntl.ioctl(any_socket, _SIOCSIFADDR, address)
    folder = Path(tempfile.mkdtemp())
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{ADDRESS} metadata.google.internal\n")
    (folder / "empty").mkdir()
    mount(folder / "hosts", Path("/etc/hosts"))
    if Path("/sys/class/dmi/id").exists():
        mount(folder / "empty", Path("/sys/class/dmi/id").resolve())


def mount(source: Path, place: Path) -> None:
    """Let *source* be seen at *place*."""
    subprocess.run(["mount", "--bind", str(source), str(place)], check=True)


def routes(universe: str) -> dict[str, Reply]:
    """A whole metadata server, of the universe *universe*."""
    account = f"{ROOT}/instance/service-accounts"
    facts = {"email": EMAIL, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}
    token = Reply(body={"access_token": PLANTED, "expires_in": 3599}, headers=_FLAVOR)
    return {
        f"{account}/default/email": Reply(body=EMAIL, headers=_FLAVOR),
        f"{account}/default/": Reply(body={**facts, "aliases": ["default"]}, headers=_FLAVOR),
        f"{account}/default/token": token,
        f"{account}/{EMAIL}/token": token,
        f"{ROOT}/project/project-id": Reply(body="evil-project", headers=_FLAVOR),
        f"{ROOT}/universe/universe-domain": Reply(body=universe, headers=_FLAVOR),
    }


def main(universe: str, *command: str) -> None:
    """Run *command*, and tell."""
    join()
    with Answers(routes(universe), (ADDRESS, 80)) as answers:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    asked = [one.path for one in answers.asked]
    told = {"status": ended.returncode, "stdout": ended.stdout, "stderr": ended.stderr}
    print(json.dumps({**told, "asked": asked}))


if __name__ == "__main__":
    main(*sys.argv[1:])
