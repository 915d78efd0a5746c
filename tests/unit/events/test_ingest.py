"""The pass over the log: numbers, hashes, shards, cuts, births, vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import prepare_log, raw_log, says

from hisac_lab.base.artifacts import load_array, read_manifest
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.events.ingest import ingest
from hisac_lab.events.items import natural_order
from hisac_lab.events.store import SPLITS, EventStore
from hisac_lab.events.users import hash_ids, shard_of
from hisac_lab.tables import read as tables

CLICKS = PrepareConfig(columns=ColumnsConfig(label=None))


def _log(rows: int = 400, span: int = 3_000_000, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    log = pd.DataFrame(
        {
            "user": random.integers(0, 30, rows),
            "item": random.integers(0, 25, rows),
            "time": 1_500_000_000 + random.integers(0, span, rows),
        }
    )
    return log.drop_duplicates(ignore_index=True)


def _ingest(home: Path, log: pd.DataFrame, config: PrepareConfig = CLICKS) -> Path:
    out = home / "ingest"
    out.mkdir()
    ingest(config, raw=raw_log(home / "raw", log), out=out)
    return out


@given(shards=st.integers(1, 9), more=st.integers(1, 9))
@settings(max_examples=30)
def test_a_shard_is_a_range_of_hashes(shards: int, more: int) -> None:
    hashes = np.sort(hash_ids([f"user {number}" for number in range(500)]))
    found = shard_of(hashes, shards)
    assert (np.diff(found) >= 0).all()
    assert set(found) <= set(range(shards))
    assert np.bincount(found, minlength=shards).min() > 250 / shards
    # A shard of the coarse division is a union of shards of a finer one.
    finer = shard_of(hashes, shards * more)
    np.testing.assert_array_equal(finer // more, found)


@pytest.mark.parametrize(
    ("ids", "order"),
    [
        (["10", "9", "-1"], [2, 1, 0]),
        (["b", "a", "10"], [2, 1, 0]),
        ([str(2**70), "3"], [0, 1]),
        (["007", "7", "1"], [2, 0, 1]),
    ],
    ids=["numbers", "text", "too large for numbers", "equal numbers"],
)
def test_items_are_ordered_as_people_expect(ids: list[str], order: list[int]) -> None:
    assert natural_order(pa.array(ids)).tolist() == order


@given(seed=st.integers(0, 1000), span=st.sampled_from([50, 70_000, 40_000_000]), share=st.sampled_from([0.3, 0.7]))
@settings(max_examples=15, deadline=None)
def test_cuts_are_exact_order_statistics(
    tmp_path_factory: pytest.TempPathFactory, seed: int, span: int, share: float
) -> None:
    log = _log(300, span, seed)
    config = PrepareConfig(columns=ColumnsConfig(label=None), train_share=share, valid_share=0.15)
    facts = read_manifest(_ingest(tmp_path_factory.mktemp("cuts"), log, config))
    times = np.sort(log["time"].to_numpy())
    assert facts["cuts"] == [times[int(part * len(times))] for part in (share, share + 0.15)]


def test_births_are_first_events_and_users_stand_in_the_order_of_their_hashes(tmp_path: Path) -> None:
    log = _log()
    out = _ingest(tmp_path, log)
    items = pd.read_parquet(out / "items.parquet")["item"].astype(int)
    first = log.groupby("item")["time"].min()
    assert load_array(out, "births").tolist() == first.loc[items].tolist()
    users = pd.read_parquet(out / "users.parquet")["user"].tolist()
    hashes = hash_ids(users)
    assert (np.diff(hashes.astype(np.float64)) > 0).all()
    np.testing.assert_array_equal(load_array(out, "user_hashes"), hashes)
    begins = read_manifest(out)["shard_begins"]
    for index in (0, 1):
        codes = load_array(out, "user_codes")[pq.read_table(out / f"events-{index}.parquet")["user"].to_numpy()]
        assert begins[index] <= codes.min()
        assert codes.max() < begins[index + 1]


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_the_size_of_a_block_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    log = _log(2_000)
    raw = raw_log(tmp_path / "raw", log)
    if name == "parquet":
        (raw / "events" / "events.csv").unlink()
        frame = log.rename(columns={"user": "user_id", "item": "item_id", "time": "timestamp"})
        frame.to_parquet(raw / "events" / "events.parquet", index=False)
    prepare_log(CLICKS, raw, tmp_path / "whole")
    monkeypatch.setattr(tables, "BLOCK_ROWS", 37)
    monkeypatch.setattr(tables, "BLOCK_BYTES", 500)
    prepare_log(CLICKS, raw, tmp_path / "parts")
    whole, parts = EventStore.open(tmp_path / "whole"), EventStore.open(tmp_path / "parts")
    assert whole.manifest == parts.manifest
    np.testing.assert_array_equal(whole.items, parts.items)
    for split in SPLITS:
        np.testing.assert_array_equal(whole.samples(split), parts.samples(split))


def test_several_files_are_one_log(tmp_path: Path) -> None:
    log = _log()
    raw = raw_log(tmp_path / "raw", log)
    whole = (raw / "events" / "events.csv").read_text().splitlines(keepends=True)
    prepare_log(CLICKS, raw, tmp_path / "one")
    (raw / "events" / "events.csv").unlink()
    (raw / "events" / "a.csv").write_text("".join(whole[:150]))
    (raw / "events" / "b.csv").write_text(whole[0] + "".join(whole[150:]))
    prepare_log(CLICKS, raw, tmp_path / "two")
    one, two = EventStore.open(tmp_path / "one"), EventStore.open(tmp_path / "two")
    for split in SPLITS:
        np.testing.assert_array_equal(one.samples(split), two.samples(split))


def test_a_later_file_is_named_with_its_own_line(tmp_path: Path) -> None:
    log = _log(60)
    raw = raw_log(tmp_path / "raw", log)
    header = "user_id,item_id,timestamp\n"
    again = log.iloc[7]
    (raw / "events" / "later.csv").write_text(f"{header}5,5,1700000000\n{again.user},{again['item']},{again.time}\n")
    with says("later.csv", "line 3: user_id, item_id, timestamp", "occurs twice", "prepare.duplicates: drop"):
        prepare_log(CLICKS, raw, tmp_path / "out")


def test_events_outside_the_bounds_are_dropped_and_counted(tmp_path: Path) -> None:
    log = _log()
    since, until = np.quantile(log["time"], [0.1, 0.9]).astype(int).tolist()
    inside = int(((log["time"] >= since) & (log["time"] < until)).sum())
    config = CLICKS.model_copy(update={"since": since, "until": until, "outside": "drop"})
    prepare_log(config, raw_log(tmp_path / "raw", log), tmp_path / "out")
    facts = read_manifest(tmp_path / "out")
    assert (facts["events"], facts["events_outside"]) == (inside, len(log) - inside)


def test_keep_draws_whole_requests_and_leaves_histories_alone(tmp_path: Path) -> None:
    log = _log(3_000)
    raw = raw_log(tmp_path / "raw", log)
    prepare_log(CLICKS, raw, tmp_path / "whole")
    keep = {"train": 0.3, "valid": 1.0, "test": 0.5}
    prepare_log(PrepareConfig.model_validate(CLICKS.model_dump() | {"keep": keep}), raw, tmp_path / "some")
    whole, some = EventStore.open(tmp_path / "whole"), EventStore.open(tmp_path / "some")
    np.testing.assert_array_equal(whole.items, some.items)
    for split, share in keep.items():
        all_, kept = whole.samples(split), some.samples(split)
        assert set(kept["request"]) <= set(all_["request"])
        assert np.isin(all_["request"], kept["request"]).sum() == len(kept)
        assert abs(len(np.unique(kept["request"])) / len(np.unique(all_["request"])) - share) < 0.1
    assert some.manifest.samples_not_kept > 0


def test_vectors_follow_the_items_and_a_missing_one_is_zero(tmp_path: Path) -> None:
    raw = raw_log(tmp_path / "raw", _log(), "item_id,title\n" + "".join(f"{n},item {n}\n" for n in reversed(range(26))))
    vectors = np.random.default_rng(0).normal(size=(26, 3)).astype(np.float32)
    np.save(raw / "vectors.npy", vectors)
    prepare_log(CLICKS, raw, tmp_path / "out")
    np.testing.assert_array_equal(load_array(tmp_path / "out", "vectors"), vectors[::-1])


def test_popular_items_are_drawn_more_often(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    item = np.minimum(random.zipf(1.5, 4_000), 20)
    log = pd.DataFrame({"user": random.integers(0, 40, 4_000), "item": item, "time": 1_000_000 + np.arange(4_000) * 50})
    raw = raw_log(tmp_path / "raw", log)
    share = {}
    for by in ("uniform", "popularity"):
        config = CLICKS.model_copy(update={"negatives_by": by})
        prepare_log(config, raw, tmp_path / by)
        samples = EventStore.open(tmp_path / by).samples("train")
        drawn = samples["item"][samples["label"] == 0]
        share[by] = float(np.mean(drawn == samples["item"].min()))
    top = float(np.mean(item == 1))
    assert abs(share["uniform"] - 1 / 20) < 0.03
    assert share["popularity"] > 0.5 * top  # positives of the same request are left out, so it stays below the share
