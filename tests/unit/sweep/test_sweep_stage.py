"""The stage `sweep` for one model: real short trainings, the table, the choice."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kit import Stages
from sweeping import quick_task

from hisac_lab.base.artifacts import read_json, sha256_tree
from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.config.base import parse
from hisac_lab.config.model import ModelConfig
from hisac_lab.config.sweep import Point, SweepConfig
from hisac_lab.evaluation.metrics import user_resamples
from hisac_lab.evaluation.records import ServingCost
from hisac_lab.events.store import EventStore
from hisac_lab.models.din import DINConfig
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.sweep import sweep as stage
from hisac_lab.sweep import trial as trials
from hisac_lab.sweep.draw import Resolved
from hisac_lab.sweep.records import Ablated, Best, Outcome, Swept, Trial
from hisac_lab.sweep.study import KILLED, Job
from hisac_lab.sweep.sweep import Workers, sweep
from hisac_lab.sweep.trial import RESAMPLES, TrialTask, fitted, identity, resolve, run_trial

FEW: Point = {"agents": 2, "depth": 2, "breadth": 0.5, "temperature": 0.07}


def config(space: dict[str, Any], **others: Any) -> SweepConfig:
    base = {"models": ["m"], "space": {"m": space}, "trials": 2, "round_size": 2, "finalist_seeds": 1}
    return parse(SweepConfig, base | others, "params.yaml", "sweep")


@pytest.fixture
def task(stages: Stages, tmp_path: Path) -> TrialTask:
    """A quick trial on a third of the training requests."""
    return quick_task(stages, tmp_path / "work")


def trained(task: TrialTask, point: Point, **changes: Any) -> Outcome:
    outcome = run_trial(task, Job("trial 0", resolve(task, point), changes.pop("seed", 0), **changes))
    return outcome.model_copy(update={"cpu_seconds": 0.0, "started": "", "ended": ""})


def test_a_trial_is_deterministic_and_costs_more_with_more_agents(task: TrialTask) -> None:
    found = trained(task, FEW)
    assert found == trained(task, FEW)
    assert len(found.aucs) == 1 + RESAMPLES
    assert all(0 < auc < 1 for auc in found.aucs)
    assert trained(task, FEW | {"agents": 16}).request_macs > found.request_macs
    assert trained(task, FEW, seed=1).aucs != found.aucs


def test_resamples_are_of_users_and_the_same_for_every_trial_and_seed(
    task: TrialTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Any, ...]] = []

    def note(*given: Any) -> np.ndarray:
        drawn.append((*given[:2], list(given[2]), given[3]))
        return np.zeros(3)

    monkeypatch.setattr(trials, "weighted_auc", note)
    for seed in (0, 1):
        trained(task, FEW | {"agents": 2 + 2 * seed}, seed=seed)
    (labels, one, weights, user), (_, other, same, _) = drawn
    valid = EventStore.open(task.prepared).samples("valid")
    np.testing.assert_array_equal(labels, valid["label"])
    np.testing.assert_array_equal(user, np.unique(valid["user"], return_inverse=True)[1])
    np.testing.assert_array_equal(weights, same)
    np.testing.assert_array_equal(weights, user_resamples(int(user.max()) + 1, RESAMPLES, task.seed))
    assert not np.array_equal(one, other)


def test_agents_are_cut_to_the_leaves_of_the_depth_and_that_is_told() -> None:
    nodes = [5, 20]
    assert fitted(HiSACConfig(agents=64, depth=1), nodes) == (HiSACConfig(agents=5, depth=1), {"agents": (64, 5)})
    assert fitted(HiSACConfig(agents=64), nodes)[1] == {"agents": (64, 20)}
    assert fitted(HiSACConfig(agents=4, depth=1), nodes) == (HiSACConfig(agents=4, depth=1), {})
    assert fitted(DINConfig(), nodes) == (DINConfig(), {})
    with pytest.raises(UserError, match="depth 3 is deeper than the codebook's 2"):
        fitted(HiSACConfig(depth=3), nodes)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (HiSACConfig(depth=1, agents=4, breadth=0.2), HiSACConfig(depth=1, agents=4, breadth=0.9), True),
        (HiSACConfig(depth=2), HiSACConfig(), True),
        (HiSACConfig(budgets=(4, 2)), HiSACConfig(agents=8, breadth=0.667), True),
        (HiSACConfig(agents=16, breadth=0.2), HiSACConfig(agents=16, breadth=0.9), False),
        (HiSACConfig(agents=7), HiSACConfig(agents=8), False),
        (HiSACConfig(temperature=0.1), HiSACConfig(temperature=0.2), False),
        (HiSACConfig(depth=1, vote="flat"), HiSACConfig(depth=1, vote="tree"), True),
        (HiSACConfig(depth=2, vote="flat"), HiSACConfig(depth=2, vote="tree"), False),
        (HiSACConfig(vote="flat", breadth=0.2), HiSACConfig(vote="flat", breadth=0.9, fill=False), True),
        (HiSACConfig(vote="flat", agents=7), HiSACConfig(vote="flat", agents=8), False),
        (HiSACConfig(fill=False), HiSACConfig(fill=True), False),
        (HiSACConfig(every_leaf=True, keep_votes=0.5), HiSACConfig(every_leaf=True, agents=8), True),
        (HiSACConfig(every_leaf=True), HiSACConfig(vote="flat"), True),  # as many agents as leaves
        (HiSACConfig(keep_votes=0.5), HiSACConfig(), False),
        (HiSACConfig(routing="hard", temperature=0.1), HiSACConfig(routing="hard", temperature=0.2), True),
        (HiSACConfig(weight="none", weight_temperature=2.0), HiSACConfig(weight="none"), True),
        (HiSACConfig(facts=False, half_lives=()), HiSACConfig(facts=False), True),
        (HiSACConfig(facts=False, sums=True, half_lives=()), HiSACConfig(facts=False, sums=True), False),
    ],
)
def test_points_that_are_one_model_are_known_as_one(one: ModelConfig, other: ModelConfig, same: bool) -> None:
    nodes = [8, 32]
    assert (identity(one, nodes) == identity(other, nodes)) == same


def test_a_trial_over_a_gate_is_not_trained(task: TrialTask, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = trained(task, FEW).cost
    assert cost is not None
    monkeypatch.setattr(trials, "train", lambda *given, **named: pytest.fail("it was trained"))
    small = trained(replace(task, max_state_bytes=cost.state_bytes - 1), FEW)
    assert (small.state, small.cost) == ("over", cost)
    assert small.reason.endswith(f"are above sweep.max_state_bytes {cost.state_bytes - 1:,.0f}")
    assert "sweep.max_request_macs 100" in trained(replace(task, max_request_macs=100), FEW).reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("settings", "the loss is nan at step 3", "lower it", "train.learning_rate"),
         "train.learning_rate: the loss is nan at step 3"),
        (MemoryError(), "MemoryError:"),
        (RuntimeError("a matrix\n is singular"), "RuntimeError: a matrix is singular"),
    ],
)  # fmt: skip
def test_a_trial_that_fails_says_why(
    task: TrialTask, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(*given: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr(trials, "train", fail)
    assert trained(task, FEW) == Outcome(state="failed", reason=reason)


def test_a_loss_that_is_no_number_is_a_failed_trial(task: TrialTask) -> None:
    wild = replace(task, base=replace(task.base, train=task.base.train.model_copy(update={"learning_rate": 1e30})))
    found = trained(wild, FEW)
    assert found.state == "failed"
    assert "finite" in found.reason or "nan" in found.reason


@pytest.mark.parametrize("explained", [True, False])
def test_a_full_disk_stops_the_study(task: TrialTask, monkeypatch: pytest.MonkeyPatch, explained: bool) -> None:
    def fail(*given: Any, **named: Any) -> None:
        error = OSError(28, "No space left on device")
        if explained:
            raise explain_os_error(error, "checkpoint.pt") from error
        raise error

    monkeypatch.setattr(trials, "train", fail)
    with pytest.raises((UserError, OSError), match=r"[Nn]o space left"):
        trained(task, FEW)


def test_a_training_stopped_at_a_rung_goes_on_to_what_an_undisturbed_one_gives(task: TrialTask) -> None:
    base = replace(task.base, train=task.base.train.model_copy(update={"epochs": 2}))
    whole = trained(replace(task, base=base), FEW)
    task = replace(task, base=base)
    half = trained(task, FEW, epochs=1, resumes=True)
    assert len(half.aucs) == 1
    assert half.cost == whole.cost
    assert trained(task, FEW, resumes=True) == whole
    assert half.aucs[0] == pytest.approx(trained(replace(task, base=replace(base, train=base.train.model_copy(
        update={"epochs": 1}))), FEW).aucs[0], abs=1e-6)  # fmt: skip


def test_trials_of_another_codebook_have_one_of_their_own_that_is_made_once(task: TrialTask) -> None:
    point: Point = {"tokenize.widths": [4], "agents": 9, "depth": 1}
    found = resolve(task, point)
    codebook = found.settings.codebook
    assert codebook.is_relative_to(task.work / "codebooks")
    assert found.cut == {"agents": (9, 4)}
    made = codebook.stat().st_mtime_ns
    assert resolve(task, point).key == found.key
    assert codebook.stat().st_mtime_ns == made
    assert resolve(task, FEW).settings.codebook == task.codebook
    deep = resolve(task, point | {"depth": 2})
    assert deep.reason == "sweep.space: depth 2 is deeper than the codebook's 1"
    assert "tokenize.widths: a level of 1000000 codes" in str(resolve(task, {"tokenize.widths": [10**6]}).reason)
    assert trained(task, point).state == "complete"


SPACE = {"agents": [2, 4], "depth": [1, 2], "breadth": [0.5], "temperature": [0.07]}


def test_the_stage_writes_table_choice_and_front_whatever_the_order_of_answers(
    task: TrialTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread stands in for the worker processes; tests/flow runs those."""
    settings = config(SPACE, finalist_seeds=2)
    monkeypatch.setattr(stage, "_pool", lambda workers, spawn: ThreadPoolExecutor(1))
    for name, arrange in (("one", as_completed), ("other", lambda jobs: reversed(list(as_completed(jobs))))):
        monkeypatch.setattr(stage, "as_completed", arrange)
        (tmp_path / name).mkdir()
        sweep(settings, "m", task, workers=2, out=tmp_path / name, work=tmp_path / "work")
        assert not (tmp_path / "work").exists()
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "other")
    out = tmp_path / "one"
    table, manifest, best = Trial.read_table(out), Swept.open(out), Best.open(out)
    assert [trial.number for trial in table] == [0, 1]
    assert [(trial.state, trial.seeds) for trial in table] == [("complete", 2)] * 2
    assert list(table[0].settings) == list(SPACE)
    assert manifest.front == [trial.number for trial in table if trial.on_front]
    assert (manifest.states, manifest.finalists, manifest.exhausted) == ({"complete": 2}, [0, 1], False)
    chosen, top = table[manifest.chosen], table[manifest.best]
    assert manifest.trained == manifest.chosen
    resamples = pd.read_csv(out / "resamples.csv")
    assert list(resamples) == ["0-0", "0-1", "1-0", "1-1"]
    means = [resamples[[f"{number}-0", f"{number}-1"]].mean(axis=1) for number in (0, 1)]
    assert [trial.auc for trial in table] == pytest.approx([float(mean[0]) for mean in means], abs=1e-6)
    rows = Ablated.read_list(out / "ablation.json")  # both trials had both seeds
    assert [(row.number, row.auc) for row in rows] == [(trial.number, trial.auc) for trial in table]
    assert rows[1].difference == pytest.approx(rows[1].auc - rows[0].auc, abs=2e-6)
    assert manifest.auc == chosen.auc
    assert manifest.best_auc == top.auc
    assert manifest.standard_error == chosen.standard_error
    assert "at most 2 standard errors below" in manifest.rule
    assert parse(HiSACConfig, best.settings, "best.json").agents == int(chosen.settings["agents"])
    assert (best.model, best.tuned, best.tokenize) == ("m", {}, {})
    assert read_json(out / "manifest.json")["budgets"]


def test_what_the_choice_has_of_train_and_backbone_goes_along_and_its_codebook_is_told(
    task: TrialTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial of another codebook is the best: its settings are told, those of the best on the graph's are taken."""

    def run(task: TrialTask, job: Job) -> Outcome:
        base = job.resolved.settings.base
        auc = 0.8 if base.tokenize.widths == (4,) else 0.7 + base.train.learning_rate
        cost = ServingCost(state_bytes=1.0, encode_macs=1.0, candidate_macs=1.0)
        return Outcome(state="complete", aucs=(auc, auc, auc), cost=cost)

    monkeypatch.setattr(stage, "run_trial", run)
    space = {"tokenize.widths": [[8, 4], [4]], "train.learning_rate": [0.01, 0.02], "depth": [1], "agents": [4]}
    settings = config(space, sampler="grid", trials=4)
    (tmp_path / "out").mkdir()
    sweep(settings, "m", task, workers=1, out=tmp_path / "out", work=tmp_path / "work")
    best, manifest = Best.open(tmp_path / "out"), Swept.open(tmp_path / "out")
    assert (manifest.chosen, manifest.trained) == (2, 1)
    assert best.tokenize == {"widths": [4]}
    assert best.tuned == {"learning_rate": 0.02}


def test_a_sweep_that_was_killed_and_resumed_in_processes_ends_in_the_bytes_of_a_straight_one(
    task: TrialTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(SPACE, trials=4, finalist_seeds=2)
    for name in ("straight", "resumed"):
        (tmp_path / name).mkdir()
    sweep(settings, "m", task, workers=1, out=tmp_path / "straight", work=tmp_path / "work")
    answered = iter(range(3))

    def dies(task: TrialTask, job: Job) -> Outcome:
        if next(answered, None) is None:
            raise KeyboardInterrupt
        return run_trial(task, job)

    monkeypatch.setattr(stage, "run_trial", dies)
    with pytest.raises(KeyboardInterrupt):
        sweep(settings, "m", task, workers=1, out=tmp_path / "resumed", work=tmp_path / "work")
    assert len(list((tmp_path / "work" / "trials").iterdir())) == 3
    monkeypatch.undo()
    sweep(settings, "m", task, workers=2, out=tmp_path / "resumed", work=tmp_path / "work")
    assert sha256_tree(tmp_path / "resumed") == sha256_tree(tmp_path / "straight")


def kill(task: Any, job: Job) -> Outcome:
    if job.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome(state="complete", aucs=(0.5,))


def test_a_trial_whose_process_is_killed_has_failed_and_no_other(
    task: TrialTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forked(workers: int, *, spawn: bool) -> Executor:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"))

    monkeypatch.setattr(stage, "run_trial", kill)
    monkeypatch.setattr(stage, "_pool", forked)
    noted: dict[int, Outcome] = {}
    jobs = [Job(f"trial {seed}", Resolved(str(seed)), seed) for seed in range(4)]
    Workers(task, 2).run(jobs, lambda job, outcome: noted.update({job.seed: outcome}))
    assert {seed: outcome.state for seed, outcome in noted.items()} == {
        0: "complete", 1: "failed", 2: "complete", 3: "complete"
    }  # fmt: skip
    assert noted[1].reason == KILLED
