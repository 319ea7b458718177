"""`/v3` from end to end inside one process: real Postgres, real FAISS, real decoding, a real image server."""

import base64
import json
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client, override_settings

from imgindex.services import catalogue, sync
from imgindex.store import changes
from imgindex.types import Caller
from tests.conftest import SHARED
from tests.documents import nothing_kept
from tests.image_server import ImageServer
from tests.pictures import encoded, flat, textured, versions

pytestmark = pytest.mark.usefixtures("default_collection")

IMAGES = "/v3/collections/default/images"
SEARCH = "/v3/collections/default/search"


def send(method: str, path: str, body: Any = None, **headers: str) -> Any:
    content = b"" if body is None else orjson.dumps(body)
    return Client(headers=headers).generic(method, path, content, content_type="application/json")


def upload(path: str, data: bytes, **fields: str) -> Any:
    from django.core.files.uploadedfile import SimpleUploadedFile

    return Client().post(path, {"file": SimpleUploadedFile("picture", data), **fields})


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def picture() -> bytes:
    return encoded(textured(1), "JPEG", quality=90)


@pytest.fixture
def indexed(picture: bytes) -> dict[str, Any]:
    answer = upload(IMAGES, picture, id="first", metadata='{"album": "sea", "year": 2020}')
    assert answer.status_code == 201, answer.content
    return answer.json()


# Write


def test_an_upload_answers_all_about_the_image(indexed: dict[str, Any]) -> None:
    assert indexed["id"] == "first"
    assert (indexed["width"], indexed["height"], indexed["format"]) == (480, 320, "JPEG")
    assert indexed["metadata"] == {"album": "sea", "year": 2020}
    assert {name: len(code) for name, code in indexed["fingerprints"].items()} == {
        "pdq": 64,
        "phash": 16,
        "dhash": 16,
        "ahash": 16,
    }
    assert indexed["quality"] == 100
    assert isinstance(indexed["seq"], int)


def test_every_way_in_describes_the_same_image(picture: bytes) -> None:
    with ImageServer({"/p.jpg": picture}) as server, override_settings(FETCH_ALLOW=server.allow):
        answers = [
            send("POST", IMAGES, {"url": server.url("/p.jpg"), "id": "url"}),
            send("POST", IMAGES, {"base64": text(picture), "id": "base64"}),
            send("POST", IMAGES, {"base64": f"data:image/jpeg;base64,{text(picture)}", "id": "data"}),
            upload(IMAGES, picture, id="upload"),
            send("PUT", f"{IMAGES}/put", {"base64": text(picture)}),
        ]
        assert answers[0].json()["url"] == server.url("/p.jpg")
    assert [answer.status_code for answer in answers] == [201] * 5
    assert len({json.dumps(answer.json()["fingerprints"]) for answer in answers}) == 1
    assert len({answer.json()["sha256"] for answer in answers}) == 1
    seqs = [answer.json()["seq"] for answer in answers]
    assert seqs == sorted(set(seqs))


def test_without_an_id_a_uuid_is_made(picture: bytes) -> None:
    first, second = upload(IMAGES, picture).json(), upload(IMAGES, picture).json()
    assert len(first["id"]) == 36
    assert first["id"] != second["id"]


def test_the_same_id_again_replaces_the_image(indexed: dict[str, Any]) -> None:
    other = encoded(textured(2), "PNG")
    answer = upload(IMAGES, other, id="first")
    assert answer.status_code == 200
    assert answer.json()["format"] == "PNG"
    assert answer.json()["metadata"] == {}
    assert answer.json()["created"] == indexed["created"]
    assert [hit["id"] for hit in upload(SEARCH, other).json()["results"]] == ["first"]
    gone = send("POST", SEARCH, {"hash": indexed["fingerprints"]["pdq"]}).json()
    assert gone["results"] == []
    assert len(send("GET", IMAGES).json()["results"]) == 1


def test_replacing_removes_the_old_thumbnail(indexed: dict[str, Any], tmp_path: Path) -> None:
    with override_settings(MEDIA_ROOT=tmp_path):
        upload(IMAGES, encoded(textured(2)), id="other")
        (old,) = tmp_path.rglob("*.jpg")
        upload(IMAGES, encoded(textured(3)), id="other")
        (new,) = tmp_path.rglob("*.jpg")
        assert new != old
        assert Client().get("/v3/collections/default/thumbnails/other").content == new.read_bytes()
        send("DELETE", f"{IMAGES}/other")
        assert list(tmp_path.rglob("*.jpg")) == []


def test_originals_are_kept_on_request(picture: bytes, tmp_path: Path) -> None:
    with override_settings(MEDIA_ROOT=tmp_path, KEEP_ORIGINALS=True):
        upload(IMAGES, picture, id="kept")
        (original,) = (path for path in (tmp_path / "originals").rglob("*") if path.is_file())
        assert original.read_bytes() == picture
        send("DELETE", f"{IMAGES}/kept")
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_ids_may_hold_anything_that_is_text(picture: bytes) -> None:
    for image_id in ("a/b c/ä.jpg", "100%", "q?x=1#y", "..", "trailing/", "line\nbreak", "日本", "x" * 512):
        from urllib.parse import quote

        assert upload(IMAGES, picture, id=image_id).status_code == 201
        shown = send("GET", f"{IMAGES}/{quote(image_id, safe='')}")
        assert shown.json()["id"] == image_id
        assert Client().get(shown.json()["thumbnail"]).status_code == 200
        assert send("DELETE", f"{IMAGES}/{quote(image_id, safe='')}").json()["id"] == image_id


def test_patch_replaces_the_metadata(indexed: dict[str, Any]) -> None:
    answer = send("PATCH", f"{IMAGES}/first", {"metadata": {"album": "hills"}})
    assert answer.status_code == 200
    assert answer.json()["seq"] > indexed["seq"]
    assert send("GET", f"{IMAGES}/first").json()["metadata"] == {"album": "hills"}
    found = send("POST", SEARCH, {"id": "first", "metadata": {"album": "sea"}}).json()
    assert found["results"] == []


def test_delete_removes_it_from_every_search(indexed: dict[str, Any], picture: bytes) -> None:
    answer = send("DELETE", f"{IMAGES}/first")
    assert answer.status_code == 200
    assert answer.json()["seq"] > indexed["seq"]
    assert upload(SEARCH, picture).json()["results"] == []
    assert send("GET", f"{IMAGES}/first").status_code == 404
    assert send("DELETE", f"{IMAGES}/first").status_code == 404
    assert Client().get(indexed["thumbnail"]).status_code == 404


# Search


def test_a_collection_of_one_image_finds_it(indexed: dict[str, Any], picture: bytes) -> None:
    answer = upload(SEARCH, picture).json()
    assert answer["exact"] is True
    assert answer["searched_by"] == "fingerprint"
    assert answer["indexed_through"] >= indexed["seq"]
    (hit,) = answer["results"]
    assert (hit["id"], hit["distance"], hit["similarity"], hit["kind"]) == ("first", 0, 100.0, "exact")


def test_every_version_of_a_picture_is_within_ten_bits(indexed: dict[str, Any]) -> None:
    pictures = versions(textured(1))
    distances = {name: upload(SEARCH, data).json()["results"][0]["distance"] for name, data in pictures.items()}
    assert {"png palette", "jpeg cmyk", "jpeg rotated", "png rgba", "webp"} <= set(distances)
    assert max(distances.values()) <= 10, distances


@pytest.mark.parametrize("hash_type", ["pdq", "phash", "dhash", "ahash"])
def test_every_fingerprint_finds_a_small_copy(indexed: dict[str, Any], hash_type: str) -> None:
    from PIL import Image

    small = encoded(Image.fromarray(textured(1)).resize((240, 160)), "JPEG", quality=60)
    answer = upload(SEARCH, small, hash_type=hash_type).json()
    assert [hit["id"] for hit in answer["results"]] == ["first"]
    assert answer["results"][0]["kind"] == "near"
    assert answer["hash_type"] == hash_type


def test_a_small_picture_is_found_by_its_half() -> None:
    from PIL import Image

    picture = textured(33, width=300, height=200)
    upload(IMAGES, encoded(picture), id="small")
    half = encoded(Image.fromarray(picture).resize((150, 100), Image.Resampling.LANCZOS))
    (hit,) = upload(SEARCH, half).json()["results"]
    own_code = send("POST", SEARCH, {"hash": upload(IMAGES, half, id="half").json()["fingerprints"]["pdq"]}).json()
    assert hit["id"] == "small"
    assert hit["distance"] < 25
    # The half's own code, at its own size, is further away than the answer to its picture.
    distances = {item["id"]: item["distance"] for item in own_code["results"]}
    assert distances.get("small", 256) > hit["distance"]


def test_search_by_id_url_base64_and_hash_agree(indexed: dict[str, Any], picture: bytes) -> None:
    with ImageServer({"/p.jpg": picture}) as server, override_settings(FETCH_ALLOW=server.allow):
        bodies = [
            {"url": server.url("/p.jpg")},
            {"base64": text(picture)},
            {"id": "first"},
            {"hash": indexed["fingerprints"]["pdq"]},
            {"hash": indexed["fingerprints"]["pdq"].upper()},
            {"hash": indexed["fingerprints"]["dhash"], "hash_type": "dhash"},
        ]
        answers = [send("POST", SEARCH, body) for body in bodies]
    assert [[hit["id"] for hit in answer.json()["results"]] for answer in answers] == [["first"]] * 6


def test_results_come_nearest_first_and_stop_at_the_limit() -> None:
    codes = []
    for seed in range(6):
        codes.append(upload(IMAGES, encoded(textured(seed)), id=f"i{seed}").json()["fingerprints"]["pdq"])
    query = bytes.fromhex(codes[3])
    expected = sorted(
        (int.from_bytes(a ^ b for a, b in zip(query, bytes.fromhex(code), strict=True)).bit_count(), f"i{i}")
        for i, code in enumerate(codes)
    )
    everything = send("POST", SEARCH, {"hash": codes[3], "max_distance": 256}).json()["results"]
    assert [(hit["distance"], hit["id"]) for hit in everything] == expected
    three = send("POST", SEARCH, {"hash": codes[3], "max_distance": 256, "limit": 3}).json()["results"]
    assert three == everything[:3]
    radius = expected[2][0]
    near = send("POST", SEARCH, {"hash": codes[3], "max_distance": radius}).json()["results"]
    assert len(near) == sum(distance <= radius for distance, _ in expected)


def test_metadata_restrict_a_search(picture: bytes) -> None:
    for number in range(5):
        upload(IMAGES, picture, id=str(number), metadata=json.dumps({"shop": number % 2, "tags": ["a", "b"]}))
    found = send("POST", SEARCH, {"base64": text(picture), "metadata": {"shop": 1}}).json()["results"]
    assert [hit["id"] for hit in found] == ["1", "3"]
    tagged = send("POST", SEARCH, {"base64": text(picture), "metadata": {"tags": ["b"]}, "limit": 2}).json()["results"]
    assert len(tagged) == 2
    assert send("POST", SEARCH, {"id": "1", "metadata": {"shop": 7}}).json()["results"] == []


def test_a_flat_picture_is_found_by_equal_bytes_alone() -> None:
    plain = encoded(flat(), "PNG")
    assert upload(IMAGES, plain, id="plain").json()["quality"] < 50
    assert upload(IMAGES, encoded(flat((10, 20, 30))), id="other plain").status_code == 201
    answer = upload(SEARCH, plain).json()
    assert [(hit["id"], hit["kind"]) for hit in answer["results"]] == [("plain", "exact")]
    assert answer["searched_by"] == "bytes"
    assert answer["quality"] < 50
    same_look = upload(SEARCH, encoded(flat(), "BMP")).json()
    assert same_look["results"] == []
    # A flat picture never comes up for a fingerprint either.
    code = send("GET", f"{IMAGES}/plain").json()["fingerprints"]["pdq"]
    assert send("POST", SEARCH, {"hash": code, "max_distance": 256}).json()["results"] == []


# List


def test_pages_list_everything_once_in_order(picture: bytes) -> None:
    for number in range(5):
        upload(IMAGES, picture, id=str(number))
    seen, cursor = [], ""
    for _ in range(3):
        page = send("GET", f"{IMAGES}?limit=2{cursor}").json()
        seen += [item["id"] for item in page["results"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ["0", "1", "2", "3", "4"]
    assert page["next_cursor"] is None


def test_metadata_filter_a_listing(picture: bytes) -> None:
    for number, metadata in enumerate([{"a": "1"}, {"a": 1}, {"a": {"b": True}}, {"a.b": "true"}, {}]):
        upload(IMAGES, picture, id=str(number), metadata=json.dumps(metadata))

    def listed(query: str) -> list[str]:
        return [item["id"] for item in send("GET", f"{IMAGES}?{query}").json()["results"]]

    assert listed("metadata.a=1") == ["0", "1"]
    assert listed("metadata.a.b=true") == ["2", "3"]
    assert listed("metadata.a=1&metadata.c=2") == []
    assert listed("metadata.none=x") == []


# Collections


def test_collections_are_made_listed_counted_and_deleted(picture: bytes) -> None:
    made = send("POST", "/v3/collections", {"name": "shop-1"})
    assert made.status_code == 201
    assert upload("/v3/collections/shop-1/images", picture, id="a").status_code == 201
    listed = {item["name"]: item["images"] for item in send("GET", "/v3/collections").json()["results"]}
    assert listed == {"default": 0, "shop-1": 1}
    assert send("GET", "/v3/collections/shop-1/").json()["images"] == 1
    assert upload(SEARCH, picture).json()["results"] == []
    assert send("POST", "/v3/collections", {"name": "shop-1"}).json()["code"] == "collection_exists"
    assert send("DELETE", "/v3/collections/shop-1").json()["seq"] > made.json()["seq"]
    assert upload("/v3/collections/shop-1/search", picture).status_code == 404
    assert send("POST", "/v3/collections", {"name": "shop-1"}).status_code == 201
    assert upload("/v3/collections/shop-1/search", picture).json()["results"] == []


# Keys


def test_as_many_levels_of_metadata_as_are_taken_come_back(picture: bytes) -> None:
    nested: Any = 1
    for _ in range(63):
        nested = [nested]
    assert upload(IMAGES, picture, id="deep", metadata=json.dumps({"a": nested})).status_code == 201
    assert send("GET", IMAGES).json()["results"][0]["metadata"] == {"a": nested}
    assert upload(SEARCH, picture).json()["results"][0]["metadata"] == {"a": nested}
    assert send("POST", "/search_similar_images", {"metadata": "1"}).json()[0]["payload"]["metadata"] == {"a": nested}


def test_metadata_may_spell_the_escape_of_a_nul(picture: bytes) -> None:
    metadata = {"path": "C:\\u0000"}
    assert upload(IMAGES, picture, metadata=json.dumps(metadata)).json()["metadata"] == metadata


def test_many_equal_files_are_cut_to_the_limit(picture: bytes) -> None:
    for number in range(5):
        upload(IMAGES, picture, id=str(number))
    answer = upload(SEARCH, picture, limit="2").json()
    assert [hit["id"] for hit in answer["results"]] == ["0", "1"]


def test_ready_says_that_the_index_is_being_loaded() -> None:
    replica = sync.Replica()
    with mock.patch.object(sync, "replica", replica), replica._lock:
        answer = send("GET", "/ready")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert "loaded" in answer.json()["detail"]


def test_a_dropped_collection_is_cleared_even_if_that_was_cut_off(picture: bytes, tmp_path: Path) -> None:
    with override_settings(MEDIA_ROOT=tmp_path):
        send("POST", "/v3/collections", {"name": "old"})
        for number in range(3):
            upload("/v3/collections/old/images", picture, id=str(number))
        with mock.patch.object(catalogue, "clear_dropped"):
            assert send("DELETE", "/v3/collections/old").status_code == 200
        assert send("GET", "/v3/collections/old").status_code == 404
        assert upload("/v3/collections/old/search", picture).status_code == 404
        assert upload("/v3/collections/old/images", picture).status_code == 404
        assert send("POST", "/v3/collections", {"name": "old"}).status_code == 201
        assert sync.Replica().catch_up().indexes.keys() == set()
        assert len(list(tmp_path.rglob("*.jpg"))) == 3
        catalogue.clear_dropped()
        assert list(tmp_path.rglob("*.jpg")) == []
        assert send("GET", "/v3/collections/old").json()["images"] == 0


def test_without_open_access_a_key_is_needed(picture: bytes) -> None:
    from imgindex.services import access

    key = access.create_key(name="test")
    with override_settings(OPEN_ACCESS=False):
        answer = send("GET", IMAGES)
        assert (answer.status_code, answer.json()["code"]) == (401, "key_required")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        for headers in (
            {"Authorization": f"Bearer {key}"},
            {"Authorization": f"Token {key}"},
            {"x-api-key": key},
            {"x-oanor-key": key},
        ):
            assert send("GET", IMAGES, **headers).status_code == 200
        assert send("GET", "/ready").status_code == 200
    for wrong in (key[:-1] + ("a" if key[-1] != "a" else "b"), key[:12], "x", "\xff"):
        answer = send("GET", IMAGES, **{"x-api-key": wrong})
        assert (answer.status_code, answer.json()["code"]) == (401, "key_unknown")


def test_tenants_do_not_see_each_other(indexed: dict[str, Any], picture: bytes) -> None:
    from imgindex.services import access

    stranger = {"x-api-key": access.create_key(name="stranger", tenant="stranger")}
    assert [item["images"] for item in send("GET", "/v3/collections", **stranger).json()["results"]] == [0]
    catalogue.collection_delete(caller=Caller("stranger"), name="default")
    for method, path, body in [
        ("GET", "/v3/collections/default", None),
        ("DELETE", "/v3/collections/default", None),
        ("GET", IMAGES, None),
        ("POST", IMAGES, {"base64": text(picture)}),
        ("GET", f"{IMAGES}/first", None),
        ("PUT", f"{IMAGES}/first", {"base64": text(picture)}),
        ("PATCH", f"{IMAGES}/first", {"metadata": {}}),
        ("DELETE", f"{IMAGES}/first", None),
        ("GET", indexed["thumbnail"], None),
        ("POST", SEARCH, {"id": "first"}),
    ]:
        assert send(method, path, body, **stranger).status_code == 404, (method, path)
    assert send("POST", "/v3/collections", {"name": "default"}, **stranger).status_code == 201
    assert send("GET", IMAGES, **stranger).json()["results"] == []
    assert send("GET", f"{IMAGES}/first").status_code == 200


# Detection


def test_detect_tells_what_is_where(photos: Path) -> None:
    data = (photos / "caltech101" / "1434.jpg").read_bytes()  # an elephant
    with nothing_kept():
        answers = [upload("/v3/detect", data), send("POST", "/v3/detect/", {"base64": text(data)})]
    for answer in answers:
        assert answer.status_code == 200, answer.content
        body = answer.json()
        assert (body["width"], body["height"]) == (300, 195)
        assert body["detector"] == answer["X-Detector"]
        first = body["detections"][0]
        assert (first["label"], set(first["box"])) == ("elephant", {"left", "top", "right", "bottom"})
        assert 0.5 <= first["score"] <= 1
        assert 0 <= first["box"]["left"] < first["box"]["right"] <= 300


def test_detect_with_another_model(photos: Path) -> None:
    model = SHARED / "models" / "FastestDet.onnx"
    if not model.is_file():
        pytest.skip(f"no FastestDet weights: {model} is not there")
    data = (photos / "caltech101" / "1434.jpg").read_bytes()
    with override_settings(DETECTOR_MODEL=str(model)):
        other = upload("/v3/detect", data)
    assert (other.status_code, other["X-Detector"]) == (200, other.json()["detector"])
    assert other["X-Detector"] != upload("/v3/detect", data)["X-Detector"]


def test_detect_takes_one_picture() -> None:
    assert send("POST", "/v3/detect", {}).status_code == 400
    assert send("POST", "/v3/detect", {"base64": text(b"text")}).status_code == 422
    with override_settings(OPEN_ACCESS=False):
        assert send("POST", "/v3/detect", {}).status_code == 401


# Documentation and operations


def test_the_documentation_describes_every_call() -> None:
    document = Client().get("/openapi.json", headers={"accept": "application/json"})
    schema = document.json()
    operations = {
        operation["operationId"]
        for path in schema["paths"].values()
        for method, operation in path.items()
        if method in {"get", "post", "put", "patch", "delete"}
    }
    assert operations == {
        "list_collections",
        "create_collection",
        "get_collection",
        "delete_collection",
        "list_images",
        "add_image",
        "get_image",
        "put_image",
        "patch_image",
        "delete_image",
        "get_thumbnail",
        "search",
        "detect",
        "usage",
    }
    assert not [path for path in schema["paths"] if path.endswith("/")]
    body = schema["paths"]["/v3/collections/{collection}/images"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    form = schema["components"]["schemas"]["NewImageForm"]["properties"]
    assert form["file"]["format"] == "binary"
    assert {"file", "id", "metadata"} == set(form)
    assert {"Search", "SearchResults", "ProblemDetails", "WrittenImage"} <= set(schema["components"]["schemas"])


def test_the_documentation_page_needs_no_other_host() -> None:
    page = Client().get("/docs").content.decode()
    assert "swagger" in page
    assert "https://" not in page
    assert "//cdn" not in page


def test_without_its_database_the_service_lives_and_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise OperationalError("connection refused by 10.1.2.3")

    monkeypatch.setattr(changes, "head", gone)
    assert send("GET", "/live").status_code == 200
    for method, path, body, code in (
        ("GET", "/ready", None, "not_ready"),
        ("POST", SEARCH, {"hash": "0" * 64}, "database_unavailable"),
    ):
        answer = send(method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (503, code)
        assert "10.1.2.3" not in answer.content.decode()


def test_models_and_migrations_agree() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_live_and_ready() -> None:
    assert send("GET", "/live").json() == {"status": "live"}
    ready = send("GET", "/ready/")
    assert ready.status_code == 200
    assert ready.json()["status"] == "ready"
