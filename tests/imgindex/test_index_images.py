"""`manage.py index_images`: folders, lists, resuming, failures."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from imgindex.services import access, catalogue
from imgindex.types import Caller
from tests.image_server import ImageServer
from tests.pictures import encoded, textured

pytestmark = pytest.mark.usefixtures("default_collection")


def index(source: Path, **options: Any) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("index_images", str(source), jobs=2, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def stored(collection: str = "default") -> dict[str, str]:
    page = catalogue.image_page(caller=Caller(access.DEFAULT_TENANT), collection=collection, limit=1000)
    return {image.id: image.source_url for image in page.images}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "sea").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / "a.png").write_bytes(encoded(textured(1)))
    (folder / "sea" / "b c.JPG").write_bytes(encoded(textured(2), "JPEG"))
    (folder / ".hidden" / "c.png").write_bytes(encoded(textured(3)))
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_a_folder_goes_in_with_its_paths_as_ids(folder: Path) -> None:
    out, err = index(folder)
    assert stored() == {"a.png": (folder / "a.png").as_uri(), "sea/b c.JPG": (folder / "sea" / "b c.JPG").as_uri()}
    assert "2 indexed, 0 already there, 0 failed of 2" in out
    assert "1 files are passed over" in out
    assert "failed" not in err


def test_a_second_run_skips_what_is_there(folder: Path) -> None:
    index(folder)
    (folder / "new.png").write_bytes(encoded(textured(4)))
    out, _ = index(folder)
    assert "1 indexed, 2 already there, 0 failed" in out


def test_a_file_that_has_changed_is_indexed_again(folder: Path) -> None:
    index(folder)
    os.utime(folder / "sea" / "b c.JPG", (2**32, 2**32))  # touched, and the same
    (folder / "a.png").write_bytes(encoded(textured(8)))
    out, _ = index(folder)
    assert "1 indexed, 1 already there, 0 failed" in out
    image = catalogue.image_get(caller=Caller(access.DEFAULT_TENANT), collection="default", image_id="a.png")
    assert image.sha256 == hashlib.sha256((folder / "a.png").read_bytes()).hexdigest()


def test_a_pipe_with_a_picture_s_name_is_passed_over(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    out, _ = index(folder)
    assert "2 indexed, 0 already there, 0 failed of 2" in out
    assert "2 files are passed over" in out


def test_a_moved_folder_is_recognised_and_another_picture_is_not_overwritten(folder: Path) -> None:
    index(folder)
    moved = folder.rename(folder.with_name("moved"))
    (moved / "a.png").write_bytes(encoded(textured(9)))
    out, err = index(moved)
    assert "0 indexed, 1 already there, 1 failed" in out
    assert "failed: a.png: the collection holds another picture under this id" in err
    out, _ = index(moved, prefix="moved/")
    assert "2 indexed" in out
    assert set(stored()) == {"a.png", "sea/b c.JPG", "moved/a.png", "moved/sea/b c.JPG"}


def test_failures_have_their_reasons_and_the_rest_goes_in(folder: Path) -> None:
    (folder / "broken.jpg").write_bytes(encoded(textured(1), "JPEG")[:900])
    (folder / "empty.png").write_bytes(b"")
    (folder / "dangling.png").symlink_to(folder / "nowhere")
    out, err = index(folder)
    assert "2 indexed, 0 already there, 3 failed of 5" in out
    for name in ("broken.jpg", "empty.png", "dangling.png"):
        assert f"failed: {name}: " in err


def test_a_list_of_urls_goes_in(tmp_path: Path) -> None:
    with ImageServer({"/a.png": encoded(textured(1)), "/b.png": encoded(textured(2))}) as server:
        file = tmp_path / "urls.txt"
        lines = ["# shop", server.url("/a.png"), "", server.url("/b.png"), server.url("/a.png"), server.url("/no")]
        file.write_text("\n".join(lines))
        with override_settings(FETCH_ALLOW=server.allow):
            out, err = index(file)
        assert "2 indexed, 0 already there, 1 failed of 3" in out
        assert f"failed: {server.url('/no')}" in err
        assert stored() == {server.url(path): server.url(path) for path in ("/a.png", "/b.png")}


def test_one_picture_goes_in(folder: Path) -> None:
    index(folder / "a.png")
    assert set(stored()) == {"a.png"}


def test_a_name_that_is_no_text_fails_alone(folder: Path) -> None:
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb") as file:
        file.write(encoded(textured(5)))
    out, err = index(folder)
    assert "2 indexed, 0 already there, 1 failed of 3" in out
    assert "failed: caf\\udce9.png: An image's id must be Unicode text" in err


def test_an_odd_list_of_urls_fails_line_by_line(tmp_path: Path) -> None:
    with ImageServer({"/a.png": encoded(textured(1))}) as server, override_settings(FETCH_ALLOW=server.allow):
        (tmp_path / "urls.txt").write_bytes(
            b"\xef\xbb\xbf" + server.url("/a.png").encode() + b"\r\nhttp://x/\0\r\nno url\n"
        )
        out, err = index(tmp_path / "urls.txt")
    assert "1 indexed, 0 already there, 2 failed of 3" in out
    assert "failed: no url" in err


def test_nothing_indexed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no")
    with pytest.raises(CommandError, match="Nothing could be indexed"):
        index(tmp_path)
    with pytest.raises(CommandError, match="no folder or file"):
        index(tmp_path / "nope")
    (tmp_path / "broken.jpg").unlink()
    with pytest.raises(CommandError, match="nothing to index"):
        index(tmp_path)


def test_an_unknown_collection_is_said(folder: Path) -> None:
    with pytest.raises(CommandError, match="no collection named 'nope'"):
        index(folder, collection="nope")
    assert stored() == {}
