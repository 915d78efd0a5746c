"""Slates of a softmax policy: their chances, and what another policy is worth by them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit import prepare_log, says
from outputs import model_scores, save_evaluated

from hisac_lab.abtest import experiment, policies
from hisac_lab.abtest.estimate import estimate, expected_clicks
from hisac_lab.abtest.experiment import abtest
from hisac_lab.abtest.offpolicy import JUDGE, values, weights_hold
from hisac_lab.abtest.people import Population
from hisac_lab.abtest.policies import drawn_places, log_chances, propensities
from hisac_lab.abtest.records import ABTests
from hisac_lab.abtest.shown import FILE, ShownSlates, open_slates
from hisac_lab.abtest.truth import examined, rebuild, true_chances
from hisac_lab.base.artifacts import Array, stage_output
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.config.world import WorldConfig
from hisac_lab.evaluation.records import Scores
from hisac_lab.events.store import EventStore
from hisac_lab.sources.acquire import acquire

LOGITS = np.array([0.3, -1.2, 0.9, 0.0, 2.0])
OTHER = np.array([1.0, 0.5, -0.7, 0.2, -1.0])
LIKED = np.array([0.2, 0.5, 0.4, 0.9, 0.1])
GUESS = np.array([0.3, 0.3, 0.6, 0.7, 0.2])
LOOKED = np.array([1.0, 0.6])
SLATES = np.array(list(itertools.permutations(range(5), 2)))


def chance_of(slate: Array, logits: Array, temperature: float) -> float:
    """Of a whole slate, drawn place by place, by brute force."""
    odds, chance, left = np.exp(logits / temperature), 1.0, set(range(len(logits)))
    for item in slate.tolist():
        chance *= odds[item] / sum(odds[one] for one in left)
        left.remove(item)
    return chance


def every_slate(temperature: float) -> tuple[ShownSlates, Array]:
    """Each slate of two of five items as that of one user, always looked at and clicked as it is liked."""
    pools = np.broadcast_to(np.arange(5), (len(SLATES), 1, 5))
    scores = np.broadcast_to(LOGITS, pools.shape)
    places = SLATES[:, None]
    chances = propensities(scores, places, temperature)
    return ShownSlates(np.arange(len(SLATES)), pools, places, chances, LIKED[places] * LOOKED), chances


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_the_chances_of_a_slate_multiply_to_that_of_drawing_it(temperature: float) -> None:
    chances = every_slate(temperature)[1].prod(axis=2)[:, 0]
    np.testing.assert_allclose(chances, [chance_of(slate, LOGITS, temperature) for slate in SLATES], rtol=1e-12)
    assert chances.sum() == pytest.approx(1, abs=1e-12)


def test_chances_are_right_where_little_is_left() -> None:
    """A sharp policy: what is left after the best item has all but no chance before it."""
    scores = np.array([[[900.0, 0.0, -1.0]]])
    found = propensities(scores, np.array([[[0, 1, 2]]]), 0.5)
    np.testing.assert_allclose(found[0, 0], [1, 1 / (1 + math.exp(-2)), 1], rtol=1e-12)
    assert np.exp(log_chances(scores, np.array([[[False, True, False]]]), 0.5)).tolist() == [[[0, 1, 0]]]


def test_slates_are_drawn_with_their_chances_and_one_luck() -> None:
    users = 40_000
    scores = np.broadcast_to(LOGITS, (users, 1, 5))
    places = drawn_places(scores, 2, 0.7, (0, 9))
    for slate in SLATES:
        chance = chance_of(slate, LOGITS, 0.7)
        share = (places[:, 0] == slate).all(axis=1).mean()
        assert abs(share - chance) < 4.5 * math.sqrt(chance * (1 - chance) / users)
    np.testing.assert_array_equal(drawn_places(scores, 2, 0.7, (0, 9)), places)
    assert (drawn_places(scores, 2, 0.7, (1, 9)) != places).any()
    more = drawn_places(np.repeat(scores, 3, axis=1), 2, 0.7, (0, 9))
    np.testing.assert_array_equal(more[:, :1], places)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_over_every_slate_weighted_clicks_come_to_those_of_the_other_policy(temperature: float) -> None:
    """All slates of two of five items: exact, whatever the click model says."""
    shown, chances = every_slate(1.0)
    chance = chances.prod(axis=2)[:, 0]
    scores = np.broadcast_to(OTHER, shown.pools.shape)
    rounds = shown.rounds(scores, temperature, np.broadcast_to(GUESS, shown.pools.shape), LOOKED)
    wanted = sum(chance_of(slate, OTHER, temperature) * (LIKED[slate] * LOOKED).sum() for slate in SLATES)
    found = values(rounds, 1e9)
    for kind in ("ips", "clipped", JUDGE):
        assert (chance * found[kind]).sum() == pytest.approx(wanted, abs=1e-9), kind
    weight = rounds.mean(rounds.weight)
    assert (chance * weight).sum() == pytest.approx(rounds.mean(rounds.expected)[0], abs=1e-9)
    direct = sum(chance_of(slate, OTHER, temperature) * (GUESS[slate] * LOOKED).sum() for slate in SLATES)
    assert abs(direct - wanted) > 0.01


def test_the_lift_of_one_policy_is_recovered_from_the_slates_of_another() -> None:
    """Of 60 draws of users, slates and clicks, 95 % of the intervals hold the lift of all users."""
    random, looked, inside, rounds = np.random.default_rng(0), np.array([1.0, 0.7]), 0, 60
    taste = random.normal(-1, 1, (3000, 2, 12))
    liked = 1 / (1 + np.exp(-taste))
    scores, better = random.normal(0, 0.5, taste.shape), taste / 1.5
    slates = [drawn_places(each, 2, 1.0, (5,)) for each in (scores, better)]
    control, treatment = (expected_clicks(liked, places, looked).mean() for places in slates)
    for number in range(rounds):
        who = random.integers(len(taste), size=400)
        places = drawn_places(scores[who], 2, 1.0, (7, number))
        chance = np.take_along_axis(liked[who], places, axis=2) * looked
        click = random.random(chance.shape) < chance
        shown = ShownSlates(who, np.zeros(taste[who].shape), places, propensities(scores[who], places, 1.0), click)
        guess = np.full(taste[who].shape, 0.3)
        one, two = (shown.rounds(of[who], 1.0, guess, looked) for of in (scores, better))
        assert weights_hold({"better": two}).holds
        base, other = (values(each, 10.0)[JUDGE][None, :, None] for each in (one, two))
        low, high = estimate(base, other, [], 0.95).lift.interval
        inside += low <= treatment / control - 1 <= high
    assert treatment / control > 1.2
    assert abs(inside - 0.95 * rounds) < 4 * math.sqrt(rounds * 0.95 * 0.05)


CONFIG = ABTestConfig(
    control="din_50", policy="softmax", temperature=2.0, visits=30, pool=20, slate=3, aa_tests=20, users=600
)
EXPERIMENT = ExperimentConfig(models=("din_50", "hisac"), seeds=(0,))


def _run(home: Path, config: ABTestConfig, **given: Any) -> Path:
    for name in ("evaluate", "out"):
        (home / name).mkdir(parents=True)
    save_evaluated(home / "evaluate", EXPERIMENT.models, best_seed=0, fingerprint="abc", confidence=0.95)
    scores = {name: model_scores(0.6, 0.0, 1) for name in EXPERIMENT.models}
    Scores.of({"models": scores, "slices": {}}, home / "evaluate").save(home / "evaluate")
    paths: dict[str, Any] = {"trained": home / "train", "evaluated": home / "evaluate", "out": home / "out"}
    abtest(config, EXPERIMENT, ComputeConfig(device="cpu"), **paths, **given)
    return home / "out"


def test_the_stage_keeps_slates_that_tell_the_lift_of_the_other_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the simulated world: a policy by the truth, and one that errs, from whose slates the other's lift is read."""
    with stage_output(tmp_path / "acquire") as made:
        acquire(AcquireConfig(dataset="world", world=WorldConfig(users=30)), out=made)
    prepare_log(PrepareConfig(), tmp_path / "acquire", tmp_path / "prepare")
    simulator, asked = rebuild(tmp_path / "acquire"), dict[str, Array]()

    def scored(run: Path, store: EventStore, people: Population, items: Array, *rest: object) -> Array:
        chances = true_chances(simulator, store, people, items)
        wrong = np.random.default_rng(0).normal(0, 1.5, store.manifest.items)[items]
        logits: Array = np.log(chances / (1 - chances)) + (wrong if run.name.startswith("din") else 0)
        asked.setdefault(run.name, logits)  # of the pools; those of single days come later
        return logits

    for module in (experiment, policies):
        monkeypatch.setattr(module, "scores_of", scored)
    monkeypatch.setattr(experiment, "foreseen", lambda runs, store, people, shown, *rest: np.zeros(len(shown)))
    given = {"prepared": tmp_path / "prepare", "acquired": tmp_path / "acquire"}
    out = _run(tmp_path, CONFIG.model_copy(update={"days": 2}), **given)
    test = ABTests.open(out).tests["hisac"]
    assert test.lift.low > 0
    assert [day.lift > 0 for day in test.days] == [True, True]
    shown = open_slates(out, "din_50", 0)
    assert shown.places.shape == (len(shown.user), CONFIG.visits, CONFIG.slate)
    shape = shown.pools.shape
    ours, theirs = asked["hisac-0"].reshape(shape), asked["din_50-0"].reshape(shape[0], -1, shape[2])[:, : shape[1]]
    np.testing.assert_allclose(shown.propensity, propensities(theirs, shown.places, 2.0), rtol=1e-6)
    looked, guess = examined(simulator, CONFIG.slate), np.full(shape, 0.2)
    rounds = [shown.rounds(scores, 2.0, guess, looked) for scores in (theirs, ours)]
    arms = [values(one, 10.0)[JUDGE][None, :, None] for one in rounds]
    found = estimate(arms[0], arms[1], [], 0.95).lift
    assert found.low <= test.lift.value <= found.high
    assert found.high - found.low < 0.5
    assert weights_hold({"hisac": rounds[1]}).holds
    uniform = dataclasses.replace(shown, propensity=np.full(shown.places.shape, 1 / CONFIG.pool))
    assert not weights_hold({"hisac": uniform.rounds(ours, 2.0, guess, looked)}).holds
    with says(FILE, "holds no slate of run 1 of din_50"):
        open_slates(out, "din_50", 1)
    top = _run(tmp_path / "top", CONFIG.model_copy(update={"policy": "top", "visits": 2}), **given)
    with says(FILE, "is not there", "set abtest.policy to softmax"):
        open_slates(top, "din_50", 0)


def test_replay_of_a_softmax_policy_is_refused(tmp_path: Path) -> None:
    made = AcquireConfig(dataset="world", world=WorldConfig(users=5))
    with stage_output(tmp_path / "acquire") as out:
        acquire(made, out=out)
    prepare_log(PrepareConfig(), tmp_path / "acquire", tmp_path / "prepare")
    config = CONFIG.model_copy(update={"evidence": "replay"})
    with says("settings", "abtest.policy", "set it to top"):
        _run(tmp_path, config, prepared=tmp_path / "prepare", acquired=tmp_path / "acquire")
