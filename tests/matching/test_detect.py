"""Object detection: what is found on real photos, where, and that the drawn labels can be read."""

import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.detect import EVIDENT
from matching.detect import Detection, DetectionResult, DetectorMissing, detect_of, draw_of
from matching.detect.coco import CATEGORIES, LABELS
from matching.detect.draw import _contrast_with_ink, _corners, _labels, colour_of, draw
from matching.detect.networks import WEIGHTS_PACKAGE, _in_pixels, _loaded, _one_box_each, _weights_folder
from matching.types import ImageTooLarge, NotAnImage
from tests import pictures
from tests.conftest import SHARED

FASTESTDET = SHARED / "models" / "FastestDet.onnx"

ELEPHANT, ELEPHANT_BOX = "caltech101/1434.jpg", (20, 22, 291, 188)
"""Where the elephant is, measured by eye in its 300 x 195 pixels."""


@pytest.fixture
def fastestdet() -> str:
    if not FASTESTDET.is_file():
        pytest.skip(f"no FastestDet weights: {FASTESTDET} is not there")
    return str(FASTESTDET)


def found(data: bytes, model: str = "", max_pixels: int = 10**8) -> DetectionResult:
    result = detect_of(data, model=model, max_pixels=max_pixels)
    scores = [one.score for one in result.detections]
    assert scores == sorted(scores, reverse=True)
    for one in result.detections:
        left, top, right, bottom = one.box
        assert 0 <= left < right <= result.width
        assert 0 <= top < bottom <= result.height
        assert 0.5 <= one.score <= 1
        assert one.label in LABELS
    return result


def drawn(data: bytes, model: str = "") -> Image.Image:
    jpeg, name = draw_of(data, model=model, max_pixels=10**8)
    assert name == ("fastestdet" if model else "ssd-mobilenet-v3-large")
    image = Image.open(io.BytesIO(jpeg))
    image.load()
    assert image.format == "JPEG"
    return image


def share_in_common(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """Intersection over union."""
    common = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (a, b)]
    return common / (sum(areas) - common)


class TestPhotos:
    @pytest.mark.parametrize(("photo", "label"), EVIDENT.items())
    def test_evident_objects_are_found(self, photos, photo, label):
        result = found((photos / photo).read_bytes())
        assert result.detector == "ssd-mobilenet-v3-large"
        assert label in [one.label for one in result.detections]

    def test_fastestdet_finds_the_same_objects(self, photos, fastestdet):
        right = 0
        for photo, label in EVIDENT.items():
            data = (photos / photo).read_bytes()
            result = found(data, fastestdet)
            assert result.detector == "fastestdet"
            here = [one.box for one in result.detections if one.label == label]
            there = [one.box for one in found(data).detections if one.label == label]
            right += any(share_in_common(a, b) > 0.5 for a in here for b in there)
        assert right >= 17

    @pytest.mark.parametrize("which", ["default", "fastestdet"])
    def test_the_box_is_where_the_object_is(self, photos, which, request):
        model = request.getfixturevalue("fastestdet") if which == "fastestdet" else ""
        result = found((photos / ELEPHANT).read_bytes(), model)
        assert [one.label for one in result.detections] == ["elephant"]
        assert share_in_common(result.detections[0].box, ELEPHANT_BOX) > 0.85

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_boxes_are_in_upright_coordinates(self, photos, orientation):
        upright = np.asarray(Image.open(photos / ELEPHANT).convert("RGB"))
        result = found(pictures.oriented(upright, orientation))
        assert (result.width, result.height) == (upright.shape[1], upright.shape[0])
        assert result.detections[0].label == "elephant"
        assert share_in_common(result.detections[0].box, ELEPHANT_BOX) > 0.85

    @pytest.mark.parametrize("form", ["jpeg cmyk", "jpeg grey", "png palette", "png 16 bit", "webp", "tiff cmyk"])
    def test_other_formats_show_the_same_object(self, photos, form):
        picture = np.asarray(Image.open(photos / ELEPHANT).convert("RGB"))
        assert found(pictures.versions(picture)[form]).detections[0].label == "elephant"

    @pytest.mark.parametrize("side", [64, 3000])
    def test_an_object_is_found_small_and_large(self, photos, side):
        image = Image.open(photos / "caltech101/1326.jpg").convert("RGB")
        box = found(pictures.encoded(image)).detections[0].box
        resized = image.resize((side, side * image.height // image.width))
        best = found(pictures.encoded(resized)).detections[0]
        assert best.label == "stop sign"
        assert share_in_common(best.box, tuple(round(at * side / image.width) for at in box)) > 0.85


class TestAnyPicture:
    @pytest.mark.parametrize("which", ["default", "fastestdet"])
    @pytest.mark.parametrize("size", [(1, 1), (2, 3), (64, 48), (480, 320), (3000, 2), (2, 3000)])
    def test_every_size_gives_a_jpeg_of_its_size(self, size, which, request):
        model = request.getfixturevalue("fastestdet") if which == "fastestdet" else ""
        data = pictures.encoded(pictures.textured(3, width=size[0], height=size[1]))
        result = found(data, model)
        assert (result.width, result.height) == size
        assert drawn(data, model).size == size

    def test_a_flat_picture_holds_nothing_and_stays_as_it_is(self):
        data = pictures.encoded(pictures.flat())
        assert found(data).detections == ()
        assert np.abs(np.asarray(drawn(data)).astype(int) - pictures.flat()).max() <= 2

    def test_cmyk_and_rotation_come_out_upright_and_rgb(self):
        versions = pictures.versions(pictures.textured(4, width=90, height=60))
        for form in ("jpeg cmyk", "jpeg rotated", "png rgba", "png 16 bit"):
            image = drawn(versions[form])
            assert (image.size, image.mode) == ((90, 60), "RGB")
            assert not image.getexif()

    def test_a_side_that_no_jpeg_has_is_shortened(self):
        assert drawn(pictures.encoded(Image.new("RGB", (70_000, 2), "red"))).size == (65_500, 2)

    def test_the_limits_of_the_decoder_hold(self):
        with pytest.raises(ImageTooLarge):
            found(pictures.png_header(20_000, 20_000), max_pixels=10**6)
        with pytest.raises(NotAnImage):
            draw_of(b"no picture", model="", max_pixels=10**6)

    def test_results_cross_process_borders(self):
        result = found(pictures.encoded(pictures.flat()))
        assert pickle.loads(pickle.dumps(result)) == result


class TestWeights:
    def test_the_labels_are_those_of_the_weights(self):
        lines = (_weights_folder() / "labels.txt").read_text().split("\n")
        assert len(CATEGORIES) == len(set(LABELS)) == 80
        assert {number: lines[number - 1].strip() for number in CATEGORIES} == dict(CATEGORIES)

    def test_the_package_of_the_weights_is_never_imported(self):
        found(pictures.encoded(pictures.flat()))
        assert WEIGHTS_PACKAGE not in sys.modules

    def test_naming_the_functions_does_not_load_opencv(self):
        code = "import sys, matching.detect; sys.exit('cv2' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0

    def test_missing_weights_are_a_fact_with_a_fix(self, monkeypatch):
        _loaded.cache_clear()
        monkeypatch.setitem(sys.modules, WEIGHTS_PACKAGE, None)  # how Python marks a module as not there
        with pytest.raises(DetectorMissing, match=r"requirements-detector\.txt"):
            found(pictures.encoded(pictures.flat()))
        monkeypatch.undo()
        assert found(pictures.encoded(pictures.flat())).detections == ()

    @pytest.mark.parametrize("content", [None, b"", b"no network"])
    def test_a_model_that_is_none(self, tmp_path, content):
        model = tmp_path / "model.onnx"
        if content is not None:
            model.write_bytes(content)
        with pytest.raises(DetectorMissing, match=r"model\.onnx.*DETECTOR_MODEL"):
            found(pictures.encoded(pictures.flat()), str(model))


class TestOneBoxEach:
    def test_boxes_are_clipped_and_those_beside_the_picture_dropped(self):
        shares = [
            ("dog", 0.9, [-0.2, -0.1, 0.5, 1.3]),
            ("cat", 0.8, [1.1, 0.2, 1.4, 0.6]),
            ("cup", 0.7, [0.501, 0.5, 0.502, 0.51]),
        ]
        assert [one.box for one in _in_pixels(shares, (200, 100))] == [(0, 0, 100, 100), (100, 50, 101, 51)]

    def test_overlaps_and_parts_of_one_label_go(self):
        best = Detection("dog", 0.9, (0, 0, 100, 100))
        again = Detection("dog", 0.8, (10, 10, 110, 110))
        part = Detection("dog", 0.7, (30, 30, 60, 60))
        other_label = Detection("cat", 0.6, (0, 0, 100, 100))
        elsewhere = Detection("dog", 0.5, (80, 0, 180, 100))
        assert _one_box_each([elsewhere, part, other_label, again, best]) == [best, other_label, elsewhere]


class TestDrawing:
    @pytest.mark.parametrize("size", [(64, 64), (64, 40), (200, 150), (1000, 700), (4000, 3000), (8000, 300)])
    @pytest.mark.parametrize("at", ["whole", "corner", "tiny"])
    def test_labels_lie_inside_and_grow_with_the_picture(self, size, at):
        width, height = size
        box = {
            "whole": (0, 0, width, height),
            "corner": (width * 2 // 3, height * 2 // 3, width, height),
            "tiny": (width - 3, 0, width - 2, 1),
        }[at]
        blank = Image.new("RGB", size, "white")
        draw(blank, [Detection("dog", 0.87, box)])
        pixels = np.asarray(blank).astype(int)
        background = (np.abs(pixels - colour_of("dog")).sum(axis=2) < 3).any(axis=1)
        text = np.asarray(blank.convert("L")) < 60
        assert background.any()
        assert text.any()
        label = next(_labels(Detection("dog", 0.87, box), max(8, int(0.034 * (width * height) ** 0.5)), size))
        assert label.width <= width
        assert 8 <= label.height <= height
        if max(size) > 500 and at == "whole":
            assert label.height >= 0.034 * (width * height) ** 0.5

    def test_labels_of_neighbours_stand_apart(self):
        boxes = [(100, 100, 300, 300), (105, 102, 280, 310), (98, 99, 320, 250)]
        detections = [Detection(*one) for one in zip(("dog", "cat", "cow"), (0.9, 0.8, 0.7), boxes, strict=True)]
        blank = Image.new("RGB", (500, 400), "white")
        draw(blank, detections)
        pixels = np.asarray(blank).astype(int)
        for detection in detections:
            label = next(_labels(detection, 15, blank.size))
            ours = np.abs(pixels - colour_of(detection.label)).sum(axis=2) < 3
            whole = [
                ours[y : y + label.height, x : x + label.width].mean() > 0.5
                for x, y in _corners(label, detection.box)
                if x >= 0 and y >= 0
            ]
            assert any(whole)

    def test_every_label_has_its_colour_and_readable_text(self):
        colours = {colour_of(label) for label in LABELS}
        assert len(colours) == len(LABELS)
        for red, green, blue in colours:
            assert _contrast_with_ink((red / 255, green / 255, blue / 255), 0) >= 6.9

    def test_a_picture_too_small_for_text_gets_the_box_alone(self):
        blank = Image.new("RGB", (12, 12), "white")
        draw(blank, [Detection("baseball glove", 0.9, (2, 2, 10, 10))])
        pixels = np.asarray(blank)
        assert tuple(pixels[2, 2]) == colour_of("baseball glove")
        assert tuple(pixels[0, 0]) == (255, 255, 255)
