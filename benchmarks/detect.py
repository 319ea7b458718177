"""What the object detectors find on 20 photos with evident objects, and the processor time it takes.

    python -m benchmarks.detect PHOTOS_FOLDER [FASTESTDET_ONNX]

runs each detector on one thread. Times are processor milliseconds from the file's bytes to the detections, decoding
included, the better of two runs; memory is what the first picture adds to the process.
"""

import argparse
import statistics
import time
from pathlib import Path

from benchmarks.table import Cell, table
from matching.detect import DetectionResult, detect_of
from matching.image import DEFAULT_MAX_PIXELS, decode

EVIDENT = {
    "caltech101/1998.jpg": "airplane",
    "caltech101/1560.jpg": "car",
    "caltech101/1470.jpg": "clock",
    "caltech101/1434.jpg": "elephant",
    "caltech101/1274.jpg": "motorcycle",
    "caltech101/1436.jpg": "scissors",
    "caltech101/1326.jpg": "stop sign",
    "caltech101/1350.jpg": "umbrella",
    "imagenet-sample/0007.jpg": "toilet",
    "imagenet-sample/0014.jpg": "person",
    "imagenet-sample/0021.jpg": "bird",
    "imagenet-sample/0127.jpg": "zebra",
    "imagenet-sample/0140.jpg": "train",
    "imagenet-sample/0174.jpg": "boat",
    "imagenet-sample/0176.jpg": "chair",
    "imagenet-sample/0212.jpg": "tv",
    "imagenet-sample/0275.jpg": "cake",
    "imagenet-sample/0280.jpg": "laptop",
    "imagenet-sample/0284.jpg": "dog",
    "imagenet-sample/0294.jpg": "truck",
}
"""Photos chosen by looking at them, and what they evidently show: label by path in the folder of photos."""


def memory_mb() -> tuple[float, float]:
    """Resident memory and address space of this process (Linux) in MB."""
    pages = Path("/proc/self/statm").read_text().split()
    return int(pages[1]) * 4096 / 1e6, int(pages[0]) * 4096 / 1e6


def timed(data: bytes, model: str) -> tuple[DetectionResult, float]:
    """The result and the processor time in milliseconds, the better of two runs."""
    times = []
    for _ in range(2):
        started = time.process_time_ns()
        result = detect_of(data, model=model, max_pixels=DEFAULT_MAX_PIXELS)
        times.append((time.process_time_ns() - started) / 1e6)
    return result, min(times)


def run(folder: Path, model: str) -> None:
    """Print what one detector finds."""
    contents = {name: (folder / name).read_bytes() for name in EVIDENT}
    first = next(iter(contents.values()))
    decode(first)
    resident, space = memory_mb()
    started = time.perf_counter()
    name = detect_of(first, model=model, max_pixels=DEFAULT_MAX_PIXELS).detector
    took = (time.perf_counter() - started) * 1e3
    resident_after, space_after = memory_mb()

    rows: list[list[Cell]] = []
    times: list[float] = []
    right = 0
    for photo, expected in EVIDENT.items():
        result, spent = timed(contents[photo], model)
        times.append(spent)
        found = [f"{one.label} {one.score:.2f}" for one in result.detections]
        hit = expected in (one.label for one in result.detections)
        right += hit
        rows.append([photo, expected, "yes" if hit else "NO", spent, ", ".join(found)])
    print(table(["photo", "shows", "found", "ms", "all that was found"], rows))
    print(
        f"\n{name}: {right} of {len(EVIDENT)}; {statistics.median(times):.1f} ms of processor time a photo (median);"
        f" the first photo took {took:.0f} ms and added {resident_after - resident:.0f} MB resident,"
        f" {space_after - space:.0f} MB address space (OpenCV and the network)\n"
    )


def main() -> None:
    """Run the default detector, and FastestDet where its file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("model", nargs="?", default="")
    arguments = parser.parse_args()
    run(arguments.photos, "")
    if arguments.model:
        run(arguments.photos, arguments.model)


if __name__ == "__main__":
    main()
