"""Loaders: three layouts give the same log, and bad files are told by line, field and value."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from kit import HEADER, raw_log, says
from tiny import make_log, write_atomic, write_csv, write_movielens

from hisac_lab.config.events import ColumnsConfig
from hisac_lab.events.loaders import RawLog, load

COLUMNS = ColumnsConfig(fields=("genre",))
LAYOUTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "official": (write_movielens, "movielens-official"),
    "recbole": (write_atomic, "recbole-atomic"),
    "csv": (write_csv, "csv"),
    "csv with a byte order mark": (lambda folder: write_csv(folder, bom=True), "csv"),
    "tsv": (lambda folder: write_csv(folder, suffix=".tsv"), "csv"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_log(tmp_path: Path, name: str) -> None:
    write, layout = LAYOUTS[name]
    write(tmp_path)
    log = load(tmp_path, layout, COLUMNS)
    events, table = make_log()
    pd.testing.assert_frame_equal(
        log.events[["user", "item", "label", "time"]].astype("float64"),
        events.set_axis(["user", "item", "label", "time"], axis=1).astype("float64"),
    )
    assert log.events["time"].dtype == "int64"
    assert log.items["item"].tolist() == [str(number) for number in table["item"]]
    assert log.items[log.fields[0]].tolist() == table["genre"].tolist()
    assert [text.split(". ")[0] for text in log.items["text"]] == table["title"].tolist()


@pytest.mark.parametrize("name", ["official", "recbole"])
def test_films_have_their_decade_and_their_genres_in_words(tmp_path: Path, name: str) -> None:
    write, layout = LAYOUTS[name]
    write(tmp_path)
    log = load(tmp_path, layout, COLUMNS)
    first = make_log()[1].iloc[0]
    assert log.fields == ("genres", "decade")
    assert log.items["text"].iloc[0] == f"{first.title}. {first.genre}"
    assert log.items["decade"].iloc[0] == f"{first.year // 10}0s"


def test_a_film_without_a_year_and_one_with_accents_are_read(tmp_path: Path) -> None:
    write_movielens(tmp_path)
    lines = (tmp_path / "u.item").read_text("latin-1").splitlines()
    flags = "0|1|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0"
    lines += [f"81|unknown||||{flags}", f"82|Misérables, Les (1995)|01-Jan-1995|||{flags}"]
    (tmp_path / "u.item").write_text("\n".join(lines), "latin-1")
    table = load(tmp_path, "movielens-official", COLUMNS).items.set_index("item")
    assert table.loc["81"].tolist() == ["unknown. Action Crime", "unknown", "Action Crime", "unknown"]
    assert table.loc["82"].tolist() == ["Misérables, Les. Action Crime", "Misérables, Les", "Action Crime", "1990s"]


def test_a_compressed_log_is_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "events.csv.gz", "wt") as file:
        file.write(HEADER + "u,i,4,100\n")
    assert load(tmp_path, "csv", ColumnsConfig()).events["item"].tolist() == ["i"]


def _own(folder: Path, events: str, items: str | None = None, columns: ColumnsConfig | None = None) -> RawLog:
    return load(raw_log(folder, events, items), "csv", columns or ColumnsConfig())


def test_without_an_item_table_the_ids_are_the_texts(tmp_path: Path) -> None:
    log = _own(tmp_path, HEADER + "u,b,4,100\nu,a,5,101\n")
    assert log.items.to_dict("list") == {"item": ["a", "b"], "text": ["a", "b"]}
    assert log.fields == ()


def test_a_log_without_feedback_has_no_labels(tmp_path: Path) -> None:
    log = _own(tmp_path, "user_id,item_id,timestamp\nu,a,1\n", columns=ColumnsConfig(label=None))
    assert list(log.events) == ["user", "item", "time"]


def test_columns_and_texts_are_taken_by_the_names_in_the_settings(tmp_path: Path) -> None:
    columns = ColumnsConfig(
        user="who", item="what", time="when", label=None, text=("title", "blurb"), fields=("shop", "brand")
    )
    items = "what,title,blurb,shop,brand\na,Red,warm,north,x\n"
    log = _own(tmp_path, "what,when,who\na,3,u\n", items, columns)
    assert log.events.to_dict("list") == {"user": ["u"], "item": ["a"], "time": [3]}
    assert log.items.to_dict("list") == {"item": ["a"], "text": ["Red. warm"], "shop": ["north"], "brand": ["x"]}


def test_ids_stay_text_so_leading_zeros_and_na_survive(tmp_path: Path) -> None:
    log = _own(tmp_path, HEADER + "007,NA,4,100\nnull,01,4,101\n")
    assert log.events["user"].tolist() == ["007", "null"]
    assert log.events["item"].tolist() == ["NA", "01"]


GOOD = "u,a,4,100\n"
TITLES = "item_id,title\na,Red\n"
BAD = [
    ("empty file", "", None, ("events.csv", "is empty")),
    ("header only", HEADER, None, ("events.csv", "header but no rows")),
    ("missing column", "user_id,item_id,rating\nu,a,4\n", None, ("timestamp", "column is missing", "user_id, item_id")),
    ("another delimiter", "user_id;item_id;rating;timestamp\nu;a;4;1\n", None, ("user_id", "column is missing")),
    ("time is no number", HEADER + GOOD + "u,a,4,noon\n", None, ("line 3: timestamp", "'noon' is no number")),
    ("time is empty", HEADER + "u,a,4,\n", None, ("line 2: timestamp", "'' is no number")),
    ("time is infinite", HEADER + "u,a,4,inf\n", None, ("line 2: timestamp", "'inf' is no number")),
    ("time has a fraction", HEADER + "u,a,4,100.5\n", None, ("line 2: timestamp", "100.5 has a fraction")),
    ("milliseconds", HEADER + "u,a,4,881250949000\n", None, ("line 2", "881250949000", "milliseconds", "by 1000")),
    ("before 1970", HEADER + GOOD + "u,a,4,-1\n", None, ("line 3: timestamp", "-1 is before 1970")),
    ("label is no number", HEADER + "u,a,good,100\n", None, ("line 2: rating", "'good' is no number")),
    ("empty user", HEADER + ",a,4,100\n", None, ("line 2: user_id", "'' is no id")),
    ("empty item", HEADER + GOOD + "u,,4,100\n", None, ("line 3: item_id", "'' is no id")),
    ("short row", "timestamp,rating,user_id,item_id\n1,4,u,a\n2,5,u\n", None, ("line 3: item_id", "'' is no id")),
    ("long row", HEADER + GOOD + "u,a,4,100,7\n", None, ("events.csv", "line 3")),
    ("every row too long", HEADER + "u,a,4,100,7\n" * 2, None, ("events.csv", "more values in a row than columns")),
    ("open quote", HEADER + 'u,"a,4,100\n' + GOOD, None, ("events.csv", "EOF inside string")),
    ("item without a row", HEADER + GOOD + "u,b,4,101\n", TITLES, ("line 3: item", "'b'", "item table")),
    ("item with two rows", HEADER + GOOD, TITLES + "a,Blue\n", ("item", "'a'", "two rows")),
    ("no titles", HEADER + GOOD, "item_id,name\na,Red\n", ("items.csv", "title", "column is missing")),
    ("empty item table", HEADER + GOOD, "", ("items.csv", "is empty")),
    ("item table of a header", HEADER + GOOD, "item_id,title\n", ("items.csv", "header but no rows")),
]


@pytest.mark.parametrize(("events", "items", "parts"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_a_bad_file_is_told_by_place_and_value(
    tmp_path: Path, events: str, items: str | None, parts: tuple[str, ...]
) -> None:
    with says(str(tmp_path), *parts):
        _own(tmp_path, events, items)


def test_a_log_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    raw_log(tmp_path, HEADER)
    (tmp_path / "events.csv").write_bytes(HEADER.encode() + "é,a,4,100\n".encode("latin-1"))
    with says("events.csv", "is not utf-8", "convert"):
        load(tmp_path, "csv", ColumnsConfig())


def test_official_rows_of_five_values_are_refused_not_shifted(tmp_path: Path) -> None:
    write_movielens(tmp_path)
    path = tmp_path / "u.data"
    path.write_text("".join(f"{line}\t1\n" for line in path.read_text().splitlines()))
    with says(str(path), "more values in a row than columns"):
        load(tmp_path, "movielens-official", ColumnsConfig())


@pytest.mark.parametrize(("name", "missing"), [("official", "u.item"), ("recbole", "ml-100k.item")])
def test_a_missing_file_is_named(tmp_path: Path, name: str, missing: str) -> None:
    write, layout = LAYOUTS[name]
    write(tmp_path)
    (tmp_path / missing).unlink()
    with says(missing, "does not exist"):
        load(tmp_path, layout, ColumnsConfig())


def test_a_missing_column_of_the_atomic_layout_is_named(tmp_path: Path) -> None:
    write_atomic(tmp_path)
    path = tmp_path / "ml-100k.item"
    path.write_text(path.read_text().replace("class:token_seq", "class"))
    with says(str(path), "class:token_seq", "column is missing"):
        load(tmp_path, "recbole-atomic", ColumnsConfig())
