"""dHash, the difference hash."""

from typing import ClassVar

import numpy as np
from PIL import Image

from matching.fingerprints.base import Fingerprint, Pixels, pack

_SIDE = 8


class DHash(Fingerprint):
    """64 bits: where the picture at 9 x 8 grows brighter from left to right.

    Equal to `imagehash.dhash` on the same pixels, and its hex to `str` of that.
    """

    name: ClassVar[str] = "dhash"
    bits: ClassVar[int] = 64
    default_radius: ClassVar[int] = 8

    def compute(self, pixels: Pixels) -> bytes:
        """The code."""
        small = np.asarray(pixels.grey.resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS))
        return pack(small[:, 1:] > small[:, :-1])
