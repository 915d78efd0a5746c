"""MovieLens-100K, the data set that brings itself, in either of the layouts it is found in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from hisac_lab.config.events import PrepareConfig
from hisac_lab.tables.layouts.contract import RawLog
from hisac_lab.tables.layouts.files import frame_of
from hisac_lab.tables.read import Block, Column, Layout, read

GENRES = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical "
    "Mystery Romance Sci-Fi Thriller War Western"
).split()
USUAL_THRESHOLD = 4.0


def official(folder: Path, config: PrepareConfig) -> RawLog:
    """As GroupLens publishes it: `u.data` (tab) and `u.item` (bar, Latin-1, 19 genre flags); the files were read."""
    layout = Layout("\t", ("user", "item", "label", "time"), quoting=False)
    columns = {
        "user": Column("user", "id"),
        "item": Column("item", "id"),
        "time": Column("time", "time"),
        "label": Column("label", "number", low=1, high=5),
    }

    def items() -> pd.DataFrame:
        names = ("item", "title", "released", "video", "url", *GENRES)
        wanted = {name: Column(name, "text") for name in ("title", *GENRES)}
        table = frame_of(read(folder / "u.item", {"item": Column("item", "id"), **wanted},
                           Layout("|", names, quoting=False, encoding="latin-1")))  # fmt: skip
        parts = table["title"].str.extract(r"^(?P<title>.*?)\s*(?:\((?P<year>\d{4})\))?$").fillna("")
        genres = (table[GENRES] == "1").apply(lambda row: " ".join(row.index[row]), axis=1)
        return described(table["item"], parts["title"], parts["year"], genres)

    def users() -> pd.DataFrame:
        names = ("user", "age", "gender", "occupation", "zip")
        return people(folder / "u.user", {name: name for name in names[:4]}, Layout("|", names, quoting=False))

    there = (folder / "u.user").exists()
    return _log(lambda: read(folder / "u.data", columns, layout), items, users if there else None)


def recbole(folder: Path, config: PrepareConfig) -> RawLog:
    """RecBole's atomic layout: tab separated, headers `name:type`; the files were read."""
    layout = Layout("\t", quoting=False)
    columns = {
        "user": Column("user_id:token", "id"),
        "item": Column("item_id:token", "id"),
        "time": Column("timestamp:float", "time"),
        "label": Column("rating:float", "number", low=1, high=5),
    }

    def items() -> pd.DataFrame:
        wanted = {
            "item": Column("item_id:token", "id"),
            "title": Column("movie_title:token_seq", "text"),
            "year": Column("release_year:token", "text"),
            "genres": Column("class:token_seq", "text"),
        }
        table = frame_of(read(folder / "ml-100k.item", wanted, layout))
        return described(table["item"], table["title"], table["year"], table["genres"])

    def users() -> pd.DataFrame:
        names = {
            "user": "user_id:token",
            "age": "age:token",
            "gender": "gender:token",
            "occupation": "occupation:token",
        }
        return people(folder / "ml-100k.user", names, layout)

    there = (folder / "ml-100k.user").exists()
    return _log(lambda: read(folder / "ml-100k.inter", columns, layout), items, users if there else None)


def people(path: Path, names: Mapping[str, str], layout: Layout) -> pd.DataFrame:
    """The user table, from what the file calls user, age, gender and occupation."""
    columns = {role: Column(name, "id" if role == "user" else "text") for role, name in names.items()}
    table = frame_of(read(path, columns, layout))
    return table.assign(age=pd.to_numeric(table["age"], errors="coerce"))


def described(
    item: pd.Series[str], title: pd.Series[str], year: pd.Series[str], genres: pd.Series[str]
) -> pd.DataFrame:
    """The item table of films: text, title, genres and decade."""
    decade = year.str.extract(r"^(\d{3})\d$", expand=False).fillna("").map(lambda x: f"{x}0s" if x else "unknown")
    columns: Mapping[str, pd.Series[str]] = {
        "item": item,
        "text": title + ". " + genres,
        "title": title,
        "genres": genres,
        "decade": decade,
    }
    return pd.DataFrame(columns)


def _log(
    blocks: Callable[[], Iterator[Block]],
    items: Callable[[], pd.DataFrame],
    users: Callable[[], pd.DataFrame] | None,
) -> RawLog:
    return RawLog(
        blocks,
        items=items,
        users=users,
        user_fields=("gender", "occupation") if users else (),
        user_numbers=("age",) if users else (),
        fields=("genres", "decade"),
        positive_from=USUAL_THRESHOLD,
        complete=True,
    )
