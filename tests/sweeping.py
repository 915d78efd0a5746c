"""A trial of a sweep that takes a second."""

from __future__ import annotations

from pathlib import Path

from kit import BACKBONE, Stages

from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.tokens import TokenizeConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.sweep.space import Base
from hisac_lab.sweep.trial import TrialTask


def quick_task(stages: Stages, work: Path) -> TrialTask:
    """What trials on a third of the training requests run on."""
    tokenize = TokenizeConfig.model_validate_json('{"widths": [8, 4], "limits": {"min_occupancy": 0}}')
    return TrialTask(
        base=Base(HiSACConfig(), BACKBONE, TrainConfig(epochs=1, batch_requests=128), tokenize),
        compute=ComputeConfig(device="cpu"),
        share=0.3,
        seed=0,
        prepared=stages.prepare,
        embedded=stages.embed,
        codebook=stages.codebook,
        work=work,
    )
