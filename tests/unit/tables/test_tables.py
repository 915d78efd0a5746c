"""The reader: blocks of checked values, and the place of every row."""

from __future__ import annotations

import bz2
import datetime
import decimal
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import says

from hisac_lab.tables import read as tables
from hisac_lab.tables.columns import Column, Fault
from hisac_lab.tables.files import lines, place, places
from hisac_lab.tables.read import Block, Layout, header, layout_of, read

COLUMNS = {
    "user": Column("user", "id"),
    "time": Column("time", "time"),
    "label": Column("label", "number", optional=True),
    "text": Column("text", "text"),
}


def values(blocks: Any, role: str) -> list[Any]:
    """All values of a role as a list."""
    return [one for block in blocks for one in block.columns[role].tolist()]


def table(path: Path, rows: int) -> pd.DataFrame:
    """Writes a CSV file with quoted separators, quotes and line ends in its text; the backbone it came from."""
    number = np.arange(rows)
    texts = [["plain", "with, comma", 'with "quotes"', "two\nlines", ""][n % 5] for n in number]
    backbone = pd.DataFrame({"user": [f"u{n % 7}" for n in number], "time": number, "label": number / 4, "text": texts})
    backbone.to_csv(path, index=False, lineterminator="\n")
    return backbone


@pytest.mark.parametrize("size", [64, 1000, 1 << 20])
def test_blocks_of_any_size_give_the_same_values_and_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = tmp_path / "log.csv"
    backbone = table(path, 200)
    monkeypatch.setattr(tables, "BLOCK_BYTES", size)
    blocks = list(read(path, COLUMNS, layout_of(path)))
    assert (len(blocks) > 1) == (size < 1 << 20)
    for role in COLUMNS:
        assert values(blocks, role) == backbone[role].tolist()
    assert [block.row for block in blocks] == np.cumsum([0, *map(len, blocks)])[:-1].tolist()
    physical = path.read_text().split("\n")
    for block in blocks:
        error = block.refuse(len(block) - 1, "user", "is bad", "fix it")
        number = int(str(error).split("line ")[1].split(":")[0])
        last = backbone.iloc[block.row + len(block) - 1]
        assert physical[number - 1].startswith(f"{last.user},{last.time},")
        assert f"line {number}: user: is bad; fix it" in str(error)


def test_values_have_the_type_their_kind_says(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,time,label,text\n7,100,,hello\n")
    (block,) = read(path, COLUMNS, layout_of(path))
    assert pa.types.is_dictionary(block.columns["user"].type)
    assert block.columns["time"].dtype == np.int64
    assert block.columns["label"].dtype == np.float64
    assert np.isnan(block.columns["label"]).all()
    assert block.columns["text"].to_pylist() == ["hello"]
    assert len(block) == 1


def test_one_column_may_serve_two_roles_and_others_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("a,b,c\nx,1,\xff\n", encoding="latin-1")
    (block,) = read(path, {"one": Column("a", "id"), "two": Column("a", "text")}, layout_of(path))
    assert block.columns["one"].to_pylist() == block.columns["two"].to_pylist() == ["x"]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
def test_compressed_text_is_read_and_placed(tmp_path: Path, suffix: str) -> None:
    plain, packed = tmp_path / "log.csv", tmp_path / f"log.csv{suffix}"
    backbone = table(plain, 50)
    if suffix == ".zst":
        with pa.output_stream(str(packed), compression="zstd") as stream:
            stream.write(plain.read_bytes())
    else:
        compress: Callable[[bytes], bytes] = gzip.compress if suffix == ".gz" else bz2.compress
        packed.write_bytes(compress(plain.read_bytes()))
    assert values(read(packed, COLUMNS, layout_of(packed)), "time") == backbone["time"].tolist()
    assert place(packed, layout_of(packed), 49) == place(plain, layout_of(plain), 49)


def test_two_colons_separate_and_names_may_come_from_the_layout(tmp_path: Path) -> None:
    path = tmp_path / "ratings.dat"
    path.write_text('1::Toy "Story::5\n2::Heat::4\n')
    layout = Layout("::", ("user", "text", "time"), quoting=False)
    columns = {role: COLUMNS[role] for role in ("user", "text", "time")}
    blocks = list(read(path, columns, layout))
    assert values(blocks, "text") == ['Toy "Story', "Heat"]
    assert values(blocks, "time") == [5, 4]
    assert place(path, layout, 1) == "line 2"


def test_latin_1_is_read_when_the_layout_says_so(tmp_path: Path) -> None:
    path = tmp_path / "u.item"
    path.write_bytes("1|Misérables|7\n".encode("latin-1"))
    layout = Layout("|", ("user", "text", "time"), quoting=False, encoding="latin-1")
    columns = {role: COLUMNS[role] for role in ("user", "text", "time")}
    assert values(read(path, columns, layout), "text") == ["Misérables"]
    assert next(lines(path, layout)) == (1, ["1", "Misérables", "7"])


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_of_any_width_are_ids_times_and_numbers(tmp_path: Path, kind: str) -> None:
    top = int(np.iinfo(kind).max)
    backbone = pa.table({"id": pa.array([top, 0], kind), "time": pa.array([min(top, 4_000_000_000), 0], kind)})
    pq.write_table(backbone, tmp_path / "log.parquet")
    columns = {"id": Column("id", "id"), "time": Column("time", "time"), "number": Column("id", "number")}
    (block,) = read(tmp_path / "log.parquet", columns, None)
    assert block.columns["id"].to_pylist() == [str(top), "0"]
    assert block.columns["time"].tolist() == [min(top, 4_000_000_000), 0]
    assert block.columns["number"].tolist() == [float(top), 0.0]


MOMENT = datetime.datetime(1997, 12, 4, 15, 55, 49, 999_999, datetime.UTC)
WRITTEN: dict[str, tuple[pa.Array, str, list[Any]]] = {
    "dictionary": (pa.array(["b", "a", "b"]).dictionary_encode(), "id", ["b", "a", "b"]),
    "large text": (pa.array(["b", "a"], pa.large_string()), "id", ["b", "a"]),
    "signed hashes": (pa.array([-(2**63), 2**63 - 1]), "id", [str(-(2**63)), str(2**63 - 1)]),
    "decimal ids": (pa.array([decimal.Decimal(10**30)], pa.decimal128(38, 0)), "id", [str(10**30)]),
    "decimal numbers": (pa.array([decimal.Decimal("2.5")], pa.decimal128(5, 1)), "number", [2.5]),
    "booleans": (pa.array([True, False]), "number", [1.0, 0.0]),
    "numbers as text": (pa.array(["1.5", " 2"]), "number", [1.5, 2.0]),
    "half floats": (pa.array(np.array([1.5], np.float16)), "number", [1.5]),
    "whole floats as time": (pa.array([881_250_949.0]), "time", [881_250_949]),
    "seconds": (pa.array([MOMENT], pa.timestamp("s", "UTC")), "time", [881_250_949]),
    "milliseconds": (pa.array([MOMENT], pa.timestamp("ms")), "time", [881_250_949]),
    "nanoseconds": (pa.array([MOMENT], pa.timestamp("ns", "Asia/Tokyo")), "time", [881_250_949]),
    "dates": (pa.array([MOMENT.date()]), "time", [881_250_949 // 86_400 * 86_400]),
    "missing text": (pa.array(["a", None]), "text", ["a", ""]),
    "integers as text": (pa.array([1, None]), "text", ["1", ""]),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_types_of_parquet_are_understood(tmp_path: Path, name: str) -> None:
    array, kind, expected = WRITTEN[name]
    pq.write_table(pa.table({"x": array}), tmp_path / "log.parquet")
    columns: dict[str, Column] = {"x": Column("x", kind)}  # type: ignore[arg-type]
    assert values(read(tmp_path / "log.parquet", columns, None), "x") == expected


def test_rows_of_parquet_are_placed_by_row_group(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"user": list(range(25))}), path, row_group_size=10)
    blocks = list(read(path, {"user": COLUMNS["user"]}, None))
    assert [(block.row, len(block)) for block in blocks] == [(0, 10), (10, 10), (20, 5)]
    assert places(path, None, [0, 9, 10]) == {
        0: "row group 0, row 0",
        9: "row group 0, row 9",
        10: "row group 1, row 0",
    }
    assert place(path, None, 24) == "row group 2, row 4"


def test_the_first_bad_row_is_told_whatever_its_column(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,time,label,text\nu,1,1,\nu,2,bad,\n,3,1,\n")
    with says("line 3: label", "'bad' is no number"):
        list(read(path, COLUMNS, layout_of(path)))


def test_a_row_longer_than_a_block_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"user,time,label,text\nu,1,1,x\nu,2,1,{'x' * 300}\nu,3,1,x\n")
    monkeypatch.setattr(tables, "BLOCK_BYTES", 100)
    with says("log.csv", "a row is longer than 100 bytes", "split it"):
        list(read(path, COLUMNS, layout_of(path)))


def _report(path: Path) -> tuple[list[Block], list[Fault]]:
    faults: list[Fault] = []
    return list(read(path, COLUMNS, layout_of(path), faults.append)), faults


def test_with_a_report_reading_goes_on_and_all_faults_are_told(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,time,label,text\nu,1,1,\nu,2\nu,noon,1,\n,4,1,\nu,5,1,x,y\nu,-4e10,1,\nu,7,bad,\n")
    blocks, faults = _report(path)
    told = {(fault.field, tuple(fault.rows.tolist()), fault.say(0)) for fault in faults}
    assert told == {
        ("", (1,), "value 'u,2' has 2 values, the header names 4 columns"),
        ("", (4,), "value 'u,5,1,x,y' has 5 values, the header names 4 columns"),
        ("time", (2,), "value 'noon' is no number"),
        ("time", (5,), "value '-4e10' is in milliseconds or before the year 1000"),
        ("user", (3,), "value '' is no id"),
        ("label", (6,), "value 'bad' is no number"),
    }
    assert sum(map(len, blocks)) == 5
    assert blocks[0].positions(np.arange(5)).tolist() == [0, 2, 3, 5, 6]
    assert "line 8: user" in str(blocks[0].refuse(4, "user", "is bad", "fix it"))


@given(
    rows=st.lists(st.sampled_from(["good", "short", "long", "blank", "folded", "bad"]), min_size=1, max_size=40),
    size=st.integers(60, 200),
)
def test_every_row_keeps_its_line_whatever_stands_around_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], size: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "log.csv"
    shapes = {"good": "u,{n},1,x", "short": "u,{n}", "long": "u,{n},1,x,y", "blank": "", "folded": 'u,{n},1,"x\ny"',
              "bad": "u,noon{n},1,x"}  # fmt: skip
    text, at = "user,time,label,text\nu,0,1,x\n", {}
    for number, kind in enumerate(rows, start=1):
        at[number] = text.count("\n") + 1
        text += shapes[kind].format(n=number) + "\n"
    path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BLOCK_BYTES", size)
        blocks, faults = _report(path)
    found: dict[int, str] = {}
    for block in blocks:
        where = places(path, block.layout, block.positions(np.arange(len(block))).tolist())
        found |= dict(zip(block.columns["time"].tolist(), where.values(), strict=True))
    kept = [number for number, kind in enumerate(rows, start=1) if kind in ("good", "folded")]
    assert {number: found[number] for number in kept} == {number: f"line {at[number]}" for number in kept}
    told = sorted(place(path, layout_of(path), int(row)) for fault in faults for row in fault.rows)
    wrong = [number for number, kind in enumerate(rows, start=1) if kind in ("short", "long", "bad")]
    assert told == sorted(f"line {at[number]}" for number in wrong)


def test_headers_come_from_the_file_or_its_layout(tmp_path: Path) -> None:
    (tmp_path / "log.tsv").write_text("\ufeffa\tb\n1\t2\n")
    assert header(tmp_path / "log.tsv", layout_of(tmp_path / "log.tsv")) == ["a", "b"]
    assert header(tmp_path / "log.tsv", Layout(names=("x",))) == ["x"]
    pq.write_table(pa.table({"p": [1]}), tmp_path / "log.parquet")
    assert header(tmp_path / "log.parquet", None) == ["p"]


@pytest.mark.parametrize(
    ("name", "separator"), [("a.csv", ","), ("a.tsv.gz", "\t"), ("a.txt", ","), ("a.csv.zst", ",")]
)
def test_the_name_promises_the_layout(name: str, separator: str) -> None:
    assert layout_of(Path(name)) == Layout(separator)
    assert layout_of(Path(name), "|") == Layout("|")
    assert layout_of(Path("a.parquet"), "|") is None
