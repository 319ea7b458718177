"""The admin from the staff's side of the browser, with real writes, searches and files."""

import io
import re
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from PIL import Image

from imgindex import models
from imgindex.admin.listing import EstimatingPaginator
from imgindex.services import access, catalogue, search
from imgindex.services.describe import FromUpload
from imgindex.types import Caller, CollectionNotFound, ImageNotFound, KeyUnknown
from tests.pictures import encoded, flat, textured

pytestmark = pytest.mark.usefixtures("default_collection")

LIST = "/admin/imgindex/image/"
CALLER = Caller("default")


@pytest.fixture
def admin_user(default_collection: None) -> User:
    return User.objects.create_superuser("root", password="secret")


@pytest.fixture
def staff(admin_user: User) -> Client:
    client = Client()
    client.force_login(admin_user)
    return client


def staff_with(*permissions: str) -> Client:
    user = User.objects.create_user("helper", password="secret", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def put(
    image_id: str, data: bytes, *, collection: str = "default", tenant: str = "default", **more: Any
) -> models.Image:
    written = catalogue.image_put(
        caller=Caller(tenant), collection=collection, source=FromUpload(io.BytesIO(data)), image_id=image_id, **more
    )
    return models.Image.objects.get(pk=written.image.pk)


def jpeg(seed: int, quality: int = 90) -> bytes:
    return encoded(textured(seed), "JPEG", quality=quality)


def change(image: models.Image) -> str:
    return f"{LIST}{image.pk}/change/"


def found_by_service(image: models.Image) -> list[str]:
    """The ids that the service finds for the fingerprint of an image, which may be gone."""
    answer = search.search(caller=CALLER, collection="default", query=search.ByHash(image.pdq.hex()))
    return [hit.image.id for hit in answer.hits]


def listed(client: Client, **query: str) -> set[str]:
    """The ids on the list page."""
    answer = client.get(LIST, query)
    assert answer.status_code == 200, answer.headers.get("Location")
    return {image.external_id for image in answer.context["cl"].result_list}


# The list


def test_the_list_shows_lazy_thumbnails_that_load(staff: Client) -> None:
    images = [put("a", jpeg(1)), put("b/c.jpg", jpeg(2))]
    page = staff.get(LIST).content.decode()
    sources = re.findall(r'<img src="([^"]+)" alt="[^"]*" loading="lazy"', page)
    assert len(sources) == 2
    assert all(f"{LIST}{image.pk}/change/" in page for image in images)
    answer = staff.get(sources[0])
    assert answer.status_code == 200
    assert answer["Content-Type"] == "image/jpeg"
    assert "immutable" in answer["Cache-Control"]
    assert "private" in answer["Cache-Control"]
    assert Image.open(io.BytesIO(answer.content)).size == (480, 320)


def test_a_replaced_picture_gets_another_address(staff: Client) -> None:
    put("a", jpeg(1))
    [before] = re.findall(r'<img src="([^"]+/thumbnail/[^"]+)"', staff.get(LIST).content.decode())
    put("a", jpeg(2))
    [after] = re.findall(r'<img src="([^"]+/thumbnail/[^"]+)"', staff.get(LIST).content.decode())
    assert before != after
    assert "immutable" not in staff.get(before)["Cache-Control"]


SEARCHES: dict[str, set[str]] = {
    "beach": {"beach/one.jpg", "two"},
    "BEACH one": {"beach/one.jpg"},
    "shop.example": {"three"},
    '"summer sale"': {"three"},
    "grün": {"two"},
    "colour=red": {"beach/one.jpg"},
    'colour="dark red"': {"three"},
    "size=42": {"beach/one.jpg", "two"},
    'size="42"': {"two"},
    "sold=true": {"three"},
    "maker.country=IT": {"two"},
    "dotted.key=yes": {"three"},
    "colour=red size=42": {"beach/one.jpg"},
    "colour=blue": set(),
    "q=1&r=2": set(),
    '"q=1"': {"three"},
    'say "hi"': {"two"},
    "100%": {"two"},
    "_%": set(),
    "'": set(),
    "\\": set(),
    '"': {"two"},
    "=": {"three"},
}


def test_the_search_finds_words_and_metadata(staff: Client) -> None:
    put("beach/one.jpg", jpeg(1), metadata={"colour": "red", "size": 42})
    put("two", jpeg(2), metadata={"size": "42", "note": 'Say "hi" on the beach, grün 100%', "maker": {"country": "IT"}})
    put(
        "three",
        jpeg(3),
        metadata={"colour": "dark red", "sold": True, "tags": ["summer sale"], "dotted.key": "yes"},
        source_url="https://shop.example/?q=1",
    )
    assert {text: listed(staff, q=text) for text in SEARCHES} == SEARCHES


def test_odd_searches_do_no_harm(staff: Client) -> None:
    put("a", jpeg(1))
    for text in (
        "a\0",
        'a="\\u0000"',
        '["\\u0000"]',
        "k=[1",
        "k=" + 9 * "9" * 99,
        "a." * 5000 + "=1",
        "k=" + "[" * 5000,
    ):
        assert staff.get(LIST, {"q": text}).status_code == 200, text


def test_filters(staff: Client) -> None:
    catalogue.collection_create(caller=CALLER, name="other")
    catalogue.collection_create(caller=Caller("acme"), name="default")
    put("a", jpeg(1))
    put("b", encoded(textured(2), "PNG"), collection="other")
    put("c", jpeg(3), tenant="acme")
    models.Image.objects.filter(external_id="a").update(created="2020-01-01T00:00:00Z")
    number = {(row.tenant, row.name): str(row.pk) for row in models.Collection.objects.all()}
    assert listed(staff) == {"a", "b", "c"}
    assert listed(staff, collection__id__exact=number["default", "other"]) == {"b"}
    assert listed(staff, format="PNG") == {"b"}
    assert listed(staff, format="PNG", collection__id__exact=number["default", "default"]) == set()
    assert listed(staff, created__gte="2021-01-01 00:00:00+00:00") == {"b", "c"}
    page = staff.get(LIST).content.decode()
    assert "acme / default" in page


def test_the_list_reads_no_wide_columns_and_counts_within_bounds(staff: Client) -> None:
    for seed in range(3):
        put(str(seed), jpeg(seed), metadata={"long": "x" * 1000})
    with CaptureQueriesContext(
        connection,
    ) as queries:
        listed(staff)
    reads = [query["sql"] for query in queries if 'FROM "imgindex_image"' in query["sql"]]
    assert len(reads) == 2
    assert all('"pdq"' not in sql and '"metadata"' not in sql for sql in reads)
    [count] = [sql for sql in reads if "COUNT(" in sql]
    assert f"LIMIT {EstimatingPaginator.EXACT + 1}" in count


def test_large_tables_are_estimated(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(5):
        put(str(seed), jpeg(seed))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE imgindex_image")
    monkeypatch.setattr(EstimatingPaginator, "EXACT", 3)
    answer = staff.get(LIST)
    assert answer.context["cl"].result_count == 5
    assert "about 5" in answer.content.decode()
    assert "about 5 images in 1 collection" in staff.get("/admin/").content.decode()


# One image


def test_the_page_of_an_image_shows_all_about_it(staff: Client) -> None:
    image = put("a", jpeg(1), metadata={"k": "v"}, source_url="https://example.org/a.jpg")
    page = staff.get(change(image)).content.decode()
    for code in (image.pdq, image.phash, image.dhash, image.ahash):
        assert code.hex() in page
    assert image.sha256 in page
    assert '<a href="https://example.org/a.jpg"' in page
    assert "480 \N{MULTIPLICATION SIGN} 320" in page
    assert "100 of 100" in page
    assert "&quot;k&quot;: &quot;v&quot;" in page
    assert not re.search(r'<input[^>]*name="(external_id|source_url|pdq|sha256|width)"', page)


def test_similar_images_with_distances_and_without_itself(staff: Client) -> None:
    image, copy, other = put("a", jpeg(1)), put("copy", jpeg(1, quality=20)), put("other", jpeg(2))
    twin = put("twin", jpeg(1))
    answer = staff.get(change(image))
    hits = {hit.image.id: hit for hit, _, _ in answer.context["similar"].hits}
    assert set(hits) == {"twin", "copy"}
    assert hits["twin"].kind == "exact"
    distance = (int.from_bytes(image.pdq) ^ int.from_bytes(copy.pdq)).bit_count()
    assert hits["copy"].distance == distance
    page = answer.content.decode()
    assert f"distance {distance}," in page
    assert change(twin) in page
    assert change(other) not in page
    far = staff.get(change(image), {"max_distance": "256"})
    assert [hit.image.id for hit, _, _ in far.context["similar"].hits] == ["twin", "copy", "other"]


def test_a_wrong_distance_is_told_on_the_form(staff: Client) -> None:
    image = put("a", jpeg(1))
    for text in ("-1", "257", "x", "1e3", "9" * 5000):
        answer = staff.get(change(image), {"max_distance": text})
        assert answer.status_code == 200
        assert answer.context["similar"].form.errors, text
        assert not answer.context["similar"].hits


def test_an_empty_distance_is_the_default_one(staff: Client) -> None:
    image = put("a", jpeg(1))
    put("copy", jpeg(1, quality=20))
    answer = staff.get(change(image), {"max_distance": ""})
    assert len(answer.context["similar"].hits) == 1


def test_a_flat_picture_is_said_to_be_incomparable(staff: Client) -> None:
    image = put("flat", encoded(flat()))
    put("twin", encoded(flat()))
    put("another", encoded(flat((1, 2, 3))))
    answer = staff.get(change(image), {"max_distance": "256"})
    page = answer.content.decode()
    assert "too flat to compare" in page
    assert "too little texture" in page
    assert [hit.image.id for hit, _, _ in answer.context["similar"].hits] == ["twin"]


def test_edited_metadata_reach_the_service_and_the_change_log(staff: Client) -> None:
    image = put("a", jpeg(1), metadata={"old": 1})
    before = models.Change.objects.count()
    answer = staff.post(change(image), {"metadata": '{"new": [1, 2.5, null, "é"]}', "_save": "Save"})
    assert answer.status_code == 302
    assert catalogue.image_get(caller=CALLER, collection="default", image_id="a").metadata == {
        "new": [1, 2.5, None, "é"]
    }
    assert models.Change.objects.count() == before + 1
    newest = models.Change.objects.latest("seq")
    assert (newest.op, newest.image) == ("p", image.pk)
    assert found_by_service(image) == ["a"]


def test_nothing_changed_writes_nothing(staff: Client) -> None:
    image = put("a", jpeg(1), metadata={"k": 1e30, "text": "two\nlines"})
    before = models.Change.objects.count()
    shown = staff.get(change(image)).context["adminform"].form["metadata"].value()
    staff.post(change(image), {"metadata": shown.replace("\n", "\r\n"), "_save": "Save"})
    assert models.Change.objects.count() == before


def test_wrong_metadata_are_told_on_the_form(staff: Client) -> None:
    image = put("a", jpeg(1), metadata={"old": 1})
    too_long = '{"a": "' + "x" * 70_000 + '"}'
    for text in ("{", "[1]", '"x"', "NaN", '{"a": NaN}', '{"a": "\\u0000"}', '{"a": "\\ud800"}', too_long):
        answer = staff.post(change(image), {"metadata": text, "_save": "Save"})
        assert answer.status_code == 200, text
        assert answer.context["adminform"].form.errors["metadata"]
    image.refresh_from_db()
    assert image.metadata == {"old": 1}


def test_no_other_field_can_be_changed(staff: Client) -> None:
    image = put("a", jpeg(1))
    staff.post(change(image), {"metadata": "{}", "external_id": "b", "sha256": "0" * 64, "quality": "1"})
    again = models.Image.objects.get(pk=image.pk)
    assert (again.external_id, again.sha256, again.quality) == ("a", image.sha256, image.quality)


def test_metadata_of_an_image_that_is_gone(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    image = put("a", jpeg(1))

    def gone(**_: Any) -> None:
        raise ImageNotFound("It was deleted a moment ago.")

    monkeypatch.setattr(catalogue, "image_patch", gone)
    answer = staff.post(change(image), {"metadata": '{"a": 1}'}, follow=True)
    assert "It was deleted a moment ago." in answer.content.decode()


def test_a_kept_original_is_shown(staff: Client) -> None:
    data = encoded(textured(1, width=1200, height=800), "PNG")
    with override_settings(KEEP_ORIGINALS=True):
        image = put("a", data)
    page = staff.get(change(image)).content.decode()
    [address] = re.findall(r'<img src="([^"]+/original/[^"]+)"', page)
    answer = staff.get(address)
    assert answer.content == data
    assert answer["Content-Type"] == "image/png"
    assert "sandbox" in answer["Content-Security-Policy"]


def test_an_original_that_browsers_cannot_show_is_linked(staff: Client) -> None:
    with override_settings(KEEP_ORIGINALS=True):
        image = put("a", encoded(textured(1), "TIFF"))
    page = staff.get(change(image)).content.decode()
    assert re.findall(r'<img src="([^"]+/thumbnail/[^"]+)"', page)
    assert re.findall(r'<a href="([^"]+/original/[^"]+)"', page)


def test_lost_files_show_a_placeholder(staff: Client) -> None:
    image = put("a", jpeg(1))
    default_storage.delete(image.thumbnail)
    models.Image.objects.filter(pk=image.pk).update(original="originals/none")
    for address in (f"{LIST}{image.pk}/thumbnail/", f"{LIST}{image.pk}/original/", f"{LIST}999999/thumbnail/"):
        answer = staff.get(address)
        assert answer.status_code == 404
        assert answer["Content-Type"] == "image/svg+xml"
        assert answer["Cache-Control"] == "no-store"
    assert staff.get(LIST).status_code == 200
    assert staff.get(change(image)).status_code == 200
    models.Image.objects.filter(pk=image.pk).update(thumbnail="")
    assert staff.get(f"{LIST}{image.pk}/thumbnail/").status_code == 404


# Delete


def test_deleting_one_reaches_the_index_and_the_files(staff: Client) -> None:
    image, other = put("a", jpeg(1)), put("b", jpeg(2))
    assert found_by_service(image) == ["a"]
    asked = staff.get(f"{LIST}{image.pk}/delete/")
    assert "Are you sure" in asked.content.decode()
    assert staff.post(f"{LIST}{image.pk}/delete/", {"post": "yes"}).status_code == 302
    assert found_by_service(image) == []
    assert not default_storage.exists(image.thumbnail)
    newest = models.Change.objects.latest("seq")
    assert (newest.op, newest.image) == ("d", image.pk)
    assert found_by_service(other) == ["b"]


def test_deleting_the_selected_ones(staff: Client) -> None:
    images = [put(str(seed), jpeg(seed)) for seed in range(3)]
    data = {"action": "delete_selected", "_selected_action": [image.pk for image in images[:2]]}
    asked = staff.post(LIST, {**data, "index": "0"})
    assert "Are you sure" in asked.content.decode()
    assert models.Image.objects.count() == 3
    assert staff.post(LIST, {**data, "post": "yes"}).status_code == 302
    assert [found_by_service(image) for image in images] == [[], [], ["2"]]
    assert [default_storage.exists(image.thumbnail) for image in images] == [False, False, True]


def test_deleting_speaks_for_the_collections_own_tenant(staff: Client) -> None:
    catalogue.collection_create(caller=Caller("acme"), name="default")
    ours, theirs = put("a", jpeg(1)), put("a", jpeg(1), tenant="acme")
    staff.post(f"{LIST}{theirs.pk}/delete/", {"post": "yes"})
    assert list(models.Image.objects.values_list("pk", flat=True)) == [ours.pk]


# Who may


def test_strangers_and_users_who_are_not_staff_see_no_picture() -> None:
    image = put("a", jpeg(1))
    visitor, user = Client(), Client()
    user.force_login(User.objects.create_user("user", password="secret"))
    for client in (visitor, user):
        for address in (f"{LIST}{image.pk}/thumbnail/", f"{LIST}{image.pk}/original/", LIST, change(image)):
            answer = client.get(address)
            assert answer.status_code == 302
            assert answer["Location"].startswith("/admin/login/")
            assert b"JFIF" not in answer.content


def test_staff_without_permission_see_no_picture() -> None:
    image = put("a", jpeg(1))
    client = staff_with()
    for address in (f"{LIST}{image.pk}/thumbnail/", f"{LIST}{image.pk}/original/", LIST, change(image)):
        assert client.get(address).status_code == 403


def test_staff_who_may_only_view_cannot_write() -> None:
    image = put("a", jpeg(1), metadata={"k": 1})
    client = staff_with("view_image", "view_collection", "view_apikey")
    assert client.get(f"{LIST}{image.pk}/thumbnail/").status_code == 200
    page = client.get(change(image))
    assert page.status_code == 200
    assert b"<textarea" not in page.content
    assert client.post(change(image), {"metadata": "{}"}).status_code == 403
    assert client.post(f"{LIST}{image.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.get(f"{LIST}add/").status_code == 403
    client.post(LIST, {"action": "delete_selected", "_selected_action": [image.pk], "post": "yes"})
    collection = models.Collection.objects.get()
    assert client.post(f"/admin/imgindex/collection/{collection.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.post("/admin/imgindex/apikey/add/", {"name": "k", "tenant": "default"}).status_code == 403
    assert models.Image.objects.get().metadata == {"k": 1}
    assert models.ApiKey.objects.count() == 0


def test_forms_without_their_token_are_refused(admin_user: User) -> None:
    image = put("a", jpeg(1))
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    posts: list[tuple[str, dict[str, Any]]] = [
        (change(image), {"metadata": "{}"}),
        (f"{LIST}{image.pk}/delete/", {"post": "yes"}),
        (LIST, {"action": "delete_selected", "_selected_action": [image.pk], "post": "yes"}),
        (f"{LIST}add/", {"url": "http://example.org/a.jpg"}),
        ("/admin/imgindex/collection/add/", {"name": "x", "tenant": "default"}),
        ("/admin/imgindex/apikey/add/", {"name": "x", "tenant": "default"}),
    ]
    for address, data in posts:
        assert client.post(address, data).status_code == 403, address
    assert models.Image.objects.count() == 1


def test_hostile_text_is_escaped(staff: Client) -> None:
    script = "<script>alert(1)</script>"
    image = put(f'"><img src=x onerror=alert(1)>{script}', jpeg(1), metadata={script: script}, source_url=f"x{script}")
    put("copy" + script, jpeg(1), source_url="javascript:alert(1)")
    for address in (
        LIST,
        f"{LIST}?q={quote(script)}",
        change(image),
        f"{LIST}{image.pk}/delete/",
        f"{LIST}{image.pk}/history/",
    ):
        page = staff.get(address).content.decode()
        assert script not in page
        assert "<img src=x" not in page


def test_only_web_addresses_become_links(staff: Client) -> None:
    image = put("a", jpeg(1))
    for source in (
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "file:///etc/passwd",
        "data:text/html,x",
        "//example.org",
        "http:[",
        "https:x",
        "x",
    ):
        models.Image.objects.update(source_url=source)
        page = staff.get(change(image)).content.decode()
        assert f'href="{source}"' not in page
        assert source in page


# Index a new one


def test_indexing_a_file(staff: Client) -> None:
    collection = models.Collection.objects.get()
    data = {
        "collection": collection.pk,
        "file": SimpleUploadedFile("a.jpg", jpeg(1)),
        "external_id": "mine",
        "metadata": '{"k": 1}',
    }
    answer = staff.post(f"{LIST}add/", data, follow=True)
    image = models.Image.objects.get()
    assert answer.redirect_chain == [(change(image), 302)]
    assert "Indexed mine" in answer.content.decode()
    assert (image.external_id, image.metadata) == ("mine", {"k": 1})
    assert found_by_service(image) == ["mine"]
    again = staff.post(f"{LIST}add/", data | {"file": SimpleUploadedFile("b.jpg", jpeg(2))}, follow=True)
    assert "Replaced mine" in again.content.decode()


def test_what_cannot_be_indexed_is_told_on_the_form(staff: Client) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "Give a file or a URL"),
        ({"file": b"not an image"}, "as an image"),
        ({"url": "http://127.0.0.1/secret.jpg"}, "<li>"),
        ({"url": "ftp://example.org/a.jpg"}, "<li>"),
        ({"file": b"", "url": ""}, "empty"),
        ({"file": jpeg(1), "url": "http://example.org/"}, "not both"),
        ({"file": jpeg(1), "metadata": "{"}, "not JSON"),
        ({"file": jpeg(1), "external_id": "ö" * 300}, "512 bytes"),
    ]
    collection = models.Collection.objects.get()
    for fields, told in cases:
        data = {"collection": collection.pk, **fields}
        if "file" in data:
            data["file"] = SimpleUploadedFile("a", data["file"])
        answer = staff.post(f"{LIST}add/", data)
        assert answer.status_code == 200
        assert told in str(answer.context["errors"])
    assert models.Image.objects.count() == 0


# Collections


def test_collections_with_their_numbers_of_images(staff: Client) -> None:
    catalogue.collection_create(caller=CALLER, name="empty")
    put("a", jpeg(1))
    put("b", jpeg(2))
    answer = staff.get("/admin/imgindex/collection/")
    assert {row.name: row.image_count for row in answer.context["cl"].result_list} == {"default": 2, "empty": 0}
    collection = models.Collection.objects.get(name="default")
    link = f"{LIST}?collection__id__exact={collection.pk}"
    assert f'<a href="{link}">2</a>' in answer.content.decode()
    assert staff.get(link).context["cl"].result_count == 2
    assert (
        f'<a href="{link}">2</a>' in staff.get(f"/admin/imgindex/collection/{collection.pk}/change/").content.decode()
    )


def test_making_a_collection(staff: Client) -> None:
    answer = staff.post("/admin/imgindex/collection/add/", {"name": "shoes", "tenant": "acme"})
    assert answer.status_code == 302
    put("a", jpeg(1), collection="shoes", tenant="acme")
    newest = models.Change.objects.filter(op="c").latest("seq")
    assert newest.collection == models.Collection.objects.get(name="shoes").pk


def test_a_wrong_name_is_told_on_the_form(staff: Client) -> None:
    for name in ("", "-x", "a b", "a/b", "x" * 65, "default"):
        answer = staff.post("/admin/imgindex/collection/add/", {"name": name, "tenant": "default"})
        assert answer.status_code == 200
        assert answer.context["errors"], name
    assert models.Collection.objects.count() == 1


def test_deleting_a_collection_lists_numbers_and_reaches_the_index(staff: Client) -> None:
    catalogue.collection_create(caller=CALLER, name="shoes")
    images = [put(f"shoe{seed}", jpeg(seed), collection="shoes") for seed in range(3)]
    collection = models.Collection.objects.get(name="shoes")
    address = f"/admin/imgindex/collection/{collection.pk}/delete/"
    with CaptureQueriesContext(connection) as queries:
        page = staff.get(address).content.decode()
    assert "shoes with 3 images" in page
    assert "shoe0" not in page
    assert not [query for query in queries if '"external_id"' in query["sql"]]
    assert staff.post(address, {"post": "yes"}).status_code == 302
    assert not models.Image.objects.exists()
    assert not any(default_storage.exists(image.thumbnail) for image in images)
    with pytest.raises(CollectionNotFound):
        search.search(caller=CALLER, collection="shoes", query=search.ByHash("0" * 64))


def test_deleting_selected_collections(staff: Client) -> None:
    for name in ("one", "two"):
        catalogue.collection_create(caller=CALLER, name=name)
        put("a", jpeg(1), collection=name)
    pks = list(models.Collection.objects.exclude(name="default").values_list("pk", flat=True))
    data = {"action": "delete_selected", "_selected_action": pks, "post": "yes"}
    assert staff.post("/admin/imgindex/collection/", data).status_code == 302
    assert [row.name for row in models.Collection.objects.all()] == ["default"]


def test_deleting_a_collection_needs_the_permission_to_delete_images() -> None:
    client = staff_with("view_collection", "delete_collection")
    collection = models.Collection.objects.get()
    address = f"/admin/imgindex/collection/{collection.pk}/delete/"
    assert "images" in client.get(address).content.decode()
    assert client.post(address, {"post": "yes"}).status_code == 403
    assert models.Collection.objects.exists()


def test_a_collection_is_not_renamed(staff: Client) -> None:
    collection = models.Collection.objects.get()
    address = f"/admin/imgindex/collection/{collection.pk}/change/"
    assert staff.get(address).status_code == 200
    assert staff.post(address, {"name": "x", "tenant": "y"}).status_code == 403


# Keys


def test_a_new_key_is_shown_once_and_works(staff: Client) -> None:
    data = {"name": "shop", "tenant": "acme"}
    page = staff.post("/admin/imgindex/apikey/add/", data, follow=True).content.decode()
    [key] = re.findall(r"ix_[0-9a-f]{8}_[\w-]{43}", page)
    assert access.caller(key=key) == Caller("acme")
    row = models.ApiKey.objects.get()
    for address in ("/admin/imgindex/apikey/", f"/admin/imgindex/apikey/{row.pk}/change/"):
        page = staff.get(address).content.decode()
        assert row.prefix in page
        assert key not in page
        assert row.digest not in page


def test_a_revoked_key_opens_nothing(staff: Client) -> None:
    key, other = access.create_key(name="a"), access.create_key(name="b")
    row = models.ApiKey.objects.get(name="a")
    data = {"action": "revoke", "_selected_action": [row.pk], "index": "0"}
    assert "Revoked 1 key." in staff.post("/admin/imgindex/apikey/", data, follow=True).content.decode()
    with pytest.raises(KeyUnknown):
        access.caller(key=key)
    assert access.is_valid(other)
    revoked = models.ApiKey.objects.get(name="a").revoked
    assert "Revoked 0 keys." in staff.post("/admin/imgindex/apikey/", data, follow=True).content.decode()
    assert models.ApiKey.objects.get(name="a").revoked == revoked


def test_keys_are_neither_changed_nor_deleted(staff: Client) -> None:
    access.create_key(name="a")
    row = models.ApiKey.objects.get()
    assert staff.post(f"/admin/imgindex/apikey/{row.pk}/change/", {"name": "x", "tenant": "y"}).status_code == 403
    assert staff.post(f"/admin/imgindex/apikey/{row.pk}/delete/", {"post": "yes"}).status_code == 403


# The rest


def test_the_first_page_tells_how_much_there_is(staff: Client) -> None:
    put("a", jpeg(1))
    page = staff.get("/admin/").content.decode()
    assert "1 image in 1 collection" in page
    assert "Changes" not in page


def test_pages_hold_no_inline_script_or_style(staff: Client) -> None:
    image = put("a", jpeg(1))
    kinds = ("image", "collection", "apikey")
    lists = [f"/admin/imgindex/{kind}/" for kind in kinds]
    for address in ("/admin/", change(image), *lists, *(f"{address}add/" for address in lists)):
        page = staff.get(address).content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=\"", page), address


def test_static_files_are_found(client: Client) -> None:
    from django.contrib.staticfiles import finders

    assert finders.find("imgindex/admin.css")
    assert reverse("admin:imgindex_image_changelist") == LIST


@pytest.mark.parametrize(
    "query", ["format=%00", "created__year=0", "external_id__regex=(", "q=%00", "q=a.b%3D1", "p=-1"]
)
def test_an_address_that_makes_no_sense_is_no_fault_of_ours(staff: Client, query: str) -> None:
    answer = staff.get(f"/admin/imgindex/image/?{query}", follow=True)
    assert answer.status_code in {200, 400}
