"""Preparing: the rules for order, duplicates, labels and splits, and what the manifest says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kit import HEADER, Stages, prepare_log, raw_log, says
from tiny import make_log, write_csv

from hisac_lab.base.artifacts import read_manifest, sha256_tree, write_manifest
from hisac_lab.base.errors import UserError
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.events.ingest import ingest
from hisac_lab.events.store import SAMPLE, SPLITS, EventStore

THRESHOLD = {"positive_from": 4.0}


def _prepare(home: Path, events: pd.DataFrame | str, config: PrepareConfig, name: str = "out") -> EventStore:
    settings = config if config.positive_from or isinstance(events, str) else config.model_copy(update=THRESHOLD)
    prepare_log(settings, raw_log(home / f"{name}-raw", events), home / name)
    return EventStore.open(home / name)


def _log(rows: int = 60) -> pd.DataFrame:
    """One event a second of three users in turn; every third rating is high."""
    number = np.arange(rows)
    rating = np.where(number % 3 == number // 9 % 3, 5, 2)
    return pd.DataFrame({"user": number % 3, "item": number % 7, "rating": rating, "time": 1000 + number})


def test_the_stage_gives_the_same_bytes_again(stages: Stages, tmp_path: Path) -> None:
    prepare_log(PrepareConfig(history="positives"), stages.acquire, tmp_path / "again")
    assert sha256_tree(tmp_path / "again") == sha256_tree(stages.prepare)


def test_the_manifest_counts_what_is_there(store: EventStore) -> None:
    events, table = make_log()
    facts = store.manifest
    assert facts.users == events["user"].nunique() == len(store.user_ids)
    assert facts.items == len(table) == len(store.item_table)
    assert facts.events == len(events)
    assert facts.history_events == int((events["rating"] >= 4).sum()) == len(store.items)
    samples = {split: store.samples(split) for split in SPLITS}
    assert sum(map(len, samples.values())) + facts.samples_without_history == len(events)
    for split, rows in samples.items():
        assert rows.dtype == SAMPLE
        assert facts.splits[split].samples == len(rows)
        assert facts.splits[split].requests == len(np.unique(rows["request"]))
    assert [field.facts() for field in facts.fields] == [{"name": "genres", "size": 6}, {"name": "decade", "size": 5}]
    months = pd.to_datetime(events["time"], unit="s").dt.strftime("%Y-%m")
    assert {month: row.events for month, row in facts.profile.months.items()} == months.value_counts().to_dict()
    shares = (events["rating"] >= 4).groupby(months).mean()
    for month, row in facts.profile.months.items():
        assert row.positive_share == pytest.approx(shares[month], abs=1e-4)


def test_items_are_numbered_in_natural_order_and_fields_coded(store: EventStore) -> None:
    assert store.item_table["item"].tolist() == [str(number) for number in range(1, 81)]
    for column, name in enumerate(("genres", "decade")):
        levels = sorted(store.item_table[name].unique())
        assert [levels[code] for code in store.item_fields[:, column]] == store.item_table[name].tolist()


def test_order_and_layout_of_the_file_do_not_matter(store: EventStore, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_csv(raw)
    (raw / "events").mkdir()
    log = pd.read_csv(raw / "events.csv").sort_values(["timestamp", "user_id", "item_id"])
    log.to_parquet(raw / "events" / "log.parquet", index=False)
    (raw / "events.csv").unlink()
    write_manifest(raw, dataset="own", layout="own", files={})
    prepare_log(PrepareConfig(positive_from=4, history="positives"), raw, tmp_path / "out")
    other = EventStore.open(tmp_path / "out")
    for split in SPLITS:
        np.testing.assert_array_equal(np.sort(other.samples(split)["time"]), np.sort(store.samples(split)["time"]))
    assert other.manifest.cuts == store.manifest.cuts


def test_unsorted_events_are_sorted_and_counted_or_refused(tmp_path: Path) -> None:
    events = _log()
    events.loc[[10, 13], "time"] = events.loc[[13, 10], "time"].to_numpy()
    assert _prepare(tmp_path, events, PrepareConfig()).manifest.events_out_of_order == 1
    with says("events.csv", "line 15: time", "value 1010 is earlier", "prepare.order: sort"):
        _prepare(tmp_path, events, PrepareConfig(order="refuse"), "refused")


def test_sorted_events_pass_where_unsorted_ones_are_refused(tmp_path: Path) -> None:
    assert _prepare(tmp_path, _log(), PrepareConfig(order="refuse")).manifest.events_out_of_order == 0


def test_repeated_events_are_refused_or_dropped(tmp_path: Path) -> None:
    events = pd.concat([_log(), _log().iloc[[20]].assign(rating=1)])
    with says(
        "events.csv",
        "line 62: user_id, item_id, timestamp",
        "user '2', item '6', time 1020",
        "prepare.duplicates: drop",
    ):
        _prepare(tmp_path, events, PrepareConfig())
    config = PrepareConfig(duplicates="drop", cuts=(1042, 1048))
    dropped, plain = _prepare(tmp_path, events, config, "dropped"), _prepare(tmp_path, _log(), config, "plain")
    assert dropped.manifest.events == 60
    assert (dropped.manifest.events_repeated, plain.manifest.events_repeated) == (1, 0)
    for split in SPLITS:
        np.testing.assert_array_equal(dropped.samples(split), plain.samples(split))


@pytest.mark.parametrize(("threshold", "only"), [(6.0, "negative"), (0.5, "positive")])
def test_labels_of_one_kind_are_refused(tmp_path: Path, threshold: float, only: str) -> None:
    with says("settings", "prepare.positive_from", f"{threshold:g}", f"every event is {only}"):
        _prepare(tmp_path, _log(), PrepareConfig(positive_from=threshold))


@pytest.mark.parametrize(
    ("config", "split"),
    [
        (PrepareConfig(train_share=0.7, valid_share=0.001), "valid"),
        (PrepareConfig(train_share=0.01), "train"),
        (PrepareConfig(train_share=0.7, valid_share=0.29), "test"),
        (PrepareConfig(min_history=30), "train"),
        (PrepareConfig(time_unit="day"), "train"),
    ],
    ids=["no validation", "no training", "no test", "no history", "all on one day"],
)
def test_a_period_without_both_labels_is_refused(tmp_path: Path, config: PrepareConfig, split: str) -> None:
    with says("settings", f"the {split} period has", "prepare.train_share"):
        _prepare(tmp_path, _log(), config)


def test_a_day_as_unit_hides_the_whole_day(tmp_path: Path) -> None:
    events = _log(300).assign(time=lambda table: 86_400 * 20_000 + np.arange(len(table)) * 7_000)
    store = _prepare(tmp_path, events, PrepareConfig(time_unit="day", history="all"))
    samples = store.samples("test")
    start, end = store.bounds(samples)
    last = store.times[end - 1]
    assert (start < end).all()
    assert (last // 86_400 < samples["time"] // 86_400).all()
    assert ((samples["time"] - last) > 7_000 * 3).any()  # events of the same day exist and are left out
    assert all(cut % 86_400 == 0 for cut in store.manifest.cuts.values())


def test_the_protocol_changes_with_settings_and_data_only(tmp_path: Path) -> None:
    config = PrepareConfig()
    protocols = [
        _prepare(tmp_path, events, changed, name).manifest.protocol
        for name, events, changed in [
            ("one", _log(), config),
            ("again", _log(), config),
            ("limit", _log(), PrepareConfig(history_limit=5)),
            ("data", _log(61), config),
        ]
    ]
    assert protocols[0] == protocols[1]
    assert len(set(protocols)) == 3


def test_a_log_without_feedback_takes_clicks_for_positives(tmp_path: Path) -> None:
    events = _log().drop(columns="rating")
    store = _prepare(tmp_path, events, PrepareConfig(columns=ColumnsConfig(label=None), negatives=2))
    assert store.manifest.history_events == len(events)
    assert 0.3 < store.manifest.splits["train"].positive_share < 0.6
    again = _prepare(tmp_path, events, PrepareConfig(columns=ColumnsConfig(label=None), negatives=2), "again")
    other = _prepare(tmp_path, events, PrepareConfig(columns=ColumnsConfig(label=None), negatives=2, seed=1), "other")
    np.testing.assert_array_equal(store.samples("train"), again.samples("train"))
    assert store.samples("train").tobytes() != other.samples("train").tobytes()


def test_a_stage_that_has_not_run_is_named(tmp_path: Path) -> None:
    with says("manifest.json", "does not exist", "run the stage"):
        ingest(PrepareConfig(), raw=tmp_path, out=tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        EventStore.open(tmp_path)


def test_a_header_alone_stops_the_stage_and_leaves_no_manifest(tmp_path: Path) -> None:
    with says("events.csv", "no rows"):
        _prepare(tmp_path, HEADER, PrepareConfig())
    with pytest.raises(UserError):
        read_manifest(tmp_path / "out")
