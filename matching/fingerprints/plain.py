"""The three hashes of the documented `/v1` service: the same names as ours in the registry, other recipes.

Statement 6 of the documented endpoints, which gives the values of one picture to check by. OpenCV is imported with
this module, so it is no part of the registry.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from matching.fingerprints.base import pack
from matching.image import decode

cv2.setNumThreads(1)  # one image, one core: the pool decides how many run at a time

# Weights of red, green and blue in luma (ITU-R BT.709).
_LUMA = np.array([0.2126, 0.7152, 0.0722])

_SIDE = 8
_SAMPLES = 32
# Pixels weighed at a time, 24 bytes of float64 each.
_PIXELS = 1 << 18

# Rows of the DCT-II as its sum is written, without a norm: float64 (8, 32).
_DCT = np.cos(np.pi / (2 * _SAMPLES) * np.arange(_SIDE)[:, None] * (2 * np.arange(_SAMPLES) + 1))


def plain_hashes(rgb: Image.Image) -> dict[str, bytes]:
    """`ahash`, `dhash` and `phash` of an upright image of mode RGB: 8 bytes each, the most significant bit first.

    All read luma, cut to uint8, reduced by area averages (`cv2.INTER_AREA`), row by row. ahash: where 8 x 8 is at
    least its mean. dhash: where 9 x 8 is brighter to the right. phash: which of the 8 x 8 lowest frequencies of
    32 x 32 exceed the median of all but the constant, whose own bit is 0; coefficients are rounded to 1e-6 first, so
    that those of flat pictures, zero in theory, are zero.
    """
    grey = _grey(rgb)
    small = _reduced(grey, width=_SIDE, height=_SIDE)
    steps = _reduced(grey, width=_SIDE + 1, height=_SIDE)
    samples = _reduced(grey, width=_SAMPLES, height=_SAMPLES)
    coefficients = np.round(_DCT @ samples @ _DCT.T, 6)
    low = coefficients > np.median(coefficients.ravel()[1:])
    low[0, 0] = False
    return {"ahash": pack(small >= small.mean()), "dhash": pack(steps[:, :-1] < steps[:, 1:]), "phash": pack(low)}


def plain_hashes_of(data: bytes, *, max_pixels: int) -> dict[str, bytes]:
    """`plain_hashes` of an image's bytes; made to run in a worker process.

    Raises NotAnImage and ImageTooLarge, see `matching.image.decode`.
    """
    return plain_hashes(decode(data, max_pixels=max_pixels).rgb)


def _grey(rgb: Image.Image) -> NDArray[np.uint8]:
    """Luma without its fraction, uint8 (height, width)."""
    pixels = np.asarray(rgb).reshape(-1, 3)
    grey = np.empty(len(pixels), dtype=np.uint8)
    for start in range(0, len(pixels), _PIXELS):
        grey[start : start + _PIXELS] = pixels[start : start + _PIXELS] @ _LUMA
    return grey.reshape(rgb.height, rgb.width)


def _reduced(grey: NDArray[np.uint8], *, width: int, height: int) -> NDArray[np.float64]:
    """Area averages, whole numbers as float64 (height, width)."""
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.float64)
