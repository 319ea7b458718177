"""The perceptual hash API's document (001), statements 6 to 12 of the endpoint list."""

import base64
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, override_settings
from PIL import Image

from imgindex import models
from imgindex.services import access
from tests.conftest import SHARED
from tests.documents import GOLDEN, golden, key, nothing_kept, replayed, send
from tests.image_server import ImageServer
from tests.pictures import encoded, textured

pytestmark = pytest.mark.usefixtures("default_collection")

PICTURE = textured(1)
WANTED = json.loads((GOLDEN / "documented.json").read_text())["textured 1 480x320"]["v1"]
DATA = encoded(PICTURE)
TEXT = base64.b64encode(DATA).decode()
SOURCES = {
    "/1.png": DATA,
    "/1.jpg": encoded(PICTURE, "JPEG", quality=95),
    "/2.png": encoded(textured(2)),
    "/text": b"text",
    **{f"/formats/{name}": encoded(PICTURE, name) for name in ("PNG", "BMP", "TIFF")},
    "/formats/JPEG": encoded(PICTURE, "JPEG", quality=95),
    "/formats/WEBP": encoded(PICTURE, "WEBP", lossless=True),
    "/formats/GIF": encoded(Image.fromarray(PICTURE).quantize(256), "GIF"),
}


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer(SOURCES) as server, override_settings(FETCH_ALLOW=server.allow, FETCH_TIMEOUT=2):
        yield server


@pytest.fixture
def secret(default_collection: None) -> str:
    return key()


def get(path: str, secret: str, **query: str) -> Any:
    return send("GET", f"{path}?{urlencode(query)}", **{"x-oanor-key": secret})


def data(answer: Any) -> Any:
    assert answer.status_code == 200, answer.content
    return answer.json()["data"]


@pytest.mark.parametrize("path", ["/v1/hash", "/v1/hash/"])
def test_06_three_hashes_of_a_url(server: ImageServer, secret: str, path: str) -> None:
    with nothing_kept():
        assert data(get(path, secret, url=server.url("/1.png"))) == WANTED


def test_06_the_documented_example(secret: str) -> None:
    example = SHARED / "spec" / "DSCN0010.jpg"
    if not example.is_file():
        pytest.skip(f"the documented example image is not there: {example}")
    with ImageServer(example.parent) as server, override_settings(FETCH_ALLOW=server.allow):
        hashes = data(get("/v1/hash", secret, url=server.url("/DSCN0010.jpg")))
        assert hashes == {"ahash": "fcfffff310100000", "dhash": "313c156666e4e584", "phash": "4edbd88c49eaf808"}
        compared = data(get("/v1/compare", secret, url1=server.url("/DSCN0010.jpg"), url2=server.url("/DSCN0010.jpg")))
    assert compared["hashes"] == {"image1": hashes, "image2": hashes}


def test_06_base64_comes_in_a_query_a_form_or_json(secret: str) -> None:
    small = encoded(PICTURE[::8, ::8], "JPEG", quality=30)
    text = base64.b64encode(small).decode()
    assert "+" in text
    client = Client(headers={"x-oanor-key": secret})
    with nothing_kept():
        answers = [
            get("/v1/hash", secret, image=text),
            client.get(f"/v1/hash?image={text}"),
            get("/v1/hash", secret, image=f"data:image/jpeg;base64,{text}"),
            client.post("/v1/hash", {"image": text}, content_type="application/json"),
            client.post("/v1/hash", urlencode({"image": text}), content_type="application/x-www-form-urlencoded"),
            client.post("/v1/hash", f"image={text}", content_type="application/x-www-form-urlencoded"),
            client.post("/v1/hash/", {"image": text}),
            client.post("/v1/hash", {"image": SimpleUploadedFile("small.jpg", small)}),
        ]
    hashes = [data(answer) for answer in answers]
    assert hashes == [hashes[0]] * len(hashes)
    assert data(client.post("/v1/hash", {"image": TEXT}, content_type="application/json")) == WANTED


def test_06_a_url_comes_in_json_too(server: ImageServer, secret: str) -> None:
    answer = send("POST", "/v1/hash", {"url": server.url("/1.png"), "algorithm": "dhash"}, **{"x-oanor-key": secret})
    assert data(answer) == {"dhash": WANTED["dhash"]}


@pytest.mark.parametrize("algorithm", ["ahash", "dhash", "phash"])
def test_07_one_algorithm_gives_one_key(server: ImageServer, secret: str, algorithm: str) -> None:
    found = data(get("/v1/hash", secret, url=server.url("/1.png"), algorithm=algorithm))
    assert found == {algorithm: WANTED[algorithm]}


def test_07_all_is_the_default_and_another_is_a_400(server: ImageServer, secret: str) -> None:
    assert data(get("/v1/hash", secret, url=server.url("/1.png"), algorithm="all")) == WANTED
    for algorithm in ("md5", "", "PHASH"):
        assert get("/v1/hash", secret, url=server.url("/1.png"), algorithm=algorithm).status_code == 400


@pytest.mark.parametrize("path", ["/v1/compare", "/v1/compare/"])
def test_08_a_picture_is_the_same_as_itself(server: ImageServer, secret: str, path: str) -> None:
    with nothing_kept():
        answer = get(path, secret, url1=server.url("/1.png"), url2=server.url("/1.png"))
    same = {"distance": 0, "similarity": 100}
    assert data(answer) == {
        "hashes": {"image1": WANTED, "image2": WANTED},
        "comparison": {"ahash": same, "dhash": same, "phash": same},
        "likely_same": True,
        "average_similarity": 100,
    }
    # Whole numbers are printed as integers.
    assert b'"similarity":100}' in answer.content
    assert b'"average_similarity":100}' in answer.content


def test_08_distances_and_similarities(server: ImageServer, secret: str) -> None:
    found = data(get("/v1/compare", secret, url1=server.url("/1.png"), url2=server.url("/2.png")))
    one, other = found["hashes"]["image1"], found["hashes"]["image2"]
    for name, item in found["comparison"].items():
        assert item["distance"] == (int(one[name], 16) ^ int(other[name], 16)).bit_count()
        assert item["similarity"] == round(100 * (1 - item["distance"] / 64), 2)
    average = sum(item["similarity"] for item in found["comparison"].values()) / 3
    assert found["average_similarity"] == pytest.approx(average, abs=0.006)
    assert found["likely_same"] is False
    with override_settings(LIKELY_SAME_PERCENT=1):
        answer = get("/v1/compare", secret, url1=server.url("/1.png"), url2=server.url("/2.png"))
        assert data(answer)["likely_same"] is True


def test_08_base64_and_urls_mix(server: ImageServer, secret: str) -> None:
    body = {"image1": TEXT, "url2": server.url("/1.png")}
    assert data(send("POST", "/v1/compare", body, **{"x-oanor-key": secret}))["average_similarity"] == 100
    small = base64.b64encode(encoded(PICTURE[::8, ::8], "JPEG", quality=30)).decode()
    assert data(get("/v1/compare", secret, image1=small, image2=small))["likely_same"] is True


@pytest.mark.parametrize("path", ["/v1/meta", "/v1/meta/"])
def test_09_meta(secret: str, path: str) -> None:
    found = data(get(path, secret))
    assert set(found) == {"auth", "name", "note", "source", "endpoints"}
    assert found["endpoints"] == 3


def test_10_the_envelope(server: ImageServer, secret: str) -> None:
    answers = {
        "Perceptual hash of an image": get("/v1/hash", secret, url=server.url("/1.png")),
        "Compare two images": get("/v1/compare", secret, url1=server.url("/1.png"), url2=server.url("/1.png")),
        "Meta": get("/v1/meta", secret),
    }
    for message, answer in answers.items():
        body = answer.json()
        assert list(body) == ["data", "meta", "status", "message", "success"]
        assert (body["status"], body["message"], body["success"]) == ("ok", message, True)
        assert set(body["meta"]) == {"timestamp", "request_id"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["meta"]["timestamp"])
        assert str(uuid.UUID(body["meta"]["request_id"])) == body["meta"]["request_id"]
    assert len({answer.json()["meta"]["request_id"] for answer in answers.values()}) == 3


def is_error(answer: Any, status: int) -> bool:
    body = answer.json()
    assert set(body) == {"data", "meta", "status", "message", "success"}
    assert (body["data"], body["status"], body["success"]) == (None, "error", False)
    assert body["message"]
    return bool(answer.status_code == status)


@pytest.mark.parametrize("name", ["x-oanor-key", "x-api-key", "Token", "Bearer"])
def test_11_where_a_key_may_stand(secret: str, name: str) -> None:
    headers = {name: secret} if name.startswith("x-") else {"authorization": f"{name} {secret}"}
    assert send("GET", "/v1/meta", **headers).status_code == 200


def test_11_without_a_good_key_401(secret: str) -> None:
    assert is_error(send("GET", "/v1/meta"), 401)
    assert is_error(get("/v1/meta", "unknown"), 401)
    access.revoke_key(prefix=access.prefix_of(secret))
    assert is_error(get("/v1/meta", secret), 401)


def test_11_without_a_plan_402(default_collection: None) -> None:
    assert is_error(get("/v1/meta", key(plan=None)), 402)


def test_11_beyond_the_quota_429(default_collection: None) -> None:
    models.Plan.objects.create(name="tight", monthly=1)
    secret = key(plan="tight")
    assert get("/v1/meta", secret).status_code == 200
    refused = get("/v1/meta", secret)
    assert is_error(refused, 429)
    assert int(refused["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"url": "{}/missing.png"}, 502),
        ({"url": "{}/reset"}, 502),
        ({"url": "{}/silence"}, 502),
        ({"url": "{}/text"}, 422),
        ({"url": "{}/empty"}, 422),
        ({"image": base64.b64encode(b"text").decode()}, 422),
        ({"image": "not base64!"}, 400),
        ({"url": "no address"}, 400),
        ({"url": "http://10.0.0.1/private.png"}, 400),
        ({}, 400),
        ({"url": ""}, 400),
        ({"url": "{}/1.png", "image": "aaaa"}, 400),
    ],
)
def test_11_what_is_wrong_with_the_picture(
    server: ImageServer, secret: str, query: dict[str, str], status: int
) -> None:
    filled = {name: text.format(server.url("")) for name, text in query.items()}
    assert is_error(get("/v1/hash", secret, **filled), status)


def test_11_other_bad_input_is_a_400(secret: str) -> None:
    for body in ([1], {"url": 7}, {"image": ["x"]}):
        assert is_error(send("POST", "/v1/hash", body, **{"x-oanor-key": secret}), 400)
    broken = Client(headers={"x-oanor-key": secret}).post("/v1/hash", "{", content_type="application/json")
    assert is_error(broken, 400)
    assert is_error(Client(headers={"x-oanor-key": secret}).delete("/v1/hash"), 405)


@pytest.mark.parametrize("name", ["PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP"])
def test_12_every_format(server: ImageServer, secret: str, name: str) -> None:
    found = data(get("/v1/hash", secret, url=server.url(f"/formats/{name}")))
    for algorithm, wanted in WANTED.items():
        assert (int(found[algorithm], 16) ^ int(wanted, 16)).bit_count() <= (0 if name in {"PNG", "BMP", "TIFF"} else 4)


@pytest.mark.parametrize("name", golden("perceptual_hash"))
def test_06_to_11_golden_answers(server: ImageServer, secret: str, name: str) -> None:
    exchange = golden("perceptual_hash")[name]
    headers = {} if exchange["status"] == 401 else {"x-oanor-key": secret}
    assert replayed(exchange, host=server.url(""), **headers) == exchange
