"""Two real sweeps with other study seeds on a small world: are the models they choose alike on the test period?

The board is fixed: a simulated world of 60 users, HiSAC, eight trials a study. Each choice is trained on the whole
training period and judged on the test requests: the paired difference of their AUCs beside its standard error over
users and seeds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import hisac_lab as hl
from hisac_lab.config.base import parse
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import BackboneConfig
from hisac_lab.config.sweep import SweepConfig
from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.sweep.records import Best
from hisac_lab.sweep.space import Base
from hisac_lab.sweep.sweep import sweep
from hisac_lab.sweep.trial import TrialTask

SPACE = {
    "agents": [2, 4, 8, 16, 32],
    "depth": [1, 2],
    "breadth": [0.5, 0.7],
    "temperature": {"low": 0.02, "high": 0.3, "log": True},
}
WORLD = {"preset": "tiny", "users": 60, "events_per_user": 200}
WIDTHS: dict[str, Any] = {"widths": [8, 4], "limits": {"min_occupancy": 0.0, "max_bucket_share": 1.0}}
TRAIN: dict[str, Any] = {"epochs": 2, "batch_requests": 64}
SEEDS, RUNS = (0, 1), (0, 1, 2)
"""Of the studies; of the trainings of each choice."""
QUANTILE = 1.959964
"""Of the normal distribution, at 97.5 %: half of a 95 % interval in standard errors."""


def study(data: Any, seed: int, folder: Path) -> dict[str, Any]:
    """Settings of the model that a sweep with this study seed chooses."""
    settings = {"models": ["m"], "space": {"m": SPACE}, "trials": 8, "round_size": 4, "seed": seed, "finalist_seeds": 2}
    config = parse(SweepConfig, settings, "benchmark", "sweep")
    train = parse(TrainConfig, TRAIN, "benchmark", "train").model_copy(update={"epochs": config.epochs})
    task = TrialTask(
        base=Base(HiSACConfig(), BackboneConfig(), train, parse(TokenizeConfig, WIDTHS, "benchmark", "tokenize")),
        compute=ComputeConfig(device="cpu"),
        share=config.train_share,
        seed=seed,
        prepared=data.prepared,
        embedded=data.embedded,
        codebook=data.codebook,
        work=folder / "work",
    )
    out = folder / f"sweep-{seed}"
    out.mkdir()
    sweep(config, "m", task, workers=1, out=out, work=task.work)
    return Best.open(out).settings


def compare() -> dict[str, Any]:
    """The two choices, their paired difference in test AUC and its standard error, and that of one of the AUCs."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = hl.load("world", folder=folder, world=WORLD).prepare().tokenize(**WIDTHS)
        chosen = {f"study seed {seed}": study(data, seed, folder) for seed in SEEDS}
        models = {
            name: [
                data.fit(HiSACConfig.model_validate(settings, strict=False), train=TRAIN, seed=seed) for seed in RUNS
            ]
            for name, settings in chosen.items()
        }
        first, second = models
        scores = hl.evaluate(models, reference=first, interval_over="users_and_seeds").scores
        score = scores[second].metrics["auc"]
    assert score is not None
    low, high = score.difference_interval
    gap, error = abs(score.difference), (high - low) / 2 / QUANTILE
    keys = ("agents", "depth")
    return {
        "chosen": [{key: settings[key] for key in keys} for settings in chosen.values()],
        "choices_gap": round(gap, 5),
        "choices_error": round(error, 5),
        "auc_error": round((score.interval[1] - score.interval[0]) / 2 / QUANTILE, 5),
        "choices_agree": chosen[first] == chosen[second] or gap < error,
    }
