"""What is told of pictures that are not kept: hashes, crops, differences, what can be seen in them."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from django.conf import settings

from imgindex import intake
from imgindex.services.describe import Source, in_pool, read
from imgindex.types import DecodeTimeout, InvalidInput
from matching import detect, rank, work
from matching.describe import pixels_sha256_of
from matching.types import MatchingError, OpenCVHashes

HashType = Literal["bmh1", "phash"]

AT_ONCE = 8
"""How many pictures of one call are fetched at a time."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two hashes are: `distance` in bits, `similarity` in per cent."""

    distance: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The plain hashes of two pictures and what they say: likenesses by the hash's name, and their mean."""

    first: Mapping[str, bytes]
    second: Mapping[str, bytes]
    likenesses: Mapping[str, Likeness]
    average_similarity: float
    likely_same: bool


Hashed = OpenCVHashes | Exception
"""A picture's hashes, or the error that tells why there are none."""


@dataclass(frozen=True, slots=True)
class Groups:
    """`hashed` in the order of the pictures; `groups` are positions, one that is kept and then its copies."""

    hashed: list[Hashed]
    groups: list[list[int]]


@dataclass(frozen=True, slots=True)
class Ranking:
    """`hashed` in the order of the pictures; `ranked` are positions and distances in per cent, nearest first."""

    query: Hashed
    hashed: list[Hashed]
    ranked: list[tuple[int, float]]


def sha256(*, source: Source, of: Literal["bytes", "pixels"]) -> str:
    """SHA-256 of a file as it came, or of its pixels, in lower-case hex; `bytes` need not be an image's."""
    data = read(source)
    return hashlib.sha256(data).hexdigest() if of == "bytes" else in_pool(pixels_sha256_of, data)


def centre_crop(*, source: Source, width: int, height: int) -> bytes:
    """The middle of a picture as a JPEG; raises CropTooLarge."""
    return in_pool(work.centre_crop_of, read(source), width=width, height=height)


def sift_difference(*, first: Source, second: Source) -> float:
    """How different two pictures look to SIFT: 0.0 for equal ones, higher for more different ones."""
    return in_pool(work.sift_difference_of, *_read_all([first, second]), slow=True)


def difference(*, first: Source, second: Source) -> tuple[bytes, float]:
    """A PNG, white where two pictures differ, and their mean squared error."""
    return in_pool(work.difference_of, *_read_all([first, second]))


def plain_hashes(*, source: Source) -> Mapping[str, bytes]:
    """`ahash`, `dhash` and `phash` by the recipe of `/v1`, 8 bytes each."""
    return in_pool(work.plain_hashes_of, read(source))


def compare(*, first: Source, second: Source) -> Comparison:
    """Two pictures by their plain hashes; likely the same from an average of LIKELY_SAME_PERCENT on."""
    one, other = (in_pool(work.plain_hashes_of, data) for data in _read_all([first, second]))
    likenesses = {name: _likeness(one[name], other[name]) for name in one}
    average = round(fmean(item.similarity for item in likenesses.values()), 2)
    return Comparison(one, other, likenesses, average, average >= settings.LIKELY_SAME_PERCENT)


def detect_objects(*, source: Source) -> detect.DetectionResult:
    """What can be seen in a picture and where; raises DetectorMissing."""
    return in_pool(detect.detect_of, read(source), model=settings.DETECTOR_MODEL)


def draw_objects(*, source: Source) -> tuple[bytes, str]:
    """A picture with labelled boxes, a JPEG, and the name of the detector; raises DetectorMissing."""
    return in_pool(detect.draw_of, read(source), model=settings.DETECTOR_MODEL)


def opencv_hashes(*, sources: Sequence[Source | None], hash_types: Sequence[HashType]) -> list[Hashed]:
    """The `/v2` hashes of several pictures, fetched and hashed AT_ONCE; of None there are none.

    A picture that cannot be had leaves its error in its place; what is our own fault is raised.
    """
    with ThreadPoolExecutor(max_workers=max(1, min(len(sources), AT_ONCE)), thread_name_prefix="records") as threads:
        return list(threads.map(lambda source: _hashed(source, hash_types), sources))


def duplicates(*, sources: Sequence[Source | None], hash_type: HashType, range_: float) -> Groups:
    """Which pictures repeat an earlier one: those within `range_` per cent of one that is kept."""
    hashed = opencv_hashes(sources=sources, hash_types=[hash_type])
    codes = [_code(item, hash_type) for item in hashed]
    return Groups(hashed, rank.group_duplicates(codes, hash_type=hash_type, range_=range_))


def ranking(*, query: Source | None, sources: Sequence[Source | None], hash_type: HashType) -> Ranking:
    """Pictures by their distance to another; none is ranked where that other cannot be had."""
    asked, *hashed = opencv_hashes(sources=[query, *sources], hash_types=[hash_type])
    code = _code(asked, hash_type)
    codes = [_code(item, hash_type) for item in hashed]
    return Ranking(asked, hashed, [] if code is None else rank.rank(code, codes, hash_type=hash_type))


def _hashed(source: Source | None, hash_types: Sequence[HashType]) -> Hashed:
    if source is None:
        return InvalidInput("The record has neither _url nor _base64.")
    try:
        return in_pool(work.opencv_hashes_of, read(source), bmh1="bmh1" in hash_types, phash="phash" in hash_types)
    except (intake.IntakeError, MatchingError, DecodeTimeout) as exc:
        return exc


def _code(hashed: Hashed, hash_type: HashType) -> bytes | None:
    return hashed.codes[hash_type] if isinstance(hashed, OpenCVHashes) else None


def _likeness(one: bytes, other: bytes) -> Likeness:
    bits = (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()
    return Likeness(bits, round(100 * (1 - bits / (8 * len(one))), 2))


def _read_all(sources: Sequence[Source]) -> list[bytes]:
    """The bytes of a few sources, fetched at the same time."""
    with ThreadPoolExecutor(max_workers=len(sources), thread_name_prefix="pictures") as threads:
        return list(threads.map(read, sources))
