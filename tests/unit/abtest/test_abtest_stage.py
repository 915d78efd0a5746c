"""The stage `abtest`: what stands behind its verdicts, and when it gives none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit import BACKBONE, CPU, MODELS, Stages, as_backbone, prepare_log, says
from outputs import model_scores, save_evaluated
from torch import nn

from hisac_lab.abtest import experiment, ground, policies
from hisac_lab.abtest.evidence import instrument_checks
from hisac_lab.abtest.experiment import abtest
from hisac_lab.abtest.hindsight import Exposures, World
from hisac_lab.abtest.people import Log, Population, choose_pools, population
from hisac_lab.abtest.policies import best_places, foreseen, most_popular, scores_of, slates
from hisac_lab.abtest.records import ABTested, ABTests, Instrument
from hisac_lab.abtest.truth import examined, rebuild, true_chances
from hisac_lab.base.artifacts import Array, sha256_tree, stage_output
from hisac_lab.config.abtest import ABTestConfig, Family
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.config.world import WorldConfig
from hisac_lab.evaluation.records import Scores
from hisac_lab.events.positives import popularity
from hisac_lab.events.records import POSITIVES, ContextFacts
from hisac_lab.events.series import ItemSeries
from hisac_lab.events.store import EventStore
from hisac_lab.inference.bundle import save_model
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.sources.acquire import acquire

CONFIG = ABTestConfig(
    control="din_50",
    users=600,
    visits=2,
    pool=20,
    slate=5,
    world_dim=4,
    world_penalties=(2.0, 8.0),
    world_trees=10,
    world_refits=3,
    world_tree_refits=2,
    aa_tests=20,
)
EXPERIMENT = ExperimentConfig(models=("din_50", "hisac"), seeds=(0, 1))


def _evaluated(folder: Path, auc: float, confidence: float = 0.95, models: Iterable[str] = EXPERIMENT.models) -> None:
    """The output of `evaluate`, where every model has this AUC."""
    folder.mkdir(parents=True)
    save_evaluated(folder, models, best_seed=1, fingerprint="abc", confidence=confidence)
    scores = {name: model_scores(auc, 0.0, 1) for name in models}
    Scores.of({"models": scores, "slices": {}}, folder).save(folder)


def _run(
    home: Path,
    stages: Stages,
    trained: Path,
    config: ABTestConfig = CONFIG,
    confidence: float = 0.95,
    auc: float = 0.4,
    **changes: Any,
) -> Path:
    _evaluated(home / "evaluate", auc, confidence)
    (home / "out").mkdir()
    given = {"prepared": stages.prepare, "codebook": stages.codebook} | changes
    compute = ComputeConfig(device="cpu")
    abtest(config, EXPERIMENT, compute, trained=trained, evaluated=home / "evaluate", out=home / "out", **given)
    return home / "out"


@pytest.fixture(scope="module")
def out(stages: Stages, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage's output on the made-up log, in a world that knows more than its models."""
    return _run(tmp_path_factory.mktemp("abtest") / "run", stages, trained)


def test_the_stage_writes_a_test_per_challenger_of_all_its_seeds(out: Path) -> None:
    found, manifest = ABTests.open(out), ABTested.open(out)
    assert found.control == manifest.control == "din_50"
    assert list(found.tests) == ["hisac"]
    assert found.seeds == {"din_50": (0, 1), "hisac": (0, 1)}
    test = found.tests["hisac"]
    assert test.draw is not None
    assert test.draw.users.control + test.draw.users.treatment == CONFIG.users
    assert test.lift.low < test.lift.value < test.lift.high
    assert set(test.parts) == {"users", "pools", "world", "family", "seeds", "clicks"}
    assert all(part.error is not None for name, part in test.parts.items() if name != "family")
    assert 0 < test.detectable < 2
    assert 0 < test.power < 1
    assert set(test.metrics) == {"clicks_per_user", "slates_clicked", "tail_share", "diversity"}
    assert 1 < len(test.slices) <= CONFIG.strata
    assert (
        min(one.value for one in test.slices.values())
        < test.lift.value
        < max(one.value for one in test.slices.values())
    )
    assert test.draw.lift_stratified != test.draw.lift
    assert manifest.fingerprint == "abc"
    made_of = {world.family: world.size for world in manifest.worlds}
    assert set(made_of) == {"factors", "trees"}
    assert made_of["factors"]["factors"] == 4
    assert made_of["trees"]["trees"] == 10
    assert {world.family: world.refits for world in manifest.worlds} == {"factors": 3, "trees": 2}
    assert manifest.setup.without_met == (manifest.setup.repeated < 0.01)


def test_popularity_is_a_control_without_a_model(stages: Stages, trained: Path, tmp_path: Path, out: Path) -> None:
    """It shows what had most positives before each user's moment; what its seeds add is the treatment's alone."""
    config = CONFIG.model_copy(update={"control": ABTestConfig().control})
    made = _run(tmp_path, stages, trained, config)
    found, manifest = ABTests.open(made), ABTested.open(made)
    assert found.control == manifest.control == "popularity"
    assert list(found.tests) == ["din_50", "hisac"]
    assert found.seeds == {"din_50": (0, 1), "hisac": (0, 1)}
    beside = ABTests.open(out).tests["hisac"]
    for test in found.tests.values():
        assert test.lift.value != beside.lift.value
        assert test.corrected.low <= test.lift.low < test.lift.high <= test.corrected.high
        assert test.corrected.p_value == test.p_holm
        assert (test.parts["seeds"].degrees, test.parts["seeds"].error) > (0, 0)


def test_the_most_popular_have_most_positives_before_the_time_unit(store: EventStore) -> None:
    people, pools = _asked(store)
    found = most_popular(store, people, pools, 3)
    levels = store.manifest.feedback
    assert levels is not None
    positive = np.asarray(store.feedback) >= levels.positive
    for row in range(0, len(people.user), 5):
        earlier = positive & (store.times < people.time[row])
        counts = np.bincount(store.items[earlier], minlength=store.manifest.items)
        wanted = np.argsort(-counts[pools[row, 0]], kind="stable")[:3]
        np.testing.assert_array_equal(found[row, 0], wanted)


def test_where_times_are_places_in_an_order_popularity_is_that_of_the_training_samples(store: EventStore) -> None:
    bare = store.manifest.model_copy(update={"context": ContextFacts()})
    train = store.samples("train")
    items = np.arange(store.manifest.items)
    found = popularity(dataclasses.replace(store, manifest=bare), items, np.array(0))
    wanted = np.bincount(train["item"], train["label"], minlength=len(items))
    np.testing.assert_array_equal(found, wanted)


def test_the_same_inputs_give_the_same_bytes(out: Path, stages: Stages, trained: Path, tmp_path: Path) -> None:
    assert sha256_tree(_run(tmp_path, stages, trained)) == sha256_tree(out)


def test_a_world_that_knows_more_than_the_models_may_judge(out: Path) -> None:
    found = ABTests.open(out)
    assert found.evidence == "fitted"
    assert "cannot show" in found.caveat
    knows = {check.name: check for check in found.checks}
    judges = [world.family for world in ABTested.open(out).worlds if world.judges]
    asked = judges or ["factors", "trees"]
    assert {f"{family}: {name}" for family in asked for name in ("knows", "calibration", "users")} <= set(knows)
    assert {"support", "aa", "sample_ratio"} <= set(knows)
    assert set(found.tests["hisac"].worlds) == set(judges)
    assert any(knows[f"{family}: knows"].holds for family in asked)
    if not found.reason:
        assert found.tests["hisac"].verdict in ("better", "worse", "equivalent", "undecided")


def test_a_world_that_knows_less_than_a_model_gives_no_verdict(stages: Stages, trained: Path, tmp_path: Path) -> None:
    found = ABTests.open(_run(tmp_path, stages, trained, auc=0.99))
    assert found.tests["hisac"].verdict == "no verdict"
    failed = [check.says for check in found.checks if not check.holds]
    assert any("the best model's (hisac) 0.9900" in said for said in failed)
    assert len(failed) > 1
    assert found.reason == found.reason_of("hisac")
    failing = [check for check in found.checks if not check.holds]
    for count, rest in enumerate([None, "", ", and 1 more check does not hold", ", and 2 more checks do not hold"]):
        shown = found.model_copy(update={"checks": (failing * 3)[:count]})
        assert shown.reason == ("" if rest is None else failed[0] + rest)


def _surely(family: Family, exposures: Exposures, nodes: Array, config: ABTestConfig) -> World:
    """A world that knows every label, and in which one family likes what the other does not."""

    class Sure(World):
        def chances(self, people: Population, items: Array, fit: Any = None) -> Array:
            liked: Array = 0.2 + 0.6 * items / self.exposures.items
            return liked if self.family == "factors" else 1 - liked

        def refit(self, weight: Array) -> None:
            return None

    Sure.family = family
    logits = np.where(exposures.label > 0, 6.0, -6.0)[exposures.judged]
    return Sure(exposures, logits * (1 if family == "factors" else 0.9), {})


def test_two_worlds_that_may_judge_and_contradict_each_other_give_no_verdict(
    stages: Stages, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one the treatment is better, in the other worse; each alone says so, and that is told of its family."""

    def told(run: Path, store: object, people: object, pools: Array, slate: int, *rest: object) -> Array:
        return best_places((1.0 if run.name.startswith("hisac") else -1.0) * pools, slate)

    monkeypatch.setattr(experiment, "slates", told)
    monkeypatch.setattr(ground, "fit", _surely)
    both = _run(tmp_path / "both", stages, trained)
    assert [world.judges for world in ABTested.open(both).worlds] == [True, True]
    found = ABTests.open(both)
    test = found.tests["hisac"]
    assert found.reason == ""
    assert test.verdict == "no verdict"
    assert found.reason_of("hisac") == test.contradiction
    assert "better in the world of factors, worse in the world of trees" in test.contradiction
    assert test.worlds["trees"].high < 0 < test.worlds["factors"].low
    assert test.parts["family"].error == pytest.approx((test.lift.value - test.worlds["trees"].value) / 2**0.5)
    for family, verdict in (("factors", "better"), ("trees", "worse")):
        one = _run(tmp_path / family, stages, trained, CONFIG.model_copy(update={"worlds": (family,)}))
        alone = ABTests.open(one).tests["hisac"]
        assert (alone.verdict, alone.contradiction, alone.parts["family"].error) == (verdict, "", None)
        assert alone.worlds == {family: alone.lift}


def test_intervals_have_the_level_of_the_evaluation(out: Path, stages: Stages, trained: Path, tmp_path: Path) -> None:
    wide = ABTests.open(_run(tmp_path, stages, trained, confidence=0.99)).tests["hisac"].lift
    narrow = ABTests.open(out).tests["hisac"].lift
    assert narrow.value == wide.value
    assert wide.low < narrow.low < narrow.high < wide.high


def test_slates_larger_than_the_catalog_are_refused(stages: Stages, trained: Path, tmp_path: Path) -> None:
    with says("settings", "abtest.slate", "90 is more than the"):
        _run(tmp_path, stages, trained, CONFIG.model_copy(update={"slate": 90, "pool": 100}))


def test_several_days_in_a_fitted_world_are_refused(stages: Stages, trained: Path, tmp_path: Path) -> None:
    with says("settings", "abtest.days", "3 days need a simulated world"):
        _run(tmp_path, stages, trained, CONFIG.model_copy(update={"days": 3}))


def test_one_test_user_gives_no_verdict(
    stages: Stages, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = EventStore.samples

    def of_one(store: EventStore, split: str) -> Array:
        samples = everybody(store, split)
        return samples[samples["user"] == samples["user"][0]] if split == "test" else samples

    monkeypatch.setattr(EventStore, "samples", of_one)
    out = _run(tmp_path, stages, trained)
    found = ABTests.open(out)
    assert (found.tests, found.aa, ABTested.open(out).setup.real_users) == ({}, None, 0)
    assert found.reason == "no two test users have exposures at two times"


def test_scores_that_are_not_numbers_are_refused(
    stages: Stages, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: object, loader: Any) -> Array:
        return np.full(loader.requests.candidates.shape, np.nan, np.float32)

    monkeypatch.setattr(policies, "score", broken)
    with says("din_50-0", "scores are not numbers"):
        _run(tmp_path, stages, trained)


def _asked(store: EventStore) -> tuple[Population, Array]:
    people, pools = choose_pools(Log.of(store), population(store.samples("test")), CONFIG, True)
    return people, pools


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
    people, pools = _asked(store)
    found = slates(tmp_path, store, people, pools, 3, CPU)
    series = ItemSeries.open(store.path, POSITIVES, store.manifest.context.half_lives)
    counts = series.at(pools, people.time[:, None, None]).count
    np.testing.assert_array_equal(found, np.argsort(-counts, axis=2, kind="stable")[:, :, :3])


def test_slates_are_the_best_of_the_pools(store: EventStore, trained: Path) -> None:
    people, pools = _asked(store)
    few = slates(trained / "hisac-0", store, people, pools, 3, CPU)
    whole = slates(trained / "hisac-0", store, people, pools, pools.shape[2], CPU)
    np.testing.assert_array_equal(np.sort(whole, axis=2), np.broadcast_to(np.arange(pools.shape[2]), pools.shape))
    np.testing.assert_array_equal(whole[:, :, :3], few)
    assert not np.array_equal(few, slates(trained / "din_50-0", store, people, pools, 3, CPU))


def test_what_models_expect_of_slates_are_clicks_by_their_own_scores(store: EventStore, trained: Path) -> None:
    """Of each user the mean over runs and slates, places looked at as the world has it."""
    people, pools = _asked(store)
    runs, shown, looked = [trained / "hisac-0", trained / "din_50-1"], pools[:, :2, :3], np.array([1.0, 0.5, 0.25])
    found = foreseen(runs, store, people, shown, looked, CPU)
    scores = np.stack([scores_of(run, store, people, pools[:, 1, :3], CPU) for run in runs])
    first, second = (foreseen(runs, store, people, shown[:, at : at + 1], looked, CPU) for at in (0, 1))
    np.testing.assert_allclose(second, (looked / (1 + np.exp(-scores))).sum(axis=2).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found, (first + second) / 2, rtol=1e-5)
    assert len(np.unique(found)) > len(found) / 2


def test_a_policy_reads_the_feedback_of_the_histories(store: EventStore, trained: Path) -> None:
    people, pools = _asked(store)
    assert store.feedback is not None
    turned = dataclasses.replace(store, feedback=6 - np.asarray(store.feedback))
    plain, other = (slates(trained / "hisac-1", one, people, pools, CONFIG.slate, CPU) for one in (store, turned))
    assert (plain != other).any()


def test_an_instrument_that_is_fooled_by_the_control_against_itself_gives_no_verdict() -> None:
    good, bad = (Instrument(tests=100, rates={"0.05": 0.05}, ks_p=p, tenths=()) for p in (0.001, 0.0009))
    assert [check.holds for one in (good, bad) for check in instrument_checks(one, {})] == [True, False]


def test_an_uneven_split_in_one_of_many_tests_is_held_against_what_chance_makes_of_so_many(out: Path) -> None:
    tests = ABTests.open(out)
    assert tests.aa is not None
    draw = tests.tests["hisac"].draw
    assert draw is not None
    for p_value, count, holds in ((0.0009, 1, False), (0.0009, 42, True), (0.00002, 42, False), (0.001, 1, True)):
        fair = {f"m{number:02}": draw.model_copy(update={"sample_ratio_p": 0.5}) for number in range(count - 1)}
        odd = draw.model_copy(update={"sample_ratio_p": p_value})
        check = instrument_checks(tests.aa, fair | {"odd": odd})[1]
        assert (check.name, check.holds) == ("sample_ratio", holds)
        corrected = f"times {count} by Bonferroni's correction {p_value * count:.4f}"
        assert check.says == f"the least sample-ratio p-value is {p_value:g} (odd), {corrected}, the limit is 0.001"


def test_in_the_simulated_world_the_evidence_is_its_own_truth(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that knows the truth against one that shows what lies first; lift and verdict are the world's."""
    with stage_output(tmp_path / "acquire") as made:
        acquire(AcquireConfig(dataset="world", world=WorldConfig(users=12)), out=made)
    prepare_log(PrepareConfig(), tmp_path / "acquire", tmp_path / "prepare")
    rates: dict[str, float] = {}

    def told(run: Path, store: EventStore, people: Population, pools: Array, slate: int, *rest: object) -> Array:
        simulator = rebuild(tmp_path / "acquire")
        chances = true_chances(simulator, store, people, pools)
        places = best_places(chances if run.name.startswith("hisac") else -1.0 * pools, slate)
        shown = np.take_along_axis(chances, places, axis=2)[:, : CONFIG.visits]
        rates[run.name] = float((shown * examined(simulator, slate)).sum(axis=2).mean())
        return places

    def known(runs: list[Path], store: EventStore, people: Population, shown: Array, *rest: object) -> Array:
        assert [run.name for run in runs] == ["din_50-0", "hisac-0"]
        clicks: Array = true_chances(rebuild(tmp_path / "acquire"), store, people, shown).mean(axis=(1, 2, 3))
        return clicks

    def nothing(runs: object, store: object, people: object, shown: Array, *rest: object) -> Array:
        return np.zeros(len(shown))

    monkeypatch.setattr(experiment, "slates", told)
    removed: list[float] = []
    given: dict[str, Any] = {"prepared": tmp_path / "prepare", "acquired": tmp_path / "acquire", "codebook": None}
    long = CONFIG.model_copy(update={"days": 3})
    for expected, name, config in ((nothing, "several", long), (known, "run", CONFIG)):
        monkeypatch.setattr(experiment, "foreseen", expected)
        out = _run(tmp_path / name, stages, tmp_path / "train", config, auc=0.99, **given)
        removed += [test.draw.cuped_variance_removed for test in ABTests.open(out).tests.values() if test.draw]
    assert removed[0] < removed[1]
    several = ABTests.open(tmp_path / "several" / "out").tests["hisac"]
    assert [day.day for day in several.days] == [1, 2, 3]
    assert several.days[-1].lift > 0.5
    found, manifest = ABTests.open(out), ABTested.open(out)
    assert (found.evidence, manifest.worlds) == ("truth", ())
    assert {check.name for check in found.checks} == {"aa", "sample_ratio"}
    assert not manifest.setup.without_met
    test = found.tests["hisac"]
    assert test.lift.value == pytest.approx(rates["hisac-0"] / rates["din_50-0"] - 1, abs=1e-6)
    assert test.lift.value > 0.5
    assert test.parts["world"].error == 0
    assert test.verdict == several.verdict == "better"
    assert test.days == ()
    assert set(test.metrics) == {"clicks_per_user", "slates_clicked", "tail_share"}
