"""The flat index at 10k, 100k and 1M codes: medians on one thread. `python -m benchmarks.flat [bits]`"""

import gc
import os
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from statistics import median
from threading import Thread
from time import perf_counter

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402  the variables count at import

from matching.index.flat import FlatIndex  # noqa: E402
from matching.types import Codes, Ids  # noqa: E402

SIZES = (10_000, 100_000, 1_000_000)


def seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def typical(call: Callable[[], object], rounds: int) -> float:
    return median(seconds(call) for _ in range(rounds))


def codes_of(rng: np.random.Generator, count: int, bits: int) -> Codes:
    return rng.integers(0, 256, (count, bits // 8), np.uint8)


def timings(ids: Ids, new_ids: Ids, codes: Codes, bits: int) -> dict[str, float]:
    """Seconds of each operation on an index of these entries, by its name."""
    rng = np.random.default_rng(1)
    index = FlatIndex(bits)
    result = {"put all, one batch": seconds(lambda: index.put(ids, codes))}
    known: Iterator[int] = iter(rng.permutation(ids).tolist())
    fresh: Iterator[int] = iter(new_ids.tolist())
    code, query, queries = codes[1:2].copy(), codes[:1].copy(), codes_of(rng, 100, bits)
    near = 31 if bits >= 256 else 8
    result["put one, new id"] = typical(lambda: index.put(np.array([next(fresh)]), code), 1_000)
    result["put one, known id"] = typical(lambda: index.put(np.array([next(known)]), code), 1_000)
    result["remove one"] = typical(lambda: index.remove(np.array([next(known)])), 1_000)
    some = rng.choice(ids, 1_000, replace=False)
    result["replace 1,000 at random"] = seconds(lambda: index.put(some, codes[:1_000]))
    result["remove 1,000 at random"] = seconds(lambda: index.remove(some))
    result["put 1,000 at random"] = seconds(lambda: index.put(some, codes[:1_000]))
    result[f"within {near}"] = typical(lambda: index.within(query, near), 50)
    result["nearest 10"] = typical(lambda: index.nearest(query, 10), 50)
    result["nearest 10, of 2,000 tied"] = typical(lambda: index.nearest(code, 10), 50)
    result["nearest 1,000"] = typical(lambda: index.nearest(query, 1_000), 10)
    result[f"within {near}, 100 queries"] = typical(lambda: index.within(queries, near), 3)
    result[f"within {near}, per search of 2 threads"] = shared(index, query, near, threads=2)
    half = rng.permutation(ids)[: len(ids) // 2]
    result["remove half at random"] = seconds(lambda: index.remove(half))
    return result


def shared(index: FlatIndex, query: Codes, radius: int, *, threads: int, rounds: int = 100) -> float:
    """Seconds a search takes of the wall clock while several threads search at once."""

    def search() -> None:
        for _ in range(rounds):
            index.within(query, radius)

    workers = [Thread(target=search) for _ in range(threads)]

    def run() -> None:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return seconds(run) / rounds / threads


def traced(make: Callable[[], object]) -> int:
    """Bytes held by what `make` returns, less FAISS's vectors, which Python does not trace."""
    gc.collect()
    tracemalloc.start()
    held = make()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del held
    return size


def filled(ids: Ids, codes: Codes, bits: int, batch: int) -> FlatIndex:
    index = FlatIndex(bits)
    for start in range(0, len(ids), batch):
        index.put(ids[start : start + batch], codes[start : start + batch])
    return index


def main() -> None:
    rng = np.random.default_rng(0)
    timings(np.arange(10_000), np.arange(10_000, 11_000), codes_of(rng, 10_000, 64), 64)  # warm up
    for bits in map(int, sys.argv[1:] or ("64", "256")):
        for order in ("ascending", "random"):
            columns = []
            for count in SIZES:
                ids = np.arange(count + 1_000) if order == "ascending" else rng.integers(0, 2**62, count + 1_000)
                ids, new_ids = ids[:count], ids[count:]
                columns.append(timings(ids, new_ids, codes_of(rng, count, bits), bits))
            print(f"\n{bits} bits, {order} ids; microseconds" + "".join(f"{count:>14,}" for count in SIZES))
            for name in columns[0]:
                print(f"{name:<42}" + "".join(f"{column[name] * 1e6:>14,.0f}" for column in columns))
            beside = traced(lambda: filled(ids, codes_of(rng, len(ids), bits), bits, 1_000)) / len(ids)  # noqa: B023
            print(f"{f'bytes an entry beside the code, at {len(ids):,}':<42}{beside:>14.1f}")
        ten = np.arange(10)
        for count in (0, 10):
            few = traced(
                lambda: [filled(ten[:count], codes_of(rng, 10, bits), bits, 1) for _ in range(1_000)]  # noqa: B023
            )
            print(f"{f'bytes of an index of {count} codes':<42}{few / 1_000:>14,.0f}")


if __name__ == "__main__":
    main()
