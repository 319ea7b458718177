"""Write and read the catalogue: collections and the images in them."""

import re
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import orjson
from django.conf import settings

from imgindex.services import describe
from imgindex.services.describe import Source
from imgindex.store import changes, collections, images, media
from imgindex.types import (
    Caller,
    Collection,
    CollectionExists,
    CollectionNotFound,
    Image,
    ImageNotFound,
    InvalidInput,
    Metadata,
    Page,
    Stored,
    Written,
)
from matching.fingerprints import RECIPE_VERSION

DEFAULT_COLLECTION = "default"

MAX_ID_BYTES = 512
MAX_METADATA_BYTES = 64 * 1024
MAX_METADATA_DEPTH = 64
MAX_CONDITIONS = 50

_BATCH = 1000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def collection_create(*, caller: Caller, name: str) -> tuple[Collection, int]:
    """Make a collection; with it the number of the change. Raises InvalidInput and CollectionExists."""
    check_name(name)
    with changes.write() as log:
        collection = collections.create(tenant=caller.tenant, name=name)
        if collection is None:
            raise CollectionExists(f"There is a collection named {name!r} already.")
        log.record("c", collection=collection.id)
    return collection, log.seq


def collection_list(*, caller: Caller) -> list[Collection]:
    """The caller's collections by name, each with the number of its images."""
    return collections.of_tenant(tenant=caller.tenant)


def collection_get(*, caller: Caller, name: str, counted: bool = False) -> Collection:
    """The caller's collection of that name; raises CollectionNotFound."""
    known = _storable(name)
    collection = collections.get(tenant=caller.tenant, name=name, counted=counted) if known else None
    if collection is None:
        raise CollectionNotFound(f"There is no collection named {name!r}.")
    return collection


def collection_delete(*, caller: Caller, name: str) -> int:
    """Delete a collection with all its images; the number of the change. Raises CollectionNotFound."""
    collection = collection_get(caller=caller, name=name)
    with changes.write() as log:
        if not collections.drop(collection=collection.id):
            raise CollectionNotFound(f"There is no collection named {name!r}.")
        log.record("x", collection=collection.id)
    clear_dropped()
    return log.seq


def clear_dropped() -> None:
    """Remove the images and files of dropped collections, also of one whose removal was cut off.

    Nobody can see them any more, so this needs no lock, and goes in steps that hold nobody up.
    """
    for collection in collections.dropped():
        while files := images.delete_some(collection=collection, limit=_BATCH):
            media.discard(files)
        collections.delete(collection=collection)


def image_put(
    *,
    caller: Caller,
    collection: str,
    source: Source,
    image_id: str | None = None,
    metadata: Metadata | None = None,
    source_url: str | None = None,
) -> Written:
    """Index a picture, or replace the one under `image_id`; searchable in every process when this returns.

    Without an `image_id` a uuid4 is made. `source_url` says where the picture comes from; a fetched one knows itself.
    Raises CollectionNotFound, InvalidInput, and what fetching and decoding raise.
    """
    if image_id is None:
        image_id = str(uuid.uuid4())
    check_id(image_id)
    metadata = {} if metadata is None else metadata
    check_metadata(metadata)
    if source_url is None:
        source_url = source.url if isinstance(source, describe.FromUrl) else ""
    _check_text("The source", source_url)
    target = collection_get(caller=caller, name=collection)
    data = describe.read(source)
    description = describe.describe(data)
    # Everything slow is done before the lock, which all writers share.
    files = media.save(
        collection=target.id,
        thumbnail=description.thumbnail,
        original=data if settings.KEEP_ORIGINALS else None,
    )
    with ExitStack() as undo:
        undo.callback(media.discard, [files])
        with changes.write() as log:
            _check_still_there(target)
            stored = images.upsert(
                collection=target.id,
                image_id=image_id,
                source_url=source_url,
                metadata=metadata,
                description=description,
                recipe=RECIPE_VERSION,
                media=files,
            )
            log.record("p", collection=target.id, images=[stored.image.pk])
            # From here on the row may be committed even if the answer is an error (the connection breaks): a file
            # that nothing names does no harm, a row without its file does.
            undo.pop_all()
    if stored.replaced is not None:
        media.discard([stored.replaced])
    return Written(image=stored.image, seq=log.seq, created=stored.replaced is None)


def _check_still_there(collection: Collection) -> None:
    """Raise CollectionNotFound if the collection was dropped before this write got the lock."""
    if not collections.exists(collection=collection.id):
        raise CollectionNotFound(f"The collection {collection.name!r} was deleted meanwhile.")


def image_get(*, caller: Caller, collection: str, image_id: str) -> Image:
    """One image; raises CollectionNotFound and ImageNotFound."""
    target = collection_get(caller=caller, name=collection)
    image = images.get(collection=target.id, image_id=image_id) if _storable(image_id) else None
    if image is None:
        raise ImageNotFound(f"The collection {collection!r} has no image with the id {image_id!r}.")
    return image


def image_patch(*, caller: Caller, collection: str, image_id: str, metadata: Metadata) -> Written:
    """Replace an image's metadata; raises CollectionNotFound, ImageNotFound and InvalidInput."""
    check_metadata(metadata)
    target = collection_get(caller=caller, name=collection)
    with changes.write() as log:
        _check_still_there(target)
        image = None
        if _storable(image_id):
            image = images.set_metadata(collection=target.id, image_id=image_id, metadata=metadata)
        if image is None:
            raise ImageNotFound(f"The collection {collection!r} has no image with the id {image_id!r}.")
        log.record("p", collection=target.id, images=[image.pk])
    return Written(image=image, seq=log.seq, created=False)


def image_delete(*, caller: Caller, collection: str, image_id: str) -> int:
    """Delete an image, gone from every search when this returns; the number of the change.

    Raises CollectionNotFound and ImageNotFound.
    """
    target = collection_get(caller=caller, name=collection)
    with changes.write() as log:
        _check_still_there(target)
        deleted = images.delete(collection=target.id, image_id=image_id) if _storable(image_id) else None
        if deleted is None:
            raise ImageNotFound(f"The collection {collection!r} has no image with the id {image_id!r}.")
        pk, files = deleted
        log.record("d", collection=target.id, images=[pk])
    media.discard([files])
    return log.seq


def image_page(
    *,
    caller: Caller,
    collection: str,
    limit: int,
    after: int = 0,
    filters: Sequence[Sequence[Metadata]] = (),
) -> Page:
    """One page of a collection's images, oldest first; `filters` as in store.images.page."""
    check_filters(filters)
    target = collection_get(caller=caller, name=collection)
    found = images.page(collection=target.id, after=after, limit=limit + 1, filters=filters)
    return Page(images=found[:limit], next_after=found[limit - 1].pk if len(found) > limit else None)


def thumbnail(*, caller: Caller, collection: str, image_id: str) -> bytes:
    """An image's thumbnail, a JPEG; raises CollectionNotFound and ImageNotFound."""
    for _ in range(2):
        image = image_get(caller=caller, collection=collection, image_id=image_id)
        content = media.read(image.thumbnail)
        if content is not None:
            return content
        # The image may have been replaced between the two reads: then its row names another file now.
    raise ImageNotFound(f"The thumbnail of {image_id!r} is missing in the storage.")


def original(*, caller: Caller, collection: str, image_id: str) -> bytes:
    """An image's bytes as they came; raises CollectionNotFound, and ImageNotFound where they were not kept."""
    image = image_get(caller=caller, collection=collection, image_id=image_id)
    content = media.read(image.original) if image.original else None
    if content is None:
        raise ImageNotFound(f"The original of {image_id!r} is not in the storage.")
    return content


def known(*, caller: Caller, collection: str, image_ids: Sequence[str]) -> dict[str, Stored]:
    """Of these ids the ones that the collection holds."""
    target = collection_get(caller=caller, name=collection)
    return images.known_ids(collection=target.id, image_ids=[image_id for image_id in image_ids if _storable(image_id)])


def check_name(name: str) -> None:
    """Raise InvalidInput unless the text can be a collection's name."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "A collection's name has 1 to 64 letters, digits, dots, hyphens and underscores; the first is no sign."
        )


def check_id(image_id: str) -> None:
    """Raise InvalidInput unless the text can be an image's id."""
    if not image_id:
        raise InvalidInput("An image's id cannot be empty.")
    _check_text("An image's id", image_id)
    if len(image_id.encode()) > MAX_ID_BYTES:
        raise InvalidInput(f"An image's id has at most {MAX_ID_BYTES} bytes.")


def check_metadata(metadata: Metadata) -> None:
    """Raise InvalidInput unless the object can be stored and found again."""
    _check_json(metadata, depth=0)
    try:
        size = len(orjson.dumps(metadata))
    except (TypeError, ValueError) as exc:
        raise InvalidInput("The metadata are not valid JSON.") from exc
    if size > MAX_METADATA_BYTES:
        raise InvalidInput(f"Metadata have at most {MAX_METADATA_BYTES} bytes of JSON.")


def _check_json(value: Any, *, depth: int) -> None:
    if depth > MAX_METADATA_DEPTH:
        raise InvalidInput(f"Metadata have at most {MAX_METADATA_DEPTH} levels.")
    match value:
        case str() if "\0" in value:
            raise InvalidInput("Metadata cannot hold the character U+0000.")
        case dict():
            for key, item in value.items():
                _check_json(key, depth=depth)
                _check_json(item, depth=depth + 1)
        case list():
            for item in value:
                _check_json(item, depth=depth + 1)


def check_filters(filters: Sequence[Sequence[Metadata]], words: Sequence[str] = ()) -> None:
    """Raise InvalidInput where conditions on metadata are too many, or nothing that metadata can satisfy."""
    if len(filters) + len(words) > MAX_CONDITIONS:
        raise InvalidInput(f"A search has at most {MAX_CONDITIONS} words or keys of metadata.")
    for alternatives in filters:
        for value in alternatives:
            check_metadata(value)
    for word in words:
        _check_text("A word to search for", word)


def _check_text(what: str, text: str) -> None:
    if not _storable(text):
        raise InvalidInput(f"{what} must be Unicode text without the character U+0000.")


def _storable(text: str) -> bool:
    """Whether Postgres can hold the text: no U+0000 and no lone surrogates."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
