"""Fingerprints: equal to the packages they stand for, steady, and guarded by golden values."""

import json
import random
from pathlib import Path

import imagehash
import numpy as np
import pdqhash
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from matching.fingerprints import FINGERPRINTS, PDQ_FINGERPRINT, Pixels, from_hex, to_hex
from matching.fingerprints.base import reduction
from matching.image import decode
from tests import pictures

PHOTOS = Path(__file__).parents[2] / "../shared/photos"
GOLDEN = Path(__file__).parents[1] / "golden/fingerprints.json"

# Sides around the 64 samples and 128 halves of a window, odd ones, long ones, and more than one tile.
SIZES = [
    (64, 64), (63, 65), (127, 128), (129, 257), (5, 5), (5, 300), (300, 5), (30, 40), (500, 375), (375, 500),
    (601, 803), (1100, 900), (2048, 31), (33, 4000), (20000, 24),
]  # fmt: skip


def codes(rgb: np.ndarray | Image.Image) -> dict[str, str]:
    image = rgb if isinstance(rgb, Image.Image) else Image.fromarray(rgb)
    pixels = Pixels(image)
    return {name: to_hex(fingerprint.compute(pixels)) for name, fingerprint in FINGERPRINTS.items()}


def quality(rgb: np.ndarray | Image.Image) -> int:
    return PDQ_FINGERPRINT.quality(Pixels(rgb if isinstance(rgb, Image.Image) else Image.fromarray(rgb)))


def reference(image: Image.Image) -> tuple[dict[str, str], int]:
    """What the packages say of the same pixels."""
    bits, quality = pdqhash.compute(np.asarray(image))
    return {
        "pdq": np.packbits(bits).tobytes().hex(),
        "phash": str(imagehash.phash(image)),
        "dhash": str(imagehash.dhash(image)),
        "ahash": str(imagehash.average_hash(image)),
    }, quality


def distance(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def golden_pictures() -> dict[str, np.ndarray]:
    half = np.concatenate([pictures.flat((0, 0, 0)), pictures.flat((255, 255, 255))], axis=1)
    return {
        **{f"textured {i} {w}x{h}": pictures.textured(i, width=w, height=h) for i, (w, h) in enumerate(SIZES)},
        "flat": pictures.flat(),
        "half black, half white": half,
        "one pixel": pictures.flat(width=1, height=1),
        "two by three": pictures.textured(50, width=2, height=3),
        "mirrored": np.concatenate([mirror := pictures.textured(51), mirror[:, ::-1]], axis=1),
    }


class TestAgainstThePackages:
    @pytest.mark.parametrize(("width", "height"), SIZES)
    def test_generated_pictures(self, width, height):
        for seed in range(2):
            image = Image.fromarray(pictures.textured(100 + seed, width=width, height=height))
            assert (codes(image), quality(image)) == reference(image)

    @pytest.mark.skipif(not PHOTOS.exists(), reason="there is no ../shared/photos beside the repository")
    def test_photos(self):
        paths = random.Random(20).sample(sorted(PHOTOS.glob("*/*.jpg")), 60)
        differing = []
        for path in paths:
            image = decode(path.read_bytes()).rgb
            if (codes(image), quality(image)) != reference(image):
                differing.append(path.name)
        assert not differing

    @pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 4), (4, 500), (500, 4)])
    def test_pictures_too_small_for_pdq_get_the_zero_code(self, size):
        image = Image.fromarray(pictures.textured(3, width=size[0], height=size[1]))
        ours = codes(image)
        theirs, _ = reference(image)
        assert ours == theirs
        assert (ours["pdq"], quality(image)) == ("0" * 64, 0)

    def test_pdq_hex_is_what_metas_tools_print(self):
        image = Image.fromarray(pictures.textured(4))
        bits, _ = pdqhash.compute(np.asarray(image))
        words = [sum(int(bit) << k for k, bit in enumerate(bits[::-1][16 * w : 16 * w + 16])) for w in range(16)]
        assert codes(image)["pdq"] == "".join(f"{word:04x}" for word in reversed(words))

    def test_the_reduction_is_two_box_filters_and_a_sampling(self):
        for length in (5, 63, 64, 65, 127, 128, 129, 500, 1001):
            window = -(-length // 128)
            box = np.zeros((length, length))
            for i in range(length):
                inside = slice(max(0, i - (window - 1 - window // 2)), i + window // 2 + 1)
                box[i, inside] = 1 / len(range(length)[inside])
            expected = (box @ box)[[int((i + 0.5) * length / 64) for i in range(64)]]
            ours = np.zeros((64, length))
            for row, (start, stop, weights) in zip(ours, reduction(length), strict=True):
                row[start:stop] = weights
            np.testing.assert_allclose(ours, expected, atol=1e-14)


class TestSteadiness:
    def test_golden_values(self):
        golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
        assert {name: {**codes(rgb), "quality": quality(rgb)} for name, rgb in golden_pictures().items()} == golden

    def test_pictures_without_texture_say_so(self):
        ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(200, axis=0).repeat(3, axis=2)
        assert quality(pictures.flat()) == 0
        assert quality(ramp) < 50

    @pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (1, 2, 3), (77, 133, 201)])
    @pytest.mark.parametrize("size", [(64, 64), (101, 77), (640, 480)])
    def test_one_colour_has_one_code(self, colour, size):
        found = codes(pictures.flat(colour, width=size[0], height=size[1]))
        grey = Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0))
        assert found == {
            "pdq": "0" * 64,
            "phash": "8000000000000000" if grey else "0" * 16,
            "dhash": "0" * 16,
            "ahash": "0" * 16,
        }

    def test_frequencies_that_cancel_are_equal_not_noise(self):
        stripes = np.zeros((200, 300, 3), dtype=np.uint8)
        stripes[:, ::20] = 255
        coefficients = PDQ_FINGERPRINT.coefficients(Pixels(Image.fromarray(stripes)))
        assert quality(stripes) == 0
        assert not coefficients.any()  # no change from top to bottom, so every coefficient cancels

    @pytest.mark.parametrize("seed", range(3))
    def test_versions_of_a_picture_are_near(self, seed):
        picture = pictures.textured(seed)
        original = codes(picture)
        for name, data in pictures.versions(picture).items():
            found = codes(decode(data).rgb)
            assert distance(found["pdq"], original["pdq"]) <= 10, name
            assert distance(found["phash"], original["phash"]) <= 8, name

    def test_resized_is_near_and_other_is_far(self):
        one, other = pictures.textured(1), pictures.textured(2)
        small = np.asarray(Image.fromarray(one).resize((240, 160)))
        for name, fingerprint in FINGERPRINTS.items():
            assert distance(codes(one)[name], codes(small)[name]) <= fingerprint.default_radius
            assert distance(codes(one)[name], codes(other)[name]) > fingerprint.default_radius

    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32 - 1))
    def test_every_size_has_codes_of_the_right_length(self, width, height, seed):
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        for name, code in codes(noise).items():
            assert len(code) * 4 == FINGERPRINTS[name].bits
        assert 0 <= quality(noise) <= 100


class TestHex:
    @pytest.mark.parametrize("name", FINGERPRINTS)
    def test_round_trip_in_either_case(self, name):
        code = bytes(range(FINGERPRINTS[name].bits // 8))
        assert from_hex(name, to_hex(code)) == code
        assert from_hex(name, to_hex(code).upper()) == code

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "00",
            "0" * 15,
            "0" * 17,
            "0" * 15 + "g",
            " " + "0" * 15,
            "0x" + "0" * 14,
            "\u0660" * 16,
            "0" * 16 + "\n",
        ],
    )
    def test_other_texts_are_refused_with_the_length(self, text):
        with pytest.raises(ValueError, match="a phash code is written in 16 hex digits"):
            from_hex("phash", text)

    def test_an_unknown_name_is_refused_with_the_known_ones(self):
        with pytest.raises(ValueError, match="no fingerprint 'md5', only pdq, phash, dhash, ahash"):
            from_hex("md5", "00")


def test_the_registry():
    assert [(name, f.name, f.bits, f.default_radius) for name, f in FINGERPRINTS.items()] == [
        ("pdq", "pdq", 256, 31),
        ("phash", "phash", 64, 8),
        ("dhash", "dhash", 64, 8),
        ("ahash", "ahash", 64, 8),
    ]


if __name__ == "__main__":  # python -m tests.matching.test_fingerprints: after a change of RECIPE_VERSION only
    values = {name: {**codes(rgb), "quality": quality(rgb)} for name, rgb in golden_pictures().items()}
    GOLDEN.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def test_query_codes_of_pdq_bridge_the_sizes_of_small_pictures() -> None:
    """PDQ alone puts some half-size copies of small pictures beyond its radius; the query's other sizes find them."""
    alone, bridged = [], []
    for seed in range(60):
        picture = Image.fromarray(pictures.textured(seed, width=300, height=200))
        code = FINGERPRINTS["pdq"].compute(Pixels(picture))
        half = Pixels(picture.resize((150, 100), Image.Resampling.LANCZOS))
        queries = FINGERPRINTS["pdq"].query_codes(half)
        assert queries[0] == FINGERPRINTS["pdq"].compute(half)
        distances = [(int.from_bytes(code) ^ int.from_bytes(query)).bit_count() for query in queries]
        alone.append(distances[0])
        bridged.append(min(distances))
    assert max(alone) > FINGERPRINTS["pdq"].default_radius
    assert max(bridged) < 25


@pytest.mark.parametrize("name", ["phash", "dhash", "ahash"])
def test_query_codes_of_the_others_are_the_code(name: str) -> None:
    pixels = Pixels(Image.fromarray(pictures.textured(1)))
    assert FINGERPRINTS[name].query_codes(pixels) == (FINGERPRINTS[name].compute(pixels),)


@pytest.mark.parametrize("size", [(1, 1), (4, 900), (1, 5000), (6, 6), (511, 3), (513, 512)])
def test_query_codes_of_odd_sizes(size: tuple[int, int]) -> None:
    pixels = Pixels(Image.fromarray(pictures.textured(1)).resize(size))
    codes = FINGERPRINTS["pdq"].query_codes(pixels)
    assert 1 <= len(codes) <= 3
    assert {len(code) for code in codes} == {32}
