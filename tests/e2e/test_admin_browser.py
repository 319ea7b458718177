"""The admin in a real browser."""

import io

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from imgindex.services import catalogue
from imgindex.services.describe import FromUpload
from imgindex.types import Caller, ImageNotFound
from tests.e2e.browser import Browser, browser
from tests.pictures import encoded, textured

__all__ = ["browser"]

CALLER = Caller("default")


def put(image_id: str, seed: int, *, quality: int = 90) -> None:
    data = io.BytesIO(encoded(textured(seed), "JPEG", quality=quality))
    catalogue.image_put(caller=CALLER, collection="default", source=FromUpload(data), image_id=image_id)


def pictures(page: Page, selector: str) -> int:
    """How many pictures are there, once each of them is in sight and has pixels."""
    expect(page.locator(selector).first).to_be_attached()
    for picture in page.locator(selector).all():
        picture.scroll_into_view_if_needed()
        expect(picture).to_be_visible()
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 0
    return page.locator(selector).count()


@pytest.mark.usefixtures("default_collection")
def test_a_person_browses_edits_and_deletes(live_server: LiveServer, browser: Browser) -> None:
    User.objects.create_superuser("root", password="secret")
    for seed in range(6):
        put(f"photo-{seed}.jpg", seed)
    put("copy.jpg", 0, quality=20)

    def log_in(page: Page) -> None:
        page.set_viewport_size({"width": 1280, "height": 1200})
        page.goto(f"{live_server.url}/admin/")
        page.fill("#id_username", "root")
        page.fill("#id_password", "secret")
        page.click("input[type=submit]")
        expect(page.locator("h1")).to_have_text("7 images in 1 collection")

    def see_the_list(page: Page) -> None:
        page.locator(".model-image").get_by_role("link", name="Images").click()
        expect(page.locator("#result_list tbody tr")).to_have_count(7)
        assert pictures(page, "#result_list .thumbnail-box img") == 7
        page.fill("#searchbar", "photo-0")
        page.press("#searchbar", "Enter")
        expect(page.locator("#result_list tbody tr")).to_have_count(1)

    def open_one(page: Page) -> None:
        page.click("text=photo-0.jpg")
        assert pictures(page, ".picture img") == 1
        expect(page.locator("#similar .hits li")).to_have_count(1)
        expect(page.locator("#similar .hits .name")).to_have_text("copy.jpg")
        assert pictures(page, "#similar .hits img") == 1
        page.fill("#id_max_distance", "256")
        page.click("#similar button")
        expect(page.locator("#similar .hits li")).to_have_count(6)

    def edit_metadata(page: Page) -> None:
        page.fill("#id_metadata", '{"colour": "red"}')
        page.click("input[name=_continue]")
        expect(page.locator(".messagelist .success")).to_be_visible()

    def delete_it(page: Page) -> None:
        page.click(".deletelink")
        page.click("input[type=submit]")
        expect(page.locator(".messagelist .success")).to_be_visible()

    def delete_two_more(page: Page) -> None:
        page.goto(f"{live_server.url}/admin/imgindex/image/")
        for name in ("photo-1.jpg", "photo-2.jpg"):
            page.locator("tr", has_text=name).locator("input.action-select").check()
        expect(page.locator(".action-counter")).to_have_text("2 of 6 selected")
        page.select_option("select[name=action]", "delete_selected")
        page.click("button[name=index]")
        page.click("input[type=submit]")
        expect(page.locator("#result_list tbody tr")).to_have_count(4)

    browser.run(log_in)
    browser.run(see_the_list)
    browser.run(open_one)
    browser.run(edit_metadata)
    image = catalogue.image_get(caller=CALLER, collection="default", image_id="photo-0.jpg")
    assert image.metadata == {"colour": "red"}
    browser.run(delete_it)
    with pytest.raises(ImageNotFound):
        catalogue.image_get(caller=CALLER, collection="default", image_id="photo-0.jpg")
    browser.run(delete_two_more)
    assert browser.complaints == []
    assert browser.hosts == {live_server.url.removeprefix("http://")}


@pytest.mark.usefixtures("default_collection")
def test_a_narrow_screen_needs_no_sideways_scrolling(live_server: LiveServer, browser: Browser) -> None:
    User.objects.create_superuser("root", password="secret")
    put("a-long-id/" + 40 * "x" + ".jpg", 1)
    put("copy.jpg", 1, quality=20)

    def look(page: Page) -> tuple[int, int]:
        page.set_viewport_size({"width": 400, "height": 800})
        page.goto(f"{live_server.url}/admin/imgindex/image/")
        page.fill("#id_username", "root")
        page.fill("#id_password", "secret")
        page.click("input[type=submit]")
        page.click("text=copy.jpg")
        assert pictures(page, ".hits img") == 1
        widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        return widths[0], widths[1]

    whole, visible = browser.run(look)
    assert whole <= visible
    assert browser.complaints == []
