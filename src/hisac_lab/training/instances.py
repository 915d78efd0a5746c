"""The stage `instances`: IAT's source model walks through time, and every sample's vector is stored.

The training period is cut into chunks of time. Each chunk is compressed first and learned from afterwards, so no
stored vector was made by weights that had seen its label, nor any later one (rule 3 of docs/papers/iat.md#leak-rules).
Validation and test samples are compressed by the final weights, frozen. No row is ever written again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import Array, load_array, save_arrays, sha256_tree, write_file
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.base.progress import track
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import BackboneConfig, InstancesConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests, epoch_order, in_order
from hisac_lab.events.instances import AFTER, BEFORE, COLUMNS, NONE, InstanceStore, no_store
from hisac_lab.events.records import InstancesMade
from hisac_lab.events.store import SPLITS, EventStore
from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.loader import Batch, Loader
from hisac_lab.inference.records import CURVE
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.instance_source import IATSourceConfig, InstanceSource
from hisac_lab.models.instances import Instances
from hisac_lab.ops.auc import auc
from hisac_lab.tables.read import UNIT_SECONDS
from hisac_lab.training.loop import add_gradients, seed_dropout, standardize, update
from hisac_lab.training.optimizers import make_optimizers

BLOCK = 1 << 20  # samples whose columns are written at once
PAIRS = 1 << 22  # pairs of instances the transformer compares at once when it writes


def make_instances(
    config: InstancesConfig,
    backbone: BackboneConfig,
    train: TrainConfig,
    compute: ComputeConfig,
    items: ItemSpace,
    *,
    prepared: Path,
    out: Path,
) -> None:
    """Trains the source model and writes the instance store; for order none, a manifest that says there is none.

    Args:
        config: The section `instances`.
        backbone: The section `backbone`.
        train: The section `train`; its epochs are passes over each chunk.
        compute: The section `compute`.
        items: Frozen knowledge of the items.
        prepared: Output of the stage `prepare`.
        out: An empty directory.

    Raises:
        UserError: The settings do not fit the data, or training diverges.
    """
    if config.order == NONE:
        no_store(out)
        return
    store = EventStore.open(prepared)
    samples = {split: store.samples(split) for split in SPLITS}
    write_instances(config, backbone, train, Runtime.start(compute), items, store, samples, out=out)


@arithmetic.one_thread()
def write_instances(
    config: InstancesConfig,
    backbone: BackboneConfig,
    train: TrainConfig,
    runtime: Runtime,
    items: ItemSpace,
    store: EventStore,
    samples: Mapping[str, Array],
    *,
    out: Path,
) -> None:
    """Trains the source model on the training samples given and stores the vector of every sample given.

    Args:
        config: The section `instances`, its order not none.
        backbone: Widths shared by all models.
        train: Batches, learning rates, passes.
        runtime: Device and number format.
        items: Frozen knowledge of the items.
        store: The histories.
        samples: Samples of each split, as the store has them: user by user in time order.
        out: An empty directory.
    """
    unit = UNIT_SECONDS[store.manifest.time_unit]
    shifts = _lay_out(config, samples, len(store.offsets) - 1, out)
    model = build(IATSourceConfig.of(config), backbone, items, config.seed)
    assert isinstance(model, InstanceSource)
    source = _SourceTraining(config, model, _table(config, out, unit), train, runtime)
    requests = Requests.of(store, samples["train"], train.max_candidates)
    places = _places(requests, shifts["train"])
    written, learned = _chunks(requests, config, unit)
    curve: list[dict[str, Any]] = []
    for chunk in track(range(config.chunks), config.chunks, "instances", "chunks"):
        predictions = source.write(requests, np.flatnonzero(written == chunk), places)
        curve.append({"chunk": chunk} | predictions.quality())
        source.learn(requests, np.flatnonzero(learned == chunk), chunk)
    for split in samples:
        if split != "train" and len(samples[split]):
            others = Requests.of(store, samples[split], train.max_candidates)
            predictions = source.write(others, np.arange(len(others)), _places(others, shifts[split]))
            if split == "valid":
                curve.append({"split": split} | predictions.quality())
    (out / "source").mkdir()
    save_model(out / "source", model, IATSourceConfig.of(config), items)
    write_file(out / CURVE, "".join(json.dumps(point, sort_keys=True) + "\n" for point in curve))
    InstancesMade(
        digest=sha256_tree(out)[:16],
        order=config.order,
        settings=config.model_dump(mode="json"),
        rows=list(source.table.vectors),
        unit=unit,
        instances={split: len(part) for split, part in samples.items()},
        vector_bytes=sum(rows.nbytes for rows in source.table.vectors.values()),
        parameters=sum(part.numel() for part in model.parameters()),
        steps=source.step,
        source_valid_auc=next((point["auc"] for point in curve if point.get("split") == "valid"), None),
    ).save(out)


def _lay_out(config: InstancesConfig, samples: Mapping[str, Array], users: int, out: Path) -> dict[str, Array]:
    """Writes what is known of the instances beforehand, some rows at a time.

    Returns:
        For each split and user, what leads from a sample's position in the split to its place in the store. A user's
        training samples lie before those for validation, and those before the test's, as they do in time.
    """
    counts = {split: np.bincount(part["user"], minlength=users) for split, part in samples.items()}
    offsets = np.r_[0, np.cumsum(sum(counts.values()))]
    save_arrays(out, {"offsets": offsets})
    total = int(offsets[-1])
    kinds = zip(COLUMNS, ("<i8", "<i4", "i1", "<i8"), strict=True)
    columns = {name: open_memmap(out / f"{name}.npy", "w+", kind, (total,)) for name, kind in kinds}
    free, shifts = offsets[:-1].copy(), {}
    for split, rows in samples.items():
        shifts[split] = free - (np.cumsum(counts[split]) - counts[split])
        free += counts[split]
        for at in range(0, len(rows), BLOCK):
            block = rows[at : at + BLOCK]
            place = np.arange(at, at + len(block)) + shifts[split][block["user"]]
            values = (block["time"], block["item"], block["label"], block["time"] + config.label_delay)
            for column, value in zip(columns.values(), values, strict=True):
                column[place] = value
    for column in columns.values():
        column.flush()
    for name in (BEFORE, AFTER) if config.order == "user" else (BEFORE,):
        open_memmap(out / f"{name}.npy", "w+", np.dtype(config.precision), (total, config.dim)).flush()
    return shifts


def _table(config: InstancesConfig, out: Path, unit: int) -> InstanceStore:
    """The store as it lies on disk, its vectors open for writing."""
    offsets, times, items, labels, arrived = (load_array(out, name) for name in ("offsets", *COLUMNS))
    names = (BEFORE, AFTER) if config.order == "user" else (BEFORE,)
    vectors: dict[str, Array] = {name: open_memmap(out / f"{name}.npy", "r+") for name in names}
    return InstanceStore(offsets, times, items, labels, arrived, vectors, unit)


def _places(requests: Requests, shift: Array) -> Array:
    """Place of each candidate in the store, anything in the padding; (N, C)."""
    places: Array = requests.sample + shift[requests.user][:, None]
    return places


def _chunks(requests: Requests, config: InstancesConfig, unit: int) -> tuple[Array, Array]:
    """In which chunk each row is written, and in which its label has arrived and is learned; two (N,).

    Chunks have equally many rows but for ties: a time unit is never cut. What arrives after the last chunk is
    learned in it: all of it is of the training period.
    """
    moments = requests.time // unit * unit
    cuts = (np.arange(1, config.chunks) * len(requests)) // config.chunks
    edges = np.sort(moments)[cuts]
    written, learned = (np.searchsorted(edges, when, side="right") for when in (moments, moments + config.label_delay))
    return written, learned


@dataclass(frozen=True)
class _Predictions:
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


class _SourceTraining:
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
    def write(self, requests: Requests, index: Array, places: Array) -> _Predictions:
        """Stores the vectors of the requests at `index` with the weights as they are.

        Args:
            requests: Requests of one split.
            index: Which of them; rising.
            places: Where each candidate belongs in the store; (N, C).
        """
        self.model.eval()
        requests, where = requests.take(index), places[index]
        written = np.sort(where[requests.mask])
        logits = np.zeros(len(written))
        loader = self._loader(requests)
        for batch_index in in_order(requests):
            mask = requests.mask[batch_index]
            batch = loader.batch(batch_index)
            with self.runtime.autocast():
                vectors = self.model.instance(self.model.encode(batch.history), batch.candidates, batch.context).float()
            here = where[batch_index][mask]
            self.table.vectors[BEFORE][here] = vectors.cpu().numpy()[mask]
            if self.config.order == "temporal":
                scored = self.model.logits(vectors)
                logits[np.searchsorted(written, here)] = scored.cpu().numpy()[mask]
        if self.config.order == "user":
            self._write_after(requests, where, written, logits)
        return _Predictions(self.table.labels[written].astype(np.float64), logits)

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

    def learn(self, requests: Requests, index: Array, chunk: int) -> None:
        """Passes over the requests at `index`, rising.

        Raises:
            UserError: The loss is no longer finite.
        """
        if not len(index):
            return
        seen = requests.take(index)
        loader = self._loader(seen).counted(self.model)
        if self.step == 0:
            standardize(self.model, loader, self.train.batch_requests)
        starts = pieces(seen.user, seen.mask.sum(axis=1), self.config.window)
        piece = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(seen)]))
        for epoch in range(self.train.epochs):
            seed = [self.config.seed, chunk, epoch]
            for batch_index in self._batches(seen, piece, seed):
                batch = loader.batch(batch_index)
                with update(self.model, self.optimizers):
                    seed_dropout(self.config.seed, self.step)
                    logits = self._logits(batch, seen.take(batch_index), piece[batch_index])
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

    def _logits(self, batch: Batch, requests: Requests, piece: Array) -> Tensor:
        """Logits of all candidates of a batch of these requests, each a part of the piece of this number; (R, C)."""
        with self.runtime.autocast():
            if self.config.order == "temporal":
                logits: Tensor = self.model(batch.history, batch.candidates, batch.context)
                return logits
            device = self.runtime.device
            first = np.unique(piece, return_index=True)[1]
            assert self.model.reads is not None
            fetched = self.table.fetch(requests.user[first], requests.time[first], self.model.reads)
            past = Instances.of(fetched, device)
            users, times = torch.from_numpy(piece).to(device), torch.from_numpy(requests.time).to(device)
            return self.model.score_users(
                batch.history, batch.candidates, batch.mask, users, times, past, self.table.unit, batch.context
            )


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
