"""Where the entry of each id is stored: a sorted map from id to slot in numpy arrays."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from matching.types import Ids

Slots = NDArray[np.int64]

LEAF: Final = 2048
"""The most entries of a leaf: few enough to copy in 2 us, so many that 10M entries make 5,000 leaves."""

_EMPTY: Final = np.empty((2, 0), np.int64)


class SlotMap:
    """A map from int64 ids to int64 slots at 16 bytes an entry, where a dict of Python integers takes 105.

    The leaves of a B+ tree without its upper levels: arrays int64 (2, n) of at most LEAF ids and their slots,
    sorted by id, and a list of where each leaf's range begins. A change touches no more than the leaves it
    falls into, so nothing ever stalls for a rehash or a merge of the whole. Leaves hold no spare room.

    Every argument called `ids` is sorted and free of duplicates. Not safe for concurrent change.
    """

    __slots__ = ("_begins", "_leaves")

    def __init__(self) -> None:
        self._leaves: list[NDArray[np.int64]] = [_EMPTY]
        self._begins = [0]

    def find(self, ids: Ids) -> Slots:
        """The slot of each id, -1 for ids that are not held."""
        slots = np.full(len(ids), -1, np.int64)
        for number, start, stop in self._runs(ids):
            keys, values = self._leaves[number]
            if keys.size:
                wanted = ids[start:stop]
                at = np.minimum(keys.searchsorted(wanted), keys.size - 1)
                slots[start:stop] = np.where(keys[at] == wanted, values[at], -1)
        return slots

    def insert(self, ids: Ids, slots: Slots) -> None:
        """Add ids that are not held."""
        for number, start, stop in reversed(list(self._runs(ids))):  # from the end: a split moves later leaves
            leaf = self._leaves[number]
            new = np.stack((ids[start:stop], slots[start:stop]))
            at = leaf[0].searchsorted(new[0])
            appended = at[0] == leaf.shape[1]
            if appended:
                merged = np.concatenate((leaf, new), axis=1)
            elif len(at) == 1:
                merged = np.concatenate((leaf[:, : at[0]], new, leaf[:, at[0] :]), axis=1)
            else:
                merged = np.insert(leaf, at, new, axis=1)
            self._replace(number, merged, even=not appended)

    def move(self, ids: Ids, slots: Slots) -> None:
        """Change the slots of ids that are held."""
        for number, start, stop in self._runs(ids):
            keys, values = self._leaves[number]
            values[keys.searchsorted(ids[start:stop])] = slots[start:stop]

    def remove(self, ids: Ids) -> None:
        """Forget ids that are held."""
        for number, start, stop in reversed(list(self._runs(ids))):  # from the end: a merge moves later leaves
            leaf = self._leaves[number]
            kept = np.ones(leaf.shape[1], np.bool_)
            kept[leaf[0].searchsorted(ids[start:stop])] = False
            self._leaves[number] = leaf.compress(kept, axis=1)
            self._merge(number)
            self._merge(number - 1)

    def _runs(self, ids: Ids) -> Iterator[tuple[int, int, int]]:
        """(leaf, start, stop): which leaf ids[start:stop] belong to."""
        start = 0
        while start < len(ids):
            number = bisect_right(self._begins, int(ids[start])) - 1
            stop = len(ids)
            if number + 1 < len(self._begins) and ids[-1] >= self._begins[number + 1]:
                stop = int(ids.searchsorted(self._begins[number + 1]))
            yield number, start, stop
            start = stop

    def _merge(self, number: int) -> None:
        """Append the next leaf to this one where one is empty or both are sparse."""
        if not 0 <= number < len(self._leaves) - 1:
            return
        first, second = self._leaves[number : number + 2]
        if first.size and second.size and first.shape[1] + second.shape[1] > LEAF // 2:
            return
        self._leaves[number : number + 2] = [np.concatenate((first, second), axis=1)]
        del self._begins[number + 1]

    def _replace(self, number: int, leaf: NDArray[np.int64], *, even: bool) -> None:
        """Put `leaf` in the place of a leaf, cut into several where it is too long.

        Even pieces leave room for ids in between; ids that ascend never come back and leave full ones.
        """
        size = leaf.shape[1]
        if size <= LEAF:
            self._leaves[number] = leaf
            return
        step = -(-size // -(-size // LEAF)) if even else LEAF
        pieces = [leaf[:, start : start + step].copy() for start in range(0, size, step)]
        self._leaves[number : number + 1] = pieces
        self._begins[number + 1 : number + 1] = [int(piece[0, 0]) for piece in pieces[1:]]
