"""VK-LSVD: short videos shown to users of VK over half a year, with watch time, reactions and content embeddings.

Provenance: folders, file names, columns of the exposures and the order of their rows from the published data card;
columns of the metadata and members of `item_embeddings.npz` from several public readers of them; the types of the
metadata and the cap of the watch time from memory. No file was seen. https://huggingface.co/datasets/deepvk/VK-LSVD

There are no timestamps: files are weeks, and the rows of a file stand in time order. So an exposure's time is its place
in its week, as if the week were busy evenly; it counts in seconds from the begin of `week_00`, and dates mean nothing.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.config.events import PrepareConfig
from hisac_lab.tables.columns import logged_role
from hisac_lab.tables.files import open_parquet
from hisac_lab.tables.layouts.contract import LogColumn, RawLog, Vectors
from hisac_lab.tables.layouts.files import batches, choose, choose_tasks, need
from hisac_lab.tables.read import Block, Column, read

WATCHED = "watched"
REACTIONS = ("like", "dislike", "share", "bookmark", "click_on_author", "open_comments")
WATCHED_FROM = 50.0  # percent of a video's length: ours, the publisher names no threshold
WEEK = 604_800
PLACES = 256  # one byte
VALID_WEEK, TEST_WEEK = 25, 26
METADATA, EMBEDDINGS = "items_metadata.parquet", "item_embeddings.npz"
ID, AUTHOR, LENGTH, VECTOR = "item_id", "author_id", "duration", "embedding"
BATCH_ROWS = 1 << 18
VECTOR_ROWS = 1 << 14
HINT = "fetch the data set again"


def vk_lsvd(folder: Path, config: PrepareConfig) -> RawLog:
    """Reads `week_*.parquet` of the whole set or of a subsample, `items_metadata` and `item_embeddings`.

    The usual feedback, `watched`, is the watch time in percent of the video's length, which replays lift above 100; the
    others are reactions. Items are those of the weeks, not all twenty million. `place` (feed, search and so on) is kept
    beside the samples. Where week 25 and 26 are there, they are the validation and the test period, as published.
    """
    kind, tasks = choose(config, (WATCHED, *REACTIONS)), choose_tasks(config, REACTIONS)
    weeks = {int(path.stem.removeprefix("week_")): path for path in sorted(folder.glob("week_[0-9][0-9].parquet"))}
    if not weeks:
        raise UserError(folder / "week_00.parquet", "does not exist", "add the weeks to what acquire.path names")
    described, embedded = folder / METADATA, folder / EMBEDDINGS
    published = min(weeks) < VALID_WEEK and {VALID_WEEK, TEST_WEEK} <= set(weeks)

    @cache
    def seen() -> Array:
        return _items_of(list(weeks.values()))

    return RawLog(
        lambda: _blocks(weeks, folder, kind, tasks),
        items=(lambda: _items(described, seen())) if described.exists() else None,
        fields=("author", "seconds") if described.exists() else (),
        vectors=(lambda: _vectors(embedded, seen())) if embedded.exists() else None,
        extras=tuple(tasks),
        logged={"place": LogColumn(PLACES)},
        positive_from=WATCHED_FROM if kind == WATCHED else 1.0,
        cuts=(VALID_WEEK * WEEK, TEST_WEEK * WEEK) if published else None,
    )


def _blocks(weeks: dict[int, Path], folder: Path, kind: str, tasks: dict[str, Column]) -> Iterator[Block]:
    feedback = Column("timespent", "number", low=0) if kind == WATCHED else Column(kind, "number", low=0, high=1)
    columns = {
        "user": Column("user_id", "id"),
        "item": Column(ID, "id"),
        "label": feedback,
        logged_role("place"): Column("place", "number", low=0),
        **tasks,
    }
    ids, lengths = _lengths(need(folder, METADATA)) if kind == WATCHED else (np.zeros(0, np.uint64), np.zeros(0))
    for week, path in weeks.items():
        rows = open_parquet(path).metadata.num_rows
        for block in read(path, columns, None):
            values = dict(block.columns)
            values["time"] = week * WEEK + block.positions(np.arange(len(block))) * WEEK // rows
            if kind == WATCHED:
                item = values["item"].dictionary.cast(pa.uint64()).to_numpy()[values["item"].indices.to_numpy()]
                at = np.minimum(np.searchsorted(ids, item), len(ids) - 1)
                if (ids[at] != item).any():
                    bad = int((ids[at] != item).argmax())
                    what = f"value {item[bad]} has no row in {METADATA}, so no length"
                    raise block.refuse(bad, "item", what, HINT)
                values["label"] = 100 * values["label"] / np.maximum(lengths[at], 1)
            yield replace(block, columns=values)


def _items_of(weeks: list[Path]) -> Array:
    """Ids of all items shown, rising; (n,) uint64."""
    ids = np.zeros(0, np.uint64)
    for path in weeks:
        for _, batch in batches(path, [ID], BATCH_ROWS):
            ids = np.union1d(ids, _numbers(batch, ID))
    return ids


def _lengths(path: Path) -> tuple[Array, Array]:
    """Ids of all videos, rising, and their seconds; (n,) each."""
    parts = [(_numbers(batch, ID), _numbers(batch, LENGTH)) for _, batch in batches(path, [ID, LENGTH], BATCH_ROWS)]
    ids, seconds = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(ids, kind="stable")
    return ids[order], seconds[order]


def _items(path: Path, seen: Array) -> pd.DataFrame:
    """The items that were shown, with their author and length."""
    frames = []
    for _, batch in batches(path, [ID, AUTHOR, LENGTH], BATCH_ROWS):
        shown = np.isin(_numbers(batch, ID), seen)
        names = {"item": ID, "author": AUTHOR, "seconds": LENGTH}
        frames.append(pd.DataFrame({role: _numbers(batch, name)[shown].astype(str) for role, name in names.items()}))
    table = pd.concat(frames, ignore_index=True)
    table.insert(1, "text", "author " + table["author"])
    return table


def _numbers(batch: pa.RecordBatch, column: str) -> Array:
    numbers: Array = batch.column(column).cast(pa.uint64()).to_numpy()
    return numbers


def _vectors(path: Path, seen: Array) -> Vectors:
    """Vectors of the items that were shown, read by and by: the whole table has gigabytes."""
    try:
        with zipfile.ZipFile(path) as box:
            with box.open(f"{ID}.npy") as stream:
                names = np.lib.format.read_array(stream, allow_pickle=False)
            with box.open(f"{VECTOR}.npy") as stream:
                if np.lib.format.read_magic(stream) != (1, 0):
                    raise ValueError(f"{VECTOR} has a header of another version")
                shape, by_column, kind = np.lib.format.read_array_header_1_0(stream)
                if len(shape) != 2 or shape[0] != len(names) or by_column or kind.kind != "f":
                    raise ValueError(f"{VECTOR} of shape {shape} and type {kind} is no row of numbers per {ID}")
                for begin in range(0, shape[0], VECTOR_ROWS):
                    ids = names[begin : begin + VECTOR_ROWS]
                    data = stream.read(len(ids) * shape[1] * kind.itemsize)
                    vectors = np.frombuffer(data, kind).reshape(len(ids), shape[1])
                    shown = np.isin(ids, seen)
                    if shown.any():
                        yield ids[shown].astype(str).tolist(), vectors[shown].astype(np.float32)
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise UserError(path, f"is no archive of {ID} and {VECTOR} ({error})", HINT) from error
