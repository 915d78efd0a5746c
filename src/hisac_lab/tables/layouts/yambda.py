"""Yambda (flat layout): listens and likes of a music service.

Provenance: files and columns of the flat tables from the published data card; those of the embeddings and of the
mappings to artists and albums from memory. https://huggingface.co/datasets/yandex/yambda
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hisac_lab.config.events import PrepareConfig
from hisac_lab.tables.columns import logged_role
from hisac_lab.tables.layouts.contract import LogColumn, RawLog, Vectors
from hisac_lab.tables.layouts.files import batches, check, choose, flat, frame_of, ids, need, only
from hisac_lab.tables.read import Block, Column, read

LISTENED_FROM = 51.0  # percent of the track played: the publisher counts more than 50 as listened
MAPPINGS = {"artist": ("artist_item_mapping.parquet", "artist_id"), "album": ("album_item_mapping.parquet", "album_id")}
UNKNOWN = "unknown"
VECTOR = "normalized_embed"
VECTOR_ROWS = 1 << 14


def yambda(folder: Path, config: PrepareConfig) -> RawLog:
    """Reads the listens, or, with `prepare.feedback: like`, the likes and dislikes.

    They stand in `listens.parquet`, `likes.parquet` and `dislikes.parquet`, or all in `multi_event.parquet`. A listen's
    feedback is the percentage played, which can exceed 100. Times are seconds from an origin that was not published, so
    their dates mean nothing. `is_organic` (0: the service proposed the track) is kept beside the samples.
    """
    kind = choose(config, ("listen", "like"))
    vectors = folder / "embeddings.parquet"
    known = {name: (folder / file, column) for name, (file, column) in MAPPINGS.items() if (folder / file).exists()}

    def items() -> pd.DataFrame:
        table: pd.DataFrame | None = None
        for name, (path, column) in known.items():
            wanted = {"item": Column("item_id", "id"), name: Column(column, "id")}
            part = frame_of(read(path, wanted, None)).drop_duplicates("item", ignore_index=True)
            table = part if table is None else table.merge(part, on="item", how="outer")
        assert table is not None
        table = table.fillna(UNKNOWN)
        table.insert(1, "text", "")
        for name in known:
            table["text"] = (table["text"] + f" {name} " + table[name]).str.strip()
        return table

    return RawLog(
        lambda: _listens(folder) if kind == "listen" else _likes(folder),
        items=items if known else None,
        fields=tuple(known),
        vectors=(lambda: _vectors(vectors)) if vectors.exists() else None,
        logged={"organic": LogColumn(2)},
        positive_from=LISTENED_FROM if kind == "listen" else 1.0,
    )


def _columns(**more: Column) -> dict[str, Column]:
    return {
        "user": Column("uid", "id"),
        "item": Column("item_id", "id"),
        "time": Column("timestamp", "time"),
        logged_role("organic"): Column("is_organic", "number", low=0, high=1),
        **more,
    }


def _listens(folder: Path) -> Iterator[Block]:
    played = Column("played_ratio_pct", "number", low=0)
    if (folder / "listens.parquet").exists():
        yield from read(folder / "listens.parquet", _columns(label=played), None)
        return
    optional = replace(played, optional=True)
    for block in _events(folder, {"label": optional}, ("listen",)):
        missing = np.isnan(block.columns["label"])
        if missing.any():
            raise block.refuse(int(missing.argmax()), "label", "a listen has no value", "fetch the data set again")
        yield block


def _likes(folder: Path) -> Iterator[Block]:
    if (folder / "likes.parquet").exists():
        for name, label in (("likes", 1.0), ("dislikes", 0.0)):
            for block in read(need(folder, f"{name}.parquet"), _columns(), None):
                yield replace(block, columns=block.columns | {"label": np.full(len(block), label)})
        return
    for block in _events(folder, {}, ("like", "dislike")):
        label = pc.equal(block.columns["kind"], "like").to_numpy(zero_copy_only=False).astype(np.float64)
        columns = {role: values for role, values in block.columns.items() if role != "kind"}
        yield replace(block, columns=columns | {"label": label})


def _events(folder: Path, more: dict[str, Column], kinds: tuple[str, ...]) -> Iterator[Block]:
    """Rows of these kinds of `multi_event.parquet`; where there are several, with the role `kind`."""
    path = need(folder, "multi_event.parquet")
    for block in read(path, _columns(**more, kind=Column("event_type", "text")), None):
        mask = pc.is_in(block.columns["kind"], value_set=pa.array(kinds)).to_numpy(zero_copy_only=False)
        if mask.any():
            chosen = only(block, mask)
            if len(kinds) == 1:
                chosen.columns.pop("kind")
            yield chosen


def _vectors(path: Path) -> Vectors:
    for row, batch in batches(path, ["item_id", VECTOR], VECTOR_ROWS):
        embed = batch.column(VECTOR)
        widths = pc.list_value_length(embed).to_numpy(zero_copy_only=False)
        check(path, row, widths != widths[0], VECTOR, f"has not {widths[0]} numbers")
        values = flat(path, row, embed, VECTOR).astype(np.float32).reshape(len(batch), -1)
        yield ids(batch.column("item_id")).to_pylist(), values
