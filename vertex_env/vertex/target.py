"""Where requests go: project, location, endpoint, and the base URL made of them.

The shapes of Google's URLs are the tables below, each with its source. Nothing enters a URL before it has passed a
pattern, here or in its setting's row.
"""

import re
from dataclasses import dataclass
from typing import Literal, assert_never
from urllib.parse import urlsplit

from vertex_env.errors import SettingsError

Api = Literal["chat", "responses"]

DEFAULT_UNIVERSE = "googleapis.com"

MULTI_REGIONS = ("us", "eu")
"""Locations served by jurisdictional hosts; `us-aiplatform…` and `eu-aiplatform…` are no names.

google-genai 3.4.0 `_api_client.py` _MULTI_REGIONAL_LOCATIONS, google-cloud-aiplatform 2.7.0 `constants/base.py`
MREP_JURISDICTIONS (2026-11-22).
"""

NO_REGIONS = ("global", *MULTI_REGIONS)
"""Locations that have no self-deployed endpoints."""

GOOGLE_DOMAINS = ("googleapis.com", "vertexai.goog")
"""Domains whose hosts only Google runs: the APIs, and the dedicated hosts of self-deployed endpoints
(`ID.REGION-NUMBER.prediction.vertexai.goog`, google-cloud-aiplatform 2.7.0 `aiplatform_v1/types/endpoint.py`,
2026-11-22)."""

LOCATION = r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?"

_PATTERNS = {
    "location": LOCATION,
    # https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints/create, parameter
    # endpointId (2026-11-22): digits, or up to 63 of [a-z0-9-] that start with a letter.
    "endpoint ID": r"[0-9]{1,20}|[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?",
    "universe": r"[a-z0-9-]+(?:\.[a-z0-9-]+)+",
    # Names that DNS has, in lower case as Google writes them; no port.
    "host": r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?",
}
"""Shapes of what Google answers and of credentials; those of settings are in their rows."""

_ZONE = re.compile(r"[a-z]+-[a-z]+[0-9]+-[a-z]")
_URL = re.compile(
    r"https?://(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~:@%+=,-]+)*/?"
)

_MAX_LENGTH = 256
"""Longer than any of these names may be at Google; what is longer has been pasted by mistake."""


def matches(what: str, value: str) -> bool:
    """Whether *value* has the shape of *what*, such as `matches("location", "us-central1")`."""
    return fits(_PATTERNS[what], value)


def fits(shape: str, value: str, flags: int = re.ASCII) -> bool:
    """Whether all of *value* matches the regular expression *shape*, and is no longer than a name may be."""
    return len(value) <= _MAX_LENGTH and re.fullmatch(shape, value, flags) is not None


def is_zone(location: str) -> bool:
    """Whether *location* is a Compute Engine zone (`us-central1-a`), which Vertex AI does not know."""
    return _ZONE.fullmatch(location) is not None


def is_loopback(host: str) -> bool:
    """Whether *host* can only be this machine."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(?:\.[0-9]{1,3}){3}", host) is not None


def may_have_proxy(url: str) -> bool:
    """Whether `HTTP_PROXY` and the like may hold for *url*: not for plain http on loopback.

    requests asks a proxy for that too, on another machine and in the clear.
    """
    parts = urlsplit(url)
    return parts.scheme == "https" or not is_loopback(parts.hostname or "")


def origin_of(url: str) -> str:
    """Scheme and host of *url*, such as `https://aiplatform.googleapis.com`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def check_url(
    url: str, *, what: str, allowed: tuple[str, ...], universe: str = DEFAULT_UNIVERSE
) -> str:
    """*url* without a trailing slash, if an access token may be sent there.

    Args:
        url: Such as `https://aiplatform-psc.p.googleapis.com/v1/projects/P/locations/L/endpoints/openapi`.
        what: Whose value it is, for the message: `--base-url`, `api_endpoint_overrides/aiplatform from …`.
        allowed: Hosts that the user named with `--allow-host`, besides Google's.
        universe: The credentials' universe domain, whose hosts count as Google's.

    Raises:
        SettingsError: It is not a plain URL, its host is neither Google's nor allowed, or it is http to another
            machine.
    """
    shown = re.sub(r"//[^/]*@", "//[hidden]@", url)  # a password may be in it
    example = "give a URL such as https://aiplatform.googleapis.com/v1/projects/P/locations/global/endpoints/openapi"
    if _URL.fullmatch(url) is None:
        raise SettingsError(f"{what} is not a plain http(s) URL: {shown!r}", example)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as e:
        raise SettingsError(f"{what} is not a URL: {shown!r} ({e})", example) from e
    written = f"[{host}]" if ":" in host else host
    google = any(host.endswith("." + domain) for domain in (*GOOGLE_DOMAINS, universe))
    if not (google or written in [name.lower() for name in allowed]):
        raise SettingsError(
            f"{what} would send the access token to {host!r}, which is not a Google host",
            f"if that host is yours and meant, add --allow-host {written}",
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise SettingsError(
            f"{what} would send the access token to {host!r} in the clear",
            "use https; plain http is for loopback only",
        )
    return url.rstrip("/")


def api_host(location: str, universe: str = DEFAULT_UNIVERSE) -> str:
    """Host of the Vertex AI API for *location*.

    | location | host |
    |---|---|
    | `global` | `aiplatform.googleapis.com` |
    | `us`, `eu` | `aiplatform.us.rep.googleapis.com` |
    | a region | `europe-west4-aiplatform.googleapis.com` |

    https://github.com/google/skills `skills/cloud/agent-platform-inference/SKILL.md` (2026-08-21). Another universe has
    its own domain in place of `googleapis.com`
    (https://documentation.s3ns.fr/iam/credentials/reference/rest/v1/projects.serviceAccounts/generateAccessToken,
    2026-11-22).
    """
    if location == "global":
        return f"aiplatform.{universe}"
    if location in MULTI_REGIONS:
        return f"aiplatform.{location}.rep.{universe}"
    return f"{location}-aiplatform.{universe}"


@dataclass(frozen=True, slots=True)
class Target:
    """What one base URL stands for; every field has passed its pattern."""

    project: str
    location: str
    origin: str
    """Scheme and host, such as `https://aiplatform.googleapis.com`."""
    api: Api = "chat"
    api_version: str = "v1"
    endpoint: str = "openapi"
    """`openapi` for Google's and partners' models, else the ID of a self-deployed endpoint."""
    verbatim: str | None = None
    """The whole base URL, where the user gave it."""

    @property
    def parent(self) -> str:
        """Resource name of the location: `projects/P/locations/L`."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def base_url(self) -> str:
        """What `OPENAI_BASE_URL` gets, such as `https://HOST/v1/projects/P/locations/L/endpoints/openapi`.

        `--api responses` is for OpenAI's models on Google Cloud and has a path of its own
        (openai 3.54.0 `src/openai/providers/vertex.py`, 2026-11-22).
        """
        if self.verbatim is not None:
            return self.verbatim
        stem = f"{self.origin}/{self.api_version}/{self.parent}"
        match self.api:
            case "chat":
                return f"{stem}/endpoints/{self.endpoint}"
            case "responses":
                return f"{stem}/publishers/openai/v1"
            case _:
                assert_never(self.api)
