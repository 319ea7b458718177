"""Values and errors of the core: what passes between decoding, fingerprints and indexes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
"""Binary codes, uint8 of shape (n, bits // 8), the most significant bit first."""

Ids = NDArray[np.int64]
"""Identifiers of images, int64 of shape (n,)."""

MIN_QUALITY = 50
"""Below this PDQ quality (0 to 100) a picture has too little texture for its fingerprints to mean anything.

The threshold is the one that PDQ's own documentation recommends.
"""


class MatchingError(Exception):
    """The core cannot do what was asked; the message says why, in words for the user."""


class NotAnImage(MatchingError):
    """The bytes do not decode as an image of a supported format."""


class ImageTooLarge(MatchingError):
    """The image has more pixels than the limit allows; no pixel was decoded."""


class CropTooLarge(MatchingError):
    """The crop asked for is larger than the picture, or than a JPEG can be."""


class CropEmpty(MatchingError):
    """The crop asked for has no pixels."""


@dataclass(frozen=True, slots=True)
class Description:
    """Everything the service keeps of one image's bytes.

    `width` and `height` are in pixels after the EXIF orientation is applied; `format` is Pillow's name
    (JPEG, PNG, ...); `sha256` is the lower-case hex digest of the bytes; `fingerprints` maps each
    fingerprint's name to its code (bits // 8 bytes); `quality` is PDQ's, 0 to 100: below 50 the picture
    has too little texture for its fingerprints to mean anything; `thumbnail` is a JPEG.
    """

    width: int
    height: int
    format: str
    size: int
    sha256: str
    fingerprints: Mapping[str, bytes]
    quality: int
    thumbnail: bytes


@dataclass(frozen=True, slots=True)
class Probe:
    """What a search needs of one image's bytes.

    `codes` are those to search for, of one kind of fingerprint, the picture's own first; an indexed image is as far
    away as from the nearest of them. `sha256` and `quality` are as in Description.
    """

    sha256: str
    codes: tuple[bytes, ...]
    quality: int


@dataclass(frozen=True, slots=True)
class OpenCVHashes:
    """`width` and `height` in pixels after the EXIF orientation is applied, and codes by the hash's name."""

    width: int
    height: int
    codes: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Matches:
    """The answer to one query: `ids` int64 (n,) and `distances` int32 (n,) in bits, by distance, then by id."""

    ids: Ids
    distances: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ids)
