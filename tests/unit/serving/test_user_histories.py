"""Histories from a table of events: a user after the other, whatever the size of blocks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from kit import says

from hisac_lab.serving.histories import extent, histories, ids
from hisac_lab.tables import read

EVENTS = "user,item,time,feedback\nb,7,30,5\nb,8,10,\nb,9,20,1\na,7,5,2\nc,x,1,4\nc,y,1,3\n"


@pytest.fixture(params=["csv", "parquet"])
def table(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The events, read a few rows at a time."""
    monkeypatch.setattr(read, "BLOCK_BYTES", 32)
    monkeypatch.setattr(read, "BLOCK_ROWS", 2)
    path = tmp_path / f"events.{request.param}"
    path.write_text(EVENTS)
    if request.param == "parquet":
        pd.read_csv(path, dtype={"item": str, "feedback": str}).to_parquet(path)
    return path


def test_events_of_a_user_are_joined_over_blocks_and_sorted_by_time(table: Path) -> None:
    found = {user: (one.items, one.times, one.feedback) for user, one in histories(table)}
    assert found == {
        "b": (["8", "9", "7"], [10, 20, 30], [None, "1", "5"]),
        "a": (["7"], [5], ["2"]),
        "c": (["x", "y"], [1, 1], ["4", "3"]),
    }
    assert extent(table) == (3, 30)
    assert list(ids(table, "user")) == list("bbbacc")


def test_a_user_whose_rows_stand_apart_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(EVENTS + "a,7,6,2\n")
    with says(f"{path}: line 8: user: value 'a' stands apart from its rows above; sort by user"):
        list(histories(path))


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user,item\na,1\n")
    with says(f"{path}: time: column is missing (there are: user, item); name it so"):
        extent(path)
