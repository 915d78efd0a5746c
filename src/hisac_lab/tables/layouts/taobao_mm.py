"""Taobao-MM: advertisements shown to users with a thousand clicks of history, and multi-modal item embeddings.

Provenance: files, columns and types verified on the published sample files and the publisher's notebook; that 0 pads a
history from memory (histories in the sample files are not padded, and one is short). https://huggingface.co/datasets/TaoBao-MM/Taobao-MM

There is no clock. The published split is kept: the users of each split bring their own history of at most 1,000
clicks, oldest first, and all their exposures follow it. The times in the blocks are places in that order, a day each,
so that they serve every time unit; of an item that was shown to a user twice the first exposure stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hisac_lab.base.artifacts import Array
from hisac_lab.base.errors import UserError
from hisac_lab.config.events import PrepareConfig
from hisac_lab.tables.columns import HISTORY, TEST, TRAIN
from hisac_lab.tables.layouts.contract import RawLog, Vectors
from hisac_lab.tables.layouts.files import batches, check, choose, flat, frame_of, ids
from hisac_lab.tables.read import Block, Column, read

USER, ITEM, CATEGORY, LABEL = "129_1", "205", "206", "label_0"
HISTORY_ITEMS, HISTORY_CATEGORIES = "150_2_180", "151_2_180"
VECTOR, SCALE = "205_c", np.float32(127)
FIELDS = {"category": CATEGORY, "field_213": "213", "field_214": "214"}
LENGTH = 1000
DAY = 86_400
PADDING = 0
BATCH_ROWS = 1 << 10
UNKNOWN = "unknown"


def taobao_mm(folder: Path, config: PrepareConfig) -> RawLog:
    """Reads `item_features`, `scl_embedding_int8_p90`, and `SPLIT_user_features` and `SPLIT_samples` of both splits.

    An item of a history is known by its category only.
    """
    choose(config, ("click",))
    vectors = folder / "scl_embedding_int8_p90.parquet"

    def blocks() -> Iterator[Block]:
        for split, part in (("train", TRAIN), ("test", TEST)):
            yield from _histories(folder / f"{split}_user_features.parquet", split)
            yield from _exposures(folder / f"{split}_samples.parquet", split, part)

    return RawLog(
        blocks,
        items=lambda: _items(folder),
        fields=tuple(FIELDS),
        vectors=(lambda: _vectors(vectors)) if vectors.exists() else None,
        positive_from=1.0,
        untimed=True,
    )


def _histories(path: Path, split: str) -> Iterator[Block]:
    seen: set[int] = set()
    begin = 0
    for row, batch in batches(path, [USER, HISTORY_ITEMS, HISTORY_CATEGORIES], BATCH_ROWS):
        users = batch.column(USER).to_pylist()
        owners = pd.Series(users)
        check(path, row, (owners.duplicated() | owners.isin(seen)).to_numpy(), USER, "has two histories")
        seen.update(users)
        owner, position, item, _ = _clicks(path, row, batch)
        dictionary = pa.array([f"{split}/{user}" for user in users], pa.string())
        columns: dict[str, Any] = {
            "user": pa.DictionaryArray.from_arrays(pa.array(owner, pa.int32()), dictionary),
            "item": ids(pa.array(item)),
            "time": position * DAY,
            "label": np.ones(len(item)),
            "part": np.full(len(item), HISTORY, np.int8),
        }
        if len(item):
            yield Block(path, None, begin, columns)
        begin += len(item)


def _exposures(path: Path, split: str, part: int) -> Iterator[Block]:
    for row, batch in batches(path, [LABEL, USER, ITEM], BATCH_ROWS):
        label = batch.column(LABEL)
        lengths = pc.list_value_length(label).to_numpy(zero_copy_only=False)
        check(path, row, lengths != 2, LABEL, "has not two values, not click and click")
        click = flat(path, row, label, LABEL).reshape(-1, 2)
        check(path, row, (click.sum(axis=1) != 1) | (click < 0).any(axis=1), LABEL, "is not one of [1, 0] and [0, 1]")
        users = ids(batch.column(USER))
        words = pc.binary_join_element_wise(split, users.dictionary, "/")
        yield Block(
            path,
            None,
            row,
            {
                "user": pa.DictionaryArray.from_arrays(users.indices, words),
                "item": ids(batch.column(ITEM)),
                "time": np.full(len(batch), (LENGTH + (part == TEST)) * DAY),
                "label": click[:, 1].astype(np.float64),
                "part": np.full(len(batch), part, np.int8),
            },
        )


def _clicks(path: Path, row: int, batch: pa.RecordBatch) -> tuple[Array, Array, Array, Array]:
    """Clicks of a batch of histories: whose (row in the batch), place (the last has 999), item and category."""
    item, category = batch.column(HISTORY_ITEMS), batch.column(HISTORY_CATEGORIES)
    lengths, others = (pc.list_value_length(values).to_numpy(zero_copy_only=False) for values in (item, category))
    check(path, row, lengths > LENGTH, HISTORY_ITEMS, f"has more than {LENGTH} items")
    check(path, row, lengths != others, HISTORY_CATEGORIES, "has another length than the list of items")
    lengths = lengths.astype(np.int64)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    position = LENGTH + np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths), lengths)
    items, categories = flat(path, row, item, HISTORY_ITEMS), flat(path, row, category, HISTORY_CATEGORIES)
    real = items != PADDING
    return owner[real], position[real], items[real], categories[real]


def _items(folder: Path) -> pd.DataFrame:
    """The advertised items with their fields, and the items of histories with their category."""
    wanted = {"item": Column(ITEM, "id"), **{name: Column(column, "id") for name, column in FIELDS.items()}}
    table = frame_of(read(folder / "item_features.parquet", wanted, None))
    known = set(table["item"])
    more: dict[int, int] = {}
    for split in ("train", "test"):
        path = folder / f"{split}_user_features.parquet"
        for row, batch in batches(path, [USER, HISTORY_ITEMS, HISTORY_CATEGORIES], BATCH_ROWS):
            _, _, item, category = _clicks(path, row, batch)
            unique, first = np.unique(item, return_index=True)
            for name, kind in zip(unique.tolist(), category[first].tolist(), strict=True):
                more.setdefault(name, kind)
    rest = pd.DataFrame({"item": [str(item) for item in more], "category": [str(kind) for kind in more.values()]})
    rest = rest[~rest["item"].isin(known)].reindex(columns=table.columns, fill_value=UNKNOWN)
    table = pd.concat([table, rest], ignore_index=True)
    table.insert(1, "text", "category " + table["category"])
    return table


def _vectors(path: Path) -> Vectors:
    for row, batch in batches(path, [ITEM, VECTOR], BATCH_ROWS):
        embed = batch.column(VECTOR)
        if embed.type.value_type != pa.int8():
            raise UserError(path, f"is of {embed.type.value_type}, not int8", "fetch it again", VECTOR)
        widths = pc.list_value_length(embed).to_numpy(zero_copy_only=False)
        check(path, row, widths != widths[0], VECTOR, f"has not {widths[0]} numbers")
        values = flat(path, row, embed, VECTOR).reshape(len(batch), -1).astype(np.float32) / SCALE
        yield ids(batch.column(ITEM)).to_pylist(), values
