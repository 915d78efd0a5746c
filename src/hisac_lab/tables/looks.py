"""What the values of a column look like: numbers, ids, times, feedback."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

from hisac_lab.tables.columns import MAX_SECONDS, TIME_UNITS, TimeFormat
from hisac_lab.tables.convert import TRUTH
from hisac_lab.tables.times import parse

EARLY = 100_000_000  # seconds: a number below it (March 1973) is hardly a time
TRIED = 500  # values that a format of times is tried on
COMMA = r"\s*-?\d+(,\d+)?\s*"
CLOCKS = (" %H:%M:%S.%f", " %H:%M:%S", " %H:%M", " %H:%M:%S %Z", "T%H:%M:%S", " %I:%M:%S %p", " %I:%M %p", "")
DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%y", "%d/%m/%y",
         "%m/%d/%y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%B %d, %Y", "%d %B %Y")  # fmt: skip
WHOLE = ("%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y", "%d/%b/%Y:%H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %Z",
         "%a, %d %b %Y %H:%M:%S %z")  # fmt: skip
DIGITS = {8: "%Y%m%d", 14: "%Y%m%d%H%M%S"}


def is_number(value: str) -> bool:
    """Whether a text is a number."""
    return re.fullmatch(r"\s*-?\d+(\.\d*)?([eE][-+]?\d+)?\s*", value) is not None


def numeric(values: pd.Series[str], most: float = 0.9) -> bool:
    """Whether more than the share `most` of the values are numbers."""
    if not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_string_dtype(values)):
        return False
    return _share(pd.to_numeric(values[values.astype(str) != ""], errors="coerce").notna()) > most


def fraction(values: pd.Series[str]) -> bool:
    """Whether they are numbers with fractions."""
    numbers = pd.to_numeric(values, errors="coerce") if numeric(values) else pd.Series([0.0])
    return bool((numbers % 1 > 0).any())


def decimal_comma(values: pd.Series[str]) -> bool:
    """Whether they are numbers with a comma before the fraction."""
    words = values.astype(str)
    return not numeric(values, 0.5) and _share(words[words != ""].str.fullmatch(COMMA)) > 0.5


def truth(values: pd.Series[str]) -> bool:
    """Whether most of them are True and False."""
    words = values.astype(str).str.strip().str.lower()
    return _share(words[words != ""].isin(TRUTH)) > 0.9


def is_feedback(values: pd.Series[str]) -> bool:
    """Whether they can be read as numbers."""
    return numeric(values, 0.5) or decimal_comma(values) or truth(values)


def is_id(values: pd.Series[str]) -> bool:
    """Whether they tell users or items apart."""
    words = values.astype(str)
    scalar = not words.str.startswith(("[", "{")).any()
    blanks = words.str.strip().str.contains(r"\s").mean() < 0.1
    return bool(scalar and not fraction(values) and words.nunique() > 1 and blanks)


def is_time(values: pd.Series[str], strictly: bool = False) -> bool:
    """Whether most values (strictly: all numbers) lie between EARLY and the year 2100 in some unit."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return True
    form = time_format(values)
    if form not in TIME_UNITS or not numeric(values, 0.5):
        return form is not None
    numbers = pd.to_numeric(values, errors="coerce").dropna()
    inside = numbers.between(EARLY * TIME_UNITS[form], MAX_SECONDS * TIME_UNITS[form])
    return bool(inside.all() if strictly else inside.mean() > 0.5)


def time_format(values: pd.Series[str]) -> TimeFormat | None:
    """How times are written; None: in no way that can be read."""
    return next(iter(time_formats(values)), None)


def time_formats(values: pd.Series[str]) -> list[TimeFormat]:
    """All ways in which the times can be read equally well, the likeliest first."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return ["seconds"]  # the file's own type says it
    words = values.astype(str).str.strip()
    words = words[words != ""].head(TRIED)
    if numeric(values, 0.5):
        length = words.str.len()
        form = DIGITS.get(int(length.iloc[0])) if length.nunique() == 1 else None
        if form and words.str.match(r"(19|20)\d\d(0[1-9]|1[0-2])[0-3]").all() and _fit(words, form) > 0.9:
            return [form]
        median = abs(pd.to_numeric(values, errors="coerce").median())
        return [next((unit for unit, scale in TIME_UNITS.items() if median <= MAX_SECONDS * scale), "nanoseconds")]
    if _fit(words, "iso") > 0.5:
        return ["iso"]
    if _share(words.str.contains(r"\d\d")) <= 0.5 or words.str.len().median() > 40:
        return []
    fits = {form: _fit(words, form) for form in [date + clock for date in DATES for clock in CLOCKS] + list(WHOLE)}
    best = max(fits.values())
    return [form for form, fit in fits.items() if fit == best and best > 0.5]


def _fit(words: pd.Series[str], form: TimeFormat) -> float:
    """The share of words that are times of this form; a form that misses the first is not tried on."""
    if form != "iso" and parse(words.head(20), form).isna().all():
        return 0.0
    return _share(parse(words, form).notna())


def _share(flags: Iterable[bool]) -> float:
    known = list(flags)
    return sum(known) / len(known) if known else 0.0
