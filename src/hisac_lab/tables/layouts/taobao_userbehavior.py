"""Taobao UserBehavior (Tianchi data set 649): views, carts, favorites and purchases of nine days.

Provenance: file, columns and dates from several pages that quote the data set; no file was seen.
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
from hisac_lab.tables.layouts.contract import RawLog
from hisac_lab.tables.layouts.files import choose, first_rows, frame_of, need, only
from hisac_lab.tables.read import Block, Column, Layout, read

LAYOUT = Layout(names=("user_id", "item_id", "category_id", "behavior_type", "timestamp"), quoting=False)
BEHAVIORS = ("pv", "buy", "cart", "fav")
WINDOW = (1_511_539_200, 1_512_316_800)  # 2017-11-25 to 2017-12-03 in Beijing


def taobao_userbehavior(folder: Path, config: PrepareConfig) -> RawLog:
    """Reads `UserBehavior.csv`, which has no header. The events are those of one behavior, usually `pv`, a view.

    Some timestamps lie outside the nine days, even before 1970: these events are dropped and counted.
    """
    kind = choose(config, BEHAVIORS)
    path = need(folder, "UserBehavior.csv")
    columns = {
        "user": Column("user_id", "id"),
        "item": Column("item_id", "id"),
        "behavior": Column("behavior_type", "text"),
        "time": Column("timestamp", "number"),
    }

    def blocks() -> Iterator[Block]:
        for block in read(path, columns, LAYOUT):
            values = dict(block.columns)
            behavior = values.pop("behavior")
            known = pc.is_in(behavior, value_set=pa.array(BEHAVIORS)).to_numpy(zero_copy_only=False)
            if not known.all():
                bad = int(np.argmin(known))
                what = f"value {behavior[bad].as_py()!r} is none of {', '.join(BEHAVIORS)}"
                raise block.refuse(bad, "behavior_type", what, "fetch the data set again")
            values["time"] = np.clip(values["time"], 0, WINDOW[1]).astype(np.int64)
            mask = pc.equal(behavior, kind).to_numpy(zero_copy_only=False)
            if mask.any():
                yield only(replace(block, columns=values), mask)

    def items() -> pd.DataFrame:
        wanted = {"item": Column("item_id", "id"), "category": Column("category_id", "id")}
        table = first_rows(frame_of(iter([block])) for block in read(path, wanted, LAYOUT))
        table.insert(1, "text", "category " + table["category"])
        return table

    return RawLog(blocks, items=items, fields=("category",), complete=True, window=WINDOW)
