"""Object detection: what is in a picture and where, as values or drawn on it.

OpenCV is imported by the first call, so that a process that only names these functions stays without it.
"""

import io
from dataclasses import dataclass

from PIL import Image

from matching.detect.draw import draw
from matching.detect.types import Detection, Detector, DetectorMissing
from matching.image import decode

__all__ = ["Detection", "DetectionResult", "Detector", "DetectorMissing", "detect_of", "draw_of"]

JPEG_QUALITY = 90

JPEG_LONGEST_SIDE = 65_500
"""Pixels: libjpeg writes no longer side."""


@dataclass(frozen=True, slots=True)
class DetectionResult:
    """What one detector found in one picture: `detections` with the most certain first.

    `detector` is the engine's name for the header X-Detector; `width` and `height` are in pixels, upright.
    """

    detector: str
    width: int
    height: int
    detections: tuple[Detection, ...]


def detect_of(data: bytes, *, model: str, max_pixels: int) -> DetectionResult:
    """Decode an image and find the objects in it.

    `model` is "" for the default detector, or a path to a FastestDet ONNX file. Made to run in a worker process, where
    the network stays loaded: some 75 ms and 60 MB of memory the first time. Raises NotAnImage and ImageTooLarge, see
    `matching.image.decode`, and DetectorMissing.
    """
    engine = _engine(model)
    image = decode(data, max_pixels=max_pixels).rgb
    return DetectionResult(engine.name, image.width, image.height, tuple(engine.detect(image)))


def draw_of(data: bytes, *, model: str, max_pixels: int) -> tuple[bytes, str]:
    """The picture with labelled boxes, as a JPEG without metadata, and the detector's name.

    Runs and raises as `detect_of`. The JPEG has the size of the upright picture, except that a side beyond
    65,500 pixels, which no JPEG can have, is shortened to that.
    """
    engine = _engine(model)
    image = decode(data, max_pixels=max_pixels).rgb
    if max(image.size) > JPEG_LONGEST_SIDE:
        width, height = (min(side, JPEG_LONGEST_SIDE) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    draw(image, engine.detect(image))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue(), engine.name


def _engine(model: str) -> Detector:
    from matching.detect.networks import detector

    return detector(model)
