"""Data preparation side by side with FuxiCTR, on the same events and the same samples, in one run.

    make bench-prepare          or  python benchmarks/prepare.py [--users 60] [--events 2000] [--write]

A seeded log is prepared by both sides at history 1,000; speed is log events per CPU second of all processes, size is
the bytes training reads per sample, and batches are 256 samples x 1,000 events. FuxiCTR's input, a CSV with the whole
history in each row, is made for it and not counted. Both sides' batches must hold the same items. The last line
printed is JSON; with --write the tables go to reports/bench-prepare.md.

The floor (floor.py) is reading, sorting and writing the events with pyarrow and NumPy alone, in two ways. They and the
stages run on `--floor-users` users, too; what the larger log costs more, each by the least of some runs, is free of
start-up. `floor_ratio` and `tuned_floor_ratio` are the CPU of the plain and of the tuned way over that of the stages.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import ours
import synthetic
from pages import table
from peer import PEERS, python_of
from usage import Usage, run

from hisac_lab.base.artifacts import Array, write_file
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.events.batches import Requests
from hisac_lab.events.store import EventStore

REPORT = Path(__file__).parents[1] / "reports" / "bench-prepare.md"
FLOOR = Path(__file__).with_name("floor.py")
WAYS = ("plain", "tuned")
LIMIT, BATCH = 1_000, 256
EPOCHS = 4  # over the test split; the cheapest counts
FLOOR_RUNS = 5  # of the floor and of the stages on each log; the cheapest counts
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")


@dataclass(frozen=True)
class Ours:
    """What this project took.

    Attributes:
        cpu: Seconds of all stages from the CSV on.
        size: Bytes of everything the stage `prepare` has written.
        batch: CPU milliseconds per batch.
        items: Ids in the first and the last full batch; (2, 256, 1000) text.
    """

    cpu: float
    size: int
    batch: float
    items: Array


@dataclass(frozen=True)
class Theirs:
    """What the peer took.

    Attributes:
        cpu: Seconds of FuxiCTR's own command.
        direct_cpu: Seconds of its functions called without Ray.
        size: Bytes of its three Parquet files, rows in time order.
        sorted_size: The same with the rows of each user together.
        shared_size: The same samples in LongCTR's layout.
        batches: CPU milliseconds per batch by loader.
    """

    cpu: float
    direct_cpu: float
    size: int
    sorted_size: int
    shared_size: int
    batches: dict[str, float]


def acquire(log: synthetic.Log, folder: Path) -> None:
    """Makes `folder` with the log in it, ready for the stages that are measured."""
    folder.mkdir()
    synthetic.write_log(log, folder / "log.csv")
    ours.write_params(
        folder,
        acquire={"dataset": "own", "path": "log.csv"},
        prepare={
            "history": "all",
            "history_limit": log.limit,
            "train_share": synthetic.TRAIN_SHARE,
            "valid_share": synthetic.VALID_SHARE,
        },
    )
    ours.stage(folder, "acquire")


def run_stages(folder: Path) -> float:
    """CPU seconds of all stages that make the event store of the log in `folder`."""
    return sum(one.cpu for one in ours.prepare(folder).values())


def run_ours(log: synthetic.Log, folder: Path) -> Ours:
    """Prepares the log by the graph's own stages and assembles every batch of its test split.

    Raises:
        UserError: The samples are not those the peer gets.
    """
    acquire(log, folder)
    cpu = run_stages(folder)
    store = EventStore.open(folder / "artifacts" / "prepare")
    for name in synthetic.SPLITS:
        found, wanted = len(store.samples(name)), len(log.split(name))
        if found != wanted:
            raise UserError(store.path, f"has {found} {name} samples, the peer gets {wanted}", "report this as a bug")
    rows = Requests.of(store, store.samples("test"), 1)
    order = np.argsort(rows.time)  # the order in which the peer reads
    parts = np.array_split(order, range(BATCH, len(order), BATCH))
    costs = []
    for _ in range(EPOCHS):
        begin, taken = time.process_time(), list[np.ndarray]()
        for index in parts:
            history = rows.take(index).histories()
            if len(index) == BATCH:
                taken = [*taken[:1], history.items]
        costs.append((time.process_time() - begin) / len(parts) * 1_000)
    names = store.item_table["item"].to_numpy(str)
    return Ours(cpu, ours.folder_bytes(store.path), min(costs), names[np.stack(taken)])


def run_theirs(log: synthetic.Log, folder: Path, python: Path, scratch: Path) -> Theirs:
    """Prepares the same samples by FuxiCTR and assembles the same batches by its loaders.

    Raises:
        UserError: One of its steps fails.
    """
    folder.mkdir()
    synthetic.write_rows(log, folder)
    (folder / "shared").mkdir()
    synthetic.write_shared(log, folder / "shared")

    def step(name: str) -> tuple[Usage, dict[str, Any]]:
        say(f"FuxiCTR: {name}")
        script, words = PEERS / "fuxictr_side.py", (name, "--limit", str(log.limit), "--batch", str(BATCH))
        command: list[str | Path] = [python, script, *words]
        usage = run(command, folder, {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(scratch), "PYTHONPATH": ""})
        answer: dict[str, Any] = json.loads(usage.output.strip().splitlines()[-1])
        return usage, answer

    whole, _ = step("prepare")
    direct, _ = step("direct")
    size = sum((folder / "prepared" / f"{name}.parquet").stat().st_size for name in synthetic.SPLITS)
    _, by_user = step("sort")
    _, batches = step("batches")
    return Theirs(whole.cpu, direct.cpu, size, by_user["bytes"], ours.folder_bytes(folder / "shared"), batches)


def run_floor(way: str, folder: Path) -> float:
    """CPU seconds of one way of floor.py on the log in `folder`."""
    return run([sys.executable, FLOOR, way, folder / "log.csv", folder / way], folder).cpu


def costs_of_more(log: synthetic.Log, users: int, seed: int, home: Path) -> dict[str, float]:
    """CPU seconds that the stages and both ways of the floor need for the events that a larger log has more.

    Args:
        log: The log of the comparison, acquired below `home / "ours"`.
        users: Of the larger log, with as many events each.
        seed: Of the larger log.
        home: Where the larger log is made.

    Raises:
        UserError: The larger log is not larger, or took no more.
    """
    if users <= log.users:
        raise UserError("--floor-users", f"{users} are no more than the {log.users} of --users", "give more")
    acquire(synthetic.make_log(users, len(log) // log.users, log.limit, seed), home / "larger")
    sides: dict[str, Callable[[Path], float]] = {"ours": run_stages}
    sides |= {way: partial(run_floor, way) for way in WAYS}
    costs = {}
    for name, cost in sides.items():
        small, large = (min(cost(home / folder) for _ in range(FLOOR_RUNS)) for folder in ("ours", "larger"))
        costs[name] = large - small
        if costs[name] <= 0:
            what = f"{name} took no more CPU for {users} users than for {log.users}: other work disturbs it"
            raise UserError("this machine", what, "run it alone")
    return costs


def check_same(mine: Array, folder: Path) -> None:
    """Compares the batches that the peer's loaders have saved in `folder` with ours, id by id.

    FuxiCTR knows the items of the training rows; all others are one unknown item to it.

    Raises:
        UserError: A batch holds other items than ours.
    """
    codes = json.loads((folder / "prepared" / "feature_vocab.json").read_text())["item_id"]
    words = np.empty(max(codes.values()) + 1, object)
    words[list(codes.values())] = list(codes)
    known = np.where(np.isin(mine, words.astype(str)), mine, "__OOV__")
    shared = np.concatenate([np.array([""]), synthetic.item_name(np.arange(synthetic.ITEMS))])
    with np.load(folder / "batches.npz") as batches:
        for name, items in batches.items():
            same = shared[items] == mine if name == "longctr" else words[items].astype(str) == known
            if not np.all(same):
                raise UserError(f"batches of {name}", "hold other items than ours", "report this as a bug")


def ratios(mine: Ours, theirs: Theirs, more: dict[str, float]) -> dict[str, float]:
    """Ours over theirs in speed, theirs over ours in bytes; batches against the faster loader of files as prepared."""
    return {
        "floor_ratio": round(more["plain"] / more["ours"], 2),
        "tuned_floor_ratio": round(more["tuned"] / more["ours"], 2),
        "prepare_ratio": round(theirs.cpu / mine.cpu, 2),
        "disk_ratio": round(theirs.size / mine.size, 2),
        "batch_ratio": round(min(theirs.batches["fuxictr"], theirs.batches["longctr"]) / mine.batch, 2),
    }


def report(
    log: synthetic.Log, options: argparse.Namespace, mine: Ours, theirs: Theirs, more: dict[str, float]
) -> list[str]:
    """The page as lines of Markdown."""
    samples = sum(len(log.split(name)) for name in synthetic.SPLITS)
    events = (options.floor_users - log.users) * (len(log) // log.users)

    def speed(name: str, cpu: float) -> list[str]:
        return [name, f"{cpu:.1f}", f"{len(log) / cpu:,.0f}", f"{cpu / mine.cpu:.1f}"]

    def size(name: str, count: int) -> list[str]:
        return [name, f"{count / samples:,.1f}", f"{count / mine.size:.2f}"]

    def batch(name: str, cost: float) -> list[str]:
        return [name, f"{cost:.2f}", f"{cost / mine.batch:.1f}"]

    def beyond(name: str, side: str) -> list[str]:
        return [name, f"{more[side]:.2f}", f"{events / more[side]:,.0f}", f"{more[side] / more['ours']:.0%}"]

    command = f"python benchmarks/prepare.py --users {options.users} --events {options.events} --seed {options.seed}"
    pins = dict(line.split("==") for line in (PEERS / "fuxictr.txt").read_text().splitlines() if "==" in line)
    versions = [f"{name} {version(name)}" for name in ("numpy", "pandas", "pyarrow", "torch")]
    peers = [f"{name} {pins[name]}" for name in ("fuxictr", "polars", "ray")]
    machine = f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"
    return [
        "# Preparation, side by side",
        "",
        f"`{command} --write`: {log.users} users x {len(log) // log.users:,} events,",
        f"{samples:,} samples on both sides, history {log.limit:,}.",
        f"{machine}; {', '.join(versions)},",
        f"{', '.join(peers)}. One thread per process; CPU seconds are those of all processes.",
        "",
        *table(
            ["preparation", "CPU s", "events per CPU-second", "times ours"],
            [
                speed("hisac-lab, from the CSV of events (ingest, shards, prepare)", mine.cpu),
                speed("FuxiCTR `build_dataset`, from rows made for it", theirs.cpu),
                speed("the same functions called without Ray", theirs.direct_cpu),
            ],
        ),
        "",
        *table(
            ["on disk", "bytes per sample", "times ours"],
            [
                size("hisac-lab: histories once, samples point, memory-mapped", mine.size),
                size("FuxiCTR: Parquet, a padded sequence per row, time order", theirs.size),
                size("the same, rows of a user together (compresses best)", theirs.sorted_size),
                size("LongCTR's layout: histories once, compressed Parquet", theirs.shared_size),
            ],
        ),
        "",
        *table(
            [f"batch of {BATCH} x {log.limit:,}", "CPU ms", "times ours"],
            [
                batch("hisac-lab: items, ages and mask", mine.batch),
                batch("FuxiCTR's loader of its Parquet files (Ray)", theirs.batches["fuxictr"]),
                batch("LongCTR's loader: items and mask", theirs.batches["longctr"]),
                batch("FuxiCTR's NPZ loader: every row kept in memory, padded, as floats", theirs.batches["padded"]),
            ],
        ),
        "",
        "Counted for FuxiCTR are vocabularies, integer sequences and Parquet; joining each sample's history into its",
        "row is not. Its bytes are the three Parquet files, ours every file of the stage. LongCTR's layout is written",
        "here, as no released tool makes it; its loader unpacks it into memory. Batches are those of the test split in",
        "time order, the same items in all four, the cheapest of several epochs.",
        "",
        f"What {options.floor_users:,} users cost more than {log.users}, so that no start-up is in it, beside reading,",
        f"sorting and writing alone (floor.py); each by the least of {FLOOR_RUNS} runs.",
        "",
        *table(
            ["the same events", "CPU s", "events per CPU-second", "of ours"],
            [
                beyond("hisac-lab, from the CSV of events", "ours"),
                beyond("pyarrow's `read_csv`, `sort_by` and `write_table`, ids left as text", "plain"),
                beyond("pyarrow reads ids as numbers, NumPy sorts and writes them", "tuned"),
            ],
        ),
        "",
        "The stages also check every value and write samples, running sums of items and counts for the report.",
    ]  # fmt: skip


def main() -> None:
    """Runs both sides and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=60)
    parser.add_argument("--events", type=int, default=2_000, help="of each user; the test needs more than 1,250")
    parser.add_argument("--floor-users", type=int, default=1_500, help="users of the larger log that the floor gets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="keep the files of both sides here")
    parser.add_argument("--write", action="store_true", help="write reports/bench-prepare.md")
    options = parser.parse_args()
    os.environ.update(ONE_THREAD)
    try:
        if (os.cpu_count() or 1) < 2:
            raise UserError("this machine", "has one core", "FuxiCTR gives Ray half of the cores: take two or more")
        python = python_of("fuxictr")
        log = synthetic.make_log(options.users, options.events, LIMIT, options.seed)
        if (log.seen[log.split("test")] < LIMIT).any():
            raise UserError("--events", f"{options.events} is too short for full histories in the test", "give more")
        with tempfile.TemporaryDirectory(prefix="hisac-lab-bench-") as scratch:
            home = options.home or Path(scratch)
            home.mkdir(parents=True, exist_ok=True)
            if any(home.iterdir()):
                raise UserError(home, "is not empty", "name a new folder", "--home")
            mine = run_ours(log, home / "ours")
            more = costs_of_more(log, options.floor_users, options.seed, home)
            theirs = run_theirs(log, home / "theirs", python, Path(scratch))
            check_same(mine.items, home / "theirs")
    except UserError as error:
        raise SystemExit(f"bench-prepare: error: {error}") from error
    lines = report(log, options, mine, theirs, more)
    print("\n".join(lines), end="\n\n")
    if options.write:
        write_file(REPORT, "\n".join(lines) + "\n")
    print(json.dumps(ratios(mine, theirs, more)))


if __name__ == "__main__":
    main()
