"""The stage `sweep`: real short trainings, the table, the choice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kit import BACKBONE, Stages, make_items

from hisac_lab.base.artifacts import read_json, read_manifest, sha256_tree
from hisac_lab.config.base import parse
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.sweep import SweepConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.evaluation.metrics import user_resamples
from hisac_lab.events.store import EventStore
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.sweep import sweep as stage
from hisac_lab.sweep.sweep import RESAMPLES, TrialTask, apply_settings, run_trial, sweep

CONFIG = SweepConfig(trials=2, round_size=2, agents=(2, 4), depth=(1, 2), breadth=(0.5,), temperature=(0.07,))


@pytest.fixture
def task(stages: Stages) -> TrialTask:
    """A quick trial on a third of the training requests."""
    return TrialTask(
        base=HiSACConfig(),
        backbone=BACKBONE,
        train=TrainConfig(epochs=1, batch_requests=128),
        compute=ComputeConfig(device="cpu"),
        share=0.3,
        seed=0,
        prepared=stages.prepare,
        embedded=stages.embed,
        codebook=stages.codebook,
    )


def test_a_trial_is_deterministic_and_costs_more_with_more_agents(task: TrialTask) -> None:
    few = {"agents": 2, "depth": 2, "breadth": 0.5, "temperature": 0.07}
    scores = run_trial(task, few)
    assert scores == run_trial(task, few)
    assert len(scores.aucs) == 1 + RESAMPLES
    assert all(0 < auc < 1 for auc in scores.aucs)
    assert run_trial(task, few | {"agents": 16}).cost > scores.cost


def test_resamples_are_of_users_and_the_same_for_every_trial(task: TrialTask, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"agents": 2, "depth": 1, "breadth": 0.5, "temperature": 0.07}
    drawn: list[tuple[Any, ...]] = []

    def note(*given: Any) -> np.ndarray:
        drawn.append((*given[:2], list(given[2]), given[3]))
        return np.zeros(3)

    monkeypatch.setattr(stage, "weighted_auc", note)
    for agents in (2, 4):
        run_trial(task, settings | {"agents": agents})
    (labels, one, weights, user), (_, other, same, _) = drawn
    store = EventStore.open(task.prepared)
    valid = store.samples("valid")
    np.testing.assert_array_equal(labels, valid["label"])
    np.testing.assert_array_equal(user, np.unique(valid["user"], return_inverse=True)[1])
    np.testing.assert_array_equal(weights, same)
    np.testing.assert_array_equal(weights, user_resamples(int(user.max()) + 1, RESAMPLES, task.seed))
    assert not np.array_equal(one, other)


def test_settings_of_a_trial_replace_those_of_the_model_and_fit_the_leaves() -> None:
    base = HiSACConfig(budgets=(9, 9, 9), vote="flat", heads=2)
    settings = {"agents": 64, "depth": 1, "breadth": 0.4, "temperature": 0.15}
    found = apply_settings(base, settings, make_items())
    assert found == base.model_copy(update=settings | {"agents": 5, "budgets": None})


def test_the_stage_writes_table_choice_and_front_whatever_the_order_of_answers(
    task: TrialTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread stands in for the worker processes; tests/flow runs those."""
    monkeypatch.setattr(stage, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(1))
    for name, arrange in (("one", as_completed), ("other", lambda jobs: reversed(list(as_completed(jobs))))):
        monkeypatch.setattr(stage, "as_completed", arrange)
        (tmp_path / name).mkdir()
        sweep(CONFIG, task, workers=2, out=tmp_path / name, work=tmp_path / "work")
        assert not (tmp_path / "work").exists()
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "other")
    table, manifest = pd.read_csv(tmp_path / "one" / "trials.csv"), read_manifest(tmp_path / "one")
    best = read_json(tmp_path / "one" / "best.json")
    columns = ["number", "agents", "depth", "breadth", "temperature", "auc", "standard_error", "cost", "on_front"]
    assert list(table) == columns
    assert table["number"].tolist() == [0, 1]
    assert manifest["front"] == table["number"][table["on_front"]].tolist()
    chosen = table.iloc[manifest["chosen"]]
    top, resamples = table.iloc[manifest["best"]], pd.read_csv(tmp_path / "one" / "resamples.csv")
    assert resamples.iloc[0].tolist() == table["auc"].tolist()
    assert round(top["auc"], 3) == round(table["auc"].max(), 3)
    assert round(top["auc"] - chosen["auc"], 3) <= round(CONFIG.standard_errors * chosen["standard_error"], 3)
    gap = resamples[str(manifest["best"])] - resamples[str(manifest["chosen"])]
    assert manifest["standard_error"] == chosen["standard_error"] == pytest.approx(gap[1:].std(ddof=0), abs=1e-6)
    assert "at most 2 standard errors below" in manifest["rule"]
    assert parse(HiSACConfig, best["settings"], "best.json").agents == chosen["agents"]
    assert best["model"] == "hisac"
