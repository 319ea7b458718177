"""Files that belong to images: thumbnails and kept originals, in Django's default storage.

Each write gets names of its own, so that a file is in place before the row that names it is committed and no other
row ever names it. A process that dies in between leaves a file that nothing names, never a row without its file.
(Files are not flushed to disk one by one: a power cut may cost the thumbnails of the last seconds, not the rows.)
"""

import logging
import uuid
from collections.abc import Iterable
from dataclasses import replace

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from imgindex.store.images import Media

logger = logging.getLogger(__name__)


def save(*, collection: int, thumbnail: bytes, original: bytes | None) -> Media:
    """Store an image's files, all or none; the names to write into its row."""
    key = uuid.uuid4().hex
    folder = f"{collection}/{key[:2]}/{key}"
    stored = Media(thumbnail=default_storage.save(f"thumbnails/{folder}.jpg", ContentFile(thumbnail)), original="")
    if original is None:
        return stored
    try:
        return replace(stored, original=default_storage.save(f"originals/{folder}", ContentFile(original)))
    except BaseException:
        discard([stored])
        raise


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
            except Exception:  # each storage has errors of its own
                logger.exception("could not remove %s", name)
