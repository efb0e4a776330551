"""HTTP requests with a limit on their total time and on the size of the answer in memory.

A socket's timeout limits neither. It applies to each read, so a server can send its
answer one byte at a time.
"""

import http.client
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import requests

MAX_BYTES = 1 << 20
"""Maximum size in bytes of a decoded answer with a token: a thousand times the usual size."""

_PIECE = 65_536


class TooLargeError(OSError):
    """The answer has more bytes than the limit."""


class _Response(http.client.HTTPResponse):
    """An HTTP response without the header lines that Python could not parse.

    urllib3 logs such lines as they are (2.8.0 `urllib3/connection.py` getresponse,
    2026-11), and a server may repeat a secret in them.
    """

    def begin(self) -> None:
        super().begin()
        self.msg.defects.clear()
        self.msg.set_payload("")


class Line:
    """The connections of one request, so that another thread can end the request."""

    def __init__(self) -> None:
        self._connections: list[Any] = []
        self._is_cut = False

    def cut(self) -> None:
        """End the request: reads in progress fail, and later connections are closed at once."""
        self._is_cut = True
        for connection in self._connections:
            with suppress(OSError, AttributeError, TypeError):  # the connection has no socket yet
                # SSLSocket's own shutdown would remove the TLS state while the other
                # thread still reads.
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def on(self, base: Any) -> Any:
        """Return a subclass of the connection class *base* whose objects register on this line."""
        line = self
        if getattr(base, "line", None) is line:
            return base

        class Connection(base):  # type: ignore[misc]
            debuglevel = 0
            """Stays 0 on this class. A program may set the level for all of
            http.client's connections, and the debug output would then show secrets
            on stdout."""

            response_class = _Response

            def connect(self) -> None:
                line._connections.append(self)
                super().connect()
                if line._is_cut:
                    self.close()
                    raise TimeoutError("timed out")

        Connection.line = line
        return Connection


def read_body(read: Callable[[int], bytes], encoding: str, max_bytes: int) -> bytes:
    """Read the whole body of an answer, and decode it if it is compressed with gzip.

    Args:
        read: Reads at most the given number of bytes; returns none at the end.
        encoding: The header `Content-Encoding`, such as `gzip`; a body in any other
            encoding is left as it is.
        max_bytes: Maximum size of the decoded body.

    Raises:
        TooLargeError: The body is larger.
        ConnectionError: The body cannot be decoded.
    """
    unpack = _unpacker() if encoding.strip().lower() in ("gzip", "x-gzip") else None
    content = bytearray()
    while len(content) <= max_bytes:
        piece = read(_PIECE)
        if not piece:
            return bytes(content)
        content += piece if unpack is None else unpack(piece, max_bytes + 1 - len(content))
    raise TooLargeError(f"the answer is larger than {max_bytes >> 20} MiB")


def _unpacker() -> Callable[[bytes, int], bytes]:
    """Return a function that unpacks the next piece of gzip data, up to a number of bytes."""
    import zlib

    decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def unpack(piece: bytes, max_bytes: int) -> bytes:
        try:
            return decoder.decompress(piece, max_bytes)
        except zlib.error:
            raise ConnectionError("Connection broken: its compression is damaged") from None

    return unpack


# --- the standard library ---


class Response:
    """An answer with the attributes that google-auth needs.

    It is not a dataclass, because creating a dataclass at import takes a millisecond.
    """

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data = data


def lean_request(
    line: Line,
    url: str,
    method: str,
    body: bytes | None,
    headers: Mapping[str, str] | None,
    timeout: float,
) -> Response:
    """Send one request with the standard library, without proxies and redirects.

    Raises:
        OSError: There is no answer, or the answer is too large.
    """
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        import ssl

        import certifi

        # Trust the same certificates as requests does.
        context = ssl.create_default_context(cafile=certifi.where())
        https = line.on(http.client.HTTPSConnection)
        connection = https(parts.hostname or "", parts.port, timeout=timeout, context=context)
    else:
        connection = line.on(http.client.HTTPConnection)(
            parts.hostname or "", parts.port, timeout=timeout
        )
    try:
        path = parts.path or "/"
        target = f"{path}?{parts.query}" if parts.query else path
        connection.request(method, target, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        data = read_body(answer.read, answer.headers.get("Content-Encoding", ""), MAX_BYTES)
        if answer.length:
            raise ConnectionError("Connection broken: IncompleteRead")
        return Response(
            answer.status, {name.lower(): value for name, value in answer.getheaders()}, data
        )
    except http.client.HTTPException as e:
        raise ConnectionError(f"Connection aborted: {type(e).__name__}") from None
    finally:
        connection.close()


# --- requests ---


def bind(session: "requests.Session", line: Line, max_bytes: int) -> None:
    """Limit each answer of *session* to *max_bytes*, and put its connections on *line*.

    The limit applies to the decoded answer. The adapters stay objects of requests' own
    class, because google-auth installs its client certificates on no other class
    (google-auth 2.62.2 `google/auth/transport/requests.py` _configure_mtls_if_needed,
    2026-11).
    """
    import urllib3

    def read(response: "requests.Response", **_: object) -> None:
        encoding = response.headers.get("Content-Encoding", "")
        # urllib3's other read methods read a chunk's size from a line of unlimited length.
        pieces = partial(response.raw.read, decode_content=False)
        try:
            # With these attributes set, requests uses this body and does not read another.
            response._content = read_body(pieces, encoding, max_bytes)  # noqa: SLF001
            response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
        except urllib3.exceptions.HTTPError as e:
            raise ConnectionError(str(e)) from None
        finally:
            # This closes an unfinished connection, and returns a finished one to the pool.
            response.close()

    session.headers["Accept-Encoding"] = "gzip"
    session.hooks["response"].insert(0, read)
    adapter: Any
    for adapter in session.adapters.values():
        _put_on(line, adapter.poolmanager)
        adapter.proxy_manager_for = _on_line(line, adapter.proxy_manager_for)


def _on_line(line: Line, make: Callable[..., Any]) -> Callable[..., Any]:
    def proxy_manager_for(*args: Any, **more: Any) -> Any:
        manager = make(*args, **more)
        _put_on(line, manager)
        return manager

    return proxy_manager_for


def _put_on(line: Line, manager: Any) -> None:
    """Make the connection pools of *manager* register their connections on *line*."""
    manager.pool_classes_by_scheme = {
        scheme: type(pool.__name__, (pool,), {"ConnectionCls": line.on(pool.ConnectionCls)})
        for scheme, pool in manager.pool_classes_by_scheme.items()
    }
