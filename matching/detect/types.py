"""What a detector is and answers."""

from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from matching.types import MatchingError

Box = tuple[int, int, int, int]


class DetectorMissing(MatchingError):
    """The weights of the object detector are not there, or are no network of the kind expected."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One object found: its COCO label, how certain the network is (0 to 1), and where it is.

    `box` is left, top, right, bottom in pixels of the upright picture and lies within it: columns left to right - 1,
    rows top to bottom - 1, at least one of each.
    """

    label: str
    score: float
    box: Box


class Detector(Protocol):
    """Finds objects of the 80 COCO categories in a picture.

    An engine squeezes the whole picture into its square input, whatever its proportions, as it was trained to see it,
    and answers with what it is certain enough of, one box for an object, the most certain first. The same picture
    gets the same answer. An engine keeps its network in memory and serves one thread at a time.
    """

    name: str
    """What the header X-Detector calls it."""

    def detect(self, image: Image.Image) -> list[Detection]:
        """Find the objects of an upright RGB picture."""
        ...


def intersection(a: Box, b: Box) -> int:
    """How many pixels two boxes share."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
