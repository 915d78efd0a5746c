"""The stage `instances`: IAT's source model walks through time, and the vector of every logged exposure is stored.

The training period is cut into chunks of time. Each chunk is compressed first and learned from afterwards, so no
stored vector was made by weights that had seen its label, nor any later one (rule 3 of docs/papers/iat.md#leak-rules).
Validation and test exposures are compressed by the final weights, frozen. No row is ever made again; `basis: last`
turns those of a chunk together (`training.basis`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from hisac_lab.base import arithmetic
from hisac_lab.base.artifacts import Array, load_array, save_arrays, sha256_tree, write_file
from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.base.progress import track
from hisac_lab.config.compute import ComputeConfig
from hisac_lab.config.model import BackboneConfig, InstancesConfig
from hisac_lab.config.train import TrainConfig
from hisac_lab.events.batches import Requests
from hisac_lab.events.exposures import Exposures
from hisac_lab.events.instances import AFTER, BEFORE, BOTH, COLUMNS, NONE, ORDERS, InstanceStore, no_store
from hisac_lab.events.records import InstancesMade
from hisac_lab.events.store import SPLITS, EventStore
from hisac_lab.inference.bundle import save_model
from hisac_lab.inference.records import CURVE
from hisac_lab.inference.runtime import Runtime
from hisac_lab.models.catalog import build
from hisac_lab.models.contract import ItemSpace
from hisac_lab.models.instance_source import IATSourceConfig, InstanceSource
from hisac_lab.tables.columns import UNIT_SECONDS
from hisac_lab.training import basis
from hisac_lab.training.source import Logged, SourceTraining

BLOCK = 1 << 20  # samples whose columns are written at once
COMPARED = 256
"""Requests of a chunk that the last weights compress too."""


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
    store, runtime = EventStore.open(prepared), Runtime.start(compute)
    exposures = {split: Exposures.of(store, split) for split in SPLITS}
    if config.order != BOTH:
        write_instances(config, backbone, train, runtime, items, store, exposures, out=out)
        return
    for order in ORDERS:
        (out / order).mkdir()
        one = config.model_copy(update={"order": order})
        write_instances(one, backbone, train, runtime, items, store, exposures, out=out / order)
    settings = config.model_dump(mode="json")
    InstancesMade(digest=sha256_tree(out)[:16], order=BOTH, settings=settings).save(out)


@arithmetic.one_thread()
def write_instances(
    config: InstancesConfig,
    backbone: BackboneConfig,
    train: TrainConfig,
    runtime: Runtime,
    items: ItemSpace,
    store: EventStore,
    exposures: Mapping[str, Exposures],
    *,
    out: Path,
) -> None:
    """Trains the source model on the training exposures given and stores the vector of every exposure given.

    Args:
        config: The section `instances`, its order temporal or user.
        backbone: Widths shared by all models.
        train: Batches, learning rates, passes.
        runtime: Device and number format.
        items: Frozen knowledge of the items.
        store: The histories.
        exposures: Of each split.
        out: An empty directory.

    Raises:
        UserError: The settings do not fit the data, or training diverges.
    """
    unit = UNIT_SECONDS[store.manifest.time_unit]
    names = _columns(config, store.manifest.logged)
    samples = {split: part.samples for split, part in exposures.items()}
    shifts = _lay_out(config, samples, len(store.offsets) - 1, out)
    source_config = IATSourceConfig.of(config, {name: store.manifest.logged[name] for name in names})
    model = build(source_config, _told(config, backbone), items, config.seed)
    assert isinstance(model, InstanceSource)
    source = SourceTraining(config, model, _table(config, out, unit), train, runtime)
    chosen = [list(store.manifest.logged).index(name) for name in names]
    logged = {
        split: Logged(Requests.of(store, part.samples, train.max_candidates), part.logged[:, chosen])
        for split, part in exposures.items()
        if len(part)
    }
    places = {split: _places(part.requests, shifts[split]) for split, part in logged.items()}
    written, learned = _chunks(logged["train"].requests, config, unit)
    curve: list[dict[str, Any]] = []
    for chunk in track(range(config.chunks), config.chunks, "instances", "chunks"):
        predictions = source.write(logged["train"], np.flatnonzero(written == chunk), places["train"])
        curve.append({"chunk": chunk} | predictions.quality())
        source.learn(logged["train"], np.flatnonzero(learned == chunk), chunk)
    explained = _compare(config, source, logged["train"], places["train"], written)
    for split in [name for name in logged if name != "train"]:
        predictions = source.write(logged[split], np.arange(len(logged[split].requests)), places[split])
        if split == "valid":
            curve.append({"split": split} | predictions.quality())
    (out / "source").mkdir()
    save_model(out / "source", model, source_config, items)
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
        logged=names,
        explained=explained,
    ).save(out)


def _columns(config: InstancesConfig, known: Mapping[str, int]) -> list[str]:
    """Names of the logged columns that the source reads.

    Raises:
        UserError: The log has no column of a name.
    """
    wanted = list(known) if config.logged is None else list(config.logged)
    for name in wanted:
        if name not in known:
            hint = f"it has {', '.join(known)}" if known else "it has none: leave the list empty"
            raise UserError(SETTINGS, f"the log has no column {name!r}", hint, "instances.logged")
    return wanted


def _told(config: InstancesConfig, backbone: BackboneConfig) -> BackboneConfig:
    """The section `backbone` as the source has it."""
    own: dict[str, Any] = {"features": config.features, "tower": config.tower, "tasks": {}}
    return backbone.model_copy(update={name: value for name, value in own.items() if value is not None})


def _compare(
    config: InstancesConfig, source: SourceTraining, logged: Logged, places: Array, written: Array
) -> list[float | None]:
    """What the vectors of each chunk have in common with what the weights of now make of the same exposures.

    With `basis: last` the chunk's vectors are turned toward them, all by one rotation.
    """
    shares: list[float | None] = []
    rows = source.table.vectors[BEFORE]
    for chunk in range(config.chunks):
        index = np.flatnonzero(written == chunk)
        some = index[np.unique(np.linspace(0, len(index) - 1, min(COMPARED, len(index))).astype(int))]
        own, last = [], []
        for part, vectors in source.compress(logged.take(some)):
            where = places[some[part]][logged.requests.mask[some[part]]]
            own.append(np.asarray(rows[where], np.float64))
            last.append(vectors.cpu().numpy())
        if not own:
            shares.append(None)
            continue
        turn = basis.rotation(np.concatenate(own), np.concatenate(last))
        shares.append(basis.explained(np.concatenate(own), np.concatenate(last), turn))
        if config.basis == "last":
            where = places[index][logged.requests.mask[index]]
            rows[where] = np.asarray(rows[where], np.float64) @ turn
    return shares


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
