"""What is particular to the flat index: chunks, memory, threads. The conformance kit checks its answers."""

import gc
import threading
import tracemalloc
from collections.abc import Callable

import numpy as np
import psutil
import pytest

from matching.index.flat import CHUNK, FlatIndex
from tests.conformance.brute_force import BruteForce
from tests.conformance.suite import assert_same, random_codes


def traced(make: Callable[[], object]) -> int:
    """Bytes that are held by what `make` returns."""
    make()  # what is allocated once per process is not the index's
    gc.collect()
    tracemalloc.start()
    held = make()
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del held
    return size


@pytest.mark.parametrize("bits", [0, -8, 12])
def test_code_length_is_whole_bytes(bits: int) -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        FlatIndex(bits)


def test_chunk_capacity_is_positive() -> None:
    with pytest.raises(ValueError, match="chunk_capacity"):
        FlatIndex(64, chunk_capacity=0)


@pytest.mark.parametrize("bits", [8, 72, 128, 160, 968, 1024])
def test_any_code_length(bits: int) -> None:
    index, model = FlatIndex(bits, chunk_capacity=30), BruteForce(bits)
    codes = random_codes(100, bits, seed=bits)
    for held in (index, model):
        held.put(np.arange(100), codes)
    assert_same(index.within(codes[:5], bits // 2), model.within(codes[:5], bits // 2))
    assert_same(index.nearest(codes[:5], 10), model.nearest(codes[:5], 10))


@pytest.mark.parametrize("capacity", [1, 2, 64, 1000])
def test_batches_across_many_chunks(capacity: int) -> None:
    index, model = FlatIndex(64, chunk_capacity=capacity), BruteForce(64)
    rng = np.random.default_rng(capacity)
    for _ in range(12):
        ids, codes = rng.integers(0, 600, 200), rng.integers(0, 256, (200, 8), np.uint8)
        gone = rng.integers(0, 600, 150)
        for held in (index, model):
            held.put(ids, codes)
            held.remove(gone)
        assert_same(index.within(codes[:3], 30), model.within(codes[:3], 30))
        assert_same(index.nearest(codes[:3], 20), model.nearest(codes[:3], 20))
    assert len(index) == len(model)


def test_more_ties_than_are_fetched_across_chunks() -> None:
    """The k nearest of 2,000 equal codes are those with the smallest ids, wherever they are stored."""
    index = FlatIndex(256, chunk_capacity=100)
    ids = np.random.default_rng(2).permutation(2_000)
    for part in np.split(ids, 20):
        index.put(part, np.zeros((100, 32), np.uint8))
    index.put(np.array([5_000]), np.full((1, 32), 255, np.uint8))
    both = index.nearest(np.array([[0] * 32, [255] * 32], np.uint8), 10)
    assert both[0].ids.tolist() == list(range(10))
    assert both[1].ids.tolist() == [5_000, *range(9)]


def test_small_indexes_cost_next_to_nothing() -> None:
    ids, codes = np.arange(10), random_codes(10, 256, seed=1)

    def small() -> list[FlatIndex]:
        indexes = [FlatIndex(256) for _ in range(200)]
        for index in indexes:
            for number in range(10):
                index.put(ids[number : number + 1], codes[number : number + 1])
        return indexes

    assert traced(lambda: [FlatIndex(256) for _ in range(200)]) / 200 < 1_500
    assert traced(small) / 200 < 3_000


@pytest.mark.parametrize("spread", [1, 2**40])
def test_memory_beside_the_codes_is_at_most_60_bytes_an_entry(spread: int) -> None:
    count = 100_000
    ids = np.random.default_rng(3).permutation(count) * spread if spread > 1 else np.arange(count)
    codes = np.zeros((500, 32), np.uint8)

    def filled() -> FlatIndex:
        index = FlatIndex(256, chunk_capacity=1 << 14)
        for start in range(0, count, 500):
            index.put(ids[start : start + 500], codes)
        return index

    # FAISS's vectors of codes are not among what Python traces.
    assert traced(filled) / count < 60


def test_removing_gives_memory_back() -> None:
    def emptied() -> FlatIndex:
        index = FlatIndex(256)
        index.put(np.arange(CHUNK + 10), np.zeros((CHUNK + 10, 32), np.uint8))
        index.remove(np.random.default_rng(4).permutation(CHUNK + 10))
        return index

    assert traced(emptied) < 20_000  # a chunk of ids is 2 MiB


def test_a_search_starts_no_threads() -> None:
    """A server's threads are enough: OpenMP, left alone, would add a pool for each of them."""
    index = FlatIndex(256)
    codes = random_codes(5_000, 256, seed=5)
    index.put(np.arange(5_000), codes)
    counts: list[int] = []

    def search() -> None:
        process = psutil.Process()
        counts.append(process.num_threads())
        index.within(codes[:200], 60)
        index.nearest(codes[:200], 5)
        counts.append(process.num_threads())

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert counts[0] == counts[1]
