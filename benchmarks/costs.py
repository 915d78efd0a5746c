"""What every kind of model costs: training, serving, memory, declared work and its share of what the machine can do.

    python benchmarks/costs.py [--lengths 100 1000 10000] [--models hisac ...] [--device cuda] [--write]

Per model and length of history: training samples per CPU-second with five candidates a request, one user with 500
candidates cold and from a cached state, as a ratio to DIN on the last 50 events measured in turn with it. The peaks of
the machine are measured in the same run by a large matrix product and a large copy. With --write the tables go to
reports/costs.md.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import Peaks, measure_peaks, peak_memory, seconds_of
from pages import table
from serving import Serving, take_turns
from workload import ITEMS, Workload, ranker, trainer

from hisac_lab.base.artifacts import write_file
from hisac_lab.base.errors import UserError
from hisac_lab.base.progress import say
from hisac_lab.evaluation.cost import request_macs
from hisac_lab.models.contract import Cost, History, ItemSpace

REPORT = Path(__file__).parents[1] / "reports" / "costs.md"
SLATE, CANDIDATES = 500, 5
EVENTS, MOST_REQUESTS = 20_000, 64  # of one training step
LIMIT = 4.0  # seconds of one training step, or of one request, above which a longer history is left out
REFERENCE = "din, last 50"
MODELS: dict[str, dict[str, Any]] = {
    REFERENCE: {"kind": "din", "whole_history": False},
    "din, whole": {"kind": "din"},
    "mean": {"kind": "mean"},
    "sim, code": {"kind": "sim"},
    "sim, embedding": {"kind": "sim", "search": "embedding"},
    "eta": {"kind": "eta"},
    "sdim": {"kind": "sdim"},
    "twin": {"kind": "twin"},
    "mirrn": {"kind": "mirrn"},
    "sam, 3P": {"kind": "sam"},
    "transformer, softmax": {"kind": "transformer"},
    "transformer, hstu": {"kind": "transformer", "block": "hstu"},
    "compress, kmeans": {"kind": "compress"},
    "compress, lsh": {"kind": "compress", "by": "lsh"},
    "compress, patches": {"kind": "compress", "by": "patches"},
    "compress, queries": {"kind": "compress", "by": "queries"},
    "r2led": {"kind": "r2led"},
    "iat": {"kind": "iat"},
    "hisac, events": {"kind": "hisac"},
    "hisac, items": {"kind": "hisac", "route_by": "items"},
    "hisac, leaves": {"kind": "hisac", "route_by": "leaves"},
    "hisac, path votes": {"kind": "hisac", "counts": {"kind": "votes"}},
    "votes": {"kind": "votes"},
}


@dataclass(frozen=True)
class Cell:
    """One model at one length; None where it was left out.

    Attributes:
        speed: Training samples per second.
        memory: Peak bytes of tensors that a training step allocates, gradients with them.
        cold: Seconds of a request from history to scores.
        cached: The same from the user state.
        cold_ratio: To `REFERENCE` in the same turns.
        cached_ratio: The same of the cached request.
        state: Bytes of the user state.
        declared: What the long branch declares.
        macs: Multiply-adds of the whole model's matrix products for the cold request.
        moved: Bytes that the cold request has to move at least.
    """

    speed: float
    memory: int
    cold: float
    cached: float
    cold_ratio: float
    cached_ratio: float
    state: int
    declared: Cost
    macs: float
    moved: int


def moved_bytes(history: History, dim: int, state: int, slate: int) -> int:
    """Bytes a cold request has to move at least.

    History read, an item vector per event read and written, instances read, the state written and read, an item vector
    per candidate read, logits written.
    """
    past = history.instances
    stored = 0 if past is None else past.mask.numel() * (4 * past.vectors.shape[-1] + 8 + 8 + 8 + 1)
    return history.items.numel() * (8 + 8 + 1 + 2 * 4 * dim) + stored + 2 * state + slate * 4 * (dim + 1)


def train_speed(load: Workload, settings: dict[str, Any], space: ItemSpace, device: str) -> tuple[float, int, float]:
    """Training samples per second, peak bytes of a step, and the seconds of a step."""
    step = trainer(load, settings, device, space)
    step()
    first = seconds_of(step, device)
    step_seconds = median(seconds_of(step, device) for _ in range(1 if first > LIMIT / 4 else 5))
    return load.labels.size / step_seconds, peak_memory(step, device), step_seconds


def cell(
    name: str, loads: tuple[Workload, Workload], space: ItemSpace, reference: Serving, device: str
) -> tuple[Cell, float]:
    """Measures one model on a batch to train with and on a request; also the seconds of what took longest of it."""
    batch, load = loads
    speed, memory, slowest = train_speed(batch, MODELS[name], space, device)
    model = ranker(load, MODELS[name], space)
    serving = Serving.of(model, load, device)
    first = seconds_of(serving.cold_request, device)
    reference.times = {part: [] for part in reference.times}
    take_turns((reference, serving), 2 if first > LIMIT / 16 else 7)
    with torch.inference_mode():
        declared = Cost(0, 0, 0, 0) if model.long is None else model.long.cost(serving.history)
        macs = request_macs(model, serving.history, serving.candidates)
    measured = Cell(
        speed=speed,
        memory=memory,
        cold=serving.cold,
        cached=serving.cached,
        cold_ratio=serving.cold / reference.cold,
        cached_ratio=serving.cached / reference.cached,
        state=serving.bytes,
        declared=declared,
        macs=macs,
        moved=moved_bytes(serving.history, model.backbone.dim, serving.bytes, SLATE),
    )
    return measured, max(slowest, first)


def measure_all(lengths: Sequence[int], names: Sequence[str], device: str) -> dict[tuple[str, int], Cell | str]:
    """Every model at every length, or the reason why it was left out."""
    cells: dict[tuple[str, int], Cell | str] = {}
    slowest = dict.fromkeys(names, (0.0, 1))
    space = Workload.make(1, 1, 1, 0).space()
    for length in sorted(lengths):
        requests = max(1, min(MOST_REQUESTS, EVENTS // length))
        loads = (Workload.make(requests, length, CANDIDATES, 0), Workload.make(1, length, SLATE, 0))
        reference = Serving.of(ranker(loads[1], MODELS[REFERENCE], space), loads[1], device)
        for name in names:
            spent, before = slowest[name]
            if spent * length / before > LIMIT:
                cells[name, length] = f"left out: {spent:.1f} s a step or request at {before:,} events already"
                continue
            say(f"costs: {name}, {length:,} events")
            cells[name, length], spent = cell(name, loads, space, reference, device)
            slowest[name] = (spent, length)
    return cells


def shares(one: Cell, peaks: Peaks) -> tuple[float, float]:
    """Share of the arithmetic peak and of the bandwidth that a cold request reaches."""
    return 2 * one.macs / one.cold / peaks.arithmetic, one.moved / one.cold / peaks.bandwidth


HEAD = [
    "model",
    "training samples/s",
    "step MiB",
    "cold ms",
    "x din 50",
    "cached ms",
    "x din 50",
    "state bytes",
    "declared per request",
    "per slate",
    "per candidate",
    "% of arithmetic",
    "% of bandwidth",
]


def row(name: str, one: Cell | str, peaks: Peaks) -> list[str]:
    """A line of the table."""
    if isinstance(one, str):
        return [name, one, *[""] * (len(HEAD) - 2)]
    arithmetic, bandwidth = shares(one, peaks)
    return [
        name,
        f"{one.speed:,.0f}",
        f"{one.memory / 2**20:,.1f}",
        f"{one.cold * 1e3:,.2f}",
        f"{one.cold_ratio:.2f}",
        f"{one.cached * 1e3:,.2f}",
        f"{one.cached_ratio:.2f}",
        f"{one.state:,}",
        f"{one.declared.encode:,}",
        f"{one.declared.slate:,}",
        f"{one.declared.candidate:,}",
        f"{arithmetic * 100:.1f}",
        f"{bandwidth * 100:.2f}",
    ]


def report(
    cells: dict[tuple[str, int], Cell | str], names: Sequence[str], lengths: Sequence[int], peaks: Peaks, device: str
) -> list[str]:
    """The page as lines of Markdown."""
    gpu = device == "cuda"
    where = torch.cuda.get_device_name() if gpu else f"{os.cpu_count()} cores ({platform.machine()}), one thread"
    kind = "seconds by the clock" if gpu else "CPU seconds of the process"
    lines = [
        "# What models cost",
        "",
        f"`python benchmarks/costs.py --device {device} --write` on {where}, torch {version('torch')}; {kind}.",
        "",
        f"Peaks of this machine in this run, float32: {peaks.arithmetic / 1e9:,.0f} G operations per second (matrix"
        f" product), {peaks.bandwidth / 1e9:,.1f} GB per second (copy, bytes read and written).",
        "",
        f"Training: forward, backward, optimizers; requests of {CANDIDATES} candidates, batches of"
        f" {EVENTS:,} events, {MOST_REQUESTS} requests at most; HiSAC's",
        "votes counted beforehand. Step MiB: the most memory that tensors of one step take, gradients with them."
        f" Cold: one user with {SLATE} candidates",
        f"from history to scores; cached: from the user state; beside them the ratio to {REFERENCE}, measured in turn."
        " The state is the whole model's.",
        "Declared are multiply-adds of matrix products of the long branch alone. Shares of the peaks"
        " are those of the cold",
        "request: counted multiply-adds of the whole model, and the bytes that have to move at least"
        " (history, vectors of",
        "events and candidates, state).",
        f"{ITEMS:,} items, width 16; settings of models are the defaults. IAT gets its newest instances with the"
        " history, one per event;",
        "what it took to make and to fetch them is not in its row.",
    ]
    for length in sorted(lengths):
        rows = [row(name, cells[name, length], peaks) for name in names]
        lines += ["", f"## {length:,} events", "", *table(HEAD, rows)]
    return lines


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--write", action="store_true", help="write reports/costs.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ |= {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}  # the profiler's own remarks
    try:
        if min(options.lengths) < 1:
            raise UserError("--lengths", f"{min(options.lengths)} is too short", "give 1 or more")
        if options.device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device", "is cuda, but no GPU is seen", "give cpu")
        peaks = measure_peaks(options.device)
        cells = measure_all(options.lengths, options.models, options.device)
    except UserError as error:
        raise SystemExit(f"costs: error: {error}") from error
    lines = report(cells, options.models, options.lengths, peaks, options.device)
    print("\n".join(lines))
    if options.write:
        write_file(REPORT, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
