"""The stage `abtest`: its verdicts are true of the world, and its A/A test finds nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from kit import BACKBONE, CPU, MODELS, Stages, as_backbone, says
from outputs import save_evaluated
from torch import nn

from hisac_lab.abtest import experiment as run
from hisac_lab.abtest.experiment import Crowd, _pools, _slates, abtest
from hisac_lab.abtest.records import ABTest, ABTested, ABTests
from hisac_lab.abtest.world import World, population
from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.events.records import POSITIVES
from hisac_lab.events.series import ItemSeries
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import save_model
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace

CONFIG = ABTestConfig(users=600, visits=2, pool=20, slate=5, world_dim=4)
EXPERIMENT = ExperimentConfig(models=("din_50", "hisac"), seeds=(0, 1))
ITEMS, PEOPLE = 60, 80


def _run(home: Path, stages: Stages, trained: Path, config: ABTestConfig = CONFIG, confidence: float = 0.95) -> Path:
    for name in ("evaluate", "out"):
        (home / name).mkdir(parents=True)
    save_evaluated(home / "evaluate", EXPERIMENT.models, best_seed=1, fingerprint="abc", confidence=confidence)
    compute = ComputeConfig(device="cpu")
    abtest(
        config,
        EXPERIMENT,
        compute,
        prepared=stages.prepare,
        trained=trained,
        evaluated=home / "evaluate",
        out=home / "out",
    )
    return home / "out"


def test_the_stage_writes_a_test_per_challenger_and_an_aa_test(stages: Stages, trained: Path, tmp_path: Path) -> None:
    out = _run(tmp_path / "one", stages, trained)
    found, manifest = ABTests.open(out), ABTested.open(out)
    assert found.control == manifest.control == "din_50"
    assert list(found.tests) == ["hisac"]
    assert found.seeds == {"din_50": 1, "hisac": 1}
    assert "cannot show" in found.caveat
    for test in (found.tests["hisac"], found.aa):
        assert test.users.control + test.users.treatment == CONFIG.users
        assert test.lift.low < test.lift.value < test.lift.high
        assert 0 < test.ctr.control < 1
        assert test.sample_ratio_p > 1e-4
    assert found.aa.true_lift == 0
    assert found.tests["hisac"].true_lift != 0
    assert manifest.world.dim == 4
    assert manifest.fingerprint == "abc"
    assert sha256_tree(_run(tmp_path / "two", stages, trained)) == sha256_tree(out)


def test_intervals_have_the_level_of_the_evaluation(stages: Stages, trained: Path, tmp_path: Path) -> None:
    outs = [_run(tmp_path / str(level), stages, trained, confidence=level) for level in (0.8, 0.99)]
    assert [ABTested.open(out).confidence for out in outs] == [0.8, 0.99]
    narrow, wide = (ABTests.open(out).tests["hisac"].lift for out in outs)
    assert narrow.value == wide.value
    assert wide.low < narrow.low < narrow.high < wide.high


def test_slates_larger_than_the_catalog_are_refused(stages: Stages, trained: Path, tmp_path: Path) -> None:
    with says("settings", "abtest.slate", "90 is more than the"):
        _run(tmp_path, stages, trained, CONFIG.model_copy(update={"slate": 90, "pool": 100}))


def test_a_policy_is_told_the_context_of_its_candidates_before_the_moment(
    store: EventStore, items: ItemSpace, tmp_path: Path
) -> None:
    """A tower that sees popularity alone puts the items first that had most positives before the moment."""
    backbone = BACKBONE.model_copy(update={"features": ("length", "popularity")})
    model = as_backbone(build(MODELS["din-short-only"], backbone, items, 0))
    first, last = model.tower[0], model.tower[-1]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    for layer in (first, last):
        nn.init.zeros_(layer.weight)
    column = first.in_features - len(model.context_columns.names)
    assert model.context_columns.names[0] == "popularity"
    first.weight.data[0, column], last.weight.data[0, 0] = 1.0, 1.0
    save_model(tmp_path, model, MODELS["din-short-only"], items)
    people = population(store.samples("test"))
    pools = _pools(store, people, CONFIG)
    found = _slates(tmp_path, store, people, pools, 3, CPU)
    series = ItemSeries.open(store.path, POSITIVES, store.manifest.context.half_lives)
    counts = series.at(pools, people.time[:, None, None]).count
    best = np.argsort(-counts, axis=2, kind="stable")[:, :, :3]
    np.testing.assert_array_equal(found, np.take_along_axis(pools, best, axis=2))


def test_pools_hold_training_items_once_and_slates_the_best_of_them(store: EventStore, trained: Path) -> None:
    people = population(store.samples("test"))
    pools = _pools(store, people, CONFIG)
    assert pools.shape == (len(people.user), 2 * CONFIG.visits, CONFIG.pool)
    assert (np.diff(np.sort(pools, axis=2), axis=2) > 0).all()
    assert np.isin(pools, store.samples("train")["item"]).all()
    np.testing.assert_array_equal(pools, _pools(store, people, CONFIG))
    few = _slates(trained / "hisac-0", store, people, pools, 3, CPU)
    whole = _slates(trained / "hisac-0", store, people, pools, CONFIG.pool, CPU)
    np.testing.assert_array_equal(np.sort(whole, axis=2), np.sort(pools, axis=2))
    np.testing.assert_array_equal(whole[:, :, :3], few)
    assert not np.array_equal(few, _slates(trained / "din_50-0", store, people, pools, 3, CPU))


def _crowd(seed: int) -> tuple[Crowd, np.ndarray, np.ndarray]:
    """Users of a known world; slates drawn from all items and slates drawn from the better two thirds."""
    random = np.random.default_rng(0)
    bias, liking = random.normal(0, 0.9, PEOPLE), random.normal(0, 0.4, ITEMS)
    world = World(-1.0, bias, liking, random.normal(0, 0.5, (PEOPLE, 3)), random.normal(0, 0.5, (ITEMS, 3)), 0.7)
    crowd = Crowd(world, CONFIG.model_copy(update={"users": 500, "seed": seed, "world_dim": 3}), 0.95)
    shape = (PEOPLE, 2 * CONFIG.visits, CONFIG.slate)
    good = np.argsort(liking)[ITEMS // 3 :]
    return crowd, random.integers(0, ITEMS, shape), good[random.integers(0, len(good), shape)]


def test_a_policy_reads_the_feedback_of_the_histories(stages: Stages, trained: Path) -> None:
    store = EventStore.open(stages.prepare)
    people = population(store.samples("test"))
    pools = _pools(store, people, CONFIG)
    assert store.feedback is not None
    turned = dataclasses.replace(store, feedback=6 - np.asarray(store.feedback))
    plain, other = (_slates(trained / "hisac-1", one, people, pools, CONFIG.slate, CPU) for one in (store, turned))
    assert (plain != other).any()


def _results(lifted: bool, rounds: int = 150) -> list[ABTest]:
    found = []
    for seed in range(rounds):
        crowd, plain, good = _crowd(seed)
        found.append(crowd.test(plain, good if lifted else plain, f"salt-{seed}"))
    return found


def test_the_true_lift_usually_lies_in_the_interval_and_a_better_policy_usually_wins() -> None:
    found = _results(lifted=True)
    true = [test.true_lift for test in found]
    assert min(true) > 0.05
    for kind in ("lift", "lift_cuped"):
        inside = [
            getattr(test, kind).low <= lift <= getattr(test, kind).high for test, lift in zip(found, true, strict=True)
        ]
        assert np.mean(inside) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / len(found))
    verdicts = [test.verdict for test in found]
    assert verdicts.count("won") > 10
    assert verdicts.count("lost") <= 1
    assert np.mean([test.lift.value for test in found]) == pytest.approx(np.mean(true), abs=0.02)


def test_a_policy_against_itself_wins_or_loses_no_more_often_than_said() -> None:
    found = _results(lifted=False)
    assert {test.true_lift for test in found} == {0}
    decided = sum(test.verdict != "undecided" for test in found)
    assert decided < len(found) * 0.05 + 4 * np.sqrt(len(found) * 0.05 * 0.95)


def test_behavior_before_the_test_removes_variance() -> None:
    removed = [test.cuped_variance_removed for test in _results(lifted=True, rounds=20)]
    assert np.mean(removed) > 0.02


def test_lower_places_on_a_slate_are_looked_at_less() -> None:
    crowd, plain, _ = _crowd(0)
    same = np.broadcast_to(plain[:, :1, :1], (PEOPLE, 1, CONFIG.slate))
    found = crowd.probabilities(same, crowd.template, np.zeros((500, 3)))
    assert found.shape == (500, CONFIG.slate)
    np.testing.assert_allclose(found / found[:, :1], np.broadcast_to(1 / np.log2(np.arange(5) + 2), found.shape))
    chance = 1 / (1 + np.exp(-crowd.world.logits(crowd.template, same[crowd.template, 0, 0])))
    np.testing.assert_allclose(found[:, 0], chance)


@pytest.mark.parametrize("chunk", [100, 499])
def test_the_number_of_users_at_once_does_not_matter_to_the_truth(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd, plain, good = _crowd(0)
    whole = crowd.test(plain, good, "salt")
    monkeypatch.setattr(run, "CHUNK", chunk)
    parts = crowd.test(plain, good, "salt")
    assert parts.true_lift == pytest.approx(whole.true_lift, abs=0.01)
    assert parts.users == whole.users


def test_an_experiment_is_read_the_same_way_again() -> None:
    crowd, plain, good = _crowd(3)
    assert crowd.test(plain, good, "salt") == crowd.test(plain, good, "salt")
    assert crowd.test(plain, good, "salt") != crowd.test(plain, good, "pepper")
