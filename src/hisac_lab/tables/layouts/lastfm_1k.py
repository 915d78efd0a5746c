"""Last.fm-1K: every track that a thousand people listened to, over years.

Provenance: size and license verified on Zenodo record 6090214; file name and columns from memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hisac_lab.config.events import PrepareConfig
from hisac_lab.tables.layouts.contract import RawLog
from hisac_lab.tables.layouts.files import choose, first_rows, ids, need
from hisac_lab.tables.read import Block, Column, Layout, read

FILE = "userid-timestamp-artid-artname-traid-traname.tsv"
LAYOUT = Layout("\t", ("userid", "timestamp", "artid", "artname", "traid", "traname"), quoting=False)
WINDOW = (1_104_537_600, 1_262_304_000)  # 2005 to 2009: listens dated after the data set was made are clock errors


def lastfm_1k(folder: Path, config: PrepareConfig) -> RawLog:
    """Reads the listens, newest first for each user, without a header.

    An item is a track: its MusicBrainz id where there is one, else artist and title. Every listen is a positive.
    """
    choose(config, ("listen",))
    path = need(folder, FILE)
    columns = {
        "user": Column("userid", "id"),
        "artist": Column("artname", "text"),
        "track": Column("traid", "text"),
        "title": Column("traname", "text"),
    }

    def blocks() -> Iterator[Block]:
        timed = columns | {"time": Column("timestamp", "time", "iso")}
        for block in read(path, timed, LAYOUT):
            values = block.columns
            item = _items(block)
            yield Block(
                path, block.layout, block.row, {"user": values["user"], "item": ids(item), "time": values["time"]}
            )

    def items() -> pd.DataFrame:
        return first_rows(_described(block) for block in read(path, columns, LAYOUT))

    return RawLog(blocks, items=items, fields=("artist",), complete=True, window=WINDOW)


def _described(block: Block) -> pd.DataFrame:
    artist, title = (block.columns[name].to_pandas().astype(str) for name in ("artist", "title"))
    item = _items(block).to_pandas().astype(str)
    return pd.DataFrame({"item": item, "text": artist + ". " + title, "artist": artist})


def _items(block: Block) -> pa.Array:
    track, artist, title = (block.columns[name] for name in ("track", "artist", "title"))
    nameless = pc.and_(pc.equal(track, ""), pc.equal(title, "")).to_numpy(zero_copy_only=False)
    if nameless.any():
        raise block.refuse(int(np.argmax(nameless)), "track", "has neither an id nor a title", "remove that line")
    return pc.if_else(pc.equal(track, ""), pc.binary_join_element_wise(artist, title, " / "), track)
