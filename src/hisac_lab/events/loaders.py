"""Loaders: from the files of one layout to one pair of tables, checked.

Events: user, item (text), time (int64, seconds), label (float64, or absent when the log has no feedback), in file
order. Items: item, text, and one text column per categorical field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hisac_lab.base.errors import UserError, explain_os_error
from hisac_lab.config.events import ColumnsConfig

MAX_SECONDS = 4_102_444_800  # the year 2100


@dataclass(frozen=True)
class RawLog:
    """What a loader gives.

    Attributes:
        events: Columns user, item, time and, with feedback, label; one row per event in file order.
        items: Columns item, text and one per field; one row per item.
        fields: Names of the categorical columns of `items`.
        path: The events' file, for messages.
        first_line: The file line of the first event.
    """

    events: pd.DataFrame
    items: pd.DataFrame
    fields: tuple[str, ...]
    path: Path
    first_line: int


def load(folder: Path, layout: str, columns: ColumnsConfig) -> RawLog:
    """Reads the raw files of `layout` and checks them.

    Raises:
        UserError: One line that names the file, the field, the value and the mend.
    """
    log = LOADERS[layout](folder, columns)
    _check(log)
    return log


def _read(path: Path, separator: str, names: list[str] | None = None, encoding: str = "utf-8") -> pd.DataFrame:
    try:
        table = pd.read_csv(
            path, sep=separator, names=names, encoding=encoding, dtype=str, keep_default_na=False, quoting=0
        )
    except OSError as error:
        raise explain_os_error(error, path) from error
    except pd.errors.EmptyDataError as error:
        raise UserError(path, "is empty", "give a file with a header and rows") from error
    except UnicodeDecodeError as error:
        raise UserError(path, f"is not {encoding} at byte {error.start}", "convert it to UTF-8") from error
    except pd.errors.ParserError as error:
        raise UserError(path, str(error), "mend that line or the delimiter") from error
    if table.empty:
        raise UserError(path, "has a header but no rows", "give a file with events")
    if not isinstance(table.index, pd.RangeIndex):  # pandas took the first column for row names
        raise UserError(path, "has more values in a row than columns", "mend the header or the delimiter")
    return table


def _numbers(table: pd.DataFrame, column: str, path: Path, name: str, first_line: int) -> pd.Series[float]:
    values = pd.to_numeric(table[column], errors="coerce")
    bad = values.isna() | values.abs().eq(float("inf"))
    if bad.any():
        row = int(bad.to_numpy().argmax())
        value = table[column].iloc[row]
        raise UserError(path, f"{value!r} is no number", "mend or remove that line", f"line {first_line + row}: {name}")
    return values.astype("float64")


def _pick(table: pd.DataFrame, path: Path, wanted: dict[str, str], first_line: int) -> pd.DataFrame:
    picked = {}
    for role, name in wanted.items():
        if name not in table.columns:
            known = ", ".join(table.columns)
            raise UserError(path, f"column is missing (there are: {known})", "set it in prepare.columns", name)
        column = table[name]
        if role in ("user", "item") and column.eq("").any():
            row = int(column.eq("").to_numpy().argmax())
            raise UserError(path, "value '' is no id", "fill it or remove the line", f"line {first_line + row}: {name}")
        picked[role] = _numbers(table, name, path, name, first_line) if role in ("time", "label") else column
    return pd.DataFrame(picked)


def _official(folder: Path, columns: ColumnsConfig) -> RawLog:
    """MovieLens-100K as GroupLens publishes it: `u.data` (tab) and `u.item` (bar, Latin-1, 19 genre flags)."""
    path = folder / "u.data"
    events = _pick(
        _read(path, "\t", ["user", "item", "label", "time"]),
        path,
        {"user": "user", "item": "item", "time": "time", "label": "label"},
        1,
    )
    genres = [
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ]
    names = ["item", "title", "released", "video", "url", *genres]
    table = _read(folder / "u.item", "|", names, encoding="latin-1")
    parts = table["title"].str.extract(r"^(?P<title>.*?)\s*(?:\((?P<year>\d{4})\))?$").fillna("")
    words = (table[genres] == "1").apply(lambda row: " ".join(row.index[row]), axis=1)
    return _movielens(events, table["item"], parts["title"], parts["year"], words, path, 1)


def _atomic(folder: Path, columns: ColumnsConfig) -> RawLog:
    """MovieLens-100K in RecBole's atomic layout: tab separated, headers `name:type`."""
    path = folder / "ml-100k.inter"
    wanted = {
        "user": "user_id:token",
        "item": "item_id:token",
        "time": "timestamp:float",
        "label": "rating:float",
    }
    events = _pick(_read(path, "\t"), path, wanted, 2)
    items_path = folder / "ml-100k.item"
    items = _read(items_path, "\t")
    for name in ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"):
        if name not in items.columns:
            raise UserError(items_path, "column is missing", "fetch the data set again", name)
    return _movielens(
        events,
        items["item_id:token"],
        items["movie_title:token_seq"],
        items["release_year:token"],
        items["class:token_seq"],
        path,
        2,
    )


def _movielens(
    events: pd.DataFrame,
    item: pd.Series[str],
    title: pd.Series[str],
    year: pd.Series[str],
    genres: pd.Series[str],
    path: Path,
    first_line: int,
) -> RawLog:
    decade = year.str.extract(r"^(\d{3})\d$", expand=False).fillna("").map(lambda x: f"{x}0s" if x else "unknown")
    items = pd.DataFrame(
        {"item": item, "text": title + ". " + genres, "title": title, "genres": genres, "decade": decade}
    )
    return RawLog(events, items, ("genres", "decade"), path, first_line)


def _csv(folder: Path, columns: ColumnsConfig) -> RawLog:
    """An own log: `events.*` and, when there is one, `items.*` (CSV or TSV, compressed or not)."""
    path = _only(folder, "events")
    wanted = {"user": columns.user, "item": columns.item, "time": columns.time}
    if columns.label is not None:
        wanted["label"] = columns.label
    events = _pick(_read(path, _separator(path), encoding="utf-8-sig"), path, wanted, 2)
    if not list(folder.glob("items.*")):
        ids = sorted(events["item"].unique())
        return RawLog(events, pd.DataFrame({"item": ids, "text": ids}), (), path, 2)
    items_path = _only(folder, "items")
    table = _read(items_path, _separator(items_path), encoding="utf-8-sig")
    for name in (columns.item, *columns.text, *columns.fields):
        if name not in table.columns:
            raise UserError(
                items_path,
                f"column is missing (there are: {', '.join(table.columns)})",
                "set it in prepare.columns",
                name,
            )
    items = pd.DataFrame({"item": table[columns.item], "text": table[list(columns.text)].agg(". ".join, axis=1)})
    for name in columns.fields:
        items[name] = table[name]
    return RawLog(events, items, columns.fields, path, 2)


def _only(folder: Path, stem: str) -> Path:
    return sorted(folder.glob(f"{stem}.*"))[0]


def _separator(path: Path) -> str:
    return "\t" if ".tsv" in path.suffixes else ","


def _check(log: RawLog) -> None:
    events, path = log.events, log.path
    times = events["time"].to_numpy()
    for bad, why, mend in (
        (times != times.round(), "has a fraction", "give whole seconds"),
        (times < 0, "is before 1970", "give seconds since 1970"),
        (
            times > MAX_SECONDS,
            "is in milliseconds or beyond the year 2100",
            "divide by 1000: give seconds since 1970",
        ),
    ):
        if bad.any():
            row = int(bad.argmax())
            field = f"line {log.first_line + row}: timestamp"
            raise UserError(path, f"value {times[row]:.15g} {why}", mend, field)
    events["time"] = times.astype("int64")
    repeated = log.items["item"].duplicated()
    if repeated.any():
        value = log.items["item"][repeated].iloc[0]
        raise UserError(path.parent, f"item {value!r} has two rows in the item table", "keep one of them", "item")
    unknown = ~events["item"].isin(log.items["item"])
    if unknown.any():
        row = int(unknown.to_numpy().argmax())
        raise UserError(
            path,
            f"item {events['item'].iloc[row]!r} has no row in the item table, so it can have no embedding",
            "add it there or remove its events",
            f"line {log.first_line + row}: item",
        )


LOADERS: dict[str, Callable[[Path, ColumnsConfig], RawLog]] = {
    "movielens-official": _official,
    "recbole-atomic": _atomic,
    "csv": _csv,
}
