"""Metrics of slates, beside their brute-force references."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hisac_lab.abtest.metrics import Catalog, click_weight, diversity, in_tail, tail_share
from hisac_lab.abtest.people import PRIOR, Log


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


def test_metrics_of_a_policy_are_means_of_its_runs_by_user() -> None:
    """Two runs, one user with two slates of two places; by hand."""
    shown = np.array([[[[0, 1], [2, 0]]], [[[1, 2], [1, 0]]]])
    chances = np.array([[[[0.5, 0.2], [0.1, 0.4]]], [[[0.3, 0.0], [0.6, 0.5]]]])
    catalog = Catalog(np.array([False, True, True]), np.array([1.0, 2.0, 4.0]), None)
    found = catalog.read(shown, chances, np.array([10]))
    assert list(found) == ["clicks_per_user", "slates_clicked", "weighted_clicks", "tail_share"]
    assert found["clicks_per_user"] == pytest.approx([10 * (0.7 + 0.5 + 0.3 + 1.1) / 4])
    one_at_least = [1 - 0.5 * 0.8, 1 - 0.9 * 0.6, 1 - 0.7, 1 - 0.4 * 0.5]
    assert found["slates_clicked"] == pytest.approx([np.mean(one_at_least)])
    weighted = [0.5 + 2 * 0.2, 4 * 0.1 + 0.4, 2 * 0.3, 2 * 0.6 + 0.5]
    assert found["weighted_clicks"] == pytest.approx([np.mean(weighted)])
    assert found["tail_share"] == pytest.approx([np.mean([0.5, 0.5, 1.0, 0.5])])
    whole = Catalog(catalog.tail, None, np.array([[0], [0], [1]])).read(shown, chances, np.array([10]))
    assert list(whole) == ["clicks_per_user", "slates_clicked", "tail_share", "diversity"]


def _log(label: list[int], weight: list[float] | None) -> Log:
    """Exposures of four items, two of the first, by one user."""
    item, none = np.array([0, 0, 1, 2, 3]), np.zeros(5, np.int64)
    beside = (none.astype(bool), none, none, np.zeros(4), np.zeros(4))
    return Log(none, item, none, np.array(label, float), *beside, None if weight is None else np.array(weight))


def test_a_click_weighs_as_those_on_its_item_do() -> None:
    """What was not clicked says nothing; an item with few clicks is near the mean of all."""
    found = click_weight(_log([1, 1, 1, 0, 0], [3, 5, 1, 99, 99]))
    assert found is not None
    np.testing.assert_allclose(found, [(8 + PRIOR * 3) / (2 + PRIOR), (1 + PRIOR * 3) / (1 + PRIOR), 3, 3])


@pytest.mark.parametrize("weight", [None, [2, 2, 2, 7, 9]])
def test_clicks_that_all_weigh_the_same_have_no_weight(weight: list[float] | None) -> None:
    assert click_weight(_log([1, 1, 1, 0, 0], weight)) is None
    assert click_weight(_log([0, 0, 0, 0, 0], weight)) is None
