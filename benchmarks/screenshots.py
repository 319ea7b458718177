"""Take the screenshots of the admin for the documentation, with real photos.

    python -m benchmarks.screenshots PHOTOS [--out docs/images] [--every]

starts a service in a temporary folder, indexes photos with edited copies of one of them, and takes the list and one
image's page. `--every` takes both in light and dark and on a narrow screen, to look at. With `--url` it takes them of
a service that runs, without writing to it: `--user` and the environment's ADMIN_PASSWORD log in, `--search` names the
image of the second picture.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.service import ROOT, Service, environment
from tests.e2e.browser import FLAGS

PHOTOS = 60
SHOWN = "clothing/0301.jpg"
LARGEST = 400_000

_PASSWORD = "screenshots"


@dataclass(frozen=True, slots=True)
class Site:
    """A running service, who logs in, and the image to show."""

    url: str
    user: str
    password: str
    search: str


def main() -> None:
    """Parse the command line and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", help="a folder of JPEG files; not needed with --url")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--every", action="store_true", help="light and dark, wide and narrow")
    parser.add_argument("--url", help="a service that runs")
    parser.add_argument("--user", default="admin")
    parser.add_argument("--search", default=SHOWN, help="what finds the image to show")
    asked = parser.parse_args()
    executable = shutil.which("chromium")
    if executable is None:
        sys.exit("There is no `chromium` on the PATH (Debian: apt-get install chromium).")
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.url:
        site = Site(asked.url.rstrip("/"), asked.user, os.environ.get("ADMIN_PASSWORD", ""), asked.search)
        take(site, executable, asked.out, every=asked.every)
        return
    if asked.photos is None:
        parser.error("give a folder of photos, or --url")
    with started(asked.photos) as site:
        take(site, executable, asked.out, every=asked.every)


@contextmanager
def started(photos: Path) -> Iterator[Site]:
    """A service of its own with photos in it."""
    with tempfile.TemporaryDirectory(prefix="imgindex-screenshots-") as folder:
        data_dir = Path(folder) / "data"
        with Service(data_dir) as service:
            subprocess.run(
                [sys.executable, "manage.py", "createsuperuser", "--noinput", "--username=admin", "--email="],
                cwd=ROOT,
                env=environment(data_dir, port=service.port, settings={"DJANGO_SUPERUSER_PASSWORD": _PASSWORD}),
                check=True,
                stdout=subprocess.DEVNULL,
            )
            fill(service, sorted(photos.glob("*.jpg"))[:PHOTOS])
            yield Site(service.url(""), "admin", _PASSWORD, SHOWN)


def fill(service: Service, photos: list[Path]) -> None:
    """Index the photos, and edited copies of the one that is shown."""
    originals = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in photos}
    # The list shows the newest first: the copies, which look the same, come before the rest.
    pictures = {f"copies/{name}": data for name, data in copies(originals[SHOWN]).items()} | originals
    session = service.session()
    for number, (image_id, data) in enumerate(pictures.items()):
        answer = session.post(
            service.url("/v3/collections/default/images"),
            files={"file": data},
            data={
                "id": image_id,
                "metadata": orjson.dumps({"album": image_id.split("/")[0], "number": number}),
            },
            timeout=60,
        )
        answer.raise_for_status()


def copies(data: bytes) -> dict[str, bytes]:
    """What becomes of a photo on its way through the world."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    trimmed = image.crop((width // 80, height // 80, width - width // 80, height - height // 80))
    return {
        "resized.webp": _encoded(image.resize((width // 3, height // 3)), "WEBP"),
        "grey.jpg": _encoded(ImageOps.grayscale(image), "JPEG"),
        "recompressed.jpg": _encoded(image, "JPEG", quality=12),
        "brighter.png": _encoded(image.point([min(255, int(level * 1.3)) for level in range(256)] * 3), "PNG"),
        "trimmed.jpg": _encoded(trimmed, "JPEG"),
        "same-bytes.jpg": data,
    }


def _encoded(image: Image.Image, image_format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def take(site: Site, executable: str, out: Path, *, every: bool) -> None:
    """Write the pictures into `out`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        shoot(browser, site, out, suffix="", dark=False, width=1280)
        if every:
            shoot(browser, site, out, suffix="-dark", dark=True, width=1280)
            shoot(browser, site, out, suffix="-narrow", dark=False, width=400, whole=True)
            shoot(browser, site, out, suffix="-narrow-dark", dark=True, width=400, whole=True)
            shoot(browser, site, out, suffix="-whole", dark=False, width=1280, whole=True)
        browser.close()


def shoot(browser: Browser, site: Site, out: Path, *, suffix: str, dark: bool, width: int, whole: bool = False) -> None:
    """The list and one image's page, in one theme and width; `whole` pages or what a screen shows."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light")
    page = context.new_page()
    page.goto(f"{site.url}/admin/imgindex/image/?q=-")
    page.fill("#id_username", site.user)
    page.fill("#id_password", site.password)
    page.click("input[type=submit]")
    page.goto(f"{site.url}/admin/imgindex/image/")
    save(page, out / f"admin-list{suffix}.png", whole=whole)
    page.fill("#searchbar", site.search)
    page.press("#searchbar", "Enter")
    page.wait_for_load_state()
    page.locator("#result_list .field-external_id a").last.click()
    page.locator(".overview").wait_for()
    save(page, out / f"admin-detail{suffix}.png", whole=whole)
    context.close()


def save(page: Page, path: Path, *, whole: bool) -> None:
    """Take a picture once everything in sight is there; small enough for a README."""
    page.wait_for_load_state("networkidle")
    page.screenshot(path=path, full_page=whole)
    if path.stat().st_size > LARGEST:
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
    print(f"{path} {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
