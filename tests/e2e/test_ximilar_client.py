"""Statement 31: the real client of the image matching API, unchanged, against a running service."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from ximilar.client import ImageMatchingSearchClient, XimilarClientException

from benchmarks.service import Service
from tests.image_server import ImageServer
from tests.pictures import encoded, textured

SOURCES = {
    "/1.png": encoded(textured(1)),
    "/1-small.jpg": encoded(textured(1)[::2, ::2], "JPEG", quality=50),
    "/2.png": encoded(textured(2)),
}


@pytest.fixture(scope="module")
def images() -> Iterator[ImageServer]:
    with ImageServer(SOURCES) as server:
        yield server


@pytest.fixture(scope="module")
def service(images: ImageServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"FETCH_ALLOW": f"127.0.0.1:{images.port}", "WEB_WORKERS": "1"}
    with Service(tmp_path_factory.mktemp("ximilar") / "data", settings=settings) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> ImageMatchingSearchClient:
    return ImageMatchingSearchClient(service.key, endpoint=service.url("/image_matching/v2/"), resource_name="")


def test_31_ping(client: ImageMatchingSearchClient) -> None:
    answer = client.post("ping")
    client.check_json_status(answer)
    assert answer["_service_info"]["_name"] == "Image matching service"


def test_31_visual_hash(client: ImageMatchingSearchClient, images: ImageServer, tmp_path: Path) -> None:
    file = tmp_path / "1.png"
    file.write_bytes(SOURCES["/1.png"])
    records = [
        {"_url": images.url("/1.png"), "mine": 1},
        {"_file": str(file)},
        {"_base64": base64.b64encode(SOURCES["/1.png"]).decode()},
    ]
    answer = client.custom_endpoint_processing(records, "visual_hash", {"hash_type": "phash"})
    client.check_json_status(answer)
    by_url, by_file, by_base64 = answer["records"]
    assert (by_url["mine"], by_url["_width"], by_url["_height"]) == (1, 480, 320)
    # What is not a URL the client sends as a JPEG of its own.
    for record in (by_file, by_base64):
        assert sum(a != b for a, b in zip(by_url["phash"], record["phash"], strict=True)) <= 4


def test_31_remove_duplicates(client: ImageMatchingSearchClient, images: ImageServer) -> None:
    records = [{"_url": images.url(name), "_id": number} for number, name in enumerate(["/1.png", "/2.png", "/1.png"])]
    answer = client.custom_endpoint_processing(records, "remove_duplicates", {"range": 1})
    client.check_json_status(answer)
    first, second = answer["records"]
    assert [(first["_id"], [copy["_id"] for copy in first["removed_records"]]), second["_id"]] == [("0", ["2"]), "1"]


def test_31_rank_images(client: ImageMatchingSearchClient, images: ImageServer) -> None:
    records = client.preprocess_records([{"_url": images.url(name)} for name in ("/2.png", "/1-small.jpg", "/1.png")])
    answer = client.post("rank_images", data={"query_record": records[2], "records": records})
    client.check_json_status(answer)
    found = [record["_url"] for record in answer["answer_records"]]
    assert found == [images.url(name) for name in ("/1.png", "/1-small.jpg", "/2.png")]
    assert answer["answer_distances"][0] == 0.0


def test_31_a_mixed_result_and_a_wrong_key_are_raised(client: ImageMatchingSearchClient, images: ImageServer) -> None:
    records = [{"_url": images.url("/1.png")}, {"_url": images.url("/missing.png")}]
    with pytest.raises(XimilarClientException) as raised:
        client.check_json_status(client.custom_endpoint_processing(records, "visual_hash", {}))
    assert (raised.value.code, str(raised.value)) == (300, "MIXED_RESULT")
    stranger = ImageMatchingSearchClient("wrong", endpoint=client.endpoint, resource_name="")
    with pytest.raises(XimilarClientException) as raised:
        stranger.check_json_status(stranger.post("ping"))
    assert raised.value.code == 401


def test_opencv_stays_in_the_decode_processes(
    service: Service, client: ImageMatchingSearchClient, images: ImageServer
) -> None:
    url = images.url("/1.png")
    calls = {
        "/get_image_hash": {"image_url": url, "of": "pixels"},
        "/center_crop": {"image_url": url, "width": 5, "height": 5},
        "/get_SIFT_difference": {"image_url_1": url, "image_url_2": url},
        "/compare": {"image_url1": url, "image_url2": url},
        "/run_object_detection": {"url": url},
        "/v1/hash": {"url": url},
        "/v2/remove_duplicates": {"records": [{"_url": url}]},
        "/v3/detect": {"url": url},
    }
    for path, body in calls.items():
        answer = service.session().post(service.url(path), json=body, timeout=30)
        assert answer.status_code == 200, answer.text
    if not Path("/proc/self/maps").exists():
        pytest.skip("without /proc nobody tells which libraries a process has loaded")
    loaded = [Path(f"/proc/{worker.pid}/maps").read_text() for worker in service.workers()]
    assert loaded
    assert not [maps for maps in loaded if "cv2" in maps]
