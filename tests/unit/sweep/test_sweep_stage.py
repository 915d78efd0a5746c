"""The stage `sweep`: real short trainings, the table, the choice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pandas as pd
import pytest
from kit import FRAME, Stages, make_items

from hisac_lab.base.artifacts import read_json, read_manifest, sha256_tree
from hisac_lab.config.base import parse
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import HiSACConfig
from hisac_lab.config.run import SweepConfig, TrainConfig
from hisac_lab.sweep import run as stage
from hisac_lab.sweep.run import TrialTask, apply_settings, run_trial, sweep

CONFIG = SweepConfig(trials=2, round_size=2, agents=(2, 4), depth=(1, 2), breadth=(0.5,), temperature=(0.07,))


@pytest.fixture
def task(stages: Stages) -> TrialTask:
    """A quick trial on a third of the training requests."""
    return TrialTask(
        base=HiSACConfig(),
        frame=FRAME,
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
    auc, cost = run_trial(task, few)
    assert (auc, cost) == run_trial(task, few)
    assert 0 < auc < 1
    assert run_trial(task, few | {"agents": 16})[1] > cost


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
        sweep(CONFIG, task, 2, tmp_path / name, tmp_path / "work")
        assert not (tmp_path / "work").exists()
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "other")
    table, manifest = pd.read_csv(tmp_path / "one" / "trials.csv"), read_manifest(tmp_path / "one")
    best = read_json(tmp_path / "one" / "best.json")
    assert list(table) == ["number", "agents", "depth", "breadth", "temperature", "auc", "cost", "on_front"]
    assert table["number"].tolist() == [0, 1]
    assert manifest["front"] == table["number"][table["on_front"]].tolist()
    chosen = table.iloc[manifest["chosen"]]
    assert chosen["auc"] >= table["auc"].max() - CONFIG.auc_tolerance
    assert parse(HiSACConfig, best["settings"], "best.json").agents == chosen["agents"]
    assert best["model"] == "hisac"
