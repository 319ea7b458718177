"""The conformance kit: what an engine must do to call itself a `HammingIndex`.

Hand every check an `Engine`; each raises AssertionError where the engine departs from the model.

    check_against_model(engine, bits)      random histories, compared with brute force after every step
    check_answers(engine, bits)            dtypes, shapes, ties, extremes of radius and k
    check_refusals(engine, bits)           what must raise ValueError, and then change nothing
    check_atomic_batches(engine, bits)     writers against readers: each batch is seen whole or not at all
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from matching.index.base import HammingIndex
from matching.types import Codes, Ids, Matches
from tests.conformance.brute_force import BruteForce


@dataclass(frozen=True)
class Engine:
    """How to get an index: `create(bits)` makes an empty one.

    `reopen(index)` stands for a restart, and gives an index with the same contents from what the engine has
    stored; without it a restart is a new index, filled from the model in one put.
    """

    create: Callable[[int], HammingIndex]
    reopen: Callable[[HammingIndex], HammingIndex] | None = None


BATCH = 50
CENTRES = 4
ids_strategy = st.one_of(
    st.integers(0, 30),  # so few that most puts replace and most removals hit
    st.integers(0, 2**63 - 1),
    st.sampled_from([2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1]),
)
# A code is one of a few centres with a few bits flipped: duplicates and ties are the rule, not the exception.
code_strategy = st.tuples(st.integers(0, CENTRES - 1), st.lists(st.integers(0, 11), max_size=5))
codes_strategy = st.lists(code_strategy, max_size=BATCH)


def check_against_model(engine: Engine, bits: int, *, examples: int = 150, shrink: bool = True) -> None:
    """Run random histories of puts, replacements, removals, searches and restarts.

    `shrink` reduces a failing history to its shortest form, which takes a while and is worth it to a reader.
    """
    run_state_machine_as_test(
        lambda: _History(engine, bits),
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            deadline=None,
            database=None,
        ),
    )


class _History(RuleBasedStateMachine):
    def __init__(self, engine: Engine, bits: int) -> None:
        super().__init__()
        self.engine, self.bits = engine, bits
        self.index = engine.create(bits)
        self.model = BruteForce(bits)

    @initialize(seed=st.integers(0, 3))
    def choose_centres(self, seed: int) -> None:
        self.centres = random_codes(CENTRES, self.bits, seed)

    @rule(entries=st.lists(st.tuples(ids_strategy, code_strategy), max_size=BATCH))
    def put(self, entries: list) -> None:
        ids, codes = as_ids(i for i, _ in entries), self._codes([code for _, code in entries])
        self._put(ids, codes)

    @rule(first=st.integers(0, 2**40), codes=codes_strategy)
    def put_ascending(self, first: int, codes: list) -> None:
        self._put(np.arange(first, first + len(codes)), self._codes(codes))

    @rule(data=st.data(), codes=codes_strategy)
    def replace(self, data: st.DataObject, codes: list) -> None:
        self._put(self._held(data, len(codes)), self._codes(codes))

    @rule(ids=st.lists(ids_strategy, max_size=BATCH))
    def remove(self, ids: list[int]) -> None:
        self._remove(as_ids(ids))

    @rule(data=st.data(), count=st.integers(0, BATCH))
    def remove_held(self, data: st.DataObject, count: int) -> None:
        self._remove(self._held(data, count))

    @rule()
    def remove_everything(self) -> None:
        self._remove(self.model.contents()[0])

    @rule(
        queries=st.lists(code_strategy, max_size=4),
        radius=st.one_of(st.integers(0, 12), st.integers(0, 1100)),
    )
    def search_within(self, queries: list, radius: int) -> None:
        codes = self._codes(queries)
        assert_same(self.index.within(codes, radius), self.model.within(codes, radius))

    @rule(queries=st.lists(code_strategy, max_size=4), k=st.one_of(st.integers(1, 12), st.integers(1, 10**6)))
    def search_nearest(self, queries: list, k: int) -> None:
        codes = self._codes(queries)
        assert_same(self.index.nearest(codes, k), self.model.nearest(codes, k))

    @rule()
    def restart(self) -> None:
        if self.engine.reopen is not None:
            self.index = self.engine.reopen(self.index)
        else:
            self.index = self.engine.create(self.bits)
            self.index.put(*self.model.contents())

    @invariant()
    def answers_as_the_model_does(self) -> None:
        assert len(self.index) == len(self.model)
        for radius in (0, 2, self.bits):
            assert_same(self.index.within(self.centres[:2], radius), self.model.within(self.centres[:2], radius))
        for k in (1, len(self.model) // 3 + 1):
            assert_same(self.index.nearest(self.centres[2:], k), self.model.nearest(self.centres[2:], k))

    def _codes(self, drawn: list) -> Codes:
        codes = np.empty((len(drawn), self.bits // 8), np.uint8)
        for row, (centre, flips) in enumerate(drawn):
            code = np.unpackbits(self.centres[centre])
            code[[flip * (self.bits - 1) // 11 for flip in flips]] ^= 1  # from the first bit to the last
            codes[row] = np.packbits(code)
        return codes

    def _held(self, data: st.DataObject, count: int) -> Ids:
        held = sorted(self.model.entries)
        if not held:
            return as_ids([0] * count)
        return as_ids(data.draw(st.lists(st.sampled_from(held), min_size=count, max_size=count)))

    def _put(self, ids: Ids, codes: Codes) -> None:
        self.index.put(ids, codes)
        self.model.put(ids, codes)

    def _remove(self, ids: Ids) -> None:
        self.index.remove(ids)
        self.model.remove(ids)


def check_answers(engine: Engine, bits: int) -> None:
    """Dtypes and shapes, ties, extremes of radius and k, arguments that are strided, read-only, reused."""
    index, model = engine.create(bits), BruteForce(bits)
    query = random_codes(3, bits, seed=7)

    assert len(index) == 0
    assert index.within(query[:0], 3) == []
    assert index.nearest(query[:0], 3) == []
    assert_same(index.within(query, bits), model.within(query, bits))
    assert_same(index.nearest(query, 3), model.nearest(query, 3))

    # 200 entries of one code, put in no order: whoever fetches just k of them gets the wrong ones.
    ids = np.random.default_rng(1).permutation(1_000)[:200]
    codes = np.repeat(query[:1], 200, axis=0)
    for part in np.array_split(np.arange(200), 7):
        index.put(ids[part], codes[part])
        model.put(ids[part], codes[part])
    for k in (1, 2, 99, 199, 200, 201, 10**9):
        assert_same(index.nearest(query, k), model.nearest(query, k))
    for radius in (0, 1, bits - 1, bits, bits + 1, 10**9):
        assert_same(index.within(query, radius), model.within(query, radius))

    # The opposite code is at a distance of exactly `bits`.
    opposite = ~query[:1]
    assert index.within(opposite, bits - 1)[0].ids.size == 0
    assert index.within(opposite, bits)[0].distances.tolist() == [bits] * 200

    # Of an id named twice the last counts; unknown ids are passed over, and named twice too.
    twice = as_ids([5_000, 5_001, 5_000])
    index.put(twice, query)
    model.put(twice, query)
    index.remove(as_ids([9_999, 5_001, 9_999, 5_001]))
    model.remove(as_ids([5_001]))
    assert_same(index.within(query, bits), model.within(query, bits))

    # Strided and read-only arguments, changed after the call, and empty ones.
    wide = random_codes(40, bits, seed=8)
    wide_ids = np.arange(40) + 7_000
    strided, strided_ids = wide[::-2], wide_ids[::-2]
    model.put(strided_ids, strided)
    strided.flags.writeable = strided_ids.flags.writeable = False
    index.put(strided_ids, strided)
    wide[:], wide_ids[:] = 0, 0
    index.put(as_ids([]), query[:0])
    index.remove(as_ids([]))
    queries = np.asfortranarray(query)
    queries.flags.writeable = False
    assert_same(index.within(queries, bits), model.within(query, bits))
    assert_same(index.nearest(queries, 7), model.nearest(query, 7))
    assert len(index) == len(model)


def check_refusals(engine: Engine, bits: int) -> None:
    """Wrong arguments raise ValueError and leave the index as it was."""
    index = engine.create(bits)
    ids, codes = np.arange(3), random_codes(3, bits, seed=9)
    index.put(ids, codes)
    refused: list[Callable[[], object]] = [
        lambda: index.put(ids, codes[:2]),
        lambda: index.put(ids, codes[:, 1:]),
        lambda: index.put(ids, codes[0]),
        lambda: index.put(ids, codes.astype(np.int16)),
        lambda: index.put(ids.astype(np.int32), codes),
        lambda: index.put(ids.astype(np.float64), codes),
        lambda: index.put(ids[:, None], codes),
        lambda: index.put(as_ids([7, -1, 8]), codes),
        lambda: index.remove(as_ids([0, -1])),
        lambda: index.remove(np.array([0.0])),
        lambda: index.within(codes, -1),
        lambda: index.within(codes[:0], -1),
        lambda: index.within(codes[0], 3),
        lambda: index.within(codes.astype(np.int64), 3),
        lambda: index.within(np.hstack((codes, codes)), 3),
        lambda: index.nearest(codes, 0),
        lambda: index.nearest(codes, -1),
        lambda: index.nearest(codes[0], 3),
    ]
    for number, call in enumerate(refused):
        assert _refusal(call), f"call {number} was not refused, or without a word"
    assert len(index) == 3
    assert [matches.ids.tolist() for matches in index.within(codes, 0)] == [[0], [1], [2]]


def _refusal(call: Callable[[], object]) -> str | None:
    try:
        call()
    except ValueError as exc:
        return str(exc)
    return None


def check_atomic_batches(engine: Engine, bits: int, *, seconds: float = 0.5) -> None:
    """Two writers each flip a batch of 100 ids between two codes and nothing, while two readers search.

    The codes are far apart, so a batch seen whole is 100 ids near one code and none near the other. Entries
    that nobody touches must be found all the while.
    """
    index = engine.create(bits)
    anchors = np.zeros((5, bits // 8), np.uint8)  # two per writer, and one for the entries that stay
    for number in range(5):
        anchors[number, number * bits // 8 // 5 : (number + 1) * bits // 8 // 5] = 0xFF
    standing = np.arange(40) * 50 + 7  # among the ids of both batches
    index.put(standing, np.repeat(anchors[4:], 40, axis=0))
    batches = [
        np.setdiff1d(np.arange(1_000), standing)[:100],
        np.setdiff1d(np.arange(1_000, 2_000), standing)[:100],
    ]
    failures: list[BaseException] = []
    stop_at = monotonic() + seconds

    def write(writer: int) -> None:
        rounds = 0
        while monotonic() < stop_at:
            order = np.random.default_rng(rounds).permutation(100)
            match rounds % 3:
                case 0 | 1 as state:
                    index.put(batches[writer][order], np.repeat(anchors[[2 * writer + state]], 100, axis=0))
                case _:
                    index.remove(batches[writer][order])
            rounds += 1
        assert rounds >= 6, f"only {rounds} rounds: readers starve the writers"

    def read() -> None:
        rounds = 0
        while monotonic() < stop_at:
            near = [matches.ids for matches in index.within(anchors, 2)]
            for writer, batch in enumerate(batches):
                seen = near[2 * writer], near[2 * writer + 1]
                assert sorted(map(len, seen)) in ([0, 0], [0, 100]), f"a part of a batch: {[len(s) for s in seen]}"
                assert all(ids.size == 0 or np.array_equal(ids, batch) for ids in seen)
            assert np.array_equal(near[4], standing)
            for writer in range(2):
                closest = index.nearest(anchors[2 * writer : 2 * writer + 1], 100)[0].distances
                assert (closest == 0).sum() in (0, 100), f"a part of a batch: {(closest == 0).sum()}"
            rounds += 1
        assert rounds >= 6, f"only {rounds} rounds: writers starve the readers"

    def watched(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as exc:
                failures.append(exc)

        return run

    workers = [lambda: write(0), lambda: write(1), read, read]
    threads = [threading.Thread(target=watched(work), daemon=True) for work in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 30)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


def as_ids(ids) -> Ids:
    return np.array(list(ids), np.int64)


def random_codes(count: int, bits: int, seed: int) -> Codes:
    return np.random.default_rng(seed).integers(0, 256, (count, bits // 8), np.uint8)


def assert_same(answer: list[Matches], expected: list[Matches]) -> None:
    """Equal ids and distances in equal order, with the dtypes that the protocol promises."""
    assert len(answer) == len(expected)
    for got, wanted in zip(answer, expected, strict=True):
        assert got.ids.dtype == np.int64
        assert got.distances.dtype == np.int32
        assert got.ids.tolist() == wanted.ids.tolist()
        assert got.distances.tolist() == wanted.distances.tolist()
