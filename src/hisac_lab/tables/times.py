"""Converting times: seconds since 1970, whole, and what is left of each second.

Times are floored to whole seconds. The nanoseconds after them keep the order of a user's events inside a second.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hisac_lab.base.artifacts import Array
from hisac_lab.tables.columns import MAX_SECONDS, MIN_SECONDS, TIME_UNITS, Finder

NANO = 1_000_000_000
ZONE = r"\s*\b(?:UTC|GMT)$"  # after an ISO time


def seconds(numbers: Array, finder: Finder) -> tuple[Array, Array]:
    """Seconds and nanoseconds of numbers; a value that betrays another unit is a fault."""
    unit = finder.column.time_format
    scale = TIME_UNITS[unit]
    hint = "give one unit throughout and name it in prepare.columns.time_format"
    numbers = np.where(finder.good, numbers, 0)
    early = "is in milliseconds or before the year 1000" if scale == 1 else "is before the year 1000"
    finder.check(numbers < MIN_SECONDS * scale, early, hint)
    late = "is in milliseconds or beyond the year 2100" if scale == 1 else "is beyond the year 2100"
    finder.check(numbers > MAX_SECONDS * scale, late, hint)
    if scale > 1:
        small = (numbers > 0) & (numbers <= MAX_SECONDS * scale // 1000)
        finder.check(small, f"is too small for {unit}: it looks like another unit", hint)
    numbers = np.where(finder.good, numbers, 0)
    whole = np.floor(numbers) if numbers.dtype.kind == "f" else numbers
    parts, nanos = whole.astype(np.int64), NANO // scale
    tick = parts % scale * nanos + ((numbers - whole) * nanos).astype(np.int64)
    return parts // scale, np.minimum(tick, NANO - 1).astype(np.int32)


def clock(array: pa.Array, finder: Finder) -> tuple[Array, Array]:
    """Seconds and nanoseconds of timestamps and dates."""
    finder.missing()
    try:
        micros = array.cast(pa.timestamp("us"), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        finder.check(finder.good, f"is of type {array.type}, not a date and time", "give dates with times")
        return np.zeros(len(array), np.int64), np.zeros(len(array), np.int32)
    return _bounded(pc.fill_null(micros.cast(pa.int64()), 0).to_numpy(), finder)


def formatted(array: pa.Array, finder: Finder) -> tuple[Array, Array]:
    """Seconds and nanoseconds of text: ISO 8601, also with UTC behind it, or the format with percent signs."""
    finder.missing()
    form = finder.column.time_format
    words = pc.fill_null(array.cast(pa.string()), "").to_pandas()
    times = parse(words, form)
    what, hint = "is no ISO 8601 time", "write it like 2026-11-21T08:00:00"
    if form != "iso":
        what, hint = f"is no time of the form {form!r}", "fix it or prepare.columns.time_format"
    finder.check(times.isna().to_numpy(), what, hint)
    return _bounded(times.astype("datetime64[us, UTC]").astype("int64").to_numpy(), finder)


def parse(words: pd.Series[str], form: str) -> pd.Series[pd.Timestamp]:
    """Times of text in the form `iso` or one with percent signs; NaT where there are none."""
    if form == "iso":
        plain = words.str.strip().str.replace(ZONE, "Z", regex=True)
        return pd.to_datetime(plain, errors="coerce", utc=True, format="ISO8601")
    return pd.to_datetime(words.str.strip(), errors="coerce", utc=True, format=form)


def _bounded(micros: Array, finder: Finder) -> tuple[Array, Array]:
    whole = micros // 1_000_000
    finder.check(whole < MIN_SECONDS, "is before the year 1000", "fix or remove that row")
    finder.check(whole > MAX_SECONDS, "is beyond the year 2100", "fix or remove that row")
    return np.where(finder.good, whole, 0), (micros % 1_000_000 * 1_000).astype(np.int32)
