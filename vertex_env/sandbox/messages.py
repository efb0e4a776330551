"""Requests to the sandbox, its replies, and the shape of Google's errors.

- Errors: https://cloud.google.com/apis/design/errors (2026-11-22).
- An unknown path gets a page of HTML, and so does `GET …/models`:
  https://github.com/ogx-ai/ogx/issues/3988 (2026-11-22).
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl


@dataclass(frozen=True, slots=True)
class Reply:
    """Reply of the sandbox: status, body, content type and further headers."""

    status: int
    body: bytes | Iterator[bytes]
    """Bytes, or an iterator whose items are streamed as they come."""
    kind: str = "text/plain; charset=UTF-8"
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(value: object, status: int = 200) -> Reply:
    """Return a reply whose body is *value* as JSON."""
    return Reply(status, json.dumps(value, indent=2).encode(), "application/json; charset=UTF-8")


class ApiError(Exception):
    """Error in the shape of Google's errors; raising it ends the work on a request."""

    headers: Mapping[str, str] = {}

    def __init__(self, code: int, status: str, message: str, **more: object) -> None:
        super().__init__(message)
        self.code = code
        self._body = {"error": {"code": code, "message": message, "status": status, **more}}

    def answer(self, *, array: bool = False) -> Reply:
        """Return the reply with the body `{"error": {…}}`, or `[{"error": {…}}]` for *array*."""
        return replace(
            as_json([self._body] if array else self._body, self.code), headers=self.headers
        )


def error_info(reason: str, domain: str, **metadata: str) -> list[Mapping[str, object]]:
    """Return the details of an error that give its reason, such as `IAM_PERMISSION_DENIED`."""
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return [{"@type": kind, "reason": reason, "domain": domain, "metadata": metadata}]


@dataclass(frozen=True, slots=True)
class Request:
    """Request that has been read completely."""

    path: str
    parts: Mapping[str, str]
    """Named groups of the route's pattern, such as `location`."""
    query: Mapping[str, str]
    headers: Message
    body: bytes

    def json(self) -> Mapping[str, Any]:
        """Return the JSON object in the body; raise an `ApiError` if the body is anything else."""
        with suppress(ValueError, RecursionError):
            value = json.loads(self.body)
            if isinstance(value, dict):
                return value
        raise ApiError(
            400, "INVALID_ARGUMENT", "Invalid JSON payload received. An object was expected."
        )

    def fields(self) -> Mapping[str, Any]:
        """Return the parameters of an OAuth request, which come as a form or as JSON."""
        if self.headers.get_content_type() == "application/json":
            return self.json()
        return dict(parse_qsl(self.body.decode(errors="replace")))


NOT_FOUND = Reply(
    404,
    b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
    b"<p><b>404.</b> The requested URL was not found on this server.\n",
    "text/html; charset=UTF-8",
)
