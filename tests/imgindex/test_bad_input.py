"""Bad input: each a clear 4xx (or 502/504 for other hosts) with a stable code, and nothing half-written."""

import base64
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from django.conf import settings
from django.db import connection
from django.test import Client, override_settings

from tests.image_server import ImageServer, answer
from tests.pictures import encoded, png_header, textured

pytestmark = pytest.mark.usefixtures("default_collection")

IMAGES = "/v3/collections/default/images"
SEARCH = "/v3/collections/default/search"
PICTURE = base64.b64encode(encoded(textured(1), "JPEG")).decode()


def everything_stored() -> tuple[int, ...]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM imgindex_image), (SELECT count(*) FROM imgindex_collection),"
            " (SELECT max(seq) FROM imgindex_change)"
        )
        rows = cursor.fetchone()
    return (*rows, sum(1 for path in settings.MEDIA_ROOT.rglob("*") if path.is_file()))


@pytest.fixture(autouse=True)
def nothing_half_written(default_collection: None) -> Iterator[None]:
    before = everything_stored()
    yield
    assert everything_stored() == before


def post(path: str, body: Any, content_type: str = "application/json", method: str = "POST") -> Any:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return Client(raise_request_exception=False).generic(method, path, content, content_type=content_type)


def problem(answer: Any) -> tuple[int, str]:
    body = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(body) == {"type", "title", "status", "code", "detail"}
    assert body["status"] == answer.status_code
    assert body["detail"]
    return answer.status_code, body["code"]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "invalid_request")),
        (b"{", (400, "invalid_request")),
        (b"\xff\xfe", (400, "invalid_request")),
        (b"null", (400, "invalid_request")),
        (b"[]", (400, "invalid_request")),
        (b'"text"', (400, "invalid_request")),
        (b"[" * 100_000, (400, "invalid_request")),
        ({}, (400, "invalid_request")),
        ({"url": 7}, (400, "invalid_request")),
        ({"url": ["http://x/"]}, (400, "invalid_request")),
        ({"base64": {"a": 1}}, (400, "invalid_request")),
        ({"base64": None, "url": None}, (400, "invalid_request")),
        ({"base64": PICTURE, "url": "http://x/"}, (400, "invalid_request")),
        ({"base64": PICTURE, "id": 5}, (400, "invalid_request")),
        ({"base64": PICTURE, "id": ""}, (400, "invalid_request")),
        ({"base64": PICTURE, "id": "x" * 513}, (400, "invalid_request")),
        ({"base64": PICTURE, "id": "é" * 257}, (400, "invalid_request")),
        ({"base64": PICTURE, "id": "a\0b"}, (400, "invalid_request")),
        ({"base64": PICTURE, "metadata": "text"}, (400, "invalid_request")),
        ({"base64": PICTURE, "metadata": [1]}, (400, "invalid_request")),
        ({"base64": PICTURE, "metadata": {"a": "b\0c"}}, (400, "invalid_request")),
        ({"base64": PICTURE, "metadata": {"a\0": 1}}, (400, "invalid_request")),
        ({"base64": PICTURE, "metadata": {"a": "x" * 70_000}}, (400, "invalid_request")),
        ({"base64": PICTURE, "colour": "red"}, (400, "invalid_request")),
        (b'{"base64": "AAAA", "id": "\\ud800"}', (400, "invalid_request")),
        ({"base64": ""}, (400, "empty_image")),
        ({"base64": "data:image/png;base64,"}, (400, "empty_image")),
        ({"base64": "not base64 at all!"}, (400, "invalid_base64")),
        ({"base64": "é"}, (400, "invalid_base64")),
        ({"base64": b64(b"not an image")}, (422, "not_an_image")),
        ({"base64": b64(b"<svg xmlns='http://www.w3.org/2000/svg'/>")}, (422, "not_an_image")),
        ({"base64": b64(encoded(textured(1), "JPEG")[:2000])}, (422, "not_an_image")),
        ({"base64": b64(png_header(100_000, 100_000))}, (413, "image_too_large")),
        ({"url": ""}, (400, "fetch_refused")),
        ({"url": "file:///etc/passwd"}, (400, "fetch_refused")),
        ({"url": "http://127.0.0.1/"}, (400, "fetch_refused")),
        ({"url": "http://10.0.0.1/a.jpg"}, (400, "fetch_refused")),
        ({"url": "http://[::1]/"}, (400, "fetch_refused")),
        ({"url": "http://user:pass@example.com/"}, (400, "fetch_refused")),
        ({"url": "no url"}, (400, "fetch_refused")),
        (b" " * 50_000_000, (413, "image_too_large")),
        ({"url": "http://" + "a" * 100_000}, (400, "fetch_refused")),
    ],
)
def test_a_bad_body_is_refused_by_both_calls(body: Any, expected: tuple[int, str]) -> None:
    assert problem(post(IMAGES, body)) == expected
    if not (isinstance(body, dict) and {"id", "colour"} & set(body)):
        began = time.monotonic()
        searched = body
        if isinstance(body, dict) and "metadata" in body and expected[1] == "invalid_request":
            return
        assert problem(post(SEARCH, searched)) == expected
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "body",
    [
        {"hash": "zz"},
        {"hash": "00"},
        {"hash": ""},
        {"hash": "0" * 64, "hash_type": "phash"},
        {"hash": "0" * 16},
        {"hash": 5},
        {"hash": "0" * 64, "hash_type": "md5"},
        {"hash": "0" * 64, "max_distance": -1},
        {"hash": "0" * 64, "max_distance": 257},
        {"hash": "0" * 16, "hash_type": "phash", "max_distance": 65},
        {"hash": "0" * 64, "max_distance": "31"},
        {"hash": "0" * 64, "max_distance": 3.5},
        {"hash": "0" * 64, "max_distance": True},
        {"hash": "0" * 64, "limit": 0},
        {"hash": "0" * 64, "limit": 1001},
        b'{"hash": "00", "limit": 1000000000000000000000000000000}',
        {"hash": "0" * 64, "id": "x"},
        {"hash": "0" * 64, "metadata": "x"},
        {"hash": "0" * 64, "metadata": {"a": "\0"}},
        {"id": ""},
        {"base64": PICTURE, "hash": "0" * 64},
        {},
    ],
)
def test_a_bad_search_is_refused(body: Any) -> None:
    assert problem(post(SEARCH, body)) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/v3/collections/nope/images", {"base64": PICTURE}, (404, "not_found")),
        ("POST", "/v3/collections/nope/search", {"base64": PICTURE}, (404, "not_found")),
        ("POST", "/v3/collections/nope/search", {"url": "http://127.0.0.1/"}, (404, "not_found")),
        ("GET", "/v3/collections/nope", None, (404, "not_found")),
        ("DELETE", "/v3/collections/nope", None, (404, "not_found")),
        ("GET", "/v3/collections/%00", None, (404, "not_found")),
        ("GET", "/v3/collections/%ff", None, (404, "not_found")),
        ("GET", f"{IMAGES}/nope", None, (404, "not_found")),
        ("GET", f"{IMAGES}/%00", None, (404, "not_found")),
        ("GET", f"{IMAGES}/%ed%a0%80", None, (404, "not_found")),
        ("DELETE", f"{IMAGES}/%00", None, (404, "not_found")),
        ("PATCH", f"{IMAGES}/nope", {"metadata": {}}, (404, "not_found")),
        ("PATCH", f"{IMAGES}/nope", {}, (400, "invalid_request")),
        ("PUT", f"{IMAGES}/{'x' * 513}", {"base64": PICTURE}, (400, "invalid_request")),
        ("PUT", f"{IMAGES}/%00", {"base64": PICTURE}, (400, "invalid_request")),
        ("PUT", f"{IMAGES}/a", {"base64": PICTURE, "id": "b"}, (400, "invalid_request")),
        ("GET", "/v3/collections/default/thumbnails/nope", None, (404, "not_found")),
        ("POST", SEARCH, {"id": "nope"}, (404, "not_found")),
        ("POST", SEARCH, {"id": "a\0b"}, (404, "not_found")),
        ("POST", "/v3/collections", {}, (400, "invalid_request")),
        ("POST", "/v3/collections", {"name": ""}, (400, "invalid_request")),
        ("POST", "/v3/collections", {"name": "a/b"}, (400, "invalid_request")),
        ("POST", "/v3/collections", {"name": "x" * 65}, (400, "invalid_request")),
        ("POST", "/v3/collections", {"name": "a\n"}, (400, "invalid_request")),
        ("POST", "/v3/collections", {"name": 3}, (400, "invalid_request")),
        ("GET", f"{IMAGES}?limit=0", None, (400, "invalid_request")),
        ("GET", f"{IMAGES}?limit=x", None, (400, "invalid_request")),
        ("GET", f"{IMAGES}?limit=99999999999999999999", None, (400, "invalid_request")),
        ("GET", f"{IMAGES}?cursor=!", None, (400, "invalid_request")),
        ("GET", f"{IMAGES}?cursor=zzzzzzzzzzzzzzzzzzzz", None, (400, "invalid_request")),
        ("GET", f"{IMAGES}?cursor=1_0", None, (400, "invalid_request")),
        ("GET", f"{IMAGES}?{'&'.join(f'metadata.k{i}=1' for i in range(51))}", None, (400, "invalid_request")),
        ("GET", f"{IMAGES}?metadata.a=%00", None, (400, "invalid_request")),
        ("DELETE", IMAGES, None, (405, "method_not_allowed")),
        ("GET", SEARCH, None, (405, "method_not_allowed")),
        ("GET", "/v3/nothing", None, (404, "not_found")),
        ("GET", "/nothing", None, (404, "not_found")),
    ],
)
def test_a_bad_address_is_refused(method: str, path: str, body: Any, expected: tuple[int, str]) -> None:
    assert problem(post(path, b"" if body is None else body, method=method)) == expected


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"url=http://x/", "application/x-www-form-urlencoded", (415, "unsupported_media_type")),
        (b"\xff\xd8\xff", "image/jpeg", (415, "unsupported_media_type")),
        (b"x", "multipart/form-data", (400, "invalid_request")),
        (b"x", "multipart/form-data; boundary=b", (400, "invalid_request")),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--b--\r\n',
            None,
            (400, "invalid_request"),
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nx\r\n--b--\r\n',
            None,
            (400, "invalid_request"),
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\r\n--b--\r\n',
            None,
            (400, "empty_image"),
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n'
            b'--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{x\r\n--b--\r\n',
            None,
            (400, "invalid_request"),
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nnot an image\r\n--b--\r\n',
            None,
            (422, "not_an_image"),
        ),
    ],
)
def test_a_bad_form_is_refused(body: bytes, content_type: str | None, expected: tuple[int, str]) -> None:
    assert problem(post(IMAGES, body, content_type or "multipart/form-data; boundary=b")) == expected


def test_a_body_above_the_limit_is_refused() -> None:
    with override_settings(MAX_IMAGE_BYTES=2000, DATA_UPLOAD_MAX_MEMORY_SIZE=4000):
        assert problem(post(IMAGES, {"base64": PICTURE})) == (413, "image_too_large")
        assert problem(post(IMAGES, {"base64": b64(bytes(2001))})) == (413, "image_too_large")
        with override_settings(MAX_IMAGE_BYTES=-(2**20)):
            huge = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n'
            assert problem(post(IMAGES, huge, "multipart/form-data; boundary=b")) == (413, "image_too_large")
        form = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(2001) + b"\r\n--b--\r\n"
        )
        assert problem(post(IMAGES, form, "multipart/form-data; boundary=b")) == (413, "image_too_large")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/missing.jpg", (502, "fetch_failed")),
        ("/drip-body", (504, "fetch_timeout")),
        ("/drip-headers", (504, "fetch_timeout")),
        ("/endless-body", (413, "image_too_large")),
        ("/reset", (502, "fetch_failed")),
        ("/text.jpg", (422, "not_an_image")),
        ("/empty.jpg", (400, "empty_image")),
    ],
)
def test_a_bad_host_is_said_in_time(path: str, expected: tuple[int, str]) -> None:
    images = {"/text.jpg": b"<html>not here</html>", "/empty.jpg": b""}
    with ImageServer(images) as server, override_settings(FETCH_ALLOW=server.allow, FETCH_TIMEOUT=1):
        began = time.monotonic()
        assert problem(post(IMAGES, {"url": server.url(path)})) == expected
        assert time.monotonic() - began < 10


def test_a_dead_host_is_said() -> None:
    with ImageServer({}) as server:
        url, allow = server.url("/a.jpg"), server.allow
    with override_settings(FETCH_ALLOW=allow, FETCH_TIMEOUT=2):
        assert problem(post(IMAGES, {"url": url})) == (502, "fetch_failed")


def test_a_redirect_into_the_private_net_is_refused() -> None:
    with ImageServer({"/p.png": encoded(textured(1))}) as inner:
        routes = {"/away": answer(302, Location=inner.url("/p.png"))}
        with ImageServer({}, routes=routes) as server, override_settings(FETCH_ALLOW=server.allow, FETCH_TIMEOUT=2):
            assert problem(post(IMAGES, {"url": server.url("/away")})) == (400, "fetch_refused")
        assert inner.connections == 0


@pytest.mark.parametrize("depth", [65, 200, 251, 252, 253, 254, 400])
def test_deep_metadata_are_refused_and_never_break_an_answer(depth: int) -> None:
    nested: Any = 1
    for _ in range(depth):
        nested = [nested]
    body = b'{"base64": "%s", "metadata": {"a": %s}}' % (PICTURE.encode(), b"[" * depth + b"1" + b"]" * depth)
    assert problem(post(IMAGES, body)) == (400, "invalid_request")
    assert problem(post(SEARCH, body)) == (400, "invalid_request")
    legacy = post("/search_simmilar_images", b'{"metadata": %s}' % (b"[" * depth + b"1" + b"]" * depth))
    assert legacy.status_code == 400


def test_an_odd_charset_is_no_fault_of_ours() -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n'
    for charset in ("idna", "punycode", "utf-7", "rot13", "nothing"):
        sent = post(IMAGES, form, f"multipart/form-data; boundary=b; charset={charset}")
        assert problem(sent) == (422, "not_an_image")


def test_a_field_given_twice_is_refused() -> None:
    form = (
        b"".join(b'--b\r\nContent-Disposition: form-data; name="id"\r\n\r\n%d\r\n' % i for i in range(2)) + b"--b--\r\n"
    )
    assert problem(post(IMAGES, form, "multipart/form-data; boundary=b")) == (400, "invalid_request")


def test_a_host_name_that_is_not_ours_is_refused() -> None:
    answer = Client(raise_request_exception=False, headers={"host": "evil.example"}).get("/v3/collections")
    assert problem(answer) == (400, "invalid_request")
