"""Quotas: exact for all processes together, and what they cost a call.

    python -m benchmarks.quota [--processes 8] [--calls 200] [--limit 100] [--times 5000]

Exactness: so many processes, each with four threads on connections of their own, make so many calls with one key
whose plan allows `limit` calls a month; then once more with `limit` calls a second and the clock held still, and once
more as one anonymous client. Cost: the check of a key with its quota beside the bare check of a key and `SELECT 1`,
all through Django on one connection. It stands on an embedded Postgres in a temporary folder. The exit status is 1 if
any count was wrong.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from benchmarks.table import p50_p99, table

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

THREADS = 4
STILL = datetime(2030, 1, 1, tzinfo=UTC)
"""The time that the clock is held at; a number of seconds goes on top for each run."""

ADDRESS = "203.0.113.1"

_spawning = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Place:
    """How a process gets to the database: the settings to load, and the database's name where tests have their own."""

    settings: str
    database: str


def enter(place: Place) -> None:
    """Make this process one of the service's."""
    os.environ["DJANGO_SETTINGS_MODULE"] = place.settings
    import django
    from django.db import connections

    django.setup()
    connections["default"].settings_dict["NAME"] = place.database


def _leave() -> None:
    from django.conf import settings
    from django.db import connections

    from imgindex.postgres import embedded

    connections.close_all()
    if not settings.DATABASE_URL:
        embedded(settings.DATA_DIR).release()


def _call(key: str | None, now: datetime | None) -> str:
    """Make a call and say what became of it."""
    from imgindex.services import access
    from imgindex.types import ServiceError

    try:
        access.admit(key=key, address=ADDRESS, now=now)
    except ServiceError as exc:
        return type(exc).__name__
    return "allowed"


def _caller(place: Place, line: "Connection") -> None:
    """Wait for a key, a clock and a number of calls, make them in four threads at once, tell what became of them."""
    enter(place)
    from django.db import connection

    connection.ensure_connection()
    line.send(None)
    key, now, calls = line.recv()

    def some(count: int) -> list[str]:
        try:
            return [_call(key, now) for _ in range(count)]
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as threads:
        shares = [calls // THREADS + (n < calls % THREADS) for n in range(THREADS)]
        line.send(Counter(told for share in threads.map(some, shares) for told in share))
    _leave()


def storm(place: Place, *, processes: int, calls: int, key: str | None, now: datetime | None) -> Counter[str]:
    """What became of the calls that so many processes make at once, so many each."""
    lines, started = [], []
    for _ in range(processes):
        here, there = _spawning.Pipe()
        process = _spawning.Process(target=_caller, args=(place, there), daemon=True)
        process.start()
        there.close()
        lines.append(here)
        started.append(process)
    for line in lines:
        line.recv()
    for line in lines:
        line.send((key, now, calls))
    told: Counter[str] = sum((line.recv() for line in lines), Counter())
    for process in started:
        process.join(30)
    return told


def _timed(work: Callable[[], object], times: int) -> list[float]:
    """Milliseconds of each."""
    for _ in range(200):
        work()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def _cost(times: int) -> None:
    from django.db import connection

    from imgindex.services import access

    def select_1() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()

    limited = access.create_key(name="limited", plan="huge")
    unlimited = access.create_key(name="unlimited")
    empty = access.create_key(name="empty", plan="nothing")
    works: dict[str, Callable[[], object]] = {
        "SELECT 1": select_1,
        "key alone, nothing counted": lambda: access.caller(key=limited),
        "key and quota": lambda: access.admit_key(key=limited),
        "key and quota, unlimited plan": lambda: access.admit_key(key=unlimited),
        "key and quota, refused": lambda: _call(empty, None),
        "anonymous and quota": lambda: access.admit(key=None, address=ADDRESS),
    }
    print(table(["cost", "p50 ms", "p99 ms"], [(name, *p50_p99(_timed(work, times))) for name, work in works.items()]))


def main() -> int:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--calls", type=int, default=200, help="of each process")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--times", type=int, default=5000, help="how often each cost is measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imgindex-quota-") as folder:
        os.environ.update(DATA_DIR=f"{folder}/data", OMP_NUM_THREADS="1", LOG_LEVEL="WARNING", OPEN_ACCESS="1")
        os.environ.pop("DATABASE_URL", None)
        place = Place("imgindex.settings", "imgindex")
        enter(place)
        try:
            return _measure(place, options)
        finally:
            _leave()


def _measure(place: Place, options: argparse.Namespace) -> int:
    from django.core.management import call_command

    from imgindex import models
    from imgindex.services import access

    call_command("migrate", verbosity=0, interactive=False)
    limit = options.limit
    models.Plan.objects.create(name="month", monthly=limit)
    models.Plan.objects.create(name="second", per_second=limit)
    models.Plan.objects.create(name="huge", monthly=10**9, per_second=10**6)
    models.Plan.objects.create(name="nothing", monthly=0)
    models.Plan.objects.filter(name="anonymous").update(monthly=limit)
    cases: list[tuple[str, str | None, datetime | None]] = [
        ("a month", access.create_key(name="month", plan="month"), None),
        ("a second", access.create_key(name="second", plan="second"), STILL),
        ("a month, one anonymous client", None, None),
    ]
    rows, wrong = [], 0
    for name, key, now in cases:
        started = time.perf_counter()
        told = storm(place, processes=options.processes, calls=options.calls, key=key, now=now)
        allowed, made = told["allowed"], told.total()
        wrong += allowed != min(limit, made) or made != options.processes * options.calls
        rows.append((name, limit, made, allowed, made - allowed, time.perf_counter() - started))
    head = [f"{options.processes} processes x {options.calls}", "limit", "calls", "allowed", "refused", "s with start"]
    print(table(head, rows), "\n")
    models.Plan.objects.filter(name="anonymous").update(monthly=None)
    _cost(options.times)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
