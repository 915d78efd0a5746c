"""The stage `abtest` on logged exposures: the simulated world's propensities, exposures at random, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit import Stages, prepare_log, says
from outputs import model_scores, save_evaluated

from hisac_lab.abtest import logged
from hisac_lab.abtest.experiment import abtest
from hisac_lab.abtest.people import Population
from hisac_lab.abtest.records import ABTested, ABTests
from hisac_lab.abtest.truth import rebuild, true_chances
from hisac_lab.base.artifacts import Array, stage_output
from hisac_lab.config.abtest import ABTestConfig
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.events import PrepareConfig
from hisac_lab.config.model import ExperimentConfig
from hisac_lab.config.world import WorldConfig
from hisac_lab.evaluation.records import Scores
from hisac_lab.events.records import Prepared
from hisac_lab.events.store import EventStore
from hisac_lab.sources.acquire import acquire

CONFIG = ABTestConfig(
    evidence="replay", pool=30, slate=10, world_dim=2, world_penalties=(8.0,), aa_tests=20, replay_least=20
)
EXPERIMENT = ExperimentConfig(models=("din_50", "hisac"), seeds=(0, 1))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of forty users, acquired and prepared."""
    home = tmp_path_factory.mktemp("world")
    with stage_output(home / "acquire") as out:
        acquire(AcquireConfig(dataset="world", world=WorldConfig(users=40)), out=out)
    prepare_log(PrepareConfig(), home / "acquire", home / "prepare")
    return home


def _run(home: Path, config: ABTestConfig = CONFIG, **given: Any) -> Path:
    (home / "evaluate").mkdir()
    save_evaluated(home / "evaluate", EXPERIMENT.models, best_seed=1, fingerprint="abc", confidence=0.95)
    scores = {name: model_scores(0.6, 0.0, 1) for name in EXPERIMENT.models}
    Scores.of({"models": scores, "slices": {}}, home / "evaluate").save(home / "evaluate")
    (home / "out").mkdir()
    paths: dict[str, Any] = {"trained": home / "train", "evaluated": home / "evaluate", "out": home / "out"}
    abtest(config, EXPERIMENT, ComputeConfig(device="cpu"), **paths, **given)
    return home / "out"


def _by_truth(world: Path) -> Any:
    """A policy that knows the truth, called hisac, and one that shows the lowest numbers; each run errs a little."""
    simulator = rebuild(world / "acquire")

    def scored(run: Path, store: EventStore, people: Population, items: Array, *rest: object) -> Array:
        noise = np.random.default_rng(int(run.name[-1])).normal(0, 1e-3, items.shape)
        if run.name.startswith("hisac"):
            return true_chances(simulator, store, people, items) + noise
        return noise - items / store.manifest.items

    return scored


def test_replay_in_the_simulated_world_finds_what_is_truly_better(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logged, "scores_of", _by_truth(world))
    out = _run(tmp_path, prepared=world / "prepare", acquired=world / "acquire")
    found, manifest = ABTests.open(out), ABTested.open(out)
    assert (found.evidence, manifest.worlds) == ("replay", ())
    assert "cannot show" in found.caveat
    assert {check.name: check.holds for check in found.checks} == {"support": True, "weights": True, "aa": True}
    test = found.tests["hisac"]
    assert test.verdict == "better"
    assert test.draw is None
    assert test.replay is not None
    assert set(test.replay.lifts) == {"ips", "self_normalized", "clipped", "doubly_robust"}
    assert test.replay.lifts["doubly_robust"].value == test.lift.value
    assert 20 <= test.replay.effective < test.replay.exposures
    assert test.metrics["reranked"].low > 0
    assert test.parts["pools"].error is None


def test_too_few_exposures_that_a_policy_would_show_give_no_verdict(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logged, "scores_of", _by_truth(world))
    config = CONFIG.model_copy(update={"replay_least": 100_000})
    found = ABTests.open(_run(tmp_path, config, prepared=world / "prepare", acquired=world / "acquire"))
    assert found.tests["hisac"].verdict == "no verdict"
    assert [check.name for check in found.checks if not check.holds] == ["support"]
    assert "an effective sample size of" in found.reason
    assert "100000 is the least" in found.reason


def test_too_few_users_to_replay_give_no_verdict(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everybody, columns = EventStore.samples, EventStore.logged

    def first(store: EventStore, users: int) -> Array:
        own = everybody(store, "test")["user"]
        return np.isin(own, np.unique(own)[:users])

    for users in (1, 3):

        def few(store: EventStore, split: str, users: int = users) -> Array:
            samples = everybody(store, split)
            return samples[first(store, users)] if split == "test" else samples

        def beside(store: EventStore, split: str, users: int = users) -> Array:
            found = columns(store, split)
            return found[first(store, users)] if split == "test" else found

        monkeypatch.setattr(EventStore, "samples", few)
        monkeypatch.setattr(EventStore, "logged", beside)
        (home := tmp_path / f"{users}").mkdir()
        found = ABTests.open(_run(home, prepared=world / "prepare", acquired=world / "acquire"))
        assert (found.tests, found.aa) == ({}, None)
        assert found.reason == f"of the four users that a test needs, {users} have exposures to replay"


def test_a_control_that_no_logged_exposure_speaks_for_gives_no_verdict(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was clicked, and there is no click model."""
    everybody = EventStore.samples

    def refused(store: EventStore, split: str) -> Array:
        samples = np.array(everybody(store, split))
        samples["label"] = 0
        return samples

    monkeypatch.setattr(EventStore, "samples", refused)
    monkeypatch.setattr(logged, "scores_of", lambda run, store, people, items, *rest: -1.0 * items)
    found = ABTests.open(_run(tmp_path, prepared=world / "prepare", acquired=world / "acquire"))
    assert found.tests == {}
    assert found.reason == "by the logged exposures nobody would click on what the control popularity shows"


def test_propensities_of_zero_are_refused(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = EventStore.logged

    def broken(store: EventStore, part: str) -> Array:
        columns = np.array(whole(store, part))
        columns[0, list(store.manifest.logged).index("propensity")] = 0
        return columns

    monkeypatch.setattr(EventStore, "logged", broken)
    config = CONFIG.model_copy(update={"replay_requests": 1000})
    with says("prepare", "propensity", "1 of ", "propensities are no chance above 0, the first is 0"):
        _run(tmp_path, config, prepared=world / "prepare", acquired=world / "acquire")


def test_a_log_without_propensities_or_random_exposures_is_refused(stages: Stages, tmp_path: Path) -> None:
    with says("settings", "abtest.evidence", "replay needs propensities", "log them, or set it to fitted"):
        _run(tmp_path, prepared=stages.prepare)


def test_the_truth_is_asked_of_the_simulated_world_alone(stages: Stages, tmp_path: Path) -> None:
    with says("settings", "abtest.evidence", "only the simulated world knows"):
        _run(tmp_path, CONFIG.model_copy(update={"evidence": "truth"}), prepared=stages.prepare)


def test_exposures_at_random_need_no_propensities(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uniform exposures, clicked by the world's chances: the log says they are at random, and nothing more."""
    store = EventStore.open(world / "prepare")
    simulator, random = rebuild(world / "acquire"), np.random.default_rng(0)
    samples = np.array(store.samples("test"))
    samples["item"] = random.integers(0, 60, len(samples))
    for request in np.unique(samples["request"]):
        own = np.flatnonzero(samples["request"] == request)
        head = samples[own[0]]
        people = Population(np.array([head["user"]]), np.array([head["time"]]), np.array([head["end"]]), np.ones(1))
        chances = true_chances(simulator, store, people, samples["item"][own][None])
        samples["label"][own] = random.random(len(own)) < chances[0]
    plain, opened = EventStore.samples, Prepared.open

    def bare(path: Path) -> Prepared:
        return opened(path).model_copy(update={"logged": {}})

    monkeypatch.setattr(Prepared, "open", bare)
    monkeypatch.setattr(EventStore, "samples", lambda one, part: samples if part == "random" else plain(one, part))
    monkeypatch.setattr(EventStore, "logged", lambda one, part: np.zeros((len(one.samples(part)), 0), np.float32))
    monkeypatch.setattr(logged, "scores_of", _by_truth(world))
    found = ABTests.open(_run(tmp_path, prepared=world / "prepare", acquired=world / "acquire"))
    assert found.evidence == "replay"
    assert found.tests["hisac"].verdict == "better"
    assert {check.name: check.holds for check in found.checks}["weights"]
