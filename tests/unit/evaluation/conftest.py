"""An evaluation of the trained runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluating import CONFIG, EXPERIMENT
from kit import Stages

from hisac_lab.config.compute import ComputeConfig
from hisac_lab.evaluation.evaluate import evaluate, runs_of
from hisac_lab.evaluation.records import ModelScores, Scores


@pytest.fixture(scope="module")
def judged(stages: Stages, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage's output."""
    home = tmp_path_factory.mktemp("evaluate")
    (home / "out").mkdir()
    compute = ComputeConfig(device="cpu")
    evaluate(
        CONFIG,
        compute,
        prepared=stages.prepare,
        runs=runs_of(trained, EXPERIMENT),
        out=home / "out",
        timings=home / "logs" / "timings.json",
    )
    return home / "out"


@pytest.fixture(scope="module")
def models(judged: Path) -> dict[str, ModelScores]:
    """What was found of each model."""
    return Scores.open(judged).models
