"""The world of factors: it knows tastes where there are some, and is judged on what it did not see."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from clicking import ITEMS, USERS, by_taste
from scipy.optimize import check_grad

from hisac_lab.abtest import factors
from hisac_lab.abtest.factors import Factors, FactorWorld, fit_factor_world, fit_factors
from hisac_lab.abtest.hindsight import WIDTH
from hisac_lab.abtest.people import Population
from hisac_lab.ops.auc import auc


def world_of(taste: float) -> tuple[FactorWorld, np.ndarray]:
    made, logits = by_taste(taste)
    return fit_factor_world(made, 4, (2.0, 8.0), 0), logits


def test_the_world_beats_chance_where_there_is_taste_and_only_there() -> None:
    world, truth = world_of(1.5)
    label = world.exposures.label[world.exposures.judged]
    assert auc(label, world.judged) > 0.72
    found = world.factors.logits(np.arange(USERS), np.tile(np.arange(ITEMS), (USERS, 1)))
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.8
    nothing, _ = world_of(0.0)
    assert auc(nothing.exposures.label[nothing.exposures.judged], nothing.judged) == pytest.approx(0.5, abs=0.05)


def test_no_exposure_is_judged_by_a_fit_that_saw_it() -> None:
    """On labels that are nothing but noise, a world of many factors remembers, and its judged logits do not."""
    made, _ = by_taste(0.0, each=20)
    world = fit_factor_world(made, 16, (0.01,), 0)
    label = made.label[made.judged]
    seen = world.factors.logits(made.who[made.judged], made.item[made.judged])
    assert auc(label, seen) > 0.95
    assert auc(label, world.judged) < 0.56


def test_fits_are_deterministic_and_depend_on_their_seed() -> None:
    made, _ = by_taste(1.0, users=40)
    one, two, other = (fit_factors(made, np.ones(len(made.label)), 3, 1.0, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.vector, two.vector)
    assert not np.array_equal(one.users, other.users)


def test_a_stronger_penalty_gives_milder_tastes() -> None:
    made, _ = by_taste(1.0, users=40)
    mild, wild = (
        np.abs(fit_factors(made, np.ones(len(made.label)), 3, penalty).users[:, 1:]).sum() for penalty in (20.0, 0.5)
    )
    assert mild < 0.2 * wild


def test_exposures_of_weight_zero_are_as_if_they_were_not_there() -> None:
    made, _ = by_taste(1.0, users=30)
    use = np.random.default_rng(1).random(len(made.label)) < 0.7
    parts = {name: getattr(made, name)[use] for name in ("who", "item", "time", "label", "judged")}
    without = dataclasses.replace(made, **parts)
    found = fit_factors(made, use * 1.0, 3, 1.0)
    np.testing.assert_allclose(found.vector, fit_factors(without, np.ones(use.sum()), 3, 1.0).vector)


def test_the_loss_has_the_gradient_that_the_fit_goes_down(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = by_taste(1.0, each=6, users=8)
    asked: dict[str, Any] = {}

    def remember(loss, start, **rest):  # type: ignore[no-untyped-def]
        asked.update(loss=loss, start=start)
        raise StopIteration

    monkeypatch.setattr(factors, "minimize", remember)
    with pytest.raises(StopIteration):
        fit_factors(made, np.linspace(0.5, 2, len(made.label)), 2, 1.5)
    loss, start = asked["loss"], asked["start"]
    assert check_grad(lambda v: loss(v)[0], lambda v: loss(v)[1], start) < 1e-4


def test_logits_are_biases_and_the_product_of_user_and_item() -> None:
    random = np.random.default_rng(0)
    made = Factors(0.3, random.normal(size=(5, 3)), random.normal(size=(7, 3)))
    who, shown = np.array([4, 1]), np.array([[0, 6, 2], [3, 3, 5]])
    found = made.logits(who, shown)
    for row in range(2):
        mine = made.users[who[row]]
        for column in range(3):
            theirs = made.items[shown[row, column]]
            assert found[row, column] == pytest.approx(0.3 + mine[0] + theirs[0] + mine[1:] @ theirs[1:])
    np.testing.assert_allclose(made.logits(who, shown[:, 0]), found[:, 0])


def test_mood_and_fame_are_rates_of_the_other_by_taste() -> None:
    made, _ = by_taste(1.0, users=12)
    use = np.random.default_rng(2).random(len(made.label)) < 0.8
    place = np.flatnonzero(~use)
    mood = made.mood(use, *made.around(made.who[place], place, 1))
    rate = made.label[use].mean()
    for at, found in list(zip(place, mood, strict=True))[:40]:
        near = np.arange(len(use))
        near = near[(made.who == made.who[at]) & (abs(near - at) <= WIDTH) & use]
        chance = (made.label[near].sum() + 4 * rate) / (len(near) + 4)
        assert found == pytest.approx(np.log(chance / (1 - chance)))
    fame = made.fame(use)
    for item in range(5):
        mine = made.label[use & (made.item == item)]
        chance = (mine.sum() + 4 * rate) / (len(mine) + 4)
        assert fame[item] == pytest.approx(np.log(chance / (1 - chance)))


def test_refits_differ_as_far_as_users_do() -> None:
    world, _ = world_of(1.5)
    people = Population(world.exposures.users[[3, 5]], np.array([1000, 1000]), np.zeros(2, int), np.ones(2, int))
    items = np.tile(np.arange(ITEMS), (2, 1))
    own = world.chances(people, items)
    others = [world.chances(people, items, fit) for fit in world.refits(3, 0)]
    assert ((own > 0) & (own < 1)).all()
    for other in others:
        assert 0.005 < np.abs(other - own).mean() < 0.2
        assert np.corrcoef(own.ravel(), other.ravel())[0, 1] > 0.8
    np.testing.assert_array_equal(others[0], world.chances(people, items, world.refits(1, 0)[0]))
