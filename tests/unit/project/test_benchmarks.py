"""The benchmarks' own promises: both sides get the same samples, all CPU is counted, growth is told from start-up."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from hisac_lab.base.errors import UserError

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
LIMIT = 7


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the benchmarks, which are scripts and no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for module in ("ours", "peer", "prepare", "scale", "synthetic", "usage"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return __import__(name)


def plain_samples(log: pd.DataFrame, limit: int) -> list[tuple[str, str, int, list[str]]]:
    """User, item, label and history of every event that has a history, by the definition."""
    samples = []
    for at, (user, item, _, label) in enumerate(log.itertuples(index=False)):
        before = log["item_id"][:at][log["user_id"][:at] == user].tolist()[-limit:]
        if before:
            samples.append((user, item, label, before))
    return samples


def test_peers_get_the_samples_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synthetic = load("synthetic", monkeypatch)
    log = synthetic.make_log(3, 20, LIMIT, seed=1)
    synthetic.write_log(log, tmp_path / "log.csv")
    synthetic.write_rows(log, tmp_path)
    synthetic.write_shared(log, tmp_path)
    wanted = plain_samples(pd.read_csv(tmp_path / "log.csv"), LIMIT)

    rows = pd.concat([pd.read_csv(tmp_path / f"{name}.csv") for name in synthetic.SPLITS])
    found = zip(rows["user_id"], rows["item_id"], rows["label"], rows["history"].str.split("^"), strict=True)
    assert list(found) == wanted
    assert [len(log.split(name)) for name in synthetic.SPLITS] == [len(wanted) - 18, 5, 13]  # rounded as `ingest` does

    names = np.concatenate([np.array([""]), synthetic.item_name(np.arange(synthetic.ITEMS))])
    full = pd.read_parquet(tmp_path / "user_info.parquet")["full_item_seq"]
    shared = pd.concat([pd.read_parquet(tmp_path / f"{name}.parquet") for name in synthetic.SPLITS])
    found = [
        (f"u{row.user_index}", names[row.item_index], row.label, names[full[row.user_index][: row.seq_len]][-LIMIT:])
        for row in shared.itertuples()
    ]
    assert [(*one[:3], one[3].tolist()) for one in found] == wanted


def test_other_items_in_a_batch_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare, synthetic = load("prepare", monkeypatch), load("synthetic", monkeypatch)
    codes = np.array([[3, 5], [0, 3]])
    mine = synthetic.item_name(codes)
    vocabulary = {"__PAD__": 0, str(synthetic.item_name(np.array([3]))[0]): 1, "__OOV__": 2}  # item 3 is known
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "feature_vocab.json").write_text(json.dumps({"item_id": vocabulary}))
    np.savez(tmp_path / "batches.npz", fuxictr=np.array([[1, 2], [2, 1]]), longctr=codes + 1)
    prepare.check_same(mine, tmp_path)
    for name, batch in (("fuxictr", [[2, 1], [2, 1]]), ("longctr", [[4, 6], [2, 4]])):
        np.savez(tmp_path / "batches.npz", **{name: np.array(batch)})
        with pytest.raises(UserError, match=f"batches of {name}: hold other items"):
            prepare.check_same(mine, tmp_path)


BUSY = "import time\nwhile time.process_time() < 1.0: pass\n"
DAEMON = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {BUSY!r} + "time.sleep(60)"])
time.sleep(3)
child.kill()
os._exit(0)
"""


def test_cpu_of_processes_that_nobody_waits_for_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = load("usage", monkeypatch)
    alone = usage.run([sys.executable, "-c", BUSY], tmp_path)
    assert 0.9 < alone.cpu < 2
    assert alone.peak > 1 << 20
    assert usage.run([sys.executable, "-c", DAEMON], tmp_path).cpu > 0.4


def test_a_failed_command_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = load("usage", monkeypatch)
    with pytest.raises(UserError, match=r"ended with 3 \(no such thing\)") as caught:
        usage.run([sys.executable, "-c", "print('so far'); print('no such thing'); raise SystemExit(3)"], tmp_path)
    assert "\n" not in str(caught.value)


def test_an_interrupted_command_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = load("usage", monkeypatch)

    def interrupt(number: int, seen: object) -> None:
        if (tmp_path / "number").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(usage, "_look", interrupt)
    program = """if True:
        import os, time
        open("draft", "w").write(str(os.getpid()))
        os.rename("draft", "number")
        time.sleep(60)"""
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        usage.run([sys.executable, "-c", program], tmp_path)
    assert time.monotonic() - begin < 30
    number = int((tmp_path / "number").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


@pytest.mark.parametrize(("growth", "holds"), [(1.0, True), (1.2, False)])
def test_growth_is_told_from_start_up(growth: float, holds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    scale = load("scale", monkeypatch)
    usage = load("usage", monkeypatch)

    def run(events: int, shards: int) -> object:
        work = (events / 1e6) ** growth
        stages = {"ingest": 2 + work, "shard": shards + 3 * work, "prepare": 1 + work}
        used = {name: usage.Usage(cpu, cpu, 1 << 30, "") for name, cpu in stages.items()}
        return scale.Run(events, shards, usage.Usage(9, 9, 1, ""), used, events * 50)

    lines, held = scale.report([run(1_000_000, 1), run(100_000_000, 40)], run(scale.SMALLEST, 1), "command")
    assert held is holds
    assert ("**NO**" in "\n".join(lines)) is not holds
