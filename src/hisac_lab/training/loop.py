"""The training loop: batches computed from (seed, epoch), checkpoints that carry the position in the data.

A killed run goes on from its last checkpoint and ends in the same bytes as an undisturbed one: the order of batches
is computed, not drawn, and dropout is seeded anew in every part of every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.base.progress import say, track
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests, epoch_order, in_order
from hisac_lab.inference.loader import Loader, score
from hisac_lab.models.backbone import Ranker
from hisac_lab.models.fitted import Fitted
from hisac_lab.ops.auc import auc
from hisac_lab.ops.choice import higher
from hisac_lab.training.checkpoint import Checkpoint, Progress, ShardedCheckpoint
from hisac_lab.training.errors import scoring_explained, step_explained
from hisac_lab.training.exchange import Exchange
from hisac_lab.training.optimizers import make_optimizers, set_rates
from hisac_lab.training.parallel import ALONE, ProcessGroup
from hisac_lab.training.throughput import ThroughputMeter

SAMPLE = 512
"""Training requests whose features are standardized."""
RATE, HINT = "train.learning_rate", "lower it, or train.embedding_learning_rate"

OnStep: TypeAlias = Callable[[int, float], bool | None]
"""Told the number of a step, from 0, and its mean loss."""


@contextmanager
def update(model: Ranker, optimizers: list[torch.optim.Optimizer]) -> Iterator[None]:
    """Steps by the gradients that are added inside; not at all, when something is raised there."""
    model.train()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    yield
    for optimizer in optimizers:
        optimizer.step()


def seed_dropout(*seed: int) -> None:
    """Starts the generator that dropout draws from, at a place computed from these numbers."""
    torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))


def add_gradients(logits: Tensor, labels: Tensor, mask: Tensor, total: float, weights: Tensor | None = None) -> float:
    """Adds the gradients of a batch's share in a mean loss; gives that share.

    Args:
        logits: Of all candidates of the batch; (R, C).
        labels: 1 clicked, 0 not; (R, C) float32.
        mask: True at real candidates; (R, C) bool.
        total: Weight of the real candidates of the whole step; their number, where all weigh the same.
        weights: Of the candidates; (R, C) float32. None: all weigh the same.
    """
    loss = _summed(logits, labels, mask, weights) / total
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _summed(logits: Tensor, labels: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
    """The weighted sum of the log losses at `mask`."""
    losses = nn.functional.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none")
    return (losses if weights is None else losses * weights)[mask].sum()


@arithmetic.one_thread()
def train(
    model: Ranker,
    train_loader: Loader,
    valid_loader: Loader,
    config: TrainConfig,
    seed: int,
    what: str,
    work: Path | None = None,
    group: ProcessGroup = ALONE,
    on_step: OnStep | None = None,
    learned: bool = False,
) -> Progress:
    """Trains, validates, keeps the best weights: those of the first validation with the highest AUC, as rounded.

    Args:
        model: Trained in place; ends with the best weights loaded.
        train_loader: Training requests.
        valid_loader: Validation requests, on the same device.
        config: The section `train`.
        seed: Seed of batch order and dropout.
        what: Name for progress lines.
        work: Folder for checkpoints; None trains without.
        group: The processes that share the batches; all end with the same weights.
        on_step: Called after every step. When it gives True, the run ends there as a kill would end it: with the
            weights of that step, and to be resumed from the last checkpoint.
        learned: Whether it begins with learned weights, which know their features as standardized then.

    Raises:
        UserError: The loss is no longer finite, memory runs out, or another process of the process group is gone.
    """
    requests = train_loader.requests
    model.to(train_loader.runtime.device)
    if isinstance(model, Fitted):
        return _fit(model, train_loader, valid_loader, seed, what, group)
    optimizers, exchange = make_optimizers(model, config), Exchange(model, group)
    checkpoint = _checkpoint(work, exchange)
    progress = (checkpoint and checkpoint.resume(model, optimizers)) or Progress()
    group.align(model, progress.step)
    with scoring_explained():
        train_loader, valid_loader = train_loader.counted(model), valid_loader.counted(model)
        if progress.step == 0 and not learned:
            standardize(model, train_loader, config.batch_requests)
    for warning in train_loader.warnings if group.is_main else ():
        say(f"{what}: {warning}")
    per_epoch = len(epoch_order(requests.lengths, config.batch_requests, seed, 0))
    checks = min(config.checks_per_epoch, per_epoch)
    first, total, batches = progress.step, per_epoch * config.epochs, list[Array]()
    meter = ThroughputMeter(requests)
    steps: Iterable[int] = range(first, total)
    if group.is_main:
        steps = track(steps, total, what, "batches", first, meter.__str__)
    for step in steps:
        if config.patience is not None and progress.stale >= config.patience:
            progress.curve[-1]["stopped_early"] = 1
            break
        epoch, at = divmod(step, per_epoch)
        if at == 0 or not batches:
            batches = epoch_order(requests.lengths, config.batch_requests, seed, epoch)
        set_rates(optimizers, config, step, total)
        shares = group.shares(batches[at], _costs(model, requests, batches[at], config))
        with step_explained(requests, batches[at], config.accumulate):
            loss = _step(model, train_loader, shares, optimizers, config.accumulate, exchange, (seed, step))
        meter.add(part for share in shares for part in np.array_split(share, config.accumulate))
        progress.step = step + 1
        progress.loss_sum += loss
        progress.loss_count += 1
        if not np.isfinite(loss):
            raise UserError(SETTINGS, f"the loss is {loss} at step {step}", HINT, RATE)
        if (at + 1) * checks // per_epoch > at * checks // per_epoch:
            _validate(model, valid_loader, progress, exchange)
        if checkpoint and (group.is_main or exchange.tables) and progress.step % config.checkpoint_every == 0:
            checkpoint.save(progress, model, optimizers)
        if on_step is not None and on_step(step, loss):
            return progress
    if group.is_main and progress.step < total:
        say(f"{what}: stopped after {progress.step:,} batches, {progress.stale} validations without a better AUC")
    model.load_state_dict(progress.best)
    return progress


def _checkpoint(work: Path | None, exchange: Exchange) -> Checkpoint | ShardedCheckpoint | None:
    if work is None:
        return None
    return ShardedCheckpoint(work, exchange.group) if exchange.tables else Checkpoint(work / "checkpoint.pt")


def _costs(model: Ranker, requests: Requests, index: Array, config: TrainConfig) -> Array | None:
    """What each request costs, in events, where processes share by it: its history, and what the short branch reads."""
    if config.share_by == "rows":
        return None
    costs: Array = requests.lengths[index] + model.backbone.short_window
    return costs


def _fit(
    model: Ranker, train_loader: Loader, valid_loader: Loader, seed: int, what: str, group: ProcessGroup
) -> Progress:
    """Fits a model at once and validates it, as one step; on every process the same."""
    assert isinstance(model, Fitted)
    parts = list(in_order(train_loader.requests))
    shown = track(parts, len(parts), what, "batches") if group.is_main else parts
    progress = Progress(step=1)
    with scoring_explained():
        batches = (train_loader.batch(part) for part in shown)
        loss = model.fit(batches, seed)
    progress.loss_sum, progress.loss_count = loss, 1
    _validate(model, valid_loader, progress, Exchange(model, group))
    return progress


@torch.no_grad()
def standardize(model: Ranker, loader: Loader, batch_requests: int) -> None:
    """Shows a model that asks for it an even sample of the training requests; the same on every process."""
    index = np.unique(np.linspace(0, len(loader) - 1, SAMPLE).astype(int))
    parts = np.array_split(index, -(-len(index) // batch_requests))
    if model.context_columns.names:
        batches = (loader.batch(part) for part in parts)
        model.standardize(batch.context[batch.mask] for batch in batches if batch.context is not None)
    if model.long is not None and model.long.standardizes:
        batches = (loader.batch(part) for part in parts)
        shown = model.long.shown
        model.long.standardize((shown(batch.history), batch.candidates, batch.mask) for batch in batches)


def _step(
    model: Ranker,
    loader: Loader,
    shares: list[Array],
    optimizers: list[torch.optim.Optimizer],
    accumulate: int,
    exchange: Exchange,
    seed: tuple[int, int],
) -> float:
    """One step of the process group on the requests of all shares, in parts; the mean loss of all real candidates."""
    total = loader.requests.weight_of(np.concatenate(shares))
    loss, group = 0.0, exchange.group
    with update(model, optimizers):
        for piece, rows in enumerate(np.array_split(shares[group.rank], accumulate)):
            if len(rows):
                # The first part of the first process has the seed of an undivided step.
                seed_dropout(*seed, group.rank * accumulate + piece)
                loss += _backward(model, loader, rows, total, exchange)
            else:
                exchange.fetch(None)
            exchange.give_back()
        return group.sum_gradients(model, loss)


def _backward(model: Ranker, loader: Loader, index: Array, total: float, exchange: Exchange) -> float:
    """Scores the requests at `index` and adds their gradients; gives their share in the loss of the label.

    The loss of a further answer is a mean over the same candidates, to which one that is not known adds nothing.
    """
    batch = loader.batch(index)
    exchange.fetch(batch)
    if batch.answers is None:
        with loader.runtime.autocast():
            logits = model(batch.history, batch.candidates, batch.context)
        return add_gradients(logits, batch.labels, batch.mask, total, batch.weights)
    with loader.runtime.autocast():
        logits = model.answer(model.encode(batch.history), batch.candidates, batch.context)
    loss = _summed(logits[..., 0], batch.labels, batch.mask, batch.weights) / total
    whole = loss
    for place, weight in enumerate(model.backbone.tasks.values()):
        answers = batch.answers[..., place]
        known = batch.mask & ~answers.isnan()
        whole = whole + weight / total * _summed(logits[..., 1 + place], answers.nan_to_num(), known, batch.weights)
    whole.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _validate(model: Ranker, loader: Loader, progress: Progress, exchange: Exchange) -> None:
    group = exchange.group
    with scoring_explained():
        scored = score(model, loader, (group.rank, group.world_size), exchange.fetch)
    requests = loader.requests
    logits = group.sum(scored)[requests.mask].astype(np.float64)
    labels = requests.labels[requests.mask]
    if not np.isfinite(logits).all():
        what = f"the model's scores are no longer finite after step {progress.step - 1}"
        raise UserError(SETTINGS, what, HINT, RATE)
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
    progress.stale += 1
    if higher(quality, progress.best_auc):
        progress.best_auc, progress.stale = quality, 0
        progress.best = {name: part.detach().cpu().clone() for name, part in model.state_dict().items()}
