"""The image tools' document (000), statements 1 to 5 of the endpoint list."""

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from django.test import override_settings
from PIL import Image

from tests.documents import golden, nothing_kept, post, replayed
from tests.image_server import ImageServer
from tests.pictures import encoded, flat, oriented, textured

pytestmark = pytest.mark.usefixtures("default_collection")

PICTURE = textured(1)
SOURCES = {
    "/1.bmp": encoded(PICTURE, "BMP"),
    "/1.png": encoded(PICTURE),
    "/2.png": encoded(textured(2)),
    "/small.jpg": encoded(PICTURE[::2, ::2], "JPEG", quality=50),
    "/flat.png": encoded(flat()),
    "/odd.png": encoded(textured(3, width=101, height=57)),
    "/turned.jpg": oriented(PICTURE, 6),
    "/clear.png": encoded(Image.new("RGBA", (40, 30), (10, 20, 30, 0))),
    "/text": b"text",
}


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer(SOURCES) as server, override_settings(FETCH_ALLOW=server.allow, FETCH_TIMEOUT=2):
        yield server


def pixels(answer: Any) -> Any:
    assert (answer.status_code, answer["Content-Type"]) == (200, "image/jpeg"), answer.content
    return np.asarray(Image.open(io.BytesIO(answer.content)))


@pytest.mark.parametrize("path", ["/get_image_hash", "/get_image_hash/"])
def test_01_the_hash_is_that_of_the_bytes(server: ImageServer, path: str) -> None:
    with nothing_kept():
        answer = post(path, {"image_url": server.url("/1.bmp")})
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
    assert answer.json() == {"image_hash": hashlib.sha256(SOURCES["/1.bmp"]).hexdigest()}


def test_01_the_bytes_need_not_be_an_image(server: ImageServer) -> None:
    answer = post("/get_image_hash", {"image_url": server.url("/text")})
    assert answer.json() == {"image_hash": hashlib.sha256(b"text").hexdigest()}


def test_01_the_hash_of_the_pixels_is_one_for_every_lossless_format(server: ImageServer) -> None:
    hashes = [post("/get_image_hash", {"image_url": server.url(path), "of": "pixels"}).json() for path in SOURCES]
    assert hashes[0] == hashes[1]
    assert hashes[0] == {"image_hash": hashlib.sha256(b"RGB 480x320\n" + PICTURE.tobytes()).hexdigest()}
    assert hashes[2] != hashes[0]
    assert set(hashes[-1]) == {"error"}


BAD = [
    ("/get_image_hash", {}, "Missing property: 'image_url'"),
    ("/get_image_hash", {"image_url": 7}, "'image_url' is not of type 'str'"),
    ("/get_image_hash", {"image_url": None}, "'image_url' is not of type 'str'"),
    ("/get_image_hash", {"image_url": "{}/missing.jpg"}, "Failed to fetch image data: "),
    ("/get_image_hash", {"image_url": "no address"}, "Failed to fetch image data: "),
    ("/get_image_hash", {"image_url": "http://127.0.0.1:9/private.jpg"}, "Failed to fetch image data: "),
    ("/get_image_hash", {"image_url": "{}/1.bmp", "of": "colours"}, "'of' must be 'bytes' or 'pixels'"),
    ("/get_image_hash", ["{}/1.bmp"], "The body must be a JSON object."),
    ("/center_crop", {"image_url": "{}/1.png", "height": 1}, "Missing property: 'width'"),
    ("/center_crop", {"image_url": "{}/1.png", "width": 1}, "Missing property: 'height'"),
    ("/center_crop", {"image_url": "{}/1.png", "width": "1", "height": 1}, "'width' is not of type 'int'"),
    ("/center_crop", {"image_url": "{}/1.png", "width": 1, "height": 1.5}, "'height' is not of type 'int'"),
    ("/center_crop", {"image_url": "{}/1.png", "width": True, "height": 1}, "'width' is not of type 'int'"),
    ("/center_crop", {"image_url": "{}/text", "width": 1, "height": 1}, "the bytes do not decode as an image"),
    ("/get_SIFT_difference", {"image_url_1": "{}/1.png"}, "Missing property: 'image_url_2'"),
    ("/get_SIFT_difference", {"image_url_1": "{}/1.png", "image_url_2": 2}, "'image_url_2' is not of type 'str'"),
    ("/get_SIFT_difference", {"image_url_1": "{}/1.png", "image_url_2": "{}/no"}, "Failed to fetch image data: "),
]


@pytest.mark.parametrize(("path", "body", "text"), BAD)
def test_02_bad_input_is_a_400_with_the_single_key_error(server: ImageServer, path: str, body: Any, text: str) -> None:
    filled = (
        {name: value.format(server.url("")) if isinstance(value, str) else value for name, value in body.items()}
        if isinstance(body, dict)
        else body
    )
    answer = post(path, filled)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert answer.json()["error"].startswith(text)


@pytest.mark.parametrize("path", ["/center_crop", "/center_crop/"])
def test_03_the_crop_is_taken_from_the_centre(server: ImageServer, path: str) -> None:
    with nothing_kept():
        crop = pixels(post(path, {"image_url": server.url("/1.png"), "width": 101, "height": 33}))
    assert crop.shape == (33, 101, 3)
    left, top = (480 - 101) // 2, (320 - 33) // 2
    wanted = PICTURE[top : top + 33, left : left + 101].astype(int)
    assert abs(crop - wanted).mean() < 4


@pytest.mark.parametrize(("width", "height"), [(1, 1), (101, 57), (100, 1), (1, 56), (50, 50)])
def test_03_every_size_is_exact(server: ImageServer, width: int, height: int) -> None:
    crop = pixels(post("/center_crop", {"image_url": server.url("/odd.png"), "width": width, "height": height}))
    assert crop.shape == (height, width, 3)


def test_03_orientation_is_applied_and_transparency_is_white(server: ImageServer) -> None:
    turned = pixels(post("/center_crop", {"image_url": server.url("/turned.jpg"), "width": 480, "height": 320}))
    assert abs(turned - PICTURE.astype(int)).mean() < 6
    clear = pixels(post("/center_crop", {"image_url": server.url("/clear.png"), "width": 4, "height": 4}))
    assert clear.min() == 255


@pytest.mark.parametrize(
    ("width", "height", "text"),
    [
        (481, 320, "Width is larger than original image."),
        (480, 321, "Height is larger than original image."),
        (481, 321, "Width is larger than original image."),
        (0, 10, "'width' must be at least 1"),
        (10, -1, "'height' must be at least 1"),
    ],
)
def test_04_a_size_that_the_image_does_not_have_is_a_400(
    server: ImageServer, width: int, height: int, text: str
) -> None:
    answer = post("/center_crop", {"image_url": server.url("/1.png"), "width": width, "height": height})
    assert (answer.status_code, answer.json()) == (400, {"error": text})


def sift(server: ImageServer, first: str, second: str, path: str = "/get_SIFT_difference") -> float:
    answer = post(path, {"image_url_1": server.url(first), "image_url_2": server.url(second)})
    assert answer.status_code == 200, answer.content
    assert set(answer.json()) == {"SIFT_difference"}
    value: float = answer.json()["SIFT_difference"]
    return value


def test_05_the_sift_difference(server: ImageServer) -> None:
    with nothing_kept():
        assert sift(server, "/1.png", "/1.bmp") == 0.0
        assert sift(server, "/1.png", "/1.png", path="/get_SIFT_difference/") == 0.0
        there, back = sift(server, "/1.png", "/small.jpg"), sift(server, "/small.jpg", "/1.png")
    assert there == pytest.approx(back, abs=1e-6)
    assert 0 < there < sift(server, "/1.png", "/2.png")
    assert sift(server, "/flat.png", "/flat.png") == 0.0
    assert sift(server, "/flat.png", "/1.png") == pytest.approx(512 * 2**0.5)


@pytest.mark.parametrize("name", golden("image_tools"))
def test_01_to_05_golden_answers(server: ImageServer, name: str) -> None:
    exchange = golden("image_tools")[name]
    assert replayed(exchange, host=server.url("")) == exchange
