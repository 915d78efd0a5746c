"""Data-parallel training: two processes do what one does, and fail as one."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit import BACKBONE, MODELS, Stages, as_backbone, says
from together import Job, alike, job_of
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from hisac_lab.config.train import TrainConfig
from hisac_lab.inference.bundle import load_model
from hisac_lab.models import tables
from hisac_lab.training.parallel import ALONE, ProcessGroup, _all_there, deal, join, main_output

CONFIG = TrainConfig(epochs=2, batch_requests=96, accumulate=2, checkpoint_every=3)


def _job(stages: Stages, home: Path, trouble: str | None = None, **train_settings: Any) -> Job:
    return job_of(stages, home, BACKBONE, MODELS["hisac"], CONFIG.model_copy(update=train_settings), trouble)


def _torchrun(job: Job) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*start, *job.command], env=settings, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def alone(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of the job, its table with sparse gradients."""
    home = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "SPARSE_ROWS", 16)
        _job(stages, home).run()
    return home / "out"


def test_two_processes_train_like_one(
    stages: Stages, tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also with parts of a step, and with a table whose gradient is sparse."""
    monkeypatch.setattr(tables, "SPARSE_ROWS", 16)
    assert _job(stages, tmp_path).in_processes() == [0, 0]
    assert capfd.readouterr().err.count("batches done") == 1, "only the main process shows progress"
    assert not (tmp_path / "work").exists()
    assert as_backbone(load_model(alone)[0]).encoder.ids.sparse
    alike(alone, tmp_path / "out")


def test_shares_of_like_cost_train_like_one_process(stages: Stages, tmp_path: Path, alone: Path) -> None:
    assert _job(stages, tmp_path, share_by="events").in_processes() == [0, 0]
    alike(alone, tmp_path / "out")


def test_a_process_that_fails_ends_the_run_with_one_line_and_no_output(stages: Stages, tmp_path: Path) -> None:
    done = _torchrun(_job(stages, tmp_path, trouble="memory"))
    assert done.returncode != 0
    errors = [text for text in done.stderr.splitlines() if text.startswith("hisac-lab: error: ")]
    assert len(errors) == 1, done.stderr
    assert "settings: train.batch_requests: out of memory in a step of 96 requests" in errors[0]
    assert {path.name for path in tmp_path.iterdir()} <= {"work", "steps"}


def test_the_loss_of_another_process_is_one_line() -> None:
    with says("torchrun", "another process of the run is gone", "start it again"), _all_there():
        raise RuntimeError("Connection closed by peer")


@pytest.mark.parametrize("late", [0, 1])
def test_a_process_that_is_started_again_does_not_ask_for_one_that_is_gone(late: int) -> None:
    """`torchrun`'s store outlives the processes, and holds where the lost ones were."""
    kept = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    fork = multiprocessing.get_context("fork")
    for start in range(2):
        wait = [0.5 * start * (rank == late) for rank in (0, 1)]
        started = [fork.Process(target=_meet, args=(rank, kept.port, wait[rank])) for rank in (0, 1)]
        for process in started:
            process.start()
        for process in started:
            process.join(60)
            process.kill()
        assert [process.exitcode for process in started] == [7, 7]


def _meet(rank: int, port: int, wait: float) -> None:
    """Joins the other, and is lost with exit code 7."""
    time.sleep(wait)
    place = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({name: str(value) for name, value in place.items()})
    os.environ.update(TORCHELASTIC_RUN_ID="kept", TORCHELASTIC_USE_AGENT_STORE="True")
    with join(torch.device("cpu")) as group:
        os._exit(7 if group.sum(np.ones(1)).tolist() == [2.0] else 1)


def test_every_row_of_a_batch_falls_to_one_process() -> None:
    index = np.arange(100, 111)
    group = ProcessGroup(rank=1, world_size=3)
    by_rows, by_cost = group.shares(index), group.shares(index, np.arange(1, 12) ** 2)
    for shares in (by_rows, by_cost):
        assert sorted(np.concatenate(shares)) == sorted(index)
    assert max(map(len, by_rows)) - min(map(len, by_rows)) <= 1
    assert [len(share) for share in by_cost] == [6, 3, 2]
    for costs in (None, np.ones(11, int)):
        (alone,) = ALONE.shares(index, costs)
        np.testing.assert_array_equal(alone, index)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(1, 3))
def test_no_other_cut_of_a_batch_has_a_cheaper_dearest_share(costs: list[int], parts: int) -> None:
    rising = sorted(costs)
    every = itertools.combinations_with_replacement(range(len(costs) + 1), parts - 1)
    best = min(max(map(padded, cut)) for cut in (np.split(np.array(rising), ends) for ends in every))
    dealt = deal(np.array(costs), parts)
    assert sorted(np.concatenate(dealt)) == list(range(len(costs)))
    assert len(dealt) == parts
    assert max(padded(np.array(costs)[places]) for places in dealt) == best


def padded(costs: np.ndarray) -> int:
    return len(costs) * int(costs.max(initial=0))


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
