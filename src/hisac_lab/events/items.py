"""The items of a log in their final order: table, categorical codes and vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hisac_lab.base.artifacts import Array, save_arrays
from hisac_lab.base.errors import UserError
from hisac_lab.tables.layouts.contract import RawLog, Vectors
from hisac_lab.tables.vocabulary import Vocabulary

BLOCK = 1 << 16  # ids that are Python objects at once
UNKNOWN = "unknown"


def natural_order(ids: pa.Array) -> Array:
    """The order people expect: by number when all ids are integers, else by text; (n,) int64."""
    keys = np.empty(len(ids), np.int64)
    try:
        for start in range(0, len(ids), BLOCK):
            keys[start : start + BLOCK] = [int(name) for name in ids.slice(start, BLOCK).to_pylist()]
    except (ValueError, OverflowError):
        by_text: Array = pc.array_sort_indices(ids).to_numpy()
        return by_text.astype(np.int64)
    return np.argsort(keys, kind="stable")


def write_items(
    log: RawLog, table: pd.DataFrame | None, items: Vocabulary, out: Path
) -> tuple[Array, list[dict[str, Any]], int]:
    """Writes `items.parquet`, `item_fields.npy` and, when the log brings them, `item_numbers.npy` and `vectors.npy`.

    Args:
        log: The log.
        table: Its item table, whose rows lead `items`; None: there is none.
        items: Ids of all items, as they were first met.
        out: The stage's output.

    Returns:
        The final order as positions in `items`, (n,) int64; name and size of each field; items the table describes.
    """
    texts = items.texts
    order = natural_order(texts)
    described = 0 if table is None else len(table)
    if table is None:
        names = texts.to_pandas().astype(str)
        table = pd.DataFrame({"item": names, "text": names})
    elif described < len(items):
        names = texts.slice(described).to_pandas().astype(str)
        more = pd.DataFrame({"item": names, "text": ""} | dict.fromkeys(log.fields, UNKNOWN))
        table = pd.concat([table, more], ignore_index=True)
    full = table.iloc[order].reset_index(drop=True)
    full.to_parquet(out / "items.parquet", index=False)
    fields = {name: pd.factorize(full[name], sort=True) for name in log.fields}
    codes = np.stack([code for code, _ in fields.values()], axis=1) if fields else np.zeros((len(full), 0))
    save_arrays(out, {"item_fields": codes.astype(np.int32)})
    if log.numbers:
        save_arrays(out, {"item_numbers": full[list(log.numbers)].to_numpy(np.float64)})
    if log.vectors is not None:
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        _write_vectors(log.vectors(), items, place, out / "vectors.npy")
    return order, [{"name": name, "size": len(levels)} for name, (_, levels) in fields.items()], described


def _write_vectors(vectors_of_ids: Vectors, items: Vocabulary, place: Array, path: Path) -> None:
    """Writes the vectors at the `place` of their items into a mapped file; zeros for an item without one."""
    table: np.memmap[Any, np.dtype[np.float32]] | None = None
    for ids, vectors in vectors_of_ids:
        if table is None:
            table = np.lib.format.open_memmap(path, "w+", np.float32, (len(place), vectors.shape[1]))
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            name = ids[int(np.argmin(finite))]
            raise UserError("item vectors", "holds NaN or infinity", "fix the vector of that item", f"item {name!r}")
        if vectors.shape[1] != table.shape[1]:
            what = f"has {vectors.shape[1]} numbers, the ones before have {table.shape[1]}"
            raise UserError("item vectors", what, "give all vectors one width", f"item {ids[0]!r}")
        codes = items.find(ids)
        table[place[codes[codes >= 0]]] = vectors[codes >= 0]
    if table is None:
        raise UserError("item vectors", "the file has no rows", "give vectors or none of them")
    table.flush()
