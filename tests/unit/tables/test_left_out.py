"""Rows that cannot be used and events on unknown items: refused in one line, or left out and counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from checked import pasted, run
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import prepare_log, raw_log, says

from hisac_lab.base.artifacts import sha256_file, write_manifest
from hisac_lab.config.events import ColumnsConfig, PrepareConfig
from hisac_lab.events.store import SPLITS, EventStore
from hisac_lab.tables import read as tables

CONFIG = PrepareConfig(columns=ColumnsConfig(label_range=(1, 5)), positive_from=4, min_history=0)
DROP = CONFIG.model_copy(update={"bad_rows": "drop", "unknown_items": "drop"})
BAD = {
    "no user": ({"user_id": ""}, "user_id is no id"),
    "null": ({"item_id": "null"}, "item_id is no id"),
    "no user and no time": ({"user_id": " ", "timestamp": "never"}, "user_id is no id"),
    "no time": ({"timestamp": "yesterday"}, "timestamp is no number"),
    "too high": ({"rating": "9"}, "rating is above 5"),
}


def _log(rows: int = 300, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    columns = {
        "user_id": random.integers(0, 12, rows),
        "item_id": random.integers(0, 25, rows),
        "rating": random.integers(1, 6, rows),
        "timestamp": 1_500_000_000 + random.permutation(rows) * 1000,
    }
    return pd.DataFrame(columns).astype(str)


def _write(folder: Path, log: pd.DataFrame, kind: str) -> Path:
    raw = raw_log(folder, "")
    (raw / "events" / "events.csv").unlink()
    path = raw / "events" / f"events.{kind}"
    if kind == "csv":
        log.to_csv(path, index=False, lineterminator="\n")
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in log.to_dict("records")))
    else:
        log.to_parquet(path, index=False)
    write_manifest(raw, dataset="own", layout="own", files={f"events/{path.name}": sha256_file(path)})
    return raw


def _store(folder: Path, raw: Path, config: PrepareConfig) -> EventStore:
    prepare_log(config, raw, folder)
    return EventStore.open(folder)


def _same(one: EventStore, other: EventStore) -> None:
    assert (one.manifest.users, one.manifest.items, one.manifest.events) == (
        other.manifest.users,
        other.manifest.items,
        other.manifest.events,
    )
    np.testing.assert_array_equal(one.items, other.items)
    np.testing.assert_array_equal(one.times, other.times)
    for split in SPLITS:
        np.testing.assert_array_equal(one.samples(split), other.samples(split))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_bad_rows_are_refused_with_the_mend_or_left_out_and_counted(tmp_path: Path, kind: str) -> None:
    clean = _log()
    rows = [clean.iloc[[7]].assign(**changes) for changes, _ in BAD.values()]
    dirty = pd.concat([clean[:100], *rows, clean[100:], rows[0]], ignore_index=True)
    raw = _write(tmp_path / "raw", dirty, kind)
    with says(f"events.{kind}", "user_id", "is no id; fill it or remove the row, or set prepare.bad_rows: drop"):
        _store(tmp_path / "refused", raw, CONFIG)
    dropped = _store(tmp_path / "dropped", raw, DROP)
    _same(dropped, _store(tmp_path / "clean", _write(tmp_path / "raw2", clean, kind), CONFIG))
    assert dropped.manifest.left_out == {  # each row once, though one has two reasons
        "item_id is no id": 1,
        "rating is above 5": 1,
        "timestamp is no number": 1,
        "user_id is no id": 3,
    }


def test_rows_of_another_number_of_values_are_bad_rows_too(tmp_path: Path) -> None:
    lines = _log().to_csv(index=False, lineterminator="\n").splitlines(keepends=True)
    raw = raw_log(tmp_path / "raw", "".join([*lines[:50], "1,2\n", *lines[50:], "1,2,3,4,5\n"]))
    with says("line 51", "has 2 values, the header names 4 columns", "or set prepare.bad_rows: drop"):
        _store(tmp_path / "refused", raw, CONFIG)
    dropped = _store(tmp_path / "dropped", raw, DROP)
    _same(dropped, _store(tmp_path / "clean", raw_log(tmp_path / "raw2", "".join(lines)), CONFIG))
    assert dropped.manifest.left_out == {
        "has 2 values, the header names 4 columns": 1,
        "has 5 values, the header names 4 columns": 1,
    }


@given(bad=st.sets(st.integers(0, 120), max_size=40), ragged=st.sets(st.integers(0, 120), max_size=20))
@settings(max_examples=25, deadline=None)
def test_places_in_the_file_are_right_whatever_was_left_out_before(
    tmp_path_factory: pytest.TempPathFactory, bad: set[int], ragged: set[int]
) -> None:
    """An event that occurs twice is named by its line, between rows that are left out, over many blocks."""
    home, monkeypatch = tmp_path_factory.mktemp("places"), pytest.MonkeyPatch()
    lines = _log(121).to_csv(index=False, lineterminator="\n").splitlines(keepends=True)
    body = [
        piece
        for at, line in enumerate(lines[1:])
        for piece in (line, *(["x,y,5,never\n"] * (at in bad)), *(["1,2\n"] * (at in ragged)))
    ]
    text = "".join([lines[0], *body, lines[100]])
    with monkeypatch.context() as patch:
        patch.setattr(tables, "BLOCK_BYTES", 400)
        with says(f"line {2 + len(body)}: user_id, item_id, timestamp", "occurs twice"):
            _store(home / "out", raw_log(home / "raw", text), DROP)


def test_a_log_of_which_most_is_bad_is_refused_all_the_same(tmp_path: Path) -> None:
    dirty = _log().assign(timestamp=lambda log: log["timestamp"].where(log.index % 3 == 0, "2024-01-01"))
    with says("of 300 rows 200 cannot be used, as 200 where timestamp is no number; fix prepare.columns"):
        _store(tmp_path / "out", _write(tmp_path / "raw", dirty, "csv"), DROP)


def test_a_column_without_a_good_value_is_no_matter_of_rows(tmp_path: Path) -> None:
    dirty = _log().assign(item_id=1.5)
    for config in (CONFIG, DROP):
        with says("events.parquet", "item_id", "is of type double, and an id must be an integer or text"):
            _store(tmp_path / "out", _write(tmp_path / f"raw-{config.bad_rows}", dirty, "parquet"), config)


def test_events_on_items_without_a_row_are_refused_with_the_mend_or_left_out_and_counted(tmp_path: Path) -> None:
    log = _log()
    items = "item_id,title\n" + "".join(f"{number},item {number}\n" for number in range(20))
    known = log[log["item_id"].astype(int) < 20]
    raw = raw_log(tmp_path / "raw", log.to_csv(index=False, lineterminator="\n"), items)
    with says("has no row in the item table", "add it there, or set prepare.unknown_items: drop"):
        _store(tmp_path / "refused", raw, CONFIG)
    dropped = _store(tmp_path / "dropped", raw, DROP)
    clean = raw_log(tmp_path / "raw2", known.to_csv(index=False, lineterminator="\n"), items)
    _same(dropped, _store(tmp_path / "clean", clean, CONFIG))
    assert dropped.manifest.left_out == {"item has no row in the item table": len(log) - len(known)}
    assert dropped.manifest.events_outside == 0


def test_the_look_before_a_run_names_the_settings_and_asks_for_them(tmp_path: Path) -> None:
    log = _log()
    rows = [log.iloc[[7]].assign(**BAD[name][0]) for name in ("no user", "null", "no time")]
    items = pd.DataFrame({"item_id": range(20), "title": [f"item {number}" for number in range(20)]})
    path, table = tmp_path / "log.csv", tmp_path / "items.csv"
    pd.concat([log, *rows], ignore_index=True).to_csv(path, index=False)
    items.to_csv(table, index=False)
    refused = run(path, "--items", table)
    assert refused.exit_code == 1
    assert refused.output.count("or set prepare.bad_rows: drop") == 3
    assert "or set prepare.unknown_items: drop" in refused.output
    assert "bad_rows: drop}" not in refused.output
    dropped = run(path, "--items", table, "--drop")
    assert dropped.exit_code == 0
    assert "Problems" not in dropped.output
    assert "prepare.bad_rows: drop" not in dropped.output
    first = int((log["item_id"] == "20").sum())
    assert f"item '20' has no row in {table}, and {first} events" in dropped.output
    store = pasted(dropped.output, tmp_path)
    unknown = int((log["item_id"].astype(int) >= 20).sum())
    assert sum(store.manifest.left_out.values()) == 3 + unknown
    assert store.manifest.left_out["item has no row in the item table"] == unknown
