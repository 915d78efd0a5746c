"""Ranks in suffixes: what counting and sorting each suffix by itself gives."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hisac_lab.ops.ranks import count_below, dense_rank, grouped, select


@given(values=st.lists(st.integers(0, 40), min_size=1, max_size=60), seed=st.integers(0, 1000))
def test_queries_give_what_sorting_each_suffix_gives(values: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    begin = random.integers(0, len(values) + 1, 30)
    bound = random.integers(0, 70, 30)
    counted = count_below(np.array(values), begin, bound)
    assert counted.tolist() == [
        sum(value < most for value in values[at:]) for at, most in zip(begin, bound, strict=True)
    ]
    begin = random.integers(0, len(values), 30)
    rank = random.integers(0, len(values) - begin)
    found = select(np.array(values), begin, rank)
    assert found.tolist() == [sorted(values[at:])[place] for at, place in zip(begin, rank, strict=True)]


def test_no_query_and_no_value_are_no_error() -> None:
    none = np.zeros(0, np.int64)
    assert count_below(np.arange(3), none, none).shape == select(np.arange(3), none, none).shape == (0,)
    assert count_below(none, np.zeros(2, np.int64), np.array([0, 5])).tolist() == [0, 0]


@given(st.lists(st.integers(-5, 5)))
def test_a_dense_rank_is_the_place_among_the_distinct_values(values: list[int]) -> None:
    distinct = sorted(set(values))
    assert dense_rank(np.array(values, np.int64)).tolist() == [distinct.index(value) for value in values]


@given(st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 3)))
def test_grouping_is_a_stable_argsort(codes: list[int]) -> None:
    values = np.array(codes, np.int32)
    assert grouped(values).tolist() == np.argsort(values, kind="stable").tolist()
