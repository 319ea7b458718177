"""aHash, the average hash."""

from typing import ClassVar

import numpy as np
from PIL import Image

from matching.fingerprints.base import Fingerprint, Pixels, pack

_SIDE = 8


class AHash(Fingerprint):
    """64 bits: where the picture at 8 x 8 is brighter than its mean.

    Equal to `imagehash.average_hash` on the same pixels, and its hex to `str` of that.
    """

    name: ClassVar[str] = "ahash"
    bits: ClassVar[int] = 64
    default_radius: ClassVar[int] = 8

    def compute(self, pixels: Pixels) -> bytes:
        """The code."""
        small = np.asarray(pixels.grey.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))
        return pack(small > small.mean())
