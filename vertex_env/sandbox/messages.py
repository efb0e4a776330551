"""What the sandbox is asked, what it replies, and the shape of Google's errors.

- Errors: https://cloud.google.com/apis/design/errors; a page of HTML for what is not there, `GET …/models` included:
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
    """What is sent back: status, body, content type and further headers."""

    status: int
    body: bytes | Iterator[bytes]
    """An iterator is streamed, each item as it comes."""
    kind: str = "text/plain; charset=UTF-8"
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(value: object, status: int = 200) -> Reply:
    """A reply whose body is *value* as JSON."""
    return Reply(status, json.dumps(value, indent=2).encode(), "application/json; charset=UTF-8")


class ApiError(Exception):
    """An answer in the shape of Google's errors that ends the work on a request."""

    headers: Mapping[str, str] = {}

    def __init__(self, code: int, status: str, message: str, **more: object) -> None:
        super().__init__(message)
        self.code = code
        self._body = {"error": {"code": code, "message": message, "status": status, **more}}

    def answer(self, *, array: bool = False) -> Reply:
        """`{"error": {…}}`, or `[{"error": {…}}]`."""
        return replace(as_json([self._body] if array else self._body, self.code), headers=self.headers)


def error_info(reason: str, domain: str, **metadata: str) -> list[Mapping[str, object]]:
    """The details of an error that give its reason, such as `IAM_PERMISSION_DENIED`."""
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return [{"@type": kind, "reason": reason, "domain": domain, "metadata": metadata}]


@dataclass(frozen=True, slots=True)
class Request:
    """A request, read to its end."""

    path: str
    parts: Mapping[str, str]
    """What the route's pattern named, such as `location`."""
    query: Mapping[str, str]
    headers: Message
    body: bytes

    def json(self) -> Mapping[str, Any]:
        """The JSON object in the body; an error if that is something else."""
        with suppress(ValueError, RecursionError):
            value = json.loads(self.body)
            if isinstance(value, dict):
                return value
        raise ApiError(400, "INVALID_ARGUMENT", "Invalid JSON payload received. An object was expected.")

    def fields(self) -> Mapping[str, Any]:
        """The parameters of an OAuth request, which come as a form or as JSON."""
        if self.headers.get_content_type() == "application/json":
            return self.json()
        return dict(parse_qsl(self.body.decode(errors="replace")))


NOT_FOUND = Reply(
    404,
    b"<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
    b"<p><b>404.</b> The requested URL was not found on this server.\n",
    "text/html; charset=UTF-8",
)
