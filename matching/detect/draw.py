"""Labelled boxes on a picture, readable at every size of it."""

import colorsys
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from matching.detect.coco import LABELS
from matching.detect.types import Box, Detection, intersection

Colour = tuple[int, int, int]

TEXT_SHARE = 0.034
"""Height of the text as a share of the picture's side (the root of its area)."""

INK: Colour = (0, 0, 0)

MIN_CONTRAST = 7.0
"""Of the text with its background: WCAG 2 asks 4.5 of readable text and 7 of good."""

USUAL_TEXT = 12
"""Pixels: text is not smaller than this, unless the picture has little room for it."""

SMALLEST_TEXT = 8
"""Pixels: below this nobody can read it, and the box stays without a label."""


def draw(image: Image.Image, detections: Sequence[Detection]) -> None:
    """Draw the boxes and labels onto `image` (RGB), in place.

    Lines and text grow with the picture; the text is smaller at a small box and where labels crowd. A label stands at
    its box and inside the picture, apart from other labels where there is room: label and score in per cent; the label
    alone, or broken into lines, where the picture is too narrow. The most certain detections lie on top.
    """
    pen = ImageDraw.Draw(image)
    side = math.sqrt(image.width * image.height)
    size = max(SMALLEST_TEXT, min(USUAL_TEXT, round(side / 10)), round(TEXT_SHARE * side))
    line = max(1, round(size / 7))
    for detection in reversed(detections):
        _outline(pen, detection.box, colour_of(detection.label), line)
    placed: list[tuple[_Label, Box, Colour]] = []
    for detection in detections:
        taken = [place for _, place, _ in placed]
        chosen = _chosen(_labels(detection, size, image.size), detection.box, image.size, taken)
        if chosen is not None:
            placed.append((*chosen, colour_of(detection.label)))
    for label, place, colour in reversed(placed):
        label.draw(pen, place, colour)


def colour_of(label: str) -> Colour:
    """A colour of its own for each COCO label: hues a golden section apart, in three strengths, light beside `INK`."""
    index = LABELS.index(label)
    strength, light = ((1.0, 1.0), (0.5, 1.0), (1.0, 0.75))[index % 3]
    colour = colorsys.hsv_to_rgb((0.33 + index * 0.618034) % 1, strength, light)
    white = next(share / 100 for share in range(0, 101, 5) if _contrast_with_ink(colour, share / 100) >= MIN_CONTRAST)
    red, green, blue = (round(255 * (part + (1 - part) * white)) for part in colour)
    return red, green, blue


def _contrast_with_ink(colour: tuple[float, float, float], white: float) -> float:
    """Contrast ratio of WCAG 2 between black and a colour (0 to 1) with a share of white in it."""
    mixed = [part + (1 - part) * white for part in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in mixed]
    return (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05) / 0.05


class _Label:
    """Lines of text in one size, with the background they stand on."""

    def __init__(self, lines: Sequence[str], size: int) -> None:
        self.text = "\n".join(lines)
        self.font = _font(size)
        self.spacing = size // 8
        self.margin = max(1, size // 5)
        pen = ImageDraw.Draw(Image.new("L", (1, 1)))
        left, top, right, bottom = pen.multiline_textbbox((0, 0), self.text, self.font, spacing=self.spacing)
        self.offset = (self.margin - left, self.margin - top)
        self.width = math.ceil(right - left) + 2 * self.margin
        self.height = math.ceil(bottom - top) + 2 * self.margin

    def draw(self, pen: ImageDraw.ImageDraw, place: Box, colour: Colour) -> None:
        left, top, right, bottom = place
        pen.rectangle((left, top, right - 1, bottom - 1), fill=colour)
        at = (left + self.offset[0], top + self.offset[1])
        pen.multiline_text(at, self.text, fill=INK, font=self.font, spacing=self.spacing)


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _labels(detection: Detection, size: int, room: tuple[int, int]) -> Iterator[_Label]:
    """The labels that the picture has room for, in ever smaller text, each as full as fits."""
    if detection.box[2] - detection.box[0] < 3 * size:
        size = max(min(size, USUAL_TEXT), size * 3 // 4)
    score = f"{detection.score:.0%}"
    words = detection.label.split()
    wordings = ([f"{detection.label} {score}"], [detection.label], [*words, score], words)
    least = max(SMALLEST_TEXT, size * 2 // 3)
    found = False
    while size >= least or (size >= SMALLEST_TEXT and not found):
        for lines in wordings:
            label = _Label(lines, size)
            if label.width <= room[0] and label.height <= room[1]:
                found = True
                yield label
                break
        size = min(size - 1, int(size * 0.9))


def _chosen(
    labels: Iterable[_Label], box: Box, room: tuple[int, int], taken: Sequence[Box]
) -> tuple[_Label, Box] | None:
    """The first label, at the first place at its box, that overlaps no other; else the one that overlaps least."""
    best: tuple[int, _Label, Box] | None = None
    for label in labels:
        for x, y in _corners(label, box):
            left = min(max(0, x), room[0] - label.width)
            top = min(max(0, y), room[1] - label.height)
            place = (left, top, left + label.width, top + label.height)
            overlap = sum(intersection(place, other) for other in taken)
            if not overlap:
                return label, place
            if best is None or overlap < best[0]:
                best = overlap, label, place
    return best[1:] if best else None


def _corners(label: _Label, box: Box) -> Iterator[tuple[int, int]]:
    """On the box, below it, in it, at either side; then down along its left edge."""
    left, top, right, bottom = box
    for y in (top - label.height, bottom, top, bottom - label.height):
        yield left, y
        yield right - label.width, y
    for y in range(top, bottom, label.height):
        yield left, y


def _outline(pen: ImageDraw.ImageDraw, box: Box, colour: Colour, line: int) -> None:
    """A frame within the box, between two thin ones that set it off from a picture of the same colour."""
    left, top, right, bottom = box
    edge = max(1, line // 4) if line > 1 else 0
    for inset, width, fill in ((0, line + 2 * edge, INK), (edge, line, colour)):
        inner = (left + inset, top + inset, right - 1 - inset, bottom - 1 - inset)
        if inner[0] <= inner[2] and inner[1] <= inner[3]:
            pen.rectangle(inner, outline=fill, width=width)
