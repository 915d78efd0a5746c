"""Columns of a log: which are wanted, and how their values are converted and checked.

A value that cannot be used is not an error here but a `Fault`: the reader stops at the first one, and
`hisac-lab data check` collects them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hisac_lab.base.artifacts import Array

MAX_SECONDS = 4_102_444_800  # the year 2100
NO_ID = ("", "nan", "none", "null", "<na>")
TIME_UNITS = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}
VALUES_SHOWN = 20  # values a fault carries along
VALUE_WIDTH = 40  # characters of a value in a message

TimeFormat = Literal["seconds", "milliseconds", "microseconds", "iso"]


@dataclass(frozen=True)
class Column:
    """A wanted column.

    Attributes:
        name: What the file calls it.
        kind: `id` gives text, dictionary encoded; `number` float64; `time` int64 seconds; `text` text.
        time_format: How times are written.
        low: Smallest number allowed.
        high: Largest number allowed.
        optional: Missing numbers become NaN instead of a fault.
    """

    name: str
    kind: Literal["id", "number", "time", "text"]
    time_format: TimeFormat = "seconds"
    low: float | None = None
    high: float | None = None
    optional: bool = False


@dataclass(frozen=True)
class Fault:
    """Values of a column that cannot be used, all for the same reason.

    Attributes:
        field: The file's name of the column.
        rows: Positions of the values, rising; (n,) int64.
        values: The first of them as they stand in the file; None: missing.
        what: What is wrong with them.
        hint: What the user can do about it.
    """

    field: str
    rows: Array
    values: tuple[Any, ...]
    what: str
    hint: str

    def say(self, index: int) -> str:
        """What is wrong with one of `values`."""
        if self.values[index] is None:
            return "the value is missing"
        value = str(self.values[index])
        shown = value if len(value) <= VALUE_WIDTH else f"{value[:VALUE_WIDTH]}..."
        return f"value {shown!r} {self.what}"


def convert(values: pa.ChunkedArray, column: Column) -> tuple[Any, list[Fault]]:
    """Converts the values of one column.

    Returns:
        A dictionary array of text for an id, an array of text for a text, else a NumPy array; and the faults. Rows at
        fault hold arbitrary values.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    array = values.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    found = _Finder(array, column)
    unusable = pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if unusable or (column.kind == "id" and pa.types.is_floating(kind)):
        return found.type_fault(), found.faults
    if column.kind == "text":
        return pc.fill_null(array.cast(pa.string()), ""), []
    if column.kind == "id":
        return _ids(array, found), found.faults
    if column.kind == "number":
        return _numbers(array, found), found.faults
    if pa.types.is_temporal(kind):
        return _clock(array, found), found.faults
    if column.time_format == "iso":
        return _iso(array, found), found.faults
    return _seconds(_numbers(array, found), found), found.faults


class _Finder:
    """Collects the faults of one column."""

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
        self.faults.append(Fault(self.column.name, row, ("nan" if shown is None else shown,), what, hint))
        self.good[:] = False
        empty = pa.array([""] * len(self.values), pa.string())
        if self.column.kind in ("id", "text"):
            return empty.dictionary_encode() if self.column.kind == "id" else empty
        return np.zeros(len(self.values), np.int64 if self.column.kind == "time" else np.float64)


def _ids(array: pa.Array, found: _Finder) -> pa.DictionaryArray:
    encoded = array.dictionary_encode()
    words = encoded.dictionary.cast(pa.string())
    found.missing()
    empty = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(words)), value_set=pa.array(NO_ID))
    broken = pc.match_substring_regex(words, r"[\x00\r\n]")
    for bad, what, hint in (
        (empty, "is no id", "fill it or remove the row"),
        (broken, "is no id: it holds a line end or a zero byte", "fix it and the quotes before it"),
    ):
        if pc.any(bad).as_py():
            wrong = np.append(bad.to_numpy(zero_copy_only=False), False)  # the last stands for a missing id
            found.check(wrong[pc.fill_null(encoded.indices, len(words)).to_numpy()], what, hint)
    return pa.DictionaryArray.from_arrays(encoded.indices, words)


def _numbers(array: pa.Array, found: _Finder) -> Array:
    """Numbers; int64 where a time is stored as integers."""
    column = found.column
    hint = ", or name the format in prepare.columns.time_format" if column.kind == "time" else ""
    hint = f"fix or remove that row{hint}"
    if not column.optional:
        found.missing()
    try:
        if column.kind == "time" and pa.types.is_integer(array.type):
            numbers = pc.fill_null(array, 0).cast(pa.int64()).to_numpy(zero_copy_only=False)
        else:
            numbers = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        words = array.to_pandas()
        numbers = pd.to_numeric(words, errors="coerce").to_numpy("float64")
        empty = (words.isna() | words.astype(str).str.strip().eq("")).to_numpy()
        found.check(np.isnan(numbers) & ~(empty & column.optional), "is no number", hint)
    finite = np.isfinite(numbers)
    if column.optional:
        finite |= np.isnan(numbers)
    found.check(~finite, "is no finite number", hint)
    if column.low is not None:
        found.check(numbers < column.low, f"is below {column.low:g}", "fix it, or prepare.columns.label_range")
    if column.high is not None:
        found.check(numbers > column.high, f"is above {column.high:g}", "fix it, or prepare.columns.label_range")
    result: Array = numbers
    return result


def _seconds(numbers: Array, found: _Finder) -> Array:
    """Whole seconds since 1970; a value that betrays another unit is a fault."""
    unit = found.column.time_format
    scale = TIME_UNITS[unit]
    hint = "give one unit throughout and name it in prepare.columns.time_format"
    numbers = np.where(found.good, numbers, 0)
    if numbers.dtype.kind == "f":
        found.check(numbers != np.round(numbers), "has a fraction", f"give whole {unit}")
    found.check(numbers < 0, "is before 1970", f"give {unit} since 1970")
    late = "is in milliseconds or beyond the year 2100" if scale == 1 else "is beyond the year 2100"
    found.check(numbers > MAX_SECONDS * scale, late, hint)
    if scale > 1:
        small = (numbers > 0) & (numbers <= MAX_SECONDS * scale // 1000)
        found.check(small, f"is too small for {unit}: it looks like another unit", hint)
    seconds: Array = np.where(found.good, numbers, 0).astype(np.int64) // scale
    return seconds


def _clock(array: pa.Array, found: _Finder) -> Array:
    """Seconds of timestamps and dates."""
    found.missing()
    try:
        micros = array.cast(pa.timestamp("us"), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        found.check(found.good, f"is of type {array.type}, not a date and time", "give dates with times")
        return np.zeros(len(array), np.int64)
    seconds: Array = pc.fill_null(micros.cast(pa.int64()), 0).to_numpy() // 1_000_000
    return _bounded(seconds, found)


def _iso(array: pa.Array, found: _Finder) -> Array:
    found.missing()
    words = pc.fill_null(array.cast(pa.string()), "").to_pandas()
    times = pd.to_datetime(words, errors="coerce", utc=True, format="ISO8601")
    found.check(times.isna().to_numpy(), "is no ISO 8601 time", "write it like 2026-11-21T08:00:00")
    return _bounded(times.astype("datetime64[us, UTC]").astype("int64").to_numpy() // 1_000_000, found)


def _bounded(seconds: Array, found: _Finder) -> Array:
    found.check(seconds < 0, "is before 1970", "fix or remove that row")
    found.check(seconds > MAX_SECONDS, "is beyond the year 2100", "fix or remove that row")
    return np.where(found.good, seconds, 0)
