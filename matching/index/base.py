"""The index protocol, with the model that every engine is held to."""

from typing import Protocol

from matching.types import Codes, Ids, Matches


class HammingIndex(Protocol):
    """A set of (id, code) pairs that answers Hamming-distance questions exactly.

    The model is a dictionary from id to code:

        put(ids, codes):      for id, code in zip(ids, codes): entries[id] = code
        remove(ids):          for id in ids: entries.pop(id, None)
        within(codes, r):     for each query, sorted((distance(query, code), id) for id, code in entries
                              if distance(query, code) <= r)
        nearest(codes, k):    for each query, the first k of within(codes, bits)

    Answers are exact and ordered by distance, then by id; ties included, so that two engines with the same
    entries give the same answer to the last byte, whatever the order in which those were put.

    A batch is atomic: one call of `within` or `nearest`, however many queries it carries, sees the whole of
    each put and remove or nothing of it, and everything that returned before it began. Every method may be
    called from any thread, and searches run while others search.

    Ids are int64 and not negative. Arguments may be strided and read-only; they are copied, never kept. A
    dtype, a shape or a value outside what is said here raises ValueError and changes nothing.

    The conformance suite (tests/conformance) drives every engine against that dictionary.
    """

    bits: int
    """Length of a code in bits, a multiple of 8."""

    def __len__(self) -> int:
        """How many ids the index holds."""
        ...

    def put(self, ids: Ids, codes: Codes) -> None:
        """Set the codes of `ids`, int64 (n,), to `codes`, uint8 (n, bits // 8).

        Of an id named twice the last code counts.
        """
        ...

    def remove(self, ids: Ids) -> None:
        """Forget `ids`, int64 (n,); ids that are not held are passed over."""
        ...

    def within(self, codes: Codes, radius: int) -> list[Matches]:
        """For each of `codes`, uint8 (q, bits // 8), every entry at a distance of at most `radius` bits.

        A radius of `bits` or more gives every entry; a negative one raises ValueError.
        """
        ...

    def nearest(self, codes: Codes, k: int) -> list[Matches]:
        """For each of `codes`, uint8 (q, bits // 8), the k nearest entries (all where fewer are held).

        Of entries tied at the last place the smaller ids are taken. A k below 1 raises ValueError.
        """
        ...
