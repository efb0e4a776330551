"""The HTTP transport for google-auth: one time budget per mint, and no redirects.

It keeps the last exchange, so that errors can be explained.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from vertex_env.credentials.read import METADATA, Adc
from vertex_env.deadline import in_time
from vertex_env.redaction import Secrets
from vertex_env.transport import MAX_BYTES, Line, bind, lean_request
from vertex_env.vertex.refusals import Exchange
from vertex_env.vertex.target import may_have_proxy


def make_transport(budget_s: float, *, lean: bool = False) -> Any:
    """Make a google-auth transport that must finish within *budget_s* of its first request.

    It remembers the last exchange. Importing google-auth and requests takes a third of
    a second. For that reason google-auth is imported only to mint a token, and the
    package requests only if its proxies, certificates or types are needed.
    """
    from google.auth import exceptions, transport

    base: Any = object
    if not lean:
        from google.auth.transport.requests import Request as base  # noqa: N813 -- a class by its role
    line = Line()

    class Transport(base):  # type: ignore[misc]
        exchange: Exchange | None = None
        started: float | None = None
        secrets = Secrets()

        def __setattr__(self, name: str, value: Any) -> None:
            # google-auth may replace its first session with another one.
            if name == "session" and value is not None:
                bind(value, line, MAX_BYTES)
            super().__setattr__(name, value)

        def __call__(
            self,
            url: str,
            method: str = "GET",
            body: bytes | None = None,
            headers: Mapping[str, str] | None = None,
            timeout: float | None = None,
            **kwargs: Any,
        ) -> Any:
            parts = urlsplit(url)
            self.exchange = Exchange(parts.netloc.rpartition("@")[2], parts.path)
            self.secrets.later(partial(self.secrets.add_request, url, body, headers))
            if self.started is None:
                self.started = time.monotonic()
            if not lean:
                # The metadata server is never behind a proxy.
                self.session.trust_env = may_have_proxy(url) and not parts.path.startswith(
                    "/computeMetadata/"
                )
                # A redirect would send the refresh token or the assertion to another host.
                kwargs["allow_redirects"] = False
                if "authorization" in map(str.lower, headers or ()):
                    # Without this, requests replaces the header with the login for the
                    # host in ~/.netrc.
                    kwargs["auth"] = lambda request: request
            ask: Callable[..., Any] = partial(lean_request, line) if lean else super().__call__
            left = self.started + budget_s - time.monotonic()
            limit = min(left, timeout or left)
            try:
                response = in_time(
                    lambda: ask(url, method, body, headers, limit, **kwargs), left, line.cut
                )
            except exceptions.TransportError as e:
                # After a TransportError, google-auth would retry for longer than the
                # budget. It does not retry after an OSError.
                raise ConnectionError(str(e)) from None
            self.exchange = Exchange(self.exchange.host, parts.path, response.status, response.data)
            self.secrets.later(partial(self.secrets.add_body, response.data))
            # google-auth doubles its pauses, so the next pause is about as long as all
            # the time so far.
            spent = time.monotonic() - self.started
            if response.status in transport.DEFAULT_RETRYABLE_STATUS_CODES and 2 * spent > budget_s:
                raise TimeoutError("timed out")
            return response

    # Registering makes the class a transport for google-auth, also where it does not inherit
    # from google-auth's own class.
    transport.Request.register(Transport)
    return Transport()


def is_lean(adc: Adc, environ: Mapping[str, str]) -> bool:
    """Whether the standard library can replace the package requests for *adc*.

    It can if there is no proxy, no private CA and no mTLS.

    google-auth itself needs the package requests for the metadata server and air-gapped
    clouds (google-auth 2.62.2 `google/auth/compute_engine/_metadata.py`,
    `google/oauth2/gdch_credentials.py`, 2026-11-22).
    """
    names = {name.lower() for name, value in environ.items() if value}
    return (
        sys.platform == "linux"  # other systems have proxy settings of their own
        and names.isdisjoint(
            ("http_proxy", "https_proxy", "all_proxy", "requests_ca_bundle", "curl_ca_bundle")
        )
        and adc.kind not in (METADATA, "gdch_service_account")
        and not any(word in json.dumps(dict(adc.info)) for word in ("mtls", '"certificate"'))
    )
