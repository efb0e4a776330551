"""Resources of the sandbox (endpoints, locations and the model), and the table of all routes.

The answers copy Google's where a real answer is published (all checked 2026-11-22):

- /endpoints:
  https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints
- Hosts of dedicated endpoints: google-cloud-aiplatform 2.7.0
  `aiplatform_v1/types/endpoint.py`
- 404 of an endpoint: https://github.com/googleapis/python-genai/issues/1706
- /chat/completions:
  https://cloud.google.com/vertex-ai/docs/reference/rest/v1beta1/projects.locations.endpoints.chat/completions
- Chat with a model that has no publisher:
  https://github.com/NousResearch/hermes-agent/pull/56809
- /responses:
  https://documentation.s3ns.fr/gemini-enterprise-agent-platform/models/partner-models/openai/responses
- The chat endpoint puts 400, 403, 404 and 429 in an array
  (https://github.com/langroid/langroid/issues/969,
  https://github.com/rhel-lightspeed/linux-mcp-server/issues/450, 2026-11). Its 401 was
  seen as an object; `array_401` makes it an array.
"""

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vertex_env.sandbox.faults import UNAUTHORIZED, refusal
from vertex_env.sandbox.messages import NOT_FOUND, ApiError, Reply, Request, as_json
from vertex_env.sandbox.tokens import (
    Google,
    Route,
    for_bearers,
    giving_tokens,
    impersonate,
    metadata,
    oauth,
    shared_token,
    unauthenticated,
)

PROJECT = "sandbox-project"
EMAIL = f"sandbox@{PROJECT}.iam.gserviceaccount.com"


def _chatting(route: Route) -> Route:
    """Return a route of the chat endpoint.

    It wants a token, refuses requests as the faults say, and puts its errors in arrays.
    """

    def refusing(google: Google, request: Request) -> Reply:
        status = google.next_of(google.refusals)
        if status is not None:
            raise (
                unauthenticated(google, "ACCESS_TOKEN_EXPIRED")
                if status == UNAUTHORIZED
                else refusal(status, request)
            )
        return route(google, request)

    def answer(google: Google, request: Request) -> Reply:
        try:
            return for_bearers(refusing)(google, request)
        except ApiError as error:
            return error.answer(array=error.code != UNAUTHORIZED or google.array_401)

    return answer


def _always(answer: Reply) -> Route:
    return lambda _google, _request: answer


_LOCATIONS = ("us-central1", "europe-west4", "asia-northeast1")
_DEDICATED = {
    "dedicatedEndpointEnabled": True,
    "dedicatedEndpointDns": "2345678901234567890.us-central1-123456789012.prediction.vertexai.goog",
}
_ENDPOINTS: Mapping[tuple[str, str], tuple[str, Mapping[str, object]]] = {
    ("us-central1", "1234567890123456789"): ("llama", {}),
    ("us-central1", "2345678901234567890"): ("dedicated", _DEDICATED),
    ("us-central1", "mg-endpoint-1a2b"): ("gemma", {}),
    ("europe-west4", "3456789012345678901"): ("qwen", {}),
}


def _endpoint(project: str, location: str, endpoint: str) -> Mapping[str, object]:
    """Return an Endpoint resource; raise an `ApiError` if it does not exist."""
    parent = f"projects/{project}/locations/{location}"
    if (location, endpoint) not in _ENDPOINTS:
        raise ApiError(404, "NOT_FOUND", f"Endpoint `{parent}/endpoints/{endpoint}` not found.")
    name, facts = _ENDPOINTS[location, endpoint]
    deployed = {"id": "1", "model": f"{parent}/models/{name}", "displayName": name}
    shown = {
        "name": f"{parent}/endpoints/{endpoint}",
        "displayName": f"sandbox-{name}",
        "deployedModels": [deployed],
    }
    return {**shown, **facts}


def _get_endpoint(_: Google, request: Request) -> Reply:
    return as_json(_endpoint(**request.parts))


def _list_endpoints(_: Google, request: Request) -> Reply:
    project, location = request.parts["project"], request.parts["location"]
    every = [
        _endpoint(project, where, endpoint) for where, endpoint in _ENDPOINTS if where == location
    ]
    size, token = request.query.get("pageSize", "0"), request.query.get("pageToken", "0")
    if not re.fullmatch(r"[0-9]{1,9},[0-9]{1,9}", f"{size},{token}"):
        raise ApiError(400, "INVALID_ARGUMENT", "pageSize or pageToken is invalid.")
    stop = int(token) + (int(size) or 100)
    page = {
        "endpoints": every[int(token) : stop],
        "nextPageToken": str(stop) if stop < len(every) else "",
    }
    # Like all of Google's JSON APIs, leave out empty fields:
    # https://protobuf.dev/programming-guides/json/.
    return as_json({name: value for name, value in page.items() if value})


def _list_locations(_: Google, request: Request) -> Reply:
    parent = f"projects/{request.parts['project']}/locations"
    return as_json(
        {"locations": [{"name": f"{parent}/{one}", "locationId": one} for one in _LOCATIONS]}
    )


def _mapping(value: object) -> Mapping[str, Any]:
    """Return *value* if it is an object, else an empty object: clients may send anything."""
    return value if isinstance(value, dict) else {}


def _reply(messages: object) -> tuple[str, int, int]:
    """Return the model's answer to the last message of the user, and two counts of tokens.

    The counts are for the input and for the output. Each word counts as a token.
    """
    said = [_mapping(one) for one in messages] if isinstance(messages, list) else []
    content = next(
        (one.get("content") for one in reversed(said) if one.get("role") == "user"), None
    )
    # The content is a text, or a list of parts; only some parts have a text.
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    heard = " ".join(str(_mapping(part).get("text", "")) for part in parts)
    text = f"The sandbox heard: {heard}"
    return text, len(heard.split()), len(text.split())


def _chat(google: Google, request: Request) -> Reply:
    wanted = request.json()
    model = str(wanted.get("model", ""))
    if request.parts["endpoint"] != "openapi":
        _endpoint(**request.parts)
    elif not re.fullmatch(r"[^/]+/.+", model):
        message = (
            f"Malformed publisher model (`model`: '{model}') for the 'openapi' request endpoint ID; "
            "expected '<publisher>/<model>'."
        )
        raise ApiError(400, "INVALID_ARGUMENT", message)
    text, read, written = _reply(wanted.get("messages"))
    google.count("chat")
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    if wanted.get("stream"):
        counted = _mapping(wanted.get("stream_options")).get("include_usage")
        return Reply(200, _events(head, text, usage if counted else None), "text/event-stream")
    said = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": said, "finish_reason": "stop", "logprobs": None}
    return as_json({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


def _events(
    head: Mapping[str, object], text: str, usage: Mapping[str, int] | None
) -> Iterator[bytes]:
    """Yield the server-sent events of a streamed completion, one event for each word."""

    def event(chunk: Mapping[str, object]) -> bytes:
        return (
            f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', **chunk})}\n\n".encode()
        )

    words = re.findall(r"\s*\S+|\s+", text)
    for delta in [{"role": "assistant", "content": ""}, *({"content": word} for word in words), {}]:
        yield event(
            {"choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]}
        )
    if usage:
        yield event({"choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _responses(google: Google, request: Request) -> Reply:
    wanted = request.json()
    said = wanted.get("input")
    text, read, written = _reply(
        said if isinstance(said, list) else [{"role": "user", "content": said}]
    )
    google.count("chat")
    number = secrets.token_hex(12)
    content = {"type": "output_text", "text": text, "annotations": []}
    message = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed"}
    usage = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
    details = {
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    head = {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
    }
    tools = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    model = str(wanted.get("model", ""))
    return as_json(
        {
            **head,
            "model": model,
            "output": [{**message, "content": [content]}],
            **tools,
            "usage": {**usage, **details},
        }
    )


_V1 = "/computeMetadata/v1"
_ACCOUNT = rf"{_V1}/instance/service-accounts/(?:default|{re.escape(EMAIL)})"
_INFO = {
    "aliases": ["default"],
    "email": EMAIL,
    "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
}
_PLACES = r"/v1(?:beta1)?/projects/(?P<project>[^/]+)/locations"
_PLACE = rf"{_PLACES}/(?P<location>[^/]+)"
_IAM = r"/v1/projects/-/serviceAccounts/[^/]+:generateAccessToken"

ROUTES: Sequence[tuple[str, re.Pattern[str], Route]] = [
    (method, re.compile(pattern), route)
    for method, pattern, route in (
        ("POST", "/token|/v1/token|/v1/oauthtoken", giving_tokens(oauth)),
        ("POST", _IAM, giving_tokens(for_bearers(impersonate, "iamcredentials.googleapis.com"))),
        ("GET", "/subject", _always(Reply(200, b"sandbox-subject-token"))),
        ("GET", "/", metadata(_always(Reply(200, b"computeMetadata/\n")))),
        ("GET", f"{_V1}/project/project-id", metadata(_always(Reply(200, PROJECT.encode())))),
        ("GET", f"{_ACCOUNT}/?", metadata(_always(as_json(_INFO)))),
        ("GET", f"{_ACCOUNT}/email", metadata(_always(Reply(200, EMAIL.encode())))),
        ("GET", f"{_ACCOUNT}/token", metadata(giving_tokens(shared_token))),
        ("GET", f"{_V1}/.*", metadata(_always(NOT_FOUND))),
        ("GET", _PLACES, for_bearers(_list_locations)),
        ("GET", f"{_PLACE}/endpoints", for_bearers(_list_endpoints)),
        ("GET", f"{_PLACE}/endpoints/(?P<endpoint>[^/]+)", for_bearers(_get_endpoint)),
        ("POST", f"{_PLACE}/endpoints/(?P<endpoint>[^/]+)/chat/completions", _chatting(_chat)),
        ("POST", f"{_PLACE}/publishers/openai/v1/responses", for_bearers(_responses)),
    )
]
"""All routes: method, path, answer. The first match answers; any other request gets a 404."""
