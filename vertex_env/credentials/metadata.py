"""The metadata server of Google's machines: whether there is one, and the account it names.

Any host on the local network can answer at the server's address. For that reason it is
asked only if the firmware or the environment says that this is one of Google's
machines.

This module searches with a short timeout, because google-auth's search takes 12 s if
the network drops packets to the address (google-auth 2.62.2, 2026-11-22). google-auth
still mints the tokens.
"""

import http.client
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vertex_env.deadline import in_time
from vertex_env.errors import SettingsError
from vertex_env.transport import Line
from vertex_env.vertex.target import DEFAULT_UNIVERSE, matches

_ADDRESS = "169.254.169.254"
_FLAVOR = {"Metadata-Flavor": "Google"}
_ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default/email"
_FIRMWARE = Path("/sys/class/dmi/id/product_name")

UNIVERSE_VARIABLE = "GOOGLE_CLOUD_UNIVERSE_DOMAIN"
"""Google's own variable. Its client libraries read it, but google-auth does not.

google-api-core `google/api_core/universe.py`, google-auth 2.62.2 (2026-11-24).
"""

NAME_IT = "export GCE_METADATA_HOST=metadata.google.internal"
"""The command that the user runs on a machine of Google's that is not recognized as one."""

_RUNTIMES = (
    "K_SERVICE",  # Cloud Run services and functions; Knative on other clouds
    "CLOUD_RUN_JOB",
    "CLOUD_RUN_WORKER_POOL",
    "GAE_SERVICE",  # App Engine
    "CLOUD_SHELL",
    "KUBERNETES_SERVICE_HOST",  # every Kubernetes pod, on any cloud
)
"""Variables of runtimes that have a metadata server and may hide the firmware.

None of them proves that there is a server: Knative sets the first one on any cloud, and
Kubernetes the last one.
https://cloud.google.com/run/docs/container-contract,
https://cloud.google.com/appengine/docs/standard/python3/runtime,
https://cloud.google.com/shell/docs/configuring-cloud-shell,
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables (2026-11-24).
"""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Answers of a metadata server.

    https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys (2026-11-22).
    """

    host: str
    email: str
    project: str
    universe: str


def is_ruled_out(environ: Mapping[str, str]) -> bool:
    """Whether the user rules out a server: `NO_GCE_CHECK=true`, google-auth's own variable."""
    return environ.get("NO_GCE_CHECK") == "true"


def is_certain(environ: Mapping[str, str]) -> bool:
    """Whether there must be a server: a variable names it, or the firmware is Google's."""
    return bool(environ.get("GCE_METADATA_HOST") or environ.get("GCE_METADATA_IP")) or _is_googles(
        _product()
    )


def is_credible(environ: Mapping[str, str]) -> bool:
    """Whether an answer can be trusted; if not, no server is asked.

    Answers are trusted if there must be a server, or if the runtime usually has one.
    """
    return is_certain(environ) or any(environ.get(name) for name in _RUNTIMES)


def _product() -> str:
    """Return the machine's name in the firmware; empty if there is none.

    Example: `Google Compute Engine`. Containers see the name of their virtual machine.
    gVisor, WSL and macOS have no name.
    """
    with suppress(OSError, ValueError):
        if sys.platform == "win32":
            import winreg

            with winreg.OpenKey(
                winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\BIOS"
            ) as key:
                return str(winreg.QueryValueEx(key, "SystemProductName")[0]).strip()
        return _FIRMWARE.read_text(encoding="ascii").strip()
    return ""


def _is_googles(product: str) -> bool:
    """Whether *product* is a name of Compute Engine; Chromebooks have other names.

    Google's library for Go accepts the same two names:
    https://github.com/googleapis/google-cloud-go, `compute/metadata/` (2026-11-24).
    """
    return product in ("Google", "Google Compute Engine")


def find(environ: Mapping[str, str], timeout_s: float = 1.0) -> Metadata | None:
    """Ask the metadata server; None if no server answers within *timeout_s* per question.

    Proxies are not used, because the address is link-local.

    Raises:
        SettingsError: The server names a universe other than Google's, and the user does not.
    """
    host = environ.get("GCE_METADATA_HOST") or environ.get("GCE_METADATA_IP") or _ADDRESS
    email = _get(host, _ACCOUNT, timeout_s)
    if email is None:
        return None
    project = _get(host, "/computeMetadata/v1/project/project-id", timeout_s)
    universe = _get(host, "/computeMetadata/v1/universe/universe-domain", timeout_s)
    # The universe becomes a part of URLs, so check its shape.
    sound = universe is not None and matches("universe", universe)
    universe = universe if universe and sound else DEFAULT_UNIVERSE
    # The token is sent to this universe, so one answer over plain http is not enough proof.
    if universe != DEFAULT_UNIVERSE and environ.get(UNIVERSE_VARIABLE) != universe:
        raise SettingsError(
            f"the metadata server {host} names the universe {universe!r}, {UNIVERSE_VARIABLE} does not",
            f"if your cloud is that one: export {UNIVERSE_VARIABLE}={universe}",
        )
    return Metadata(host, email, project or "", universe)


def _get(host: str, path: str, timeout_s: float) -> str | None:
    """Read the single word at *path*; None if the answer is anything else or is too slow.

    A captive portal, for example, answers with a page.
    """
    line = Line()

    def ask() -> str | None:
        connection: http.client.HTTPConnection = line.on(http.client.HTTPConnection)(
            host, timeout=timeout_s
        )
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
        return in_time(ask, timeout_s, line.cut)
    except (OSError, http.client.HTTPException, ValueError):
        return None
