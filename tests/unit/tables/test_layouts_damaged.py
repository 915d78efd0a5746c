"""Damaged files in official layouts: each is told by file, place, field and value."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kit import says
from layouts import (
    amazon_ratings,
    amazon_raw,
    kuairand,
    lastfm_1k,
    movielens_csv,
    movielens_dat,
    taobao_mm,
    taobao_userbehavior,
    vk_lsvd,
    yambda_multi,
)

from hisac_lab.config.events import PrepareConfig
from hisac_lab.tables.layouts import LOADERS

Spoil = Callable[[Path], object]
Write = Callable[[Path], object]


def _edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


def _lists(path: Path, column: str, row: int, value: object) -> None:
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[row] = value
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, column, pa.array(values, table[column].type)), path, row_group_size=5)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _line(path: Path, number: int, text: str) -> None:
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    lines[number] = text
    path.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))


MM_USERS, MM_SAMPLES, MM_VECTORS = (
    "train_user_features.parquet",
    "test_samples.parquet",
    "scl_embedding_int8_p90.parquet",
)
BAD: list[tuple[str, str, Write, Spoil, tuple[str, ...]]] = [
    (
        "stars",
        "movielens",
        movielens_csv,
        lambda f: _edit(f / "ratings.csv", ",4.5,", ",9,"),
        ("ratings.csv", "rating", "'9'", "above 5"),
    ),
    ("no movies", "movielens", movielens_csv, lambda f: (f / "movies.csv").unlink(), ("movies.csv", "does not exist")),
    (
        "short dat row",
        "movielens",
        movielens_dat,
        lambda f: _edit(f / "ratings.dat", "1::", ""),
        ("ratings.dat", "line 1", "has 3 values"),
    ),
    (
        "time in seconds",
        "kuairand",
        kuairand,
        lambda f: _edit(f / "log_random_4_22_to_5_08_pure.csv", "000123,", ","),
        ("log_random", "time_ms", "too small for milliseconds"),
    ),
    (
        "flag",
        "kuairand",
        kuairand,
        lambda f: _edit(f / "log_standard_4_08_to_4_21_pure.csv", "000123,1", "000123,2"),
        ("is_click", "'2'", "above 1"),
    ),
    (
        "column",
        "kuairand",
        kuairand,
        lambda f: _edit(f / "video_features_basic_pure.csv", "tag", "tags"),
        ("video_features", "tag", "column is missing"),
    ),
    (
        "long history",
        "taobao-mm",
        taobao_mm,
        lambda f: _lists(f / MM_USERS, "150_2_180", 7, [1] * 1001),
        (MM_USERS, "row group 1, row 2: 150_2_180", "more than 1000"),
    ),
    (
        "uneven lists",
        "taobao-mm",
        taobao_mm,
        lambda f: _lists(f / MM_USERS, "151_2_180", 2, [1]),
        (MM_USERS, "row group 0, row 2: 151_2_180", "another length"),
    ),
    (
        "hole in a list",
        "taobao-mm",
        taobao_mm,
        lambda f: _lists(f / MM_VECTORS, "205_c", 3, [None] * 128),
        (MM_VECTORS, "row 3: 205_c", "has a hole"),
    ),
    (
        "user twice",
        "taobao-mm",
        taobao_mm,
        lambda f: _lists(f / MM_USERS, "129_1", 1, pq.read_table(f / MM_USERS)["129_1"][0].as_py()),
        (MM_USERS, "row 1: 129_1", "two histories"),
    ),
    (
        "both labels",
        "taobao-mm",
        taobao_mm,
        lambda f: _lists(f / MM_SAMPLES, "label_0", 6, [1, 1]),
        (MM_SAMPLES, "row group 1, row 1: label_0", "[1, 0] and [0, 1]"),
    ),
    (
        "label of three",
        "taobao-mm",
        taobao_mm,
        lambda f: _lists(f / MM_SAMPLES, "label_0", 0, [1, 0, 0]),
        (MM_SAMPLES, "row 0: label_0", "not two values"),
    ),
    (
        "no user",
        "taobao-mm",
        taobao_mm,
        lambda f: _lists(f / MM_SAMPLES, "129_1", 9, None),
        (MM_SAMPLES, "row group 1, row 4: 129_1", "is missing"),
    ),
    (
        "short vector",
        "taobao-mm",
        taobao_mm,
        lambda f: _lists(f / MM_VECTORS, "205_c", 1, [1]),
        (MM_VECTORS, "row 1: 205_c", "not 128 numbers"),
    ),
    ("cut file", "taobao-mm", taobao_mm, lambda f: _cut(f / MM_USERS), (MM_USERS, "no whole Parquet file")),
    (
        "behavior",
        "taobao-userbehavior",
        taobao_userbehavior,
        lambda f: _edit(f / "UserBehavior.csv", ",buy,", ",look,"),
        ("UserBehavior.csv", "line 4: behavior_type", "'look' is none of"),
    ),
    (
        "broken gzip",
        "amazon-reviews-2023",
        amazon_ratings,
        lambda f: _cut(f / "Books.csv.gz"),
        ("Books.csv.gz", "broken or end early"),
    ),
    (
        "broken gzip of json",
        "amazon-reviews-2023",
        amazon_raw,
        lambda f: _cut(f / "Books.jsonl.gz"),
        ("Books.jsonl.gz", "broken or end early"),
    ),
    (
        "no json",
        "amazon-reviews-2023",
        amazon_raw,
        lambda f: _line(f / "Books.jsonl.gz", 3, "{oops"),
        ("Books.jsonl.gz", "line 4", "'{oops"),
    ),
    (
        "json of another type",
        "amazon-reviews-2023",
        amazon_raw,
        lambda f: _line(f / "Books.jsonl.gz", 3, '{"rating": "five"}'),
        ("Books.jsonl.gz", "line 4"),
    ),
    (
        "json without a user",
        "amazon-reviews-2023",
        amazon_raw,
        lambda f: _line(f / "Books.jsonl.gz", 5, '{"rating": 1}'),
        ("Books.jsonl.gz", "line 6: user_id", "missing"),
    ),
    (
        "listen without a value",
        "yambda",
        yambda_multi,
        lambda f: _lists(f / "multi_event.parquet", "played_ratio_pct", 0, None),
        ("multi_event.parquet", "row 0: played_ratio_pct", "no value"),
    ),
    (
        "short embedding",
        "yambda",
        yambda_multi,
        lambda f: _lists(f / "embeddings.parquet", "normalized_embed", 6, [0.5]),
        ("embeddings.parquet", "row group 1, row 1", "not 8 numbers"),
    ),
    (
        "no length",
        "vk-lsvd",
        vk_lsvd,
        lambda f: _lists(f / "week_24.parquet", "item_id", 7, 99),
        ("week_24.parquet", "row group 1, row 2: item_id", "99 has no row in items_metadata.parquet"),
    ),
    (
        "reaction",
        "vk-lsvd",
        vk_lsvd,
        lambda f: _lists(f / "week_25.parquet", "timespent", 0, None),
        ("week_25.parquet", "row group 0, row 0: timespent", "is missing"),
    ),
    ("no lengths", "vk-lsvd", vk_lsvd, lambda f: (f / "items_metadata.parquet").unlink(), ("does not exist",)),
    (
        "cut vectors",
        "vk-lsvd",
        vk_lsvd,
        lambda f: _cut(f / "item_embeddings.npz"),
        ("item_embeddings.npz", "is no archive of item_id and embedding"),
    ),
    (
        "fewer vectors",
        "vk-lsvd",
        vk_lsvd,
        lambda f: np.savez(f / "item_embeddings.npz", item_id=np.arange(3), embedding=np.zeros((2, 4))),
        ("item_embeddings.npz", "shape (2, 4)"),
    ),
    (
        "no time",
        "lastfm-1k",
        lastfm_1k,
        lambda f: _edit(f / "userid-timestamp-artid-artname-traid-traname.tsv", "Z\t", "?\t"),
        ("tsv", "line 1: timestamp", "ISO 8601"),
    ),
]


@pytest.mark.parametrize(
    ("layout", "write", "spoil", "parts"), [bad[1:] for bad in BAD], ids=[f"{bad[1]}: {bad[0]}" for bad in BAD]
)
def test_a_damaged_file_is_told_by_place_and_value(
    tmp_path: Path, layout: str, write: Write, spoil: Spoil, parts: tuple[str, ...]
) -> None:
    write(tmp_path)
    spoil(tmp_path)
    with says(str(tmp_path), *parts):
        log = LOADERS[layout](tmp_path, PrepareConfig())
        list(log.blocks())
        if log.items:
            log.items()
        list(log.vectors() if log.vectors else [])
