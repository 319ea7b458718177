"""Real photos through the whole service over HTTP: in, and found again when edited; strangers find nothing.

    python -m benchmarks.real PHOTOS_FOLDER [--json FILE] [--sheets FOLDER]

1. Every photo goes into a collection, half by URL from a local server, half by upload. Goal: no error.
2. 200 of them come back at half size, as JPEG of quality 30, in grey, as PNG and as WebP; half of the searches
   upload the file, half send base64. Goal: the right photo is first in at least 99 of 100. Misses are listed.
3. A second collection holds all but 100 photos, and is searched for these. Goal: nothing is found but what is a copy
   in the folder itself. What is found is listed with its likeness, the correlation of the two pictures at 64 x 64
   grey, which owes nothing to the fingerprint; below 0.9 it counts as a false match. So are all pairs of the folder
   within the radius; `--sheets` writes the pictures of each pair side by side, for eyes to judge.
4. Latencies of one client with nothing beside it.

The service is the one of `make run`: two web workers, embedded Postgres. The exit status is 1 if a goal is missed.
"""

import argparse
import base64
import io
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import requests
from PIL import Image

from benchmarks.service import Service
from benchmarks.table import p50_p99, table
from matching.describe import describe
from matching.types import MIN_QUALITY
from tests.image_server import ImageServer

SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif"}
EDITED = 200
HELD_OUT = 100
CLIENTS = 4
TIMED = 300
GOAL = 0.99
ALIKE = 0.9
TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Miss:
    """A search whose first hit was not the photo it came from, and why."""

    photo: str
    edit: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two photos within the radius, and their distance in bits."""

    photo: str
    other: str
    distance: int


@dataclass(slots=True)
class Phase:
    """What one stretch of requests took: seconds, latencies in milliseconds, processor seconds by part, errors."""

    name: str
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def row(self) -> tuple[str | int | float, ...]:
        """Name, requests, errors, requests a second, p50, p99, and processor milliseconds a request by part."""
        count = max(1, len(self.latencies))
        spent = (1000 * self.cpu[part] / count for part in ("web", "decode", "postgres"))
        rate = len(self.latencies) / self.seconds
        return self.name, len(self.latencies), len(self.errors), rate, *p50_p99(self.latencies), *spent


PHASE_HEAD = (
    "phase", "requests", "errors", "a second", "p50 ms", "p99 ms", "web CPU ms", "decode CPU ms", "Postgres CPU ms",
)  # fmt: skip


class Client:
    """Threads that call the service, each over a connection that it keeps."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._local = threading.local()

    @property
    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = self._service.session()
        session: requests.Session = self._local.session
        return session

    def call(self, path: str, **request: Any) -> Any:
        """POST; the answer's JSON. Raises requests.RequestException, with the body of an answer that is an error."""
        answer = self._session.post(self._service.url(path), timeout=TIMEOUT_S, **request)
        if not answer.ok:
            raise requests.HTTPError(f"{answer.status_code} {answer.text[:300]}", response=answer)
        return answer.json()

    def image(self, path: str) -> Any:
        """GET; the answer's JSON."""
        answer = self._session.get(self._service.url(path), timeout=TIMEOUT_S)
        answer.raise_for_status()
        return answer.json()


@contextmanager
def phase(name: str, service: Service) -> Iterator[Phase]:
    """Measure what happens in the block."""
    measured, before, began = Phase(name), service.cpu_seconds(), time.monotonic()
    yield measured
    measured.seconds = time.monotonic() - began
    after = service.cpu_seconds()
    measured.cpu = {part: after[part] - before[part] for part in after}


def spread(work: Callable[[Any], Any], items: Sequence[Any], measured: Phase, *, clients: int) -> list[Any]:
    """Do the work for each item on so many threads; the results in order, None where it failed."""

    def timed(item: Any) -> Any:
        began = time.perf_counter()
        try:
            return work(item)
        except requests.RequestException as exc:
            measured.errors.append(f"{item}: {exc}"[:500])
            return None
        finally:
            measured.latencies.append((time.perf_counter() - began) * 1000)

    with ThreadPoolExecutor(clients) as threads:
        return list(threads.map(timed, items))


# --- pictures


def edits(data: bytes) -> dict[str, bytes]:
    """The photo as it comes back: five versions of the file."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    half = image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.LANCZOS)
    return {
        "half size": _encoded(half, "JPEG", quality=90),
        "JPEG quality 30": _encoded(image, "JPEG", quality=30),
        "grey": _encoded(image.convert("L"), "JPEG", quality=90),
        "PNG": _encoded(image, "PNG"),
        "WebP": _encoded(image, "WEBP", quality=80),
    }


def _encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def likeness(one: Path, other: Path) -> float:
    """The correlation of two pictures at 64 x 64 grey, -1 to 1."""
    first, second = (np.asarray(Image.open(path).convert("L").resize((64, 64))).ravel() for path in (one, other))
    return float(np.corrcoef(first, second)[0, 1])


def sheet(pairs: Sequence[Pair], folder: Path, target: Path) -> None:
    """Both pictures of each pair side by side, ten pairs to a column."""
    side, gap, rows = 160, 8, 10
    columns = -(-len(pairs) // rows)
    page = Image.new("RGB", (columns * (2 * side + 3 * gap), min(rows, len(pairs)) * (side + gap)), "white")
    for number, pair in enumerate(pairs):
        column, row = divmod(number, rows)
        for place, name in enumerate((pair.photo, pair.other)):
            image = Image.open(folder / name).convert("RGB")
            image.thumbnail((side, side))
            page.paste(image, (column * (2 * side + 3 * gap) + place * (side + gap), row * (side + gap)))
    page.save(target)


# --- the parts


class Benchmark:
    """The photos, the service that is asked about them, and what came out."""

    def __init__(self, folder: Path, service: Service, server: ImageServer) -> None:
        self.folder = folder
        self.photos = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES
        )
        self._service = service
        self._server = server
        self._client = Client(service)
        self._random = random.Random(1)
        self.phases: list[Phase] = []

    def index(self, collection: str, photos: Sequence[str], name: str) -> None:
        """Put the photos in, the even ones by URL, the odd ones by upload."""
        self._client.call("/v3/collections", json={"name": collection})

        def put(numbered: tuple[int, str]) -> None:
            number, photo = numbered
            path = f"/v3/collections/{collection}/images"
            if number % 2 == 0:
                self._client.call(path, json={"url": self._server.url(f"/{quote(photo)}"), "id": photo})
            else:
                self._client.call(path, files={"file": self._bytes(photo)}, data={"id": photo})

        with self._phase(name) as measured:
            spread(put, list(enumerate(photos)), measured, clients=CLIENTS)

    def find_edited(self, collection: str) -> tuple[Counter[str], Counter[str], list[Miss]]:
        """How many searches there were of each edit, how many had the right photo first, and the misses."""
        chosen = sorted(self._random.sample(self.photos, min(EDITED, len(self.photos))))
        queries = [(photo, edit, data) for photo in chosen for edit, data in edits(self._bytes(photo)).items()]
        tried, right, misses = Counter[str](), Counter[str](), []

        def ask(numbered: tuple[int, tuple[str, str, bytes]]) -> Any:
            number, (_, _, data) = numbered
            return self._search(collection, data, as_text=number % 2 == 1)

        with self._phase("search for edited copies") as measured:
            answers = spread(ask, list(enumerate(queries)), measured, clients=CLIENTS)
        for (photo, edit, data), answer in zip(queries, answers, strict=True):
            tried[edit] += 1
            results = answer["results"] if answer else []
            if results and results[0]["id"] == photo:
                right[edit] += 1
            else:
                misses.append(Miss(photo, edit, self._reason(collection, photo, data, answer)))
        return tried, right, misses

    def _reason(self, collection: str, photo: str, data: bytes, answer: Any) -> str:
        if answer is None:
            return "the search failed"
        query = describe(data, max_pixels=10**9, thumbnail_side=16)
        if query.quality < MIN_QUALITY:
            return f"featureless: quality {query.quality}"
        stored = self._client.image(f"/v3/collections/{collection}/images/{quote(photo)}")
        if stored["quality"] < MIN_QUALITY:
            return f"stored as featureless: quality {stored['quality']}"
        distance = _distance(query.fingerprints["pdq"].hex(), stored["fingerprints"]["pdq"])
        if not answer["results"]:
            return f"not found: distance {distance}"
        first = answer["results"][0]
        place = next((i for i, hit in enumerate(answer["results"], 1) if hit["id"] == photo), None)
        where = f"is number {place}" if place else "is not among the hits"
        return f"{first['id']} came first at {first['distance']}; the photo at {distance} {where}"

    def held_out(self, collection: str) -> list[Pair]:
        """Index all photos but some, and search for these: what is found."""
        strangers = set(self._random.sample(self.photos, min(HELD_OUT, len(self.photos) // 2)))
        self.index(collection, [photo for photo in self.photos if photo not in strangers], "index a second collection")
        with self._phase("search for strangers") as measured:
            answers = spread(
                lambda photo: self._search(collection, self._bytes(photo), as_text=False),
                sorted(strangers),
                measured,
                clients=CLIENTS,
            )
        return [
            Pair(photo, hit["id"], hit["distance"])
            for photo, answer in zip(sorted(strangers), answers, strict=True)
            for hit in (answer or {"results": []})["results"]
        ]

    def own_pairs(self, collection: str) -> list[Pair]:
        """The pairs of the folder within the radius, nearest first."""
        with self._phase("search for every id") as measured:
            answers = spread(
                lambda photo: self._client.call(f"/v3/collections/{collection}/search", json={"id": photo}),
                self.photos,
                measured,
                clients=CLIENTS,
            )
        pairs = {
            (*sorted((photo, hit["id"])), hit["distance"])
            for photo, answer in zip(self.photos, answers, strict=True)
            for hit in (answer or {"results": []})["results"]
            if hit["id"] != photo
        }
        return sorted((Pair(*pair) for pair in pairs), key=lambda pair: (pair.distance, pair.photo))

    def latencies(self, collection: str) -> None:
        """One client, one request after another."""
        path = f"/v3/collections/{collection}"
        chosen = self._random.sample(self.photos, min(TIMED, len(self.photos)))
        hashes = {photo: self._client.image(f"{path}/images/{quote(photo)}")["fingerprints"]["pdq"] for photo in chosen}
        self._client.call("/v3/collections", json={"name": "timed"})
        works: dict[str, Callable[[Any], Any]] = {
            "search by hash": lambda photo: self._client.call(f"{path}/search", json={"hash": hashes[photo]}),
            "search by id": lambda photo: self._client.call(f"{path}/search", json={"id": photo}),
            "search by upload": lambda photo: self._search(collection, self._bytes(photo), as_text=False),
            "search by base64": lambda photo: self._search(collection, self._bytes(photo), as_text=True),
            "index by upload": lambda photo: self._client.call(
                "/v3/collections/timed/images", files={"file": self._bytes(photo)}, data={"id": photo}
            ),
        }
        for name, work in works.items():
            with self._phase(f"{name}, one client") as measured:
                spread(work, chosen, measured, clients=1)

    def _search(self, collection: str, data: bytes, *, as_text: bool) -> Any:
        path = f"/v3/collections/{collection}/search"
        if as_text:
            return self._client.call(path, json={"base64": base64.b64encode(data).decode()})
        return self._client.call(path, files={"file": data})

    def _bytes(self, photo: str) -> bytes:
        return (self.folder / photo).read_bytes()

    @contextmanager
    def _phase(self, name: str) -> Iterator[Phase]:
        with phase(name, self._service) as measured:
            yield measured
        self.phases.append(measured)


def _distance(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def main() -> int:
    """Run all parts and print what came out; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheets", type=Path, help="a folder for pictures of the pairs")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="imgindex-real-") as folder,
        ImageServer(options.photos) as server,
        Service(Path(folder, "data"), settings={"FETCH_ALLOW": f"127.0.0.1:{server.port}"}) as service,
    ):
        benchmark = Benchmark(options.photos, service, server)
        if not benchmark.photos:
            parser.error(f"{options.photos} holds no image")
        benchmark.index("photos", benchmark.photos, "index, half by URL, half by upload")
        tried, right, misses = benchmark.find_edited("photos")
        strangers = benchmark.held_out("others")
        pairs = benchmark.own_pairs("photos")
        benchmark.latencies("photos")
    return _report(benchmark, tried, right, misses, strangers, pairs, options)


def _report(
    benchmark: Benchmark,
    tried: Counter[str],
    right: Counter[str],
    misses: list[Miss],
    strangers: list[Pair],
    pairs: list[Pair],
    options: argparse.Namespace,
) -> int:
    print(table(PHASE_HEAD, [measured.row() for measured in benchmark.phases]), "\n")
    rows: list[tuple[str | int | float, ...]] = [
        (edit, tried[edit], right[edit], 100 * right[edit] / tried[edit]) for edit in tried
    ]
    share = right.total() / max(1, tried.total())
    rows.append(("all", tried.total(), right.total(), 100 * share))
    print(table(["edit", "searches", "right photo first", "per cent"], rows), "\n")
    for miss in misses:
        print(f"miss: {miss.photo}, {miss.edit}: {miss.reason}")
    alike = {
        pair: likeness(benchmark.folder / pair.photo, benchmark.folder / pair.other) for pair in [*strangers, *pairs]
    }
    print(f"\n{HELD_OUT} photos that are not indexed found {len(strangers)} images")
    for pair in strangers:
        print(f"found: {pair.photo} -> {pair.other} at {pair.distance}, likeness {alike[pair]:.3f}")
    print(f"\n{len(pairs)} pairs of the folder are within the radius")
    for pair in pairs:
        print(f"pair: {pair.photo} and {pair.other} at {pair.distance}, likeness {alike[pair]:.3f}")
    if options.sheets:
        options.sheets.mkdir(parents=True, exist_ok=True)
        for name, shown in (("strangers", strangers), ("pairs", pairs)):
            for start in range(0, len(shown), 40):
                sheet(shown[start : start + 40], benchmark.folder, options.sheets / f"{name}-{start:04d}.png")
    errors = [error for measured in benchmark.phases for error in measured.errors]
    for error in errors[:20]:
        print("error:", error)
    if options.json:
        figures = {
            "phases": [dict(zip(PHASE_HEAD, measured.row(), strict=True)) for measured in benchmark.phases],
            "edits": {edit: [right[edit], tried[edit]] for edit in tried},
            "misses": [[miss.photo, miss.edit, miss.reason] for miss in misses],
            "strangers": [[pair.photo, pair.other, pair.distance, alike[pair]] for pair in strangers],
            "pairs": [[pair.photo, pair.other, pair.distance, alike[pair]] for pair in pairs],
            "errors": errors,
        }
        options.json.write_text(json.dumps(figures, indent=1))
    false_matches = [pair for pair in strangers if alike[pair] < ALIKE]
    return 1 if errors or share < GOAL or false_matches else 0


if __name__ == "__main__":
    sys.exit(main())
