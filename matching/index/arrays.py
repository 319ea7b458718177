"""What every engine asks of the arrays it is handed: the checks, with one wording for all."""

import numpy as np
from numpy.typing import ArrayLike

from matching.types import Codes, Ids


def as_ids(ids: ArrayLike) -> Ids:
    """`ids` as int64 (n,). Raises ValueError for another dtype or shape, or for a negative id."""
    array = np.asarray(ids)
    if array.dtype != np.int64 or array.ndim != 1:
        raise ValueError(f"ids must be int64 of shape (n,), not {array.dtype} of shape {array.shape}")
    if array.size and array.min() < 0:
        raise ValueError(f"ids must not be negative, and {array.min()} is")
    return array


def as_codes(codes: ArrayLike, bits: int) -> Codes:
    """`codes` as C-contiguous uint8 (n, bits // 8). Raises ValueError for another dtype or shape."""
    array = np.asarray(codes)
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != bits // 8:
        raise ValueError(
            f"codes of {bits} bits must be uint8 of shape (n, {bits // 8}), not {array.dtype} of shape {array.shape}"
        )
    return np.ascontiguousarray(array)


def as_id_set(ids: ArrayLike) -> Ids:
    """`ids`, each once, ascending. Raises ValueError as `as_ids` does."""
    array = as_ids(ids)
    return array if _ascend(array) else np.unique(array)


def as_entries(ids: ArrayLike, codes: ArrayLike, bits: int) -> tuple[Ids, Codes]:
    """The entries of a put, ordered by id, each id once with the last of its codes.

    Raises ValueError as `as_ids` and `as_codes` do, and for numbers of ids and codes that differ.
    """
    all_ids, all_codes = as_ids(ids), as_codes(codes, bits)
    if len(all_ids) != len(all_codes):
        raise ValueError(f"{len(all_ids)} ids but {len(all_codes)} codes")
    if _ascend(all_ids):
        return all_ids, all_codes
    unique, first_from_the_end = np.unique(all_ids[::-1], return_index=True)
    return unique, all_codes[::-1][first_from_the_end]


def _ascend(ids: Ids) -> bool:
    """Whether every id is greater than the one before it, as they are as a rule: that spares the sort."""
    return bool((ids[1:] > ids[:-1]).all())
