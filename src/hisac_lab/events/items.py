"""The items of a log in their final order: table, categorical codes and vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hisac_lab.base.artifacts import Array, save_arrays
from hisac_lab.base.errors import UserError
from hisac_lab.tables.layouts.contract import RawLog, Vectors

UNKNOWN = "unknown"


def natural_order(ids: list[str]) -> Array:
    """The order people expect: by number when all ids are integers, else by text; (n,) int64."""
    try:
        keys = np.asarray([int(name) for name in ids], np.int64)
    except (ValueError, OverflowError):
        return np.argsort(np.asarray(ids, str), kind="stable")
    return np.argsort(keys, kind="stable")


def write_items(
    log: RawLog, table: pd.DataFrame | None, ids: list[str], out: Path
) -> tuple[Array, list[dict[str, Any]], int]:
    """Writes `items.parquet`, `item_fields.npy` and, when the log brings them, `item_numbers.npy` and `vectors.npy`.

    Args:
        log: The log.
        table: Its item table, whose rows lead `ids`; None: there is none.
        ids: Ids of all items, as they were first met.
        out: The stage's output.

    Returns:
        The final order as positions in `ids`, (n,) int64; name and size of each field; items the table describes.
    """
    order = natural_order(ids)
    described = 0 if table is None else len(table)
    names = pd.Series(ids, dtype=str)
    if table is None:
        full = pd.DataFrame({"item": names, "text": names})
    else:
        more = pd.DataFrame({"item": names.iloc[described:], "text": ""} | dict.fromkeys(log.fields, UNKNOWN))
        full = pd.concat([table, more], ignore_index=True) if len(more) else table
    full = full.iloc[order].reset_index(drop=True)
    full.to_parquet(out / "items.parquet", index=False)
    fields = {name: pd.factorize(full[name], sort=True) for name in log.fields}
    codes = np.stack([code for code, _ in fields.values()], axis=1) if fields else np.zeros((len(full), 0))
    save_arrays(out, {"item_fields": codes.astype(np.int32)})
    if log.numbers:
        save_arrays(out, {"item_numbers": full[list(log.numbers)].to_numpy(np.float64)})
    if log.vectors is not None:
        position = pd.Series(np.arange(len(full)), index=full["item"])
        save_arrays(out, {"vectors": _vectors(log.vectors(), position)})
    return order, [{"name": name, "size": len(levels)} for name, (_, levels) in fields.items()], described


def _vectors(vectors_of_ids: Vectors, position: pd.Series[int]) -> Array:
    """Vectors in the order of the items; an item without one has zeros."""
    table: Array | None = None
    for ids, vectors in vectors_of_ids:
        if table is None:
            table = np.zeros((len(position), vectors.shape[1]), np.float32)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            name = ids[int(np.argmin(finite))]
            raise UserError("item vectors", "holds NaN or infinity", "fix the vector of that item", f"item {name!r}")
        if vectors.shape[1] != table.shape[1]:
            what = f"has {vectors.shape[1]} numbers, the ones before have {table.shape[1]}"
            raise UserError("item vectors", what, "give all vectors one width", f"item {ids[0]!r}")
        rows = position.reindex(ids).to_numpy()
        present = ~np.isnan(rows)
        table[rows[present].astype(np.int64)] = vectors[present]
    if table is None:
        raise UserError("item vectors", "the file has no rows", "give vectors or none of them")
    return table
