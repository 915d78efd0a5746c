"""The users of a log: the shard of each, and in their final order the columns of its user table."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from hisac_lab.base.artifacts import Array, save_arrays
from hisac_lab.events.side_columns import Category, Number, SideColumns, category, stored
from hisac_lab.tables.layouts.contract import RawLog


def hash_ids(ids: list[str]) -> Array:
    """A stable hash of each id; (n,) uint64."""
    digests = b"".join(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in ids)
    hashes: Array = np.frombuffer(digests, "<u8")
    return hashes


def shard_of(hashes: Array, shards: int) -> Array:
    """The shard of each user hash: equal ranges of hashes; (n,) int64."""
    high: Array = ((hashes >> np.uint64(32)) * np.uint64(shards)) >> np.uint64(32)
    return high.astype(np.int64)


def write_users(log: RawLog, users: pd.Series[str], out: Path) -> SideColumns:
    """Writes `user_columns.npy`, (users, F) float32, where the log has columns of its users.

    Args:
        log: The log.
        users: Ids in their final order.
        out: The stage's output.
    """
    if log.users is None or not log.user_fields + log.user_numbers:
        return SideColumns()
    table = log.users().set_index("user")
    place = pd.Series(np.arange(len(table)), index=table.index).reindex(users).to_numpy()
    known = ~np.isnan(place)
    there = table.iloc[place[known].astype(np.int64)]
    fields, columns = list[Category](), list[Array]()
    for name in log.user_fields:
        words, counts = np.unique(there[name].to_numpy(str), return_counts=True)
        fields.append(category(name, words.tolist(), counts))
        columns.append(np.zeros(len(users)))
        columns[-1][known] = fields[-1].codes(there[name])
    for name in log.user_numbers:
        columns.append(np.full(len(users), np.nan))
        columns[-1][known] = there[name].to_numpy(np.float64)
    save_arrays(out, {"user_columns": np.ascontiguousarray(stored(np.stack(columns, axis=1)))})
    numbers = zip(log.user_numbers, columns[len(fields) :], strict=True)
    scaled = (Number.measured(name, [column]) for name, column in numbers)
    return SideColumns(fields=tuple(fields), numbers=tuple(scaled))
