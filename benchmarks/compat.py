"""The documented hashes beside OpenCV's contrib build, and what SIFT_difference says of edited and of other pictures.

    python -m benchmarks.compat PHOTOS_FOLDER

takes 200 photos, a seeded sample over all subfolders, for the hashes, and 24 of them for the differences. The contrib
build is installed with pip into a virtual environment of its own in a temporary folder, which is removed afterwards:
beside the plain build it would replace it. `--contrib PYTHON` names an interpreter that has it already. Exits with 1
when a hash differs or SIFT_difference is not 0.0 for identical pictures and the same both ways round.
"""

import argparse
import io
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.table import Cell, table
from matching.compare import sift_difference_of
from matching.fingerprints.opencv import opencv_hashes_of
from matching.image import DEFAULT_MAX_PIXELS, decode

PHOTOS = 200
COMPARED = 24
SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif"}

# Runs in the contrib build's interpreter: pixels in numpy's files, codes in hex out. Its input is BGR, as OpenCV reads.
REFERENCE = """
import json, sys, pathlib, cv2, numpy
block, dct = cv2.img_hash.BlockMeanHash_create(1), cv2.img_hash.PHash_create()
codes = {}
for path in pathlib.Path(sys.argv[1]).glob("*.npy"):
    bgr = numpy.ascontiguousarray(numpy.load(path)[:, :, ::-1])
    codes[path.stem] = {"bmh1": block.compute(bgr).tobytes().hex(), "phash": dct.compute(bgr).tobytes().hex()}
print(json.dumps({"version": cv2.__version__, "codes": codes}))
"""


def saved(image: Image.Image, image_format: str = "JPEG", **options: int) -> bytes:
    """The picture as a file, JPEG of quality 90 unless told."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **({"quality": 90, **options} if image_format == "JPEG" else options))
    return buffer.getvalue()


def resized(image: Image.Image, share: float) -> Image.Image:
    """Both sides times `share`."""
    size = (round(image.width * share), round(image.height * share))
    return image.resize(size, Image.Resampling.LANCZOS)


def cropped(image: Image.Image, share: float) -> Image.Image:
    """The middle, both sides times `share`."""
    left, top = round(image.width * (1 - share) / 2), round(image.height * (1 - share) / 2)
    return image.crop((left, top, image.width - left, image.height - top))


EDITS: dict[str, Callable[[Image.Image], bytes]] = {
    "PNG": lambda image: saved(image, "PNG"),
    "JPEG quality 90": saved,
    "JPEG quality 50": lambda image: saved(image, quality=50),
    "resized to 75 %": lambda image: saved(resized(image, 0.75)),
    "resized to 50 %": lambda image: saved(resized(image, 0.5)),
    "rotated by 90": lambda image: saved(image.transpose(Image.Transpose.ROTATE_90)),
    "cropped to 80 %": lambda image: saved(cropped(image, 0.8)),
    "flipped": lambda image: saved(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
}


def contrib(folder: Path) -> Path:
    """An interpreter with the contrib build of our OpenCV's version, installed under `folder`."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    build = f"opencv-contrib-python-headless=={metadata.version('opencv-python-headless')}"
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", build, "numpy"]
    subprocess.run(command, check=True)
    return python


def reference_codes(contents: list[bytes], python: Path, work: Path) -> tuple[str, dict[int, dict[str, str]]]:
    """OpenCV's version and, by a photo's position, its codes in hex."""
    work.mkdir()
    for position, data in enumerate(contents):
        np.save(work / f"{position}.npy", np.asarray(decode(data).rgb))
    answer = json.loads(subprocess.run([python, "-c", REFERENCE, work], check=True, capture_output=True).stdout)
    return answer["version"], {int(position): codes for position, codes in answer["codes"].items()}


def hashes(contents: list[bytes], python: Path, work: Path) -> bool:
    """Print how many photos get the contrib build's codes; whether all do."""
    version, theirs = reference_codes(contents, python, work)
    equal = {"bmh1": 0, "phash": 0}
    for position, data in enumerate(contents):
        ours = opencv_hashes_of(data, bmh1=True, phash=True, max_pixels=DEFAULT_MAX_PIXELS).codes
        for name, code in ours.items():
            equal[name] += code.hex() == theirs[position][name]
    names = {"bmh1": "BlockMeanHash, mode 1", "phash": "PHash"}
    rows: list[list[Cell]] = [[name, names[name], len(contents), count] for name, count in equal.items()]
    print(f"Beside opencv-contrib {version}:\n")
    print(table(["hash", "OpenCV's name", "photos", "equal bit for bit"], rows) + "\n")
    return all(count == len(contents) for count in equal.values())


def differences(contents: list[bytes]) -> bool:
    """Print SIFT_difference of each photo to its edits and of every two photos; whether it is exact and symmetric."""
    asymmetry = 0.0

    def difference(first: bytes, second: bytes) -> float:
        nonlocal asymmetry
        there, back = (
            sift_difference_of(*pair, max_pixels=DEFAULT_MAX_PIXELS) for pair in ((first, second), (second, first))
        )
        asymmetry = max(asymmetry, abs(there - back))
        return there

    scores = {"identical": [difference(data, data) for data in contents]}
    images = [decode(data).rgb for data in contents]
    for name, edit in EDITS.items():
        scores[name] = [difference(data, edit(image)) for data, image in zip(contents, images, strict=True)]
    unrelated = {pair: difference(*(contents[i] for i in pair)) for pair in itertools.combinations(range(COMPARED), 2)}
    rows: list[list[Cell]] = [
        [name, len(some), statistics.mean(some), min(some), max(some)]
        for name, some in [*scores.items(), ("unrelated", list(unrelated.values()))]
    ]
    print(table(["second picture", "pairs", "mean", "least", "most"], rows) + "\n")
    print(f"Identical: {max(scores['identical'])} at most. The other way round: {asymmetry:.0e} apart at most.")
    for but, edits in (("", scores), (" but flips", {name: scores[name] for name in scores if name != "flipped"})):
        worst = [max(some[position] for some in edits.values()) for position in range(COMPARED)]
        nearest = [min(score for pair, score in unrelated.items() if i in pair) for i in range(COMPARED)]
        own = sum(edited < other for edited, other in zip(worst, nearest, strict=True))
        below = sum(score > max(worst) for score in unrelated.values())
        print(
            f"Every edit{but}: {own} of {COMPARED} photos are nearer to all their own than to any other photo;"
            f" {below} of {len(unrelated)} unrelated pairs score above the highest of all edits, {max(worst):.1f}"
            f" (lowest unrelated {min(nearest):.1f})."
        )
    return max(scores["identical"]) == 0.0 and asymmetry <= 1e-6


def main() -> None:
    """Run all of it on the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--contrib", type=Path, help="a Python that has the contrib build already")
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.photos.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(paths) < COMPARED:
        parser.error(f"{arguments.photos} holds fewer than {COMPARED} images")
    contents = [path.read_bytes() for path in random.Random(1).sample(paths, min(PHOTOS, len(paths)))]
    with tempfile.TemporaryDirectory() as folder:
        python = arguments.contrib or contrib(Path(folder) / "contrib")
        equal = hashes(contents, python, Path(folder) / "pixels")
    exact = differences(contents[:COMPARED])
    sys.exit(0 if equal and exact else 1)


if __name__ == "__main__":
    main()
