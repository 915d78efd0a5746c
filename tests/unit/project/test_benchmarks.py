"""The benchmarks' own promises: both sides get the same samples, all CPU is counted, growth is told from start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from kit import prepare_log, raw_log
from scripts import load
from tiny import make_log

from hisac_lab.base.errors import UserError
from hisac_lab.config.events import PrepareConfig
from hisac_lab.events.store import SPLITS, EventStore
from hisac_lab.models.contract import Cost

LIMIT = 7


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
    read = zip(rows["user_id"], rows["item_id"], rows["label"], rows["history"].str.split("^"), strict=True)
    assert list(read) == wanted
    assert [len(log.split(name)) for name in synthetic.SPLITS] == [len(wanted) - 18, 5, 13]  # rounded as `ingest` does

    names = np.concatenate([np.array([""]), synthetic.item_name(np.arange(synthetic.ITEMS))])
    full = pd.read_parquet(tmp_path / "user_info.parquet")["full_item_seq"]
    shared = pd.concat([pd.read_parquet(tmp_path / f"{name}.parquet") for name in synthetic.SPLITS])
    columns = (shared[name].tolist() for name in ("user_index", "item_index", "label", "seq_len"))
    found = [
        (f"u{user}", names[item], label, names[full[user][:length]][-LIMIT:])
        for user, item, label, length in zip(*columns, strict=True)
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
        batches: dict[str, Any] = {name: np.array(batch)}
        np.savez(tmp_path / "batches.npz", **batches)
        with pytest.raises(UserError, match=f"batches of {name}: hold other items"):
            prepare.check_same(mine, tmp_path)


def test_the_floor_is_compared_by_the_least_of_its_runs_and_not_told_when_disturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, synthetic = load("prepare", monkeypatch), load("synthetic", monkeypatch)
    stages = {"ours": [3.0, 3.5, 9.0], "larger": [8.0, 7.0, 7.5]}
    floors = {"ours": [1.0, 1.5, 2.0], "larger": [2.0, 3.0, 2.5]}
    monkeypatch.setattr(prepare, "FLOOR_RUNS", 3)
    monkeypatch.setattr(prepare, "acquire", lambda log, folder: None)
    monkeypatch.setattr(prepare, "run_stages", lambda folder: stages[folder.name].pop())
    monkeypatch.setattr(prepare, "run_floor", lambda way, folder: (way == "plain") + floors[folder.name][-1])
    log = synthetic.make_log(2, 1_300, LIMIT, 0)
    assert prepare.costs_of_more(log, 4, 0, tmp_path) == {"ours": 4.0, "plain": 0.5, "tuned": 0.5}
    stages.update(ours=[3.0] * 3, larger=[3.0, 8.0, 8.0])
    with pytest.raises(UserError, match="ours took no more CPU for 4 users than for 2: other work disturbs it"):
        prepare.costs_of_more(log, 4, 0, tmp_path)


def test_both_ways_of_the_floor_write_the_events_by_user_and_time(tmp_path: Path) -> None:
    log = pd.DataFrame({"user_id": list("baba"), "item_id": list("xyyx"), "timestamp": [4, 3, 2, 1], "rating": 1})
    log.to_csv(tmp_path / "log.csv", index=False)
    for way in ("plain", "tuned"):
        script = Path(__file__).parents[3] / "benchmarks" / "floor.py"
        subprocess.run([sys.executable, script, way, tmp_path / "log.csv", tmp_path / way], check=True)
    wanted = log.sort_values(["user_id", "timestamp"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "plain" / "events"), wanted)
    users, order = (np.load(tmp_path / "tuned" / f"{name}.npy") for name in ("user_id_ids", "user_id"))
    assert users[order].tolist() == ["b", "b", "a", "a"]  # as first met
    assert np.load(tmp_path / "tuned" / "timestamp.npy").tolist() == [2, 4, 1, 3]


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


def test_memory_per_item_is_told_from_start_up(monkeypatch: pytest.MonkeyPatch) -> None:
    scale, usage = load("scale_items", monkeypatch), load("usage", monkeypatch)

    def run(items: int) -> Any:
        own = {name: 200 * scale.MIB + place * items for place, name in enumerate(scale.CODES)}
        used = {name: usage.Usage(1.0, 1.0, 2 * size, "", size) for name, size in own.items()}
        return scale.Run(items, used)

    least = scale.outcome(run(scale.SMALLEST), {})
    large = scale.outcome(run(1_000_000), least["numbers"])
    assert [row[-1] for row in least["rows"]] == [""] * len(scale.CODES)
    assert [float(row[-1]) for row in large["rows"]] == pytest.approx(
        [place * 1e6 / scale.MIB for place in range(len(scale.CODES))], abs=0.5
    )


def test_a_made_up_catalog_has_what_its_events_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = load("catalog", monkeypatch)
    monkeypatch.setattr(catalog, "BLOCK", 64)
    monkeypatch.setattr(catalog, "EVENTS", 300)
    catalog.write_log(tmp_path, 150, seed=0)
    events, items = pd.read_parquet(tmp_path / "events.parquet"), pd.read_parquet(tmp_path / "items.parquet")
    assert len(events) == 300
    assert (np.diff(events["timestamp"]) >= 0).all()
    assert items["item_id"].is_unique
    assert set(events["item_id"].astype(str)) <= set(items["item_id"])
    assert np.load(tmp_path / "vectors.npy").shape == (150, catalog.WIDTH)


def test_costs_on_paper_are_those_between_the_smallest_and_the_largest_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = load("scale_plan", monkeypatch)
    rows = [f"| {size:,} | ingest | 9 | {1 + size / 1e6} | {100 + size / 1e5:,.0f} |" for size in (1_000, 10**6, 10**7)]
    page = tmp_path / "scale.md"
    page.write_text("\n".join(["| events | step | wall s | CPU s | peak MiB |", "|---|---|---|---|---|", *rows]))
    found = plan.read(page, "events|step", (0, 1, 3, 4))
    told = plan.Cost.of(found["ingest"]).at(1e9)
    assert (told.cpu, told.memory) == pytest.approx((1_001, 10_100), rel=1e-3)
    assert "| 2.0 / 2.0 " in plan.check("events", found, memory=False)[2]
    page.write_text("\n".join(page.read_text().splitlines()[:-1]))
    with pytest.raises(UserError, match="has 2 sizes of the stage 'ingest'; three are the least"):
        plan.read(page, "events|step", (0, 1, 3, 4))


HISAC = {"kind": "hisac", "route_by": "items", "agents": 8}


def test_a_workload_is_whole_after_a_detour_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workload = load("workload", monkeypatch)
    made = workload.Workload.make(3, 40, 5, seed=1)
    made.save(tmp_path / "requests.npz")
    read = workload.Workload.load(tmp_path / "requests.npz")
    for name in ("items", "ages", "candidates", "labels", "semantic", "codes", "words"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
    assert made.items.min() >= 1  # 0 is padding, for the peers too
    assert 20 < made.distinct < 40
    assert (np.diff(made.ages) <= 0).all()
    book = made.space().codebook
    assert book.depth == 3
    top = made.words[: workload.CODES[0]]
    np.testing.assert_allclose(book.vectors[0][book.item_nodes[7, 0]], top[made.codes[7, 0]], rtol=1e-6)


def test_a_training_step_of_the_benchmark_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = load("workload", monkeypatch)
    made = workload.Workload.make(8, 30, 5, seed=0)
    step = workload.trainer(made, HISAC)
    losses = [step() for _ in range(12)]
    assert losses[-1] < losses[0]


def test_slices_and_turns_give_the_scores_and_times_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    workload, serving = load("workload", monkeypatch), load("serving", monkeypatch)
    monkeypatch.setattr(serving, "LEAST", 0.0)
    made = workload.Workload.make(1, 30, 7, seed=0)
    one = serving.Serving.of(workload.ranker(made, HISAC), made)
    with torch.inference_mode():
        whole = one.model(one.history, one.candidates)
    torch.testing.assert_close(torch.cat(one.score(3), dim=1), whole, atol=1e-5, rtol=1e-5)
    serving.take_turns([one], 3)
    assert {name: len(times) for name, times in one.times.items()} == {"cold": 3, "cached": 3}
    assert one.cold > 0 < one.cached


def test_the_last_line_of_bench_models_has_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    models = load("models", monkeypatch)
    steps = {"deepctr": [0.6, 0.5, 9.0], "rechub": [0.8], "din": [0.1], "hisac": [0.05, 0.04, 0.06]}
    steps["hisac, frozen"] = [0.0625]
    served = {
        ("hisac", 1_000): SimpleNamespace(cold=0.02, cached=0.005),
        ("hisac", 10_000): SimpleNamespace(cold=0.03, cached=0.0055),
        ("din", 1_000): SimpleNamespace(cold=0.1, cached=0.1),
        ("din", 10_000): SimpleNamespace(cold=1.2, cached=1.1),
    }
    assert models.ratios(250, steps, served, 12_345_678.4) == {
        "din_vs_deepctr": 6.0,
        "din_vs_rechub": 8.0,
        "hisac_samples_per_cpu_second": 5_000,
        "hisac_frozen_samples_per_cpu_second": 4_000,
        "cached_time_ratio_10k_1k": 1.1,
        "hisac_vs_din_time_10k": 0.025,
        "votes_half_lives_per_second": 12_345_678,
    }
    assert models.pinned("deepctr").count(".") == 2


def test_the_table_of_costs_holds_shares_of_the_peaks_and_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = load("costs", monkeypatch)
    peaks = costs.Peaks(arithmetic=1e9, bandwidth=1e6)
    cell = costs.Cell(
        speed=5_000.4, memory=3 << 20, cold=0.01, cached=0.002, cold_ratio=2.5, cached_ratio=0.5, state=6_000,
        declared=Cost(6_000, 70, 8, 9), macs=1e6, moved=1_000,
    )  # fmt: skip
    assert costs.shares(cell, peaks) == pytest.approx((0.2, 0.1))
    assert costs.row("hisac", cell, peaks) == [
        "hisac", "5,000", "3.0", "10.00", "2.50", "2.00", "0.50", "6,000", "70", "8", "9", "20.0", "10.00",
    ]  # fmt: skip
    left_out = costs.row("sam", "left out: too slow", peaks)
    assert left_out[:2] == ["sam", "left out: too slow"]
    assert len(left_out) == len(costs.HEAD)


def test_peak_memory_is_the_highest_point_and_not_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = load("machine", monkeypatch)
    assert machine.highest([4, 3, -4, 2, -5]) == 7
    assert machine.highest([]) == 0

    def work() -> None:
        for _ in range(3):
            torch.zeros(1 << 18)

    assert machine.peak_memory(work, "cpu") == 1 << 20


def test_a_longer_history_is_left_out_where_a_shorter_one_took_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = load("costs", monkeypatch)
    seconds = {"mean": 0.01, "din, whole": 1.0}
    asked = []

    def cell(name: str, *rest: object) -> tuple[str, float]:
        asked.append(name)
        return "measured", seconds[name]

    monkeypatch.setattr(costs, "cell", cell)
    found = costs.measure_all([50, 10], list(seconds), "cpu")
    assert asked == ["mean", "din, whole", "mean"]
    assert found["mean", 50] == "measured"
    assert found["din, whole", 50] == "left out: 1.0 s a step or request at 10 events already"


def test_a_model_that_reads_instances_gets_one_of_each_of_the_newest_events(monkeypatch: pytest.MonkeyPatch) -> None:
    costs, workload = load("costs", monkeypatch), load("workload", monkeypatch)
    some = workload.Workload.make(2, 5, 3, seed=1)
    space = some.space()
    plain, reader = (
        workload.ranker(some, settings, space) for settings in ({"kind": "mean"}, {"kind": "iat", "window": 4})
    )
    bare, fed = some.history(plain), some.history(reader)
    assert bare.instances is None
    assert fed.instances.items.tolist() == some.items[:, -4:].tolist()
    assert fed.instances.ages.tolist() == some.ages[:, -4:].tolist()
    assert fed.instances.vectors.shape == (2, 4, 64)
    extra = 2 * 4 * (4 * 64 + 25)
    assert costs.moved_bytes(fed, 16, 100, 3) == costs.moved_bytes(bare, 16, 100, 3) + extra


def test_transfer_states_differences_with_their_sign_and_corrected_p(monkeypatch: pytest.MonkeyPatch) -> None:
    transfer = load("transfer", monkeypatch)
    noise = np.random.default_rng(0).normal(0, 0.001, (2, 200))
    noise[:, 0] = 0
    series = {
        transfer.BASE: 0.70 + noise[0],
        "instances": 0.72 + noise[0] + noise[1],
        transfer.SHUFFLED: 0.73 + noise[0],
    }
    base, instances, shuffled = transfer.table(series, dict.fromkeys(series, 0.0))
    assert base.startswith(f"| {transfer.BASE} | 0.7000 | – | – | -0.0300 [")
    assert instances.startswith("| instances | 0.7200 | +0.0200 [+0.01")
    assert "| -0.0100 [-0.01" in instances
    assert shuffled.count("– | –") == 1
    p = {(pair.one, pair.other): pair.p for pair in transfer.paired(series, 0.95)}
    assert f"| {p['instances', transfer.SHUFFLED]:.2g} |" in instances


def test_domains_of_transfer_share_the_samples_and_keep_their_own_histories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer = load("transfer", monkeypatch)
    log, _ = make_log(users=20, items=30)
    prepare_log(PrepareConfig(positive_from=4.0), raw_log(tmp_path / "raw", log), tmp_path / "prepare")
    store = EventStore.open(tmp_path / "prepare")
    inside = transfer.split_items(store, None)
    parts = [transfer.domain(store, side) for side in (inside, ~inside)]
    for split in SPLITS:
        samples = store.samples(split)
        assert sum(len(part.samples[split]) for part in parts) == len(samples)
        for part in parts:
            np.testing.assert_array_equal(part.exposures[split].samples, part.samples[split])
        for side, part in zip((inside, ~inside), parts, strict=True):
            whole = samples[side[samples["item"]]]
            for before, after in zip(whole, part.samples[split], strict=True):
                (begin,), (end,) = store.bounds(before[None])
                (own_begin,), (own_end,) = part.store.bounds(after[None])
                history = store.items[begin:end]
                assert part.store.items[own_begin:own_end].tolist() == history[side[history]].tolist()
    sizes = [len(part.samples["train"]) for part in parts]
    assert abs(sizes[0] - sizes[1]) <= np.bincount(store.samples("train")["item"]).max()
