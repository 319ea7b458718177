"""SIFT difference, difference picture and centre crop: statements 3, 4, 5 and 14."""

import io
import itertools
import math
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from matching.compare import (
    UNRELATED,
    centre_crop,
    centre_crop_of,
    difference_of,
    difference_picture,
    sift_difference,
    sift_difference_of,
)
from matching.image import DEFAULT_MAX_PIXELS, Picture, decode
from matching.types import CropEmpty, CropTooLarge, ImageTooLarge, NotAnImage
from tests import pictures

PHOTO = pictures.textured(1)


def picture(rgb: np.ndarray | Image.Image) -> Picture:
    return Picture(rgb=rgb if isinstance(rgb, Image.Image) else Image.fromarray(rgb), format="PNG")


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


class TestSiftDifference:
    """Statement 5."""

    def test_identical_pictures(self):
        assert sift_difference(picture(PHOTO), picture(PHOTO.copy())) == 0.0

    def test_another_file_of_the_same_pixels(self):
        first, second = pictures.encoded(PHOTO), pictures.encoded(PHOTO, "BMP")
        assert sift_difference_of(first, second, max_pixels=DEFAULT_MAX_PIXELS) == 0.0

    @pytest.mark.parametrize("seed", range(3))
    def test_the_definition(self, seed):
        first = pictures.textured(seed)
        second = opened(pictures.encoded(pictures.textured(seed), "JPEG", quality=40))
        third = pictures.textured(seed + 10, width=300, height=400)
        for one, other in itertools.combinations([first, second, third], 2):
            ours = sift_difference(picture(one), picture(other))
            assert ours == pytest.approx(by_the_definition(one, other), abs=1e-4)

    def test_symmetric_to_the_last_bit(self):
        others = [pictures.textured(seed, width=200 + 50 * seed) for seed in range(4)]
        for one, other in itertools.combinations(map(picture, others), 2):
            assert sift_difference(one, other) == sift_difference(other, one)

    def test_more_different_is_higher(self):
        image = Image.fromarray(PHOTO)
        turned = pictures.encoded(image.transpose(Image.Transpose.ROTATE_90))
        copies = [pictures.encoded(image, "JPEG", quality=95), pictures.encoded(image, "JPEG", quality=30)]
        mild, strong, rotated, stranger = (
            sift_difference_of(pictures.encoded(PHOTO), data, max_pixels=DEFAULT_MAX_PIXELS)
            for data in [*copies, turned, pictures.encoded(pictures.textured(77))]
        )
        assert 0 < mild < strong < stranger < UNRELATED
        assert rotated < stranger

    def test_pictures_without_keypoints(self):
        flat, other = picture(pictures.flat()), picture(pictures.flat((0, 0, 0)))
        assert sift_difference(flat, picture(pictures.flat())) == 0.0
        assert sift_difference(flat, other) == 512 * math.sqrt(2)
        assert sift_difference(flat, picture(PHOTO)) == sift_difference(picture(PHOTO), flat) == 512 * math.sqrt(2)

    def test_equal_grey_counts_as_equal(self):
        red = Image.new("RGB", (50, 40), (100, 0, 0))
        grey = Image.new("RGB", (50, 40), (30, 30, 30))  # 0.299 * 100, rounded
        assert sift_difference(picture(red), picture(grey)) == 0.0

    @pytest.mark.parametrize("size", [(1, 1), (1, 100), (100, 1), (2, 2), (7, 5)])
    def test_tiny_pictures(self, size):
        tiny = picture(pictures.textured(2, width=size[0], height=size[1]))
        assert sift_difference(tiny, tiny) == 0.0
        assert sift_difference(tiny, picture(PHOTO)) == UNRELATED

    def test_more_keypoints_than_a_block(self):
        rng = np.random.default_rng(1)
        first, second = (rng.integers(0, 256, (300, 300, 3), dtype=np.uint8) for _ in range(2))
        ours = sift_difference(picture(first), picture(second))
        assert ours == pytest.approx(by_the_definition(first, second), abs=1e-4)

    @pytest.mark.parametrize("memory", [600 << 20, 900 << 20])
    def test_memory_running_out_is_an_image_too_large(self, memory):
        """In a process of its own, whose address space is limited as a worker's is."""
        code = f"""if True:
            import resource, numpy as np
            from PIL import Image
            from matching import compare
            from matching.image import Picture
            from matching.types import ImageTooLarge
            noise = np.random.default_rng(0).integers(0, 256, (5000, 5000, 1), dtype=np.uint8).repeat(3, axis=2)
            first, second = (Picture(Image.fromarray(some), "PNG") for some in (noise, noise[::-1]))
            resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
            try:
                compare.sift_difference(first, second)
            except ImageTooLarge:
                print("too large")
        """
        environment = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ":".join(filter(None, sys.path))}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
        assert run.stdout == "too large\n", run.stderr


class TestDifferencePicture:
    """Statement 14."""

    def test_identical_pictures(self):
        png, error = difference_picture(picture(PHOTO), picture(PHOTO))
        assert error == 0.0
        assert not opened(png).any()

    def test_one_channel_of_black_and_white(self):
        image = Image.open(io.BytesIO(difference_picture(picture(PHOTO), picture(pictures.textured(2)))[0]))
        assert (image.format, image.mode, image.size) == ("PNG", "L", (480, 320))
        assert set(np.unique(np.asarray(image))) == {0, 255}

    def test_the_definition(self):
        other = pictures.textured(2)
        png, error = difference_picture(picture(PHOTO), picture(other))
        first, second = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(int) for rgb in (PHOTO, other))
        assert error == ((first - second) ** 2).mean()
        assert (opened(png) == np.where(abs(first - second) > 30, 255, 0)).all()

    @pytest.mark.parametrize(("step", "marked"), [(30, 0), (31, 255)])
    def test_the_threshold(self, step, marked):
        png, error = difference_picture(*(picture(pictures.flat((level,) * 3)) for level in (100, 100 + step)))
        assert set(opened(png).ravel()) == {marked}
        assert error == step**2

    def test_where_they_differ(self):
        changed = PHOTO.copy()
        changed[100:120, 200:240] = 255 - changed[100:120, 200:240]
        marked = opened(difference_picture(picture(PHOTO), picture(changed))[0])
        assert marked[100:120, 200:240].any()
        marked = marked.copy()
        marked[100:120, 200:240] = 0
        assert not marked.any()

    @pytest.mark.parametrize("share", [0.25, 0.5, 2, 3.3])
    def test_a_copy_of_another_size_differs_little(self, share):
        image = Image.fromarray(PHOTO)
        copy = image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.LANCZOS)
        png, error = difference_picture(picture(image), picture(copy))
        assert opened(png).shape == (320, 480)
        assert (opened(png) > 0).mean() < 0.05
        assert error < 60
        assert error < difference_picture(picture(image), picture(pictures.textured(2)))[1] / 10

    @pytest.mark.parametrize("size", [(1, 1), (1, 999), (20_000, 2), (480, 1)])
    def test_any_size_of_the_second(self, size):
        assert opened(difference_picture(picture(PHOTO), picture(Image.new("RGB", size)))[0]).shape == (320, 480)
        assert opened(difference_picture(picture(Image.new("RGB", size)), picture(PHOTO))[0]).shape == size[::-1]

    def test_transparency_lies_on_white(self):
        clear = Image.new("RGBA", (30, 20), (0, 0, 0, 0))
        white = pictures.encoded(pictures.flat((255, 255, 255), width=30, height=20))
        png, error = difference_of(pictures.encoded(clear), white, max_pixels=DEFAULT_MAX_PIXELS)
        assert error == 0.0
        assert not opened(png).any()


class TestCentreCrop:
    """Statements 3 and 4."""

    @pytest.mark.parametrize(("width", "height"), [(101, 77), (63, 95), (7, 3)])
    def test_sampled_sizes_of_odd_pictures(self, width, height):
        whole = picture(pictures.textured(width, width=width, height=height))
        for w in sorted({*range(1, width + 1, 9), 1, 2, width - 1, width}):
            for h in sorted({*range(1, height + 1, 7), 1, 2, height - 1, height}):
                check(centre_crop(whole, width=w, height=h), whole, w, h)

    @pytest.mark.parametrize("name", pictures.versions(PHOTO[:9, :9]))
    def test_every_format_and_colour_mode(self, name):
        data = pictures.versions(pictures.textured(3, width=97, height=61))[name]
        whole = decode(data)
        assert (whole.width, whole.height) == (97, 61)
        for width, height in [(97, 61), (96, 60), (97, 1), (1, 61), (40, 33), (1, 1)]:
            crop = centre_crop_of(data, width=width, height=height, max_pixels=DEFAULT_MAX_PIXELS)
            check(crop, whole, width, height)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_every_orientation(self, orientation):
        upright = pictures.textured(4, width=97, height=61)
        crop = centre_crop_of(
            pictures.oriented(upright, orientation), width=60, height=20, max_pixels=DEFAULT_MAX_PIXELS
        )
        check(crop, picture(upright), 60, 20, allowed=8)

    @pytest.mark.parametrize("image_format", ["PNG", "GIF"])
    def test_a_transparent_palette_lies_on_white(self, image_format):
        palette = Image.new("P", (21, 21), 0)
        palette.putpalette([0, 0, 0, 200, 0, 0])
        palette.paste(1, (7, 7, 14, 14))
        data = pictures.encoded(palette, image_format, transparency=0)
        crop = opened(centre_crop_of(data, width=15, height=15, max_pixels=DEFAULT_MAX_PIXELS)).astype(int)
        assert abs(crop[0, 0] - 255).max() < 12
        assert abs(crop[7, 7] - [200, 0, 0]).max() < 12

    def test_a_jpeg_without_metadata(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        data = pictures.encoded(PHOTO, "JPEG", exif=exif, icc_profile=b"profile", comment=b"secret")
        crop = centre_crop_of(data, width=10, height=10, max_pixels=DEFAULT_MAX_PIXELS)
        image = Image.open(io.BytesIO(crop))
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert not {"exif", "icc_profile", "comment"} & set(image.info)

    def test_larger_than_the_picture(self):
        whole = picture(PHOTO)
        with pytest.raises(CropTooLarge, match=r"^Width is larger than original image\.$"):
            centre_crop(whole, width=481, height=10)
        with pytest.raises(CropTooLarge, match=r"^Height is larger than original image\.$"):
            centre_crop(whole, width=480, height=321)
        with pytest.raises(CropTooLarge, match=r"^Width"):
            centre_crop(whole, width=10**30, height=10**30)

    @pytest.mark.parametrize(
        ("size", "name"), [((0, 5), "Width"), ((-1, 5), "Width"), ((5, 0), "Height"), ((5, -9), "Height")]
    )
    def test_nothing_to_crop(self, size, name):
        with pytest.raises(CropEmpty, match=f"^{name} must be at least 1"):
            centre_crop(picture(PHOTO), width=size[0], height=size[1])

    def test_longer_than_a_jpeg_can_be(self):
        long = picture(Image.new("RGB", (65_501, 2)))
        assert opened(centre_crop(long, width=65_500, height=2)).shape == (2, 65_500, 3)
        with pytest.raises(CropTooLarge, match="JPEG"):
            centre_crop(long, width=65_501, height=2)

    def test_the_errors_travel_between_processes(self):
        for error in (CropTooLarge("Width is larger than original image."), CropEmpty("Width must be at least 1.")):
            copy = pickle.loads(pickle.dumps(error))
            assert (type(copy), str(copy)) == (type(error), str(error))


@pytest.mark.parametrize(
    "compute",
    [
        lambda data, **limit: sift_difference_of(pictures.encoded(pictures.flat(width=3, height=3)), data, **limit),
        lambda data, **limit: difference_of(pictures.encoded(pictures.flat(width=3, height=3)), data, **limit),
        lambda data, **limit: centre_crop_of(data, width=1, height=1, **limit),
    ],
)
def test_what_does_not_decode(compute):
    with pytest.raises(NotAnImage):
        compute(b"no image", max_pixels=100)
    with pytest.raises(ImageTooLarge):
        compute(pictures.png_header(11, 10), max_pixels=100)


def check(jpeg: bytes, whole: Picture, width: int, height: int, *, allowed: float = 5) -> None:
    """The crop has its exact size and shows that part of the picture, but for what JPEG loses."""
    crop = opened(jpeg)
    assert crop.shape == (height, width, 3)
    left, top = (whole.width - width) // 2, (whole.height - height) // 2
    expected = np.asarray(whole.rgb)[top : top + height, left : left + width].astype(int)
    assert abs(crop - expected).mean() <= allowed, (width, height)


def by_the_definition(first: np.ndarray, second: np.ndarray) -> float:
    """OpenCV's own matcher, one direction at a time."""
    descriptors = [
        cv2.SIFT_create().detectAndCompute(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), None)[1] for rgb in (first, second)
    ]
    means = [
        np.mean([match.distance for match in cv2.BFMatcher(cv2.NORM_L2).match(one, other)])
        for one, other in (descriptors, descriptors[::-1])
    ]
    return float(sum(means) / 2)


def test_the_mean_squared_error_is_exact() -> None:
    first, second = (Picture(Image.new("RGB", (641, 479), colour), "PNG") for colour in ((128, 128, 128), (10, 10, 10)))
    assert difference_picture(first, second)[1] == 118.0**2
