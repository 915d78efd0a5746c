"""The ChangeLogs of GCC as the stage `acquire` parsed them: touches of files, without negatives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from hisac_lab.base.errors import SETTINGS, UserError
from hisac_lab.config.events import PrepareConfig
from hisac_lab.tables.layouts.contract import RawLog
from hisac_lab.tables.layouts.files import choose, frame_of
from hisac_lab.tables.read import Block, Column, read


def gcc_changelog(folder: Path, config: PrepareConfig) -> RawLog:
    """Reads `events.parquet` and `items.parquet`; an item is described by the words of its path, and by its folder.

    Raises:
        UserError: The time unit is not the day: the seconds only keep the order inside a day.
    """
    choose(config, ("touch",))
    if config.time_unit != "day":
        what = f"value {config.time_unit!r} is finer than the log, which knows days only"
        raise UserError(SETTINGS, what, "set it to day", "prepare.time_unit")
    columns = {
        "user": Column("user_id", "id"),
        "item": Column("item_id", "id"),
        "time": Column("timestamp", "time"),
    }

    def blocks() -> Iterator[Block]:
        return read(folder / "events.parquet", columns, None)

    def items() -> pd.DataFrame:
        wanted = {"item": Column("item_id", "id")}
        wanted |= {name: Column(name, "text") for name in ("path", "component", "extension")}
        table = frame_of(read(folder / "items.parquet", wanted, None))
        table.insert(1, "text", table["path"].str.replace(r"[^A-Za-z0-9]+", " ", regex=True).str.strip())
        table["directory"] = table["path"].str.rpartition("/")[0]
        return table.drop(columns="path")

    return RawLog(blocks, items=items, fields=("component", "extension", "directory"), complete=True)
