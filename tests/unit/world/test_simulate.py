"""The simulator on disk: two sets of files, the same bytes each time, in memory that does not grow."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from hisac_lab.base.artifacts import sha256_tree
from hisac_lab.config.world import PRESETS, WorldConfig, resolve
from hisac_lab.world import simulate as module
from hisac_lab.world.simulate import DAY, START, Simulator, simulate


def test_the_log_is_slates_by_user_and_time_and_the_truth_lies_elsewhere(tmp_path: Path) -> None:
    facts = simulate(WorldConfig(), out=tmp_path)
    world = PRESETS["tiny"]
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        "events/part-00000.parquet",
        "items.parquet",
        "truth/part-00000.parquet",
        "vectors.npy",
    ]
    schema = pq.read_schema(tmp_path / "events" / "part-00000.parquet")
    assert [(field.name, str(field.type)) for field in schema] == [
        ("user", "int32"),
        ("item", "int32"),
        ("time", "int64"),
        ("click", "int8"),
        ("position", "int8"),
        ("propensity", "float"),
    ]
    schema = pq.read_schema(tmp_path / "truth" / "part-00000.parquet")
    assert [(field.name, str(field.type)) for field in schema] == [
        ("probability", "float"),
        ("probability_recent", "float"),
        ("old", "int8"),
    ]
    events = pd.read_parquet(tmp_path / "events")
    truth = pd.read_parquet(tmp_path / "truth")
    assert len(events) == len(truth) == world.users * world.events_per_user == facts["oracle"]["events"]
    assert events["click"].sum() == facts["oracle"]["clicks"]
    keys = events["user"].to_numpy().astype(np.int64) * 10**10 + events["time"].to_numpy()
    assert (np.diff(keys) >= 0).all()
    slates = events.groupby(["user", "time"])
    assert (slates.size() == world.slate).all()
    assert (slates["item"].nunique() == world.slate).all()
    assert events["position"].tolist() == list(range(world.slate)) * (len(events) // world.slate)
    assert events["time"].between(START, START + world.days * DAY, inclusive="left").all()
    assert events["item"].between(0, world.items, inclusive="left").all()
    assert set(events["click"]) == {0, 1}
    assert events["propensity"].between(0, 1, inclusive="right").all()
    assert truth["probability"].between(0, 1, inclusive="neither").all()
    assert truth["old"].mean() == pytest.approx(facts["oracle"]["old"] / len(truth))
    assert facts["oracle_last_fifth"]["auc"]["probability"] > facts["oracle_last_fifth"]["auc"]["probability_recent"]
    assert facts["world"] == {"preset": "tiny", **{k: getattr(world, k) for k in facts["world"] if k != "preset"}}


def test_popular_items_make_the_tail_of_the_log() -> None:
    shares = []
    for exponent in (0.0, 1.0):
        simulator = Simulator(resolve(WorldConfig(preset="small", users=100, popularity=exponent)))
        items = np.concatenate([simulator.user(number)["item"] for number in range(100)])
        counts = np.sort(np.bincount(items, minlength=5_000))[::-1]
        shares.append(counts[:50].sum() / counts.sum())
    assert shares[0] < 0.04
    assert shares[1] > 0.15
    # Item by item the log follows the weights, flattened by what is shown uniformly and only once in a slate.
    weight = np.empty(5_000)
    weight[simulator.catalog.number] = simulator.catalog.weight
    bins = np.array_split(np.argsort(weight), 12)
    counts = np.bincount(items, minlength=5_000)
    x, y = (np.log([column[part].mean() for part in bins]) for column in (weight, counts))
    slope = np.polyfit(x, y, 1)[0]
    assert 0.5 < slope < 0.9


def test_familiar_items_come_back() -> None:
    log = Simulator(resolve(WorldConfig(preset="small"))).user(0)
    counts = np.sort(np.bincount(log["item"]))[::-1]
    assert counts[:20].min() >= 5


def test_a_users_log_depends_on_the_seed_and_the_user_alone() -> None:
    few, many = (Simulator(resolve(WorldConfig(users=users))) for users in (2, 50))
    other = Simulator(resolve(WorldConfig(seed=1)))
    for name, column in few.user(1).items():
        np.testing.assert_array_equal(column, many.user(1)[name])
    assert (few.user(1)["item"] != few.user(0)["item"]).mean() > 0.9
    for name in ("item", "time"):
        assert (few.user(1)[name] != other.user(1)[name]).mean() > 0.9


@pytest.mark.parametrize("rows", [1, 777, 800, 6_000])
def test_the_size_of_the_blocks_does_not_change_the_log(rows: int) -> None:
    world = replace(PRESETS["tiny"], users=3)
    simulator = Simulator(world)
    whole = [simulator.user(number) for number in range(3)]
    blocks = [{name: column.copy() for name, column in block.items()} for block in simulator.blocks(rows)]
    assert {len(block["user"]) for block in blocks[:-1]} <= {rows}
    for name in whole[0]:
        expected = np.concatenate([log[name] for log in whole])
        found = np.concatenate([block[name] for block in blocks])
        assert found.tobytes() == expected.tobytes()


def test_the_same_settings_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the log is many row groups and files, whose rows are those of one."""
    monkeypatch.setattr(module, "GROUP_ROWS", 1_500)
    monkeypatch.setattr(module, "PART_GROUPS", 3)
    facts = {}
    for name in ("one", "two", "other"):
        (tmp_path / name).mkdir()
        facts[name] = simulate(WorldConfig(users=8, seed=int(name == "other")), out=tmp_path / name)
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")
    assert facts["one"] == facts["two"] != facts["other"]
    assert sha256_tree(tmp_path / "one") != sha256_tree(tmp_path / "other")
    parts = sorted((tmp_path / "one" / "events").iterdir())
    assert [path.name for path in parts] == ["part-00000.parquet", "part-00001.parquet"]
    assert [pq.ParquetFile(path).num_row_groups for path in parts] == [3, 2]
    monkeypatch.undo()
    (tmp_path / "large").mkdir()
    assert simulate(WorldConfig(users=8), out=tmp_path / "large") == facts["one"]
    for folder in ("events", "truth"):
        pd.testing.assert_frame_equal(
            pd.read_parquet(tmp_path / "one" / folder), pd.read_parquet(tmp_path / "large" / folder)
        )


MEASURE = """
import resource, sys
from pathlib import Path
from hisac_lab.config.world import WorldConfig
from hisac_lab.world import simulate as module
module.GROUP_ROWS = 16_384
module.simulate(WorldConfig(preset="small", users=int(sys.argv[1])), out=Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_events(tmp_path: Path) -> None:
    peaks = []
    for users in (50, 400):
        out = tmp_path / str(users)
        out.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(users), str(out)], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    # 350,000 events more, 29 bytes a row: 10 MB if they were kept.
    assert peaks[1] - peaks[0] < 3_000


def test_a_user_of_the_long_preset_has_ten_thousand_clicks() -> None:
    simulator = Simulator(PRESETS["long"])
    clicks = [int(simulator.user(number)["click"].sum()) for number in range(4)]
    assert np.mean(clicks) == pytest.approx(10_000, rel=0.1)
