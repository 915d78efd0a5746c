"""Converting the values of one column, and checking them on the way."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hisac_lab.base.artifacts import Array
from hisac_lab.tables.columns import TIME_UNITS, VALUES_SHOWN, Column, Fault, Finder
from hisac_lab.tables.times import clock, formatted, seconds

NO_ID = ("", "nan", "none", "null", "<na>")
TRUTH = {"true": "1", "false": "0"}


Ticks = dict[tuple[str, str, str], Array]
"""What times leave of each second, by what a column says of them: its name, format and decimal sign."""


def convert(values: pa.ChunkedArray, column: Column, ticks: Ticks | None = None) -> tuple[Any, list[Fault]]:
    """Converts the values of one column.

    Args:
        values: As they are read.
        column: Which it is.
        ticks: Takes those of a time, for the tick of the same column that is asked for next.

    Returns:
        A dictionary array of text for an id, an array of text for a text, else a NumPy array; and the faults. Rows at
        fault hold arbitrary values. A tick has none: they are those of the time beside it.
    """
    kind, clockwork = values.type, (column.name, column.time_format, column.decimal)
    if ticks is not None and column.kind == "tick" and clockwork in ticks:
        return ticks.pop(clockwork), []
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    array = values.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    finder = Finder(array, column)
    unusable = pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if unusable or (column.kind == "id" and pa.types.is_floating(kind)):
        return finder.type_fault(), finder.faults if column.kind != "tick" else []
    if column.kind == "text":
        return pc.fill_null(array.cast(pa.string()), ""), []
    if column.kind == "id":
        return _ids(array, finder), finder.faults
    if column.kind == "number":
        return _levels(array, finder) if column.levels is not None else _numbers(array, finder), finder.faults
    if pa.types.is_temporal(kind):
        whole, tick = clock(array, finder)
    elif column.time_format in TIME_UNITS:
        whole, tick = seconds(_numbers(array, finder), finder)
    else:
        whole, tick = formatted(array, finder)
    if ticks is not None and column.kind == "time":
        ticks[clockwork] = tick
    return (tick, []) if column.kind == "tick" else (whole, finder.faults)


def _ids(array: pa.Array, finder: Finder) -> pa.DictionaryArray:
    encoded = array.dictionary_encode()
    words = encoded.dictionary.cast(pa.string())
    finder.missing()
    empty = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(words)), value_set=pa.array(NO_ID))
    broken = pc.match_substring_regex(words, r"[\x00\r\n]")
    for bad, what, hint in (
        (empty, "is no id", "fill it or remove the row"),
        (broken, "is no id: it holds a line end or a zero byte", "fix it and the quotes before it"),
    ):
        if pc.any(bad).as_py():
            wrong = np.append(bad.to_numpy(zero_copy_only=False), False)  # the last stands for a missing id
            finder.check(wrong[pc.fill_null(encoded.indices, len(words)).to_numpy()], what, hint)
    if not finder.column.clean:
        return pa.DictionaryArray.from_arrays(encoded.indices, words)
    trimmed = pc.utf8_trim_whitespace(words)
    _note(finder, encoded, words, trimmed, "has blanks around it")
    composed = trimmed
    if not pc.all(pc.string_is_ascii(trimmed)).as_py():  # Arrow's own NFC decomposes
        composed = pa.array([unicodedata.normalize("NFC", word) for word in trimmed.to_pylist()], pa.string())
    _note(finder, encoded, trimmed, composed, "is not in Unicode's composed form")
    if composed.equals(words):
        return pa.DictionaryArray.from_arrays(encoded.indices, words)
    again = composed.dictionary_encode()
    return pa.DictionaryArray.from_arrays(again.indices.take(encoded.indices), again.dictionary)


def _note(finder: Finder, encoded: pa.DictionaryArray, before: pa.Array, after: pa.Array, what: str) -> None:
    """Records the ids that are read as others than they stand."""
    changed = np.append(pc.not_equal(before, after).to_numpy(zero_copy_only=False), False)
    if not changed.any():
        return
    codes = pc.fill_null(encoded.indices, len(before)).to_numpy()
    rows = np.flatnonzero(changed[codes] & finder.good)
    told = []
    for code in codes[rows[:VALUES_SHOWN]].tolist():
        old, new = before[code].as_py(), after[code].as_py()
        told.append(f"id {old!r} {what} and is read as {new!r}{_difference(old, new)}")
    finder.note(rows, what, "write it as it is read, here and in every other table", told)


def _difference(old: str, new: str) -> str:
    """Where two ids that look alike differ, in code points; blanks can be seen."""
    if unicodedata.normalize("NFC", old) != new:
        return ""
    start = next((at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), 0)
    end = next((at for at, (one, other) in enumerate(zip(old[::-1], new[::-1], strict=False)) if one != other), 0)
    points = [" ".join(f"U+{ord(sign):04X}" for sign in text[start : len(text) - end]) for text in (old, new)]
    return f" ({points[0]} becomes {points[1]})"


def _levels(array: pa.Array, finder: Finder) -> Array:
    """The numbers that words stand for; case and blanks around them say nothing."""
    finder.missing()
    levels = {word.strip().lower(): value for word, value in (finder.column.levels or {}).items()}
    encoded = pc.fill_null(array.cast(pa.string()), "").dictionary_encode()
    numbers = [levels.get(word.strip().lower(), np.nan) for word in encoded.dictionary.to_pylist()]
    result: Array = np.asarray(numbers, np.float64)[encoded.indices.to_numpy()]
    finder.check(np.isnan(result), "is not named in prepare.columns.label_values", "name it there with a number")
    return _ranged(result, finder)


def _numbers(array: pa.Array, finder: Finder) -> Array:
    """Numbers; int64 where a time is stored as integers."""
    column = finder.column
    is_time = column.kind in ("time", "tick")
    hint = ", or name the format in prepare.columns.time_format" if is_time else ""
    hint = f"fix or remove that row{hint}"
    if not column.optional:
        finder.missing()
    is_text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    if is_text and column.decimal != ".":
        dots = pc.fill_null(pc.match_substring(array, "."), False).to_numpy(zero_copy_only=False)
        finder.check(dots, f"has a point, and prepare.columns.decimal is {column.decimal!r}", hint)
        array = pc.replace_substring(array, column.decimal, ".")
    try:
        if is_time and (pa.types.is_integer(array.type) or (is_text and column.time_format == "nanoseconds")):
            numbers = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
        else:
            numbers = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        words = array.to_pandas()
        if column.truth:
            words = words.map(lambda word: TRUTH.get(str(word).strip().lower(), word))
        numbers = pd.to_numeric(words, errors="coerce").to_numpy("float64")
        empty = (words.isna() | words.astype(str).str.strip().eq("")).to_numpy()
        wrong = np.isnan(numbers) & ~(empty & column.optional)
        if is_text and column.decimal == "." and wrong.any():
            commas = words.astype(str).str.fullmatch(r"\s*-?\d+,\d+\s*").to_numpy(bool)
            finder.check(wrong & commas, "has a decimal comma", "of an own log, set prepare.columns.decimal: ','")
        finder.check(wrong, "is no number", hint)
    finite = np.isfinite(numbers)
    if column.optional:
        finite |= np.isnan(numbers)
    finder.check(~finite, "is no finite number", hint)
    return _ranged(numbers, finder)


def _ranged(numbers: Array, finder: Finder) -> Array:
    column, hint = finder.column, "fix it, or prepare.columns.label_range"
    if column.low is not None:
        finder.check(numbers < column.low, f"is below {column.low:g}", hint)
    if column.high is not None:
        finder.check(numbers > column.high, f"is above {column.high:g}", hint)
    return numbers
