"""HTTP requests that end: within a time limit, and with no more of an answer in memory than it may have.

A socket's time-out does neither. It holds for each read, so that an answer can come one byte at a time.
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
"""Of an answer with a token, decoded: a thousand times as much as any has."""

_PIECE = 65_536


class TooLargeError(OSError):
    """An answer has more bytes than it may have."""


class _Response(http.client.HTTPResponse):
    """An answer whose headers have nothing left that was not understood.

    urllib3 logs that as it is (2.8.0 `urllib3/connection.py` getresponse, 2026-11), and a server may
    repeat a secret there.
    """

    def begin(self) -> None:
        super().begin()
        self.msg.defects.clear()
        self.msg.set_payload("")


class Line:
    """The connections that a request uses, so that it can be ended from another thread."""

    def __init__(self) -> None:
        self._connections: list[Any] = []
        self._is_cut = False

    def cut(self) -> None:
        """End the request: a read that is under way fails, and nothing is connected any more."""
        self._is_cut = True
        for connection in self._connections:
            with suppress(OSError, AttributeError, TypeError):  # it has no socket so far
                # SSLSocket's own method would take the TLS state away from the thread that reads.
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def on(self, base: Any) -> Any:
        """*base*, a class of connections, with each of its objects on this line."""
        line = self
        if getattr(base, "line", None) is line:
            return base

        class Connection(base):  # type: ignore[misc]
            debuglevel = 0
            """A program that sets it for all of http.client's connections would have our secrets on stdout."""

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
    """All of an answer's body, decoded if it is compressed.

    Args:
        read: Gives up to so many of its bytes; none at its end.
        encoding: The header `Content-Encoding`, such as `gzip`; another one leaves it as it came.
        max_bytes: What it may have, decoded.

    Raises:
        TooLargeError: It has more.
        ConnectionError: It cannot be decoded.
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
    """A function that unpacks the next piece of a gzip file, to so many bytes at most."""
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
    """An answer, with what google-auth wants of one. No dataclass: to make one takes a millisecond."""

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
    """One request by the standard library, without proxies and redirects.

    Raises:
        OSError: There is no answer, or too much of one.
    """
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        import ssl

        import certifi

        # The certificates that requests would trust.
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
    """Have *session* read *max_bytes* of an answer at most, decoded, and put its connections on *line*.

    The adapters stay objects of requests' own class: google-auth puts its client certificates on no other (google-auth
    2.62.2 `google/auth/transport/requests.py` _configure_mtls_if_needed, 2026-11).
    """
    import urllib3

    def read(response: "requests.Response", **_: object) -> None:
        encoding = response.headers.get("Content-Encoding", "")
        # urllib3's other ways to read take a chunk's size from a line without limit.
        pieces = partial(response.raw.read, decode_content=False)
        try:
            # requests takes this for what it has read itself.
            response._content = read_body(pieces, encoding, max_bytes)  # noqa: SLF001
            response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
        except urllib3.exceptions.HTTPError as e:
            raise ConnectionError(str(e)) from None
        finally:
            response.close()  # what has not been read to its end is closed, anything else is kept for the next request

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
    """Have the pools that *manager* makes use connections on *line*."""
    manager.pool_classes_by_scheme = {
        scheme: type(pool.__name__, (pool,), {"ConnectionCls": line.on(pool.ConnectionCls)})
        for scheme, pool in manager.pool_classes_by_scheme.items()
    }
