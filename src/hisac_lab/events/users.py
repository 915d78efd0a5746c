"""The users of a log in their final order: the columns of its user table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hisac_lab.base.artifacts import save_arrays
from hisac_lab.events.side_columns import Category, Number, SideColumns, category
from hisac_lab.tables.layouts.contract import RawLog


def write_users(log: RawLog, users: Sequence[str], out: Path) -> SideColumns:
    """Writes `user_fields.npy` and `user_numbers.npy`, where the log has columns of its users.

    Args:
        log: The log.
        users: Ids in their final order.
        out: The stage's output.
    """
    if log.users is None:
        return SideColumns()
    table = log.users().set_index("user")
    place = pd.Series(np.arange(len(table)), index=table.index).reindex(list(users)).to_numpy()
    known = ~np.isnan(place)
    there = table.iloc[place[known].astype(np.int64)]
    fields, codes = list[Category](), np.zeros((len(users), len(log.user_fields)), np.int32)
    for column, name in enumerate(log.user_fields):
        words, counts = np.unique(there[name].to_numpy(str), return_counts=True)
        fields.append(category(name, words.tolist(), counts))
        codes[known, column] = fields[-1].codes(there[name])
    numbers = np.full((len(users), len(log.user_numbers)), np.nan)
    for column, name in enumerate(log.user_numbers):
        numbers[known, column] = there[name].to_numpy(np.float64)
    save_arrays(out, {"user_fields": codes, "user_numbers": numbers})
    scaled = (Number.measured(name, [numbers[:, column]]) for column, name in enumerate(log.user_numbers))
    return SideColumns(fields=tuple(fields), numbers=tuple(scaled))
