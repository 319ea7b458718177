"""Decoding: what is accepted, what is refused, and that the pixels are right."""

import csv
import io
import random
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from matching.image import Picture, decode, thumbnail
from matching.types import ImageTooLarge, NotAnImage
from tests import pictures

HOSTILE = Path(__file__).parents[2] / "../shared/hostile"

PICTURE = pictures.textured(1, width=96, height=64)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode(data).rgb).astype(int)


def difference(data: bytes, expected: np.ndarray) -> float:
    """The mean absolute difference in levels of 0 to 255."""
    return float(np.abs(pixels(data) - expected).mean())


class TestFormats:
    @pytest.mark.parametrize(
        ("image_format", "options"),
        [
            ("PNG", {}),
            ("BMP", {}),
            ("TIFF", {}),
            ("WEBP", {"lossless": True}),
            ("TIFF", {"compression": "tiff_lzw"}),
        ],
    )
    def test_lossless_formats_give_the_same_pixels(self, image_format, options):
        data = pictures.encoded(PICTURE, image_format, **options)
        assert decode(data).format == image_format
        assert difference(data, PICTURE) == 0

    @pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "AVIF", "GIF"])
    def test_lossy_formats_give_nearly_the_same_pixels(self, image_format):
        data = pictures.encoded(PICTURE, image_format, **({} if image_format == "GIF" else {"quality": 95}))
        assert decode(data).format == image_format
        assert difference(data, PICTURE) < 6

    @pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA", "YCbCr", "LAB"])
    def test_every_mode_becomes_rgb(self, mode):
        image = Image.fromarray(PICTURE)
        image = image.convert("RGBA").convert(mode) if mode == "LA" else image.convert(mode)
        image_format = "PNG" if mode in ("1", "L", "P", "LA", "RGBA") else "TIFF"
        picture = decode(pictures.encoded(image, image_format))
        assert (picture.rgb.mode, picture.width, picture.height) == ("RGB", 96, 64)

    def test_inks_of_a_cmyk_jpeg_count_as_inverted_with_and_without_adobes_marker(self):
        data = pictures.encoded(Image.fromarray(PICTURE).convert("CMYK"), "JPEG", quality=95)
        marker = data.index(b"\xff\xee")
        length = int.from_bytes(data[marker + 2 : marker + 4], "big")
        unmarked = data[:marker] + data[marker + 2 + length :]
        assert difference(data, PICTURE) < 6
        assert difference(unmarked, PICTURE) < 6

    def test_ycck_jpeg(self):
        image = Image.fromarray(PICTURE)
        planes = Image.merge("CMYK", [*image.convert("YCbCr").split(), Image.new("L", image.size, 0)])
        data = bytearray(pictures.encoded(planes, "JPEG", quality=95))
        data[data.index(b"Adobe") + 11] = 2  # the planes are luma, two chromas and black
        assert difference(bytes(data), PICTURE) < 6

    def test_mpo_is_a_jpeg_of_its_first_picture(self):
        other = Image.fromarray(pictures.flat(width=96, height=64))
        data = pictures.encoded(PICTURE, "MPO", save_all=True, append_images=[other], quality=95)
        assert decode(data).format == "JPEG"
        assert difference(data, PICTURE) < 6

    @pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
    def test_animations_give_their_first_frame(self, image_format):
        frames = [Image.fromarray(pictures.textured(seed, width=96, height=64)) for seed in (2, 3)]
        data = pictures.encoded(PICTURE, image_format, save_all=True, append_images=frames)
        assert decode(data).format == image_format
        assert difference(data, PICTURE) < 6


class TestDepth:
    """Deep greyscale is scaled; Pillow's own conversion clips it to white."""

    LEVELS = pictures.sixteen_bit_grey(PICTURE)

    def check(self, data: bytes) -> None:
        assert np.abs(pixels(data)[..., 0] - self.LEVELS / 257).max() <= 0.51

    @pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
    def test_sixteen_bits(self, image_format):
        self.check(pictures.encoded(Image.fromarray(self.LEVELS), image_format))

    def test_sixteen_bits_big_endian(self):
        data = pictures.versions(PICTURE)["tiff 16 bit big-endian"]
        assert Image.open(io.BytesIO(data)).mode == "I;16B"
        self.check(data)

    @pytest.mark.parametrize("divisor", [1, 257])
    def test_thirty_two_bits(self, divisor):
        levels = (self.LEVELS // divisor).astype(np.int32)
        data = pictures.encoded(Image.fromarray(levels), "TIFF")
        assert np.abs(pixels(data)[..., 0] - self.LEVELS / 257).max() <= 1.01

    @pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
    def test_floats(self, white):
        levels = (self.LEVELS / 65535 * white).astype(np.float32)
        self.check(pictures.encoded(Image.fromarray(levels), "TIFF"))

    @pytest.mark.parametrize(("low", "high"), [(-100.0, 100.0), (0.0, 1e6), (-3e38, 3e38)])
    def test_unusual_ranges_are_stretched(self, low, high):
        levels = np.linspace(low, high, 64 * 64, dtype=np.float64).astype(np.float32).reshape(64, 64)
        grey = pixels(pictures.encoded(Image.fromarray(levels), "TIFF"))[..., 0]
        assert (grey.min(), grey.max()) == (0, 255)
        assert np.all(np.diff(grey.ravel()) >= 0)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -5.0, 0.0, 1e30])
    def test_one_value_everywhere_is_a_picture(self, value):
        levels = np.full((8, 8), value, dtype=np.float32)
        assert decode(pictures.encoded(Image.fromarray(levels), "TIFF")).width == 8


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_every_orientation_is_turned_upright(self, orientation):
        data = pictures.oriented(PICTURE, orientation)
        assert difference(data, PICTURE) < 6

    @pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF", "AVIF"])
    def test_orientation_counts_in_other_formats_too(self, image_format):
        exif = Image.Exif()
        exif[0x0112] = 6
        data = pictures.encoded(PICTURE, image_format, exif=exif)
        assert (decode(data).width, decode(data).height) == (64, 96)

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_orientations_that_do_not_exist_are_ignored(self, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert decode(pictures.encoded(PICTURE, "JPEG", exif=exif)).width == 96

    def test_broken_exif_does_not_cost_the_picture(self):
        sound = pictures.oriented(PICTURE, 6)
        start = sound.index(b"Exif\0\0") + 6
        end = start - 8 + int.from_bytes(sound[start - 8 : start - 6], "big")
        rng = random.Random(7)
        for _ in range(200):
            block = bytearray(sound[start:end])
            for _ in range(rng.randint(1, 6)):
                block[rng.randrange(len(block))] = rng.randrange(256)
            picture = decode(sound[:start] + bytes(block) + sound[end:])
            assert sorted((picture.width, picture.height)) == [64, 96]


class TestTransparency:
    ALPHA = np.repeat(np.array([0, 128, 255], dtype=np.uint8), 32)[None, :].repeat(64, axis=0)

    def expected(self, colour: np.ndarray) -> np.ndarray:
        share = self.ALPHA[..., None] / 255
        return colour * share + 255 * (1 - share)

    @pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
    def test_alpha_is_laid_on_white(self, image_format):
        rgba = np.dstack([PICTURE, self.ALPHA])
        options = {"lossless": True} if image_format == "WEBP" else {}
        assert difference(pictures.encoded(rgba, image_format, **options), self.expected(PICTURE)) < 1

    def test_grey_with_alpha(self):
        grey = np.asarray(Image.fromarray(PICTURE).convert("L"))
        data = pictures.encoded(Image.fromarray(np.dstack([grey, self.ALPHA]), "LA"))
        assert difference(data, self.expected(grey[..., None].repeat(3, axis=2))) < 1

    @pytest.mark.parametrize("image_format", ["PNG", "GIF"])
    def test_a_transparent_palette_colour(self, image_format):
        palette = Image.fromarray(PICTURE).quantize(255)
        key = palette.getpixel((5, 5))
        data = pictures.encoded(palette, image_format, transparency=key)
        chosen = np.asarray(palette) == key
        assert (pixels(data)[chosen] == 255).all()
        assert not (pixels(data)[~chosen] == 255).all()

    def test_a_transparent_colour(self):
        colours = np.repeat(np.array([[10, 20, 30], [40, 50, 60]], dtype=np.uint8), 8, axis=0)[None].repeat(4, axis=0)
        data = pictures.encoded(colours, transparency=(10, 20, 30))
        assert pixels(data)[0, 0].tolist() == [255, 255, 255]
        assert pixels(data)[0, -1].tolist() == [40, 50, 60]

    def test_a_transparent_level_of_sixteen_bits(self):
        levels = np.array([[1000, 2000, 40000]], dtype=np.uint16)
        plain = pictures.encoded(Image.fromarray(levels))
        header_end = 8 + 25
        body = b"tRNS" + (1000).to_bytes(2, "big")
        crc = zlib.crc32(body).to_bytes(4, "big")
        data = plain[:header_end] + (2).to_bytes(4, "big") + body + crc + plain[header_end:]
        assert pixels(data)[0, :, 0].tolist() == [255, 8, 156]


class TestRefusals:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\0",
            b"just some text",
            b"<!doctype html><html><body>not found</body></html>",
            b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
            b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
            b"P6 1 1 255 abc",
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff",
            b"GIF89a",
        ],
    )
    def test_other_things_are_no_images(self, data):
        with pytest.raises(NotAnImage):
            decode(data)

    @pytest.mark.parametrize("image_format", ["ICO", "PPM", "TGA", "EPS", "PDF", "JPEG2000", "PCX", "ICNS"])
    def test_formats_that_are_not_listed_are_refused(self, image_format):
        with pytest.raises(NotAnImage):
            decode(pictures.encoded(pictures.textured(1, width=64, height=64), image_format))

    @pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
    def test_truncated_files_are_refused(self, image_format, share):
        data = pictures.encoded(pictures.textured(5), image_format)
        with pytest.raises(NotAnImage):
            decode(data[: int(len(data) * share)])

    @pytest.mark.parametrize("size", [(100_000, 100_000), (64_000_001, 1), (2**31 - 1, 2**31 - 1)])
    def test_a_bomb_is_refused_by_its_header(self, size):
        started = time.perf_counter()
        with pytest.raises(ImageTooLarge, match="64,000,000"):
            decode(pictures.png_header(*size))
        assert time.perf_counter() - started < 0.5

    def test_the_limit_is_exact(self):
        data = pictures.encoded(PICTURE)
        assert decode(data, max_pixels=96 * 64).width == 96
        with pytest.raises(ImageTooLarge):
            decode(data, max_pixels=96 * 64 - 1)

    def test_a_limit_above_pillows_own_holds(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert decode(pictures.encoded(PICTURE)).width == 96

    def test_pillows_settings_are_left_alone(self):
        before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
        decode(pictures.encoded(PICTURE))
        with pytest.raises(ImageTooLarge):
            decode(pictures.png_header(100_000, 100_000))
        assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before

    def test_the_cause_is_kept(self):
        with pytest.raises(NotAnImage) as caught:
            decode(b"text")
        assert caught.value.__cause__ is not None
        assert "BytesIO" not in str(caught.value)


def outcome(data: bytes) -> str:
    """What decoding comes to; anything but the two errors passes through and fails the test."""
    try:
        decode(data)
    except (NotAnImage, ImageTooLarge):
        return "refuse"
    return "decodes"


class TestHostile:
    @pytest.mark.skipif(not HOSTILE.exists(), reason="there is no ../shared/hostile beside the repository")
    def test_the_manifest(self):
        with (HOSTILE / "MANIFEST.csv").open(encoding="utf-8") as manifest:
            rows = list(csv.DictReader(manifest))
        wrong = []
        for row in rows:
            data = (HOSTILE / "images" / row["file"]).read_bytes()
            got = outcome(data)
            # The manifest counts AVIF as another format; this decoder accepts it.
            is_avif = data[4:12] in (b"ftypavif", b"ftypavis")
            if row["expect"] != "either" and got != row["expect"] and not is_avif:
                wrong.append(f"{row['file']}: {got}, expected {row['expect']}")
        assert len(rows) > 2000
        assert not wrong

    @settings(max_examples=150, deadline=None)
    @given(
        st.binary(max_size=400),
        st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"]),
    )
    def test_random_bytes(self, tail, magic):
        outcome(magic + tail)

    SMALL = tuple(pictures.versions(pictures.textured(9, width=48, height=32)).values())

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from(SMALL), st.data())
    def test_mutated_images(self, data, draw):
        mutated = bytearray(data)
        places = st.integers(0, len(data) - 1)
        # Headers are where the damage is interesting.
        for place in draw.draw(st.lists(st.one_of(places, st.integers(0, 64)), max_size=8)):
            mutated[place] = draw.draw(st.integers(0, 255))
        end = draw.draw(st.one_of(st.just(len(data)), places))
        outcome(bytes(mutated[:end]))


class TestThumbnail:
    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            ((480, 320), (128, 85)),
            ((320, 480), (85, 128)),
            ((100, 50), (100, 50)),
            ((5000, 2), (128, 1)),
            ((1, 1), (1, 1)),
        ],
    )
    def test_the_long_side_is_bounded_and_nothing_is_enlarged(self, size, expected):
        data = thumbnail(Picture(rgb=Image.new("RGB", size, "red"), format="PNG"), side=128)
        image = Image.open(io.BytesIO(data))
        assert (image.format, image.size) == ("JPEG", expected)

    def test_it_looks_like_the_picture_and_carries_no_metadata(self):
        exif = Image.Exif()
        exif[0x010E] = "a secret"
        source = pictures.encoded(PICTURE, "JPEG", quality=95, exif=exif, comment=b"a secret", icc_profile=b"a secret")
        data = thumbnail(decode(source), side=48)
        assert b"secret" not in data
        small = np.asarray(Image.open(io.BytesIO(data))).astype(int)
        means = PICTURE.reshape(32, 2, 48, 2, 3).mean(axis=(1, 3))
        assert np.abs(small - means).mean() < 10
