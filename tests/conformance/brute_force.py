"""The model that every engine is held to: a dictionary, and a comparison with every entry of it."""

import numpy as np

from matching.types import Codes, Ids, Matches


class BruteForce:
    """`HammingIndex` with nothing to get wrong: no batching, no ordering tricks, no threads."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.entries: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, ids: Ids, codes: Codes) -> None:
        for entry, code in zip(ids.tolist(), codes, strict=True):
            self.entries[entry] = code.tobytes()

    def remove(self, ids: Ids) -> None:
        for entry in ids.tolist():
            self.entries.pop(entry, None)

    def within(self, codes: Codes, radius: int) -> list[Matches]:
        return [self._ranked(code, radius) for code in codes]

    def nearest(self, codes: Codes, k: int) -> list[Matches]:
        ranked = [self._ranked(code, self.bits) for code in codes]
        return [Matches(matches.ids[:k], matches.distances[:k]) for matches in ranked]

    def contents(self) -> tuple[Ids, Codes]:
        """Every entry, in the order in which the ids came."""
        ids = np.array(list(self.entries), np.int64)
        return ids, np.frombuffer(b"".join(self.entries.values()), np.uint8).reshape(len(ids), self.bits // 8)

    def _ranked(self, code: Codes, radius: int) -> Matches:
        ids, codes = self.contents()
        distances = np.bitwise_count(codes ^ code).sum(axis=1, dtype=np.int32)
        order = np.lexsort((ids, distances))
        order = order[distances[order] <= radius]
        return Matches(ids[order], distances[order])
