"""PDQ, Meta's perceptual hash for photos, and its quality."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from matching.fingerprints.base import BLOCKS, Fingerprint, Pixels, dct_rows, pack, resized, settle

QUERY_SIDES = (512, 256)
"""Long sides, in pixels, at which a query is looked at besides its own size."""

_SIDE = 16
_SMALLEST = 5  # pixels; PDQ gives smaller pictures the zero code and quality 0
_FEWEST_BITS = 64  # with fewer, codes of unrelated pictures come near each other for want of bits
_DCT = dct_rows(_SIDE, BLOCKS, first=1)


class PDQ(Fingerprint):
    """256 bits: which of 16 x 16 low frequencies (from the first, not the constant) exceed their median.

    Equal to the package `pdqhash` on the same RGB pixels: `numpy.packbits` of its vector is the code.
    The code's first bit is the highest frequency's: bit k of Meta's Hash256 (row k // 16, column k % 16) is
    bit 255 - k here, so that the code in hex is the text that Meta's tools print.
    """

    name: ClassVar[str] = "pdq"
    bits: ClassVar[int] = 256
    default_radius: ClassVar[int] = 31

    def compute(self, pixels: Pixels) -> bytes:
        """The code; all zero for a picture with a side under 5 pixels."""
        if min(pixels.rgb.size) < _SMALLEST:
            return bytes(self.bits // 8)
        coefficients = self.coefficients(pixels).ravel()
        lower_median = np.partition(coefficients, self.bits // 2 - 1)[self.bits // 2 - 1]
        return pack(coefficients[::-1] > lower_median)

    def query_codes(self, pixels: Pixels) -> tuple[bytes, ...]:
        """The code as it is, and as it would be at each of QUERY_SIDES.

        PDQ's box filters are whole pixels wide, so below some 500 pixels a copy of another size has been smoothed
        otherwise: of small photos one half-size copy in twelve lies beyond radius 31:
        docs/decisions/query-sizes.md.
        """
        codes = [self.compute(pixels), *(self.compute(resized(pixels, side=side)) for side in QUERY_SIDES)]
        return tuple(dict.fromkeys(codes))

    def coefficients(self, pixels: Pixels) -> NDArray[np.float64]:
        """The DCT behind the code: float64 (16, 16), in units of 2**-20, vertical frequency first."""
        return settle(_DCT @ pixels.blocks @ _DCT.T)

    def quality(self, pixels: Pixels) -> int:
        """How much texture the code rests on, 0 to 100; below 50 it says little.

        The sum of the steps between neighbours of the 64 x 64 luma, each in whole percent of the range, over 90:
        PDQ's own number, but 0 for a code with few bits. Half of a code's bits are set unless many coefficients are
        equal, as all are in stripes and bars of any contrast, whose codes are alike whatever the pictures.
        """
        if int.from_bytes(self.compute(pixels)).bit_count() < _FEWEST_BITS:
            return 0
        steps = [np.abs(np.trunc(settle(np.diff(pixels.blocks, axis=axis)) / 2**20 * 100 / 255)) for axis in (0, 1)]
        return min(100, int(steps[0].sum() + steps[1].sum()) // 90)
