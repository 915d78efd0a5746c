"""What the sections of the GPU script share: the device, the page, the time that is left, shares of the peaks."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from machine import measure_peaks
from pages import Outcome, Page


class Absent(Exception):
    """Something that a cell needs is not on this machine, which is no failure."""


class Wrong(Exception):
    """A fast form gives other numbers than the reference."""


class OutOfTime(BaseException):
    """The time of a cell is over; no ordinary exception, so that nothing on the way takes it for a failure."""


@dataclass
class Lab:
    """One run.

    Attributes:
        device: "cuda", or "cpu" for a rehearsal with small sizes.
        page: Where results go.
        until: When the time of the section in hand is over, by `time.monotonic`.
        kept: What cells leave for later ones: inputs, chosen tiles.
    """

    device: str
    page: Page
    until: float = math.inf
    kept: dict[Any, Any] = field(default_factory=dict)

    @property
    def small(self) -> bool:
        """A rehearsal."""
        return self.device == "cpu"

    @property
    def left(self) -> float:
        """Seconds left to this section."""
        return self.until - time.monotonic()

    def keep(self, kind: str, key: object, make: Callable[[], Any]) -> Any:
        """What `make` gives for this key; of one kind the last alone is kept."""
        if kind not in self.kept or self.kept[kind][0] != key:
            self.kept.pop(kind, None)
            self.kept[kind] = (key, make())
        return self.kept[kind][1]

    def of_product(self, flops: float, seconds: float) -> float:
        """Share of the measured bf16 product; NaN where that is unknown."""
        return flops / seconds / self.page.numbers.get("product_flop_s", math.nan)

    def of_copy(self, moved: float, seconds: float) -> float:
        """Share of the measured copy; NaN where that is unknown."""
        return moved / seconds / self.page.numbers.get("copy_byte_s", math.nan)


@dataclass(frozen=True)
class Section:
    """A table of cells.

    Attributes:
        title: Heading.
        share: Of the whole time; what a section leaves goes to those after it.
        notes: Lines above the table.
        columns: Of the table.
        cells: What to run, by name, in order of importance.
    """

    title: str
    share: float
    notes: Sequence[str]
    columns: Sequence[str]
    cells: Mapping[str, Callable[[Lab], Outcome]]


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Ends the block after so many seconds.

    Raises:
        OutOfTime: They are over.
    """
    if threading.current_thread() is not threading.main_thread() or math.isinf(seconds):
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def percent(share: float) -> str:
    """A share in percent, a dash where it is unknown."""
    return "–" if math.isnan(share) else f"{share * 100:.1f}"


def measure_bounds(lab: Lab) -> Outcome:
    """The measured copy and product, in rows beside nothing else."""
    sizes = (256, 1 << 20) if lab.small else (0, 0)
    peaks = measure_peaks(lab.device, torch.float32 if lab.small else torch.bfloat16, *sizes)
    rows = [
        ["copy, bytes read and written", f"{peaks.bandwidth / 1e9:,.0f} GB/s"],
        ["bf16 matrix product, 8,192 a side, random numbers", f"{peaks.arithmetic / 1e12:,.2f} TFLOP/s"],
    ]
    return {"rows": rows, "numbers": {"copy_byte_s": peaks.bandwidth, "product_flop_s": peaks.arithmetic}}


BOUNDS = Section(
    "What this card can do",
    0.03,
    ["Shares of the peaks below are of these two, measured at the start of the same run."],
    ["bound", "measured"],
    {"bounds": measure_bounds},
)
