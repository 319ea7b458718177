"""OpenCV's BlockMeanHash (mode 1) and PHash without its contrib module `img_hash`: the hashes of `/v2`.

Statement 23 of the documented endpoints; equal to the contrib build bit for bit (`make bench-compat`). OpenCV is
imported with this module, so it is no part of the registry of fingerprints.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from matching.image import decode
from matching.types import OpenCVHashes

cv2.setNumThreads(1)  # one image, one core: the pool decides how many run at a time

_BLOCK = 16
_STEP = 8
_BLOCKS_SIDE = 256
_DCT_SIDE = 32


def opencv_hashes(rgb: Image.Image, *, bmh1: bool = True, phash: bool = True) -> dict[str, bytes]:
    """`bmh1` (121 bytes) and `phash` (8 bytes), those asked for, of an upright image of mode RGB.

    As OpenCV packs them: bit i is bit i % 8, the least significant first, of byte i // 8. bmh1 has 961 bits and 7 of
    filling. bmh1: Yang, Gu and Niu, "Block Mean Value Based Image Perceptual Hashing" (2006), with overlapping blocks.
    """
    pixels = np.asarray(rgb)
    codes = {}
    if bmh1:
        codes["bmh1"] = _pack(_block_means(_grey_at(pixels, side=_BLOCKS_SIDE)))
    if phash:
        codes["phash"] = _pack(_frequencies(_grey_at(pixels, side=_DCT_SIDE)))
    return codes


def opencv_hashes_of(data: bytes, *, bmh1: bool, phash: bool, max_pixels: int) -> OpenCVHashes:
    """`opencv_hashes` of an image's bytes, with its size; made to run in a worker process.

    Raises NotAnImage and ImageTooLarge, see `matching.image.decode`.
    """
    picture = decode(data, max_pixels=max_pixels)
    codes = opencv_hashes(picture.rgb, bmh1=bmh1, phash=phash)
    return OpenCVHashes(width=picture.width, height=picture.height, codes=codes)


def _grey_at(pixels: NDArray[np.uint8], *, side: int) -> NDArray[np.uint8]:
    """uint8 (side, side): resized in colour, then grey, which rounds otherwise than grey and then resized."""
    small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_LINEAR_EXACT)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _block_means(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the mean of one of 31 x 31 overlapping blocks is at least the picture's: compared as whole numbers."""
    blocks = np.lib.stride_tricks.sliding_window_view(grey, (_BLOCK, _BLOCK))[::_STEP, ::_STEP]
    sums = blocks.sum(axis=(2, 3), dtype=np.int64)
    return sums * (grey.size // _BLOCK**2) >= grey.sum(dtype=np.int64)


def _frequencies(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of the 8 x 8 lowest frequencies exceed their mean, the constant taken as 0."""
    low = np.array(cv2.dct(grey.astype(np.float32))[:8, :8], dtype=np.float32)
    low[0, 0] = 0
    return low > np.float32(cv2.mean(low)[0])


def _pack(bits: NDArray[np.bool_]) -> bytes:
    return np.packbits(bits, bitorder="little").tobytes()
