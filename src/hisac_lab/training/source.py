"""IAT's source model in training: it writes the vectors of a chunk, then learns from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.model import InstancesConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests, epoch_order, in_order
from hisac_lab.events.instances import AFTER, BEFORE, InstanceStore
from hisac_lab.inference.loader import Batch, Loader
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.instance_source import InstanceSource
from hisac_lab.models.instances import Instances
from hisac_lab.ops.auc import auc
from hisac_lab.training.loop import add_gradients, seed_dropout, standardize, update
from hisac_lab.training.optimizers import make_optimizers

PAIRS = 1 << 22  # pairs of instances the transformer compares at once when it writes


@dataclass(frozen=True)
class Logged:
    """Requests, and what the log says of each of their exposures.

    Attributes:
        requests: N requests.
        columns: Of each sample that they were grouped from, G columns; (samples, G) float32.
    """

    requests: Requests
    columns: Array

    def take(self, index: Array) -> Logged:
        """The requests at `index`."""
        return Logged(self.requests.take(index), self.columns)

    def of(self, index: Array, device: torch.device) -> Tensor:
        """Columns of the candidates of the requests at `index`, zeros in the padding; (R, C, G)."""
        places = self.requests.sample[index]
        return torch.from_numpy(self.columns[places] * (places >= 0)[..., None]).to(device)


@dataclass(frozen=True)
class Predictions:
    """What the source model thought of instances when it wrote them.

    Attributes:
        labels: (N,) 0 or 1.
        logits: (N,) float64.
    """

    labels: Array
    logits: Array

    def quality(self) -> dict[str, float | None]:
        """AUC and log loss of instances whose labels the weights had not seen; None where there is none."""
        if not len(self.labels):
            return {"instances": 0, "auc": None, "log_loss": None}
        area = auc(self.labels, self.logits)
        loss = float((np.logaddexp(0, self.logits) - self.labels * self.logits).mean())
        return {
            "instances": len(self.labels),
            "auc": round(area, 6) if np.isfinite(area) else None,
            "log_loss": round(loss, 6),
        }


class SourceTraining:
    """The source model trained chunk by chunk.

    Args:
        config: The section `instances`.
        model: The source model.
        table: The store, its vectors open for writing.
        train: Batches, learning rates, passes.
        runtime: Device and number format.
    """

    def __init__(
        self, config: InstancesConfig, model: InstanceSource, table: InstanceStore, train: TrainConfig, runtime: Runtime
    ) -> None:
        self.config, self.table, self.train, self.runtime = config, table, train, runtime
        self.model = model.to(runtime.device)
        self.optimizers = make_optimizers(model, train)
        self.step = 0

    def _loader(self, requests: Requests) -> Loader:
        """Without stored instances: those of a piece are fetched together."""
        return Loader.of(self.model, requests, self.runtime, names=self.model.sides - {"instances"})

    @torch.inference_mode()
    def write(self, logged: Logged, index: Array, places: Array) -> Predictions:
        """Stores the vectors of the requests at `index` with the weights as they are.

        Args:
            logged: Requests of one split.
            index: Which of them; rising.
            places: Where each candidate belongs in the store; (N, C).
        """
        where = places[index]
        written = np.sort(where[logged.requests.mask[index]])
        logits = np.zeros(len(written))
        for batch_index, vectors in self.compress(logged.take(index)):
            here = where[batch_index][logged.requests.mask[index[batch_index]]]
            self.table.vectors[BEFORE][here] = vectors.cpu().numpy()
            if self.config.order == "temporal":
                scored = self.model.logits(vectors)
                logits[np.searchsorted(written, here)] = scored.cpu().numpy()
        if self.config.order == "user":
            self._write_after(logged.requests.take(index), where, written, logits)
        return Predictions(self.table.labels[written].astype(np.float64), logits)

    @torch.inference_mode()
    def compress(self, logged: Logged) -> Iterator[tuple[Array, Tensor]]:
        """Some requests at a time: which, and the vectors of their real candidates; (n, E) float32."""
        self.model.eval()
        loader = self._loader(logged.requests)
        for index in in_order(logged.requests):
            batch = loader.batch(index)
            columns = logged.of(index, self.runtime.device)
            with self.runtime.autocast():
                state = self.model.encode(batch.history)
                vectors = self.model.instance(state, batch.candidates, batch.context, columns)
            yield index, vectors.float()[batch.mask]

    @torch.inference_mode()
    def _write_after(self, requests: Requests, places: Array, written: Array, logits: Array) -> None:
        """Stores the rows after the transformer, which reads stored rows only; fills in the logits."""
        table, device = self.table, self.runtime.device
        starts = pieces(requests.user, requests.mask.sum(axis=1), self.config.window)
        firsts = places[starts, 0]
        ends = firsts + np.add.reduceat(requests.mask.sum(axis=1), starts) if len(starts) else firsts
        begins = np.maximum(table.offsets[requests.user[starts]], firsts - self.config.window + 1)
        for alike in _alike(ends - begins):
            keys = begins[alike][:, None] + np.arange((ends - begins)[alike].max())
            real = keys < ends[alike][:, None]
            keys = np.where(real, keys, 0)
            x = torch.from_numpy(table.vectors[BEFORE][keys].astype(np.float32)).to(device)
            times, there = torch.from_numpy(table.times[keys]).to(device), torch.from_numpy(real).to(device)
            with self.runtime.autocast():
                outputs = self.model.sequence(x, times, there, table.unit).float()
            scored = self.model.logits(outputs).cpu().numpy()
            mine = real & (keys >= firsts[alike][:, None])
            table.vectors[AFTER][keys[mine]] = outputs.cpu().numpy()[mine]
            logits[np.searchsorted(written, keys[mine])] = scored[mine]

    def learn(self, logged: Logged, index: Array, chunk: int) -> None:
        """Passes over the requests at `index`, rising.

        Raises:
            UserError: The loss is no longer finite.
        """
        if not len(index):
            return
        told = logged.take(index)
        seen = told.requests
        loader = self._loader(seen).counted(self.model)
        if self.step == 0:
            standardize(self.model, loader, self.train.batch_requests)
            if self.model.logged is not None:
                self.model.logged.standardize([torch.from_numpy(logged.columns[seen.sample[seen.mask]])])
        starts = pieces(seen.user, seen.mask.sum(axis=1), self.config.window)
        piece = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(seen)]))
        for epoch in range(self.train.epochs):
            seed = [self.config.seed, chunk, epoch]
            for batch_index in self._batches(seen, piece, seed):
                batch = loader.batch(batch_index)
                with update(self.model, self.optimizers):
                    seed_dropout(self.config.seed, self.step)
                    columns = told.of(batch_index, self.runtime.device)
                    logits = self._logits(batch, seen.take(batch_index), piece[batch_index], columns)
                    loss = add_gradients(logits, batch.labels, batch.mask, int(seen.mask[batch_index].sum()))
                if not np.isfinite(loss):
                    what = f"the loss of the stage instances is {loss} at step {self.step}"
                    raise UserError(SETTINGS, what, "lower it", "train.learning_rate")
                self.step += 1

    def _batches(self, requests: Requests, piece: Array, seed: list[int]) -> list[Array]:
        """Temporal order: any rows together. User order: whole pieces together, about as many rows."""
        size = self.train.batch_requests
        if self.config.order == "temporal":
            epoch_seed, epoch = int(np.random.SeedSequence(seed[:2]).generate_state(1)[0]), seed[2]
            return epoch_order(requests.lengths, size, epoch_seed, epoch)
        shuffled = np.random.default_rng(seed).permutation(int(piece[-1]) + 1)
        rank = np.empty_like(shuffled)
        rank[shuffled] = np.arange(len(shuffled))
        order = np.argsort(rank[piece], kind="stable")
        batch = np.cumsum(np.bincount(rank[piece]))[rank[piece[order]]] // size  # by the end of the row's piece
        return np.split(order, np.flatnonzero(np.diff(batch)) + 1)

    def _logits(self, batch: Batch, requests: Requests, piece: Array, logged: Tensor) -> Tensor:
        """Logits of all candidates of a batch of these requests, each a part of the piece of this number; (R, C)."""
        with self.runtime.autocast():
            if self.config.order == "temporal":
                state = self.model.encode(batch.history)
                return self.model.logits(self.model.instance(state, batch.candidates, batch.context, logged))
            device = self.runtime.device
            first = np.unique(piece, return_index=True)[1]
            assert self.model.reads is not None
            fetched = self.table.fetch(requests.user[first], requests.time[first], self.model.reads)
            past = Instances.of(fetched, device)
            users, times = torch.from_numpy(piece).to(device), torch.from_numpy(requests.time).to(device)
            given = (batch.history, batch.candidates, batch.mask, users, times, past)
            return self.model.score_users(*given, self.table.unit, batch.context, logged)


def pieces(users: Array, sizes: Array, window: int) -> Array:
    """Cuts rows, which lie user by user, into pieces of one user and at most so many instances.

    Args:
        users: User of each row; (N,).
        sizes: Instances of each row; (N,).
        window: Instances of a piece at most, unless one row has more.

    Returns:
        Where each piece begins; rising.
    """
    starts: list[int] = []
    user, filled = -1, 0
    for row, (owner, size) in enumerate(zip(users.tolist(), sizes.tolist(), strict=True)):
        if owner != user or filled + size > window:
            starts.append(row)
            user, filled = owner, 0
        filled += size
    return np.array(starts, np.int64)


def _alike(widths: Array) -> Iterator[Array]:
    """Pieces of like width together, few enough for the transformer's pairs to fit."""
    order = np.argsort(widths, kind="stable")
    at = 0
    while at < len(order):
        size = max(1, PAIRS // int(widths[order[min(at + 255, len(order) - 1)]]) ** 2)
        yield order[at : at + size]
        at += size
