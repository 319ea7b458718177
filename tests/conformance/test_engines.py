"""Every engine against the conformance kit, and the kit against engines with known faults."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from matching.index.flat import FlatIndex
from matching.types import Codes, Ids, Matches
from tests.conformance.brute_force import BruteForce
from tests.conformance.suite import (
    Engine,
    check_against_model,
    check_answers,
    check_atomic_batches,
    check_refusals,
)

ENGINES = {
    "flat": Engine(FlatIndex),
    "flat, chunks of 7": Engine(lambda bits: FlatIndex(bits, chunk_capacity=7)),
}


@pytest.mark.parametrize("bits", [64, 256])
@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES.keys())
@pytest.mark.parametrize("check", [check_against_model, check_answers, check_refusals, check_atomic_batches])
def test_engine_conforms(check: Callable[[Engine, int], None], engine: Engine, bits: int) -> None:
    check(engine, bits)


class StrictRadius(FlatIndex):
    """Leaves out what lies at the radius itself, as FAISS's own range search does."""

    def within(self, codes: Codes, radius: int) -> list[Matches]:
        return [
            Matches(matches.ids[matches.distances < radius], matches.distances[matches.distances < radius])
            for matches in super().within(codes, radius)
        ]


class KeepsTheOldCode(BruteForce):
    """Adds, but does not replace."""

    def put(self, ids: Ids, codes: Codes) -> None:
        known = [entry in self.entries for entry in ids.tolist()]
        super().put(ids[[not k for k in known]], codes[[not k for k in known]])


class TiesInOrderOfInsertion(BruteForce):
    """Returns the right distances, but of the entries tied at the last one those that were put first."""

    def nearest(self, codes: Codes, k: int) -> list[Matches]:
        ids, held = self.contents()
        answers = []
        for code in codes:
            distances = np.bitwise_count(held ^ code).sum(axis=1, dtype=np.int32)
            chosen = distances.argsort(kind="stable")[:k]
            chosen = chosen[np.lexsort((ids[chosen], distances[chosen]))]
            answers.append(Matches(ids[chosen], distances[chosen]))
        return answers


class PutsInTwoHalves(FlatIndex):
    """Lets a search in between the halves of a batch."""

    def put(self, ids: Ids, codes: Codes) -> None:
        super().put(ids[::2], codes[::2])
        time.sleep(0.001)
        super().put(ids[1::2], codes[1::2])


@pytest.mark.parametrize("broken", [StrictRadius, KeepsTheOldCode, TiesInOrderOfInsertion])
def test_kit_rejects_wrong_answers(broken: Callable[[int], FlatIndex]) -> None:
    with pytest.raises(AssertionError):
        check_against_model(Engine(broken), 64, shrink=False)


def test_kit_rejects_batches_that_are_seen_in_part() -> None:
    with pytest.raises(AssertionError, match="a part of a batch"):
        check_atomic_batches(Engine(PutsInTwoHalves), 64)
