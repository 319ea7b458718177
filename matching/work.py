"""What worker processes are asked to do with OpenCV, for callers that shall not have it themselves.

A function goes to another process by its name, and whoever names it has imported its module. These import theirs when
they run, so that a web process stays without OpenCV (0.2 s and 150 MiB of address space).
"""

from matching.types import OpenCVHashes


def plain_hashes_of(data: bytes, *, max_pixels: int) -> dict[str, bytes]:
    """See `matching.fingerprints.plain`."""
    from matching.fingerprints import plain

    return plain.plain_hashes_of(data, max_pixels=max_pixels)


def opencv_hashes_of(data: bytes, *, bmh1: bool, phash: bool, max_pixels: int) -> OpenCVHashes:
    """See `matching.fingerprints.opencv`."""
    from matching.fingerprints import opencv

    return opencv.opencv_hashes_of(data, bmh1=bmh1, phash=phash, max_pixels=max_pixels)


def sift_difference_of(first: bytes, second: bytes, *, max_pixels: int) -> float:
    """See `matching.compare`."""
    from matching import compare

    return compare.sift_difference_of(first, second, max_pixels=max_pixels)


def difference_of(first: bytes, second: bytes, *, max_pixels: int) -> tuple[bytes, float]:
    """See `matching.compare`."""
    from matching import compare

    return compare.difference_of(first, second, max_pixels=max_pixels)


def centre_crop_of(data: bytes, *, width: int, height: int, max_pixels: int) -> bytes:
    """See `matching.compare`."""
    from matching import compare

    return compare.centre_crop_of(data, width=width, height=height, max_pixels=max_pixels)
