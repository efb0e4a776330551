"""Self-deployed endpoints: list them, and find the one with a given ID or display name."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from vertex_env.deadline import in_time
from vertex_env.errors import SettingsError, UnavailableError
from vertex_env.redaction import Secrets
from vertex_env.transport import Line, bind
from vertex_env.vertex.refusals import Exchange, Who, explain, one_line, unreachable
from vertex_env.vertex.target import matches, may_have_proxy

_MAX_BYTES = 16 << 20
_OK, _NOT_FOUND = 200, 404
_PAGE_SIZE = 100
_MAX_PAGES = 1000
_MAX_LOCATIONS = 500
"""Maximum number of locations. No project has as many, and listing endpoints sends a
request to each."""
LIST_S = 60.0
"""Maximum time for all pages of one list, in seconds."""

Get = Callable[[str, Mapping[str, str]], Mapping[str, Any] | None]
"""Function that takes a URL and its query, and returns a JSON object; None for 404. It
raises VertexEnvError for any other failure."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A self-deployed endpoint."""

    id: str
    """Last part of its resource name, such as `1234567890` or `mg-endpoint-1a2b`."""
    name: str
    """Display name; not unique."""
    location: str
    models: tuple[str, ...]
    """Display names of the deployed models."""
    host: str | None
    """Its dedicated host, such as `ID.us-central1-NUMBER.prediction.vertexai.goog`;
    None if it is on the shared host.

    The host is read from Google and never constructed, because the part before
    `prediction` is not always the project's number. An endpoint with a dedicated host
    cannot be reached on the shared host (google-cloud-aiplatform 2.7.0
    `aiplatform_v1/types/endpoint.py` dedicated_endpoint_dns, 2026-11-22).
    """


def http_get(token: str, who: Who, quota_project: str | None, budget_s: float) -> Get:
    """Make a `Get` that authenticates with *token*.

    Proxies, private CAs and similar settings work as in requests.

    Args:
        token: The access token.
        who: The owner of the token, for messages.
        quota_project: The project billed for quota, if it is not the account's own.
        budget_s: Total time in seconds for one request and its answer.
    """
    import requests

    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    if quota_project:
        headers["x-goog-user-project"] = quota_project
    secrets = Secrets()
    secrets.add(token)

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Set the header here and not in a variable of `get`, because a traceback may be
        # sent with the variables. Without this `auth`, requests would replace the token
        # with the login for the host in ~/.netrc.
        request.headers.update(headers)
        return request

    def get(url: str, query: Mapping[str, str]) -> Mapping[str, Any] | None:
        parts, line, failed = urlsplit(url), Line(), None

        def ask() -> requests.Response:
            # Use one session per request: when this one is cut, other threads' requests go on.
            with requests.Session() as session:
                bind(session, line, _MAX_BYTES)
                session.auth = authorize
                session.trust_env = may_have_proxy(url)
                # A redirect would send the token to another host.
                return session.get(url, params=query, timeout=budget_s, allow_redirects=False)

        try:
            response = in_time(ask, budget_s, line.cut)
        except (requests.RequestException, OSError) as e:
            failed = unreachable(parts.netloc, secrets.redact(str(e)))
        if failed is not None:
            # Raise outside the except clause. Otherwise requests' exception, which
            # contains the token, would become the context of this one.
            raise failed
        exchange = Exchange(parts.netloc, parts.path, response.status_code, response.content)
        if response.status_code == _NOT_FOUND and "json" in response.headers.get(
            "Content-Type", ""
        ):
            return None
        return _decoded(exchange, who, secrets)

    return get


def _decoded(exchange: Exchange, who: Who, secrets: Secrets) -> Mapping[str, Any]:
    """Return the JSON object that an API answered with.

    Raises:
        VertexEnvError: The answer is a refusal, or is not a JSON object.
    """
    if exchange.status != _OK:
        raise explain(exchange, "", who, secrets)
    try:
        data = json.loads(secrets.redact(exchange.body.decode()))
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise UnavailableError(
            f"{exchange.host} answered with something that is not JSON",
            "a captive portal or a proxy may have answered instead: check HTTPS_PROXY",
        )
    return data


def list_endpoints(get: Get, root: str, parent: str) -> Iterator[Endpoint]:
    """Yield the endpoints of one location, page by page.

    Args:
        get: Sends the requests.
        root: API root with version, such as `https://us-central1-aiplatform.googleapis.com/v1`.
        parent: `projects/P/locations/L`.
    """
    for page in _pages(get, f"{root}/{parent}/endpoints"):
        yield from (_endpoint(item) for item in _dicts(page.get("endpoints")))


def list_locations(get: Get, root: str, project: str) -> list[str]:
    """List the regions of Vertex AI for *project*, such as `["asia-northeast1", "us-central1"]`.

    https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations/list (2026-11-22).
    """
    url, found = f"{root}/projects/{project}/locations", set()
    for page in _pages(get, url):
        found |= {str(item.get("locationId", "")) for item in _dicts(page.get("locations"))}
        if len(found) > _MAX_LOCATIONS:
            raise UnavailableError(
                f"{urlsplit(url).netloc} gives too many locations", "try again in a minute"
            )
    names = sorted(name for name in found if matches("location", name) and name != "global")
    if not names:
        raise SettingsError(
            f"Vertex AI has no locations for project {project!r}", "check --project"
        )
    return names


def find_endpoint(get: Get, root: str, parent: str, wanted: str) -> Endpoint:
    """Find the endpoint in *parent* whose ID or display name is *wanted*.

    Raises:
        SettingsError: No endpoint, or more than one, has that name.
    """
    if matches("endpoint ID", wanted):
        item = get(f"{root}/{parent}/endpoints/{wanted}", {})
        if item is not None:
            return _endpoint(item)
    everyone = list(list_endpoints(get, root, parent))
    named = [endpoint for endpoint in everyone if endpoint.name == wanted]
    if len(named) == 1:
        return named[0]
    if named:
        raise SettingsError(
            f"{len(named)} endpoints in {parent} are called {wanted!r}",
            "name one by its ID: " + ", ".join(endpoint.id for endpoint in named[:5]),
        )
    known = ", ".join(f"{endpoint.id} ({one_line(endpoint.name)})" for endpoint in everyone[:5])
    raise SettingsError(
        f"there is no endpoint {wanted!r} in {parent}",
        f"endpoints there: {known}"
        if known
        else "it may be elsewhere: vertex-env endpoints --all-locations",
    )


def _pages(get: Get, url: str) -> Iterator[Mapping[str, Any]]:
    """Yield the pages of a list.

    Raises:
        UnavailableError: The list has no end, or takes too long.
    """
    query, started = {"pageSize": str(_PAGE_SIZE)}, time.monotonic()
    for _ in range(_MAX_PAGES):
        page = get(url, query) or {}
        yield page
        following = page.get("nextPageToken")
        if not isinstance(following, str) or following in ("", query.get("pageToken")):
            return
        if time.monotonic() - started > LIST_S:
            break
        query["pageToken"] = following
    raise UnavailableError(
        f"{urlsplit(url).netloc} gives a list without an end", "try again in a minute"
    )


def _endpoint(item: Mapping[str, Any]) -> Endpoint:
    """Parse one endpoint of `endpoints.list` or `endpoints.get`.

    Its field `name` is `projects/N/locations/L/endpoints/ID`.
    """
    parts = str(item.get("name", "")).split("/")
    if len(parts) != 6 or not matches("location", parts[3]) or not matches("endpoint ID", parts[5]):  # noqa: PLR2004
        raise UnavailableError(
            f"Vertex AI lists an endpoint with a name that is none: {one_line(str(item.get('name')))}",
            "try again in a minute",
        )
    models = tuple(
        str(m.get("displayName") or m.get("model") or "?")
        for m in _dicts(item.get("deployedModels"))
    )
    host = item.get("dedicatedEndpointDns") or None
    # Check this here, because the check of the whole URL accepts a port or a path.
    if host is not None and not (isinstance(host, str) and matches("host", host)):
        raise SettingsError(
            f"the dedicated host of endpoint {parts[5]} is not a host name: {one_line(str(host))}",
            f"see what Google says: gcloud ai endpoints describe {parts[5]} --region={parts[3]}",
        )
    return Endpoint(parts[5], str(item.get("displayName", "")), parts[3], models, host)


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
