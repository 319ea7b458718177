"""Fingerprint columns: what the vector index is built from."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from django.db import connection

from imgindex.models import CodeField, Image, bit_literal

NAMES: tuple[str, ...] = ("pdq", "phash", "dhash", "ahash")
"""The fingerprints that have a column of that name in the table of images."""

_BITS = {field.name: field.bits for field in Image._meta.get_fields() if isinstance(field, CodeField)}


class CodeRow(NamedTuple):
    """What the index needs of one image: its number, PDQ quality, and a code for each of NAMES."""

    collection: int
    image: int
    quality: int
    codes: tuple[bytes, ...]


def columns(alias: str) -> str:
    """The columns that `from_text` and `stream` read, of the table of images under that alias."""
    return ", ".join(f"{alias}.{column}" for column in ("quality", *NAMES))


def to_text(code: bytes) -> str:
    """A code as a Postgres bit string."""
    return bit_literal(code)


def code_from_text(text: str) -> bytes:
    """A code from a Postgres bit string."""
    return int(text, 2).to_bytes(len(text) // 8, "big")


def from_text(collection: int, image: int, row: Sequence[Any]) -> CodeRow:
    """A row of `columns` as the text protocol gives it."""
    quality, *texts = row
    return CodeRow(collection, image, quality, tuple(code_from_text(text) for text in texts))


def stream(*, batch: int) -> Iterator[list[CodeRow]]:
    """Every image's codes, ordered by collection and number, in lists of up to `batch` rows.

    Needs a transaction; the rows are those of its snapshot. A server-side cursor in the binary protocol keeps memory
    flat: a bit string arrives as its length (4 bytes) and its bytes.
    """
    connection.ensure_connection()
    with connection.connection.cursor(name="imgindex_codes", binary=True) as cursor:
        cursor.execute(
            f"SELECT i.collection_id, i.id, {columns('i')} FROM imgindex_image i"
            " JOIN imgindex_collection k ON k.id = i.collection_id AND k.dropped IS NULL ORDER BY 1, 2"
        )
        while rows := cursor.fetchmany(batch):
            yield [CodeRow(row[0], row[1], row[2], tuple(bytes(code[4:]) for code in row[3:])) for row in rows]


def bits(name: str) -> int:
    """The length of a fingerprint in bits."""
    return _BITS[name]
