"""The world: made of the future alone, it knows tastes where there are some."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hisac_lab.abtest.world import Population, World, fit_world, population
from hisac_lab.events.store import SAMPLE, EventStore


@st.composite
def exposures(draw: st.DrawFn) -> np.ndarray:
    """Test samples of a few users; few moments, so that many coincide; `end` grows with time as in a store."""
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    samples = np.zeros(draw(st.integers(1, 60)), SAMPLE)
    samples["user"] = random.integers(0, 6, len(samples)) * 3
    samples["time"] = random.integers(0, draw(st.sampled_from([2, 6, 40])), len(samples))
    samples["end"] = samples["user"] * 1000 + samples["time"]
    samples["item"], samples["label"] = random.integers(0, 9, len(samples)), random.integers(0, 2, len(samples))
    return samples[np.argsort(samples["time"], kind="stable")]


@given(samples=exposures())
@settings(max_examples=120, deadline=None)
def test_the_world_is_made_of_exposures_at_or_after_each_users_moment(samples: np.ndarray) -> None:
    people = population(samples)
    expected_users: list[tuple[int, int, int]] = []
    future: list[tuple[int, int, int]] = []
    for user in np.unique(samples["user"]):
        own = samples[samples["user"] == user]
        moment = np.sort(own["time"])[len(own) // 2]
        if moment > own["time"].min():
            later = own[own["time"] >= moment]
            future += [(len(expected_users), int(s["item"]), int(s["label"])) for s in later]
            expected_users.append((int(user), int(moment), int(later["end"].min())))
    found = list(zip(people.user.tolist(), people.time.tolist(), people.end.tolist(), strict=True))
    assert found == expected_users
    assert sorted(zip(people.who, people.item, people.label, strict=True)) == sorted(future)


def test_histories_that_policies_read_end_before_the_moment(store: EventStore) -> None:
    people = population(store.samples("test"))
    assert len(people.user) > 20
    last = store.times[people.end - 1]
    assert (store.offsets[people.user] < people.end).all()
    assert (people.end <= store.offsets[people.user + 1]).all()
    assert (last < people.time).all()
    following = np.minimum(people.end, len(store.times) - 1)
    own = people.end < store.offsets[people.user + 1]
    assert (store.times[following][own] >= people.time[own]).all()


def test_users_with_one_moment_only_are_left_out() -> None:
    samples = np.zeros(6, SAMPLE)
    samples["user"], samples["time"] = [1, 1, 2, 2, 2, 3], [5, 5, 1, 9, 9, 4]
    people = population(samples)
    assert people.user.tolist() == [2]
    assert people.time.tolist() == [9]
    assert len(people.label) == 2


def _people(taste: float, users: int = 150, items: int = 40, each: int = 40) -> tuple[Population, np.ndarray]:
    """Users who click by true tastes of this strength, with their true logits."""
    random = np.random.default_rng(0)
    logits = taste * random.normal(size=(users, 2)) @ random.normal(size=(items, 2)).T
    who = np.repeat(np.arange(users), each)
    item = random.integers(0, items, len(who))
    label = (random.random(len(who)) < 1 / (1 + np.exp(-logits[who, item]))).astype(float)
    nothing = np.zeros(users, np.int64)
    return Population(np.arange(users), nothing, nothing, who, item, label), logits


def test_the_world_beats_chance_where_there_is_taste_and_only_there() -> None:
    people, truth = _people(1.5)
    world = fit_world(people, 40, 4, 0.02, 0)
    assert world.holdout_auc > 0.75
    found = world.logits(np.arange(150), np.tile(np.arange(40), (150, 1)))
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.8
    assert fit_world(_people(0.0)[0], 40, 4, 0.02, 0).holdout_auc == pytest.approx(0.5, abs=0.06)


def test_the_world_of_the_generated_log_knows_something(store: EventStore) -> None:
    """A few hundred exposures of users who each like two of six genres."""
    worlds = [fit_world(population(store.samples("test")), 80, 4, 0.02, seed) for seed in range(6)]
    assert np.mean([world.holdout_auc for world in worlds]) > 0.55


def test_a_world_is_deterministic_and_depends_on_its_seed() -> None:
    people, _ = _people(1.0, users=40)
    one, two, other = (fit_world(people, 40, 3, 0.02, seed) for seed in (0, 0, 1))
    for part in ("user_bias", "item_bias", "taste", "items"):
        np.testing.assert_array_equal(getattr(one, part), getattr(two, part))
    assert not np.array_equal(one.taste, other.taste)
    assert one.holdout_auc == two.holdout_auc


def test_a_stronger_penalty_gives_milder_tastes() -> None:
    people, _ = _people(1.0, users=40)
    mild, wild = (np.abs(fit_world(people, 40, 3, penalty, 0).taste).sum() for penalty in (1.0, 0.005))
    assert mild < 0.2 * wild


def test_logits_are_biases_and_the_product_of_taste_and_item() -> None:
    random = np.random.default_rng(0)
    world = World(
        0.3, random.normal(size=5), random.normal(size=7), random.normal(size=(5, 2)), random.normal(size=(7, 2)), 0
    )
    who, shown, noise = np.array([4, 1]), np.array([[0, 6, 2], [3, 3, 5]]), random.normal(size=(2, 2))
    for extra in (0.0, noise):
        found = world.logits(who, shown, extra)
        for row in range(2):
            for column in range(3):
                item = shown[row, column]
                taste = world.taste[who[row]] + (extra if isinstance(extra, float) else extra[row])
                expected = 0.3 + world.user_bias[who[row]] + world.item_bias[item] + taste @ world.items[item]
                assert found[row, column] == pytest.approx(expected)
    np.testing.assert_allclose(world.logits(who, shown[:, 0]), world.logits(who, shown)[:, 0])
