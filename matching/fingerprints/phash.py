"""pHash, the DCT hash."""

from typing import ClassVar

import numpy as np
from PIL import Image

from matching.fingerprints.base import Fingerprint, Pixels, dct_rows, pack, settle

_SIDE = 8
_SAMPLES = 32
# imagehash takes the DCT without its norm; the constant row's differs from the others', which moves the
# median.
_DCT = dct_rows(_SIDE, _SAMPLES, first=0) * np.where(np.arange(_SIDE) == 0, np.sqrt(2), 1)[:, None]


class PHash(Fingerprint):
    """64 bits: which of the 8 x 8 lowest frequencies of the picture at 32 x 32 exceed their median.

    Equal to `imagehash.phash` on the same pixels, and its hex to `str` of that.
    """

    name: ClassVar[str] = "phash"
    bits: ClassVar[int] = 64
    default_radius: ClassVar[int] = 8

    def compute(self, pixels: Pixels) -> bytes:
        """The code."""
        small = np.asarray(pixels.grey.resize((_SAMPLES, _SAMPLES), Image.Resampling.LANCZOS), dtype=np.float64)
        coefficients = settle(_DCT @ small @ _DCT.T)
        return pack(coefficients > np.median(coefficients))
