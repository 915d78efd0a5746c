"""Whose semantic IDs are not what they were, from two tables of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def changed_ids(then: Path, now: Path) -> pd.DataFrame:
    """The items of both tables whose semantic ID differs, in the order of the later one.

    Args:
        then: `ids.parquet` of an earlier fit.
        now: That of a later one.

    Returns:
        Columns item, then and now, the last two as text, empty without an ID; `attrs` count the items in both, the new
        ones and those that are gone.
    """
    before, after = _texts(then), _texts(now)
    both = after.index.intersection(before.index, sort=False)
    pairs = pd.DataFrame({"then": before[both], "now": after[both]})
    changed = pairs[pairs["then"] != pairs["now"]].rename_axis("item").reset_index()
    changed.attrs = {"both": len(both), "new": len(after) - len(both), "gone": len(before) - len(both)}
    return changed


def _texts(path: Path) -> pd.Series[str]:
    table = pd.read_parquet(path).set_index("item")
    codes = table.to_numpy()
    texts = ["-".join(map(str, row)) if row[0] >= 0 else "" for row in codes.tolist()]
    return pd.Series(texts, index=table.index.astype(str), dtype=object)
