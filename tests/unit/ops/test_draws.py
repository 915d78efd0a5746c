"""Draws by key: uniform, the same whatever else is drawn, with and without replacement."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hisac_lab.ops.draws import distinct, mix, uniform


def test_a_draw_depends_on_its_keys_alone() -> None:
    users, places = np.arange(50), np.arange(7)
    whole = uniform(3, users[:, None], places)
    assert whole.shape == (50, 7)
    np.testing.assert_array_equal(uniform(3, users[::-1, None], places)[::-1], whole)
    np.testing.assert_array_equal(uniform(3, users[20:, None], places[2:4]), whole[20:, 2:4])
    assert uniform(3, 49, 6) == whole[49, 6]


def test_another_seed_and_another_order_of_keys_give_other_draws() -> None:
    users = np.arange(1000)
    assert (uniform(0, users) != uniform(1, users)).all()
    assert (mix(1, users)[2:] != mix(users, 1)[2:]).all()


def test_draws_are_uniform_and_not_correlated_with_their_neighbors() -> None:
    draws = uniform(0, np.arange(200_000))
    counts = np.bincount((draws * 50).astype(int), minlength=50)
    assert ((counts - 4_000) ** 2 / 4_000).sum() < 90  # chi-square with 49 degrees of freedom, p about 0.0003
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 0.01
    assert draws.min() >= 0
    assert draws.max() < 1


def test_hashes_of_many_keys_do_not_collide() -> None:
    assert len(np.unique(mix(np.arange(1000)[:, None], np.arange(1000)))) == 1_000_000


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=20), draws=st.integers(1, 6), seed=st.integers(0, 99))
def test_draws_without_replacement_are_different_and_as_many_as_there_are(
    sizes: list[int], draws: int, seed: int
) -> None:
    drawn = distinct(uniform(seed, np.arange(len(sizes))[:, None], np.arange(draws)), np.array(sizes))
    for row, size in zip(drawn, sizes, strict=True):
        found = row[row >= 0].tolist()
        assert len(found) == len(set(found)) == min(size, draws)
        assert set(found) <= set(range(size))
        assert (row[len(found) :] == -1).all()


def test_every_set_is_drawn_without_replacement_as_often_as_any_other() -> None:
    drawn = distinct(uniform(0, np.arange(60_000)[:, None], np.arange(3)), np.full(60_000, 6))
    _, counts = np.unique(np.sort(drawn, axis=1), axis=0, return_counts=True)
    assert len(counts) == 20
    assert ((counts - 3_000) ** 2 / 3_000).sum() < 46  # chi-square with 19 degrees of freedom, p about 0.0005
