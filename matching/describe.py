"""From an image's bytes to everything the service keeps of it, or searches for."""

import hashlib
import resource
import sys

from matching.fingerprints import FINGERPRINTS, PDQ_FINGERPRINT, Pixels
from matching.image import decode, thumbnail
from matching.types import Description, Probe


def describe(data: bytes, *, max_pixels: int, thumbnail_side: int) -> Description:
    """Decode `data` once; take its fingerprints, quality and a thumbnail of at most `thumbnail_side` pixels.

    Made to run in a worker process: importing this module takes numpy and Pillow, no OpenCV, scipy or
    FAISS, and it keeps nothing between calls but the reduction matrices of recent picture sizes (at most 8
    MiB). Deadlines and memory limits are the pool's.

    Raises NotAnImage and ImageTooLarge, see `matching.image.decode`.
    """
    picture = decode(data, max_pixels=max_pixels)
    pixels = Pixels(picture.rgb)
    return Description(
        width=picture.width,
        height=picture.height,
        format=picture.format,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        fingerprints={name: fingerprint.compute(pixels) for name, fingerprint in FINGERPRINTS.items()},
        quality=PDQ_FINGERPRINT.quality(pixels),
        thumbnail=thumbnail(picture, side=thumbnail_side),
    )


def probe(data: bytes, *, fingerprint: str, max_pixels: int) -> Probe:
    """Decode `data` once; take the codes to search for, of that name. Runs and raises as `describe` does."""
    picture = decode(data, max_pixels=max_pixels)
    pixels = Pixels(picture.rgb)
    return Probe(
        sha256=hashlib.sha256(data).hexdigest(),
        codes=FINGERPRINTS[fingerprint].query_codes(pixels),
        quality=PDQ_FINGERPRINT.quality(pixels),
    )


def pixels_sha256_of(data: bytes, *, max_pixels: int) -> str:
    """SHA-256 of a picture instead of its file, lower-case hex: of `RGB`, width, height and the upright pixels.

    What is hashed is the text "RGB <width>x<height>" and a line feed, then three bytes a pixel, row by row. Files that
    decode alike are equal in it whatever their format and metadata. Runs and raises as `describe` does.
    """
    rgb = decode(data, max_pixels=max_pixels).rgb
    return hashlib.sha256(f"RGB {rgb.width}x{rgb.height}\n".encode() + rgb.tobytes()).hexdigest()


def limit_memory(limit: int) -> None:
    """Hold this process to `limit` bytes of address space; a worker process calls it before the first image.

    macOS knows no such limit: there the deadline alone ends a decoder that swallows memory.
    """
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
