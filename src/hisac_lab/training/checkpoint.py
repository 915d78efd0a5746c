"""Checkpoints: weights, optimisers and the position in the data, whole or not there at all."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hisac_lab.base.artifacts import write_file

if TYPE_CHECKING:
    from hisac_lab.training.loop import Progress


class Checkpoint:
    """One file that is replaced whole.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, progress: Progress, model: nn.Module, steppers: list[torch.optim.Optimizer]) -> None:
        """Writes everything a resumed run needs to end in the same bytes."""
        box = io.BytesIO()
        state = {
            "progress": asdict(progress),
            "model": model.state_dict(),
            "optimizers": [stepper.state_dict() for stepper in steppers],
        }
        torch.save(state, box)
        write_file(self.path, box.getvalue())

    def load(self) -> dict[str, Any] | None:
        """The last state, or None at a fresh start."""
        if not self.path.exists():
            return None
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        return state

    def restore(
        self,
        state: dict[str, Any],
        progress: Callable[..., Progress],
        model: nn.Module,
        steppers: list[torch.optim.Optimizer],
    ) -> Progress:
        """Puts `state` back into model and optimisers."""
        model.load_state_dict(state["model"])
        for stepper, saved in zip(steppers, state["optimizers"], strict=True):
            stepper.load_state_dict(saved)
        return progress(**state["progress"])
