"""Interests: of different age, some fading, some returning after long, and decoys that cannot be told from these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hisac_lab.config.world import FOCUS, PRESETS, World
from hisac_lab.world.catalog import Catalog, make_catalog
from hisac_lab.world.life import Life, make_life

WORLD = replace(PRESETS["small"], events_per_user=4_000, interests=40, share_old=0.5, old_after=205)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return make_catalog(WORLD)


def lives(catalog: Catalog, world: World, count: int = 30) -> list[Life]:
    return [make_life(np.random.default_rng(seed), catalog, world) for seed in range(count)]


def test_interests_are_in_focus_four_at_a_time_until_younger_ones_come(catalog: Catalog) -> None:
    for life in lives(catalog, WORLD):
        count = WORLD.interests
        assert len(set(life.subtopic)) == 2 * count
        np.testing.assert_array_equal(life.leaf // catalog.themes, life.subtopic)
        at = np.arange(WORLD.requests)[:, None]
        focus = (life.birth[:count] <= at) & (at < life.passed[:count])
        assert (focus.sum(axis=1) == FOCUS).all()
        current = ~life.returned
        assert focus[current, life.subject[current]].all()
        old = life.subject[life.returned]
        assert (old[old < count][:, None] == np.flatnonzero(life.lasts)).any(axis=1).all()
        assert life.lasts[old[old >= count] - count].all()
        assert (life.strength[:count] > 0).all()
        assert (life.strength[count:] == 0).all()


def test_a_return_comes_only_after_more_than_old_after_exposures_without(catalog: Catalog) -> None:
    waits = []
    for life in lives(catalog, WORLD):
        for request in np.flatnonzero(life.returned):
            before = np.flatnonzero(life.subject[:request] == life.subject[request])
            if len(before):  # a decoy's first showing has none
                # From the last exposure there to the first one here, both positions counted from the log's start.
                waits.append(request * WORLD.slate - (before[-1] * WORLD.slate + WORLD.slate - 1))
    assert len(waits) > 1_000
    assert min(waits) > WORLD.old_after
    assert min(waits) <= WORLD.old_after + 2 * WORLD.slate


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.8])
def test_share_old_is_the_share_of_returns_once_life_is_under_way(catalog: Catalog, share: float) -> None:
    late = slice(WORLD.requests * 4 // 5, None)
    found = [life.returned[late].mean() for life in lives(catalog, replace(WORLD, share_old=share))]
    assert np.mean(found) == pytest.approx(share, abs=0.06)


def test_returns_are_as_often_of_decoys_as_of_interests(catalog: Catalog) -> None:
    subjects = np.concatenate([life.subject[life.returned] for life in lives(catalog, WORLD)])
    assert (subjects >= WORLD.interests).mean() == pytest.approx(0.5, abs=0.01)


def test_ready_counts_the_old_ones(catalog: Catalog) -> None:
    for life in lives(catalog, WORLD, 5):
        first = np.flatnonzero(life.returned)[0]
        assert life.ready[first] >= 1
        assert life.ready[0] == 0
        assert life.ready[-1] <= life.lasts.sum()


def test_drift_is_how_far_strengths_move(catalog: Catalog) -> None:
    still = lives(catalog, replace(WORLD, drift=0.0))
    moving = lives(catalog, replace(WORLD, drift=0.7))
    assert not np.concatenate([life.slope for life in still]).any()
    assert np.concatenate([life.slope for life in moving]).std() == pytest.approx(0.7, rel=0.05)
