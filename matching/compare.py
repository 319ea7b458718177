"""Two pictures beside each other: how different they are, and where; and the middle of one.

Importing this module imports OpenCV (170 MiB of address space, up to 0.2 s), which `matching.describe` does without.
The functions ending in `_of` are made to run in worker processes: bytes in, small values out.
"""

import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from matching.image import Picture, decode
from matching.types import CropEmpty, CropTooLarge, ImageTooLarge

cv2.setNumThreads(1)  # one pair, one core: the pool decides how many run at a time

UNRELATED = 512 * math.sqrt(2)
"""The distance of two SIFT descriptors (norm 512, no negative values) that have nothing in common."""

DIFFERENCE_THRESHOLD = 30
"""Grey levels by which two pixels may differ and still count as equal."""

CROP_QUALITY = 95

_JPEG_SIDE = 65_500  # libjpeg's JPEG_MAX_DIMENSION
_DESCRIPTORS = 1 << 10  # compared with a block of as many at a time: 4 MiB of distances


def sift_difference(first: Picture, second: Picture) -> float:
    """How different two pictures look to SIFT, from 0.0 for equal ones to about `UNRELATED`: (d(A, B) + d(B, A)) / 2.

    d(A, B) is the mean, over the SIFT descriptors of A's grey picture, of the Euclidean distance to the nearest one
    of B's (statement 5; SIFT: Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", 2004). Symmetric to
    the last bit. UNRELATED as well where one picture, or both of different pixels, shows SIFT nothing.

    Time and memory grow with the pictures: 0.2 to 0.4 s for each megapixel of either, 270 MiB for each of the larger.
    Raises ImageTooLarge when memory runs out.
    """
    with _memory_errors():
        grey, other_grey = _grey(first), _grey(second)
        if np.array_equal(grey, other_grey):
            return 0.0
        descriptors, others = _descriptors(grey), _descriptors(other_grey)
        if not (len(descriptors) and len(others)):
            return UNRELATED
        there, back = _nearest(descriptors, others)
    return (_mean_distance(there) + _mean_distance(back)) / 2


def difference_picture(first: Picture, second: Picture) -> tuple[bytes, float]:
    """Where two pictures differ, and how much on average: a PNG and the mean squared error in grey levels squared.

    The PNG has the size of `first` and one 8-bit channel: 255 where the grey pictures differ by more than
    DIFFERENCE_THRESHOLD, else 0 (statement 14). `second` is resized to that size: by area averages where it is larger
    both ways, so that a copy of another size does not differ by aliasing, else linearly.

    Raises ImageTooLarge when memory runs out.
    """
    with _memory_errors():
        grey, other = _grey(first), _grey(second)
        if other.shape != grey.shape:
            shrinks = other.shape[0] >= grey.shape[0] and other.shape[1] >= grey.shape[1]
            size = (first.width, first.height)
            filter_ = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            other = np.asarray(cv2.resize(other, size, interpolation=filter_), dtype=np.uint8)
        difference = cv2.absdiff(grey, other)
        # In whole numbers: OpenCV's norm is off in the last digits.
        error = int(np.square(difference, dtype=np.uint32).sum(dtype=np.uint64)) / difference.size
        marked = cv2.threshold(difference, DIFFERENCE_THRESHOLD, 255, cv2.THRESH_BINARY)[1]
    buffer = io.BytesIO()
    # Run lengths suit two colours: no larger than zlib's search for repetitions and 3 to 5 times as quick.
    Image.fromarray(marked).save(buffer, "PNG", compress_type=zlib.Z_RLE)
    return buffer.getvalue(), error


def centre_crop(picture: Picture, *, width: int, height: int) -> bytes:
    """The middle of a picture, `width` x `height` pixels, as a JPEG without metadata (statements 3 and 4).

    It begins at ((W - width) // 2, (H - height) // 2), and keeps its colours at full resolution.

    Raises CropTooLarge, whose text is the documented one, for more than the picture has (or a JPEG can have), and
    CropEmpty for less than one pixel.
    """
    for name, side, limit in (("Width", width, picture.width), ("Height", height, picture.height)):
        if side < 1:
            raise CropEmpty(f"{name} must be at least 1.")
        if side > limit:
            raise CropTooLarge(f"{name} is larger than original image.")
        if side > _JPEG_SIDE:
            raise CropTooLarge(f"{name} is larger than a JPEG can be: {_JPEG_SIDE:,} pixels.")
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    buffer = io.BytesIO()
    crop = picture.rgb.crop((left, top, left + width, top + height))
    crop.save(buffer, "JPEG", quality=CROP_QUALITY, subsampling=0)
    return buffer.getvalue()


def sift_difference_of(first: bytes, second: bytes, *, max_pixels: int) -> float:
    """`sift_difference` of two images' bytes. Raises NotAnImage and ImageTooLarge, see `matching.image.decode`."""
    return sift_difference(decode(first, max_pixels=max_pixels), decode(second, max_pixels=max_pixels))


def difference_of(first: bytes, second: bytes, *, max_pixels: int) -> tuple[bytes, float]:
    """`difference_picture` of two images' bytes. Raises NotAnImage and ImageTooLarge, see `matching.image.decode`."""
    return difference_picture(decode(first, max_pixels=max_pixels), decode(second, max_pixels=max_pixels))


def centre_crop_of(data: bytes, *, width: int, height: int, max_pixels: int) -> bytes:
    """`centre_crop` of an image's bytes. Raises as that and as `matching.image.decode` do."""
    return centre_crop(decode(data, max_pixels=max_pixels), width=width, height=height)


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Tell OpenCV's and numpy's running out of memory by our name."""
    try:
        yield
    except MemoryError as exc:
        raise ImageTooLarge("comparing the images needs more memory than is allowed") from exc
    except cv2.error as exc:
        if exc.code == cv2.Error.StsNoMem:
            raise ImageTooLarge("comparing the images needs more memory than is allowed") from exc
        raise


def _grey(picture: Picture) -> NDArray[np.uint8]:
    """Luma (ITU-R BT.601) as OpenCV rounds it, uint8 (height, width)."""
    return np.asarray(cv2.cvtColor(np.asarray(picture.rgb), cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _descriptors(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """SIFT descriptors, float32 (n, 128), whole numbers of 0 to 255; n is 0 where nothing stands out."""
    found = cv2.SIFT.create().detectAndCompute(grey, None)[1]
    return np.empty((0, 128), dtype=np.float32) if found is None else np.asarray(found, dtype=np.float32)


def _nearest(
    descriptors: NDArray[np.float32], others: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The squared distance of each descriptor to the nearest of the others, and of each other to the nearest of these.

    By the dot products, once for both. Everything is a whole number below 2**24, so float32 holds it exactly, in
    whatever order it is added.
    """
    here, there = (np.einsum("ij,ij->i", some, some) for some in (descriptors, others))
    nearest = np.full(len(descriptors), np.inf, dtype=np.float32)
    nearest_other = np.full(len(others), np.inf, dtype=np.float32)
    for top in range(0, len(descriptors), _DESCRIPTORS):
        rows = slice(top, top + _DESCRIPTORS)
        for left in range(0, len(others), _DESCRIPTORS):
            columns = slice(left, left + _DESCRIPTORS)
            squares = descriptors[rows] @ others[columns].T
            squares *= -2
            squares += here[rows, None]
            squares += there[columns]
            np.minimum(nearest[rows], squares.min(axis=1), out=nearest[rows])
            np.minimum(nearest_other[columns], squares.min(axis=0), out=nearest_other[columns])
    return nearest, nearest_other


def _mean_distance(squares: NDArray[np.float32]) -> float:
    return float(np.sqrt(squares, dtype=np.float64).mean())
