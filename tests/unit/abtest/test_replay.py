"""Replay: over all that a log could have held, weighted clicks come to the clicks of the policy's own slates."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hisac_lab.abtest.estimate import estimate
from hisac_lab.abtest.offpolicy import JUDGE, Rounds, halves, values, weights_hold
from hisac_lab.abtest.people import Population
from hisac_lab.abtest.replay import Slates
from hisac_lab.base.artifacts import Array
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.events.store import SAMPLE

ITEMS = 5
SCORE = np.array([0.3, 0.9, 0.9, 0.1, 0.5])
LIKED = np.array([0.2, 0.5, 0.4, 0.9, 0.1])
GUESS = np.array([0.3, 0.3, 0.6, 0.7, 0.2])
Q = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
INCLUSION = np.array([0.9, 0.5, 0.6, 0.3, 0.7])
EXAMINED = np.array([1.0, 0.6])
CODES = np.array([0, 0, 1, 1, -1])
POOLS = [np.array(pool) for size in range(ITEMS + 1) for pool in itertools.combinations(range(ITEMS), size)]


def chance_of(pool: Array) -> float:
    """Of drawing exactly this pool."""
    inside = np.isin(np.arange(ITEMS), pool)
    return float(np.where(inside, INCLUSION, 1 - INCLUSION).prod())


def value_of(pool: Array, score: Array, liked: Array, above: tuple[int, ...] = ()) -> float:
    """Clicks of the slate from a pool, by brute force: the best two by score, of equals the lower number."""
    best = sorted((item for item in pool.tolist() if item not in above), key=lambda item: (-score[item], item))
    return float(sum(seen * liked[item] for seen, item in zip(EXAMINED, best, strict=False)))


def slates_of(logged: Sequence[tuple[int, ...]], pools: list[Array], click: Array | None = None) -> Slates:
    """Requests of one exposure or two, the upper first, each with its pool."""
    items = np.array(logged)
    count, width = items.shape
    filled = np.arange(ITEMS) < np.array([len(pool) for pool in pools])[:, None]
    pool = np.zeros(filled.shape, np.int64)
    pool[filled] = np.concatenate(pools)
    propensity = Q[items].astype(float)
    if width == 2:
        propensity[:, 1] /= 1 - Q[items[:, 0]]
    place = np.arange(width)
    return Slates(
        Population(np.arange(count), np.zeros(count), np.zeros(count), np.ones(count)),
        np.arange(count),
        items,
        np.ones(items.shape, bool),
        LIKED[items] if click is None else click,
        propensity,
        np.broadcast_to(place < place[:, None], (count, width, width)),
        np.ones(items.shape),
        pool,
        filled,
        INCLUSION,
        EXAMINED,
    )


def rounds_of(slates: Slates, guess: Array = GUESS, codes: Array | None = CODES) -> Rounds:
    asked = slates.asked
    return slates.rounds(SCORE[asked], guess[asked], codes)


def test_over_every_log_and_pool_weighted_clicks_come_to_those_of_the_policy() -> None:
    """A world of five items, enumerated: all is exact whatever the click model says."""
    cells = [((item,), pool) for item in range(ITEMS) for pool in POOLS]
    chance = np.array([Q[item] * chance_of(pool) for (item,), pool in cells])
    rounds = rounds_of(slates_of([item for item, _ in cells], [pool for _, pool in cells]))
    wanted = sum(chance_of(pool) * value_of(pool, SCORE, LIKED) for pool in POOLS)
    ips = (chance * rounds.weight * rounds.reward).sum()
    robust = (chance * (rounds.direct + rounds.weight * (rounds.reward - rounds.liked))).sum()
    assert ips == pytest.approx(wanted, abs=1e-9)
    assert robust == pytest.approx(wanted, abs=1e-9)
    assert (chance * rounds.weight).sum() == pytest.approx((chance * rounds.expected).sum(), abs=1e-9)
    direct = sum(chance_of(pool) * value_of(pool, SCORE, GUESS) for pool in POOLS)
    assert (chance * rounds.direct).sum() == pytest.approx(direct, abs=1e-9)
    assert abs(direct - wanted) > 0.01


def test_an_exposure_lower_down_chooses_from_what_does_not_stand_above() -> None:
    cells = [((one, two), pool) for one, two in itertools.permutations(range(ITEMS), 2) for pool in POOLS]
    chance = np.array([Q[one] * Q[two] / (1 - Q[one]) * chance_of(pool) for (one, two), pool in cells])
    rounds = rounds_of(slates_of([items for items, _ in cells], [pool for _, pool in cells]))
    lower = np.arange(len(rounds.weight)) % 2 == 1
    wanted = sum(
        Q[one] * chance_of(pool) * value_of(pool, SCORE, LIKED, (one,)) for one in range(ITEMS) for pool in POOLS
    )
    assert (chance * (rounds.weight * rounds.reward)[lower]).sum() == pytest.approx(wanted, abs=1e-9)
    robust = (rounds.direct + rounds.weight * (rounds.reward - rounds.liked))[lower]
    assert (chance * robust).sum() == pytest.approx(wanted, abs=1e-9)
    assert (chance * rounds.weight[lower]).sum() == pytest.approx((chance * rounds.expected[lower]).sum(), abs=1e-9)


def test_semantic_ids_as_actions_are_exact_where_items_of_one_code_are_liked_alike() -> None:
    alike = np.array([0.2, 0.2, 0.7, 0.7, 0.4])
    cells = [((one, two), pool) for one, two in itertools.permutations(range(ITEMS), 2) for pool in POOLS]
    chance = np.array([Q[one] * Q[two] / (1 - Q[one]) * chance_of(pool) for (one, two), pool in cells])
    logged: list[tuple[int, ...]] = [items for items, _ in cells]
    slates = slates_of(logged, [pool for _, pool in cells], alike[np.array(logged)])
    rounds = rounds_of(slates)
    assert rounds.by_code is not None
    found = chance * (rounds.by_code * rounds.reward).reshape(-1, 2).T
    upper = sum(chance_of(pool) * value_of(pool, SCORE, alike) for pool in POOLS)
    assert found[0].sum() == pytest.approx(upper, abs=1e-9)


def test_estimators_are_their_closed_forms() -> None:
    """Two users with three rounds and one: a user's rounds first, then users; 1e-9."""
    rounds = Rounds(
        user=np.array([0, 0, 0, 1]),
        reward=np.array([1.0, 0.0, 2.0, 1.0]),
        weight=np.array([0.5, 3.0, 0.0, 4.0]),
        expected=np.array([1.5, 1.5, 1.5, 1.5]),
        liked=np.array([0.25, 0.5, 0.5, 0.75]),
        direct=np.array([0.6, 0.6, 0.3, 0.9]),
        by_code=np.array([1.0, 1.0, 2.0, 2.0]),
    )
    found = {name: float(each.mean()) for name, each in values(rounds, 2.0).items()}
    ips = (0.5 / 3 + 4) / 2
    assert found["ips"] == pytest.approx(ips, abs=1e-9)
    assert found["self_normalized"] == pytest.approx(1.5 * ips / ((3.5 / 3 + 4) / 2), abs=1e-9)
    assert found["clipped"] == pytest.approx((0.5 / 3 + 3) / 2, abs=1e-9)
    robust = ((0.6 + 0.5 * 0.75 + 0.6 - 3 * 0.5 + 0.3) / 3 + 0.9 + 4 * 0.25) / 2
    assert found[JUDGE] == pytest.approx(robust, abs=1e-9)
    assert found["clusters"] == pytest.approx((5 / 3 + 2) / 2, abs=1e-9)
    each = np.array([0.5 / 3, 1.0, 0.0, 4.0])
    assert rounds.effective == pytest.approx(each.sum() ** 2 / (each**2).sum(), abs=1e-9)
    assert rounds.clipped(2.0) == pytest.approx(1.0 / 7.5, abs=1e-9)
    assert dataclasses.replace(rounds, weight=np.zeros(4)).effective == 0


CONFIG = ABTestConfig(pool=8, slate=3)


def drawn(random: np.random.Generator, users: int, each: int = 12) -> tuple[Slates, Array, Array]:
    """A log of single exposures by a policy that follows tastes in part; the tastes, and all propensities."""
    taste = 1 / (1 + np.exp(-random.normal(-1, 1.2, (users, 20))))
    propensity = 0.5 * taste / taste.sum(axis=1, keepdims=True) + 0.5 / 20
    samples = np.zeros(users * each, SAMPLE)
    samples["user"] = np.repeat(np.arange(users), each)
    samples["request"] = np.arange(users * each)
    owner = samples["user"]
    picks = (random.random(len(samples))[:, None] > np.cumsum(propensity[owner], axis=1)).sum(axis=1)
    samples["item"] = np.minimum(picks, 19)
    samples["label"] = random.random(len(samples)) < taste[owner, samples["item"]]
    config = CONFIG.model_copy(update={"seed": int(random.integers(1 << 30))})
    chance = propensity[owner, samples["item"]]
    slates = Slates._grid(samples, chance, np.zeros(len(samples), np.int64), np.ones(20), config, None)
    return slates, taste, propensity


def arms(slates: Slates, taste: Array, liked: float) -> list[dict[str, Array]]:
    """Users' values under two policies: the item's number, and the taste."""
    asked, owner = slates.asked, slates.people.user
    guess = np.full(asked.shape, liked)
    by_number, by_taste = -1.0 * asked, taste[owner[:, None], asked]
    return [values(slates.rounds(score, guess, None), 10.0) for score in (by_number, by_taste)]


def test_estimates_are_unbiased_and_their_intervals_cover_the_lift_of_all_users() -> None:
    random, rounds = np.random.default_rng(0), 150
    slates, taste, _ = drawn(random, 4000, 1)
    owner = slates.people.user
    true = []
    for score in (-1.0 * slates.pool, taste[owner[:, None], slates.pool]):
        best = np.argsort(np.where(slates.filled, -score, np.inf), axis=1, kind="stable")[:, :3]
        shown = np.take_along_axis(np.where(slates.filled, taste[owner[:, None], slates.pool], 0), best, axis=1)
        true.append(float(shown.sum(axis=1).mean()))
    lift = true[1] / true[0] - 1
    found: dict[str, list[Any]] = {"ips": [], "self_normalized": [], JUDGE: []}
    for _ in range(rounds):
        slates, taste, _ = drawn(random, 150)
        control, treatment = arms(slates, taste, 0.3)
        for kind, each in found.items():
            each.append(estimate(control[kind][None, :, None], treatment[kind][None, :, None], [], 0.95).lift)
    for kind, each in found.items():
        inside = sum(one.low <= lift <= one.high for one in each)
        assert abs(inside - 0.95 * rounds) < 4 * math.sqrt(rounds * 0.95 * 0.05), kind
        assert np.mean([one.value for one in each]) == pytest.approx(lift, abs=0.06), kind
    width = {kind: np.mean([one.high - one.low for one in each]) for kind, each in found.items()}
    assert width[JUDGE] < width["ips"]


def test_weights_of_wrong_propensities_are_found_out() -> None:
    random = np.random.default_rng(1)
    slates, taste, _ = drawn(random, 300)
    asked, owner = slates.asked, slates.people.user
    score, guess = taste[owner[:, None], asked], np.zeros(asked.shape)
    right = slates.rounds(score, guess, None)
    assert weights_hold({"model": right}).holds
    uniform = dataclasses.replace(slates, propensity=np.full(slates.items.shape, 1 / 20))
    wrong = uniform.rounds(score, guess, None)
    told = weights_hold({"model": right, "other": wrong})
    assert not told.holds
    assert told.says.startswith("the weights of other come to")
    assert "if the propensities are right" in told.says


def test_weights_of_many_policies_are_held_against_what_chance_makes_of_so_many() -> None:
    gap = np.r_[np.full(500, 1.0), np.full(500, -1.0)]
    off = 3.4 * gap.std(ddof=1) / math.sqrt(len(gap))
    rounds = Rounds(
        user=np.arange(1000), reward=np.zeros(1000), weight=1 + gap + off, expected=np.ones(1000), liked=np.zeros(1000),
        direct=np.zeros(1000), by_code=None,
    )  # fmt: skip
    assert not weights_hold({"alone": rounds}).holds
    assert weights_hold({f"m{number}": rounds for number in range(2)}).holds


def test_real_slates_are_read_in_the_policys_order() -> None:
    slates = slates_of([(3, 1), (0, 4)], [np.array([0]), np.array([2])], np.array([[1.0, 0.0], [0.0, 1.0]]))
    found = slates.reranked(SCORE[slates.asked])
    np.testing.assert_allclose(found, [1 / math.log2(3), 1.0], atol=1e-9)


def test_halves_of_one_arm_differ_by_chance_alone() -> None:
    clicks = np.random.default_rng(0).gamma(2, 1, 400)
    found = halves(clicks, 200, "aa")
    assert found.tests == 200
    assert found.ks_p > 0.001
    assert halves(clicks, 200, "aa") == found
    assert halves(np.zeros(4), 20, "aa").rates["0.05"] == 0
