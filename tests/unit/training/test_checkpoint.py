"""Checkpoints: whole or not there, with everything a resumed run needs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from kit import BACKBONE, MODELS, make_history, make_items, says

from hisac_lab.config.train import TrainConfig
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.catalog import build
from hisac_lab.training.checkpoint import Checkpoint, Progress
from hisac_lab.training.optimizers import make_optimizers

SPACE = make_items()


def _start(seed: int = 0) -> tuple[Ranker, list[torch.optim.Optimizer]]:
    model = build(MODELS["hisac"], BACKBONE, SPACE, seed)
    return model, make_optimizers(model, TrainConfig())


def _steps(model: Ranker, optimizers: list[torch.optim.Optimizer], count: int) -> None:
    for step in range(count):
        loss = model(make_history([5, 3], seed=step), torch.arange(4).view(2, 2)).square().mean()
        model.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()


def test_a_fresh_start_has_no_state(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path / "checkpoint.pt").resume(*_start()) is None


def test_weights_optimizers_and_position_come_back(tmp_path: Path) -> None:
    model, optimizers = _start()
    _steps(model, optimizers, 3)
    best = {"a": torch.arange(3.0)}
    progress = Progress(3, 1.5, 2, [{"step": 3, "valid_auc": 0.7}], 0.7, 4, best)
    box = Checkpoint(tmp_path / "deep" / "checkpoint.pt")
    box.save(progress, model, optimizers)
    other, others = _start(1)
    found = box.resume(other, others)
    assert found is not None
    assert (found.step, found.loss_sum, found.loss_count, found.stale) == (3, 1.5, 2, 4)
    assert (found.curve, found.best_auc) == (progress.curve, 0.7)
    assert torch.equal(found.best["a"], best["a"])
    for one, two in ((model, optimizers), (other, others)):
        _steps(one, two, 2)
    for part, again in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(part, again)


@pytest.mark.parametrize("trouble", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_checkpoint_cut_short_leaves_the_one_before(
    tmp_path: Path, trouble: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizers = _start()
    box = Checkpoint(tmp_path / "checkpoint.pt")
    box.save(Progress(step=1), model, optimizers)

    def fail(number: int) -> None:
        raise trouble

    monkeypatch.setattr(os, "fsync", fail)
    expected = says("checkpoint.pt", "no space left") if isinstance(trouble, OSError) else pytest.raises(type(trouble))
    with expected:
        box.save(Progress(step=2), model, optimizers)
    found = box.resume(model, optimizers)
    assert found is not None
    assert found.step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_killed_writers_draft_is_never_read(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.pt.tmp").write_bytes(b"half a checkpoint")
    assert Checkpoint(tmp_path / "checkpoint.pt").resume(*_start()) is None


def _saved(path: Path) -> Checkpoint:
    model, optimizers = _start()
    _steps(model, optimizers, 1)
    box = Checkpoint(path)
    box.save(Progress(step=1), model, optimizers)
    return box


@pytest.mark.parametrize("place", [0, 1000, 20_000, -60, -33, -1])
def test_a_flipped_bit_is_told(tmp_path: Path, place: int) -> None:
    box = _saved(tmp_path / "checkpoint.pt")
    content = bytearray(box.path.read_bytes())
    content[place] ^= 1
    box.path.write_bytes(content)
    if place == -33:  # in the mark in front of the digest: the state itself is whole
        assert box.resume(*_start()) is not None
        return
    with says(f"{box.path}: is damaged: it does not have the SHA-256 written at its end; remove it, and the run"):
        box.resume(*_start())


@pytest.mark.parametrize("left", [0, 1, 30, 5000, -1, -100])
def test_a_checkpoint_cut_short_is_told(tmp_path: Path, left: int) -> None:
    box = _saved(tmp_path / "checkpoint.pt")
    box.path.write_bytes(box.path.read_bytes()[:left])
    if left == -1:  # a byte of the digest is gone, and the state is whole
        assert box.resume(*_start()) is not None
        return
    with says(f"{box.path}: is damaged, or of another model (", "remove it, and the run begins anew"):
        box.resume(*_start())


def test_a_checkpoint_of_another_model_is_told_and_one_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    box = _saved(tmp_path / "checkpoint.pt")
    other = build(MODELS["din-short-only"], BACKBONE, SPACE, 0)
    with says(f"{box.path}: is damaged, or of another model (RuntimeError); remove it, and the run begins anew"):
        box.resume(other, make_optimizers(other, TrainConfig()))
    box.path.write_bytes(box.path.read_bytes()[:-39])  # it had no digest
    found = box.resume(*_start())
    assert found is not None
    assert found.step == 1
