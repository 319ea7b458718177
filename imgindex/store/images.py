"""Images in Postgres: write, read, list, and the last step of a search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import connection

from imgindex.store import codes
from imgindex.types import Image, Metadata, Stored
from matching.types import Description

_COLUMNS = (
    "id, external_id, source_url, metadata, width, height, format, size, sha256,"
    " pdq, phash, dhash, ahash, quality, thumbnail, original, created, updated"
)


@dataclass(frozen=True, slots=True)
class Media:
    """Names of stored files that belong to one image; an empty name is no file."""

    thumbnail: str
    original: str


@dataclass(frozen=True, slots=True)
class Upserted:
    """The image as stored, and the files of the row that it replaced, None where it is new."""

    image: Image
    replaced: Media | None


def _image(row: Sequence[Any]) -> Image:
    return Image(
        pk=row[0],
        id=row[1],
        source_url=row[2],
        metadata=orjson.loads(row[3]),
        width=row[4],
        height=row[5],
        format=row[6],
        size=row[7],
        sha256=row[8],
        fingerprints={name: codes.code_from_text(row[9 + i]) for i, name in enumerate(codes.NAMES)},
        quality=row[13],
        thumbnail=row[14],
        original=row[15],
        created=row[16],
        updated=row[17],
    )


def _fetch(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def _json(value: Metadata) -> str:
    return orjson.dumps(value).decode()


def upsert(
    *,
    collection: int,
    image_id: str,
    source_url: str,
    metadata: Metadata,
    description: Description,
    recipe: int,
    media: Media,
) -> Upserted:
    """Insert the image, or replace the one under that id; it keeps its number and its date of creation.

    Call it under the log's lock: the row that is replaced cannot change between the read and the write.
    """
    fingerprints = [codes.to_text(description.fingerprints[name]) for name in codes.NAMES]
    row = _fetch(
        "WITH old AS (SELECT thumbnail, original FROM imgindex_image WHERE collection_id = %s AND external_id = %s),"
        " new AS (INSERT INTO imgindex_image (collection_id, external_id, source_url, metadata, width, height, format,"
        " size, sha256, pdq, phash, dhash, ahash, quality, recipe, thumbnail, original, created, updated)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now(), now())"
        " ON CONFLICT (collection_id, external_id) DO UPDATE SET source_url = excluded.source_url,"
        " metadata = excluded.metadata, width = excluded.width, height = excluded.height, format = excluded.format,"
        " size = excluded.size, sha256 = excluded.sha256, pdq = excluded.pdq, phash = excluded.phash,"
        " dhash = excluded.dhash, ahash = excluded.ahash, quality = excluded.quality, recipe = excluded.recipe,"
        " thumbnail = excluded.thumbnail, original = excluded.original, updated = now()"
        f" RETURNING {_COLUMNS})"
        " SELECT new.*, old.thumbnail, old.original FROM new LEFT JOIN old ON true",
        [
            collection,
            image_id,
            collection,
            image_id,
            source_url,
            _json(metadata),
            description.width,
            description.height,
            description.format,
            description.size,
            description.sha256,
            *fingerprints,
            description.quality,
            recipe,
            media.thumbnail,
            media.original,
        ],
    )[0]
    old_thumbnail, old_original = row[-2:]
    return Upserted(_image(row[:-2]), None if old_thumbnail is None else Media(old_thumbnail, old_original))


def get(*, collection: int, image_id: str) -> Image | None:
    """The image under the user's id."""
    rows = _fetch(
        f"SELECT {_COLUMNS} FROM imgindex_image WHERE collection_id = %s AND external_id = %s",
        [collection, image_id],
    )
    return _image(rows[0]) if rows else None


def known_ids(*, collection: int, image_ids: Sequence[str]) -> dict[str, Stored]:
    """Of these ids the ones that the collection holds."""
    rows = _fetch(
        "SELECT external_id, source_url, size, sha256, updated FROM imgindex_image"
        " WHERE collection_id = %s AND external_id = ANY(%s::text[])",
        [collection, list(image_ids)],
    )
    return {external_id: Stored(*stored) for external_id, *stored in rows}


def set_metadata(*, collection: int, image_id: str, metadata: Metadata) -> Image | None:
    """Replace an image's metadata; None where there is no such image."""
    rows = _fetch(
        "UPDATE imgindex_image SET metadata = %s, updated = now() WHERE collection_id = %s AND external_id = %s"
        f" RETURNING {_COLUMNS}",
        [_json(metadata), collection, image_id],
    )
    return _image(rows[0]) if rows else None


def delete(*, collection: int, image_id: str) -> tuple[int, Media] | None:
    """Delete an image; its number and files, None where there is no such image."""
    rows = _fetch(
        "DELETE FROM imgindex_image WHERE collection_id = %s AND external_id = %s RETURNING id, thumbnail, original",
        [collection, image_id],
    )
    return (rows[0][0], Media(*rows[0][1:])) if rows else None


def delete_some(*, collection: int, limit: int) -> list[Media]:
    """Delete up to `limit` images of a collection; their files."""
    rows = _fetch(
        "DELETE FROM imgindex_image WHERE id = ANY(ARRAY("
        "SELECT id FROM imgindex_image WHERE collection_id = %s ORDER BY id LIMIT %s)) RETURNING thumbnail, original",
        [collection, limit],
    )
    return [Media(*row) for row in rows]


def page(*, collection: int, after: int, limit: int, filters: Sequence[Sequence[Metadata]]) -> list[Image]:
    """Up to `limit` images with a number above `after`, oldest first.

    `filters` is a conjunction of alternatives: of each inner list the metadata must contain at least one object.
    """
    conditions, parameters = _conditions(filters)
    rows = _fetch(
        f"SELECT {_COLUMNS} FROM imgindex_image WHERE collection_id = %s AND id > %s{conditions} ORDER BY id LIMIT %s",
        [collection, after, *parameters, limit],
    )
    return [_image(row) for row in rows]


def search_metadata(
    *, collection: int, words: Sequence[str], filters: Sequence[Sequence[Metadata]], limit: int
) -> list[Image]:
    """Images with every word in some value of the metadata, in any case, that satisfy the filters; newest first."""
    conditions, parameters = _conditions(filters, words)
    rows = _fetch(
        f"SELECT {_COLUMNS} FROM imgindex_image WHERE collection_id = %s{conditions} ORDER BY id DESC LIMIT %s",
        [collection, *parameters, limit],
    )
    return [_image(row) for row in rows]


# A word counts in a value, at any depth, and not in the name of a key.
_MENTIONS = (
    " AND EXISTS (SELECT FROM jsonb_path_query(metadata, 'strict $.**') AS part"
    " WHERE jsonb_typeof(part) NOT IN ('object', 'array') AND part #>> '{}' ILIKE %s)"
)


def _like(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _conditions(filters: Sequence[Sequence[Metadata]], words: Sequence[str] = ()) -> tuple[str, list[Any]]:
    """SQL that follows a WHERE clause, and its parameters."""
    contained = [" OR ".join(["metadata @> %s::jsonb"] * len(alternatives)) for alternatives in filters]
    conditions = "".join(f" AND ({condition})" for condition in contained)
    conditions += _MENTIONS * len(words)
    objects = [_json(value) for alternatives in filters for value in alternatives]
    return conditions, [*objects, *(f"%{_like(word)}%" for word in words)]


def hits(
    *,
    collection: int,
    candidates: Sequence[int],
    hash_type: str,
    queries: Sequence[bytes],
    radius: int,
    sha256: str | None,
    filters: Sequence[Sequence[Metadata]],
    words: Sequence[str] = (),
    limit: int,
) -> list[tuple[Image, int]]:
    """Up to `limit` candidates that Postgres confirms, with their distances to the nearest of the codes, nearest first.

    The vector index names candidates; the distance is computed here again from the row as it stands, so an image that
    was replaced or deleted a moment ago cannot appear with an old distance. Images with the bytes of `sha256` count
    whatever their fingerprint.
    """
    column = {name: name for name in codes.NAMES}[hash_type]
    distance = f"bit_count({column} # %s::bit({codes.bits(column)}))"
    conditions, parameters = _conditions(filters, words)
    rows = _fetch(
        f"SELECT {_COLUMNS}, distance"
        f" FROM (SELECT *, least({', '.join([distance] * len(queries))}) AS distance FROM imgindex_image"
        f" WHERE collection_id = %s AND (id = ANY(%s) OR sha256 = %s){conditions}) AS found"
        " WHERE distance <= %s OR sha256 = %s ORDER BY sha256 <> %s, distance, id LIMIT %s",
        [
            *(codes.to_text(query) for query in queries),
            collection,
            list(candidates),
            sha256 or "",
            *parameters,
            radius,
            sha256 or "",
            sha256 or "",
            limit,
        ],
    )
    return [(_image(row[:-1]), row[-1]) for row in rows]
