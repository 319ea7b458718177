"""Files that belong to images: thumbnails and kept originals, in Django's default storage.

Each write gets names of its own, so that a file is in place before the row that names it is committed and no other
row ever names it. A crash in between leaves a file that nothing names, never a row without its file.
"""

import logging
import uuid
from collections.abc import Iterable

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from imgindex.store.images import Media

logger = logging.getLogger(__name__)


def save(*, collection: int, thumbnail: bytes, original: bytes | None) -> Media:
    """Store an image's files; the names to write into its row."""
    key = uuid.uuid4().hex
    folder = f"{collection}/{key[:2]}/{key}"
    return Media(
        thumbnail=default_storage.save(f"thumbnails/{folder}.jpg", ContentFile(thumbnail)),
        original="" if original is None else default_storage.save(f"originals/{folder}", ContentFile(original)),
    )


def read(name: str) -> bytes | None:
    """A stored file's bytes; None where the storage has lost it."""
    try:
        with default_storage.open(name) as file:
            return bytes(file.read())
    except FileNotFoundError:
        return None


def discard(media: Iterable[Media]) -> None:
    """Remove files that no row names any more.

    The rows are gone and the write is acknowledged whatever happens here: a file that cannot be removed is logged.
    """
    for item in media:
        for name in filter(None, (item.thumbnail, item.original)):
            try:
                default_storage.delete(name)
            except OSError:
                logger.exception("could not remove %s", name)
