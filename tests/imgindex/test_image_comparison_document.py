"""The image comparison's document (002), statements 14 to 16 of the endpoint list."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from django.test import Client, override_settings
from PIL import Image

from tests.documents import golden, nothing_kept, post, replayed, send
from tests.image_server import ImageServer
from tests.pictures import encoded, textured

pytestmark = pytest.mark.usefixtures("default_collection")

PICTURE = textured(1)
MARKED = PICTURE.copy()
MARKED[100:150, 200:260] = np.where(PICTURE[100:150, 200:260] > 127, 0, 255)


@pytest.fixture
def server() -> Iterator[ImageServer]:
    images = {
        "/1.png": encoded(PICTURE),
        "/1.bmp": encoded(PICTURE, "BMP"),
        "/marked.png": encoded(MARKED),
        "/large.png": encoded(np.repeat(np.repeat(PICTURE, 2, axis=0), 2, axis=1)),
        "/text": b"text",
    }
    with ImageServer(images) as server, override_settings(FETCH_ALLOW=server.allow, FETCH_TIMEOUT=2):
        yield server


def compare(server: ImageServer, first: str, second: str, path: str = "/compare") -> tuple[Any, float]:
    answer = post(path, {"image_url1": server.url(first), "image_url2": server.url(second)})
    assert (answer.status_code, answer["Content-Type"]) == (200, "image/png"), answer.content
    image = Image.open(io.BytesIO(answer.content))
    assert (image.format, image.mode) == ("PNG", "L")
    return np.asarray(image), float(answer["X-Image-MSE"])


@pytest.mark.parametrize("path", ["/compare", "/compare/"])
def test_14_identical_pictures_do_not_differ(server: ImageServer, path: str) -> None:
    with nothing_kept():
        marked, error = compare(server, "/1.png", "/1.bmp", path)
    assert (marked.shape, marked.max(), error) == ((320, 480), 0, 0.0)


def test_14_white_where_they_differ(server: ImageServer) -> None:
    marked, error = compare(server, "/1.png", "/marked.png")
    assert set(np.unique(marked)) == {0, 255}
    assert (marked[100:150, 200:260] == 255).mean() > 0.7
    marked = marked.copy()
    marked[100:150, 200:260] = 0
    assert marked.max() == 0
    assert error > 0


def test_14_the_second_picture_takes_the_first_ones_size(server: ImageServer) -> None:
    marked, error = compare(server, "/1.png", "/large.png")
    assert (marked.shape, marked.max()) == ((320, 480), 0)
    assert error < 1
    assert compare(server, "/large.png", "/1.png")[0].shape == (640, 960)


@pytest.mark.parametrize(
    "body", [{}, {"image_url1": "{}"}, {"image_url2": "{}"}, {"image_url1": "", "image_url2": "{}"}]
)
def test_15_a_missing_url_is_a_400(server: ImageServer, body: dict[str, str]) -> None:
    answer = post("/compare", {name: text.format(server.url("/1.png")) for name, text in body.items()})
    assert (answer.status_code, answer.json()) == (400, {"error": "Both image URLs are required."})


@pytest.mark.parametrize("second", ["/missing.png", "/reset", "/drip-body"])
def test_15_a_failed_download_is_a_502(server: ImageServer, second: str) -> None:
    answer = post("/compare", {"image_url1": server.url("/1.png"), "image_url2": server.url(second)})
    assert answer.status_code == 502
    assert set(answer.json()) == {"error"}
    assert answer.json()["error"].startswith("Error downloading images: ")


def test_15_what_is_no_image_is_said(server: ImageServer) -> None:
    answer = post("/compare", {"image_url1": server.url("/1.png"), "image_url2": server.url("/text")})
    assert (answer.status_code, set(answer.json())) == (422, {"error"})


API = [
    "/compare",
    "/get_image_hash",
    "/center_crop/",
    "/get_SIFT_difference",
    "/v1/hash",
    "/v1/meta",
    "/heartbeat",
    "/api/images",
    "/run_object_detection",
    "/v2/ping",
    "/image_matching/v2/visual_hash",
    "/v3/collections",
    "/v3/detect",
]
PAGE = {"origin": "https://shop.example"}


@pytest.mark.parametrize("path", API)
def test_16_any_origin_may_ask_first(path: str) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,x-oanor-key"}
    answer = Client(headers={**PAGE, **asked}).options(path)
    assert answer.status_code == 200
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert "POST" in answer["Access-Control-Allow-Methods"]
    allowed = answer["Access-Control-Allow-Headers"]
    assert {"authorization", "content-type", "x-oanor-key", "x-api-key"} <= set(allowed.split(", "))
    assert "Access-Control-Allow-Credentials" not in answer


def test_16_answers_and_errors_may_be_read(server: ImageServer) -> None:
    answers = [
        post("/compare", {}, **PAGE),
        send("GET", "/v1/meta", **PAGE),
        send("GET", "/nothing/here", **PAGE),
        post("/compare", {"image_url1": server.url("/1.png"), "image_url2": server.url("/1.png")}, **PAGE),
    ]
    assert [answer.status_code for answer in answers] == [400, 401, 404, 200]
    assert {answer["Access-Control-Allow-Origin"] for answer in answers} == {"*"}
    assert "X-Image-MSE" in answers[-1]["Access-Control-Expose-Headers"]
    assert not [answer for answer in answers if "Access-Control-Allow-Credentials" in answer]


@pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/login/", "/admin/imgindex/image/"])
def test_16_the_admin_is_for_its_own_pages(path: str) -> None:
    for answer in (
        Client(headers=PAGE).get(path),
        Client(headers={**PAGE, "access-control-request-method": "POST"}).options(path),
    ):
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("name", golden("image_comparison"))
def test_14_and_15_golden_answers(server: ImageServer, name: str) -> None:
    exchange = golden("image_comparison")[name]
    assert replayed(exchange, host=server.url("")) == exchange
