"""Grouping and ranking by the documented hashes `bmh1` and `phash`, in the unit of the documented service."""

from collections.abc import Sequence

HASH_BITS = {"bmh1": 961, "phash": 64}
"""Bits that tell, by the hash's name; the last 7 of the 968 that bmh1 is written in do not."""


def distance(first: bytes, second: bytes, *, hash_type: str) -> float:
    """The Hamming distance in per cent of the hash's bits, to one decimal (statement 26)."""
    return _distance(int.from_bytes(first), int.from_bytes(second), HASH_BITS[hash_type])


def group_duplicates(codes: Sequence[bytes | None], *, hash_type: str, range_: float) -> list[list[int]]:
    """Positions in groups, in order: one that is kept, then those that repeat it (statement 24).

    A code repeats the first kept one whose `distance` does not exceed `range_`; the repeated ones are never compared
    with, so that groups do not grow by chains. A picture without a code (None) is kept, alone.
    """
    bits = HASH_BITS[hash_type]
    groups: list[list[int]] = []
    kept: list[tuple[int, list[int]]] = []
    for position, code in enumerate(codes):
        group = [position]
        if code is not None:
            number = int.from_bytes(code)
            near = (repeats for other, repeats in kept if _distance(number, other, bits) <= range_)
            if (repeats := next(near, None)) is not None:
                repeats.append(position)
                continue
            kept.append((number, group))
        groups.append(group)
    return groups


def rank(query: bytes, codes: Sequence[bytes | None], *, hash_type: str) -> list[tuple[int, float]]:
    """(position, distance) of every code, the nearest first, then by position (statement 25); None is left out."""
    found = [(i, distance(query, code, hash_type=hash_type)) for i, code in enumerate(codes) if code is not None]
    return sorted(found, key=lambda hit: (hit[1], hit[0]))


def _distance(first: int, second: int, bits: int) -> float:
    return round(100 * (first ^ second).bit_count() / bits, 1)
