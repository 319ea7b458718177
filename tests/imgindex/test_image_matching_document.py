"""The image matching document (004), statements 21 to 30 of the endpoint list; 31 is in e2e/test_ximilar_client.py."""

import base64
import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client, override_settings

from imgindex import models
from imgindex.services import pictures
from tests.documents import GOLDEN, golden, key, nothing_kept, post, replayed
from tests.image_server import ImageServer, answer
from tests.pictures import encoded, oriented, textured

pytestmark = pytest.mark.usefixtures("default_collection")

PICTURE = textured(1)
WANTED = {
    name: "".join(f"{byte:08b}" for byte in bytes.fromhex(code))
    for name, code in json.loads((GOLDEN / "documented.json").read_text())["textured 1 480x320"]["v2"].items()
}
SOURCES = {
    "/1.png": encoded(PICTURE),
    "/1.bmp": encoded(PICTURE, "BMP"),
    "/1-small.jpg": encoded(PICTURE[::2, ::2], "JPEG", quality=50),
    "/2.png": encoded(textured(2)),
    "/turned.jpg": oriented(textured(1, width=90, height=60), 6),
    "/text": b"text",
}
BOTH = [f"{prefix}/{{}}" for prefix in ("/v2", "/image_matching/v2")]


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer(SOURCES) as server, override_settings(FETCH_ALLOW=server.allow, FETCH_TIMEOUT=3):
        yield server


@pytest.fixture
def secret(default_collection: None) -> str:
    return key()


class Api:
    """The document's calls with a key, and names of pictures instead of URLs."""

    def __init__(self, server: ImageServer, secret: str) -> None:
        self.server, self.headers = server, {"authorization": f"Token {secret}"}

    def __call__(self, method: str, path: str = "/v2/{}", **body: Any) -> Any:
        return post(path.format(method), body, **self.headers)

    def records(self, *names: str) -> list[dict[str, Any]]:
        return [{"_url": self.server.url(name)} for name in names]

    def failure(self, name: str) -> str:
        return f"Error Loading Image: Unable to download image from '{self.server.url(name)}', Attempts: 3"


@pytest.fixture
def api(server: ImageServer, secret: str) -> Api:
    return Api(server, secret)


def is_uuid(text: Any) -> bool:
    return isinstance(text, str) and str(uuid.UUID(text)) == text


@pytest.mark.parametrize("path", BOTH)
@pytest.mark.parametrize("method", ["ping", "visual_hash", "remove_duplicates", "rank_images"])
def test_21_without_a_key_401(method: str, path: str) -> None:
    for headers in ({}, {"authorization": "Token wrong"}):
        answer = post(path.format(method), {"records": []}, **headers)
        assert answer.status_code == 401
        assert answer.json()["status"]["code"] == 401
        assert answer.json()["status"]["text"]
        assert answer["WWW-Authenticate"] == "Bearer"


def test_21_plans_count(default_collection: None) -> None:
    assert post("/v2/ping", authorization=f"Token {key(plan=None)}").json()["status"]["code"] == 402
    models.Plan.objects.create(name="tight", monthly=1)
    headers = {"authorization": f"Token {key(plan='tight')}"}
    assert post("/v2/ping", **headers).status_code == 200
    refused = post("/v2/ping", **headers)
    assert (refused.status_code, refused.json()["status"]["code"]) == (429, 429)
    assert int(refused["Retry-After"]) > 0


@pytest.mark.parametrize("path", [*BOTH, "/v2/{}/", "/image_matching/v2/{}/"])
def test_22_ping(secret: str, path: str) -> None:
    for body in (None, {}, {"anything": 1}):
        answer = post(path.format("ping"), body, authorization=f"Token {secret}")
        assert answer.status_code == 200
        assert answer.json()["_service_info"] == {
            "_name": "Image matching service",
            "_info": "Get visual hashes, find (near-)duplicate images and rank them",
        }
        status = answer.json()["status"]
        assert (status["code"], status["text"]) == (200, "OK")


@pytest.mark.parametrize("path", [*BOTH, "/v2/{}/"])
def test_23_visual_hash(api: Api, path: str) -> None:
    with nothing_kept():
        answer = api("visual_hash", path, records=api.records("/1.png"))
    assert answer.status_code == 200
    (record,) = answer.json()["records"]
    assert is_uuid(record.pop("_id"))
    assert record == {"_url": api.server.url("/1.png"), "_width": 480, "_height": 320, **WANTED}
    assert (len(record["bmh1"]), len(record["phash"])) == (968, 64)


def test_23_one_hash_type_gives_one_field(api: Api) -> None:
    for name in ("bmh1", "phash"):
        (record,) = api("visual_hash", records=api.records("/1.png"), hash_type=name).json()["records"]
        assert {field: record[field] for field in record if field in WANTED} == {name: WANTED[name]}
    for name in ("ahash", "", 1, ["bmh1"]):
        answer = api("visual_hash", records=api.records("/1.png"), hash_type=name)
        assert (answer.status_code, answer.json()["status"]["code"]) == (400, 400)


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_23_base64(api: Api, prefix: str) -> None:
    text = prefix + base64.b64encode(SOURCES["/1.png"]).decode()
    (record,) = api("visual_hash", records=[{"_base64": text}]).json()["records"]
    assert {name: record[name] for name in WANTED} == WANTED


def test_24_copies_move_into_the_record_they_repeat(api: Api) -> None:
    names = ["/2.png", "/1.png", "/1.bmp", "/2.png", "/1.png"]
    records = [{**record, "_id": number} for number, record in enumerate(api.records(*names))]
    for path in ("/v2/{}", "/v2/{}/", "/image_matching/v2/{}"):
        with nothing_kept():
            answer = api("remove_duplicates", path, records=records)
        first, second = answer.json()["records"]
        assert (first["_id"], [item["_id"] for item in first["removed_records"]]) == ("0", ["3"])
        assert (second["_id"], [item["_id"] for item in second["removed_records"]]) == ("1", ["2", "4"])
    assert "removed_records" not in first["removed_records"][0]


def test_24_the_range_is_compared_with_the_kept_record_only(api: Api) -> None:
    records = api.records("/1.png", "/1-small.jpg", "/2.png")
    distances = api("rank_images", query_record=records[0], records=records).json()["answer_distances"]
    assert distances[0] == 0 < distances[1] < distances[2]
    for hash_range, kept in ((0, 3), (distances[1] - 0.1, 3), (distances[1], 2), (distances[2] - 0.1, 2), (100, 1)):
        answer = api("remove_duplicates", records=records, range=hash_range)
        assert len(answer.json()["records"]) == kept, hash_range
    assert len(api("remove_duplicates", records=records, hash_type="phash", range=100).json()["records"]) == 1


@pytest.mark.parametrize("value", [-1, "1", True, [0]])
def test_24_a_range_is_a_number(api: Api, value: Any) -> None:
    assert api("remove_duplicates", records=api.records("/1.png"), range=value).status_code == 400


@pytest.mark.parametrize("path", [*BOTH, "/v2/{}/"])
def test_25_rank_images(api: Api, path: str) -> None:
    records = api.records("/2.png", "/missing.png", "/1-small.jpg", "/1.png")
    with nothing_kept():
        answer = api("rank_images", path, query_record={"_url": api.server.url("/1.png"), "mine": 7}, records=records)
    body = answer.json()
    assert body["query_records"] == [
        {"_url": api.server.url("/1.png"), "mine": 7, "_width": 480, "_height": 320},
    ]
    found = [record["_url"] for record in body["answer_records"]]
    assert found == [api.server.url(name) for name in ("/1.png", "/1-small.jpg", "/2.png")]
    assert len(body["answer_distances"]) == 3
    assert body["answer_distances"] == sorted(body["answer_distances"])
    assert not [record for record in body["answer_records"] if "_status" in record]
    (skipped,) = body["skipped_records"]
    assert skipped["_url"] == api.server.url("/missing.png")
    assert (answer.status_code, body["status"]["code"]) == (200, 300)


def test_25_nothing_skipped_is_an_empty_list(api: Api) -> None:
    body = api("rank_images", query_record=api.records("/1.png")[0], records=api.records("/1.png")).json()
    assert (body["skipped_records"], body["answer_distances"], body["status"]["text"]) == ([], [0.0], "OK")
    for query in (None, "text", []):
        assert api("rank_images", query_record=query, records=api.records("/1.png")).status_code == 400


@pytest.mark.parametrize(("hash_type", "bits"), [("bmh1", 961), ("phash", 64)])
def test_26_distances_are_per_cent_of_the_bits(api: Api, hash_type: str, bits: int) -> None:
    names = ["/1.png", "/2.png", "/1-small.jpg"]
    hashed = api("visual_hash", records=api.records(*names)).json()["records"]
    codes = {record["_url"]: int(record[hash_type], 2) for record in hashed}
    body = api(
        "rank_images", query_record={"_url": hashed[0]["_url"]}, records=api.records(*names), hash_type=hash_type
    ).json()
    for record, distance in zip(body["answer_records"], body["answer_distances"], strict=True):
        different = (codes[record["_url"]] ^ codes[hashed[0]["_url"]]).bit_count()
        assert distance == round(100 * different / bits, 1)


def test_27_ids_fields_and_sizes(api: Api) -> None:
    mine = {"_id": 7, "shop": {"a": [1, None]}, "_tag": "x"}
    records = [
        {**api.records("/turned.jpg")[0], **mine},
        {**api.records("/1.png")[0], "_id": "text"},
        {**api.records("/1.png")[0], "_status": "old", "phash": "old"},
    ]
    turned, named, unnamed = api("visual_hash", records=records, hash_type="bmh1").json()["records"]
    assert {name: turned[name] for name in mine} == {**mine, "_id": "7"}
    assert (turned["_width"], turned["_height"]) == (90, 60)
    assert named["_id"] == "text"
    assert is_uuid(unnamed["_id"])
    assert not {"_status", "phash"} & set(unnamed)
    query = {**api.records("/1.png")[0], "_id": 3}
    assert api("rank_images", query_record=query, records=records).json()["query_records"][0]["_id"] == "3"


def test_28_the_status_of_records(api: Api) -> None:
    body = api("remove_duplicates", records=api.records("/1.png", "/1.png", "/missing.png", "/2.png")).json()
    request_id = body["status"]["request_id"]
    kept, failed, other = body["records"]
    fine = {"code": 200, "text": "OK", "request_id": request_id}
    assert [kept["_status"], kept["removed_records"][0]["_status"], other["_status"]] == [fine] * 3
    assert failed["_status"] == {"code": 400, "text": api.failure("/missing.png"), "request_id": request_id}
    body = api("visual_hash", records=api.records("/1.png", "/reset")).json()
    fine, failed = body["records"]
    assert "_status" not in fine
    assert failed["_status"]["text"] == api.failure("/reset")
    assert failed["_status"]["request_id"] == body["status"]["request_id"]


def test_28_a_record_that_is_no_picture_says_so(api: Api) -> None:
    records = [*api.records("/text"), {"_base64": "not base64!"}, {"mine": 1}, *api.records("/1.png")]
    found = api("visual_hash", records=records).json()["records"]
    assert ["_status" in record for record in found] == [True, True, True, False]
    assert all(record["_status"]["text"].startswith("Error Loading Image: ") for record in found[:3])


def test_29_top_level(api: Api) -> None:
    first = api("visual_hash", records=api.records("/1.png"))
    body = first.json()
    assert set(body) == {"records", "status", "statistics"}
    assert set(body["status"]) == {"code", "text", "request_id", "proc_id"}
    assert is_uuid(body["status"]["request_id"])
    assert is_uuid(body["status"]["proc_id"])
    assert set(body["statistics"]) == {"processing time"}
    assert 0 < body["statistics"]["processing time"] < 10
    again = api("visual_hash", records=api.records("/1.png")).json()
    assert again["status"]["request_id"] != body["status"]["request_id"]


def test_29_some_failed_all_failed_or_the_query(api: Api) -> None:
    bad, good = api.records("/missing.png"), api.records("/1.png")
    for method in ("visual_hash", "remove_duplicates"):
        mixed = api(method, records=[*bad, *good])
        assert (mixed.status_code, mixed.json()["status"]["code"]) == (200, 300)
        assert mixed.json()["status"]["text"] == "MIXED_RESULT"
        failed = api(method, records=bad)
        assert (failed.status_code, failed.json()["status"]["code"]) == (400, 400)
        assert failed.json()["records"][0]["_status"]["code"] == 400
    for query, records in ((bad[0], good), (good[0], bad), (bad[0], bad)):
        failed = api("rank_images", query_record=query, records=records)
        assert (failed.status_code, failed.json()["status"]["code"]) == (400, 400)
        assert (failed.json()["answer_records"], failed.json()["answer_distances"]) == ([], [])
        assert len(failed.json()["skipped_records"]) == (records is bad)


@pytest.mark.parametrize("records", [None, [], {}, "text", [1], [{}, None]])
@pytest.mark.parametrize("method", ["visual_hash", "remove_duplicates", "rank_images"])
def test_29_what_is_no_list_of_records_is_a_400(api: Api, method: str, records: Any) -> None:
    answer = api(method, records=records, query_record=api.records("/1.png")[0])
    assert (answer.status_code, answer.json()["status"]["code"]) == (400, 400)
    assert is_uuid(answer.json()["status"]["request_id"])


def test_30_no_more_than_ten_records(api: Api) -> None:
    records = api.records(*["/1.bmp"] * 11)
    for method in ("visual_hash", "remove_duplicates", "rank_images"):
        answer = api(method, records=records, query_record=records[0])
        assert (answer.status_code, answer.json()["status"]["code"]) == (400, 400)
    assert api("remove_duplicates", records=records[:10]).status_code == 200
    with override_settings(MAX_RECORDS=11):
        assert api("remove_duplicates", records=records).status_code == 200


def test_30_failed_records_stay_in_place(api: Api) -> None:
    names = ["/missing.png", "/1.png", "/text", "/2.png", "/1.png"]
    found = api("visual_hash", records=api.records(*names)).json()["records"]
    assert [record["_url"] for record in found] == [api.server.url(name) for name in names]
    found = api("remove_duplicates", records=api.records(*names)).json()["records"]
    assert [record["_url"] for record in found] == [api.server.url(name) for name in names[:4]]


def test_records_of_a_call_are_fetched_at_the_same_time_and_not_all(secret: str) -> None:
    together = threading.Barrier(8, timeout=5)
    running, most, lock = 0, 0, threading.Lock()

    def slow(connection: Any, request: Any) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if request.path != "/later":
            together.wait()
        with lock:
            running -= 1
        answer(200, SOURCES["/1.bmp"])(connection, request)

    with ImageServer(routes={"*": slow}) as server, override_settings(FETCH_ALLOW=server.allow, FETCH_TIMEOUT=8):
        records = Api(server, secret).records(*(f"/{number}" for number in range(8)), "/later", "/later")
        found = Api(server, secret)("visual_hash", records=records)
    assert (found.status_code, most) == (200, 8)


@pytest.mark.parametrize("name", golden("image_matching"))
def test_21_to_30_golden_answers(server: ImageServer, secret: str, name: str) -> None:
    exchange = golden("image_matching")[name]
    headers = {} if exchange["status"] == 401 else {"authorization": f"Token {secret}"}
    assert replayed(exchange, host=server.url(""), **headers) == exchange


@pytest.mark.parametrize("levels", [150, 201, 252, 500, 1000])
def test_27_fields_too_deep_to_go_back_are_refused_in_the_document_s_form(levels: int, secret: str) -> None:
    picture = base64.b64encode(SOURCES["/2.png"]).decode()
    body = b'{"records": [{"_base64": "%s", "x": %s}]}' % (picture.encode(), b"[" * levels + b"]" * levels)
    sent = Client(raise_request_exception=False, headers={"authorization": f"Token {secret}"}).post(
        "/v2/visual_hash", body, content_type="application/json"
    )
    assert sent.status_code == (200 if levels == 150 else 400)
    assert sent.json()["status"]["code"] == sent.status_code


def test_29_our_own_faults_have_the_document_s_form(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: Any) -> None:
        raise ZeroDivisionError("a secret of ours")

    monkeypatch.setattr(pictures, "opencv_hashes", broken)
    sent = post("/v2/visual_hash", {"records": [{"_url": "http://x/"}]}, authorization=f"Token {secret}")
    assert sent.status_code == 500
    assert sent.json()["status"]["code"] == 500
    assert "secret" not in sent.content.decode()
