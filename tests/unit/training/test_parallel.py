"""Data-parallel training: two processes do what one does, and fail as one."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import BACKBONE, MODELS, Stages, as_backbone, says
from together import Job

from hisac_lab.config.train import TrainConfig
from hisac_lab.inference.bundle import load_model
from hisac_lab.models import tables
from hisac_lab.training.parallel import ALONE, ProcessGroup, _all_there, join, main_output

CONFIG = TrainConfig(epochs=2, batch_requests=96, accumulate=2, checkpoint_every=3)
WORKER = Path(__file__).with_name("together.py")


def _job(stages: Stages, home: Path, trouble: str | None = None) -> Job:
    folders = [str(path) for path in (stages.prepare, stages.embed, stages.codebook)]
    backbone, model, train = (part.model_dump(mode="json") for part in (BACKBONE, MODELS["hisac"], CONFIG))
    return Job(folders, str(home / "out"), str(home / "work"), backbone, model, train, 16, trouble)


def _torchrun(job: Job) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*start, str(WORKER), json.dumps(dataclasses.asdict(job))]
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=120)


def test_two_processes_train_like_one(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with parts of a step, and with a table whose gradient is sparse."""
    monkeypatch.setattr(tables, "SPARSE_ROWS", 16)
    one, two = tmp_path / "one", tmp_path / "two"
    _job(stages, one).run()
    done = _torchrun(_job(stages, two))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("batches done") == 1, "only the main process shows progress"
    files = [sorted(path.name for path in (home / "out").iterdir()) for home in (one, two)]
    assert files[0] == files[1]
    assert not (two / "work").exists()
    curves = [[json.loads(line) for line in (home / "out/curve.jsonl").open()] for home in (one, two)]
    assert [point["step"] for point in curves[0]] == [point["step"] for point in curves[1]]
    for name, tolerance in (("train_loss", 1e-5), ("valid_log_loss", 1e-4), ("valid_auc", 1e-3)):
        one_alone, two_together = ([point[name] for point in curve] for curve in curves)
        np.testing.assert_allclose(one_alone, two_together, atol=tolerance)
    weights = [load_model(home / "out")[0] for home in (one, two)]
    assert as_backbone(weights[0]).encoder.ids.sparse
    for part, other in zip(*(model.parameters() for model in weights), strict=True):
        torch.testing.assert_close(part, other, atol=2e-3, rtol=1e-2)


def test_a_process_that_fails_ends_the_run_with_one_line_and_no_output(stages: Stages, tmp_path: Path) -> None:
    done = _torchrun(_job(stages, tmp_path, trouble="memory"))
    assert done.returncode != 0
    errors = [text for text in done.stderr.splitlines() if text.startswith("hisac-lab: error: ")]
    assert len(errors) == 1, done.stderr
    assert "settings: train.batch_requests: out of memory in a step of 96 requests" in errors[0]
    assert [path.name for path in tmp_path.iterdir()] in ([], ["work"])


def test_the_loss_of_another_process_is_one_line() -> None:
    with says("torchrun", "another process of the run is gone", "start it again"), _all_there():
        raise RuntimeError("Connection closed by peer")


def test_every_row_of_a_batch_falls_to_one_process() -> None:
    index = np.arange(100, 111)
    group = ProcessGroup(rank=1, world_size=3)
    shares = [group.shard(index, rank) for rank in range(3)]
    assert sorted(np.concatenate(shares)) == sorted(index)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    np.testing.assert_array_equal(group.shard(index), shares[1])
    np.testing.assert_array_equal(ALONE.shard(index), index)


def test_without_torchrun_a_process_is_alone_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    with join(torch.device("cpu")) as group:
        assert (group, group.is_main) == (ALONE, True)
    with main_output(tmp_path / "out") as out:
        (out / "a").touch()
    assert (tmp_path / "out" / "a").exists()
    monkeypatch.setenv("RANK", "1")
    with main_output(tmp_path / "other") as out:
        assert not out.exists()
    assert not (tmp_path / "other").exists()
