"""Malformed logs: each ends in one line that names file, place, field, value and hint; nothing is left behind."""

from __future__ import annotations

import bz2
import gzip
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kit import HEADER, prepare_log, raw_log, says

from hisac_lab.base.artifacts import stage_output
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.events.store import EventStore
from hisac_lab.sources.acquire import acquire
from hisac_lab.tables.check import check

ROWS = 60
USERS, ITEMS = [f"u{n % 3}" for n in range(ROWS)], [f"i{n % 7}" for n in range(ROWS)]
RATINGS, TIMES = [5 if n % 3 == n // 9 % 3 else 2 for n in range(ROWS)], [1000 + n for n in range(ROWS)]
LINES = [f"{u},{i},{r},{t}\n" for u, i, r, t in zip(USERS, ITEMS, RATINGS, TIMES, strict=True)]
GOOD = HEADER + "".join(LINES)
TITLES = "item_id,title\n" + "".join(f"i{n},Title {n}\n" for n in range(7))
VECTORS = np.arange(28, dtype=np.float32).reshape(7, 4)


def log(*rows: str) -> str:
    """A good log with these rows behind its header, so that the first of them is line 2."""
    return HEADER + "".join(f"{row}\n" for row in rows) + "".join(LINES)


def mapped(**names: Any) -> PrepareConfig:
    return PrepareConfig(columns=ColumnsConfig(**names), positive_from=4.0)


def parquet(**columns: Any) -> bytes:
    """A good log as Parquet in row groups of 25, with some columns replaced; None: left out."""
    good = {"user_id": USERS, "item_id": ITEMS, "rating": RATINGS, "timestamp": TIMES} | columns
    sink = io.BytesIO()
    pq.write_table(pa.table(good), sink, row_group_size=25)
    return sink.getvalue()


def put(values: list[Any], at: int, value: Any) -> list[Any]:
    return [*values[:at], value, *values[at + 1 :]]


def npy(array: Any) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def npz() -> bytes:
    sink = io.BytesIO()
    np.savez(sink, VECTORS)
    return sink.getvalue()


def zstd(text: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(text.encode())
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def linked(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


@dataclass(frozen=True)
class Bad:
    """A malformed log and the parts of the line that tells it, in their order."""

    name: str
    parts: tuple[str, ...]
    events: str | bytes | Callable[[Path], None] = GOOD
    file: str = "events.csv"
    items: str | None = None
    vectors: bytes | None = None
    config: PrepareConfig = field(default_factory=mapped)


PARQUET, QUOTE = "events.parquet", "close the quote"
UNIT = "give one unit throughout and name it in prepare.columns.time_format"
UNLABELED = {"config": PrepareConfig(columns=ColumnsConfig(label=None))}
RANGE: dict[str, Any] = {"config": mapped(label_range=(1, 5))}
MILLIS: dict[str, Any] = {"config": mapped(time_format="milliseconds")}
ISO: dict[str, Any] = {"config": mapped(time_format="iso")}
AGAIN, PACKED = "fetch or compress it again", gzip.compress(GOOD.encode())
WHOLE = "write or fetch it again"
BROKEN_FILES = [
    Bad("gzip cut", ("events.csv.gz", "broken or end early", AGAIN), PACKED[:-20], "events.csv.gz"),
    Bad("gzip damaged", ("events.csv.gz", "broken or end early", AGAIN), PACKED[:60] + b"damaged" + PACKED[67:],
        "events.csv.gz"),
    Bad("zstd cut", ("events.csv.zst", "broken or end early", AGAIN), zstd(GOOD)[:-9], "events.csv.zst"),
    Bad("bzip2 cut", ("events.csv.bz2", "broken or end early", AGAIN), bz2.compress(GOOD.encode())[:-9],
        "events.csv.bz2"),
    Bad("gzip without its suffix", ("events.csv", r"\x1f\x8b", "it is gzip, not text", "suffix"), PACKED),
    Bad("text called gzip", ("events.csv.gz", "user", "it is text, not gzip", "suffix"), GOOD, "events.csv.gz"),
    Bad("zip", ("events.csv", "is a zip archive", "unpack it"), b"PK\x03\x04" + PACKED),
    Bad("Parquet cut", (PARQUET, "is no whole Parquet file", WHOLE), parquet()[:-9], PARQUET),
    Bad("Parquet garbage", (PARQUET, "is no whole Parquet file", WHOLE), b"PAR1" + b"x" * 99 + b"PAR1", PARQUET),
    Bad("Parquet page damaged", (PARQUET, "row group 0", "cannot be read", WHOLE),
        parquet()[:4] + b"\xff" * 60 + parquet()[64:], PARQUET),
    Bad("text called Parquet", (PARQUET, "is no whole Parquet file", WHOLE), GOOD, PARQUET),
    Bad("Parquet without rows", (PARQUET, "has no rows", "give a file"),
        parquet(user_id=[], item_id=[], rating=[], timestamp=[]), PARQUET),
    Bad("empty file", ("events.csv", "is empty", "give a file with a header and rows"), ""),
    Bad("header only", ("events.csv", "has no rows", "give a file with a header and rows"), HEADER),
    Bad("header without a line end", ("events.csv", "has no rows", "give a file"), HEADER.strip()),
    Bad("UTF-16", ("events.csv", "line 1", "is UTF-16", r"'\udcff\udcfe", "UTF-8"), GOOD.encode("utf-16")),
    Bad("UTF-16 without a mark", ("events.csv", "line 1", "is UTF-16", r"'u\x00s", "UTF-8"), GOOD.encode("utf-16-le")),
    Bad("zero bytes", ("events.csv", "line 1", r"'\x00", "UTF-8"), bytes(99)),
    Bad("Latin-1", ("events.csv", "line 3: item_id", r"b'caf\xe9'", "not utf-8", "convert it to UTF-8"),
        log("a,b,5,1", "a,café,5,2").encode("latin-1")),
    Bad("a directory", ("events.csv", "is a directory", "name a file"), Path.mkdir),
    Bad("a link to nothing", ("events.csv", "does not exist", "check the path"), linked("gone.csv")),
    Bad("a link to itself", ("events.csv", "Too many levels of symbolic links", "check"), linked("events.csv")),
    Bad("a Parquet link to itself", (PARQUET, "Too many levels of symbolic links", "check"), linked(PARQUET), PARQUET),
    Bad("no files", ("events", "holds no files", "acquire.path"), lambda path: None),
]  # fmt: skip
BROKEN_TABLES = [
    Bad("semicolons", ("events.csv: user_id", "'user_id;item_id", "by semicolons", "prepare.columns.separator"),
        GOOD.replace(",", ";")),
    Bad("tabs", ("events.csv: user_id", r"'user_id\titem_id", "by tabs", "prepare.columns.separator"),
        GOOD.replace(",", "\t")),
    Bad("bars", ("events.csv: user_id", "'user_id|item_id", "by bars", "prepare.columns.separator"),
        GOOD.replace(",", "|")),
    Bad("commas called tabs", ("events.tsv: user_id", "by commas", "prepare.columns.separator"), GOOD, "events.tsv"),
    Bad("no header", ("events.csv: user_id", "first line (u0, i0, 5, 1000) is no header", "add one"), "".join(LINES)),
    Bad("missing column", ("events.csv: rating", "missing", "user_id, item_id, stars", "set it in prepare.columns"),
        GOOD.replace("rating", "stars")),
    Bad("missing column of Parquet", (f"{PARQUET}: timestamp", "missing", "user_id", "prepare.columns"),
        parquet().replace(b"timestamp", b"timestomp"), PARQUET),
    Bad("column twice", ("events.csv: header", "'item_id' occurs twice", "rename"), GOOD.replace("rating", "item_id")),
    Bad("short row", ("events.csv: line 3", "'u,a,5' has 3 values", "4 columns", "fix that line"),
        log("u,a,5,1", "u,a,5")),
    Bad("long row", ("events.csv: line 2", "'u,a,5,1,7' has 5 values", "4 columns", "fix that line"),
        log("u,a,5,1,7")),
    Bad("every row too long", ("events.csv: line 2", "has 5 values", "fix that line"),
        HEADER + "".join(LINES).replace("\n", ",7\n")),
    Bad("open quote", ("events.csv: line 3", "a quote opens in 'u,a,5,2", "never closed", QUOTE),
        log("u,a,5,1", 'u,"a,5,2')),
    Bad("open quote in the last column of the last row", ("events.csv: line 62", "never closed", QUOTE),
        GOOD + 'u,a,5,"2000\n'),
    Bad("two open quotes", ("events.csv: line 2: item_id", r"'a,5,1\nu,b'", "holds a line end", "fix it"),
        log('u,"a,5,1', 'u,"b,5,2')),
    Bad("row behind quoted line ends and blank lines", ("events.csv: line 7: timestamp", "'noon' is no number", "fix"),
        "note," + HEADER + '"x\n\ny",u,a,5,1\n\n\nz,u,a,5,noon\n'),
]  # fmt: skip
BROKEN_IDS = [
    Bad("empty user", ("events.csv: line 3: user_id", "'' is no id", "fill it or remove"), log("u,a,5,1", ",a,5,2")),
    Bad("NaN item", ("events.csv: line 2: item_id", "'nan' is no id", "fill it or remove"), log("u,nan,5,1")),
    Bad("NULL user", ("events.csv: line 2: user_id", "'NULL' is no id", "fill it or remove"), log("NULL,a,5,1")),
    Bad("blank item", ("events.csv: line 2: item_id", "' ' is no id", "fill it or remove"), log("u, ,5,1")),
    Bad("zero byte in an id", ("events.csv: line 2: item_id", r"'a\x00'", "zero byte", "fix it"), log("u,a\0,5,1")),
    Bad("null in Parquet", (f"{PARQUET}: row group 1, row 5: item_id", "is missing", "fill it or remove"),
        parquet(item_id=put(ITEMS, 30, None)), PARQUET),
    Bad("NaN in Parquet", (f"{PARQUET}: row group 0, row 3: user_id", "'nan' is of type double", "fill the missing id"),
        parquet(user_id=put([1.0] * ROWS, 3, float("nan"))), PARQUET),
    Bad("floats in Parquet", (f"{PARQUET}: row group 0, row 0: item_id", "'1.0' is of type double", "integers"),
        parquet(item_id=[1.0, 2.0] * (ROWS // 2)), PARQUET),
    Bad("lists in Parquet", (f"{PARQUET}: row group 0, row 0: item_id", "'[1]' is of type list", "plain column"),
        parquet(item_id=[[1]] * ROWS), PARQUET),
    Bad("bytes in Parquet", (f"{PARQUET}: row group 0, row 0: user_id", "is of type binary", "text"),
        parquet(user_id=[b"a"] * ROWS), PARQUET),
]  # fmt: skip
BROKEN_TIMES = [
    Bad("before the year 1000", ("events.csv: line 3: timestamp", "'-31000000000' is in milliseconds or before", UNIT),
        log("u,a,5,1", "u,a,5,-31000000000")),
    Bad("milliseconds before the year 1000", ("line 3: timestamp", "'-31000000000000' is before the year 1000", UNIT),
        log("u,a,5,881250949000", "u,a,5,-31000000000000"), **MILLIS),
    Bad("absurd", ("events.csv: line 2: timestamp", "'99999999999999999999' is", "beyond the year 2100", UNIT),
        log("u,a,5,99999999999999999999")),
    Bad("milliseconds among seconds", ("line 3: timestamp", "'881250949000'", "milliseconds", UNIT),
        log("u,a,5,881250949", "u,a,5,881250949000")),
    Bad("seconds among milliseconds", ("line 3: timestamp", "'881250949'", "too small for milliseconds", UNIT),
        log("u,a,5,881250949000", "u,a,5,881250949"), **MILLIS),
    Bad("another form", ("line 3: timestamp", "'2025-01-03' is no time of the form '%d.%m.%Y'", "time_format"),
        HEADER + "u,a,5,31.12.2024\nu,a,5,2025-01-03\n", config=mapped(time_format="%d.%m.%Y")),
    Bad("a comma in a time", ("line 2: timestamp", "'100,5' has a decimal comma", "decimal: ','"),
        log('u,a,5,"100,5"')),
    Bad("a word", ("line 2: timestamp", "'noon' is no number", "time_format"), log("u,a,5,noon")),
    Bad("a date", ("line 2: timestamp", "'2024-01-01' is no number", "time_format"), log("u,a,5,2024-01-01")),
    Bad("nothing", ("line 2: timestamp", "'' is no number", "fix or remove"), log("u,a,5,")),
    Bad("infinity", ("line 2: timestamp", "'inf' is no finite number", "fix or remove"), log("u,a,5,inf")),
    Bad("no ISO time", ("line 3: timestamp", "'yesterday' is no ISO 8601 time", "write it like 2026-11-21T08:00:00"),
        HEADER + "u,a,5,2024-01-01T08:00:00Z\nu,a,5,yesterday\n", **ISO),
    Bad("ISO time of 2101", ("line 2: timestamp", "'2101-01-01' is beyond the year 2100", "fix or remove"),
        HEADER + "u,a,5,2101-01-01\n", **ISO),
    Bad("null in Parquet", (f"{PARQUET}: row group 1, row 0: timestamp", "is missing", "fill it or remove"),
        parquet(timestamp=put(TIMES, 25, None)), PARQUET),
    Bad("above 2^63 in Parquet", (f"{PARQUET}: row group 0, row 3: timestamp", f"'{2**64 - 1}' is", UNIT),
        parquet(timestamp=pa.array(put(TIMES, 3, 2**64 - 1), pa.uint64())), PARQUET),
    Bad("a timestamp of 999", (f"{PARQUET}: row group 0, row 1: timestamp", "'0999-12-31", "is before", "fix"),
        parquet(timestamp=pa.array(put(TIMES, 1, -30_610_224_007), pa.timestamp("s"))), PARQUET),
    Bad("a duration", (f"{PARQUET}: row group 0, row 0: timestamp", "is of type duration", "give dates"),
        parquet(timestamp=pa.array(TIMES, pa.duration("s"))), PARQUET),
    Bad("after the end", ("line 62: timestamp", "1060 is not before prepare.until 1060", "prepare.outside: drop"),
        GOOD + "u,a,5,1060\n", config=PrepareConfig(positive_from=4.0, until=1060)),
    Bad("before the begin", ("line 2: timestamp", "999 is before prepare.since 1000", "prepare.outside: drop"),
        log("u,a,5,999"), config=PrepareConfig(positive_from=4.0, since=1000)),
    Bad("all outside", ("time", "no event is left", "fix prepare.since and prepare.until"),
        config=PrepareConfig(positive_from=4.0, until=5, outside="drop")),
    Bad("out of order", ("events.csv: line 63: time", "1000 is earlier", "prepare.order: sort"),
        GOOD + "u0,i0,5,1070\nu0,i0,5,1000\n", config=PrepareConfig(positive_from=4.0, order="refuse")),
    Bad("twice", ("events.csv: line 62: user", "'u0'", "'i0'", "1000 occurs twice",
                  "prepare.duplicates: drop"), GOOD + LINES[0]),
    Bad("all at once", ("settings: prepare", "train period has 0 samples", "give more data"),
        HEADER + "".join(f"u{n % 3},i{n},{5 - 3 * (n % 2)},100\n" for n in range(ROWS)),
        config=PrepareConfig(positive_from=4.0)),
]  # fmt: skip
BROKEN_LABELS = [
    Bad("above the range", ("line 2: rating", "'6' is above 5", "label_range"), log("u,a,6,1"), **RANGE),
    Bad("below the range", ("line 2: rating", "'0' is below 1", "label_range"), log("u,a,0,1"), **RANGE),
    Bad("a word", ("line 3: rating", "'good' is no number", "fix or remove"), log("u,a,5,1", "u,a,good,2")),
    Bad("a decimal comma", ("line 3: rating", "'3,5' has a decimal comma", "prepare.columns.decimal: ','"),
        log("u,a,5,1", 'u,a,"3,5",2')),
    Bad("a point among commas", ("line 3: rating", "'3.5' has a point", "decimal is ','", "fix or remove"),
        log('u,a,"3,5",1', "u,a,3.5,2"), config=mapped(decimal=",")),
    Bad("a word without a number", ("line 3: rating", "'maybe' is not named in prepare.columns.label_values", "name"),
        log("u,a,yes,1", "u,a,maybe,2"), config=mapped(label_values={"yes": 1.0, "no": 0.0})),
    Bad("no word", ("line 2: rating", "'' is not named in prepare.columns.label_values", "name it"),
        log("u,a,,1", "u,a,no,2"), config=mapped(label_values={"yes": 1.0, "no": 0.0})),
    Bad("NaN", ("line 2: rating", "'nan' is no finite number", "fix or remove"), log("u,a,nan,1")),
    Bad("null in Parquet", (f"{PARQUET}: row group 2, row 9: rating", "is missing", "fill it or remove"),
        parquet(rating=put(RATINGS, 59, None)), PARQUET),
    Bad("lists in Parquet", (f"{PARQUET}: row group 0, row 0: rating", "'[1]' is of type list", "plain column"),
        parquet(rating=[[1]] * ROWS), PARQUET),
    Bad("no threshold", ("settings: prepare.positive_from", "runs from 2 to 5", "say from where it is positive"),
        config=PrepareConfig()),
    Bad("threshold too high", ("prepare.positive_from", "with 9 every event is negative", "inside that range"),
        config=PrepareConfig(positive_from=9.0)),
    Bad("threshold too low", ("prepare.positive_from", "with 2 every event is positive", "inside that range"),
        config=PrepareConfig(positive_from=2.0)),
    Bad("no positives", ("prepare.positive_from", "every event is negative", "from 0 to 0", "label: null"),
        HEADER + "".join(f"u{n % 3},i{n % 7},0,{n}\n" for n in range(ROWS)), config=PrepareConfig()),
    Bad("only positives", ("prepare.positive_from", "every event is positive", "from 1 to 1", "label: null"),
        HEADER + "".join(f"u{n % 3},i{n % 7},1,{n}\n" for n in range(ROWS)), config=PrepareConfig()),
]  # fmt: skip
BROKEN_ITEMS = [
    Bad("one item", ("item", "the log has one item ('a')", "give a log of more items"),
        HEADER + "".join(f"u{n % 3},a,{4 + n % 2},{n}\n" for n in range(ROWS))),
    Bad("item without a row", ("events.csv: line 2: item_id", "'x' has no row in the item table", "add it there"),
        log("u,x,5,1"), items=TITLES),
    Bad("item with two rows", ("items.csv: line 9: item_id", "'i3' has two rows", "keep one"),
        items=TITLES + "i3,Again\n"),
    Bad("item table without text", ("items.csv: title", "column is missing", "prepare.columns"),
        items=TITLES.replace("title", "name")),
    Bad("item table without ids", ("items.csv: item_id", "column is missing", "prepare.columns"),
        items=TITLES.replace("item_id", "id")),
    Bad("empty item table", ("items.csv", "is empty", "give a file"), items=""),
    Bad("item table of a header", ("items.csv", "has no rows", "give a file"), items="item_id,title\n"),
    Bad("item without an id", ("items.csv: line 2: item_id", "'' is no id", "fill it"),
        items=TITLES.replace("i0,", ",")),
    Bad("vectors of a wrong shape", ("vectors.npy: shape", "(28,)", "one row of numbers"), items=TITLES,
        vectors=npy(VECTORS.ravel())),
    Bad("vectors without width", ("vectors.npy: shape", "(7, 0)", "one row of numbers"), items=TITLES,
        vectors=npy(VECTORS[:, :0])),
    Bad("vectors of words", ("vectors.npy: shape", "type <U1", "one row of numbers"), items=TITLES,
        vectors=npy(np.full((7, 4), "a"))),
    Bad("vectors of objects", ("vectors.npy", "is no whole .npy file of numbers", "one row of numbers"), items=TITLES,
        vectors=npy(np.full((7, 4), None))),
    Bad("too few vectors", ("vectors.npy: rows", "has 6 rows, the item table has 7", "one vector per row"),
        items=TITLES, vectors=npy(VECTORS[:6])),
    Bad("a vector with NaN", ("vectors.npy: row 3, column 1", "'i3' has the value nan", "fix the vector"),
        items=TITLES, vectors=npy(np.where(VECTORS == 13, np.nan, VECTORS))),
    Bad("vectors cut", ("vectors.npy", "is no whole .npy file", "one row of numbers"), items=TITLES,
        vectors=npy(VECTORS)[:-9]),
    Bad("vectors in an archive", ("vectors.npy", "(.npz)", "one row of numbers"), items=TITLES, vectors=npz()),
    Bad("vectors without an item table", ("vectors without an item table", "name the table"), vectors=npy(VECTORS)),
]  # fmt: skip
GROUPS = {"files": BROKEN_FILES, "tables": BROKEN_TABLES, "ids": BROKEN_IDS, "times": BROKEN_TIMES,
          "labels": BROKEN_LABELS, "items": BROKEN_ITEMS}  # fmt: skip
ALL = [pytest.param(bad, id=f"{group}: {bad.name}") for group, bads in GROUPS.items() for bad in bads]


def write(home: Path, bad: Bad) -> Path:
    """The folder that `acquire` would leave."""
    raw = raw_log(home / "raw", GOOD, bad.items)
    (raw / "events" / "events.csv").unlink()
    path = raw / "events" / bad.file
    if callable(bad.events):
        bad.events(path)
    else:
        path.write_bytes(bad.events if isinstance(bad.events, bytes) else bad.events.encode())
    if bad.vectors is not None:
        (raw / "vectors.npy").write_bytes(bad.vectors)
    return raw


@pytest.mark.parametrize("bad", ALL)
def test_a_malformed_log_is_told_in_one_line_and_leaves_nothing(tmp_path: Path, bad: Bad) -> None:
    raw = write(tmp_path, bad)
    with says(*bad.parts):
        prepare_log(bad.config, raw, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [raw]


@pytest.mark.parametrize("file", ["events.csv", PARQUET])
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    raw = write(tmp_path, Bad("", (), parquet() if file == PARQUET else GOOD, file))
    really = Path.open

    def refuse(self: Path, *args: Any, **options: Any) -> Any:
        if self.name == file:
            raise PermissionError(13, "Permission denied", str(self))
        return really(self, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)  # whoever runs this may be allowed to read everything
    with says(file, "permission denied", "make it readable"):
        prepare_log(mapped(), raw, tmp_path / "out")


def test_the_good_log_of_these_tests_is_good(tmp_path: Path) -> None:
    raw = write(tmp_path, Bad("", (), GOOD, items=TITLES, vectors=npy(VECTORS)))
    prepare_log(mapped(), raw, tmp_path / "out")
    facts = EventStore.open(tmp_path / "out").manifest
    assert (facts.users, facts.items, facts.events) == (3, 7, ROWS)
    for name, content in ((PARQUET, parquet()), ("events.csv.gz", PACKED), ("events.csv.zst", zstd(GOOD))):
        raw = write(tmp_path / name, Bad("", (), content, name))
        prepare_log(mapped(), raw, tmp_path / name / "out")
        assert EventStore.open(tmp_path / name / "out").manifest.events == ROWS


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text(GOOD)
    raw = write(tmp_path, Bad("", (), linked(str(tmp_path / "there.csv"))))
    prepare_log(mapped(), raw, tmp_path / "out")
    assert EventStore.open(tmp_path / "out").manifest.events == ROWS


def test_one_user_is_enough(tmp_path: Path) -> None:
    rows = "".join(f"u,i{n % 7},{5 - 3 * (n % 2)},{n}\n" for n in range(ROWS))
    prepare_log(mapped(), write(tmp_path, Bad("", (), HEADER + rows)), tmp_path / "out")
    store = EventStore.open(tmp_path / "out")
    assert store.manifest.users == 1
    samples = [len(store.samples(split)) for split in ("train", "valid", "test")]
    assert min(samples) > 0
    assert sum(samples) == ROWS - 1  # the first event has no history


def test_users_of_the_test_period_only_are_kept_and_counted(tmp_path: Path) -> None:
    late = "".join(f"late,i{n % 7},{5 - 3 * (n % 2)},{1060 + n}\n" for n in range(10))
    prepare_log(mapped(), write(tmp_path, Bad("", (), GOOD + late)), tmp_path / "out")
    store = EventStore.open(tmp_path / "out")
    users = store.user_ids[store.samples("test")["user"]]
    assert "late" not in store.user_ids[store.samples("train")["user"]]
    assert 0 < store.manifest.profile.test_share_of_new_users == round(float((users == "late").mean()), 4)


ACQUIRED = {
    "null": (None, ("settings: acquire.path", "is null", "name your file")),
    "nothing there": ("gone.csv", ("settings: acquire.path", "gone.csv' is no file", "name an existing file")),
    "a folder without tables": (".", ("settings: acquire.path", "names no table", "name .csv, .tsv, .jsonl or")),
    "no table": ("notes.doc", ("settings: acquire.path", "notes.doc' has no suffix", "rename it")),
    "a link to nothing": ("link.csv", ("settings: acquire.path", "link.csv' is no file", "name an existing file")),
    "empty": ("empty.csv", ("empty.csv: acquire.path", "is empty", "name a file with a header and rows")),
}


@pytest.mark.parametrize("name", ACQUIRED)
def test_a_path_that_is_no_log_is_told_by_acquire(tmp_path: Path, name: str) -> None:
    home, (path, parts) = tmp_path / "home", ACQUIRED[name]
    home.mkdir()
    (home / "notes.doc").write_text("notes")
    (home / "link.csv").symlink_to("gone.csv")
    if name == "empty":
        (home / "empty.csv").touch()
    config = AcquireConfig(dataset="own", path=None if path is None else str(home / path))
    with says(*parts), stage_output(tmp_path / "out") as out:
        acquire(config, out=out)
    assert list(tmp_path.iterdir()) == [home]


@pytest.mark.parametrize("given", ["log", "items", "vectors"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, given: str) -> None:
    paths: dict[str, Path | None] = {"log": tmp_path / "log.csv", "items": None, "vectors": None}
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp,rating\na,b,1000000000,5\n")
    paths[given] = tmp_path / "pipe"
    os.mkfifo(tmp_path / "pipe")
    with says("pipe", "is a pipe or a device", "write what comes out of it to a file"):
        check(paths["log"] or Path(), paths["items"], paths["vectors"])
