"""A small HTTP server on the loopback interface, for tests and benchmarks: images, or hostility by path.

    with ImageServer({"/cat.jpg": data}) as server:
        from_url(server.url("/cat.jpg"), policy=FetchPolicy(allow=server.allow))
        assert server.requests["/cat.jpg"] == 1

It speaks through plain sockets, because what is tested here is what no proper server would send.
"""

import gzip
import select
import socket
import socketserver
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

DRIP_S = 0.05


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived; header names are in lower case."""

    path: str
    headers: dict[str, str]


Behaviour = Callable[[socket.socket, Request], None]


class ImageServer(socketserver.ThreadingTCPServer):
    """Serves a mapping of path to bytes, or a folder, and the paths of HOSTILE; counts requests by path.

    `routes` adds or replaces behaviours; the route "*" takes every path. `tls` speaks TLS with that context.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        images: Mapping[str, bytes] | Path | None = None,
        *,
        routes: Mapping[str, Behaviour] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.images = {} if images is None else images
        self.routes = {**HOSTILE, **(routes or {})}
        self.tls = tls
        self.requests: Counter[str] = Counter()
        self.connections = 0
        self.seen: list[Request] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="image-server")

    @property
    def port(self) -> int:
        return self.server_address[1]

    @property
    def allow(self) -> frozenset[tuple[str, int]]:
        """What FETCH_ALLOW must hold for this server to be reached."""
        return frozenset({("127.0.0.1", self.port), ("localhost", self.port)})

    def url(self, path: str) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"

    def __enter__(self) -> "ImageServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what most of the tests are about."""

    def note_connection(self) -> None:
        with self._lock:
            self.connections += 1

    def note_request(self, request: Request) -> None:
        with self._lock:
            self.requests[request.path] += 1
            self.seen.append(request)

    def behaviour(self, path: str) -> Behaviour:
        if "*" in self.routes:
            return self.routes["*"]
        plain = path.partition("?")[0]
        if plain in self.routes:
            return self.routes[plain]
        data = self._find(unquote(plain))
        return answer(404, b"no such image") if data is None else answer(200, data)

    def _find(self, path: str) -> bytes | None:
        if isinstance(self.images, Path):
            file = (self.images / path.lstrip("/")).resolve()
            return file.read_bytes() if file.is_relative_to(self.images.resolve()) and file.is_file() else None
        return self.images.get(path)


class _Handler(socketserver.BaseRequestHandler):
    server: ImageServer

    def handle(self) -> None:
        self.server.note_connection()
        connection = self.request
        if self.server.tls is not None:
            connection = self.server.tls.wrap_socket(connection, server_side=True)
        with connection:
            request = _read_request(connection)
            if request is not None:
                self.server.note_request(request)
                self.server.behaviour(request.path)(connection, request)


def _read_request(connection: socket.socket) -> Request | None:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65536)
        if not piece:
            return None
        if piece.startswith(b"\x16"):
            connection.sendall(b"HTTP/1.1 400 this is not TLS\r\n\r\n")
            return None
        head += piece
    first, *lines = head.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Request(path=first.split(" ")[1], headers={name.lower(): value for name, value in headers.items()})


def answer(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """A proper reply; headers are written as keywords, `Content_Type="image/png"`."""
    lines = [f"HTTP/1.1 {status} X", "Connection: close"]
    if "Content_Length" not in headers and "Transfer_Encoding" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    reply = "\r\n".join([*lines, "", ""]).encode("utf-8") + body

    def behave(connection: socket.socket, _: Request) -> None:
        connection.sendall(reply)

    return behave


def repeat(start: bytes, piece: bytes, *, pause_s: float = 0.0) -> Behaviour:
    """Send start, then piece again and again until the client hangs up."""

    def behave(connection: socket.socket, _: Request) -> None:
        connection.sendall(start)
        while not _hung_up(connection, within_s=pause_s):
            connection.sendall(piece)

    return behave


def _hung_up(connection: socket.socket, *, within_s: float) -> bool:
    readable, _, _ = select.select([connection], [], [], within_s)
    return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""


def _silence(connection: socket.socket, _: Request) -> None:
    connection.recv(1)


def _reset(connection: socket.socket, _: Request) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _reset_in_body(connection: socket.socket, request: Request) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    # The reset would overtake bytes that the client has not read yet.
    threading.Event().wait(0.1)
    _reset(connection, request)


def _redirect(connection: socket.socket, request: Request) -> None:
    answer(302, Location=unquote(request.path.partition("?")[2]))(connection, request)


OK = b"HTTP/1.1 200 OK\r\n"
HOSTILE: dict[str, Behaviour] = {
    "/drip-body": repeat(OK + b"Content-Length: 1000000\r\n\r\n", b"x", pause_s=DRIP_S),
    "/drip-chunks": repeat(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", pause_s=DRIP_S),
    "/drip-chunk-header": repeat(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0", pause_s=DRIP_S),
    "/drip-trailers": repeat(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n", pause_s=DRIP_S),
    "/drip-headers": repeat(OK, b"X: y\r\n", pause_s=DRIP_S),
    "/drip-header-line": repeat(OK + b"X: ", b"y", pause_s=DRIP_S),
    "/drip-status": repeat(b"HTTP/1.1 200 ", b"O", pause_s=DRIP_S),
    "/drip-continue": repeat(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause_s=DRIP_S),
    "/drip-redirect": repeat(
        b"HTTP/1.1 302 X\r\nLocation: /drip-redirect\r\nContent-Length: 1000\r\n\r\n", b"x", pause_s=DRIP_S
    ),
    "/silence": _silence,
    "/endless-body": repeat(OK + b"\r\n", b"x" * 65536),
    "/endless-chunks": repeat(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n"),
    "/endless-chunk-extension": repeat(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", (b"1;" + b"e" * 60000 + b"\r\nx\r\n")
    ),
    "/endless-trailers": repeat(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: " + b"b" * 8000 + b"\r\n"),
    "/endless-continue": repeat(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "/endless-header-line": repeat(OK + b"X: ", b"y" * 65536),
    "/header-flood": repeat(OK, b"X: y\r\n" * 1000),
    "/endless-redirect-body": repeat(b"HTTP/1.1 302 X\r\nLocation: /ok\r\n\r\n", b"x" * 65536),
    "/bomb-redirect-body": answer(302, gzip.compress(bytes(1 << 24)), Location="/ok", Content_Encoding="gzip"),
    "/gzip-bomb": answer(200, gzip.compress(bytes(1 << 24)), Content_Encoding="gzip"),
    "/transfer-gzip": answer(200, gzip.compress(b"x"), Transfer_Encoding="gzip"),
    "/short-body": answer(200, b"short", Content_Length="100"),
    "/short-chunks": answer(200, b"10\r\nshort", Transfer_Encoding="chunked"),
    "/bad-chunks": answer(200, b"zz\r\nshort\r\n0\r\n\r\n", Transfer_Encoding="chunked"),
    "/two-lengths": answer(200, b"abc", Content_Length="3, 5"),
    "/claims-much": answer(200, b"abc", Content_Length="99999999999"),
    "/not-http": lambda connection, _: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "/reset": _reset,
    "/reset-in-body": _reset_in_body,
    "/hang-up": lambda _connection, _request: None,
    "/redirect": _redirect,
    "/redirect-loop": answer(302, Location="/redirect-loop"),
    "/redirect-nowhere": answer(302),
    "/choices": answer(300, Location="/ok"),
    "/no-content": answer(204),
    "/empty": answer(200),
    "/error": answer(500, b"a secret of the inside"),
    "/missing": answer(404, b"a secret of the inside"),
    "/refresh": answer(200, b'<meta http-equiv="refresh" content="0;url=/ok">', Refresh="0;url=/ok"),
    "/html": answer(200, b"<html></html>", Content_Type="text/html"),
    "/set-cookie": answer(302, Location="/ok", Set_Cookie="session=1; Path=/"),
    "/ok": answer(200, b"fine"),
}
