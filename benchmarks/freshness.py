"""Does every search see every acknowledged write? One process writes, another one searches, others write meanwhile.

    python -m benchmarks.freshness [--pairs 10000] [--writers 4] [--http-pairs 500] [--json FILE]

A pair is one write through the service layer and, once it is acknowledged, a search in another process: what was
added must be found, what was replaced must be found as it is now and not as it was, what was deleted must be gone.
The background writers put random codes into the same collection all the time. The last part does the same through
HTTP against two web workers, each request over a connection of its own. Everything stands on one embedded Postgres
in a temporary folder. The exit status is 1 if any answer was stale.
"""

import argparse
import base64
import io
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmarks.service import Service
from benchmarks.table import p50_p99, table
from matching.describe import describe
from matching.types import MIN_QUALITY

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Event

COLLECTION = "default"
RADIUS = 31
PICTURES = 200
SLOTS = 50
"""How many ids are in play at once; each is added, replaced, deleted and added again."""

_EVERY_NTH_BY_PICTURE = 10
_MANY = 1000

_spawning = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Place:
    """How a process gets to the database: the settings to load, and the database's name where tests have their own."""

    settings: str
    database: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A generated picture: a JPEG, and its PDQ fingerprint in hexadecimal."""

    data: bytes
    pdq: str


@dataclass(frozen=True, slots=True)
class Check:
    """What a search for a picture must say about an id."""

    picture: int
    image_id: str
    found: bool


@dataclass(frozen=True, slots=True)
class Question:
    """What the searching process is asked after a write whose change has the number `seq`."""

    checks: tuple[Check, ...]
    seq: int
    by_picture: bool
    timed: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What the searching process saw: what was stale; where asked, how long catching up took and what it brought."""

    stale: list[str]
    catch_up_ms: float | None
    applied: int


@dataclass(slots=True)
class Result:
    """The figures of a run; times in milliseconds."""

    pairs: int = 0
    searches: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)
    catch_up_ms: list[float] = field(default_factory=list)
    applied: list[int] = field(default_factory=list)
    write_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    background_writes: int = 0


@cache
def pictures(count: int = PICTURES) -> list[Picture]:
    """Distinct textured pictures, the same in every process; any two are further apart than a search's radius."""
    made = []
    for seed in range(count):
        noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).resize((192, 144), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        described = describe(buffer.getvalue(), max_pixels=10**6, thumbnail_side=64)
        if described.quality < MIN_QUALITY:
            raise AssertionError(f"picture {seed} is featureless")
        made.append(Picture(buffer.getvalue(), described.fingerprints["pdq"].hex()))
    codes = np.array([list(bytes.fromhex(picture.pdq)) for picture in made], dtype=np.uint8)
    distances = np.bitwise_count(codes[:, None] ^ codes[None]).sum(axis=2, dtype=np.int64)
    np.fill_diagonal(distances, 256)
    if distances.min() <= RADIUS:
        raise AssertionError("two of the pictures are near-duplicates")
    return made


# --- the processes


def enter(place: Place) -> None:
    """Make this process one of the service's."""
    os.environ["DJANGO_SETTINGS_MODULE"] = place.settings
    import django
    from django.db import connections

    django.setup()
    connections["default"].settings_dict["NAME"] = place.database


def _leave() -> None:
    """End this process's part of the service."""
    from django.conf import settings
    from django.db import connections

    from imgindex.postgres import embedded
    from imgindex.services import describe

    describe.stop_pool()
    connections.close_all()
    if not settings.DATABASE_URL:
        embedded(settings.DATA_DIR).release()


def searcher(place: Place, line: "Connection") -> None:
    """Answer the questions on the line until None comes; a number of them asks for that many checks with no news."""
    enter(place)
    from imgindex.services import sync

    pictures()
    try:
        known = sync.replica.catch_up().position.seq
        line.send(None)
        while (question := line.recv()) is not None:
            if isinstance(question, int):
                line.send(_idle_checks(question))
            else:
                line.send(_answer(question, known))
                known = sync.replica.catch_up().position.seq
    finally:
        _leave()


def _idle_checks(count: int) -> list[float]:
    """Milliseconds of each of so many checks."""
    from imgindex.services import sync

    taken = []
    for _ in range(count):
        started = time.perf_counter()
        sync.replica.catch_up()
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def _answer(question: Question, known: int) -> Answer:
    """Time the check where asked, which brings in all changes since `known`; then search."""
    from imgindex.services import sync

    catch_up_ms, applied = None, 0
    if question.timed:
        started = time.perf_counter()
        seq = sync.replica.catch_up().position.seq
        catch_up_ms, applied = (time.perf_counter() - started) * 1000, seq - known
    return Answer([text for check in question.checks for text in _stale(check, question)], catch_up_ms, applied)


def _stale(check: Check, question: Question) -> Iterator[str]:
    """What is wrong with the answer to a search, if anything."""
    from imgindex.services.access import DEFAULT_TENANT
    from imgindex.services.describe import FromUpload
    from imgindex.services.search import ByHash, search
    from imgindex.types import Caller

    picture = pictures()[check.picture]
    answer = search(
        caller=Caller(DEFAULT_TENANT),
        collection=COLLECTION,
        query=FromUpload(io.BytesIO(picture.data)) if question.by_picture else ByHash(picture.pdq),
        max_distance=RADIUS,
        limit=_MANY,
    )
    if answer.indexed_through < question.seq:
        yield f"{check}: the answer stops at {answer.indexed_through}, before the acknowledged {question.seq}"
    if (check.image_id in {hit.image.id for hit in answer.hits}) != check.found:
        yield f"{check}: {'missing' if check.found else 'still found'} after {question.seq}"


def background_writer(place: Place, number: int, stop: "Event", written: Any) -> None:
    """Put, replace and delete random codes until told to stop; counts its writes in `written`."""
    enter(place)
    from imgindex.services import catalogue
    from imgindex.services.access import DEFAULT_TENANT
    from imgindex.store import changes, images
    from imgindex.types import Caller
    from matching.fingerprints import RECIPE_VERSION
    from matching.types import Description

    random_codes = random.Random(number)
    collection = catalogue.collection_get(caller=Caller(DEFAULT_TENANT), name=COLLECTION).id
    try:
        # The services would spend the time on decoding; from the lock on this is what they do.
        while not stop.is_set():
            image_id = f"background-{number}-{random_codes.randrange(500)}"
            description = Description(
                width=1,
                height=1,
                format="JPEG",
                size=1,
                sha256=random_codes.randbytes(32).hex(),
                fingerprints={
                    name: random_codes.randbytes(size)
                    for name, size in (("pdq", 32), ("phash", 8), ("dhash", 8), ("ahash", 8))
                },
                quality=100,
                thumbnail=b"",
            )
            delete = random_codes.random() < 0.25
            with changes.write() as log:
                if delete and (deleted := images.delete(collection=collection, image_id=image_id)):
                    log.record("d", collection=collection, images=[deleted[0]])
                else:
                    stored = images.upsert(
                        collection=collection,
                        image_id=image_id,
                        source_url="",
                        metadata={},
                        description=description,
                        recipe=RECIPE_VERSION,
                        media=images.Media(thumbnail="", original=""),
                    )
                    log.record("p", collection=collection, images=[stored.image.pk])
            written.value += 1
    finally:
        _leave()


@contextmanager
def searching(place: Place) -> Iterator["Connection"]:
    """A process that searches, and the line to it."""
    here, there = _spawning.Pipe()
    process = _spawning.Process(target=searcher, args=[place, there], name="searcher")
    process.start()
    there.close()
    try:
        here.recv()
        yield here
        here.send(None)
        process.join(30)
    finally:
        process.kill()
        process.join(10)


@dataclass(frozen=True, slots=True)
class Background:
    """The background writers, and what they have done so far."""

    counters: Sequence[Any]

    def writes(self) -> int:
        """Acknowledged writes so far."""
        return sum(counter.value for counter in self.counters)


@contextmanager
def writing(place: Place, writers: int) -> Iterator[Background]:
    """Processes that write all the time; raises RuntimeError where one failed."""
    stop = _spawning.Event()
    counters = [_spawning.Value("Q", 0, lock=False) for _ in range(writers)]
    processes = [
        _spawning.Process(target=background_writer, args=[place, number, stop, counter], name=f"writer-{number}")
        for number, counter in enumerate(counters)
    ]
    for process in processes:
        process.start()
    try:
        deadline = time.monotonic() + 60
        while not all(counter.value for counter in counters):
            if time.monotonic() > deadline or any(process.exitcode for process in processes):
                raise RuntimeError("a background writer did not begin")
            time.sleep(0.02)
        yield Background(counters)
        stop.set()
        for process in processes:
            process.join(30)
        if any(process.exitcode != 0 for process in processes):
            raise RuntimeError("a background writer failed")
    finally:
        stop.set()
        for process in processes:
            process.kill()
            process.join(10)


# --- the pairs


class Slots:
    """The measured ids: which picture each holds now, and what comes next for it."""

    def __init__(self, *, seed: int) -> None:
        self._random = random.Random(seed)
        self._held: dict[str, int] = {}

    def next(self) -> tuple[str, str, int | None, tuple[Check, ...]]:
        """A kind of write, the id, the picture to put (None deletes), and what must be true after it."""
        image_id = f"slot-{self._random.randrange(SLOTS)}"
        held = self._held.pop(image_id, None)
        if held is not None and self._random.random() < 0.5:
            return "delete", image_id, None, (Check(held, image_id, False),)
        picture = self._random.choice([number for number in range(PICTURES) if number != held])
        self._held[image_id] = picture
        found = Check(picture, image_id, True)
        if held is None:
            return "add", image_id, picture, (found,)
        return "replace", image_id, picture, (found, Check(held, image_id, False))


def measure(*, line: "Connection", background: Background | None, pairs: int, seconds: float, seed: int = 1) -> Result:
    """So many pairs, or as many as fit into the time; this process writes, the one at the end of the line searches."""
    from imgindex.services import catalogue
    from imgindex.services.access import DEFAULT_TENANT
    from imgindex.services.describe import FromUpload
    from imgindex.types import Caller

    caller = Caller(DEFAULT_TENANT)
    slots, result = Slots(seed=seed), Result()
    # Ids of an earlier phase are out of the way: every phase begins with nothing known.
    prefix = f"{seed}-"
    written_before = background.writes() if background else 0
    began = time.monotonic()
    while result.pairs < pairs and time.monotonic() - began < seconds:
        kind, slot, picture, checks = slots.next()
        image_id = prefix + slot
        started = time.perf_counter()
        if picture is None:
            seq = catalogue.image_delete(caller=caller, collection=COLLECTION, image_id=image_id)
        else:
            source = FromUpload(io.BytesIO(pictures()[picture].data))
            seq = catalogue.image_put(caller=caller, collection=COLLECTION, source=source, image_id=image_id).seq
            result.write_ms.append((time.perf_counter() - started) * 1000)
        asked = tuple(Check(check.picture, prefix + check.image_id, check.found) for check in checks)
        by_picture = result.pairs % _EVERY_NTH_BY_PICTURE == 0
        line.send(Question(asked, seq, by_picture, timed=result.pairs % 2 == 0))
        answer: Answer = line.recv()
        result.pairs += 1
        result.searches += len(checks)
        result.by_kind[kind] += 1
        result.stale += answer.stale
        if answer.catch_up_ms is not None:
            result.catch_up_ms.append(answer.catch_up_ms)
            result.applied.append(answer.applied)
    result.seconds = time.monotonic() - began
    result.background_writes = background.writes() - written_before if background else 0
    return result


def over_http(*, service: Service, pairs: int, seconds: float, seed: int = 2) -> tuple[Result, Counter[str]]:
    """Pairs through the running service; also how many searches another worker answered than the one that wrote."""
    slots, result, answered = Slots(seed=seed), Result(), Counter[str]()
    workers = service.workers()
    path = f"/v3/collections/{COLLECTION}"

    def ask(method: str, where: str, body: Any = None) -> tuple[int, Any, int | None]:
        connection = service.connection()
        try:
            connection.connect()
            status, answer = service.ask(method, path + where, body, over=connection)
            return status, answer, service.worker_of(connection, among=workers)
        finally:
            connection.close()

    began = time.monotonic()
    while result.pairs < pairs and time.monotonic() - began < seconds:
        kind, image_id, picture, checks = slots.next()
        started = time.perf_counter()
        if picture is None:
            status, answer, writer = ask("DELETE", f"/images/{image_id}")
        else:
            text = base64.b64encode(pictures()[picture].data).decode()
            status, answer, writer = ask("PUT", f"/images/{image_id}", {"base64": text})
            result.write_ms.append((time.perf_counter() - started) * 1000)
        if status not in {200, 201}:
            raise RuntimeError(f"{kind} answered {status}: {answer}")
        for check in checks:
            query = {"hash": pictures()[check.picture].pdq, "max_distance": RADIUS, "limit": _MANY}
            status, found, reader = ask("POST", "/search", query)
            if status != 200 or found["indexed_through"] < answer["seq"]:
                result.stale.append(f"{check}: {status} {found}")
            elif (check.image_id in {hit["id"] for hit in found["results"]}) != check.found:
                result.stale.append(f"{check}: {'missing' if check.found else 'still found'}")
            result.searches += 1
            answered["by the worker that wrote" if reader == writer else "by the other worker"] += 1
        result.pairs += 1
        result.by_kind[kind] += 1
    result.seconds = time.monotonic() - began
    return result, answered


# --- the benchmark


def main() -> int:
    """Run all parts and print the tables; 1 if any answer was stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--http-pairs", type=int, default=500)
    parser.add_argument("--checks", type=int, default=5_000, help="checks timed while nobody writes")
    parser.add_argument("--seconds", type=float, default=1_200, help="the most that each part may take")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imgindex-freshness-") as folder:
        os.environ.update(DATA_DIR=f"{folder}/data", OMP_NUM_THREADS="1", LOG_LEVEL="WARNING")
        os.environ.pop("DATABASE_URL", None)
        place = Place("imgindex.settings", "imgindex")
        enter(place)
        try:
            stale, figures = _services(place, options)
        finally:
            _leave()
        with Service(Path(folder, "served")) as service:
            http_stale, http_figures = _http(service, options)
    figures["http"] = http_figures
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    for text in [*stale, *http_stale][:20]:
        print("STALE", text)
    return 1 if stale or http_stale else 0


def _services(place: Place, options: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    from django.core.management import call_command

    from imgindex.services import describe

    call_command("migrate", verbosity=0, interactive=False)
    pictures()
    describe.start_pool()
    with searching(place) as line:
        quiet = measure(line=line, background=None, pairs=options.pairs // 10, seconds=options.seconds, seed=3)
        line.send(options.checks)
        idle: list[float] = line.recv()
        with writing(place, options.writers) as background:
            alone_from, started = background.writes(), time.monotonic()
            time.sleep(5)
            alone = (background.writes() - alone_from) / (time.monotonic() - started)
            busy = measure(line=line, background=background, pairs=options.pairs, seconds=options.seconds)
    rows = [
        ("quiet", quiet.pairs, quiet.searches, len(quiet.stale), quiet.seconds, quiet.pairs / quiet.seconds),
        (
            f"{options.writers} writers beside",
            *(busy.pairs, busy.searches, len(busy.stale), busy.seconds, busy.pairs / busy.seconds),
        ),
    ]
    print(table(["pairs", "pairs", "searches", "stale", "seconds", "pairs/s"], rows), "\n")
    print("with writers beside:", dict(busy.by_kind), "\n")
    checks = [
        ("nothing changed", len(idle), 0.0, *p50_p99(idle)),
        ("after one write", len(quiet.catch_up_ms), *_spread(quiet)),
        (f"{options.writers} writers beside", len(busy.catch_up_ms), *_spread(busy)),
    ]
    print(table(["catch_up", "times", "changes applied (mean)", "p50 ms", "p99 ms"], checks), "\n")
    writes = [
        ("image_put, one process, quiet", 1000 / p50_p99(quiet.write_ms)[0], *p50_p99(quiet.write_ms)),
        ("image_put, writers beside", 1000 / p50_p99(busy.write_ms)[0], *p50_p99(busy.write_ms)),
    ]
    print(table(["writes", "1/p50 a second", "p50 ms", "p99 ms"], writes), "\n")
    rates = [
        (f"{options.writers} processes, nothing else", alone),
        (f"{options.writers} processes, beside the pairs", busy.background_writes / busy.seconds),
    ]
    print(table(["writes of codes", "a second"], rates), "\n")
    figures = {
        "quiet": _figures(quiet),
        "busy": _figures(busy),
        "idle_check_ms": p50_p99(idle),
        "code_writes_per_s": {"alone": alone, "beside": busy.background_writes / busy.seconds},
    }
    return [*quiet.stale, *busy.stale], figures


def _http(service: Service, options: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    result, answered = over_http(service=service, pairs=options.http_pairs, seconds=options.seconds)
    row = ("2 web workers", result.pairs, result.searches, len(result.stale), *p50_p99(result.write_ms))
    print(table(["over HTTP", "pairs", "searches", "stale", "write p50 ms", "write p99 ms"], [row]))
    print("\nsearches answered", dict(answered))
    return result.stale, {**_figures(result), "answered": dict(answered)}


def _spread(result: Result) -> tuple[float, float, float]:
    return sum(result.applied) / max(1, len(result.applied)), *p50_p99(result.catch_up_ms)


def _figures(result: Result) -> dict[str, Any]:
    return {
        "pairs": result.pairs,
        "searches": result.searches,
        "by_kind": dict(result.by_kind),
        "stale": result.stale,
        "seconds": result.seconds,
        "background_writes": result.background_writes,
        "catch_up_ms": p50_p99(result.catch_up_ms),
        "write_ms": p50_p99(result.write_ms),
        "applied": sum(result.applied),
    }


if __name__ == "__main__":
    sys.exit(main())
