"""A URL -> the bytes behind it, within limits that hold whatever the server does.

requests and requests-hardened speak HTTP; `Dialer` opens their sockets. Redirects are followed here, one hop
at a time, each read and checked like the URL the user gave. Every hop has a session of its own: no cookie, no
credential and no connection is carried from one to the next.
"""

import functools
import itertools
import time
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests_hardened import Config, HTTPSession
from urllib3.connection import HTTPConnection, HTTPSConnection

from imgindex.intake.dial import Budget, Dialer, NotConnected
from imgindex.intake.errors import FetchFailed, FetchRefused
from imgindex.intake.given import CHUNK_BYTES, check_not_empty, check_size
from imgindex.intake.urls import Allowed, Target, parse_redirect, parse_url

BACK_OFF_S = 0.1
REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What a fetch may do and spend. `allow` holds host and port pairs that may lie on a private network."""

    max_bytes: int = 32 * 1024 * 1024
    deadline_s: float = 10.0
    max_redirects: int = 5
    attempts: int = 3
    ports: frozenset[int] = frozenset({80, 443})
    allow: Allowed = frozenset()
    user_agent: str = "imgindex"


def from_url(url: str, *, policy: FetchPolicy) -> bytes:
    """Fetch the file at a URL.

    Raises `FetchRefused`, `FetchFailed`, `FetchTimeout`, `TooManyBytes` or `EmptyImage`, the latest at the
    policy's deadline, which counts name lookups, connections, redirects and attempts.
    """
    # Twice the file leaves room for headers, redirects and small chunks, and ends a flood of any of them.
    budget = Budget(seconds=policy.deadline_s, received=2 * policy.max_bytes + CHUNK_BYTES)
    target = parse_url(url, ports=policy.ports, allow=policy.allow)
    for _ in range(policy.max_redirects + 1):
        reply = _fetch_hop(target, policy, budget)
        if isinstance(reply, bytes):
            return reply
        target = reply
    raise FetchRefused(f"The URL redirects more than {policy.max_redirects} times.")


def _fetch_hop(target: Target, policy: FetchPolicy, budget: Budget) -> bytes | Target:
    """The file, or the next place to look. Only a connection that fails before an answer is tried again."""
    dialer = Dialer(target, allowed=(target.host, target.port) in policy.allow, budget=budget)
    for attempt in itertools.count(1):
        try:
            return _ask(dialer, policy, budget)
        except NotConnected as exc:
            if attempt >= policy.attempts:
                raise FetchFailed(str(exc)) from exc
            time.sleep(min(attempt * BACK_OFF_S, budget.seconds()))
    raise AssertionError("the loop above ends by itself")


def _ask(dialer: Dialer, policy: FetchPolicy, budget: Budget) -> bytes | Target:
    target = dialer.target
    try:
        with _session(dialer, policy) as session:
            request = session.prepare_request(requests.Request("GET", target.url))
            with session.send(request, stream=True, timeout=budget.seconds()) as response:
                if response.status_code in REDIRECTS and "Location" in response.headers:
                    return parse_redirect(
                        response.headers["Location"], base=target, ports=policy.ports, allow=policy.allow
                    )
                return _read(response, target, policy)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as exc:
        if _is_reset(exc):
            raise NotConnected(f"{target.host} closed the connection without an answer.") from exc
        raise FetchFailed(f"{target.host} did not send a complete and valid answer.") from exc


def _read(response: requests.Response, target: Target, policy: FetchPolicy) -> bytes:
    if not 200 <= response.status_code < 300:
        raise FetchFailed(f"{target.host} answered with status {response.status_code}.")
    # We asked for the plain file. Whoever compresses it all the same may hide gigabytes in kilobytes.
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise FetchFailed(f"{target.host} sent a compressed answer, which was not asked for.")
    if response.headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
        raise FetchFailed(f"{target.host} sent an answer in an unknown transfer encoding.")
    length = response.headers.get("Content-Length", "")
    if length.isdecimal():
        check_size(int(length), max_bytes=policy.max_bytes)
    data = bytearray()
    while piece := response.raw.read(CHUNK_BYTES, decode_content=False):
        check_size(len(data) + len(piece), max_bytes=policy.max_bytes)
        data += piece
    return check_not_empty(bytes(data))


def _is_reset(exc: Exception) -> bool:
    """Whether the connection broke before an answer: requests wraps urllib3 wraps the socket's error."""
    if not isinstance(exc, requests.ConnectionError) or not exc.args:
        return False
    inner = exc.args[0]
    return isinstance(inner, urllib3.exceptions.ProtocolError) and isinstance(inner.args[-1], ConnectionError)


def _session(dialer: Dialer, policy: FetchPolicy) -> "_Session":
    session = _Session(
        Config(
            # Its filter looks at the first address only, with a table of its own and no deadline for the
            # lookup. Ours replaces it; what remains of use here is that it never redirects.
            ip_filter_enable=False,
            ip_filter_allow_loopback_ips=False,
            never_redirect=True,
            default_timeout=policy.deadline_s,
            user_agent_override=policy.user_agent,
        )
    )
    session.trust_env = False
    session.headers["Accept-Encoding"] = "identity"
    session.mount("http://", _Adapter(dialer))
    session.mount("https://", _Adapter(dialer))
    return session


class _Session(HTTPSession):  # type: ignore[misc]  # the package has no types
    def get_redirect_target(self, _response: requests.Response) -> None:
        """None, always. `send` prepares the next request, and for that reads and inflates the whole body."""


class _Adapter(HTTPAdapter):
    """Has urllib3 make its connections through a dialer."""

    def __init__(self, dialer: Dialer) -> None:
        super().__init__()
        self._dialer = dialer

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        kind = _TLSConnection if self._dialer.target.scheme == "https" else _Connection
        pool.ConnectionCls = functools.partial(kind, dialer=self._dialer)
        return pool


class _Dialled:
    """A connection of urllib3's whose socket comes from a dialer, and from nowhere else."""

    host: str
    port: int

    def __init__(self, *args: Any, dialer: Dialer, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dialer = dialer

    def connect(self) -> None:
        # The name in the Host header is the one that was checked, however requests has read the URL.
        if (self.host, self.port) != (self._dialer.target.host, self._dialer.target.port):
            raise FetchRefused("The URL can be read in two ways.")
        self.sock = self._dialer.open()
        self.is_verified = self._dialer.target.scheme == "https"


class _Connection(_Dialled, HTTPConnection):
    pass


class _TLSConnection(_Dialled, HTTPSConnection):
    pass
