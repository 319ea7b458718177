"""URL, base64 and upload -> bytes: what arrives, what is refused, and that nothing lasts beyond its limits.

Every socket opened here leads to a server of the test on the loopback interface (see `loopback_only`). The
address guard has a file of its own, test_address_guard.py.
"""

import base64
import io
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgindex.intake import (
    EmptyImage,
    FetchFailed,
    FetchPolicy,
    FetchRefused,
    FetchTimeout,
    IntakeError,
    InvalidBase64,
    TooManyBytes,
    dial,
    from_base64,
    from_upload,
    from_url,
    parse_allow,
)
from tests.image_server import HOSTILE, ImageServer, answer

DEADLINE_S = 0.6
MAX_BYTES = 1_000_000
PICTURE = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
            raise AssertionError("a test of the intake reached for the network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="module")
def server() -> Iterator[ImageServer]:
    with ImageServer({"/a.png": PICTURE, "/фото.png": b"unicode", "/big": bytes(MAX_BYTES + 1)}) as server:
        yield server


def policy(server: ImageServer, **changes: Any) -> FetchPolicy:
    return FetchPolicy(**{"deadline_s": DEADLINE_S, "max_bytes": MAX_BYTES, "allow": server.allow} | changes)


def get(server: ImageServer, path: str, **changes: Any) -> bytes:
    return from_url(server.url(path), policy=policy(server, **changes))


# What arrives


def test_a_picture_arrives_whole(server: ImageServer) -> None:
    assert get(server, "/a.png") == PICTURE


def test_paths_may_be_unicode_or_percent_encoded(server: ImageServer) -> None:
    assert get(server, "/фото.png") == get(server, "/%D1%84%D0%BE%D1%82%D0%BE.png") == b"unicode"


def test_the_fragment_is_not_sent(server: ImageServer) -> None:
    assert get(server, "/a.png?size=1#top") == PICTURE
    assert server.seen[-1].path == "/a.png?size=1"


def test_any_type_of_content_arrives(server: ImageServer) -> None:
    assert get(server, "/html") == b"<html></html>"


def test_chunked_and_open_ended_bodies_arrive() -> None:
    routes = {
        "/chunked": answer(200, b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", Transfer_Encoding="chunked"),
        "/open": lambda connection, _: connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nabcde"),
        "/continued": lambda connection, _: connection.sendall(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde"
        ),
    }
    with ImageServer(routes=routes) as server:
        assert {get(server, path) for path in routes} == {b"abcde"}


def test_a_request_carries_nothing_but_what_it_needs(
    server: ImageServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert get(server, "/a.png", user_agent="imgindex-test") == PICTURE
    assert server.seen[-1].headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": "imgindex-test",
        "accept-encoding": "identity",
        "accept": "*/*",
        "connection": "keep-alive",
    }


def test_a_name_is_allowed_as_it_is_given(server: ImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    allowed = policy(server, allow=parse_allow(f" LOCALHOST:{server.port} , "))
    assert from_url(f"http://LocalHost:{server.port}/a.png", policy=allowed) == PICTURE
    assert server.seen[-1].headers["host"] == f"localhost:{server.port}"
    with pytest.raises(FetchRefused):
        get(server, "/a.png", allow=allowed.allow)
    with pytest.raises(FetchRefused):
        from_url(f"http://localhost:{server.port + 1}/a.png", policy=allowed)


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int) -> None:
    with ImageServer({"/b": b"there"}, routes={"/a": answer(status, b"moved", Location="b#part")}) as server:
        assert get(server, "/a") == b"there"


def test_a_redirect_may_be_relative_absolute_or_utf8(server: ImageServer) -> None:
    port = server.port
    for location in ("/ok", "ok", "./ok", f"//127.0.0.1:{port}/ok", server.url("/ok"), "?/ok"):
        assert get(server, f"/redirect?{location}")
    assert get(server, "/redirect?/фото.png") == b"unicode"


def test_redirects_are_counted(server: ImageServer) -> None:
    before = server.requests["/redirect-loop"]
    with pytest.raises(FetchRefused, match="more than 5 times"):
        get(server, "/redirect-loop")
    assert server.requests["/redirect-loop"] - before == 6


def test_cookies_are_not_carried_to_the_next_hop(server: ImageServer) -> None:
    assert get(server, "/set-cookie") == b"fine"
    assert "cookie" not in server.seen[-1].headers


@pytest.mark.parametrize("path", ["/endless-redirect-body", "/bomb-redirect-body"])
def test_the_body_of_a_redirect_is_not_read(server: ImageServer, path: str) -> None:
    started = time.perf_counter()
    assert get(server, path) == b"fine"
    assert time.perf_counter() - started < 0.3


def test_a_refresh_is_not_followed(server: ImageServer) -> None:
    assert b"refresh" in get(server, "/refresh")


# Servers that misbehave


EXPECTED = {
    FetchTimeout: [*(path for path in HOSTILE if path.startswith("/drip-") and path != "/drip-redirect"), "/silence"],
    TooManyBytes: [
        "/big",
        "/claims-much",
        "/endless-body",
        "/endless-chunks",
        "/endless-chunk-extension",
        "/endless-continue",
        "/endless-trailers",
    ],
    FetchFailed: [
        "/endless-header-line",
        "/header-flood",
        "/gzip-bomb",
        "/transfer-gzip",
        "/short-body",
        "/short-chunks",
        "/bad-chunks",
        "/two-lengths",
        "/not-http",
        "/reset",
        "/reset-in-body",
        "/hang-up",
        "/redirect-nowhere",
        "/choices",
        "/error",
        "/missing",
        "/nothing-here",
    ],
    FetchRefused: ["/redirect-loop", "/drip-redirect"],
    EmptyImage: ["/no-content", "/empty"],
}


@pytest.mark.parametrize(("path", "error"), [(path, error) for error, paths in EXPECTED.items() for path in paths])
def test_a_hostile_server_is_left_in_time(server: ImageServer, path: str, error: type[IntakeError]) -> None:
    started = time.perf_counter()
    with pytest.raises(error) as caught:
        get(server, path)
    took = time.perf_counter() - started
    print(f"{path}: {error.__name__} after {took:.3f} s of {DEADLINE_S} s")
    assert took < DEADLINE_S + 2
    assert "secret" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_server_that_never_accepts_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        port = deaf.getsockname()[1]
        started = time.perf_counter()
        allowed = FetchPolicy(deadline_s=DEADLINE_S, allow=frozenset({("127.0.0.1", port)}))
        with pytest.raises(FetchTimeout):
            from_url(f"http://127.0.0.1:{port}/", policy=allowed)
        assert time.perf_counter() - started < DEADLINE_S + 2


def test_the_size_is_counted_to_the_byte(server: ImageServer) -> None:
    assert get(server, "/big", max_bytes=MAX_BYTES + 1) == bytes(MAX_BYTES + 1)
    with pytest.raises(TooManyBytes, match="limit of 1000000 bytes"):
        get(server, "/big")


@pytest.mark.parametrize("path", ["/reset", "/hang-up"])
def test_a_connection_that_breaks_before_an_answer_is_tried_three_times(server: ImageServer, path: str) -> None:
    before = server.requests[path]
    with pytest.raises(FetchFailed, match="closed the connection"):
        get(server, path)
    assert server.requests[path] - before == 3


@pytest.mark.parametrize("path", ["/missing", "/error", "/reset-in-body", "/short-body", "/not-http", "/gzip-bomb"])
def test_an_answer_is_not_asked_for_again(server: ImageServer, path: str) -> None:
    before = server.requests[path]
    with pytest.raises(FetchFailed):
        get(server, path)
    assert server.requests[path] - before == 1


def test_a_second_attempt_may_succeed() -> None:
    failures = iter([HOSTILE["/reset"], HOSTILE["/hang-up"]])

    def shaky(connection: socket.socket, request: Any) -> None:
        next(failures, answer(200, b"at last"))(connection, request)

    with ImageServer(routes={"/shaky": shaky}) as server:
        assert get(server, "/shaky") == b"at last"


def test_a_port_nobody_listens_on_is_tried_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    tried = []
    connect = socket.socket.connect

    def count(self: socket.socket, address: Any) -> None:
        tried.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", count)
    with pytest.raises(FetchFailed, match="could not be reached"):
        from_url(f"http://127.0.0.1:{port}/", policy=FetchPolicy(allow=frozenset({("127.0.0.1", port)})))
    assert tried == [("127.0.0.1", port)] * 3


# Names


def test_a_resolver_that_hangs_is_left_in_time_and_asked_by_few_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()

    def hang(*args: Any, **kwargs: Any) -> list[Any]:
        release.wait(10)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    def fetch(_: int) -> float:
        started = time.perf_counter()
        with pytest.raises(FetchTimeout):
            from_url("http://slow.example/", policy=FetchPolicy(deadline_s=0.3))
        return time.perf_counter() - started

    with ThreadPoolExecutor(dial.MAX_LOOKUPS + 8) as pool:
        took = list(pool.map(fetch, range(dial.MAX_LOOKUPS + 8)))
    assert max(took) < 2.3
    assert threads_named("intake-lookup") == dial.MAX_LOOKUPS
    release.set()
    assert settles(lambda: threads_named("intake-lookup"), 0)


def test_a_name_that_fails_for_now_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for errno, asked in ((socket.EAI_AGAIN, 3), (socket.EAI_NONAME, 1)):
        calls = []

        def fail(*args: Any, errno: int = errno, calls: list[Any] = calls, **kwargs: Any) -> list[Any]:
            calls.append(args)
            raise socket.gaierror(errno, "no")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        with pytest.raises(FetchFailed, match=r"name gone\.example could not be resolved"):
            from_url("http://gone.example/", policy=FetchPolicy())
        assert len(calls) == asked


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    names = "subjectAltName=DNS:images.example,IP:127.0.0.1"
    subprocess.run(
        [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test",
            "-addext",
            names,
            "-keyout",
            folder / "key.pem",
            "-out",
            folder / "cert.pem",
        ],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[ImageServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with ImageServer({"/a.png": PICTURE}, tls=context) as server:
        yield server


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    dial.tls_context.cache_clear()
    monkeypatch.setattr(dial.certifi, "where", lambda: str(certificate / "cert.pem"))
    yield
    dial.tls_context.cache_clear()


def test_a_self_signed_certificate_is_refused(tls_server: ImageServer) -> None:
    with pytest.raises(FetchFailed, match=r"certificate of 127\.0\.0\.1 is not valid"):
        get(tls_server, "/a.png")
    assert tls_server.connections == 1
    assert not tls_server.seen


@pytest.mark.usefixtures("trusted")
def test_a_trusted_certificate_is_verified_against_the_name_in_the_url(
    tls_server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", tls_server.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    names = []
    tls_server.tls.sni_callback = lambda _connection, name, _context: names.append(name)
    port = tls_server.port
    allowed = policy(tls_server, allow=parse_allow(f"images.example:{port},other.example:{port}"))
    assert get(tls_server, "/a.png") == PICTURE
    assert from_url(f"https://images.example:{port}/a.png", policy=allowed) == PICTURE
    with pytest.raises(FetchFailed, match=r"certificate of other\.example is not valid"):
        from_url(f"https://other.example:{port}/a.png", policy=allowed)
    assert names == [None, "images.example", "other.example"]


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/drip-body", FetchTimeout),
        ("/drip-headers", FetchTimeout),
        ("/drip-continue", FetchTimeout),
        ("/endless-body", TooManyBytes),
        ("/endless-continue", TooManyBytes),
    ],
)
def test_limits_hold_over_tls(tls_server: ImageServer, path: str, error: type[IntakeError]) -> None:
    started = time.perf_counter()
    with pytest.raises(error):
        get(tls_server, path)
    took = time.perf_counter() - started
    print(f"TLS {path}: {error.__name__} after {took:.3f} s of {DEADLINE_S} s")
    assert took < DEADLINE_S + 2


def test_a_tls_handshake_that_hangs_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        started = time.perf_counter()
        with pytest.raises(FetchTimeout):
            from_url(
                f"https://127.0.0.1:{port}/",
                policy=FetchPolicy(deadline_s=DEADLINE_S, allow=frozenset({("127.0.0.1", port)})),
            )
        assert time.perf_counter() - started < DEADLINE_S + 2


def test_plain_http_behind_an_https_url_fails(server: ImageServer) -> None:
    with pytest.raises(FetchFailed, match="does not speak TLS"):
        from_url(f"https://127.0.0.1:{server.port}/a.png", policy=policy(server))


# Nothing stays behind


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads_named(name: str) -> int:
    return sum(name in thread.name for thread in threading.enumerate())


def settles(measure: Any, bound: int) -> bool:
    ends = time.monotonic() + 3
    while measure() > bound and time.monotonic() < ends:
        time.sleep(0.02)
    return measure() <= bound


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files through /proc")
@pytest.mark.parametrize("path", ["/drip-body", "/drip-headers", "/silence", "/endless-body", "/reset", "/ok"])
def test_many_fetches_at_once_leave_no_thread_and_no_file(server: ImageServer, path: str) -> None:
    assert settles(lambda: threads_named("process_request_thread"), 0)  # servers of the tests before
    threads, files = threading.active_count(), open_files()

    def fetch(_: int) -> float:
        started = time.perf_counter()
        with suppress(IntakeError):
            get(server, path)
        return time.perf_counter() - started

    with ThreadPoolExecutor(20) as pool:
        took = list(pool.map(fetch, range(20)))
    print(f"20 x {path}: slowest {max(took):.3f} s of {DEADLINE_S} s")
    assert max(took) < DEADLINE_S + 2
    assert settles(threading.active_count, threads)
    assert settles(open_files, files)


# FETCH_ALLOW


def test_allow_is_a_list_of_hosts_and_ports() -> None:
    assert parse_allow("") == frozenset()
    assert parse_allow("127.0.0.1:8001, Images.Local:80,[::1]:443,bücher.example:80,db:81") == {
        ("127.0.0.1", 8001),
        ("images.local", 80),
        ("::1", 443),
        ("xn--bcher-kva.example", 80),
        ("db", 81),
    }


@pytest.mark.parametrize(
    "text",
    ["localhost", "localhost:", ":80", "http://localhost:80", "a:0", "a:65536", "a:b", "::1:80", "a b:80"],
)
def test_a_wrong_allow_names_the_fix(text: str) -> None:
    with pytest.raises(ValueError, match=r"FETCH_ALLOW: .* is not host:port; write it like images\.local:8001"):
        parse_allow(f"ok:80,{text}")


# base64


@given(st.binary(min_size=1, max_size=300), st.sampled_from(["", "data:image/png;base64,", "DATA:;base64,"]))
def test_base64_in_every_spelling(data: bytes, prefix: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes):
        text = encode(data).decode()
        for spelling in (text, text.rstrip("=\n"), f" \r\n{text}\t"):
            assert from_base64(prefix + spelling, max_bytes=len(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "abcde",
        "ab*d",
        "ab=d",
        "=abc",
        "abc==",
        "a===",
        "====",
        "abcd====",
        "äbcd",
        "ab\x00d",
        "data:image/png,abcd",
        "data:image/png;base64",
        "http://a.example/x.png",
        "%2B%2B%2B%2B",
        "ab.d",
        "�bcd",
    ],
)
def test_what_is_not_base64_is_an_error(text: str) -> None:
    with pytest.raises(InvalidBase64):
        from_base64(text, max_bytes=100)


@given(st.text())
def test_any_text_is_bytes_or_an_intake_error(text: str) -> None:
    with suppress(IntakeError):
        assert from_base64(text, max_bytes=100)


def test_base64_keeps_to_the_limit() -> None:
    assert from_base64(base64.b64encode(bytes(100)).decode(), max_bytes=100) == bytes(100)
    for size in (101, 102, 103, 10_000_000):
        with pytest.raises(TooManyBytes):
            from_base64(base64.b64encode(bytes(size)).decode(), max_bytes=100)


@pytest.mark.parametrize("text", ["", " \n", "data:image/png;base64,"])
def test_empty_base64_is_empty(text: str) -> None:
    with pytest.raises(EmptyImage):
        from_base64(text, max_bytes=100)


# Uploads


class Chunks:
    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.taken = 0

    def chunks(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.taken += 1
            yield piece


def test_an_upload_is_read_whole() -> None:
    assert from_upload(io.BytesIO(PICTURE), max_bytes=len(PICTURE)) == PICTURE
    assert from_upload(Chunks(b"ab", b"", b"c"), max_bytes=3) == b"abc"


def test_an_upload_is_left_at_the_limit() -> None:
    with pytest.raises(TooManyBytes):
        from_upload(io.BytesIO(PICTURE), max_bytes=len(PICTURE) - 1)
    endless = Chunks(*[b"x" * 10] * 1000)
    with pytest.raises(TooManyBytes):
        from_upload(endless, max_bytes=25)
    assert endless.taken == 3


def test_an_empty_upload_is_empty() -> None:
    for stream in (io.BytesIO(), Chunks(), Chunks(b"")):
        with pytest.raises(EmptyImage):
            from_upload(stream, max_bytes=10)
