"""Describing an image: everything from one decode, in a process that loads little."""

import hashlib
import io
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from matching.describe import describe, probe
from matching.fingerprints import FINGERPRINTS, PDQ_FINGERPRINT, Pixels
from matching.types import ImageTooLarge, NotAnImage
from tests import pictures

PICTURE = pictures.textured(1)
LIMITS = {"max_pixels": 1_000_000, "thumbnail_side": 128}


def test_a_description_is_complete():
    data = pictures.encoded(PICTURE)
    description = describe(data, **LIMITS)
    pixels = Pixels(Image.fromarray(PICTURE))
    assert (description.width, description.height, description.format) == (480, 320, "PNG")
    assert (description.size, description.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert description.fingerprints == {name: f.compute(pixels) for name, f in FINGERPRINTS.items()}
    assert description.quality == PDQ_FINGERPRINT.quality(pixels)
    assert Image.open(io.BytesIO(description.thumbnail)).size == (128, 85)


def test_width_and_height_are_upright():
    description = describe(pictures.oriented(PICTURE, 6), **LIMITS)
    assert (description.width, description.height, description.format) == (480, 320, "JPEG")


def test_a_picture_without_texture_has_low_quality():
    assert describe(pictures.encoded(pictures.flat()), **LIMITS).quality == 0


def test_it_travels_between_processes():
    description = describe(pictures.encoded(PICTURE), **LIMITS)
    assert pickle.loads(pickle.dumps(description)) == description


@pytest.mark.parametrize(("data", "error"), [(b"text", NotAnImage), (pictures.png_header(2000, 2000), ImageTooLarge)])
def test_errors_pass_through_and_travel_between_processes(data, error):
    with pytest.raises(error) as caught:
        describe(data, **LIMITS)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_worker_loads_no_heavy_library():
    heavy = ["cv2", "faiss", "scipy", "django", "requests", "psycopg"]
    program = f"import sys, matching.describe; print(*(m for m in {heavy} if m in sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_probe_has_the_codes_of_one_fingerprint_and_agrees_with_the_description() -> None:
    data = pictures.encoded(pictures.textured(3), "JPEG")
    described = describe(data, max_pixels=10**6, thumbnail_side=64)
    for name, code in described.fingerprints.items():
        probed = probe(data, fingerprint=name, max_pixels=10**6)
        assert probed.codes[0] == code
        assert (probed.sha256, probed.quality) == (described.sha256, described.quality)
    with pytest.raises(NotAnImage):
        probe(b"no picture", fingerprint="pdq", max_pixels=10**6)
