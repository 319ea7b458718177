"""The image search engine's document (003), statements 17 to 20 of the endpoint list."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.test import Client, override_settings
from PIL import Image

from tests.documents import golden, nothing_kept, post, replayed
from tests.image_server import ImageServer
from tests.pictures import encoded, textured

pytestmark = pytest.mark.usefixtures("default_collection")


@pytest.fixture
def server() -> Iterator[ImageServer]:
    images = {f"/{seed}.jpg": encoded(textured(seed), "JPEG") for seed in range(3)}
    images["/0-small.jpg"] = encoded(textured(0)[::2, ::2], "JPEG", quality=50)
    images["/text"] = b"text"
    with ImageServer(images) as server, override_settings(FETCH_ALLOW=server.allow, FETCH_TIMEOUT=2):
        yield server


@pytest.mark.parametrize("path", ["/heartbeat", "/heartbeat/", "/api", "/api/"])
def test_17_heartbeat(path: str) -> None:
    answer = Client().get(path)
    assert (answer.status_code, answer.json()) == (200, {"message": "Api is running"})


@pytest.mark.parametrize("path", ["/post_image_to_index", "/post_image_to_index/", "/api/images", "/api/images/"])
def test_18_an_indexed_image_is_searchable_when_the_answer_arrives(server: ImageServer, path: str) -> None:
    answer = post(path, {"url": server.url("/0.jpg"), "metadata": {"colour": "red"}})
    assert answer.status_code == 200
    assert set(answer.json()) == {"message", "id"}
    assert answer.json()["message"] == "success"
    found = post("/search_simmilar_images", {"url": server.url("/0.jpg")}).json()
    assert found == [
        {
            "id": answer.json()["id"],
            "score": 1.0,
            "payload": {"image_url": server.url("/0.jpg"), "metadata": {"colour": "red"}},
        }
    ]


def test_18_the_same_url_updates_its_entry(server: ImageServer) -> None:
    first = post("/post_image_to_index", {"url": server.url("/0.jpg"), "metadata": {"a": 1}}).json()
    second = post("/api/images", {"url": server.url("/0.jpg"), "metadata": {"a": 2}}).json()
    assert first["id"] == second["id"]
    (found,) = post("/api/images/search", {"url": server.url("/0.jpg")}).json()
    assert found["payload"]["metadata"] == {"a": 2}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "No url provided"),
        ({"metadata": {}}, "No url provided"),
        ({"url": ""}, "No url provided"),
        ({"url": None}, "No url provided"),
    ],
)
def test_18_no_url(body: Any, message: str) -> None:
    answer = post("/post_image_to_index", body)
    assert (answer.status_code, answer.json()) == (400, {"message": message})


@pytest.mark.parametrize("url", [5, "ftp://x/", "http://127.0.0.1/private", "nonsense"])
def test_18_any_failure_is_a_400_with_a_message(url: Any) -> None:
    for path in ("/post_image_to_index", "/search_simmilar_images"):
        answer = post(path, {"url": url})
        assert answer.status_code == 400
        assert set(answer.json()) == {"message"}
        assert answer.json()["message"]


def test_18_failures_of_the_host_and_of_the_picture_too(server: ImageServer) -> None:
    for path in ("/missing.jpg", "/text", "/drip-body"):
        answer = post("/post_image_to_index", {"url": server.url(path)})
        assert answer.status_code == 400
        assert answer.json()["message"]


@pytest.mark.parametrize("path", ["/search_simmilar_images", "/search_similar_images/", "/api/images/search"])
def test_19_search_by_url_comes_best_first(server: ImageServer, path: str) -> None:
    for seed in range(3):
        post("/post_image_to_index", {"url": server.url(f"/{seed}.jpg"), "metadata": {"seed": seed}})
    found = post(path, {"url": server.url("/0-small.jpg")}).json()
    assert isinstance(found, list)
    assert found[0]["payload"] == {"image_url": server.url("/0.jpg"), "metadata": {"seed": 0}}
    assert 0.9 < found[0]["score"] < 1.0
    scores = [item["score"] for item in found]
    assert scores == sorted(scores, reverse=True)


def test_19_at_most_twenty(server: ImageServer) -> None:
    for number in range(22):
        post("/post_image_to_index", {"url": server.url(f"/0.jpg?{number}"), "metadata": "twin"})
    assert len(post("/search_simmilar_images", {"url": server.url("/0.jpg")}).json()) == 20
    assert len(post("/search_simmilar_images", {"metadata": "twin"}).json()) == 20


def test_19_metadata_restrict_and_search(server: ImageServer) -> None:
    for number, metadata in enumerate(
        [{"shop": "Harbour", "n": 1}, {"shop": "harbour 100%", "n": 2}, "A text about a Harbour_View", None]
    ):
        answer = post("/post_image_to_index", {"url": server.url(f"/0.jpg?{number}"), "metadata": metadata})
        assert answer.status_code == 200

    def numbers(body: Any) -> set[int]:
        return {int(item["payload"]["image_url"].partition("?")[2]) for item in post("/api/images/search", body).json()}

    assert numbers({"metadata": "harbour"}) == {0, 1, 2}
    assert numbers({"metadata": "HARBOUR text"}) == {2}
    assert numbers({"metadata": "100%"}) == {1}
    assert numbers({"metadata": "Harbour_"}) == {2}
    assert numbers({"metadata": {"n": 2}}) == {1}
    assert numbers({"metadata": {"n": 2, "shop": "Harbour"}}) == set()
    assert numbers({"url": server.url("/0.jpg")}) == {0, 1, 2, 3}
    assert numbers({"url": server.url("/0.jpg"), "metadata": {"n": 1}}) == {0}
    assert numbers({"url": server.url("/0.jpg"), "metadata": "text"}) == {2}
    assert numbers({"url": server.url("/1.jpg"), "metadata": {"n": 1}}) == set()


@pytest.mark.parametrize("body", [{}, {"url": None, "metadata": None}, {"metadata": {}}, {"metadata": "  "}, []])
def test_19_neither_url_nor_metadata(body: Any) -> None:
    answer = post("/search_simmilar_images", body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"message"}


def test_19_hostile_metadata_is_a_400() -> None:
    for metadata in ("a\0b", {"a\0": 1}, {"a": "\0"}):
        assert post("/search_simmilar_images", {"metadata": metadata}).status_code == 400


DETECTION = ["/run_object_detection", "/run_object_detection/", "/api/images/object_detection"]


@pytest.mark.parametrize("path", DETECTION)
def test_20_labelled_boxes_are_drawn(photos: Path, path: str) -> None:
    data = (photos / "caltech101" / "1434.jpg").read_bytes()  # an elephant
    with ImageServer({"/e.jpg": data}) as server, override_settings(FETCH_ALLOW=server.allow), nothing_kept():
        answer = post(path, {"url": server.url("/e.jpg")})
    assert (answer.status_code, answer["Content-Type"]) == (200, "image/jpg")
    assert answer["X-Detector"]
    drawn, plain = (Image.open(io.BytesIO(file)) for file in (answer.content, data))
    assert (drawn.format, drawn.size) == ("JPEG", plain.size)
    difference = np.abs(np.asarray(drawn, dtype=int) - np.asarray(plain.convert("RGB"), dtype=int)).max(axis=2)
    assert (difference > 60).mean() > 0.01


def test_20_a_picture_without_objects_comes_back_as_it_is(server: ImageServer) -> None:
    answer = post("/run_object_detection", {"url": server.url("/0.jpg")})
    assert (answer.status_code, answer["Content-Type"]) == (200, "image/jpg")
    assert Image.open(io.BytesIO(answer.content)).size == (480, 320)


@pytest.mark.parametrize("body", [{}, {"url": ""}, {"url": None}])
def test_20_no_url_is_a_400(body: Any) -> None:
    answer = post("/run_object_detection", body)
    assert (answer.status_code, answer.json()) == (400, {"message": "url not provided error"})


def test_20_any_failure_is_a_400_with_a_message(server: ImageServer) -> None:
    for url in (server.url("/missing.jpg"), server.url("/text"), "no address", 7):
        answer = post("/api/images/object_detection", {"url": url})
        assert (answer.status_code, set(answer.json())) == (400, {"message"})


def test_what_is_kept_would_be_noticed(server: ImageServer) -> None:
    with pytest.raises(AssertionError), nothing_kept():
        post("/post_image_to_index", {"url": server.url("/0.jpg")})


@pytest.mark.parametrize("name", golden("search_engine"))
def test_17_to_20_golden_answers(server: ImageServer, name: str) -> None:
    exchange = golden("search_engine")[name]
    post("/post_image_to_index", {"url": server.url("/0.jpg"), "metadata": {"colour": "red"}})
    assert replayed(exchange, host=server.url("")) == exchange


def test_19_words_are_looked_for_in_values_and_lists_are_found_as_they_were_given(server: ImageServer) -> None:
    for number, metadata in enumerate(["only words here", {"colour": "red"}, [1, "x"], {"n": 12, "ok": True}]):
        assert post("/api/images", {"url": server.url(f"/0.jpg?{number}"), "metadata": metadata}).status_code == 200

    def numbers(metadata: Any) -> set[int]:
        found = post("/api/images/search", {"metadata": metadata}).json()
        return {int(item["payload"]["image_url"].partition("?")[2]) for item in found}

    assert numbers("text") == set()
    assert numbers("colour") == set()
    assert numbers("{") == set()
    assert numbers("red") == {1}
    assert numbers("12") == {3}
    assert numbers("true") == {3}
    assert numbers([1, "x"]) == {2}
    assert numbers("words here") == {0}
