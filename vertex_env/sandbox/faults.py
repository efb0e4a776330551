"""Failures on demand: their status, their number, and their text, which is Google's.

The sources of the texts are in the modules of the routes that fail (`tokens`,
`routes`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from vertex_env.sandbox.messages import ApiError, Request, error_info

AIPLATFORM = "aiplatform.googleapis.com"
UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class Fault:
    """Failure with *status* of the next *count* requests, for a token or for a chat.

    Raises:
        ValueError: *count* is below 1, or *status* is not that of a failure.
    """

    count: int
    status: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"a fault happens at least once, not {self.count} times")
        if self.status not in range(400, 600):
            raise ValueError(f"the status of a fault is between 400 and 599, not {self.status}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the fault that *text* describes: `3x503`, or `503` for one failure.

        Raises:
            ValueError: *text* describes no fault.
        """
        match = re.fullmatch(r"(?:([0-9]{1,9})x)?([0-9]{3})", text)
        if match is None:
            raise ValueError(
                f"a fault is written as COUNTxSTATUS or STATUS, such as 3x503, not {text!r}"
            )
        return cls(count=int(match[1] or 1), status=int(match[2]))


_REFUSALS: Mapping[int, tuple[str, str]] = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    403: (
        "PERMISSION_DENIED",
        "Permission '{permission}' denied on resource '//aiplatform.googleapis.com/{resource}' (or it may not exist).",
    ),
    404: (
        "NOT_FOUND",
        (
            "Publisher Model `projects/{project}/locations/{location}/publishers/{model}` was not found or your "
            "project does not have access to it. Please ensure you are using a valid model version."
        ),
    ),
    429: ("RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."),
    503: ("UNAVAILABLE", "The service is currently unavailable."),
}
"""Status name and message of the chat endpoint for each status. For other statuses no
real answer of Google's is known."""


def refusal(status: int, request: Request) -> ApiError:
    """Return the error for a chat completion that has to fail with *status*."""
    permission = "aiplatform.endpoints.predict"
    resource = "projects/{project}/locations/{location}/endpoints/{endpoint}".format(
        **request.parts
    )
    model = "/models/".join(str(request.json().get("model", "")).split("/", 1))
    name, text = _REFUSALS.get(status, ("UNKNOWN", "A fault of the sandbox."))
    message = text.format(**request.parts, permission=permission, resource=resource, model=model)
    if status != 403:  # noqa: PLR2004 -- HTTP's own number
        return ApiError(status, name, message)
    details = error_info(
        "IAM_PERMISSION_DENIED", AIPLATFORM, resource=resource, permission=permission
    )
    return ApiError(status, name, message, details=details)
