"""The world of boosted trees: what it counts, and what it makes of it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from clicking import CODES, ITEMS, by_phase
from kit import says

from hisac_lab.abtest import boosted
from hisac_lab.abtest.boosted import NEVER, Counts, Grouping, TreeWorld, fit_tree_world
from hisac_lab.abtest.hindsight import PRIOR, WIDTH, Exposures
from hisac_lab.abtest.people import Population
from hisac_lab.base.artifacts import Array
from hisac_lab.ops.auc import auc


def _rate(made: Exposures, weight: Array, same: Array) -> float:
    mean = (weight * made.label).sum() / weight.sum()
    return float(((weight * made.label)[same].sum() + PRIOR * mean) / (weight[same].sum() + PRIOR))


def _plain(made: Exposures, same: Array, weight: Array, at: int, one_user: bool) -> list[float]:
    """The four numbers of one exposure, counted one by one."""
    order = np.flatnonzero(same)
    order = order[np.argsort(made.time[order], kind="stable")]
    place = int(np.flatnonzero(order == at)[0])
    near = [int(one) for number, one in enumerate(order) if number != place and abs(number - place) <= WIDTH]
    side = made.item if one_user else made.who
    expected = {value: _rate(made, weight, side == value) for value in set(side[order].tolist())}

    def more(which: list[int]) -> float:
        gained = sum(weight[one] * (made.label[one] - expected[int(side[one])]) for one in which)
        return float(gained / (weight[which].sum() + PRIOR))

    ages = [abs(int(made.time[one] - made.time[at])) for one in order if one != at and weight[one] > 0]
    number = weight[order].sum() * len(weight) / weight.sum()
    return [more(order.tolist()), number, more(near), min(ages, default=NEVER)]


def test_columns_are_what_the_other_exposures_say_on_both_sides() -> None:
    made, nodes = by_phase(each=30, users=12)
    random = np.random.default_rng(2)
    use = random.random(len(made.label)) < 0.7
    weight = use * random.exponential(size=len(use))
    held = np.flatnonzero(~use)[::7]
    mask = np.zeros(len(use), bool)
    mask[held] = True
    found = Counts.of(made, nodes, 0).held(weight, mask)
    code = nodes[made.item, 0]
    for row, at in enumerate(held):
        mine, same, alike = made.who == made.who[at], made.item == made.item[at], code == code[at]
        shared = ((mine, True), (same, False), (mine & same, True), (alike, False), (mine & alike, True))
        for number, (group, one_user) in enumerate(shared):
            wanted = _plain(made, group, weight, at, one_user)
            assert len(wanted) == 4
            np.testing.assert_allclose(found[row, 4 * number : 4 * number + 4], wanted, rtol=1e-4, atol=1e-6)


def test_moments_are_found_where_exposures_stand_and_nothing_stands_around_strangers() -> None:
    made, _ = by_phase(each=15, users=8)
    grouping = Grouping.of(made.who, made.time, one_user=True)
    own, found = grouping.own(), grouping.find(made.who, made.time)
    for name in ("begin", "end", "before", "time"):
        np.testing.assert_array_equal(getattr(own, name), getattr(found, name))
    np.testing.assert_array_equal(own.after, found.after + 1)
    strange = grouping.find(np.array([99, -1]), np.array([0, 10**12]))
    columns = grouping.columns(np.ones(len(made.who)), made.label, strange)
    np.testing.assert_array_equal(columns, np.tile([0, 0, 0, NEVER], (2, 1)))
    early, late = grouping.find(np.array([2, 2]), np.array([-5, 10**12]))[2]
    assert (early, late) == (2 * 15, 3 * 15)


def _world(trees: int = 30) -> TreeWorld:
    made, nodes = by_phase()
    return fit_tree_world(made, nodes, trees, 0)


@pytest.fixture(scope="module")
def world() -> TreeWorld:
    return _world()


def test_trees_know_which_codes_a_user_likes_around_the_moment(world: TreeWorld) -> None:
    made = world.exposures
    assert auc(made.label[made.judged], world.judged) > 0.65
    people = Population(made.users, np.full(len(made.users), 2200), np.zeros(len(made.users), int), made.users)
    found = world.chances(people, np.tile(np.arange(CODES), (len(made.users), 1)))
    near = (abs(made.time - 2200) <= 700) & (world.counts.nodes[made.item, 0] < CODES)
    key = made.who[near] * CODES + world.counts.nodes[made.item[near], 0]
    shown, clicked = (np.bincount(key, each, found.size) for each in (None, made.label[near]))
    known = shown > 1
    assert np.corrcoef(found.ravel()[known], clicked[known] / shown[known])[0, 1] > 0.5


def test_chances_do_not_depend_on_the_blocks_they_are_counted_in(
    world: TreeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = world.exposures.users[:7]
    people = Population(users, np.arange(7) * 500, users, users)
    items = np.random.default_rng(0).integers(0, ITEMS, (7, 2, 5))
    whole = world.chances(people, items)
    monkeypatch.setattr(boosted, "BLOCK", 20)
    np.testing.assert_array_equal(world.chances(people, items), whole)
    assert ((whole > 0) & (whole < 1)).all()


def test_refits_differ_as_far_as_users_do(world: TreeWorld) -> None:
    users = world.exposures.users[:20]
    people = Population(users, np.full(20, 3000), users, users)
    items = np.tile(np.arange(ITEMS), (20, 1))
    own = world.chances(people, items)
    one, two = (world.chances(people, items, fit) for fit in world.refits(2, 0))
    assert not np.array_equal(one, two)
    for other in (one, two):
        assert 0.005 < np.abs(other - own).mean() < 0.2
        assert np.corrcoef(own.ravel(), other.ravel())[0, 1] > 0.8


def test_without_lightgbm_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with says("need LightGBM", "pip install 'hisac-lab[trees]'"):
        _world(1)
