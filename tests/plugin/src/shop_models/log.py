"""The log of a shop: `shop.csv` with who, what, when and stars."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hisac_lab.config.events import PrepareConfig
from hisac_lab.tables.layouts.contract import RawLog, Source
from hisac_lab.tables.layouts.files import choose, need
from hisac_lab.tables.read import Block, Column, Layout, read

COLUMNS = {
    "user": Column("who", "id"),
    "item": Column("what", "id"),
    "time": Column("when", "time"),
    "label": Column("stars", "number", low=1, high=5),
}


def load(folder: Path, config: PrepareConfig) -> RawLog:
    """Reads the log; nothing is known of the items."""
    choose(config, ("stars",))
    path = need(folder, "shop.csv")

    def blocks() -> Iterator[Block]:
        return read(path, COLUMNS, Layout())

    return RawLog(blocks, positive_from=4.0)


SHOP = Source(load, files=("shop.csv",))
