"""Checkpoints: weights, optimizers and the position in the data, whole or not there at all."""

from __future__ import annotations

import hashlib
import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from hisac_lab.base.artifacts import write_file
from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.training.parallel import ProcessGroup

MARK, SIZE = b"sha256:", 32
REMOVE = "remove it, and the run begins anew"


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
    """One file that is replaced whole, with its SHA-256 at its end.

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
        content = box.getvalue()
        write_file(self.path, content + MARK + hashlib.sha256(content).digest())

    def resume(self, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> Progress | None:
        """Puts the last state into model and optimizers; None at a fresh start.

        Raises:
            UserError: The file is damaged, or of another model.
        """
        if not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(self._content()), map_location="cpu", weights_only=True)
            model.load_state_dict(state["model"])
            for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            return Progress(**state["progress"])
        except OSError as error:
            raise explain_os_error(error, self.path) from error
        except (RuntimeError, UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
            if "memory" in str(error):
                raise
            what = f"is damaged, or of another model ({type(error).__name__})"
            raise UserError(self.path, what, REMOVE) from error

    def _content(self) -> bytes:
        """The file without its SHA-256; one of an earlier version has none."""
        read = self.path.read_bytes()
        content, mark, digest = read[: -len(MARK) - SIZE], read[-len(MARK) - SIZE : -SIZE], read[-SIZE:]
        if mark != MARK:
            return read
        if hashlib.sha256(content).digest() != digest:
            raise UserError(self.path, "is damaged: it does not have the SHA-256 written at its end", REMOVE)
        return content


class ShardedCheckpoint:
    """A file for each process, which holds some rows of a table, and for each of the last two checkpoints.

    A kill may fall between two of the files, so a run goes on from the newest step that all processes have.

    Args:
        folder: Where the files are.
        group: The processes.
    """

    def __init__(self, folder: Path, group: ProcessGroup) -> None:
        self.folder, self.group = folder, group
        self.name = f"shard-{group.rank}-of-{group.world_size}-"

    def save(self, progress: Progress, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
        """Writes the state of this process, atomically; removes that of the checkpoint before the last."""
        Checkpoint(self._path(progress.step)).save(progress, model, optimizers)
        for step in self._steps()[:-2]:
            self._path(step).unlink()

    def resume(self, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> Progress | None:
        """Puts the last state that all processes have into model and optimizers; None at a fresh start.

        Raises:
            UserError: The file is damaged, of another model or of another number of processes.
        """
        sizes = {int(path.name.split("-")[3]) for path in self.folder.glob("shard-*.pt")} - {self.group.world_size}
        if sizes:
            what = f"holds checkpoints of {max(sizes)} processes, and {self.group.world_size} are training"
            raise UserError(self.folder, what, f"start {max(sizes)}, or {REMOVE}")
        steps = self.group.common(self._steps())
        return Checkpoint(self._path(steps[-1])).resume(model, optimizers) if steps else None

    def _path(self, step: int) -> Path:
        return self.folder / f"{self.name}{step}.pt"

    def _steps(self) -> list[int]:
        """Steps at which this process has a checkpoint, rising."""
        return sorted(int(path.stem.rpartition("-")[2]) for path in self.folder.glob(f"{self.name}*.pt"))
