"""What every fingerprint is, and the forms of a picture that fingerprints read."""

from abc import ABC, abstractmethod
from functools import cached_property, lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BLOCKS = 64
"""Rows and columns of the reduced luma that PDQ works on."""

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in luma (ITU-R BT.601)."""

# Bounds on memory: a tile is 6 MiB of float64 RGB, near the cache; a strip is 8 MiB, however wide the image.
_TILE_PIXELS = 1 << 18
_STRIP_COLUMNS = 1 << 14
_CACHED_LENGTH = 1 << 14  # longer sides are rare and their taps large


class Taps(NamedTuple):
    """One row of a 64 x n reduction matrix: float64 `weights` of the pixels from `start` to before `stop`."""

    start: int
    stop: int
    weights: NDArray[np.float64]


class Pixels:
    """One picture in the forms that fingerprints read; each is made once, when first asked for."""

    def __init__(self, rgb: Image.Image) -> None:
        """Take an upright image of mode RGB."""
        self.rgb = rgb

    @cached_property
    def grey(self) -> Image.Image:
        """The picture in Pillow's mode L, as `imagehash` reads it."""
        return self.rgb.convert("L")

    @cached_property
    def blocks(self) -> NDArray[np.float64]:
        """Luma reduced to float64 (64, 64), 0 to 255: `W_height @ luma @ W_width.T` with `reduction(n)` as W.

        W is zero outside a band about n / 64 wide, so each pixel is read once or twice, as 8-bit RGB, and the
        mixing of the colours waits until the rows are summed (the map is linear).
        """
        rows, columns = reduction(self.rgb.height), reduction(self.rgb.width)
        across = max(1, min(BLOCKS, BLOCKS * _STRIP_COLUMNS // self.rgb.width))
        down = max(1, min(BLOCKS, BLOCKS * _TILE_PIXELS // (self.rgb.width * self.rgb.height)))
        blocks = np.empty((BLOCKS, BLOCKS))
        for j in range(0, BLOCKS, across):
            left, right = columns[j].start, columns[min(j + across, BLOCKS) - 1].stop
            strip = np.empty((BLOCKS, right - left))
            for i in range(0, BLOCKS, down):
                group = rows[i : i + down]
                top, bottom = group[0].start, group[-1].stop
                tile = np.asarray(self.rgb.crop((left, top, right, bottom)))
                for k, (start, stop, weights) in enumerate(group, i):
                    band = tile[start - top : stop - top].reshape(stop - start, -1).astype(np.float64)
                    strip[k] = (weights @ band).reshape(-1, 3) @ LUMA
            for k, (start, stop, weights) in enumerate(columns[j : j + across], j):
                blocks[:, k] = strip[:, start - left : stop - left] @ weights
        return blocks


def resized(pixels: Pixels, *, side: int) -> Pixels:
    """The picture with a long side of `side` pixels, larger or smaller."""
    scale = side / max(pixels.rgb.size)
    size = (max(1, round(pixels.rgb.width * scale)), max(1, round(pixels.rgb.height * scale)))
    # Twice the size wanted is quick to reach and leaves the filter something to do.
    return Pixels(pixels.rgb.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


class Fingerprint(ABC):
    """A binary code of a picture's look, compared by Hamming distance.

    `default_radius` is the distance in bits up to which two pictures count as near-duplicates.
    """

    name: ClassVar[str]
    bits: ClassVar[int]
    default_radius: ClassVar[int]

    @abstractmethod
    def compute(self, pixels: Pixels) -> bytes:
        """The code, bits // 8 bytes, the most significant bit first."""

    def query_codes(self, pixels: Pixels) -> tuple[bytes, ...]:
        """The codes to search an index for: the picture's own first, then those it would have in other sizes.

        Only of interest where the size of a picture tells in its code.
        """
        return (self.compute(pixels),)


def pack(bits: NDArray[np.bool_]) -> bytes:
    """Bits of any shape, in row-major order, to bytes, the most significant bit first."""
    return np.packbits(bits).tobytes()


def dct_rows(count: int, length: int, *, first: int) -> NDArray[np.float64]:
    """Rows `first` to `first + count - 1` of the orthonormal DCT-II matrix: float64 (count, length)."""
    frequency = np.arange(first, first + count)[:, None]
    rows: NDArray[np.float64] = np.cos(np.pi / (2 * length) * frequency * (2 * np.arange(length) + 1))
    return rows * np.sqrt(np.where(frequency == 0, 1, 2) / length)


def settle(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to 2**-20, far above rounding noise, far below what tells pictures apart.

    Coefficients that are equal in theory (zeros of flat and of symmetric pictures) become equal in fact, so
    that a code does not depend on the order in which this machine's BLAS adds.
    """
    return np.rint(coefficients * 2**20)


def reduction(length: int) -> tuple[Taps, ...]:
    """The 64 x length matrix that runs PDQ's two box filters over a line of pixels and samples 64 results.

    After "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm" (Meta, 2019): both
    passes average ceil(length / 128) neighbours, the wider half to the right, over those that exist at the
    ends; sample i sits at floor((i + 1/2) * length / 64).
    """
    return _cached_reduction(length) if length <= _CACHED_LENGTH else _reduction(length)


def _reduction(length: int) -> tuple[Taps, ...]:
    window = -(-length // (2 * BLOCKS))
    after = window // 2
    before = window - 1 - after
    matrix = []
    for i in range(BLOCKS):
        centre = (2 * i + 1) * length // (2 * BLOCKS)
        second = np.arange(max(0, centre - before), min(length, centre + after + 1))
        starts, stops = np.maximum(0, second - before), np.minimum(length, second + after + 1)
        start, stop = int(starts[0]), int(stops[-1])
        # Each pixel of the second pass is a mean over the first: add 1 / size where it begins, take it off
        # where it ends.
        steps = np.zeros(stop - start + 1)
        share = 1 / (len(second) * (stops - starts))
        np.add.at(steps, starts - start, share)
        np.subtract.at(steps, stops - start, share)
        matrix.append(Taps(start, stop, np.cumsum(steps)[:-1]))
    return tuple(matrix)


# At most 64 sides of at most 16,384 taps each: 8 MiB.
_cached_reduction = lru_cache(maxsize=64)(_reduction)
