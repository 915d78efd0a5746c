"""Checkpoints: weights, optimizers and the position in the data, whole or not there at all."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hisac_lab.base.artifacts import write_file


@dataclass
class Progress:
    """What a run has reached; goes into every checkpoint.

    Attributes:
        step: Batches trained so far, over all epochs: the position in the data.
        loss_sum: Sum of the losses since the last validation.
        loss_count: Batches in that sum.
        curve: One entry per validation: step, train_loss, valid_auc, valid_log_loss; the last one of a run that has
            ended early has stopped_early, 1.
        best_auc: Best validation AUC so far; a later one is better only where it is higher as decisions are rounded
            (see `hisac_lab.ops.choice`).
        stale: Validations since then.
        best: The weights that reached it.
    """

    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    best_auc: float = -1.0
    stale: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)


class Checkpoint:
    """One file that is replaced whole.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, progress: Progress, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
        """Writes everything a resumed run needs to end in the same bytes."""
        box = io.BytesIO()
        state = {
            "progress": asdict(progress),
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        }
        torch.save(state, box)
        write_file(self.path, box.getvalue())

    def resume(self, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> Progress | None:
        """Puts the last state into model and optimizers; None at a fresh start."""
        if not self.path.exists():
            return None
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return Progress(**state["progress"])
