"""Images that come with the request: base64 text and uploaded files."""

import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Protocol

from imgindex.intake.errors import EmptyImage, InvalidBase64, TooManyBytes

CHUNK_BYTES = 64 * 1024

_DATA_URL = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_URL_SAFE = str.maketrans("-_", "+/")


class Readable(Protocol):
    """An open file: `read(n)` answers at most n bytes, and none at the end."""

    def read(self, n: int, /) -> bytes: ...


class Chunked(Protocol):
    """A file of Django's: `chunks()` answers its bytes in pieces, from the beginning."""

    def chunks(self) -> Iterable[bytes]: ...


def from_base64(text: str, *, max_bytes: int) -> bytes:
    """Decode base64 text, with or without a `data:image/...;base64,` prefix.

    Line breaks and blanks, missing padding and the URL-safe alphabet are accepted; anything else raises
    `InvalidBase64`. The size is checked before anything is decoded.
    """
    text = text.strip()
    if text[:5].lower() == "data:":
        prefix = _DATA_URL.match(text)
        if prefix is None:
            raise InvalidBase64("The data: URL is not base64; it must begin like data:image/png;base64,")
        text = text[prefix.end() :]
    digits = "".join(text.split()).translate(_URL_SAFE)
    bare = digits.rstrip("=")
    padding = "=" * (-len(bare) % 4)
    if digits not in (bare, bare + padding):
        raise InvalidBase64("The text is not valid base64: its padding is wrong.")
    check_size(len(bare) * 3 // 4, max_bytes=max_bytes)
    try:
        data = binascii.a2b_base64(bare + padding, strict_mode=True)
    except ValueError as exc:
        raise InvalidBase64("The text is not valid base64.") from exc
    return check_not_empty(data)


def from_upload(stream: Readable | Chunked, *, max_bytes: int) -> bytes:
    """Read an uploaded file, at most one piece beyond the limit."""
    data = bytearray()
    for piece in _pieces(stream):
        check_size(len(data) + len(piece), max_bytes=max_bytes)
        data += piece
    return check_not_empty(bytes(data))


def check_size(size: int, *, max_bytes: int) -> None:
    """Raise `TooManyBytes` if size, in bytes, is over the limit."""
    if size > max_bytes:
        raise TooManyBytes(f"The file is larger than the limit of {max_bytes} bytes.")


def check_not_empty(data: bytes) -> bytes:
    """The data, or `EmptyImage`."""
    if not data:
        raise EmptyImage("The file is empty.")
    return data


def _pieces(stream: Readable | Chunked) -> Iterator[bytes]:
    if hasattr(stream, "chunks"):
        yield from stream.chunks()
    else:
        while piece := stream.read(CHUNK_BYTES):
            yield piece
