"""The index protocol, with the model that every engine is held to."""

from typing import Protocol

from matching.types import Codes, Ids, Matches


class HammingIndex(Protocol):
    """A set of (id, code) pairs that answers Hamming-distance questions exactly.

    The model is a dictionary from id to code. `put` sets entries and replaces what stood under the same id;
    `remove` forgets ids and passes over the ones it does not hold; both take effect for every search that
    begins after they return. A search sees the whole of each put or remove, or nothing of it.

    Answers are exact: equal to comparing the query with every entry, ordered by distance and then by id.
    Every method may be called from any thread; searches run while others search.

    The conformance suite (tests/conformance) drives every engine against that dictionary.
    """

    bits: int
    """Length of a code in bits, a multiple of 8."""

    def __len__(self) -> int:
        """How many ids the index holds."""
        ...

    def put(self, ids: Ids, codes: Codes) -> None:
        """Set the codes of `ids`, int64 (n,), to `codes`, uint8 (n, bits // 8). Of an id named twice the last counts."""
        ...

    def remove(self, ids: Ids) -> None:
        """Forget `ids`, int64 (n,); ids that are not held are passed over."""
        ...

    def within(self, codes: Codes, radius: int) -> list[Matches]:
        """For each query code, every entry at a distance of at most `radius` bits."""
        ...

    def nearest(self, codes: Codes, k: int) -> list[Matches]:
        """For each query code, the k nearest entries (all of them where fewer are held)."""
        ...
