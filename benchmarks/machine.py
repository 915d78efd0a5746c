"""What a machine can do, and what a call takes of it: peaks, seconds, memory; needs torch alone."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

NOMINAL = {
    "H200": (989e12, 4.8e12),
    "H100 PCIe": (756e12, 2.0e12),
    "H100 NVL": (835e12, 3.9e12),
    "H100": (989e12, 3.35e12),
}
"""Operations per second of a dense bf16 product and bytes per second of memory, by the maker's data sheet."""


@dataclass(frozen=True)
class Peaks:
    """What this machine can do, with as many threads as the models have.

    Attributes:
        arithmetic: Floating-point operations per second of a large matrix product.
        bandwidth: Bytes per second, read and written, of a large copy.
    """

    arithmetic: float
    bandwidth: float


def nominal(card: str) -> Peaks | None:
    """What the data sheet says of a card of this name, None where it is not known here."""
    for name, (arithmetic, bandwidth) in NOMINAL.items():
        if all(word in card for word in name.split()):
            return Peaks(arithmetic, bandwidth)
    return None


def driver() -> str:
    """The version of NVIDIA's driver, as far as it can be asked for."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.split("\n")[0].strip() or "unknown"


def settle(device: str) -> None:
    """Waits for what a GPU still has to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Seconds of one call: CPU, on a GPU by the clock."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    settle(device)
    begin = clock()
    work()
    settle(device)
    return clock() - begin


def typical_seconds(work: Callable[[], object], device: str, count: int, warm: int = 3) -> float:
    """Median seconds of `count` calls after `warm` others: between CUDA events, on a processor by the clock."""
    for _ in range(warm):
        work()
    settle(device)
    if device == "cpu":
        return median(_clocked(work) for _ in range(count))
    event: Callable[..., Any] = torch.cuda.Event
    events = [(event(enable_timing=True), event(enable_timing=True)) for _ in range(count)]
    for begin, end in events:
        begin.record()
        work()
        end.record()
    settle(device)
    return median(float(begin.elapsed_time(end)) for begin, end in events) / 1e3


def measure_peaks(device: str, dtype: torch.dtype = torch.float32, side: int = 0, count: int = 0) -> Peaks:
    """The best of some large products and copies of random numbers.

    Args:
        device: "cpu" or "cuda".
        dtype: Of the product.
        side: Rows and columns of the product; 0: as large as the device deserves.
        count: float32 numbers of the copy; 0 likewise.
    """
    side = side or (1_024 if device == "cpu" else 8_192)
    count = count or (1 << 24 if device == "cpu" else 1 << 28)
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source, target = torch.randn(count, device=device), torch.zeros(count, device=device)
    product = min(seconds_of(lambda: one @ other, device) for _ in range(8))
    copy = min(seconds_of(lambda: target.copy_(source), device) for _ in range(8))
    return Peaks(2 * side**3 / product, 2 * 4 * count / copy)


def peak_memory(step: Callable[[], object], device: str) -> int:
    """Peak bytes of tensors that a call allocates beyond what is there before."""
    if device != "cpu":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return int(torch.cuda.max_memory_allocated() - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    found = profiler.profiler.kineto_results.events()
    moves = sorted((event.start_ns(), event.nbytes()) for event in found if event.name() == "[memory]")
    return highest([size for _, size in moves])


def highest(moves: Sequence[int]) -> int:
    """The highest sum on the way through bytes taken (positive) and given back (negative)."""
    total = top = 0
    for size in moves:
        total += size
        top = max(top, total)
    return top


def _clocked(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
