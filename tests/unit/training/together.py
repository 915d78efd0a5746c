"""Run by `torchrun`: the stage `train` on prepared folders. One argument, JSON; see `Job`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hisac_lab.base.errors import UserError
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import BackboneConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.inference.items import load_items
from hisac_lab.models import tables
from hisac_lab.models.hisac import HiSACConfig
from hisac_lab.training import loop
from hisac_lab.training.parallel import main_output
from hisac_lab.training.train import train_model

FAIL_AT = 3


@dataclass(frozen=True)
class Job:
    """What is to be trained.

    Attributes:
        folders: Outputs of prepare, embed and codebook.
        out: Where the model goes.
        work: Where checkpoints go.
        backbone: Settings.
        model: Settings.
        train: Settings.
        sparse_rows: Rows from which tables are sparse.
        trouble: What the second process runs out of at its fourth batch: memory.
    """

    folders: list[str]
    out: str
    work: str
    backbone: dict[str, Any]
    model: dict[str, Any]
    train: dict[str, Any]
    sparse_rows: int
    trouble: str | None = None

    def run(self) -> None:
        """Trains, as the stage does."""
        prepared, embedded, codebook = map(Path, self.folders)
        tables.SPARSE_ROWS = self.sparse_rows
        if self.trouble and os.environ.get("RANK") == "1":
            _spoil()
        backbone = BackboneConfig.model_validate_json(json.dumps(self.backbone))
        model = HiSACConfig.model_validate_json(json.dumps(self.model))
        train = TrainConfig.model_validate_json(json.dumps(self.train))
        compute = ComputeConfig(device="cpu")
        with main_output(Path(self.out)) as out:
            items = load_items(prepared=prepared, embedded=embedded, codebook=codebook)
            train_model(
                "hisac", model, backbone, train, compute, 0, items, prepared=prepared, out=out, work=Path(self.work)
            )


def _spoil() -> None:
    calls, backward = iter(range(10**6)), loop._backward

    def failing(*args: Any) -> float:
        if next(calls) == FAIL_AT:
            raise MemoryError
        return backward(*args)

    loop._backward = failing  # type: ignore[assignment]


if __name__ == "__main__":
    try:
        Job(**json.loads(sys.argv[1])).run()
    except UserError as error:
        print(f"hisac-lab: error: {error}", file=sys.stderr)
        sys.exit(1)
