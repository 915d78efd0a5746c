"""Who and what are found in a log of odd names and order, by the tables beside it and by how many values there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from hisac_lab.tables.guess import guess_log

ROWS = 200


def _listens(**names: str) -> pd.DataFrame:
    """Columns in an order that helps nobody: the answer first, the user last."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({
        "answer": random.choice(["up", "down"], ROWS),
        "at": pd.date_range("2026-02-01", periods=ROWS, freq="h").strftime("%Y-%m-%d %H:%M:%S"),
        "what": [f"ep-{number}" for number in random.integers(0, 60, ROWS)],
        "through": random.choice(["phone", "car", "speaker"], ROWS),
        "by": [f"u{number}" for number in random.integers(0, 40, ROWS)],
    })  # fmt: skip
    return frame.rename(columns=names)


def test_columns_of_few_values_are_neither_users_nor_items(tmp_path: Path) -> None:
    _listens(what="piece", by="ear").to_csv(tmp_path / "log.csv", index=False)
    found = guess_log(tmp_path / "log.csv")
    assert found.roles["user"] == "piece", "two columns of ids that nothing tells apart: the first is the user"
    assert found.roles["item"] == "ear"
    assert found.by_value == ("time", "user", "item")
    assert "answer" in found.doubts


def test_a_table_beside_the_log_says_which_column_is_its_key(tmp_path: Path) -> None:
    log = _listens(what="piece", by="ear")
    log.to_csv(tmp_path / "log.csv", index=False)
    pieces = pd.DataFrame({"piece": log["piece"].unique()}).assign(topic="news", through="any")
    pieces.to_csv(tmp_path / "pieces.csv", index=False)
    found = guess_log(tmp_path / "log.csv", {"user": None, "item": tmp_path / "pieces.csv"})
    assert found.roles == {"user": "ear", "item": "piece", "time": "at"}
    pd.DataFrame({"ear": log["ear"].unique()}).assign(age=30).to_csv(tmp_path / "ears.csv", index=False)
    assert guess_log(tmp_path / "log.csv", {"user": tmp_path / "ears.csv"}).roles["item"] == "piece"


def test_a_telling_name_goes_before_another_key_of_the_table(tmp_path: Path) -> None:
    log = _listens(what="item_id", by="user_id")
    log["slug"] = "s" + log["item_id"]
    log.to_csv(tmp_path / "log.csv", index=False)
    log[["slug", "item_id"]].drop_duplicates().to_csv(tmp_path / "items.csv", index=False)
    assert guess_log(tmp_path / "log.csv", {"item": tmp_path / "items.csv"}).roles["item"] == "item_id"


def test_everyday_names_are_known(tmp_path: Path) -> None:
    names = {"answer": "thumb", "what": "episode", "through": "device", "by": "listener"}
    _listens(**names).to_csv(tmp_path / "log.csv", index=False)
    found = guess_log(tmp_path / "log.csv")
    assert found.roles == {"user": "listener", "item": "episode", "time": "at", "label": "thumb"}
    assert found.label_values == {"down": 0.0, "up": 1.0}
    assert found.unread == ("device",)
