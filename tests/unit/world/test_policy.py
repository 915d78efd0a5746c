"""The logging policy: slates, and propensities that are what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hisac_lab.config.world import PRESETS
from hisac_lab.world import truth
from hisac_lab.world.catalog import Catalog, make_catalog
from hisac_lab.world.life import Life, make_life
from hisac_lab.world.policy import SHARES, Policy

WORLD = replace(PRESETS["tiny"], items=260, slate=5, events_per_user=1_000, topics=(4, 8, 2), interests=16)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return make_catalog(WORLD)


@pytest.fixture(scope="module")
def life(catalog: Catalog) -> Life:
    return make_life(np.random.default_rng(5), catalog, WORLD)


def test_the_mixture_is_a_distribution_with_full_support(catalog: Catalog, life: Life) -> None:
    policy = Policy(np.random.default_rng(0), catalog, life)
    chance = policy.mixture(np.broadcast_to(np.arange(WORLD.items), (WORLD.requests, WORLD.items)))
    np.testing.assert_allclose(chance.sum(axis=1), 1, rtol=1e-9)
    assert chance.min() >= SHARES["uniform"] / WORLD.items
    inside = catalog.subtopic == life.subtopic[life.subject][:, None]
    assert (np.where(inside, chance, 0).sum(axis=1) > SHARES["leaf"] + SHARES["subtopic"]).all()


def test_no_item_is_twice_in_a_slate(catalog: Catalog, life: Life) -> None:
    for slate in (1, 5, 60):
        items = Policy(np.random.default_rng(1), catalog, life).slates(slate)
        assert items.shape == (WORLD.requests, slate)
        assert (np.diff(np.sort(items, axis=1), axis=1) > 0).all()


def test_propensities_are_the_frequencies_of_simulation(catalog: Catalog, life: Life) -> None:
    """The same request 40,000 times: each position's frequencies are the mean of the conditional probabilities."""
    draws = 40_000
    same = replace(life, subject=np.full(draws, life.subject[7]))
    policy = Policy(np.random.default_rng(2), catalog, same)
    items = policy.slates(WORLD.slate)
    everything = np.arange(WORLD.items)
    chance = policy.mixture(np.broadcast_to(everything, (draws, WORLD.items)))
    recorded = policy.propensities(items)
    above = np.zeros((draws, WORLD.items), bool)
    for position in range(WORLD.slate):
        conditional = np.where(above, 0, chance) / (1 - np.where(above, chance, 0).sum(axis=1, keepdims=True))
        at = items[:, position]
        np.testing.assert_allclose(recorded[:, position], conditional[np.arange(draws), at], rtol=1e-9)
        expected = conditional.mean(axis=0)
        found = np.bincount(at, minlength=WORLD.items) / draws
        error = (found - expected) / np.sqrt(expected * (1 - expected) / draws)
        assert np.abs(error).max() < 4.5
        assert error.std() == pytest.approx(1, abs=0.2)
        above[np.arange(draws), at] = True


@pytest.mark.parametrize("target", ["uniform", "popular", "one topic"])
def test_importance_weighting_recovers_the_value_of_another_policy(catalog: Catalog, life: Life, target: str) -> None:
    """Another policy for the top position, known exactly: its clicks are estimated from the logged ones."""
    requests = 60_000
    long = replace(life, subject=np.resize(life.subject, requests))
    random = np.random.default_rng(3)
    policy = Policy(random, catalog, long)
    items = policy.slates(1)
    everything = np.broadcast_to(np.arange(WORLD.items), (requests, WORLD.items))
    chance = truth.sigmoid(truth.BASE + catalog.appeal[everything] + truth.interest(catalog, long, everything)[0])
    wanted = {
        "uniform": np.ones(WORLD.items),
        "popular": catalog.weight,
        "one topic": (catalog.subtopic < catalog.subtopics).astype(float),
    }[target]
    wanted = wanted / wanted.sum()
    value = (chance @ wanted).mean()
    clicks = random.random(requests) < chance[np.arange(requests), items[:, 0]]
    terms = clicks * wanted[items[:, 0]] / policy.propensities(items)[:, 0]
    error = terms.std() / np.sqrt(requests)
    assert abs(terms.mean() - value) < 3.5 * error
    assert error < 0.1 * value
    # The logged clicks themselves are another policy's.
    assert abs(clicks.mean() - value) > 10 * error
