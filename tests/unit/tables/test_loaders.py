"""Loaders of MovieLens-100K and of own logs: every layout gives the same log, and each column is what settings say."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kit import HEADER, raw_log, says
from tiny import make_log, make_people, write_atomic, write_csv, write_movielens

from hisac_lab.base.artifacts import stage_output
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.sources.acquire import acquire
from hisac_lab.tables.layouts.contract import RawLog
from hisac_lab.tables.layouts.movielens_100k import official, recbole
from hisac_lab.tables.layouts.own import own


def backbone(log: RawLog) -> pd.DataFrame:
    """All events of a log; ids are text."""
    parts = [{role: np.asarray(values.tolist()) for role, values in block.columns.items()} for block in log.blocks()]
    return pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)


def mapped(**names: Any) -> PrepareConfig:
    return PrepareConfig(columns=ColumnsConfig(**names))


def take_own(raw: Path, out: Path, pattern: str, items: str | None = None) -> RawLog:
    """An own log as the stage `acquire` leaves it, read with the genre as a field."""
    path = None if items is None else str(raw / items)
    with stage_output(out) as draft:
        acquire(AcquireConfig(dataset="own", path=str(raw / pattern), items_path=path), out=draft)
    return own(out, mapped(fields=("genre",)))


def write_parquet(raw: Path) -> None:
    write_csv(raw)
    for name in ("events", "items"):
        pd.read_csv(raw / f"{name}.csv").to_parquet(raw / f"{name}.parquet", row_group_size=1000)


def write_pieces(raw: Path) -> None:
    """The log in three files, the second compressed."""
    write_csv(raw)
    head, *rows = (raw / "events.csv").read_text().splitlines(keepends=True)
    (raw / "part-0.csv").write_text("".join([head, *rows[:1000]]))
    with gzip.open(raw / "part-1.csv.gz", "wt") as file:
        file.writelines([head, *rows[1000:2000]])
    (raw / "part-2.csv").write_text("".join([head, *rows[2000:]]))


def write_packed(raw: Path) -> None:
    write_csv(raw)
    for name in ("events.csv", "items.csv"):
        (raw / f"{name}.gz").write_bytes(gzip.compress((raw / name).read_bytes()))


LAYOUTS: dict[str, tuple[Callable[[Path], None], Callable[[Path, Path], RawLog]]] = {
    "official": (write_movielens, lambda raw, out: official(raw, PrepareConfig())),
    "recbole": (write_atomic, lambda raw, out: recbole(raw, PrepareConfig())),
    "csv": (write_csv, lambda raw, out: take_own(raw, out, "events.csv", "items.csv")),
    "csv with a byte order mark": (
        lambda raw: write_csv(raw, bom=True),
        lambda raw, out: take_own(raw, out, "events.csv", "items.csv"),
    ),
    "tsv": (
        lambda raw: write_csv(raw, suffix=".tsv"),
        lambda raw, out: take_own(raw, out, "events.tsv", "items.tsv"),
    ),
    "gzip": (write_packed, lambda raw, out: take_own(raw, out, "events.csv.gz", "items.csv.gz")),
    "parquet": (write_parquet, lambda raw, out: take_own(raw, out, "events.parquet", "items.parquet")),
    "parquet with items in csv": (write_parquet, lambda raw, out: take_own(raw, out, "events.parquet", "items.csv")),
    "several files": (write_pieces, lambda raw, out: take_own(raw, out, "part-*", "items.csv")),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_log(tmp_path: Path, name: str) -> None:
    write, load = LAYOUTS[name]
    write(tmp_path / "raw")
    log = load(tmp_path / "raw", tmp_path / "out")
    events, table = make_log()
    for _ in range(2):  # the blocks can be read anew
        found = backbone(log)
        assert found["user"].tolist() == events["user"].astype(str).tolist()
        assert found["item"].tolist() == events["item"].astype(str).tolist()
        assert found["label"].tolist() == events["rating"].tolist()
        assert found["time"].tolist() == events["time"].tolist()
    assert found["time"].dtype == np.int64
    assert log.complete
    assert log.items is not None
    items = log.items()
    assert items["item"].tolist() == [str(number) for number in table["item"]]
    assert items[log.fields[0]].tolist() == table["genre"].tolist()
    assert [text.split(". ")[0] for text in items["text"]] == table["title"].tolist()


@pytest.mark.parametrize("name", ["official", "recbole"])
def test_films_have_their_decade_their_genres_in_words_and_the_usual_threshold(tmp_path: Path, name: str) -> None:
    write, load = LAYOUTS[name]
    write(tmp_path / "raw")
    log = load(tmp_path / "raw", tmp_path / "out")
    assert log.items is not None
    first, items = make_log()[1].iloc[0], log.items()
    assert log.fields == ("genres", "decade")
    assert log.positive_from == 4.0
    assert items["text"].iloc[0] == f"{first.title}. {first.genre}"
    assert items["decade"].iloc[0] == f"{first.year // 10}0s"


@pytest.mark.parametrize("name", ["official", "recbole"])
def test_films_have_users_of_an_age_where_the_table_of_users_is_there(tmp_path: Path, name: str) -> None:
    write, load = LAYOUTS[name]
    write(tmp_path / "raw")
    bare = load(tmp_path / "raw", tmp_path / "out")
    assert (bare.users, bare.user_fields, bare.user_numbers) == (None, (), ())
    people = make_people().astype({"age": str})
    people.loc[3, "age"] = "secret"
    if name == "official":
        people.to_csv(tmp_path / "raw" / "u.user", sep="|", header=False, index=False, lineterminator="\n")
    else:
        names = ["user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token"]
        people.set_axis(names, axis=1).to_csv(
            tmp_path / "raw" / "ml-100k.user", sep="\t", index=False, lineterminator="\n"
        )
    log = load(tmp_path / "raw", tmp_path / "out")
    assert (log.user_fields, log.user_numbers) == (("gender", "occupation"), ("age",))
    assert log.users is not None
    table = log.users()
    for column in ("user", "gender", "occupation"):
        assert table[column].tolist() == people[column].astype(str).tolist()
    ages = pd.to_numeric(people["age"], errors="coerce").to_numpy()
    np.testing.assert_array_equal(table["age"].to_numpy(np.float64), ages)
    assert np.isnan(ages[3])


def test_a_film_without_a_year_and_one_with_accents_are_read(tmp_path: Path) -> None:
    write_movielens(tmp_path)
    lines = (tmp_path / "u.item").read_text("latin-1").splitlines()
    flags = "0|1|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0"
    lines += [f"81|unknown||||{flags}", f"82|Misérables, Les (1995)|01-Jan-1995|||{flags}"]
    (tmp_path / "u.item").write_text("\n".join(lines), "latin-1")
    items = official(tmp_path, PrepareConfig()).items
    assert items is not None
    table = items().set_index("item")
    assert list(table.loc["81"]) == ["unknown. Action Crime", "unknown", "Action Crime", "unknown"]
    assert list(table.loc["82"]) == ["Misérables, Les. Action Crime", "Misérables, Les", "Action Crime", "1990s"]


@pytest.mark.parametrize(("name", "missing"), [("official", "u.item"), ("recbole", "ml-100k.item")])
def test_a_missing_file_is_named(tmp_path: Path, name: str, missing: str) -> None:
    write, load = LAYOUTS[name]
    write(tmp_path / "raw")
    (tmp_path / "raw" / missing).unlink()
    items = load(tmp_path / "raw", tmp_path / "out").items
    assert items is not None
    with says(missing, "does not exist"):
        items()


def test_a_missing_column_of_the_atomic_layout_is_named(tmp_path: Path) -> None:
    write_atomic(tmp_path)
    path = tmp_path / "ml-100k.item"
    path.write_text(path.read_text().replace("class:token_seq", "class"))
    items = recbole(tmp_path, PrepareConfig()).items
    assert items is not None
    with says(str(path), "class:token_seq", "column is missing"):
        items()


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ("1\t2\t6\t880000000", ("line 1: label", "'6' is above 5")),
        ("1\t2\t3\t880000000\t1", ("line 1", "has 5 values")),
        ("1\t2\t3", ("line 1", "has 3 values")),
        ("1\t2\t3\t88000000000", ("line 1: time", "milliseconds")),
    ],
)
def test_official_rows_are_checked(tmp_path: Path, row: str, parts: tuple[str, ...]) -> None:
    write_movielens(tmp_path)
    path = tmp_path / "u.data"
    path.write_text(f"{row}\n{path.read_text()}")
    with says(str(path), *parts):
        list(official(tmp_path, PrepareConfig()).blocks())


def test_without_an_item_table_there_is_none(tmp_path: Path) -> None:
    log = own(raw_log(tmp_path, HEADER + "u,b,4,100\nu,a,5,101\n"), mapped(fields=("genre",)))
    assert (log.items, log.vectors, log.fields) == (None, None, ())


def test_a_log_without_feedback_has_no_labels(tmp_path: Path) -> None:
    log = own(raw_log(tmp_path, "user_id,item_id,timestamp\nu,a,1\n"), mapped(label=None))
    assert [list(block.columns) for block in log.blocks()] == [["user", "item", "time", "tick"]]


def test_columns_and_texts_are_taken_by_the_names_in_the_settings(tmp_path: Path) -> None:
    config = mapped(user="who", item="what", time="when", label=None, text=("title", "blurb"), fields=("shop", "brand"))
    items = "what,title,blurb,shop,brand\na,Red,warm,north,x\n"
    log = own(raw_log(tmp_path, "what,when,who\na,3,u\n", items), config)
    assert backbone(log).to_dict("list") == {"user": ["u"], "item": ["a"], "time": [3], "tick": [0]}
    assert log.items is not None
    assert log.items().to_dict("list") == {"item": ["a"], "text": ["Red. warm"], "shop": ["north"], "brand": ["x"]}


def test_a_separator_of_the_settings_serves_log_and_items(tmp_path: Path) -> None:
    log = own(raw_log(tmp_path, "user_id;item_id;timestamp\nu;a;1\n", "item_id;title\na;R, G\n"),
              mapped(label=None, separator=";"))  # fmt: skip
    assert log.items is not None
    assert backbone(log)["item"].tolist() == ["a"]
    assert log.items()["text"].tolist() == ["R, G"]


def test_ids_stay_text_so_leading_zeros_and_na_survive(tmp_path: Path) -> None:
    found = backbone(own(raw_log(tmp_path, HEADER + "007,NA,4,100\n1.0,01,4,101\n"), PrepareConfig()))
    assert found["user"].tolist() == ["007", "1.0"]
    assert found["item"].tolist() == ["NA", "01"]


def test_vectors_come_with_the_ids_of_the_item_table(tmp_path: Path) -> None:
    raw_log(tmp_path, HEADER + "u,a,4,1\n", "item_id,title\nb,B\na,A\n")
    np.save(tmp_path / "vectors.npy", np.array([[1, 2], [3, 4]], np.int8))
    vectors = own(tmp_path, PrepareConfig()).vectors
    assert vectors is not None
    ((ids, table),) = vectors()
    assert ids == ["b", "a"]
    assert table.dtype == np.float32
    assert table.tolist() == [[1.0, 2.0], [3.0, 4.0]]
