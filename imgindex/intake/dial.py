"""Where sockets to the outside are opened: the only place in the service, and the place of the address check.

`Dialer.open` resolves the name once, checks every address of the answer and connects to an address that it
has just checked, so neither a redirect nor a name that changes its address (DNS rebinding) gets past it.

The deadline lives in the socket. Before each call that can block, the socket's timeout becomes what is left
of the whole fetch, so a server that sends one byte a second is cut off as surely as one that sends none. This
needs no watchdog thread, which could shut down a file descriptor that has meanwhile become someone else's.
"""

import functools
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from typing import Any

import certifi

from imgindex.intake.addresses import IPAddress, is_public
from imgindex.intake.errors import FetchFailed, FetchRefused, FetchTimeout, TooManyBytes
from imgindex.intake.urls import Target

MAX_ADDRESSES = 4  # tried for one connection; a name may have hundreds
MAX_LOOKUPS = 32  # at once in this process; each is a thread that only the resolver can end

_lookups = threading.BoundedSemaphore(MAX_LOOKUPS)


class NotConnected(FetchFailed):
    """The connection failed before any answer came; another attempt may succeed."""


class Budget:
    """What one fetch may still spend, over all its hops and attempts: seconds, and bytes received.

    The bytes are a backstop against replies that never reach the body, such as endless `100 Continue`; the
    file itself is counted as it is read.
    """

    def __init__(self, *, seconds: float, received: int) -> None:
        self._ends = time.monotonic() + seconds
        self._received = received

    def seconds(self) -> float:
        """The time left, always positive. Raises `FetchTimeout` when there is none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise FetchTimeout("The file did not arrive in time.")
        return left

    def receive(self, count: int) -> None:
        """Count bytes. Raises `TooManyBytes` when they exceed what the fetch may receive."""
        self._received -= count
        if self._received < 0:
            raise TooManyBytes("The server sent more bytes than this service accepts.")


class _BoundedSocket(socket.socket):
    """A socket on which no call outlives the budget. These are the calls that http.client makes."""

    budget: Budget

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        with self._in_time():
            received = super().recv_into(*args, **kwargs)
        self.budget.receive(received)
        return received

    def send(self, *args: Any, **kwargs: Any) -> int:
        with self._in_time():
            return super().send(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        with self._in_time():
            super().sendall(*args, **kwargs)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        self.settimeout(self.budget.seconds())
        try:
            yield
        except TimeoutError as exc:
            raise FetchTimeout("The file did not arrive in time.") from exc


class _BoundedTLSSocket(_BoundedSocket, ssl.SSLSocket):
    """The same over TLS. A read or handshake keeps to the timeout as a whole, not anew for each packet."""


class Dialer:
    """Opens connections to one target: one for each attempt, all to the addresses of a single lookup."""

    def __init__(self, target: Target, *, allowed: bool, budget: Budget) -> None:
        self.target = target
        self._allowed = allowed
        self._budget = budget
        self._addresses: list[IPAddress] = []

    def open(self) -> socket.socket:
        """A connected socket, after the TLS handshake for https.

        Raises `FetchRefused` for an address that is not public, `NotConnected` and `FetchFailed` for one that
        does not answer, `FetchTimeout`.
        """
        self._addresses = self._addresses or self._resolve()
        # One address inside is reason enough: a name with both kinds is an attack or a mistake, and to skip
        # the private ones would make an attack look like a server that is down.
        if not self._allowed and not all(map(is_public, self._addresses)):
            raise FetchRefused(f"{self.target.host} does not have a public address.")
        connection = self._connect(self._addresses[:MAX_ADDRESSES])
        return self._secure(connection) if self.target.scheme == "https" else connection

    def _resolve(self) -> list[IPAddress]:
        if self.target.address is not None:
            return [self.target.address]
        answer = _look_up(self.target.host, self.target.port, self._budget)
        if isinstance(answer, socket.gaierror) and answer.errno == socket.EAI_AGAIN:
            raise NotConnected(f"The name {self.target.host} could not be resolved.") from answer
        if isinstance(answer, Exception) or not answer:
            raise FetchFailed(f"The name {self.target.host} could not be resolved.")
        return list(dict.fromkeys(ip_address(address) for address in answer))

    def _connect(self, addresses: list[IPAddress]) -> _BoundedSocket:
        failure: OSError | None = None
        for position, address in enumerate(addresses):
            # A silent address leaves time for the next: hosts without an IPv6 route are common.
            share = self._budget.seconds() / (len(addresses) - position)
            try:
                return self._connect_to(address, timeout=share)
            except OSError as exc:
                failure = exc
        self._budget.seconds()
        raise NotConnected(f"{self.target.host} could not be reached.") from failure

    def _connect_to(self, address: IPAddress, *, timeout: float) -> _BoundedSocket:
        family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
        connection = _BoundedSocket(family, socket.SOCK_STREAM)
        connection.budget = self._budget
        try:
            connection.settimeout(timeout)
            connection.connect((str(address), self.target.port))
        except BaseException:
            connection.close()
            raise
        return connection

    def _secure(self, connection: _BoundedSocket) -> ssl.SSLSocket:
        host = self.target.host
        try:
            secured = tls_context().wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
        except (OSError, ValueError) as exc:
            connection.close()
            raise FetchFailed(f"{host} does not speak TLS.") from exc
        assert isinstance(secured, _BoundedTLSSocket)
        secured.budget = self._budget
        try:
            secured.settimeout(self._budget.seconds())
            secured.do_handshake()
        except BaseException as exc:
            secured.close()
            raise _handshake_error(exc, host) from exc
        return secured


def _handshake_error(exc: BaseException, host: str) -> BaseException:
    if isinstance(exc, TimeoutError):
        return FetchTimeout(f"{host} did not complete the TLS handshake in time.")
    if isinstance(exc, ssl.SSLCertVerificationError):
        return FetchFailed(f"The TLS certificate of {host} is not valid.")
    if isinstance(exc, ConnectionError):
        return NotConnected(f"{host} closed the connection.")
    if isinstance(exc, OSError):
        return FetchFailed(f"{host} does not speak TLS.")
    return exc


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Verifies certificate and host name. Shared, because reading the root certificates takes long."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.sslsocket_class = _BoundedTLSSocket
    return context


def _look_up(host: str, port: int, budget: Budget) -> list[str] | Exception:
    """Resolve a name in a thread of its own, because getaddrinfo has no timeout and cannot be interrupted.

    A lookup whose fetch has given up keeps its place until the resolver answers, so the threads stay bounded.
    """
    answers: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            answers.put([str(entry[4][0]) for entry in found])
        except (OSError, UnicodeError) as exc:
            answers.put(exc)
        finally:
            _lookups.release()

    if not _lookups.acquire(timeout=budget.seconds()):
        raise FetchTimeout(f"The name {host} was not resolved in time.")
    try:
        threading.Thread(target=ask, name="intake-lookup", daemon=True).start()
    except RuntimeError:
        _lookups.release()
        raise
    try:
        return answers.get(timeout=budget.seconds())
    except queue.Empty as exc:
        raise FetchTimeout(f"The name {host} was not resolved in time.") from exc
