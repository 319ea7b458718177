"""Index a folder of pictures or a list of URLs: many pictures, resumable, each failure with its reason."""

import hashlib
import os
import uuid
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Literal

from django.db import connection

from imgindex.intake import IntakeError
from imgindex.services import catalogue, describe
from imgindex.services.describe import FromUpload, FromUrl
from imgindex.types import Caller, ServiceError, Stored
from matching.types import MatchingError

EXTENSIONS = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".apng",
        ".gif",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".avif",
    }
)

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Item:
    """One picture to index: the id it gets, and the file or URL it comes from."""

    id: str
    path: Path | None = None
    url: str = ""

    @property
    def source_url(self) -> str:
        """Where the picture comes from, as it is stored."""
        return self.url if self.path is None else self.path.as_uri()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item; `reason` says why it failed."""

    item: Item
    status: Literal["indexed", "skipped", "failed"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Folder:
    """What is in a folder: pictures by their names, the number of other files, and folders that cannot be read."""

    items: list[Item]
    others: int
    unreadable: list[OSError]


def items_of_folder(folder: Path, *, prefix: str = "") -> Folder:
    """The pictures below a folder by their names' endings, in order.

    An id is the path inside the folder, with slashes, after the prefix. Hidden files and folders are passed over, and
    so is what has a picture's name and is no file, such as a pipe; a link that leads nowhere counts, to be reported.
    """
    items: list[Item] = []
    unreadable: list[OSError] = []
    others = 0
    for place, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(place, name)
            if path.suffix.lower() in EXTENSIONS and (path.is_file() or not path.exists()):
                items.append(Item(id=prefix + path.relative_to(folder).as_posix(), path=path.absolute()))
            else:
                others += 1
    return Folder(items, others, unreadable)


def items_of_list(file: Path, *, prefix: str = "") -> list[Item]:
    """The URLs in a text file, one a line; blank lines and lines that begin with # are passed over.

    An id is the URL after the prefix, or a uuid made of it where it is too long for an id. Raises UnicodeDecodeError.
    """
    urls = dict.fromkeys(line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines())
    return [Item(id=_id_of_url(prefix + url), url=url) for url in urls if url and not url.startswith("#")]


def _id_of_url(text: str) -> str:
    fits = len(text.encode()) <= catalogue.MAX_ID_BYTES
    return text if fits else str(uuid.uuid5(uuid.NAMESPACE_URL, text))


def index_items(*, caller: Caller, collection: str, items: Sequence[Item], jobs: int) -> Generator[Outcome]:
    """Index the items, `jobs` at a time, and tell what became of each, in order.

    What the collection holds already under an item's id and from the same source, or with the same bytes, is skipped:
    a run that was cut off is resumed by starting it again. A file that has changed since is indexed again. Raises
    CollectionNotFound.
    """
    catalogue.collection_get(caller=caller, name=collection)
    describe.start_pool(processes=jobs)
    try:
        with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="index") as threads:
            for start in range(0, len(items), _BATCH):
                batch = items[start : start + _BATCH]
                known = catalogue.known(caller=caller, collection=collection, image_ids=[item.id for item in batch])
                yield from threads.map(lambda item, known=known: _outcome(caller, collection, item, known), batch)
            # Each thread has a connection of its own; the barrier sees to it that each closes one.
            barrier = Barrier(jobs)
            list(threads.map(_close_connection, [barrier] * jobs))
    finally:
        describe.stop_pool()


def _close_connection(barrier: Barrier) -> None:
    connection.close()
    barrier.wait(timeout=30)


def _outcome(caller: Caller, collection: str, item: Item, known: dict[str, Stored]) -> Outcome:
    try:
        if item.id in known:
            status = _compared(item, known[item.id])
            if status is not None:
                return status
        if item.path is None:
            catalogue.image_put(caller=caller, collection=collection, source=FromUrl(item.url), image_id=item.id)
        else:
            with item.path.open("rb") as file:
                catalogue.image_put(
                    caller=caller,
                    collection=collection,
                    source=FromUpload(file),
                    image_id=item.id,
                    source_url=item.source_url,
                )
    except (ServiceError, IntakeError, MatchingError) as exc:
        return Outcome(item, "failed", str(exc))
    except OSError as exc:
        return Outcome(item, "failed", exc.strerror or str(exc))
    return Outcome(item, "indexed")


def _compared(item: Item, stored: Stored) -> Outcome | None:
    """What becomes of an item whose id is taken; None where it is to be indexed again, as its file has changed."""
    same_source = item.source_url == stored.source_url
    if item.path is None:
        return Outcome(item, "skipped") if same_source else _taken(item)
    found = item.path.stat()
    if same_source and found.st_size == stored.size and found.st_mtime <= stored.updated.timestamp():
        return Outcome(item, "skipped")
    # The folder may have moved since, or the file been touched; the same bytes are the same picture.
    with item.path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == stored.sha256:
            return Outcome(item, "skipped")
    return None if same_source else _taken(item)


def _taken(item: Item) -> Outcome:
    return Outcome(item, "failed", "the collection holds another picture under this id; choose a --prefix")
