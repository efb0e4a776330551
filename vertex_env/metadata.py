"""The metadata server of Google's machines: whether there is one, and what it says about the account.

Looked for with a short budget of our own: google-auth's search takes 12 s where the address is black-holed
(google-auth 2.62.2, 2026-11-22). Tokens are minted by google-auth all the same.
"""

import http.client
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vertex_env.target import DEFAULT_UNIVERSE, matches
from vertex_env.transport import Line, in_time

_ADDRESS = "169.254.169.254"
_FLAVOR = {"Metadata-Flavor": "Google"}
_ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default/email"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a metadata server says.

    https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys (2026-11-22).
    """

    host: str
    email: str
    project: str
    universe: str


def is_ruled_out(environ: Mapping[str, str]) -> bool:
    """Whether the user says that there is none: `NO_GCE_CHECK=true`, google-auth's own variable."""
    return environ.get("NO_GCE_CHECK") == "true"


def is_certain(environ: Mapping[str, str]) -> bool:
    """Whether there is one without asking: the variable names it, or the firmware is Google's."""
    if environ.get("GCE_METADATA_HOST") or environ.get("GCE_METADATA_IP"):
        return True
    try:
        return Path("/sys/class/dmi/id/product_name").read_text(encoding="ascii").startswith("Google")
    except (OSError, ValueError):
        return False


def find(environ: Mapping[str, str], timeout_s: float = 1.0) -> Metadata | None:
    """What the metadata server says, or None if none answers within *timeout_s* a question.

    No proxy is asked: the address is link-local.
    """
    host = environ.get("GCE_METADATA_HOST") or environ.get("GCE_METADATA_IP") or _ADDRESS
    email = _get(host, _ACCOUNT, timeout_s)
    if email is None:
        return None
    project = _get(host, "/computeMetadata/v1/project/project-id", timeout_s)
    universe = _get(host, "/computeMetadata/v1/universe/universe-domain", timeout_s)
    # It becomes a part of URLs.
    sound = universe is not None and matches("universe", universe)
    return Metadata(host, email, project or "", universe if universe and sound else DEFAULT_UNIVERSE)


def _get(host: str, path: str, timeout_s: float) -> str | None:
    """The word at *path*; None for anything else, such as a captive portal's page, or an answer that is too slow."""
    line = Line()

    def ask() -> str | None:
        connection: http.client.HTTPConnection = line.on(http.client.HTTPConnection)(host, timeout=timeout_s)
        try:
            connection.request("GET", path, headers=_FLAVOR)
            response = connection.getresponse()
            text = response.read(4096).decode("ascii").strip()
            genuine = response.headers.get("Metadata-Flavor") == "Google"
            sound = re.fullmatch(r"[\w.@:/+-]+", text, re.ASCII)
            return text if response.status == http.client.OK and genuine and sound else None
        finally:
            connection.close()

    try:
        return in_time(ask, timeout_s, line)
    except (OSError, http.client.HTTPException, ValueError):
        return None
