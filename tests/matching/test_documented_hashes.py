"""The hashes of the documented `/v1` and `/v2` services: statements 6 and 23."""

import io
import json
import pickle
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from matching.fingerprints import to_bits
from matching.fingerprints.opencv import opencv_hashes, opencv_hashes_of
from matching.fingerprints.plain import plain_hashes, plain_hashes_of
from matching.image import DEFAULT_MAX_PIXELS, decode
from matching.types import ImageTooLarge, NotAnImage
from tests import pictures

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/documented.json").read_text(encoding="utf-8"))
EXAMPLE = Path(__file__).parents[2] / "../shared/spec/DSCN0010.jpg"


def golden_pictures() -> dict[str, np.ndarray]:
    sizes = [(64, 64), (480, 320), (501, 375), (7, 9), (1, 1), (256, 256), (32, 32), (300, 3), (1200, 900), (255, 257)]
    half = [pictures.flat((0, 0, 0)), pictures.flat((255, 255, 255))]
    return {
        **{f"textured {i} {w}x{h}": pictures.textured(i, width=w, height=h) for i, (w, h) in enumerate(sizes)},
        "flat": pictures.flat(),
        "black": pictures.flat((0, 0, 0)),
        "half black, half white": np.concatenate(half, axis=1),
        "half white, half black": np.concatenate(half[::-1], axis=1),
    }


PICTURES = golden_pictures()


def plain(rgb: np.ndarray) -> dict[str, str]:
    return {name: code.hex() for name, code in plain_hashes(Image.fromarray(rgb)).items()}


def test_golden_values_belong_to_these_pictures():
    assert set(GOLDEN) == set(PICTURES)


class TestPlain:
    """Statement 6."""

    @pytest.mark.skipif(not EXAMPLE.exists(), reason="there is no ../shared/spec/DSCN0010.jpg beside the repository")
    def test_the_documented_example(self):
        codes = plain_hashes_of(EXAMPLE.read_bytes(), max_pixels=DEFAULT_MAX_PIXELS)
        assert {name: code.hex() for name, code in codes.items()} == {
            "ahash": "fcfffff310100000",
            "dhash": "313c156666e4e584",
            "phash": "4edbd88c49eaf808",
        }

    @pytest.mark.parametrize("name", PICTURES)
    def test_golden_values(self, name):
        assert plain(PICTURES[name]) == GOLDEN[name]["v1"]

    @pytest.mark.parametrize("size", [(96, 64), (320, 320), (64, 160)])
    def test_the_recipe_step_by_step(self, size):
        """Sides that the hashes' sides divide: there an area average is the mean of a block, rounded half to even."""
        width, height = size
        rgb = pictures.textured(7, width=width, height=height)
        grey = np.trunc(rgb @ np.array([0.2126, 0.7152, 0.0722]))
        blocks = averages(grey, 8, 8)
        assert plain(rgb)["ahash"] == bits_of(blocks >= blocks.mean())
        samples = averages(grey, 32, 32)
        low = np.empty((8, 8))
        for u in range(8):
            for v in range(8):
                waves = [np.cos(np.pi * k * (2 * np.arange(32) + 1) / 64) for k in (u, v)]
                low[u, v] = round(float((samples * np.outer(*waves)).sum()), 6)
        above = low > np.median(low.ravel()[1:])
        above[0, 0] = False
        assert plain(rgb)["phash"] == bits_of(above)

    def test_dhash_looks_at_the_step_to_the_right(self):
        rgb = pictures.textured(8, width=9 * 20, height=8 * 15)
        steps = averages(np.trunc(rgb @ np.array([0.2126, 0.7152, 0.0722])), 9, 8)
        assert plain(rgb)["dhash"] == bits_of(steps[:, :-1] < steps[:, 1:])

    @pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (1, 2, 3), (77, 133, 201)])
    @pytest.mark.parametrize("size", [(8, 8), (101, 77), (640, 480), (1, 1)])
    def test_one_colour_has_one_code(self, colour, size):
        found = plain(pictures.flat(colour, width=size[0], height=size[1]))
        assert found == {"ahash": "f" * 16, "dhash": "0" * 16, "phash": "0" * 16}

    def test_orientation_counts(self):
        upright = pictures.textured(9)
        turned = plain_hashes_of(pictures.oriented(upright, 6), max_pixels=DEFAULT_MAX_PIXELS)
        for name, code in plain_hashes(Image.fromarray(upright)).items():
            assert (int.from_bytes(code) ^ int.from_bytes(turned[name])).bit_count() <= 4

    def test_long_thin_pictures(self):
        assert all(len(code) == 8 for code in plain_hashes(Image.new("RGB", (70_000, 3))).values())


class TestOpenCV:
    """Statement 23; the golden values are those of the contrib build's `img_hash` (see benchmarks/compat.py)."""

    @pytest.mark.parametrize("name", PICTURES)
    def test_golden_values_of_the_contrib_build(self, name):
        codes = opencv_hashes(Image.fromarray(PICTURES[name]))
        assert {name: code.hex() for name, code in codes.items()} == GOLDEN[name]["v2"]

    def test_the_contrib_build_is_not_here(self):
        assert not hasattr(cv2, "img_hash")

    def test_lengths(self):
        codes = opencv_hashes(Image.fromarray(PICTURES["flat"]))
        assert [(name, len(code), len(to_bits(code))) for name, code in codes.items()] == [
            ("bmh1", 121, 968),
            ("phash", 8, 64),
        ]

    def test_blocks_are_means_of_sixteen_by_sixteen_at_a_step_of_eight(self):
        rgb = pictures.textured(5, width=256, height=256)  # no resizing
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(float)
        bits = [grey[y : y + 16, x : x + 16].mean() >= grey.mean() for y in range(0, 241, 8) for x in range(0, 241, 8)]
        assert np.unpackbits(
            np.frombuffer(opencv_hashes(Image.fromarray(rgb))["bmh1"], dtype=np.uint8), bitorder="little"
        ).tolist() == [*bits, *[False] * 7]

    def test_red_is_not_blue(self):
        rgb = PICTURES["textured 1 480x320"]
        assert opencv_hashes(Image.fromarray(rgb)) != opencv_hashes(Image.fromarray(rgb[..., ::-1].copy()))

    @pytest.mark.parametrize(("bmh1", "phash"), [(True, False), (False, True), (True, True)])
    def test_only_what_is_asked_for(self, bmh1, phash):
        data = pictures.encoded(PICTURES["textured 2 501x375"])
        answer = opencv_hashes_of(data, bmh1=bmh1, phash=phash, max_pixels=DEFAULT_MAX_PIXELS)
        expected = GOLDEN["textured 2 501x375"]["v2"]
        assert {name: code.hex() for name, code in answer.codes.items()} == {
            name: expected[name] for name, asked in (("bmh1", bmh1), ("phash", phash)) if asked
        }
        assert pickle.loads(pickle.dumps(answer)) == answer

    def test_size_after_orientation(self):
        data = pictures.oriented(pictures.textured(3, width=90, height=60), 6)
        answer = opencv_hashes_of(data, bmh1=False, phash=True, max_pixels=DEFAULT_MAX_PIXELS)
        assert (answer.width, answer.height) == (90, 60)
        assert Image.open(io.BytesIO(data)).size == (60, 90)

    def test_text(self):
        assert to_bits(bytes([1, 0x80, 0])) == "000000011000000000000000"
        code = random.Random(1).randbytes(121)
        assert int(to_bits(code), 2).to_bytes(121) == code


@pytest.mark.parametrize(
    "hashes",
    [plain_hashes_of, lambda data, max_pixels: opencv_hashes_of(data, bmh1=True, phash=True, max_pixels=max_pixels)],
)
def test_what_does_not_decode(hashes):
    with pytest.raises(NotAnImage):
        hashes(b"no image", max_pixels=100)
    with pytest.raises(ImageTooLarge):
        hashes(pictures.png_header(11, 10), max_pixels=100)


def test_decoded_and_given_pictures_agree():
    data = pictures.versions(PICTURES["textured 1 480x320"])["jpeg cmyk"]
    rgb = decode(data).rgb
    assert plain_hashes_of(data, max_pixels=DEFAULT_MAX_PIXELS) == plain_hashes(rgb)
    answer = opencv_hashes_of(data, bmh1=True, phash=True, max_pixels=DEFAULT_MAX_PIXELS)
    assert answer.codes == opencv_hashes(rgb)


def averages(grey: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """Means of whole blocks (rows, columns), rounded."""
    height, width = grey.shape
    return np.rint(grey.reshape(rows, height // rows, columns, width // columns).mean(axis=(1, 3)))


def bits_of(bits: np.ndarray) -> str:
    return f"{int(''.join('1' if bit else '0' for bit in bits.ravel()), 2):016x}"
