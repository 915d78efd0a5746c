"""MovieLens in the layouts of all editions: 1M and 10M (`ratings.dat`), 20M, 25M, 32M and latest-small (`ratings.csv`).

Provenance: `ratings.csv` and `movies.csv` verified on the published README of 32M and on files of latest-small; the
layout of `.dat` (`::` between values, no header, titles of 1M in Latin-1 and of 10M in UTF-8) from memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from hisac_lab.config.events import PrepareConfig
from hisac_lab.tables.layouts.contract import RawLog
from hisac_lab.tables.layouts.files import choose, find, frame_of, need
from hisac_lab.tables.layouts.movielens_100k import USUAL_THRESHOLD, described, official
from hisac_lab.tables.read import Block, Column, Layout, read

NO_GENRES = "(no genres listed)"


def movielens(folder: Path, config: PrepareConfig) -> RawLog:
    """Reads `ratings` and `movies`, `.csv` or `.dat`; also the files of 100K. Ratings stand by user, not by time."""
    choose(config, ("rating",))
    if find(folder, "u.data"):
        return official(folder, config)
    is_dat = find(folder, "ratings.dat") is not None
    ratings = need(folder, "ratings.dat" if is_dat else "ratings.csv")
    movies = need(folder, "movies.dat" if is_dat else "movies.csv")
    columns = {
        "user": Column("userId", "id"),
        "item": Column("movieId", "id"),
        "time": Column("timestamp", "time"),
        "label": Column("rating", "number", low=0.5, high=5),
    }
    layout = Layout("::", ("userId", "movieId", "rating", "timestamp"), quoting=False) if is_dat else Layout()

    def blocks() -> Iterator[Block]:
        return read(ratings, columns, layout)

    def items() -> pd.DataFrame:
        wanted = {"item": Column("movieId", "id"), "title": Column("title", "text"), "genres": Column("genres", "text")}
        names = ("movieId", "title", "genres")
        table = frame_of(read(movies, wanted, Layout("::", names, False, _encoding(movies)) if is_dat else Layout()))
        parts = table["title"].str.strip().str.extract(r"^(?P<title>.*?)\s*(?:\((?P<year>\d{4})\))?$").fillna("")
        genres = table["genres"].replace(NO_GENRES, "").str.replace("|", " ")
        return described(table["item"], parts["title"], parts["year"], genres)

    return RawLog(blocks, items=items, fields=("genres", "decade"), positive_from=USUAL_THRESHOLD, complete=True)


def _encoding(path: Path) -> str:
    try:
        path.read_bytes().decode()
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"
