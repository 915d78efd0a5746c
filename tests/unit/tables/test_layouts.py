"""Official layouts one by one: what a loader makes of the details, and what it says of damaged files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from acquiring import run_acquire
from kit import prepare_log, says

from hisac_lab.base.artifacts import read_manifest, write_manifest
from hisac_lab.config.acquire import AcquireConfig
from hisac_lab.config.events import PrepareConfig
from hisac_lab.events.store import EventStore
from hisac_lab.tables.columns import logged_role
from hisac_lab.tables.layouts import LOADERS
from hisac_lab.tables.layouts.contract import RawLog

SAMPLES = os.environ.get("HISAC_LAB_SAMPLES", "")
real = pytest.mark.skipif(not SAMPLES, reason="HISAC_LAB_SAMPLES names no folder with samples of the public sets")


def _load(folder: Path, layout: str, **settings: object) -> RawLog:
    return LOADERS[layout](folder, PrepareConfig.model_validate(settings))


def _items(log: RawLog) -> pd.DataFrame:
    assert log.items is not None
    return log.items().set_index("item")


def _column(log: RawLog, role: str) -> np.ndarray:
    return np.concatenate([np.asarray(block.columns[role]) for block in log.blocks()])


@pytest.mark.parametrize(
    ("write", "title"), [(layouts.movielens_csv, "Film 3, The"), (layouts.movielens_dat, "Misérable 3, Le")]
)
def test_movielens_items_have_title_genres_and_decade(
    tmp_path: Path, write: Callable[[Path], object], title: str
) -> None:
    write(tmp_path)
    table = _items(_load(tmp_path, "movielens"))
    genres = "Comedy Drama" if "Film" in title else "Comedy War"
    assert list(table.loc["3", ["text", "title", "genres"]]) == [f"{title}. {genres}", title, genres]
    assert table.loc["3", "decade"] == ("1980s" if "Film" in title else "1950s")
    if "Film" in title:
        assert table.loc["1", "genres"] == ""


def test_movielens_of_every_edition_comes_out_of_its_archive(tmp_path: Path) -> None:
    layouts.movielens_dat(tmp_path / "ml-1m")
    raw = run_acquire(AcquireConfig(dataset="movielens", path=str(tmp_path / "ml-1m")), tmp_path)
    assert sorted(raw["files"]) == ["movies.dat", "ratings.dat"]
    assert len(_column(_load(tmp_path / "acquire", "movielens"), "time")) == layouts.USERS * layouts.EVENTS


def test_kuairand_keeps_random_exposures_apart(tmp_path: Path) -> None:
    expected = layouts.kuairand(tmp_path / "raw")
    write_manifest(tmp_path / "raw", dataset="kuairand", layout="kuairand", files={})
    prepare_log(PrepareConfig(min_history=0), tmp_path / "raw", tmp_path / "prepared")
    store = EventStore.open(tmp_path / "prepared")
    assert len(store.samples("random")) == expected["random"].sum()
    assert sum(len(store.samples(split)) for split in ("train", "valid", "test")) == (~expected["random"]).sum()


def test_kuairand_features_are_words_and_codes(tmp_path: Path) -> None:
    layouts.kuairand(tmp_path)
    table = _items(_load(tmp_path, "kuairand"))
    assert table.loc["1", "text"] == "tag 12 tag 65 NORMAL LongImport music 9 author 7"
    assert list(table.loc["1", ["author", "tag", "kind", "upload", "music"]]) == [
        "7",
        "12",
        "NORMAL",
        "LongImport",
        "9",
    ]
    assert table.loc[str(layouts.ITEMS), "tag"] == "unknown"


def test_kuairand_has_many_kinds_of_feedback(tmp_path: Path) -> None:
    expected = layouts.kuairand(tmp_path)
    log = _load(tmp_path, "kuairand", feedback="long_view")
    assert _column(log, "label").tolist() == (1 - expected["label"]).tolist()


def test_kuairand_without_features_is_known_by_ids_alone(tmp_path: Path) -> None:
    layouts.kuairand(tmp_path)
    (tmp_path / "video_features_basic_pure.csv").unlink()
    log = _load(tmp_path, "kuairand")
    assert (log.items, log.fields) == (None, ())


def test_taobao_mm_keeps_the_published_split(tmp_path: Path) -> None:
    expected = layouts.taobao_mm(tmp_path / "raw")
    write_manifest(tmp_path / "raw", dataset="taobao-mm", layout="taobao-mm", files={})
    prepare_log(PrepareConfig(), tmp_path / "raw", tmp_path / "prepared")
    store = EventStore.open(tmp_path / "prepared")
    assert store.manifest.events_repeated == expected.duplicated(["user", "item", "time"]).sum() > 0
    users = {split: set(store.user_ids[store.samples(split)["user"]]) for split in ("train", "valid", "test")}
    assert all(name.startswith("test/") for name in users["test"])
    assert all(name.startswith("train/") for name in users["train"] | users["valid"])
    assert len(store.items) == (expected["part"] == 0).sum()
    facts = store.manifest.context  # times that are places in a user's order say nothing of an item
    assert (facts.series, facts.half_lives) == ((), ())
    for split in users:
        samples = store.samples(split)
        begin, end = store.offsets[samples["user"]], store.offsets[samples["user"] + 1]
        assert (samples["end"] == end).all()
        assert (end > begin).all()


def test_taobao_mm_reads_histories_oldest_first_without_padding(tmp_path: Path) -> None:
    layouts.taobao_mm(tmp_path)
    row = pq.read_table(tmp_path / "train_user_features.parquet").to_pylist()[4]
    block = next(iter(_load(tmp_path, "taobao-mm").blocks()))
    mine = np.asarray(block.columns["user"]) == f"train/{row['129_1']}"
    clicks = [str(item) for item in row["150_2_180"] if item]
    assert np.asarray(block.columns["item"])[mine].tolist() == clicks
    assert (np.diff(block.columns["time"][mine]) == 86_400).all()


def test_taobao_mm_vectors_are_divided_by_127_and_items_of_histories_have_their_category(tmp_path: Path) -> None:
    layouts.taobao_mm(tmp_path)
    log = _load(tmp_path, "taobao-mm")
    assert log.vectors is not None
    ids, vectors = next(log.vectors())
    stored = pq.read_table(tmp_path / "scl_embedding_int8_p90.parquet")
    assert ids == [str(item) for item in stored["205"].to_pylist()]
    np.testing.assert_array_equal(vectors, np.array(stored["205_c"].to_pylist(), np.float32) / np.float32(127))
    table = _items(log)
    row = pq.read_table(tmp_path / "test_user_features.parquet").to_pylist()[0]
    for item, category in zip(row["150_2_180"][-5:], row["151_2_180"][-5:], strict=True):
        assert table.loc[str(item), "category"] == str(category)
    assert set(table["field_213"].tail(3)) == {"unknown"}


def test_userbehavior_of_another_kind_and_its_categories(tmp_path: Path) -> None:
    layouts.taobao_userbehavior(tmp_path)
    log = _load(tmp_path, "taobao-userbehavior", feedback="buy")
    assert len(_column(log, "time")) == len(range(3, layouts.USERS * layouts.EVENTS, 7))
    assert list(_items(log).loc["4"]) == ["category 1", "1"]


def test_a_row_left_out_still_counts_for_the_line_of_the_next(tmp_path: Path) -> None:
    rows = ["1,1,1,buy,1511600000", "1,1,1,pv,1511600000", "1,2,1,cart,1511600000", "1,2,1,pv,1511600001"]
    (tmp_path / "UserBehavior.csv").write_text("\n".join(rows) + "\n")
    block = next(iter(_load(tmp_path, "taobao-userbehavior").blocks()))
    assert "line 4: timestamp" in str(block.refuse(1, "time", "odd", "fix it"))


def test_amazon_products_are_described_by_their_page(tmp_path: Path) -> None:
    layouts.amazon_ratings(tmp_path)
    table = _items(_load(tmp_path, "amazon-reviews-2023"))
    assert list(table.loc["2"]) == ["Book 2. Books Poetry. Long and good", "Books", "unknown", "Poetry"]
    assert list(table.loc["1", ["main_category", "category"]]) == ["unknown", "unknown"]
    assert str(layouts.ITEMS) not in table.index


def test_yambda_likes_and_what_is_known_of_tracks(tmp_path: Path) -> None:
    layouts.yambda_multi(tmp_path / "multi")
    labels = _column(_load(tmp_path / "multi", "yambda", feedback="like"), "label")
    assert np.bincount(labels.astype(int)).tolist() == [51, 52]
    log = _load(tmp_path / "multi", "yambda")
    assert list(_items(log).loc["5"]) == ["artist 1 album 1", "1", "1"]
    assert set(_column(log, logged_role("organic"))) == {0.0, 1.0}
    layouts.yambda_split(tmp_path / "split")
    assert set(_column(_load(tmp_path / "split", "yambda", feedback="like"), "label")) == {0.0, 1.0}


def test_lastfm_tracks_without_an_id_go_by_name(tmp_path: Path) -> None:
    layouts.lastfm_1k(tmp_path)
    table = _items(_load(tmp_path, "lastfm-1k"))
    assert list(table.loc["track-4"]) == ['Band 0. Song "4', "Band 0"]
    assert list(table.loc['Band 3 / Song "3']) == ['Band 3. Song "3', "Band 3"]


def test_vk_lsvd_is_split_by_weeks_as_published_and_else_by_shares(tmp_path: Path) -> None:
    week = layouts.VK_WEEK
    expected = layouts.vk_lsvd(tmp_path / "raw")
    write_manifest(tmp_path / "raw", dataset="vk-lsvd", layout="vk-lsvd", files={})
    prepare_log(PrepareConfig(min_history=0), tmp_path / "raw", tmp_path / "prepared")
    store = EventStore.open(tmp_path / "prepared")
    assert store.manifest.cuts == {"valid": 25 * week, "test": 26 * week}
    for split, begin, end in (("train", 0, 25), ("valid", 25, 26), ("test", 26, 27)):
        inside = (expected["time"] >= begin * week) & (expected["time"] < end * week)
        assert len(store.samples(split)) == inside.sum()
    own = PrepareConfig(cuts=(24 * week, 25 * week), min_history=0)
    prepare_log(own, tmp_path / "raw", tmp_path / "own")
    assert EventStore.open(tmp_path / "own").manifest.cuts == {"valid": 24 * week, "test": 25 * week}
    layouts.vk_lsvd(tmp_path / "part", (0, 1))
    assert _load(tmp_path / "part", "vk-lsvd").cuts is None


def test_vk_lsvd_items_are_those_shown_with_author_length_and_vector(tmp_path: Path) -> None:
    layouts.vk_lsvd(tmp_path)
    log = _load(tmp_path, "vk-lsvd")
    assert log.positive_from == 50
    table = _items(log)
    assert sorted(map(int, table.index)) == list(range(1, layouts.ITEMS + 1))  # of five more
    assert list(table.loc["7"]) == ["author 3", "3", "70"]
    assert log.vectors is not None
    stored = np.load(tmp_path / "item_embeddings.npz")
    by_id = dict(zip(stored["item_id"].tolist(), stored["embedding"].astype(np.float32), strict=True))
    vectors = {name: vector for ids, some in log.vectors() for name, vector in zip(ids, some, strict=True)}
    assert set(map(int, vectors)) == set(by_id) & set(map(int, table.index))
    for name, vector in vectors.items():
        np.testing.assert_array_equal(vector, by_id[int(name)])


def test_vk_lsvd_comes_out_of_a_folder_with_one_subsample(tmp_path: Path) -> None:
    layouts.vk_lsvd(tmp_path / "made")
    for name, place in (("week_25", "subsamples/ur0.01/validation"), ("items_metadata", "metadata")):
        (tmp_path / "data" / place).mkdir(parents=True)
        (tmp_path / "made" / f"{name}.parquet").rename(tmp_path / "data" / place / f"{name}.parquet")
    raw = run_acquire(AcquireConfig(dataset="vk-lsvd", path=str(tmp_path / "data")), tmp_path)
    assert sorted(raw["files"]) == ["items_metadata.parquet", "week_25.parquet"]


def test_changelog_items_are_words_of_the_path_and_the_unit_is_the_day(tmp_path: Path) -> None:
    layouts.gcc_changelog(tmp_path)
    table = _items(_load(tmp_path, "gcc-changelog", time_unit="day"))
    assert list(table.loc["3"]) == ["gcc config file 3 c", "gcc/config", "c", "gcc/config"]
    with says("settings", "prepare.time_unit", "'second'", "set it to day"):
        _load(tmp_path, "gcc-changelog")


@real
def test_real_movielens_latest_small(tmp_path: Path) -> None:
    sample = Path(SAMPLES) / "movielens-latest-small-2016"
    run_acquire(AcquireConfig(dataset="movielens", path=str(sample)), tmp_path)
    log = _load(tmp_path / "acquire", "movielens")
    assert len(_column(log, "time")) == 100_004
    assert len(set(_column(log, "user"))) == 671
    assert len(set(_column(log, "item"))) == 9_066
    assert list(_items(log).loc["1", ["title", "decade"]]) == ["Toy Story", "1990s"]
    write_manifest(tmp_path / "acquire", dataset="movielens", layout="movielens", files={})
    prepare_log(PrepareConfig(), tmp_path / "acquire", tmp_path / "prepared")
    assert read_manifest(tmp_path / "prepared")["events"] == 100_004


@real
def test_real_kuairand_features(tmp_path: Path) -> None:
    layouts.kuairand(tmp_path)
    path = "video_features_basic_pure.csv"
    (tmp_path / path).write_bytes((Path(SAMPLES) / "kuairand-pure-features" / path).read_bytes())
    table = _items(_load(tmp_path, "kuairand"))
    assert len(table) == 7_583
    assert list(table.loc["0", ["author", "tag", "kind", "music"]]) == ["7349781", "39", "NORMAL", "9"]
    assert (table["text"] != "").all()


@real
def test_real_taobao_mm_sample(tmp_path: Path) -> None:
    run_acquire(AcquireConfig(dataset="taobao-mm", path=str(Path(SAMPLES) / "taobao-mm-demo")), tmp_path)
    log = _load(tmp_path / "acquire", "taobao-mm")
    assert np.bincount(_column(log, "part")).tolist() == [19_351, 10, 10]
    assert _column(log, "label")[_column(log, "part") > 0].sum() == 1
    assert log.vectors is not None
    (ids, vectors), *_ = log.vectors()
    assert (len(ids), vectors.shape) == (10, (10, 128))
    assert np.abs(vectors).max() <= 1
