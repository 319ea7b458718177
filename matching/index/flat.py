"""The exact scan: FAISS's `IndexBinaryFlat` in chunks, in whose storage rows are set and removed in place."""

from collections.abc import Iterator
from typing import Final

import faiss
import numpy as np
from numpy.typing import NDArray

from matching.index.arrays import as_codes, as_entries, as_id_set
from matching.index.lock import ReadersWriterLock
from matching.index.slots import SlotMap, Slots
from matching.types import Codes, Ids, Matches

CHUNK: Final = 1 << 18
"""Codes of a chunk, 8 MB at 256 bits: growing never copies or clears more than this (4 ms).

A scan is 5 % slower than over one piece; with chunks of 65,536 it would be 15 %.
"""

SPARE: Final = 64
"""How many more than k neighbours are fetched, in the hope of seeing past the ties at the k-th distance."""


class FlatIndex:
    """A `HammingIndex` that compares every query with every code.

    Slot s is row s % chunk_capacity of chunk s // chunk_capacity, and the slots in use are always 0 to n - 1:
    an entry that goes is overwritten by the last one. So there are no tombstones, every scan is over live
    codes alone, and removing costs as little as adding.

    Each chunk is an `IndexBinaryFlat` whose vector has the chunk's full capacity from the start; rows are written
    through a numpy view of that vector, and `ntotal` says how many are in use. FAISS's own `add` may move the
    vector under a search, and its `remove_ids` moves every row behind the one that goes.

    Beyond its code an entry takes 24 to 40 bytes: its id, and id and slot in the `SlotMap`.
    """

    def __init__(self, bits: int, *, chunk_capacity: int = CHUNK) -> None:
        """Raises ValueError if `bits` is not a positive multiple of 8, or `chunk_capacity` is below 1."""
        if bits <= 0 or bits % 8:
            raise ValueError(f"bits must be a positive multiple of 8, not {bits}")
        if chunk_capacity < 1:
            raise ValueError(f"chunk_capacity must be at least 1, not {chunk_capacity}")
        self.bits = bits
        self._chunk_capacity = chunk_capacity
        self._size = 0
        self._scans: list[faiss.IndexBinaryFlat] = []
        self._codes: list[Codes] = []  # views into the vectors of self._scans
        self._ids: list[Ids] = []
        self._slots = SlotMap()
        self._lock = ReadersWriterLock()

    def __len__(self) -> int:
        return self._size

    def put(self, ids: Ids, codes: Codes) -> None:
        ids, codes = as_entries(ids, codes, self.bits)
        with self._lock.writing():
            slots = self._slots.find(ids)
            new = slots < 0
            count = int(np.count_nonzero(new))
            if count:
                slots[new] = np.arange(self._size, self._size + count)
                self._reserve(self._size + count)
                self._slots.insert(ids[new], slots[new])
            self._write(slots, ids, codes)
            self._resize(self._size + count)

    def remove(self, ids: Ids) -> None:
        ids = as_id_set(ids)
        with self._lock.writing():
            slots = self._slots.find(ids)
            held = slots >= 0
            if not held.any():
                return
            self._slots.remove(ids[held])
            gone = np.sort(slots[held])
            size = self._size - len(gone)
            holes = gone[gone < size]
            stays = np.ones(len(gone), np.bool_)  # of the last len(gone) slots, which fill the holes
            stays[gone[len(holes) :] - size] = False
            moved_ids, moved_codes = self._read(np.flatnonzero(stays) + size)
            order = moved_ids.argsort()
            self._slots.move(moved_ids[order], holes[order])
            self._write(holes, moved_ids, moved_codes)
            self._resize(size)

    def within(self, codes: Codes, radius: int) -> list[Matches]:
        codes = as_codes(codes, self.bits)
        if radius < 0:
            raise ValueError(f"radius must not be negative, and {radius} is")
        with self._lock.reading():
            found = self._range(codes, min(radius, self.bits))
        return _split(*found, len(codes))

    def nearest(self, codes: Codes, k: int) -> list[Matches]:
        codes = as_codes(codes, self.bits)
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        with self._lock.reading():
            k = min(k, self._size)
            if k == 0 or len(codes) == 0:
                return [Matches(np.empty(0, np.int64), np.empty(0, np.int32)) for _ in codes]
            distances, ids = self._knn(codes, min(k + SPARE, self._size))
            # FAISS keeps any of the entries tied at the last distance it returns. Where that is the k-th
            # distance too, the ones with the smallest ids may be missing: collect them all.
            cut = (distances[:, k - 1] == distances[:, -1]) & (distances.shape[1] < self._size)
            tied = {
                int(query): self._range(codes[query : query + 1], int(distances[query, k - 1]))
                for query in np.flatnonzero(cut)
            }
        answers = [Matches(ids[query, :k], distances[query, :k]) for query in range(len(codes))]
        for query, found in tied.items():
            (all_tied,) = _split(*found, 1)
            answers[query] = Matches(all_tied.ids[:k], all_tied.distances[:k])
        return answers

    def _range(self, codes: Codes, radius: int) -> tuple[NDArray[np.int64], NDArray[np.int32], Ids]:
        """The query number, distance and id of every pair within `radius`, in no order. Under the lock."""
        _pin_threads()
        queries, distances, ids = [], [], []
        for scan, chunk_ids in zip(self._scans, self._ids, strict=True):
            limits, chunk_distances, rows = scan.range_search(codes, radius + 1)  # FAISS's radius is exclusive
            if len(rows):
                queries.append(np.repeat(np.arange(len(codes)), np.diff(limits).astype(np.int64)))
                distances.append(chunk_distances.astype(np.int32))
                ids.append(chunk_ids[rows])
        if not ids:
            return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64)
        return np.concatenate(queries), np.concatenate(distances), np.concatenate(ids)

    def _knn(self, codes: Codes, k: int) -> tuple[NDArray[np.int32], Ids]:
        """Distances and ids, both (q, k), of k <= n nearest entries by distance, then id. Under the lock.

        All entries closer than the last distance are there; of those at the last distance, any.
        """
        _pin_threads()
        distances, ids = [], []
        for scan, chunk_ids in zip(self._scans, self._ids, strict=True):
            chunk_distances, rows = scan.search(codes, min(k, scan.ntotal))
            distances.append(chunk_distances)
            ids.append(chunk_ids[rows])
        all_distances, all_ids = np.concatenate(distances, axis=1), np.concatenate(ids, axis=1)
        order = np.lexsort((all_ids, all_distances))[:, :k]
        return np.take_along_axis(all_distances, order, 1), np.take_along_axis(all_ids, order, 1)

    def _reserve(self, size: int) -> None:
        """Make room for `size` entries. The first chunk grows by doubling, so that a small index stays small."""
        capacity = self._chunk_capacity
        if not self._scans or len(self._ids[0]) < min(size, capacity):
            grown = self._new_chunk(min(max(size, 2 * self._size), capacity))
            if self._scans:
                used = min(self._size, capacity)
                grown[1][:used], grown[2][:used] = self._codes[0][:used], self._ids[0][:used]
            self._scans[:1], self._codes[:1], self._ids[:1] = [grown[0]], [grown[1]], [grown[2]]
        while len(self._scans) * capacity < size:
            scan, codes, ids = self._new_chunk(capacity)
            self._scans.append(scan)
            self._codes.append(codes)
            self._ids.append(ids)

    def _new_chunk(self, rows: int) -> tuple[faiss.IndexBinaryFlat, Codes, Ids]:
        """An index with room for `rows` codes and none in use, the view of its codes, and room for their ids."""
        width = self.bits // 8
        scan = faiss.IndexBinaryFlat(self.bits)
        vector = scan.xb  # type: ignore[attr-defined]  # FAISS's stubs leave it out
        vector.resize(rows * width)
        codes = faiss.rev_swig_ptr(vector.data(), rows * width).reshape(rows, width)
        return scan, codes, np.empty(rows, np.int64)

    def _resize(self, size: int) -> None:
        """Say how many rows of each chunk are in use; chunks without any go."""
        first = min(self._size, size) // self._chunk_capacity
        self._size = size
        chunks = -(-size // self._chunk_capacity)
        del self._scans[chunks:], self._codes[chunks:], self._ids[chunks:]
        for chunk in range(first, chunks):
            self._scans[chunk].ntotal = min(size - chunk * self._chunk_capacity, self._chunk_capacity)

    def _by_chunk(self, slots: Slots) -> Iterator[tuple[int, Slots, NDArray[np.bool_] | slice]]:
        """(chunk, rows, which of the slots): the slots, taken apart by the chunk they are in."""
        if len(slots) == 1 or len(self._codes) == 1:
            if len(slots):
                chunk = int(slots[0]) // self._chunk_capacity
                yield chunk, slots - chunk * self._chunk_capacity, slice(None)
            return
        chunks, rows = np.divmod(slots, self._chunk_capacity)
        for chunk in np.unique(chunks).tolist():
            which = chunks == chunk
            yield chunk, rows[which], which

    def _write(self, slots: Slots, ids: Ids, codes: Codes) -> None:
        for chunk, rows, which in self._by_chunk(slots):
            self._codes[chunk][rows] = codes[which]
            self._ids[chunk][rows] = ids[which]

    def _read(self, slots: Slots) -> tuple[Ids, Codes]:
        ids, codes = np.empty(len(slots), np.int64), np.empty((len(slots), self.bits // 8), np.uint8)
        for chunk, rows, which in self._by_chunk(slots):
            ids[which], codes[which] = self._ids[chunk][rows], self._codes[chunk][rows]
        return ids, codes


def _pin_threads() -> None:
    """Keep this thread's FAISS calls on this thread.

    OpenMP's setting belongs to the thread that calls: set once at import it binds the importing thread alone,
    and every other thread of a server would start its own pool of one thread per core (measured). 0.1 us.
    """
    faiss.omp_set_num_threads(1)


def _split(queries: NDArray[np.int64], distances: NDArray[np.int32], ids: Ids, count: int) -> list[Matches]:
    """The pairs of `count` queries, each query's ordered by distance, then id."""
    order = np.lexsort((ids, distances, queries)) if count > 1 else np.lexsort((ids, distances))
    ends = np.cumsum(np.bincount(queries, minlength=count))
    ids, distances = ids[order], distances[order]
    return [
        Matches(ids[start:end], distances[start:end])
        for start, end in zip([0, *ends.tolist()], ends.tolist(), strict=False)
    ]
