"""Grouping and ranking by documented hashes: statements 24, 25 and 26."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matching.rank import distance, group_duplicates, rank

LENGTHS = {"bmh1": 121, "phash": 8}


def code(bits: int, hash_type: str = "phash", *, start: int = 0) -> bytes:
    """A code with this many bits set."""
    return (((1 << bits) - 1) << start).to_bytes(LENGTHS[hash_type])


class TestDistance:
    """Statement 26."""

    @pytest.mark.parametrize(
        ("hash_type", "bits", "expected"),
        [("bmh1", 0, 0.0), ("bmh1", 1, 0.1), ("bmh1", 5, 0.5), ("bmh1", 480, 49.9), ("bmh1", 961, 100.0),
         ("phash", 0, 0.0), ("phash", 1, 1.6), ("phash", 2, 3.1), ("phash", 32, 50.0), ("phash", 64, 100.0)],
    )  # fmt: skip
    def test_per_cent_of_the_bits_to_one_decimal(self, hash_type, bits, expected):
        assert distance(code(0, hash_type), code(bits, hash_type), hash_type=hash_type) == expected

    @given(st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8))
    def test_symmetric_and_zero_for_equal_codes_only(self, first, second):
        there = distance(first, second, hash_type="phash")
        assert there == distance(second, first, hash_type="phash")
        assert (there == 0.0) == (first == second)

    def test_another_hash_is_refused(self):
        with pytest.raises(KeyError):
            distance(code(0), code(0), hash_type="ahash")


class TestGroupDuplicates:
    """Statement 24."""

    def test_equal_codes_by_default(self):
        codes = [code(3), code(5), code(3), code(4), code(5), code(3)]
        assert group_duplicates(codes, hash_type="phash", range_=0) == [[0, 2, 5], [1, 4], [3]]

    def test_the_range_belongs_to_it(self):
        assert group_duplicates([code(0), code(1)], hash_type="phash", range_=1.6) == [[0, 1]]
        assert group_duplicates([code(0), code(1)], hash_type="phash", range_=1.5) == [[0], [1]]

    def test_no_chains(self):
        """The third is near to the second only, which is gone."""
        codes = [code(0), code(2), code(4)]
        assert group_duplicates(codes, hash_type="phash", range_=3.1) == [[0, 1], [2]]

    def test_the_earliest_kept_one_gets_it(self):
        codes = [code(0), code(4), code(2)]
        assert group_duplicates(codes, hash_type="phash", range_=4) == [[0, 2], [1]]

    def test_failed_ones_stay_alone_in_their_places(self):
        codes = [None, code(1), None, code(1), None]
        assert group_duplicates(codes, hash_type="phash", range_=100) == [[0], [1, 3], [2], [4]]

    def test_nothing(self):
        assert group_duplicates([], hash_type="bmh1", range_=0) == []

    @given(
        st.lists(st.none() | st.integers(0, 255).map(lambda number: number.to_bytes(8)), max_size=20),
        st.sampled_from([0, 1.6, 3.1, 5, 100]),
    )
    def test_by_the_definition(self, codes, range_):
        groups = group_duplicates(codes, hash_type="phash", range_=range_)
        assert sorted(itertools.chain(*groups)) == list(range(len(codes)))
        kept = [group[0] for group in groups]
        assert kept == sorted(kept)
        for group in groups:
            assert group == sorted(group)
        for position, this in enumerate(codes):
            near = [
                other
                for other in kept
                if other < position
                and this is not None
                and codes[other] is not None
                and distance(this, codes[other], hash_type="phash") <= range_
            ]
            assert (position in kept) == (not near)
            if near:
                assert position in next(group for group in groups if group[0] == near[0])


class TestRank:
    """Statement 25."""

    def test_the_nearest_first_then_by_position(self):
        codes = [code(5), None, code(1), code(1, start=3), code(0), None]
        assert rank(code(0), codes, hash_type="phash") == [(4, 0.0), (2, 1.6), (3, 1.6), (0, 7.8)]

    def test_nothing_to_rank(self):
        assert rank(code(0, "bmh1"), [None], hash_type="bmh1") == []
