"""Our fingerprints beside imagehash and pdqhash: distances on the same pixels and processor time.

    python -m benchmarks.fingerprints PHOTOS_FOLDER

takes 300 photos, a seeded sample over all subfolders, and then counts PDQ's quality over all photos. All of it
runs on one thread; times are processor milliseconds for an image that is already decoded, each fingerprint
alone, with all that it has to prepare.
"""

# ruff: noqa: E402 - the thread counts must be set before numpy loads its BLAS
import os

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"

import argparse
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import imagehash
import numpy as np
import pdqhash
from PIL import Image

from matching.describe import describe
from matching.fingerprints import FINGERPRINTS, PDQ_FINGERPRINT, Fingerprint, Pixels
from matching.image import DEFAULT_MAX_PIXELS, decode

Given = TypeVar("Given")
Got = TypeVar("Got")

SAMPLE = 300
THUMBNAIL_SIDE = 256
SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif"}


def ours(fingerprint: Fingerprint, image: Image.Image) -> bytes:
    """Our code, nothing shared with other fingerprints."""
    return fingerprint.compute(Pixels(image))


def theirs(name: str, image: Image.Image) -> bytes:
    """The package's code in our byte order."""
    if name == "pdq":
        return np.packbits(pdqhash.compute(np.asarray(image))[0]).tobytes()
    function = {"phash": imagehash.phash, "dhash": imagehash.dhash, "ahash": imagehash.average_hash}[name]
    return bytes.fromhex(str(function(image)))


def timed(compute: Callable[[Given], Got], given: Given) -> tuple[Got, float]:
    """The result and the processor time in milliseconds, the better of two runs."""
    times = []
    for _ in range(2):
        started = time.process_time_ns()
        result = compute(given)
        times.append((time.process_time_ns() - started) / 1e6)
    return result, min(times)


def compare(images: list[Image.Image]) -> None:
    """Print distances and times of each fingerprint, ours against theirs."""
    print(f"{'fingerprint':>12}{'equal':>10}{'median':>8}{'p99':>6}{'max':>6}{'ours ms':>10}{'theirs ms':>11}")
    for name, fingerprint in FINGERPRINTS.items():
        mine = [timed(partial(ours, fingerprint), image) for image in images]
        other = [timed(partial(theirs, name), image) for image in images]
        distances = [
            (int.from_bytes(a) ^ int.from_bytes(b)).bit_count() for (a, _), (b, _) in zip(mine, other, strict=True)
        ]
        equal = f"{distances.count(0)}/{len(distances)}"
        median, p99, largest = np.percentile(distances, (50, 99, 100))
        mine_ms, other_ms = (statistics.mean(spent for _, spent in runs) for runs in (mine, other))
        print(f"{name:>12}{equal:>10}{median:>8.0f}{p99:>6.0f}{largest:>6.0f}{mine_ms:>10.3f}{other_ms:>11.3f}")


def whole(contents: list[bytes]) -> None:
    """Print the time from bytes to description, and how much of it is decoding."""
    describing = partial(describe, max_pixels=DEFAULT_MAX_PIXELS, thumbnail_side=THUMBNAIL_SIDE)
    decode_ms = statistics.mean(timed(decode, data)[1] for data in contents)
    describe_ms = statistics.mean(timed(describing, data)[1] for data in contents)
    print(f"\ndecode {decode_ms:.2f} ms, describe {describe_ms:.2f} ms an image (decoding included)")


def qualities(paths: list[Path]) -> None:
    """Print how many pictures have too little texture for PDQ."""
    values = sorted(PDQ_FINGERPRINT.quality(Pixels(decode(path.read_bytes()).rgb)) for path in paths)
    low, very_low = (sum(value < limit for value in values) for limit in (50, 30))
    print(
        f"\nPDQ quality of {len(values)} photos: {low} below 50, {very_low} below 30,"
        f" median {statistics.median(values):.0f}, lowest ten {values[:10]}"
    )


def main() -> None:
    """Run all of it on the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    folder = parser.parse_args().photos
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        parser.error(f"{folder} holds no image")
    contents = [path.read_bytes() for path in random.Random(1).sample(paths, min(SAMPLE, len(paths)))]
    images = [decode(data).rgb for data in contents]
    sizes = [image.width * image.height / 1e6 for image in images]
    print(f"{len(images)} photos, median {statistics.median(sizes):.2f}, largest {max(sizes):.1f} megapixels\n")
    compare(images)
    whole(contents)
    qualities(paths)


if __name__ == "__main__":
    main()
