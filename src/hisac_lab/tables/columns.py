"""Columns of a log: which are wanted, how their values are written, and what a value that cannot be used is.

Such a value is not an error here but a `Fault`: the reader stops at the first one, and `hisac-lab data check` collects
them all. A fault that does not stop only tells how a value is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hisac_lab.base.artifacts import Array
from hisac_lab.config.events import EARLIEST

MIN_SECONDS = EARLIEST
MAX_SECONDS = 4_102_444_800  # the year 2100
TIME_UNITS = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000, "nanoseconds": 1_000_000_000}
HISTORY, TRAIN, TEST = 0, 1, 2  # of an event in a published split: history only, or an exposure of that split
UNIT_SECONDS = {"second": 1, "day": 86_400}
VALUES_SHOWN = 20  # values a fault carries along
VALUE_WIDTH = 40  # characters of a value in a message
DROP_ROWS = ", or set prepare.bad_rows: drop"  # to an own log's hints

TimeFormat = str
"""A unit of `TIME_UNITS`, `iso`, or a format with percent signs as `strptime` has them."""


def logged_role(name: str) -> str:
    """The role of a logged column in a block."""
    return f"logged {name}"


@dataclass(frozen=True)
class Column:
    """A wanted column.

    Attributes:
        name: What the file calls it.
        kind: `id` gives text, dictionary encoded; `number` float64; `time` int64 seconds; `tick` int32, the nanoseconds
            after them; `text` text.
        time_format: How times are written.
        low: Smallest number allowed.
        high: Largest number allowed.
        optional: Missing numbers become NaN instead of a fault.
        decimal: Sign before the fraction of a number.
        levels: Numbers that words stand for; None: the numbers are written out.
        truth: True and False are 1 and 0.
        clean: Blanks around an id are taken off, and its Unicode is composed (NFC).
    """

    name: str
    kind: Literal["id", "number", "time", "tick", "text"]
    time_format: TimeFormat = "seconds"
    low: float | None = None
    high: float | None = None
    optional: bool = False
    decimal: str = "."
    levels: Mapping[str, float] | None = None
    truth: bool = False
    clean: bool = False


@dataclass(frozen=True)
class Fault:
    """Values of a column that cannot be used, or not as they stand, all for the same reason.

    Attributes:
        field: The file's name of the column.
        rows: Positions of the values, rising; (n,) int64.
        values: The first of them as they stand in the file; None: missing.
        what: What is wrong with them.
        hint: What the user can do about it.
        told: In whole words what is to say of the first of them; empty: the value and `what`.
        stops: Whether the values cannot be used.
        whole: Whether no value of the column can be; `rows` has the first that shows it.
    """

    field: str
    rows: Array
    values: tuple[Any, ...]
    what: str
    hint: str
    told: tuple[str, ...] = ()
    stops: bool = True
    whole: bool = False

    def say(self, index: int) -> str:
        """What is wrong with one of `values`."""
        if self.told:
            return self.told[index]
        if self.values[index] is None:
            return "the value is missing"
        value = str(self.values[index])
        shown = value if len(value) <= VALUE_WIDTH else f"{value[:VALUE_WIDTH]}..."
        return f"value {shown!r} {self.what}"


class Finder:
    """Collects the faults of one column.

    Args:
        values: Its values.
        column: Which it is.
    """

    def __init__(self, values: pa.Array, column: Column) -> None:
        self.values, self.column = values, column
        self.faults: list[Fault] = []
        self.good = np.ones(len(values), bool)

    def check(self, wrong: Array, what: str, hint: str) -> None:
        """Records the rows that are `wrong` and were good so far."""
        rows = np.flatnonzero(wrong & self.good)
        if len(rows):
            self.good[rows] = False
            shown = tuple(self.values.take(pa.array(rows[:VALUES_SHOWN])).to_pylist())
            self.faults.append(Fault(self.column.name, rows, shown, what, hint))

    def note(self, rows: Array, what: str, hint: str, told: list[str]) -> None:
        """Records rows whose values are used, but not as they stand."""
        if len(rows):
            shown = tuple(self.values.take(pa.array(rows[: len(told)])).to_pylist())
            self.faults.append(Fault(self.column.name, rows, shown, what, hint, tuple(told), stops=False))

    def missing(self) -> None:
        """Records missing values."""
        if self.values.null_count:
            nulls = self.values.is_null().to_numpy(zero_copy_only=False)
            self.check(nulls, "is missing", "fill it or remove the row")

    def type_fault(self) -> Any:
        """Records that the type of the column serves for nothing; gives stand-ins."""
        kind, wanted = self.values.type, {"id": "an id must be an integer or text", "text": "text is wanted"}
        nan = np.zeros(len(self.values), bool)
        if pa.types.is_floating(kind):  # the one that turned integers to floats is what to show
            nan = np.isnan(self.values.to_numpy(zero_copy_only=False))
        first = np.arange(len(self.values)) == int(nan.argmax())
        hint = "write it as a plain column of integers, numbers or text"
        if nan.any():
            hint = "fill the missing id or remove its row, and write ids as integers or text"
        what = f"is of type {kind}, and {wanted.get(self.column.kind, 'a number is wanted')}"
        row = np.flatnonzero(first)
        shown = self.values[int(row[0])].as_py() if len(row) else None
        self.faults.append(Fault(self.column.name, row, ("nan" if shown is None else shown,), what, hint, whole=True))
        self.good[:] = False
        empty = pa.array([""] * len(self.values), pa.string())
        if self.column.kind in ("id", "text"):
            return empty.dictionary_encode() if self.column.kind == "id" else empty
        return np.zeros(len(self.values), {"time": np.int64, "tick": np.int32}.get(self.column.kind, np.float64))
