"""The target of requests: project, location, endpoint, and the base URL made from them.

The shapes of Google's URLs are in the tables below, each with its source. A value
enters a URL only after it has matched a pattern, either here or in its setting's row.
"""

import re
from dataclasses import dataclass
from typing import Literal, assert_never
from urllib.parse import urlsplit

from vertex_env.errors import SettingsError

Api = Literal["chat", "responses"]

DEFAULT_UNIVERSE = "googleapis.com"

MULTI_REGIONS = ("us", "eu")
"""Locations with jurisdictional hosts. The names `us-aiplatform…` and `eu-aiplatform…`
do not exist.

google-genai 3.4.0 `_api_client.py` _MULTI_REGIONAL_LOCATIONS, google-cloud-aiplatform
2.7.0 `constants/base.py` MREP_JURISDICTIONS (2026-11-22).
"""

NO_REGIONS = ("global", *MULTI_REGIONS)
"""Locations that have no self-deployed endpoints."""

GOOGLE_DOMAINS = ("googleapis.com", "vertexai.goog")
"""Domains in which only Google has hosts: the APIs, and the dedicated hosts of
self-deployed endpoints (`ID.REGION-NUMBER.prediction.vertexai.goog`,
google-cloud-aiplatform 2.7.0 `aiplatform_v1/types/endpoint.py`, 2026-11-22)."""

LOCATION = r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?"

_PATTERNS = {
    "location": LOCATION,
    # Digits, or up to 63 characters of [a-z0-9-] that start with a letter:
    # https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints/create,
    # parameter endpointId (2026-11-22).
    "endpoint ID": r"[0-9]{1,20}|[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?",
    "universe": r"[a-z0-9-]+(?:\.[a-z0-9-]+)+",
    # DNS names in lower case, as Google writes them; without a port.
    "host": r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?",
}
"""Shapes of values in Google's answers and in credentials. The shapes of settings are
in their rows."""

_ZONE = re.compile(r"[a-z]+-[a-z]+[0-9]+-[a-z]")
_URL = re.compile(
    r"https?://(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~:@%+=,-]+)*/?"
)

_MAX_LENGTH = 256
"""Maximum length of a name. All of Google's names are shorter, so a longer text was
pasted by mistake."""


def matches(what: str, value: str) -> bool:
    """Whether *value* has the shape *what*, such as `matches("location", "us-central1")`."""
    return fits(_PATTERNS[what], value)


def fits(shape: str, value: str, flags: int = re.ASCII) -> bool:
    """Whether all of *value* matches the regular expression *shape*, within the maximum length."""
    return len(value) <= _MAX_LENGTH and re.fullmatch(shape, value, flags) is not None


def is_zone(location: str) -> bool:
    """Whether *location* is a Compute Engine zone (`us-central1-a`); Vertex AI has no zones."""
    return _ZONE.fullmatch(location) is not None


def is_loopback(host: str) -> bool:
    """Whether *host* always means this machine."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(?:\.[0-9]{1,3}){3}", host) is not None


def may_have_proxy(url: str) -> bool:
    """Whether `HTTP_PROXY` and similar variables may apply to *url*: not for http on loopback.

    requests would send such a request to the proxy, which is on another machine,
    without encryption.
    """
    parts = urlsplit(url)
    return parts.scheme == "https" or not is_loopback(parts.hostname or "")


def origin_of(url: str) -> str:
    """Return scheme and host of *url*, such as `https://aiplatform.googleapis.com`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def check_url(
    url: str, *, what: str, allowed: tuple[str, ...], universe: str = DEFAULT_UNIVERSE
) -> str:
    """Check that an access token may be sent to *url*, and return it without a trailing slash.

    Args:
        url: Such as
            `https://aiplatform-psc.p.googleapis.com/v1/projects/P/locations/L/endpoints/openapi`.
        what: Name of the value in the message: `--base-url`,
            `api_endpoint_overrides/aiplatform from …`.
        allowed: Hosts that the user named with `--allow-host`, in addition to Google's.
        universe: The credentials' universe domain, whose hosts count as Google's.

    Raises:
        SettingsError: It is not a plain URL, its host is neither Google's nor allowed,
            or it is an http URL to another machine.
    """
    shown = re.sub(r"//[^/]*@", "//[hidden]@", url)  # the URL may contain a password
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
    """Return the host of the Vertex AI API for *location*.

    | location | host |
    |---|---|
    | `global` | `aiplatform.googleapis.com` |
    | `us`, `eu` | `aiplatform.us.rep.googleapis.com` |
    | a region | `europe-west4-aiplatform.googleapis.com` |

    https://github.com/google/skills `skills/cloud/agent-platform-inference/SKILL.md`
    (2026-08-21). Another universe has its own domain instead of `googleapis.com`
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
    """The parts of one base URL; every field has matched its pattern."""

    project: str
    location: str
    origin: str
    """Scheme and host, such as `https://aiplatform.googleapis.com`."""
    api: Api = "chat"
    api_version: str = "v1"
    endpoint: str = "openapi"
    """`openapi` for Google's and partners' models, else the ID of a self-deployed endpoint."""
    verbatim: str | None = None
    """The whole base URL, if the user gave it."""

    @property
    def parent(self) -> str:
        """Resource name of the location: `projects/P/locations/L`."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def base_url(self) -> str:
        """Value of `OPENAI_BASE_URL`.

        Example: `https://HOST/v1/projects/P/locations/L/endpoints/openapi`. OpenAI's
        models on Google Cloud have another path, for `--api responses` (openai 3.54.0
        `src/openai/providers/vertex.py`, 2026-11-22).
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
