"""Processes that train together, for the tests: the stage `train` on prepared folders, and whether two runs are alike.

`torchrun` runs this file with one argument, a `Job` as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kit import Stages

from hisac_lab.base.errors import UserError
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import BackboneConfig, ModelConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.inference.bundle import load_model
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
        trouble: What befalls the second process at its fourth batch: memory, it runs out of it; killed, it is, once.
        steps: File of the steps that the main process has made, a line each; None: nobody asks.
    """

    folders: list[str]
    out: str
    work: str
    backbone: dict[str, Any]
    model: dict[str, Any]
    train: dict[str, Any]
    sparse_rows: int
    trouble: str | None = None
    steps: str | None = None

    @property
    def command(self) -> list[str]:
        """What each process runs, behind the name of the interpreter or of its launcher."""
        return [__file__, json.dumps(dataclasses.asdict(self))]

    def in_processes(self, count: int = 2) -> list[int | None]:
        """Runs it in copies of this process, as `torchrun` starts them but sooner; the exit code of each."""
        fork = multiprocessing.get_context("fork")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        processes = [fork.Process(target=self._run_as, args=(rank, count, port)) for rank in range(count)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return [process.exitcode for process in processes]

    def _run_as(self, rank: int, count: int, port: int) -> None:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
        os.environ.update({name: str(value) for name, value in place.items()})
        os.environ.update(TORCHELASTIC_RUN_ID="forked", TORCHELASTIC_RESTART_COUNT="0")
        self.run()

    def run(self) -> None:
        """Trains, as the stage does."""
        prepared, embedded, codebook = map(Path, self.folders)
        tables.SPARSE_ROWS = self.sparse_rows
        if self.trouble and os.environ.get("RANK") == "1":
            _spoil(self.trouble)
        backbone = BackboneConfig.model_validate_json(json.dumps(self.backbone))
        model = HiSACConfig.model_validate_json(json.dumps(self.model))
        train = TrainConfig.model_validate_json(json.dumps(self.train))
        compute = ComputeConfig(device="cpu")
        with main_output(Path(self.out)) as out:
            items = load_items(prepared=prepared, embedded=embedded, codebook=codebook)
            train_model(
                "hisac",
                model,
                backbone,
                train,
                compute,
                0,
                items,
                prepared=prepared,
                out=out,
                work=Path(self.work),
                on_step=self._note,
            )

    def _note(self, step: int, loss: float) -> None:
        if self.steps is not None and os.environ.get("RANK", "0") == "0":
            with Path(self.steps).open("a") as file:
                file.write(f"{step}\n")


def job_of(
    stages: Stages,
    home: Path,
    backbone: BackboneConfig,
    model: ModelConfig,
    train: TrainConfig,
    trouble: str | None = None,
) -> Job:
    """A job on the made-up log, below `home`; tables of 16 rows are large."""
    home.mkdir(parents=True, exist_ok=True)
    folders = [str(path) for path in (stages.prepare, stages.embed, stages.codebook)]
    shared, own, training = (part.model_dump(mode="json") for part in (backbone, model, train))
    out, work, steps = (str(home / name) for name in ("out", "work", "steps"))
    return Job(folders, out, work, shared, own, training, 16, trouble, steps)


def alike(one: Path, two: Path) -> None:
    """Refuses two outputs that are not of one training but for rounding."""
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in two.iterdir())
    curves = [[json.loads(line) for line in (home / "curve.jsonl").open()] for home in (one, two)]
    assert [point["step"] for point in curves[0]] == [point["step"] for point in curves[1]]
    for name, tolerance in (("train_loss", 1e-5), ("valid_log_loss", 1e-4), ("valid_auc", 1e-3)):
        first, second = ([point[name] for point in curve] for curve in curves)
        np.testing.assert_allclose(first, second, atol=tolerance)
    weights = [load_model(home)[0] for home in (one, two)]
    for part, other in zip(*(model.parameters() for model in weights), strict=True):
        torch.testing.assert_close(part, other, atol=2e-3, rtol=1e-2)


def _spoil(trouble: str) -> None:
    calls, backward = iter(range(10**6)), loop._backward

    def failing(*args: Any) -> float:
        if next(calls) == FAIL_AT:
            if trouble == "memory":
                raise MemoryError
            if os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
                os.kill(os.getpid(), signal.SIGKILL)
        return backward(*args)

    loop._backward = failing  # type: ignore[assignment]


if __name__ == "__main__":
    try:
        Job(**json.loads(sys.argv[1])).run()
    except UserError as error:
        print(f"hisac-lab: error: {error}", file=sys.stderr)
        sys.exit(1)
