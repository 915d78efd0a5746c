"""The training loop: batches computed from (seed, epoch), checkpoints that carry the position in the data.

A killed run goes on from its last checkpoint and ends in the same bytes as an undisturbed one: the order of batches
is computed, not drawn, and dropout is seeded anew at every step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import track
from hisac_lab.config.run import TrainConfig
from hisac_lab.events.batches import Rows, epoch_order
from hisac_lab.models.frame import Ranker
from hisac_lab.models.runtime import AgentCache, Runtime, histories, score_rows
from hisac_lab.ops.auc import auc
from hisac_lab.training.checkpoint import Checkpoint, Progress


def optimizers(model: Ranker, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Adam for dense parameters, Adagrad for embedding tables (HiSAC note, section 6: stated, S3)."""
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    dense = [p for p in model.parameters() if id(p) not in tables]
    sparse = [p for p in model.parameters() if id(p) in tables]
    return [
        torch.optim.AdamW(dense, lr=config.learning_rate, weight_decay=config.weight_decay),
        torch.optim.Adagrad(sparse, lr=config.embedding_learning_rate),
    ]


def train(
    model: Ranker,
    train_rows: Rows,
    valid_rows: Rows,
    config: TrainConfig,
    runtime: Runtime,
    seed: int,
    what: str,
    work: Path | None = None,
    stop_after: int | None = None,
) -> Progress:
    """Trains, validates, keeps the best weights.

    Args:
        model: Trained in place; ends with the best weights loaded.
        train_rows: Training requests.
        valid_rows: Validation requests.
        config: The section `train`.
        runtime: Device and number format.
        seed: Seed of batch order and dropout.
        what: Name for progress lines.
        work: Folder for checkpoints; None trains without.
        stop_after: Ends after so many steps of this call, as a kill would (for tests).

    Raises:
        UserError: The loss is no longer finite.
    """
    model.to(runtime.device)
    steppers = optimizers(model, config)
    checkpoint = Checkpoint(work / "checkpoint.pt") if work else None
    progress = (checkpoint and checkpoint.resume(model, steppers)) or Progress()
    cache = AgentCache.fill(model, train_rows, runtime)
    valid_cache = AgentCache.fill(model, valid_rows, runtime)
    per_epoch = len(epoch_order(train_rows.lengths, config.batch_requests, seed, 0))
    checks = min(config.checks_per_epoch, per_epoch)
    total = per_epoch * config.epochs
    batches: list[Array] = []
    first = progress.step
    for step in track(range(first, total), total, what, "batches", done=first):
        epoch, at = divmod(step, per_epoch)
        if at == 0 or not batches:
            batches = epoch_order(train_rows.lengths, config.batch_requests, seed, epoch)
        loss = _step(model, train_rows, batches[at], steppers, runtime, cache, (seed, step))
        progress.step = step + 1
        progress.loss_sum += loss
        progress.loss_count += 1
        if not np.isfinite(loss):
            raise UserError("params.yaml", f"the loss is {loss} at step {step}", "lower it", "train.learning_rate")
        if (at + 1) * checks // per_epoch > at * checks // per_epoch:
            _validate(model, valid_rows, valid_cache, runtime, progress)
        if checkpoint and progress.step % config.checkpoint_every == 0:
            checkpoint.save(progress, model, steppers)
        if stop_after is not None and progress.step - first >= stop_after:
            return progress
    model.load_state_dict(progress.best)
    return progress


def _step(
    model: Ranker,
    rows: Rows,
    index: Array,
    steppers: list[torch.optim.Optimizer],
    runtime: Runtime,
    cache: AgentCache | None,
    seed: tuple[int, int],
) -> float:
    model.train()
    torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    batch = rows.take(index)
    candidates, labels, mask = (
        torch.from_numpy(part).to(runtime.device) for part in (batch.candidates, batch.labels, batch.mask)
    )
    with runtime.autocast():
        logits = model(histories(rows, index, runtime, cache), candidates)
    losses = nn.functional.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none")
    loss = losses[mask].mean()
    for stepper in steppers:
        stepper.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    for stepper in steppers:
        stepper.step()
    return float(loss.detach())


def _validate(model: Ranker, rows: Rows, cache: AgentCache | None, runtime: Runtime, progress: Progress) -> None:
    logits = score_rows(model, rows, runtime, cache)[rows.mask].astype(np.float64)
    labels = rows.labels[rows.mask]
    if not np.isfinite(logits).all():
        what = f"the model's scores are no longer finite after step {progress.step - 1}"
        raise UserError("params.yaml", what, "lower it", "train.learning_rate")
    quality = auc(labels, logits)
    loss = float((np.logaddexp(0, logits) - labels * logits).mean())
    point: dict[str, Any] = {
        "step": progress.step,
        "train_loss": round(progress.loss_sum / max(1, progress.loss_count), 6),
        "valid_auc": round(quality, 6),
        "valid_log_loss": round(loss, 6),
    }
    progress.curve.append(point)
    progress.loss_sum, progress.loss_count = 0.0, 0
    if quality > progress.best_auc:
        progress.best_auc = quality
        progress.best = {name: part.detach().cpu().clone() for name, part in model.state_dict().items()}
