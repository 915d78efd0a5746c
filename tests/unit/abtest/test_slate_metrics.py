"""Metrics of slates, beside their brute-force references."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hisac_lab.abtest.metrics import diversity, in_tail, tail_share


def test_the_tail_begins_where_the_head_makes_up_its_share() -> None:
    assert in_tail(np.array([50, 1, 30, 19])).tolist() == [False, True, False, True]
    assert in_tail(np.array([1, 1, 1, 1, 1])).tolist() == [False, False, False, False, True]


def test_the_tails_share_is_that_of_what_is_shown() -> None:
    tail = np.array([False, True, True])
    np.testing.assert_allclose(tail_share(tail, np.array([[[0, 1], [0, 0]], [[1, 2], [2, 0]]])), [0.25, 0.75])


def test_diversity_is_the_mean_share_of_levels_in_which_pairs_part() -> None:
    random = np.random.default_rng(0)
    nodes = random.integers(-1, 3, (20, 3))
    slates = random.integers(0, 20, (4, 2, 5))
    found = diversity(nodes, slates)
    for user in range(4):
        parted = [
            np.mean([a != b or a < 0 for a, b in zip(nodes[one], nodes[other], strict=True)])
            for slate in slates[user]
            for one, other in itertools.combinations(slate, 2)
        ]
        assert found[user] == pytest.approx(np.mean(parted))
    assert diversity(nodes, slates[:, :, :1]).tolist() == [0, 0, 0, 0]
